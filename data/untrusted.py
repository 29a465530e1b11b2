"""The door for files that anybody may have written: size before content, and no error but `InputError`.

content = read_bytes(path, expected="a card", limit=2**20)
card = parse_json(content, source=path, expected="a card")
headers = array_headers(path, expected="an npz")             # shapes and types; nothing is decompressed yet
mean = read_array(path, headers["mu"], expected="an npz")
metadata, tensors = read_tensors(path, expected="a safetensors file")
weights = read_state_dict(path, expected="a .pth file")
table = read_csv(path, expected="boxes")                     # read_parquet
with only_input_errors(path, expected="a trace"): ...        # around somebody else's parser

A compressed file may grow to `ALWAYS` bytes, and beyond that to `GROWTH` times its own size: what honest data compress
to, and not what a bomb does. Nothing here runs code of a file or writes one.
"""

import io
import json
import math
import os
import stat
import warnings
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.errors import InputError

ALWAYS = 256 * 2**20
GROWTH = 100
WHOLE = 2**30  # bytes of a file that is read at once
DEPTH = 64  # of nested JSON
COLUMNS = 1024  # of a table
MEMBERS = 2**20  # of an archive


@contextmanager
def only_input_errors(source: str | Path, *, expected: str, found: str = "a damaged file") -> Iterator[None]:
    """Turn whatever a parser trips over into one `InputError` that names the source.

    Parameters
    ----------
    source : str or Path
        What the message names.
    expected : str
        What would have been accepted.
    found : str
        What the message says before the parser's own reason.
    """
    try:
        yield
    except InputError as error:
        if str(source) in str(error):
            raise
        kind = type(error)  # of a trace, say, whose callers tell it from others
        raise kind(f"{source}, {error.argument}", found=error.found, expected=error.expected) from None
    except Exception as error:  # damaged files make parsers raise nearly anything
        raise InputError(str(source), found=f"{found} ({reason(error)})", expected=expected) from None


def reason(error: Exception) -> str:
    """What an error says, in one line of bounded length."""
    text = next(iter(str(error).splitlines()), "")[:200]
    return text if len(text) > 3 else f"{type(error).__name__} {text}".strip()


def check_file(path: str | Path, *, expected: str, limit: float = math.inf) -> int:
    """Size of a plain file in bytes.

    Raises
    ------
    InputError
        If there is none, it is empty or larger than `limit`, or it is a folder, a named pipe or a device, which could
        be waited for without end.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        found = "no such file" if isinstance(error, FileNotFoundError | ValueError) else reason(error)
        raise InputError(str(path), found=found, expected=expected) from None
    if not stat.S_ISREG(status.st_mode):
        found = "a folder" if stat.S_ISDIR(status.st_mode) else "a named pipe, socket or device"
        raise InputError(str(path), found=found, expected=expected)
    if not 0 < status.st_size <= limit:
        found, most = f"a file of {status.st_size} bytes", f", of at most {limit:g} bytes"
        empty = not status.st_size
        raise InputError(
            str(path), found="a damaged file (it is empty)" if empty else found, expected=expected + most * (not empty)
        )
    return status.st_size


def read_bytes(path: str | Path, *, expected: str, limit: int = WHOLE) -> bytes:
    """Content of a plain file; raises as `check_file` does."""
    check_file(path, expected=expected, limit=limit)
    with only_input_errors(path, expected=expected, found="a file that cannot be read"), open(path, "rb") as file:
        return file.read(limit)


def read_text(path: str | Path, *, expected: str, limit: int = WHOLE) -> str:
    """Content of a plain file of UTF-8 text; raises as `check_file` does, and for other bytes."""
    content = read_bytes(path, expected=expected, limit=limit)
    with only_input_errors(path, expected=expected, found="no UTF-8 text"):
        return content.decode("utf-8-sig")


def parse_json(text: str | bytes, *, source: str | Path, expected: str) -> Any:
    """A JSON text, of bounded depth."""
    with only_input_errors(source, expected=expected, found="damaged JSON"):
        value = json.loads(text)
    level, depth = [value], 0
    while level := [part for item in level if isinstance(item, dict | list) for part in _parts(item)]:
        depth += 1
        if depth > DEPTH:
            raise InputError(str(source), found=f"JSON nested deeper than {DEPTH}", expected=expected)
    return value


def _parts(item: dict[str, Any] | list[Any]) -> list[Any]:
    return list(item.values()) if isinstance(item, dict) else item


@displayed
@dataclass(frozen=True)
class ArrayHeader:
    """One array of an npz, as its header says and its size confirms.

    Attributes
    ----------
    member : ZipInfo
        Where it lies in the file.
    shape : tuple of int
    dtype : dtype
        Of bool, integers or floats.
    """

    member: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def array_headers(
    path: str | Path, *, expected: str, wanted: Collection[str] | None = None
) -> dict[str, ArrayHeader | None]:
    """Shapes and types of the arrays of an npz by name, before any of them is decompressed.

    Parameters
    ----------
    path : str or Path
        The file.
    expected : str
        What the message says would have been accepted.
    wanted : collection of str, optional
        Names that matter: of the others, which may be of any type, the header is None.

    Raises
    ------
    InputError
        For a damaged file, and for arrays of other types than bool, integers and floats: objects are pickles, which
        can run code.
    """
    check_file(path, expected=expected)
    with only_input_errors(path, expected=expected, found="a file that numpy refuses"), zipfile.ZipFile(path) as file:
        members = {name.filename.removesuffix(".npy"): name for name in check_members(path, file, expected=expected)}
        matter = set(members) if wanted is None else set(wanted)
        return {name: _array_header(file, member) if name in matter else None for name, member in members.items()}


def read_array(path: str | Path, header: ArrayHeader, *, expected: str, always: int = ALWAYS) -> NDArray[Any]:
    """One array of an npz.

    Parameters
    ----------
    path : str or Path
        The file.
    header : ArrayHeader
        From `array_headers`.
    expected : str
        What the message says would have been accepted.
    always : int
        Bytes that it may grow to whatever the size of the file.
    """
    check_growth(path, header.member.file_size, expected=expected, always=always)
    refusal = only_input_errors(path, expected=expected, found="a file that numpy refuses")
    with refusal, zipfile.ZipFile(path) as file, file.open(header.member) as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
        return array


def check_members(path: str | Path, archive: zipfile.ZipFile, *, expected: str) -> list[zipfile.ZipInfo]:
    """The files of a zip: no more than `MEMBERS`, and each name once."""
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) > MEMBERS:
        raise InputError(str(path), found=f"{len(members)} members", expected=f"{expected}, with at most {MEMBERS}")
    if len({member.filename for member in members}) < len(members):
        raise InputError(str(path), found="two members of one name", expected=f"{expected}, with each name once")
    return members


def check_growth(path: str | Path, grown: int, *, expected: str, always: int = ALWAYS) -> None:
    """Refuse what would grow to more bytes than honest data of the file's size."""
    size = os.stat(path).st_size
    if grown > max(always, GROWTH * size):
        found = f"{size} bytes that would grow to {grown}"
        raise InputError(str(path), found=found, expected=f"{expected}, at most {max(always, GROWTH * size)} bytes")


