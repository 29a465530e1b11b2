"""Files that are written whole, by one writer, with a hash of themselves.

    write_sealed(path, lambda temporary: save_file(tensors, temporary, {"seal": UNSEALED}))
    check_seal(path)            # True; False for a file without one, an InputError for a damaged one

A seal is text that stands in a file as it is: in the header of safetensors, the comment of an npz, a field of JSON. It
is the hash of every byte of the file, taken with zeros for the hash itself, so that one mechanism serves all formats.
It tells damage, not who wrote a file.
"""

import contextlib
import hashlib
import json
import mmap
import os
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from scorescope.data.errors import InputError
from scorescope.data.untrusted import check_file, parse_json, read_bytes

try:
    import fcntl
except ImportError:  # not every system has it
    fcntl = None  # type: ignore[assignment]

_SIGN = b"scorescope-sha256:"
_DIGITS = 64
UNSEALED = _SIGN.decode() + "0" * _DIGITS
"""What a writer puts where the seal is to stand, once."""


class IntegrityWarning(UserWarning):
    """A file of ours that carries no hash, or a damaged one that is made again."""


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write(temporary)` fill a file beside `path`, then rename it: `path` is whole or as it was."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.tmp")  # two writers have one each
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(mode)  # as new files have it: safetensors hides its own from others
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_sealed(path: Path, write: Callable[[Path], object]) -> None:
    """`replace_file` for a file that holds `UNSEALED`, in whose place its hash is put.

    Raises
    ------
    InputError
        Where what is written holds that text more than once.
    """

    def sealed(temporary: Path) -> None:
        write(temporary)
        _seal(temporary, path)

    replace_file(path, sealed)


def check_seal(path: Path) -> bool:
    """Whether a file carries a seal, which its content matches; False for a file without one.

    Raises
    ------
    InputError
        For a file that is missing or no plain file, cannot be opened, or does not match its seal.
    """
    check_file(path, expected="a file that can be read")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _matches(path, content)
    except OSError as error:
        raise InputError(str(path), found=error.strerror or str(error), expected="a file that can be read") from None


def write_json(path: Path, value: Mapping[str, Any], **how: Any) -> None:
    """Write a JSON object with a seal in it, under the name `seal`; `how` goes to `json.dumps`."""
    text = json.dumps({**value, "seal": UNSEALED}, **how)
    write_sealed(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object that `write_json` wrote, or an earlier version without a seal, which a warning says.

    Raises
    ------
    InputError
        For a file that does not match its seal, or holds no JSON object.
    """
    sealed = check_seal(path)
    expected = "a JSON object"
    value = parse_json(read_bytes(path, expected=expected), source=path, expected=expected)
    if not isinstance(value, dict):
        raise InputError(str(path), found=f"a {type(value).__name__}", expected="a JSON object")
    if not sealed:
        warn_unsealed(path)
    return value


def warn_unsealed(path: Path) -> None:
    """Say that a file of ours, of an earlier version, has no seal."""
    text = f"{path} carries no hash, as an earlier version wrote it: damage would not be noticed until it is saved anew"
    warnings.warn(text, IntegrityWarning, stacklevel=3)


def _seal(temporary: Path, path: Path) -> None:
    with temporary.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        start = content.find(UNSEALED.encode())
        if start < 0 or content.find(_SIGN, start + 1) >= 0 or content.find(_SIGN) != start:
            found = f"{_SIGN.decode()!r} in what is to be written"
            raise InputError(str(path), found=found, expected="other text: hashes of files begin with it")
        start += len(_SIGN)
        content[start : start + _DIGITS] = _hash(content, start)
        content.flush()
        os.fsync(file.fileno())


def _matches(path: Path, content: mmap.mmap) -> bool:
    start = content.find(_SIGN)
    if start < 0:
        return False
    start += len(_SIGN)
    if content[start : start + _DIGITS] != _hash(content, start):
        raise InputError(str(path), found="content that does not match its hash", expected="an undamaged file")
    return True


def _hash(content: mmap.mmap, start: int) -> bytes:
    """SHA-256 of a file with zeros for the digits at `start`."""
    with memoryview(content) as whole:
        digest = hashlib.sha256(whole[:start])
        digest.update(b"0" * _DIGITS)
        digest.update(whole[start + _DIGITS :])
    return digest.hexdigest().encode()


def lock(descriptor: int, *, wait: bool = False) -> bool:
    """Take a file or folder for oneself; False where somebody else has it. Without locks in the system nobody is kept
    out.

    The lock goes with the descriptor, also that of a killed process.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


@contextlib.contextmanager
def alone_in(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Be the only one who writes to a folder that is there; the lock leaves no file behind.

    Raises
    ------
    InputError
        Where another process, or another part of this one, is in it, and this one is not to `wait` for its end.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not lock(descriptor, wait=wait):
            found = f"{folder}, which is being written"
            raise InputError("out", found=found, expected="another folder, or this one when that has ended")
        yield
    finally:
        unlock_and_close(descriptor)


def unlock_and_close(descriptor: int) -> None:
    """Give a file back, also where a forked process still has the descriptor."""
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
