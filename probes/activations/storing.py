"""Activations that go to disk, cut into shards: what a shard holds, and its arrays, filled while they are computed.

Shard number k holds the k-th run of noisy batches of a bank, of samples, or of recorded steps. `planned` writes them.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.probes.activations.positions import Kept, Positions, by_position, inner_shape
from scorescope.probes.activations.stored_fields import DTYPES, INDEX
from scorescope.probes.bank.points import Bank, Point

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


class Filled:
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
