"""Sampling whose condition changes at a noise level: A above it, A' from there on, with the same noise.

    switched = SwitchingDenoiser(denoiser)
    switched.sample(labels, other, at=1.0, seeds=range(64))        # A above sigma 1, A' from 1 on
    switched.sample(labels, other, at=math.inf, seeds=range(64))   # A' all along

What was predicted above the switch is the same for every switch, so that with `reuse` it is computed once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.sampling.kept_predictions import KeptPredictions
from scorescope.probes.sampling.sample import Run, sample

ABOVE, BELOW = "above", "below"


@displayed
@checked
@dataclass
class SwitchingDenoiser:
    """Runs a denoiser under one condition above a noise level and under another from there on.

    Attributes
    ----------
    denoiser : Denoiser
        The model; its result may depend on nothing but its arguments.
    reuse : bool
        Keep every prediction under the first condition and use it again, where another run comes by the same state:
        see `KeptPredictions`. Changes no result. Let go of when other seeds are sampled.
    """

    denoiser: Denoiser
    reuse: bool = True
    _at: float = 0.0
    _seeds: list[int] = field(default_factory=list)
    _kept: KeptPredictions = field(init=False)

    def __post_init__(self) -> None:
        self._kept = KeptPredictions(self.denoiser)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """That of the denoiser, if it tells."""
        return getattr(self.denoiser, "shape", None)

    def sample(self, above: Condition, below: Condition, *, at: float, seeds: Sequence[int], **options: Any) -> Run:
        """Sample as `probes.sample` does, under `above` at noise levels above `at` and under `below` from there on.

        Parameters
        ----------
        above, below : Condition
            One row a sample.
        at : float
            Highest noise level of `below`; infinity for `below` all along, 0 for `above` all along.
        seeds : sequence of int
        **options
            Further arguments of `sample`.

        Raises
        ------
        InputError
            For a missing condition, a noise level below zero, and as `sample` does.
        """
        if not at >= 0:
            raise InputError("at", found=str(at), expected="a noise level of at least 0")
        if above is None or below is None:
            raise InputError("above, below", found="None", expected="two conditions, of one row a sample")
        if check := getattr(self.denoiser, "check_condition", None):
            check(above, len(seeds)), check(below, len(seeds))
        if self._seeds != [int(seed) for seed in seeds]:  # no state of theirs will come by again
            self._seeds = [int(seed) for seed in seeds]
            self._kept.forget()
        self._at = at
        return sample(self, seeds=seeds, condition={ABOVE: above, BELOW: below}, **options)

    def __call__(self, x: Tensor, sigma: Tensor, condition: Condition, /) -> Tensor:
        """The denoiser under the condition of this noise level."""
        if condition is None:
            return self.denoiser(x, sigma, None)
        if bool(sigma[0] <= self._at):  # as tensors: the level may have been rounded to the dtype of x
            return self.denoiser(x, sigma, condition[BELOW])
        return (self._kept if self.reuse else self.denoiser)(x, sigma, condition[ABOVE])
