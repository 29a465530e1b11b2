"""Activations on their way to disk: planned as shards of a fixed cut, written in one process or a shard at a time.

    planned.store(path, budget=None, progress=False)          # in this process; goes on where a run ended
    said = [planned.write_shard(k, folder) for k in (4, 5)]   # some shards, by whoever there is,
    join_shards(planned.whole_manifest, written, path)        # and one folder of them all: the same bytes

A folder is a trace's in all but its content (see `recording.store`): a manifest, one line a shard with its hash, and
shards that are written under a temporary name and renamed. A run that goes on, or makes a damaged shard again, cuts as
the first one did. Memory holds the shards that are in the ring, however many there are.
"""

import functools
import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.data.written_files import replace_file, unlock_and_close
from scorescope.probes.activations.positions import Kept
from scorescope.probes.activations.stored import FORMAT, StoredActivations, latest, read_folder
from scorescope.probes.activations.storing import Cut, Filled, Parts, Visit, described_sites
from scorescope.probes.bank.points import Bank
from scorescope.probes.recording import shards
from scorescope.probes.recording.estimate import in_words
from scorescope.probes.recording.offload import Commit, Ring
from scorescope.probes.recording.plan import Budget, BudgetError, budget_bytes
from scorescope.probes.recording.reading import ShardReader
from scorescope.probes.recording.store import SHARDS, TraceError, Writer, is_unbegun, take_steps, text_of


