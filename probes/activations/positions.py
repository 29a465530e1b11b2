"""How one evaluation's activation lies on disk: positions by channels, all of them, some that were drawn, or one mean.

    Positions(16, seed=0)                       # 16 positions of each evaluation, drawn anew for each
    by_position(activation, "whole")            # (batch, channel, y, x) -> (batch, y * x, channel)

Positions are drawn by (seed, image, draw, level) alone: not by batches, or by what was drawn before.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.sites.modules import Pool, pool


@checked
@dataclass(frozen=True)
class Positions:
    """Some positions of a map, or tokens, drawn without replacement in each evaluation.

    Attributes
    ----------
    count : int
        How many; all, where there are no more.
    seed : int
        Of the draws.
    """

    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or self.seed < 0:
            raise InputError("count, seed", found=f"{self.count}, {self.seed}", expected="count >= 1 and seed >= 0")

    def draw(self, positions: int, image: int, draw: int, level: int) -> Tensor:
        """Places among so many positions, rising, (count,) int64."""
        key = np.random.default_rng([self.seed, image, draw, level])
        return torch.from_numpy(np.sort(key.choice(positions, min(self.count, positions), replace=False)))


Kept = Pool | Positions


def by_position(activation: Tensor, how: Kept) -> Tensor:
    """A batch of activations as (batch, position, channel), reduced as `how` says, all positions where some are drawn.

    Positions of maps come row by row, cells of a grid too; a site without positions has one.
    """
    if not isinstance(how, Positions) and how != "whole":
        reduced = pool(activation, how)
        cells = 1 if isinstance(how, str) else how * how
        return reduced.reshape(len(reduced), -1, cells).transpose(1, 2)
    if activation.ndim == 3:
        return activation
    return activation.flatten(2).transpose(1, 2) if activation.ndim > 3 else activation[:, None]


def inner_shape(activation: Tensor, how: Kept) -> list[int]:
    """The axes of the positions of one evaluation: (y, x), (token,), cells of a grid, or none."""
    if not isinstance(how, Positions) and how != "whole":
        return [] if isinstance(how, str) else [how, how]
    return list(activation.shape[1:2] if activation.ndim == 3 else activation.shape[2:])


def as_collected(values: Tensor, how: Kept, *, tokens: bool) -> Tensor:
    """(batch, position, channel) as `collect` has it in memory, (batch, d): of maps channels vary slowest."""
    flat = values if tokens and how == "whole" else values.transpose(1, 2)
    return flat.reshape(len(values), math.prod(values.shape[1:]))
