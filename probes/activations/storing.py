"""Activations that go to disk while they are computed: shards of a fixed cut, so that a killed run goes on.

A folder is a trace's in all but its content (see `recording.store`): a manifest, one line a shard with its hash, and
shards that are written under a temporary name and renamed. Shard number k holds the k-th run of noisy batches of a
bank, of samples, or of recorded steps, so that a run that goes on, or makes a damaged shard again, cuts as the first
one did. Memory holds the shards that are in the ring, however many there are.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.data.written_files import unlock_and_close
from scorescope.probes.activations.positions import Kept, Positions, by_position, inner_shape
from scorescope.probes.activations.stored import FORMAT, StoredActivations, latest, read_folder
from scorescope.probes.activations.stored_fields import DTYPES, INDEX
from scorescope.probes.bank.points import Bank, Point
from scorescope.probes.recording.estimate import in_words
from scorescope.probes.recording.offload import Commit, Ring
from scorescope.probes.recording.plan import Budget, BudgetError, budget_bytes
from scorescope.probes.recording.reading import ShardReader
from scorescope.probes.recording.store import TraceError, Writer, is_unbegun, take_steps, text_of

_INDEX_BYTES = sum(dtype.itemsize for dtype in INDEX.values())

Visit = Callable[[Point], Mapping[str, Tensor]]
"""What the sites put out at a point, by site, as the module had it."""


@displayed
@dataclass(frozen=True)
class Where:
    """What the index says of some evaluations: the image and seed of each, and what they share."""

    image: Tensor
    seed: Tensor | int
    step: int
    sigma: float
    draw: int = 0
    call: int = 0


Put = Callable[[Where, Mapping[str, Tensor]], None]
"""Takes what the sites put out in some evaluations, by site."""


class Parts(Protocol):
    """What is stored, cut into shards."""

    @property
    def shards(self) -> int:
        """Shards in all."""

    def rows(self, shard: int) -> int:
        """Evaluations in a shard."""

    def each(self, shard: int, put: Put) -> None:
        """Compute a shard, and put what the sites put out, always in the same order."""


@dataclass(frozen=True)
class Cut:
    """How the points of a bank are cut into shards.

    Attributes
    ----------
    visit : callable
        The sites' activations at a point.
    bank : Bank
    batch : int
        Images computed together.
    points : int
        Batches a shard.
    """

    visit: Visit
    bank: Bank
    batch: int
    points: int

    @property
    def batches(self) -> int:
        """Batches in all."""
        return len(self.bank.sigmas) * self.bank.draws * math.ceil(len(self.bank) / self.batch)

    @property
    def shards(self) -> int:
        """Shards in all."""
        return math.ceil(self.batches / self.points)

    def rows(self, shard: int) -> int:
        """Evaluations in a shard."""
        return sum(len(rows) for _, _, rows in self._places(shard))

    def each(self, shard: int, put: Put) -> None:
        """The points of a shard, one after the other."""
        for level, draw, rows in self._places(shard):
            where = Where(rows, self.bank.seed, level, float(self.bank.sigmas[level]), draw)
            put(where, self.visit(self.bank.point(rows, level, draw)))

    def _places(self, shard: int) -> Iterator[tuple[int, int, Tensor]]:
        chunks = torch.arange(len(self.bank)).split(self.batch)
        for number in range(shard * self.points, min((shard + 1) * self.points, self.batches)):
            level, rest = divmod(number, self.bank.draws * len(chunks))
            yield level, rest // len(chunks), chunks[rest % len(chunks)]


def store_activations(
    visit: Visit, bank: Bank, pools: Mapping[str, Kept], *, path: Path, dtype: str, shard: int | str, budget: Budget,
    batch: int, facts: Mapping[str, Any], progress: bool,
) -> StoredActivations:  # fmt: skip
    """Write what the sites put out over a bank, or go on with a folder in which that was begun.

    Parameters
    ----------
    visit : callable
        The sites' activations at a point.
    bank, pools, batch, progress
        As in `collect`.
    path : Path
        A new or empty folder, or one of the same activations.
    dtype : {"float32", "float16", "bfloat16"}
        What values are stored as.
    shard : int or str
        About how large a shard is; a batch is not cut.
    budget : int or str, optional
        Room that it may take.
    facts : mapping
        What else has to be the same in a folder that is gone on with.

    Raises
    ------
    InputError
        See `collect`.
    """
    described, item = described_sites(lambda: visit(bank.point(torch.arange(1), 0)), pools, dtype)
    points = max(1, budget_bytes(shard) // (item * min(batch, len(bank))))
    cut = Cut(visit, bank, batch, points)
    manifest = {
        "sites": described, "dtype": dtype, "sigmas": [float(s) for s in bank.sigmas], "images": len(bank),
        "draws": bank.draws, "seed": bank.seed, "batch": batch, "points": points, **facts,
    }  # fmt: skip
    size = len(bank) * bank.draws * len(bank.sigmas), item
    return store_parts(cut, pools, manifest, path=path, size=size, budget=budget, progress=progress)


def store_parts(
    parts: Parts, pools: Mapping[str, Kept], manifest: Mapping[str, Any], *, path: Path, size: tuple[int, int],
    budget: Budget, progress: bool,
) -> StoredActivations:  # fmt: skip
    """Write shards, or those that a folder lacks.

    Parameters
    ----------
    parts : Parts
        What is stored.
    pools : mapping of str to Kept
        How each site is reduced.
    manifest : mapping
        What has to be the same in a folder that is gone on with.
    path, budget, progress
        See `store_activations`.
    size : (int, int)
        Evaluations in all, and bytes of one.
    """
    items, item = size
    _tell(items * item, items, budget, progress=progress)
    given = {"format": FORMAT, "shards": parts.shards, **manifest}
    writer, done = _open(path, json.loads(text_of(given)))
    ring, spare = Ring(slots=3, threads=2), list[dict[str, Tensor]]()
    try:
        left = [number for number in range(parts.shards) if number not in done]
        for number in tqdm(left, desc="activations", disable=not progress, leave=False):
            arrays = _Filled(parts.rows(number), pools, manifest["dtype"], spare).of(parts, number)
            ring.put(arrays, _Consume(writer, number, arrays, spare))
        ring.close()
    except BaseException:
        ring.close(raise_errors=False)
        writer.abandon()
        raise
    writer.close("complete", StoredActivations(path).index)
    return StoredActivations(path)


@dataclass
class _Consume:
    """Writes one shard, says so in its line, and leaves the arrays for another: new memory costs more than a copy."""

    writer: Writer
    number: int
    arrays: dict[str, Tensor]
    spare: list[dict[str, Tensor]]

    def __call__(self, host: dict[str, Tensor]) -> Commit:
        items = len(host["index|image"])
        said = self.writer.shard(f"{self.number:08d}.safetensors", host)
        if host["index|image"] is self.arrays["index|image"]:  # nothing was copied to another place
            self.spare.append(self.arrays)
        return lambda: self.writer.append({"number": self.number, "items": items, **said})


def described_sites(
    visit: Callable[[], Mapping[str, Tensor]], pools: Mapping[str, Kept], dtype: str
) -> tuple[list[dict[str, Any]], int]:
    """What each site puts out, as one evaluation shows it, and the bytes of one."""
    if dtype not in DTYPES:
        raise InputError("dtype", found=repr(dtype), expected=f"one of {', '.join(DTYPES)}")
    found = visit()
    described, size = [], _INDEX_BYTES
    for site, how in pools.items():
        positions, channels = by_position(found[site], how).shape[1:]
        drawn = min(how.count, positions) if isinstance(how, Positions) else positions
        kept = {"count": how.count, "seed": how.seed} if isinstance(how, Positions) else how
        described.append({
            "site": site, "how": kept, "positions": drawn, "channels": channels,
            "shape": inner_shape(found[site], how), "tokens": found[site].ndim == 3,
        })  # fmt: skip
        size += drawn * channels * DTYPES[dtype].itemsize + (4 * drawn if isinstance(how, Positions) else 0)
    return described, size


def _tell(size: int, items: int, budget: Budget, *, progress: bool) -> None:
    if budget is not None and size > budget_bytes(budget):
        expected = "more room, fewer images, levels or positions, or a smaller dtype="
        raise BudgetError("budget", found=f"{budget_bytes(budget):,} bytes for {size:,}", expected=expected)
    if progress:
        tqdm.write(f"storing activations: {in_words(size)} of {items:,} evaluations", file=sys.stderr)


def _open(path: Path, manifest: Mapping[str, Any]) -> tuple[Writer, set[int]]:
    """A folder to write to, and the shards in it that are whole."""
    if is_unbegun(path):
        return Writer.create(path, manifest), set()
    stored = read_folder(path).manifest
    for name, value in manifest.items():
        if stored.get(name) != value:
            expected = (
                f"{json.dumps(stored.get(name))[:200]}, as in the folder that is to be continued, or another folder"
            )
            raise TraceError(f"{path}, {name}", found=json.dumps(value)[:200], expected=expected)
    file = take_steps(path)
    try:
        contents = read_folder(path)
        if contents.damaged:
            raise TraceError(str(path), found=contents.problems[0], expected="undamaged lines to continue")
        writer = Writer.reopen(path, contents.manifest, file, lines=contents.lines, length=contents.valid_bytes)
    except BaseException:
        unlock_and_close(file)
        raise
    shards = ShardReader(path)
    return writer, {number for number, line in latest(contents.lines).items() if _is_whole(shards, line)}


def _is_whole(shards: ShardReader, line: Mapping[str, Any]) -> bool:
    try:
        shards.check(line)
    except TraceError:
        return False
    return True


class _Filled:
    """The arrays of one shard, each filled in place: a copy, a cast and a change of order in one."""

    def __init__(self, total: int, pools: Mapping[str, Kept], dtype: str, spare: list[dict[str, Tensor]]) -> None:
        self.total, self.pools, self.dtype, self.start = total, pools, DTYPES[dtype], 0
        self.arrays = spare.pop() if spare else {}
        if not self.arrays or len(self.arrays["index|image"]) != total:
            self.arrays = {f"index|{name}": torch.zeros(total, dtype=kind) for name, kind in INDEX.items()}

    def of(self, parts: Parts, number: int) -> dict[str, Tensor]:
        """Those of a shard."""
        parts.each(number, self.put)
        if self.start != self.total:
            found = f"{self.start} of {self.total} evaluations in shard {number}"
            raise InputError("branch", found=found, expected="one that is computed for all samples at every level")
        for name, value in self.arrays.items():
            self._check_finite(name, value, number)
        return self.arrays

    def put(self, where: Where, found: Mapping[str, Tensor]) -> None:
        """What the sites put out in some evaluations."""
        stop = self.start + len(where.image)
        if stop > self.total:
            found_rows = f"more than {self.total} evaluations in a shard"
            raise InputError("branch", found=found_rows, expected="one call a level, as in the first sample")
        part = slice(self.start, stop)
        for name in ("image", "seed", "draw", "step", "call", "sigma"):
            self.arrays[f"index|{name}"][part] = getattr(where, name)
        for site, how in self.pools.items():
            values, places = _kept(by_position(found[site], how), how, where)
            self._room(site, values, places)[part] = values
            if places is not None:
                self.arrays[f"position|{site}"][part] = places
        self.start = stop

    def _room(self, site: str, values: Tensor, places: Tensor | None) -> Tensor:
        if f"site|{site}" not in self.arrays:
            shape = (self.total, *values.shape[1:])
            self.arrays[f"site|{site}"] = torch.empty(shape, dtype=self.dtype, device=values.device)
            if places is not None:
                self.arrays[f"position|{site}"] = torch.empty(shape[:2], dtype=torch.int32)
        return self.arrays[f"site|{site}"]

    def _check_finite(self, name: str, value: Tensor, number: int) -> None:
        if not value.is_floating_point() or not value.numel():
            return
        low, high = torch.aminmax(value)
        if not (torch.isfinite(low) and torch.isfinite(high)):
            found = f"NaN or infinite values in shard {number}, from sigma {float(self.arrays['index|sigma'][0]):.4g}"
            expected = "finite activations, within the range of dtype="
            raise InputError(f"activations of {name.partition('|')[2]!r}", found=found, expected=expected)


def _kept(values: Tensor, how: Kept, where: Where) -> tuple[Tensor, Tensor | None]:
    if not isinstance(how, Positions):
        return values, None
    places = torch.stack([how.draw(values.shape[1], int(row), where.draw, where.step) for row in where.image])
    return torch.take_along_dim(values, places.to(values.device)[:, :, None], dim=1), places
