"""Shares of seeds at which something is right, averaged over groups of seeds, with one bootstrap for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Shares:
    """What a curve is made of: at each point, the mean over its groups of the share of right seeds.

    Attributes
    ----------
    name : str
        Of the curve.
    groups : list of (array (point, seed), array (seed,))
        Which seeds are right, and which belong to the group. For balanced accuracy the groups are the two classes.
    steps : list of int
        Step of each point.
    """

    name: str
    groups: list[tuple[Bools, Bools]]
    steps: list[int]

    @classmethod
    def balanced(cls, name: str, predicted: Bools, truth: Bools, steps: list[int]) -> "Shares":
        """Balanced accuracy of (point, seed) against (seed,): the mean of both classes' shares."""
        return cls(name, [(predicted == truth, truth == label) for label in (False, True)], steps)

    def draws(self, weights: Floats) -> Floats:
        """Values (draw, point) for weights (draw, seed)."""
        parts = [
            weights @ (right & member).T.astype(np.float64) / (weights @ member)[:, None]
            for right, member in self.groups
        ]
        return np.asarray(np.mean(parts, axis=0), np.float64)


def draw_seeds(shares: Sequence[Shares], count: int, *, resamples: int, seed: int) -> Floats:
    """Weights (1 + resamples, seed): the sample itself, then bootstrap draws, each with a seed of every group.

    Draws that lack a group are drawn again: without a class there is no balanced accuracy. With at least four seeds
    in each group that is fewer than one draw in fifty a group.
    """
    members = np.stack([member for part in shares for _, member in part.groups]).astype(np.float64)
    rng = np.random.default_rng(seed)
    kept = np.ones((1, count))
    while len(kept) <= resamples:
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)
        kept = np.concatenate([kept, drawn[(drawn @ members.T > 0).all(1)]])
    return kept[: resamples + 1]
