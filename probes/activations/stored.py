"""Activations on disk, read as they are needed: nothing is loaded before it is asked for.

    stored = StoredActivations("activations")
    stored.index                                        # one row an evaluation: image, seed, step, sigma, branch, ...
    stored.activations()                                # what `collect` gives in memory, where there is room
    stored.to_xarray()                                  # lazy; Dask arrays, where Dask is installed
    for block in stored.blocks("network.middle1"):      # memory-mapped numpy, (row, channel), a shard at a time
        classifier.partial_fit(block, ...)

Shards are mapped, not read. Sizes are compared when they are opened, hashes by `verify`.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import check_file, only_input_errors
from scorescope.probes.activations.activations import Activations
from scorescope.probes.activations.positions import Kept, Positions, as_collected
from scorescope.probes.activations.stored_fields import (
    INDEX,
    Array,
    arrays_of,
    wrong_in_index,
    wrong_in_line,
    wrong_in_manifest,
)
from scorescope.probes.recording.reading import Contents, ShardReader, read
from scorescope.probes.recording.store import MANIFEST, SHARD_NAME, SHARDS, TraceError
from scorescope.probes.sites.outputs import Output

if TYPE_CHECKING:
    import xarray as xr

FORMAT = "scorescope-activations"
_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32,
}  # fmt: skip
_HEADER, _SHARD = 2**26, "a shard of activations"


def read_folder(path: Path) -> Contents:
    """Manifest and lines; `TraceError` for a folder of something else."""
    return read(path, form=FORMAT, wrong=wrong_in_line)


def latest(lines: Sequence[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    """The line that counts of each shard: the last, where one was made again."""
    return {int(line["number"]): line for line in lines}


@checked
class StoredActivations:
    """A folder that `collect(..., path=)` wrote, whole or as far as it came.

    Parameters
    ----------
    path : str or Path
        The folder.

    Raises
    ------
    InputError
        For a folder of something else, damaged lines, and shards of another size than their lines say.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        contents = read_folder(self.path)
        if contents.damaged:
            raise TraceError(str(path), found=contents.problems[0], expected="undamaged activations")
        self.manifest: dict[str, Any] = contents.manifest
        if wrong := wrong_in_manifest(self.manifest):
            expected = "the manifest of activations"
            raise TraceError(str(self.path / MANIFEST), found=f"no {wrong} of the right type", expected=expected)
        lines = latest(contents.lines)
        self._lines = [lines[number] for number in sorted(lines)]
        self._about: dict[str, dict[str, Any]] = {str(site["site"]): site for site in self.manifest["sites"]}
        self._shards: dict[str, dict[str, Tensor]] = {}
        self._places: dict[str, tuple[str, dict[str, int]]] = {}  # by shard: its file, first byte of each array
        self._starts = [0, *accumulate(int(line["items"]) for line in self._lines)]
        for line in self._lines:
            self._file(line)

    def __len__(self) -> int:
        return self._starts[-1]

    def __repr__(self) -> str:
        return f"StoredActivations({len(self)} evaluations at {', '.join(self.sites)}; {self.path})"

    @property
    def is_complete(self) -> bool:
        """Whether all of it was written."""
        return bool(len(self._lines) == self.manifest["shards"])

    @property
    def sites(self) -> list[str]:
        """Names, in the order of collection."""
        return list(self._about)

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Noise level of each level."""
        return tuple(self.manifest["sigmas"])

    @property
    def branch(self) -> str:
        """The branch of all evaluations, where they have one."""
        return str(self.manifest["branches"][0])

    @cached_property
    def how(self) -> dict[str, Kept]:
        """How each site was kept."""
        kept = {site: about["how"] for site, about in self._about.items()}
        return {site: Positions(**how) if isinstance(how, dict) else how for site, how in kept.items()}

    def width(self, site: str) -> int:
        """Channels of a site."""
        return int(self._of(site)["channels"])

    def positions(self, site: str) -> int:
        """Positions that were kept of each evaluation."""
        return int(self._of(site)["positions"])

    def inner_shape(self, site: str) -> tuple[int, ...]:
        """Axes of a site's positions, before any were drawn: (y, x), (token,), or none."""
        return tuple(self._of(site)["shape"])

    @cached_property
    def index(self) -> pd.DataFrame:
        """One row an evaluation, in the order of the rows: image, seed, draw, step, call, branch, sigma, level."""
        columns = {
            name: np.concatenate([self._shard(line)[f"index|{name}"].numpy() for line in self._lines] or [np.empty(0)])
            for name in INDEX
        }
        table = pd.DataFrame(columns)
        if wrong := wrong_in_index(table, self.manifest):
            raise TraceError(str(self.path), found=f"an index with a wrong {wrong}", expected="undamaged activations")
        return table.assign(branch=table["branch"].map(dict(enumerate(self.manifest["branches"]))))

    def verify(self) -> list[str]:
        """Every shard that does not pass its hash, one sentence each; reads all of them."""
        shards, found = ShardReader(self.path), []
        for line in self._lines:
            try:
                shards.check(line)
            except TraceError as error:
                found.append(str(error))
        return found

    def pieces(self, site: str) -> Iterator[Tensor]:
        """Each shard's values of a site, (evaluation, position, channel), mapped: they are read when they are used."""
        for number in range(len(self._lines)):
            yield self.piece(site, number)

    def piece(self, site: str, number: int) -> Tensor:
        """The same of one shard."""
        self._of(site)
        return self._shard(self._lines[number])[f"site|{site}"]

    def rows_like(self, site: str, count: int) -> Tensor:
        """Room for rows of a site as they are stored, (count, channel)."""
        return torch.empty(count, self.width(site), dtype=getattr(torch, self.manifest["dtype"]))

    def read_rows(self, site: str, number: int, into: Tensor, *, start: int) -> None:
        """Read rows of one shard from `start` on, position fastest, without mapping them: memory stays what it was."""
        name, places = self._located(self._lines[number])
        first = places[f"site|{site}"]
        room = into.view(torch.uint8).numpy().data.cast("B")
        with open(name, "rb", buffering=0) as file:
            file.seek(first + start * into[0].nbytes)
            while room:
                count = file.readinto(room)
                if not count:
                    raise TraceError(name, found="an end before its rows", expected="an undamaged shard")
                room = room[count:]

    def starts(self) -> list[int]:
        """First evaluation of each shard, and the number of all."""
        return list(self._starts)

    def blocks(self, site: str) -> Iterator[NDArray[Any]]:
        """Each shard's rows of a site as memory-mapped numpy, (evaluation * position, channel), position fastest.

        bfloat16, which numpy does not know, is read as float32.
        """
        for piece in self.pieces(site):
            yield _numpy(piece.flatten(0, 1))

    def place_of(self, site: str) -> Tensor | None:
        """Which position each row of a site is, (evaluation, position), where positions were drawn."""
        if not isinstance(self.how[site], Positions):
            return None
        self._require_some()
        return torch.cat([self._shard(line)[f"position|{site}"] for line in self._lines])

    def at(self, site: str, level: int) -> Tensor:
        """One site at one noise level, (evaluation, position, channel) float32, in memory."""
        chosen = self.index["step"].to_numpy() == level
        parts = zip(self.pieces(site), self._starts, self._starts[1:], strict=False)
        kept = [piece[torch.tensor(chosen[a:b])].float() for piece, a, b in parts if chosen[a:b].any()]
        if not kept:
            raise InputError("level", found=str(level), expected=f"one that is stored, of {len(self.sigmas)}")
        return torch.cat(kept)

    def activations(self) -> Activations:
        """All of it in memory, as `collect` without `path` gives it, to the rounding of the stored type.

        Raises
        ------
        InputError
            For activations that are not complete, and sites of which positions were drawn.
        """
        if not self.is_complete:
            found = f"{len(self._lines)} of {self.manifest['shards']} shards"
            raise InputError("path", found=found, expected="complete activations: collect them to the end")
        if drawn := [site for site, how in self.how.items() if isinstance(how, Positions)]:
            raise InputError("sites", found=f"{drawn[0]!r}, of which positions were drawn", expected="sites kept whole")
        pools: dict[str, Any] = dict(self.how)
        rows = int(self.manifest["draws"]) * int(self.manifest["images"])
        if len(self.index) != rows * len(self.sigmas):
            found = f"{len(self)} evaluations of {rows} rows at {len(self.sigmas)} levels"
            raise TraceError(str(self.path), found=found, expected="one of each row at each level")
        place = torch.tensor((self.index["draw"] * self.manifest["images"] + self.index["image"]).to_numpy())
        level = torch.tensor(self.index["step"].to_numpy())
        values = {}
        for site, about in self._about.items():
            into = torch.empty(len(self.sigmas), rows, self.positions(site) * self.width(site))
            for piece, start in zip(self.pieces(site), self._starts, strict=False):
                part = slice(start, start + len(piece))
                flat = as_collected(piece.float(), about["how"], tokens=about["tokens"])
                into[level[part], place[part]] = flat
            values[site] = into
        images = torch.arange(int(self.manifest["images"])).repeat(int(self.manifest["draws"]))
        outputs = {site: Output(**about) for site, about in self.manifest["outputs"].items()}
        contents = torch.tensor(self.manifest["contents"])[images]
        return Activations(values, self.sigmas, images, pools, self.branch, outputs, contents)

    def to_xarray(self) -> "xr.Dataset":
        """All sites as a lazy Dataset, each (evaluation, position of the site, channel of the site), with the index.

        Variables are Dask arrays of one chunk a shard where Dask is installed; else the arrays of one shard are mapped
        and those of several have to be joined, which reads them.
        """
        import xarray as xr

        self._require_some()
        variables: dict[str, Any] = {}
        for site in self.sites:
            parts = [_numpy(piece) for piece in self.pieces(site)]
            variables[site] = (("evaluation", f"position of {site}", f"channel of {site}"), _joined(parts))
        coordinates = {name: ("evaluation", column.to_numpy()) for name, column in self.index.items()}
        return xr.Dataset(variables, coords=coordinates, attrs={"dtype_stored": self.manifest["dtype"]})

    def _require_some(self) -> None:
        if not self._lines:
            raise InputError("path", found=f"{self.path}, without a shard yet", expected="activations to be read")

    def _of(self, site: str) -> Mapping[str, Any]:
        if site not in self._about:
            raise InputError("site", found=repr(site), expected=f"one that was collected: {', '.join(self.sites)}")
        return self._about[site]

    def _file(self, line: Mapping[str, Any]) -> Path:
        """A shard's file, which has the size that its line says."""
        file: Path = self.path / SHARDS / str(line["shard"])
        if not SHARD_NAME.fullmatch(line["shard"]) or file.is_symlink():
            raise TraceError("shard", found=repr(line["shard"]), expected="a name like 00000000.safetensors")
        size = check_file(file, expected="the shard that a line names")
        if size != line["shard_bytes"]:
            expected = f"{line['shard_bytes']}; collect() with the same arguments and path= makes it again"
            raise TraceError(str(file), found=f"{size} bytes", expected=expected)
        return file

    def _shard(self, line: Mapping[str, Any]) -> dict[str, Tensor]:
        if line["shard"] not in self._shards:
            arrays = arrays_of(self.manifest, line["items"])
            self._shards[line["shard"]] = _mapped(self._file(line), self._located(line)[1], arrays)
        return self._shards[line["shard"]]

    def _located(self, line: Mapping[str, Any]) -> tuple[str, dict[str, int]]:
        """A shard's file, and the first byte of each of its arrays."""
        if line["shard"] not in self._places:
            file = self._file(line)
            self._places[line["shard"]] = str(file), _first_bytes(file, arrays_of(self.manifest, line["items"]))
        return self._places[line["shard"]]


