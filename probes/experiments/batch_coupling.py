"""Whether the result for one sample depends on the others of its batch, and how strongly.

    def draw(seeds, rows):
        return sample(denoiser, seeds=seeds, condition=labels[rows], rule=rule, batch=len(seeds)).samples

    found = batch_coupling(draw, seeds=range(8))
    found.change, found.floor, found.couples                 # one value a sample

The others are exchanged where they stand, so that rounding stays as it is: what is left is what they do. They are so in
twice as many batches as the number of samples has binary digits, which exchange any one without any other. Beside it
stands what would be no coupling: the same batch once more, and every sample of it twice, whose kernels may round in
another way while means, norms and deviations over the batch are what they were. The samples in another order, or each
alone, would not do: there a coupling changes the result itself.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError

MARGIN = 3.0  # times the floor, from which a change counts
OTHER_SEEDS = 1_000_003  # seeds of those that take the others' places are so much further on

Batches = Callable[[list[int], list[bool]], Sequence[Tensor]]
"""(samples in their order, which are exchanged) to results, each with one row a sample."""


@displayed
@checked
@dataclass(frozen=True)
class Coupling:
    """What the other samples of a batch do to the result of each.

    Attributes
    ----------
    change : ndarray, shape (n,)
        |other - result| / |result|, the largest over batches with others exchanged; NaN where a sample is alone, or a
        result is not finite.
    floor : ndarray, shape (n,)
        The same without exchanging any: from call to call, and by rounding in a batch of twice the size.
    """

    change: NDArray[np.float64]
    floor: NDArray[np.float64]

    @property
    def couples(self) -> NDArray[np.bool_]:
        """Whether the change is more than three times its floor."""
        return self.change > MARGIN * self.floor


@checked
def batch_coupling(
    draw: Callable[[list[int], list[int]], Tensor], *, seeds: Sequence[int], rounding: float = 1e-2
) -> Coupling:
    """How much the samples that a model, a rule or a whole pipeline makes depend on those beside them.

    Parameters
    ----------
    draw : callable
        (seeds, rows) to samples (n, *shape) made in one batch; `rows` say which conditions they have, counted from 0.
        What is drawn for a sample must come from its seed: in a pipeline a list of generators, one a sample.
    seeds : sequence of int
        One a sample, two or more.
    rounding : float
        The most that rounding is taken to do, relative to a sample: what differs more in a batch of twice the size is
        no rounding (a sum over the batch, for instance). Half precision over many steps may need more.

    Returns
    -------
    Coupling

    Raises
    ------
    InputError
        For fewer than two seeds, or results that are not one a sample.
    """
    seeds = [int(seed) for seed in seeds]
    if len(seeds) < 2:
        raise InputError("seeds", found=f"{len(seeds)}", expected="two or more: samples with others beside them")

    def run(rows: list[int], exchanged: list[bool]) -> list[Tensor]:
        drawn = draw([seeds[k] + OTHER_SEEDS * exchanged[k] for k in rows], rows)
        if len(drawn) != len(rows):
            raise InputError("draw", found=f"{len(drawn)} samples", expected=f"{len(rows)}, one a seed")
        return [drawn.detach()]

    rows = list(range(len(seeds)))
    return couplings(run, run(rows, [False] * len(rows)), rounding=rounding)[0]


def couplings(run: Batches, plain: Sequence[Tensor], *, rounding: float) -> list[Coupling]:
    """The coupling in each of several results of the same batch, one a step of a path for instance.

    Parameters
    ----------
    run : callable
        Makes the results anew.
    plain : sequence of Tensor, shape (n, ...)
        `run` of all samples in their order, none exchanged.
    rounding : float
        As for `batch_coupling`.
    """
    count = len(plain[0])
    if count < 2:
        alone = np.full(count, np.nan)
        return [Coupling(alone, alone) for _ in plain]
    rows, none = list(range(count)), [False] * count
    again, twice = run(rows, none), run(rows + rows, none + none)
    floors = [_floor(*results, rounding) for results in zip(plain, again, twice, strict=True)]
    changes = [np.zeros(count) for _ in plain]
    for exchanged in _exchanges(count):
        for step, other in enumerate(run(rows, exchanged)):
            found = np.maximum(changes[step], _relative(other, plain[step]))
            changes[step] = np.where(exchanged, changes[step], found)
    return [Coupling(change, floor) for change, floor in zip(changes, floors, strict=True)]


def _exchanges(count: int) -> Iterator[list[bool]]:
    """Which samples are exchanged: for any two, once the one without the other."""
    for digit in range((count - 1).bit_length()):
        for value in (0, 1):
            yield [k >> digit & 1 == value for k in range(count)]


def _floor(result: Tensor, again: Tensor, twice: Tensor, rounding: float) -> NDArray[np.float64]:
    """What a result differs by from call to call, or in a batch of twice the size as far as that can be rounding."""
    least = torch.finfo(result.dtype).eps if result.is_floating_point() else 0.0
    size = np.clip(_relative(twice[: len(result)], result), least, rounding)
    return np.maximum(_relative(again, result), size)


def _relative(other: Tensor, result: Tensor) -> NDArray[np.float64]:
    """|other - result| / |result| of each sample; 0 where both are 0."""
    result = result.double().flatten(1)
    change = (other.double().flatten(1) - result).norm(dim=1)
    relative = torch.where(change == 0, 0.0, change / result.norm(dim=1))
    return relative.cpu().numpy().astype(np.float64)
