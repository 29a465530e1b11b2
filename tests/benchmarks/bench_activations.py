"""Activations on disk: writing against plain shards, shuffled reading against sequential, and the memory of both.

The network is a stand-in that puts out (batch, 1280, 8, 8) and computes next to nothing. The size is 1 GB, or
`SCORESCOPE_BENCH_GB`; above 2 GB everything is done once, and needs three times the size on disk.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from scorescope.probes.activations import Positions, ShuffledRows, StoredActivations, collect
from scorescope.probes.bank import Bank, log_snr_grid
from tests.benchmarks.timing import seconds

SITE, CHANNELS, LEVELS, SHARD = "block", 1280, 10, 64 * 10**6
GB = float(os.environ.get("SCORESCOPE_BENCH_GB", "1"))
PAIRS = 3 if GB <= 2 else 1
ITEM = CHANNELS * 64 * 2  # bytes of an evaluation in half precision


class Wide(nn.Module):
    """(batch, 4, 8, 8) -> a site of 1280 channels."""

    shape = (4, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Identity()

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        put_out: Tensor = self.block(x.repeat(1, CHANNELS // 4, 1, 1).half())
        return put_out[:, :4].float()


def write(folder: Path, how: Positions | str) -> StoredActivations:
    images = max(1, int(GB * 1e9 / ITEM / LEVELS))
    bank = Bank(torch.randn(images, 4, 8, 8), log_snr_grid(-6, 6, LEVELS))
    return collect(Wide(), bank, {SITE: how}, path=folder, dtype="float16", shard=SHARD, batch=64)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writing(folder)
        reading(StoredActivations(folder / "stored"))
        once_an_epoch(StoredActivations(folder / "stored"))
    resident_memory()


def writing(folder: Path) -> None:
    """Ours and plain shards of the same bytes, in turn."""
    ours, plain = [], []
    for _ in range(PAIRS):
        for path in ("stored", "plain"):
            shutil.rmtree(folder / path, ignore_errors=True)
        ours.append(seconds(lambda: write(folder / "stored", "whole")))
        size = sum(file.stat().st_size for file in (folder / "stored" / "shards").iterdir())
        (folder / "plain").mkdir()
        plain.append(seconds(partial(plain_shards, folder / "plain", size)))
    ratios = [b / a for a, b in zip(ours, plain, strict=True)]
    print(
        f"writing {size / 1e9:.2f} GB: {size / 1e6 / statistics.median(ours):.0f} MB/s, plain synced shards "
        f"{size / 1e6 / statistics.median(plain):.0f} MB/s; median ratio of {PAIRS} pairs "
        f"{statistics.median(ratios):.2f} (asked for: 0.7)"
    )


def plain_shards(folder: Path, size: int) -> None:
    block = torch.randn(SHARD // 2 // CHANNELS, CHANNELS).half()
    for number in range(round(size / SHARD)):
        file = folder / f"{number}.safetensors"
        save_file({"block": block}, file)
        with open(file, "rb+") as opened:
            os.fsync(opened.fileno())


def reading(stored: StoredActivations) -> None:
    """Batches of 4096 rows in float32, in the order of the disk and shuffled; the files are in the system's cache."""

    starts = stored.starts()

    def in_order() -> None:
        for shard, (start, stop) in enumerate(pairwise(starts)):
            rows = stored.rows_like(SITE, (stop - start) * 64)
            stored.read_rows(SITE, shard, rows, start=0)
            for batch in rows.split(4096):
                batch.float().sum()

    def shuffled() -> None:
        for batch in ShuffledRows(stored, SITE, batch=4096).epoch(0):
            batch.sum()

    pairs = [(seconds(in_order), seconds(shuffled)) for _ in range(PAIRS + 1)][1:]
    ordered, mixed = (statistics.median(part) for part in zip(*pairs, strict=True))
    size = len(stored) * ITEM / 1e6
    print(
        f"reading: {size / ordered:.0f} MB/s in order, {size / mixed:.0f} MB/s shuffled; median ratio of {PAIRS} pairs "
        f"{statistics.median(a / b for a, b in pairs):.2f} (asked for: 0.7)"
    )


def once_an_epoch(stored: StoredActivations) -> None:
    """Bytes of each shard that an epoch of `train_sparse`'s batches reads, over those that it holds."""
    read, plain = [0] * (len(stored.starts()) - 1), stored.read_rows

    def counted(site: str, number: int, into: Tensor, *, start: int) -> None:
        read[number] += into.nbytes
        plain(site, number, into, start=start)

    stored.read_rows = counted  # type: ignore[method-assign]
    for _ in ShuffledRows(stored, SITE, batch=4096).epoch(1):
        pass
    shares = [count / ((b - a) * ITEM) for count, (a, b) in zip(read, pairwise(stored.starts()), strict=True)]
    print(
        f"an epoch reads {min(shares):.3f} to {max(shares):.3f} of the rows of each of {len(read)} shards (at most 1)"
    )


def resident_memory() -> None:
    """Peak memory of a process that writes and then reads shuffled, and of one that imports alone."""
    peaks = [float(subprocess.check_output([sys.executable, "-m", __name__, what])) for what in ("work", "import")]
    print(f"peak memory for {GB:g} GB written and read shuffled: {peaks[0]:.0f} MB, of which {peaks[1]:.0f} MB imports")
    print(f"growth: {peaks[0] - peaks[1]:.0f} MB (asked for: below 1000)")


def worker(what: str) -> None:
    if what == "work":
        with tempfile.TemporaryDirectory() as name:
            stored = write(Path(name) / "stored", "whole")
            for batch in ShuffledRows(stored, SITE, batch=4096).epoch(0):
                batch.sum()
    status = Path("/proc/self/status").read_text()
    print(int(status.partition("VmHWM:")[2].split()[0]) / 1e3)  # of this process alone, unlike `getrusage`


if __name__ == "__main__":
    worker(sys.argv[1])