def _array_header(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> ArrayHeader:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with file.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in readers:
            raise ValueError(f"{member.filename}: format {version}")
        shape, _, dtype = readers[version](stream)
        start = stream.tell()
    if dtype.kind not in "biuf":
        what = "objects, which are pickles and can run code" if dtype.hasobject else str(dtype)
        raise ValueError(f"{member.filename} holds {what}")
    if min(shape, default=0) < 0 or start + math.prod(shape) * dtype.itemsize != member.file_size:
        raise ValueError(f"{member.filename} has {member.file_size} bytes, not those of shape {shape}")
    return ArrayHeader(member, shape, dtype)


def read_tensors(
    path: str | Path, *, expected: str, device: str | torch.device = "cpu"
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file."""
    check_file(path, expected=expected)
    with only_input_errors(path, expected=expected), safe_open(path, framework="pt", device=str(device)) as file:
        return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def read_state_dict(path: str | Path, *, expected: str, inside: str = "") -> dict[str, Tensor]:
    """Named tensors that `torch.save` wrote, and nothing else: no code of the file is run.

    With `inside` they are those that lie under that name in a dict of the file.
    """
    check_file(path, expected=expected)
    with only_input_errors(path, expected=expected, found="no plain state dict"):
        weights = torch.load(path, map_location="cpu", weights_only=True)
        weights = weights[inside] if inside else weights
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(str(path), found=f"a {type(weights).__name__}", expected="a state dict of tensors")
    return weights


def read_csv(path: str | Path, *, expected: str, **how: Any) -> pd.DataFrame:
    """A table of UTF-8 text with a line of names; `how` goes to pandas."""
    text = read_text(path, expected=expected, limit=ALWAYS)
    width = text.partition("\n")[0].count(",") + 1
    if width > COLUMNS:
        raise InputError(str(path), found=f"{width} columns", expected=f"{expected}, at most {COLUMNS} columns")
    with only_input_errors(path, expected=expected, found="no table"), warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # a row with more fields than names loses them
        table: pd.DataFrame = pd.read_csv(io.StringIO(text), index_col=False, **how)
    return table


def read_parquet(path: str | Path, *, expected: str) -> pd.DataFrame:
    """A parquet table."""
    from pyarrow import parquet

    content = read_bytes(path, expected=expected)
    with only_input_errors(path, expected=expected):
        about = parquet.read_metadata(io.BytesIO(content))
        if about.num_columns > COLUMNS:
            raise ValueError(f"{about.num_columns} columns")
        check_growth(path, 8 * about.num_rows * about.num_columns, expected=expected)
        return pd.read_parquet(io.BytesIO(content))
