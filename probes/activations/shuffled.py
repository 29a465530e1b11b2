"""Rows of stored activations in random order, over all shards, each once an epoch.

    rows = ShuffledRows(stored, "network.middle1", batch=4096, seed=0)
    for batch in rows:                                  # (4096, channels) float32
        ...
    rows.epoch(3)                                       # the batches of another epoch, the same whenever asked for
    torch.utils.data.DataLoader(rows, batch_size=None)  # it is a Dataset

Short runs of neighbouring rows are read in random order into a pool of many runs, and batches are drawn from the pool.
So reading stays nearly sequential, and a batch has rows from all over the disk. Memory holds the pool and a batch.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.activations.stored import StoredActivations

RUN, POOL = 2**18, 2**26  # bytes


@checked
class ShuffledRows(IterableDataset[Tensor]):
    """Batches of a site's rows, (batch, channel) float32; a row is one position of one evaluation.

    Parameters
    ----------
    stored : StoredActivations
        The activations.
    site : str
        Whose.
    batch : int
        Rows a batch; the last one may be smaller.
    seed : int
        Of the order; each epoch has its own.
    levels : sequence of int, optional
        Noise levels, by their place in `stored.sigmas`; all by default.
    run : int, optional
        Rows that are read together, and lie side by side; by default 256 kB of them.
    pool : int, optional
        Rows from which batches are drawn; by default four batches, or 64 MB of rows if that is more.

    Raises
    ------
    InputError
        For a site that was not stored, sizes below 1, and levels that hold nothing.
    """

    def __init__(
        self, stored: StoredActivations, site: str, *, batch: int = 4096, seed: int = 0,
        levels: Sequence[int] | None = None, run: int | None = None, pool: int | None = None,
    ) -> None:  # fmt: skip
        if min(size for size in (batch, run, pool) if size is not None) < 1:
            raise InputError("batch, run, pool", found=f"{batch}, {run}, {pool}", expected="at least 1")
        self.stored, self.site, self.batch, self.seed = stored, site, batch, seed
        row = stored.rows_like(site, 1).nbytes
        self.run, self.pool = run or max(1, RUN // row), max(batch, pool or max(4 * batch, POOL // row))
        self.width = stored.width(site)
        self._runs = _runs(stored, site, levels, self.run)
        self._passes = 0
        if not len(self._runs):
            raise InputError("levels", found=str(levels), expected=f"levels among {len(stored.sigmas)}, with rows")

    @property
    def rows(self) -> int:
        """Rows of an epoch."""
        return int((self._runs[:, 2] - self._runs[:, 1]).sum())

    def __len__(self) -> int:
        return -(-self.rows // self.batch)

    def __iter__(self) -> Iterator[Tensor]:
        self._passes += 1
        return self.epoch(self._passes - 1)

    def epoch(self, number: int) -> Iterator[Tensor]:
        """The batches of one epoch; of a worker of a `DataLoader` its share of them."""
        generator = np.random.default_rng([self.seed, number])
        runs = self._runs[generator.permutation(len(self._runs))]
        worker = torch.utils.data.get_worker_info()
        if worker is not None:
            runs = runs[worker.id :: worker.num_workers]
        held, pool = 0, self.stored.rows_like(self.site, min(self.rows, self.pool + self.run) + self.batch)
        room = self.stored.rows_like(self.site, self.batch)
        for chunk in _chunks(runs, self.pool):
            for shard, start, stop in chunk:
                self.stored.read_rows(self.site, int(shard), pool[held : held + stop - start], start=int(start))
                held += int(stop - start)
            order = torch.from_numpy(generator.permutation(held))
            held %= self.batch
            for chosen in order[: len(order) - held].split(self.batch):
                yield _gathered(pool, chosen, room)
            pool[:held] = pool[order[len(order) - held :]]
        if held:
            yield pool[:held].to(torch.float32, copy=True)


def _gathered(pool: Tensor, chosen: Tensor, room: Tensor) -> Tensor:
    """Rows in float32, a new tensor; those of other types are gathered where there is room already."""
    if pool.dtype == torch.float32:
        return pool.index_select(0, chosen)
    return torch.index_select(pool, 0, chosen, out=room[: len(chosen)]).float()


def _runs(stored: StoredActivations, site: str, levels: Sequence[int] | None, run: int) -> NDArray[np.int64]:
    """Runs of rows of one level, (run, 3): shard, first row, row after the last."""
    positions, starts = stored.positions(site), stored.starts()
    step, found = stored.index["step"].to_numpy(), []
    for shard, (first, end) in enumerate(pairwise(starts)):
        cuts = np.flatnonzero(np.diff(step[first:end], prepend=-1, append=-1))
        for a, b in pairwise(cuts):
            if levels is None or int(step[first + a]) in levels:
                begins = np.arange(a * positions, b * positions, run)
                ends = np.minimum(begins + run, b * positions)
                found.append(np.stack([np.full(len(begins), shard), begins, ends], axis=1))
    return np.concatenate(found) if found else np.empty((0, 3), np.int64)


def _chunks(runs: NDArray[np.int64], pool: int) -> Iterator[NDArray[np.int64]]:
    """Runs in their order, about `pool` rows at a time."""
    ends = np.cumsum(runs[:, 2] - runs[:, 1])
    cuts = np.flatnonzero(np.diff((ends - 1) // pool, prepend=-1))
    yield from (part for part in np.split(runs, cuts) if len(part))
