"""What a codec leaves of stored activations, level by level: sums over rows, by groups of images, in one more pass.

Everything is summed in double precision. Images are gathered in at most `GROUPS` groups, of which intervals are drawn:
memory does not grow with the number of images.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from scorescope.analysis.statistics.arrays import Floats
from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.probes.activations import StoredActivations
from scorescope.probes.sparse import Bands, Codec, codec_at

GROUPS = 256
_ROWS = 8192  # that are encoded at once


@displayed
@dataclass(eq=False)
class LevelSums:
    """Sums of one noise level.

    Attributes
    ----------
    mean : Tensor, shape (channel,)
        Of all rows.
    count, error, total, active : array, shape (group,)
        Rows; squared error; squared distance from the mean; codes that are not 0.
    residual, residual_square, value, value_square : array, shape (group, channel)
        Of the error and of the rows less their mean.
    fires, codes : array, shape (feature,)
        Rows in which each feature is active, and the sum of its codes.
    """

    mean: Tensor
    groups: int
    count: Floats = field(init=False)
    error: Floats = field(init=False)
    total: Floats = field(init=False)
    active: Floats = field(init=False)
    residual: Floats = field(init=False)
    residual_square: Floats = field(init=False)
    value: Floats = field(init=False)
    value_square: Floats = field(init=False)
    fires: Floats = field(default_factory=lambda: np.zeros(0))
    codes: Floats = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        for name in ("count", "error", "total", "active"):
            setattr(self, name, np.zeros(self.groups))
        for name in ("residual", "residual_square", "value", "value_square"):
            setattr(self, name, np.zeros((self.groups, len(self.mean))))

    def add(self, codec: Codec, rows: Tensor, group: Tensor) -> None:
        """Add rows (n, channel) of groups (n,)."""
        codes = codec.encode(rows)
        decoded = codec.decode(codes).to(rows)
        if decoded.shape != rows.shape:
            found = f"one that decodes to {tuple(decoded.shape[1:])}"
            raise InputError("codec", found=found, expected=f"one of the site's width, {tuple(rows.shape[1:])}")
        residual = (rows - decoded).double()
        value, fires = rows.double() - self.mean, codes != 0
        if not len(self.fires):
            self.fires, self.codes = np.zeros(codes.shape[1]), np.zeros(codes.shape[1])
        self.fires += fires.sum(0).double().numpy()
        self.codes += codes.double().sum(0).numpy()
        for name, what in (
            ("count", torch.ones(len(rows))), ("error", residual.square().sum(1)), ("total", value.square().sum(1)),
            ("active", fires.sum(1)), ("residual", residual), ("residual_square", residual.square()),
            ("value", value), ("value_square", value.square()),
        ):  # fmt: skip
            into = torch.from_numpy(getattr(self, name))
            into.index_add_(0, group, what.double())


@torch.no_grad()
def level_sums(codec: Codec | Bands, stored: StoredActivations, site: str) -> list[LevelSums]:
    """Sums of every noise level."""
    groups = min(GROUPS, int(stored.manifest["images"]))
    width = stored.width(site)
    sums, counts = torch.zeros(len(stored.sigmas), width, dtype=torch.float64), torch.zeros(len(stored.sigmas))
    for level, rows, _ in _by_level(stored, site):
        sums[level] += rows.double().sum(0)
        counts[level] += len(rows)
    found = [LevelSums(sums[level] / counts[level], groups) for level in range(len(stored.sigmas))]
    for level, rows, image in _by_level(stored, site):
        own = codec_at(codec, stored.sigmas[level])
        for part, of in zip(rows.split(_ROWS), image.split(_ROWS), strict=True):
            found[level].add(own, part, of % groups)
    return found


def _by_level(stored: StoredActivations, site: str) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Rows of one shard and level, with the image of each."""
    steps, images = (torch.tensor(stored.index[name].to_numpy()).long() for name in ("step", "image"))
    for piece, start in zip(stored.pieces(site), stored.starts(), strict=False):
        part = slice(start, start + len(piece))
        for level in steps[part].unique().tolist():
            chosen = (steps[part] == level).nonzero()[:, 0]
            rows = piece[chosen].float().flatten(0, 1)
            yield level, rows, images[part][chosen].repeat_interleave(piece.shape[1])