@dataclass(frozen=True, eq=False)
class Planned:
    """What is to be stored, before any of it is computed.

    Attributes
    ----------
    parts : Parts
        How it is cut into shards.
    pools : mapping of str to Kept
        How each site is reduced.
    manifest : mapping
        What has to be the same in a folder that is gone on with.
    items, item_bytes : int
        Evaluations in all, and bytes of one.
    """

    parts: Parts
    pools: Mapping[str, Kept]
    manifest: Mapping[str, Any]
    items: int
    item_bytes: int

    @property
    def whole_manifest(self) -> dict[str, Any]:
        """The manifest as a folder has it, but for what tells one writing from another."""
        found: dict[str, Any] = json.loads(text_of({"format": FORMAT, "shards": self.parts.shards, **self.manifest}))
        return found

    def arrays(self, number: int, spare: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Compute those of one shard, in spare ones where there are any."""
        return Filled(self.parts.rows(number), self.pools, self.manifest["dtype"], spare).of(self.parts, number)

    def store(self, path: Path, *, budget: Budget, progress: bool) -> StoredActivations:
        """Write all shards, or those that a folder lacks."""
        _tell(self.items * self.item_bytes, self.items, budget, progress=progress)
        writer, done = _open(path, self.whole_manifest)
        ring, spare = Ring(slots=3, threads=2), list[dict[str, Tensor]]()
        try:
            left = [number for number in range(self.parts.shards) if number not in done]
            for number in tqdm(left, desc="activations", disable=not progress, leave=False):
                arrays = self.arrays(number, spare)
                ring.put(arrays, _Consume(writer, number, arrays, spare))
            ring.close()
        except BaseException:
            ring.close(raise_errors=False)
            writer.abandon()
            raise
        writer.close("complete", StoredActivations(path).index)
        return StoredActivations(path)

    def write_shard(self, number: int, folder: Path) -> dict[str, Any]:
        """Write one shard into a folder, for `join_shards`; what its line has to say of it."""
        arrays = {name: value.cpu() for name, value in self.arrays(number, []).items()}
        name = _shard_name(number)
        digest, size = shards.write(folder / name, arrays)
        about = {"shard": name, "shard_sha256": digest, "shard_bytes": size}
        return {"number": number, "items": len(arrays["index|image"]), **about}


def join_shards(
    manifest: Mapping[str, Any], written: Iterable[tuple[Path, Mapping[str, Any]]], path: Path
) -> StoredActivations:
    """One folder of shards that `Planned.write_shard` wrote, as `Planned.store` writes it; those that it has are kept.

    Parameters
    ----------
    manifest : mapping
        `Planned.whole_manifest`.
    written : iterable of (Path, mapping)
        Each shard's folder and what was said of it, in their order. Where the file system can, a shard is not copied:
        it has two names.
    path : Path
        A new or empty folder, or one of the same activations.
    """
    writer, done = _open(path, manifest)
    try:
        for folder, line in written:
            if line["number"] not in done:
                replace_file(path / SHARDS / line["shard"], functools.partial(_link, folder / line["shard"]))
                writer.append(line)
        writer.close("complete", StoredActivations(path).index)
    except BaseException:
        writer.abandon()
        raise
    return StoredActivations(path)


def _link(source: Path, target: Path) -> None:
    target.unlink()
    try:
        os.link(source, target)
    except OSError:  # of another disk, or a file system without links
        shutil.copyfile(source, target)


def _shard_name(number: int) -> str:
    return f"{number:08d}.safetensors"


def plan_activations(
    visit: Visit, bank: Bank, pools: Mapping[str, Kept], *, dtype: str, shard: int | str, batch: int,
    facts: Mapping[str, Any],
) -> Planned:  # fmt: skip
    """What the sites put out over a bank, as it is to be stored.

    Parameters
    ----------
    visit : callable
        The sites' activations at a point.
    bank, pools, batch
        As in `collect`.
    dtype : {"float32", "float16", "bfloat16"}
        What values are stored as.
    shard : int or str
        About how large a shard is; a batch is not cut.
    facts : mapping
        What else has to be the same in a folder that is gone on with.

    Raises
    ------
    InputError
        See `collect`.
    """
    described, item = described_sites(lambda: visit(bank.point(torch.arange(1), 0)), pools, dtype)
    points = max(1, budget_bytes(shard) // (item * min(batch, len(bank))))
    manifest = {
        "sites": described, "dtype": dtype, "sigmas": [float(s) for s in bank.sigmas], "images": len(bank),
        "draws": bank.draws, "seed": bank.seed, "batch": batch, "points": points, **facts,
    }  # fmt: skip
    return Planned(Cut(visit, bank, batch, points), pools, manifest, len(bank) * bank.draws * len(bank.sigmas), item)


@dataclass
class _Consume:
    """Writes one shard, says so in its line, and leaves the arrays for another: new memory costs more than a copy."""

    writer: Writer
    number: int
    arrays: dict[str, Tensor]
    spare: list[dict[str, Tensor]]

    def __call__(self, host: dict[str, Tensor]) -> Commit:
        items = len(host["index|image"])
        said = self.writer.shard(_shard_name(self.number), host)
        if host["index|image"] is self.arrays["index|image"]:  # nothing was copied to another place
            self.spare.append(self.arrays)
        return lambda: self.writer.append({"number": self.number, "items": items, **said})


def _tell(size: int, items: int, budget: Budget, *, progress: bool) -> None:
    if budget is not None and size > budget_bytes(budget):
        expected = "more room, fewer images, levels or positions, or a smaller dtype="
        raise BudgetError("budget", found=f"{budget_bytes(budget):,} bytes for {size:,}", expected=expected)
    if progress:
        tqdm.write(f"storing activations: {in_words(size)} of {items:,} evaluations", file=sys.stderr)


def check_continued(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raise `TraceError` for a folder of other activations; a new or empty one will do."""
    if is_unbegun(path):
        return
    stored = read_folder(path).manifest
    for name, value in manifest.items():
        if stored.get(name) != value:
            expected = (
                f"{json.dumps(stored.get(name))[:200]}, as in the folder that is to be continued, or another folder"
            )
            raise TraceError(f"{path}, {name}", found=json.dumps(value)[:200], expected=expected)


def _open(path: Path, manifest: Mapping[str, Any]) -> tuple[Writer, set[int]]:
    """A folder to write to, and the shards in it that are whole."""
    check_continued(path, manifest)
    if is_unbegun(path):
        return Writer.create(path, manifest), set()
    file = take_steps(path)
    try:
        contents = read_folder(path)
        if contents.damaged:
            raise TraceError(str(path), found=contents.problems[0], expected="undamaged lines to continue")
        writer = Writer.reopen(path, contents.manifest, file, lines=contents.lines, length=contents.valid_bytes)
    except BaseException:
        unlock_and_close(file)
        raise
    reader = ShardReader(path)
    return writer, {number for number, line in latest(contents.lines).items() if _is_whole(reader, line)}


def _is_whole(reader: ShardReader, line: Mapping[str, Any]) -> bool:
    try:
        reader.check(line)
    except TraceError:
        return False
    return True