def _first_bytes(file: Path, arrays: Mapping[str, Array]) -> dict[str, int]:
    """The first byte of each of these arrays in a safetensors file, which has to hold them all."""
    with only_input_errors(file, expected=_SHARD), open(file, "rb") as opened:
        length, size = os.fstat(opened.fileno()).st_size, int.from_bytes(opened.read(8), "little")
        if not 0 < size <= min(_HEADER, length - 8):
            raise ValueError("a header that does not fit")
        header, found = json.loads(opened.read(size)), dict[str, int]()
        for name, (dtype, shape) in arrays.items():
            about = header[name]
            start, stop = about["data_offsets"]
            if (_TYPES.get(about["dtype"]), about["shape"]) != (dtype, shape):
                raise ValueError(f"{name} of type {about['dtype']} and shape {about['shape']}")
            if not 0 <= start <= stop <= length - 8 - size or stop - start != math.prod(shape) * dtype.itemsize:
                raise ValueError(f"an array {name} that does not fit")
            found[name] = 8 + size + start
        return found


def _mapped(file: Path, first: Mapping[str, int], arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    """The tensors of a safetensors file where they lie in it; changes to them stay in memory."""
    with only_input_errors(file, expected=_SHARD):
        raw = torch.from_numpy(np.memmap(file, np.uint8, mode="c"))
        return {
            name: raw[first[name] : first[name] + math.prod(shape) * dtype.itemsize].view(dtype).view(shape)
            for name, (dtype, shape) in arrays.items()
        }


def _numpy(piece: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = (piece.float() if piece.dtype == torch.bfloat16 else piece).numpy()
    return array


def _joined(parts: list[NDArray[Any]]) -> Any:
    if len(parts) == 1:
        return parts[0]
    try:
        from dask import array
    except ImportError:
        return np.concatenate(parts)
    return array.concatenate([array.from_array(part, chunks=part.shape) for part in parts])  # type: ignore[no-untyped-call]
