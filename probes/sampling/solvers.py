"""Solvers of the probability-flow equation dx/dsigma = (x - D(x, sigma)) / sigma, and of its stochastic kin.

Each is a frozen dataclass whose `run` walks down the noise levels and asks `evaluate` for the guided
denoised prediction. They know nothing of guidance, conditions or recording.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError


class Evaluate(Protocol):
    """The guided denoised prediction at a state.

    An object with an attribute `reference`, the unconditional prediction of the latest call or None, also serves
    `EulerRenoised`.
    """

    def __call__(self, x: Tensor, *, sigma: float, sigma_next: float, step: int, call: int) -> Tensor:
        """D at (x, sigma), in step `step`, as its `call`-th prediction."""
        ...


class Solver(Protocol):
    """Walks from the first noise level to the last."""

    def run(self, evaluate: Evaluate, x: Tensor, sigmas: Sequence[float], noise: Callable[[], Tensor]) -> Tensor:
        """Integrate.

        Parameters
        ----------
        evaluate : callable
            Gives the denoised prediction.
        x : Tensor, shape (batch, *shape)
            State at sigmas[0].
        sigmas : sequence of float
            Falling noise levels.
        noise : callable
            Gives fresh standard normal noise shaped like x.

        Returns
        -------
        Tensor, shape (batch, *shape)
            State at sigmas[-1].
        """
        ...


@dataclass(frozen=True)
class Euler:
    """First order: one prediction a step. DDIM in the variance-exploding convention."""

    def run(self, evaluate: Evaluate, x: Tensor, sigmas: Sequence[float], noise: Callable[[], Tensor]) -> Tensor:
        """See `Solver.run`."""
        for step, (sigma, after) in enumerate(itertools.pairwise(sigmas)):
            denoised = evaluate(x, sigma=sigma, sigma_next=after, step=step, call=0)
            x = x + (after - sigma) / sigma * (x - denoised)
        return x


@dataclass(frozen=True)
class EulerRenoised:
    """First order, re-noised by the unconditional prediction: x' = D + sigma' (x - D_u) / sigma.

    With the rule `CFG(lambda)` this is CFG++ as written (Chung et al. 2025, arXiv 2406.08070, algorithm 2). The
    unconditional branch is computed at every step, also where the rule does without (lambda = 1).
    """

    needs_reference: ClassVar[bool] = True

    def run(self, evaluate: Evaluate, x: Tensor, sigmas: Sequence[float], noise: Callable[[], Tensor]) -> Tensor:
        """See `Solver.run`."""
        for step, (sigma, after) in enumerate(itertools.pairwise(sigmas)):
            guided = evaluate(x, sigma=sigma, sigma_next=after, step=step, call=0)
            reference: Tensor | None = getattr(evaluate, "reference", None)
            if reference is None:
                expected = "one that computes the unconditional branch at every step"
                raise InputError("rule", found="no unconditional prediction to re-noise with", expected=expected)
            x = torch.lerp(guided, guided + (x - reference), after / sigma)
        return x


@checked
@dataclass(frozen=True)
class Heun:
    """Second order, two predictions a step but for a last one to 0 (Karras et al. 2022, algorithms 1 and 2).

    Attributes
    ----------
    churn : float
        S_churn: how much noise is added back, over all steps; 0 is the deterministic algorithm 1.
    churn_min, churn_max : float
        S_tmin, S_tmax: noise levels between which it is added.
    churn_noise : float
        S_noise: standard deviation of the noise that is added.
    """

    churn: float = 0.0
    churn_min: float = 0.0
    churn_max: float = float("inf")
    churn_noise: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.churn < float("inf"):
            raise InputError("churn", found=str(self.churn), expected="a finite S_churn >= 0")
        if not 0 <= self.churn_min <= self.churn_max or not 0 <= self.churn_noise < float("inf"):
            found = f"{self.churn_min}, {self.churn_max}, {self.churn_noise}"
            expected = "0 <= churn_min <= churn_max and a finite churn_noise >= 0"
            raise InputError("churn_min, churn_max, churn_noise", found=found, expected=expected)

    def run(self, evaluate: Evaluate, x: Tensor, sigmas: Sequence[float], noise: Callable[[], Tensor]) -> Tensor:
        """See `Solver.run`."""
        gamma = min(self.churn / (len(sigmas) - 1), math.sqrt(2) - 1)
        for step, (sigma, after) in enumerate(itertools.pairwise(sigmas)):
            if gamma and self.churn_min <= sigma <= self.churn_max:
                raised = sigma * (1 + gamma)
                x = x + math.sqrt(raised**2 - sigma**2) * self.churn_noise * noise()
                sigma = raised
            slope = (x - evaluate(x, sigma=sigma, sigma_next=after, step=step, call=0)) / sigma
            euler = x + (after - sigma) * slope
            if after > 0:
                slope_after = (euler - evaluate(euler, sigma=after, sigma_next=after, step=step, call=1)) / after
                x = x + (after - sigma) / 2 * (slope + slope_after)
            else:
                x = euler
        return x


@dataclass(frozen=True)
class DPMSolverPP2M:
    """DPM-Solver++ (2M), second order with one prediction a step (Lu et al. 2022, arXiv 2211.01095, alg. 2)."""

    uses_history: ClassVar[bool] = True

    def run(self, evaluate: Evaluate, x: Tensor, sigmas: Sequence[float], noise: Callable[[], Tensor]) -> Tensor:
        """See `Solver.run`."""
        earlier: Tensor | None = None
        width_before = 0.0
        for step, (sigma, after) in enumerate(itertools.pairwise(sigmas)):
            denoised = evaluate(x, sigma=sigma, sigma_next=after, step=step, call=0)
            width = math.log(sigma / after) if after > 0 else math.inf
            target = denoised
            if earlier is not None and after > 0:
                target = denoised + width / (2 * width_before) * (denoised - earlier)
            x = after / sigma * x - math.expm1(-width) * target
            earlier, width_before = denoised, width
        return x
