"""Solvers of high order: the paths that others are held against.

    fine = run_path(denoiser, x, sigmas, solver=RungeKutta(rtol=1e-10))       # chooses its own steps
    end, calls = run_to_end(denoiser, x, fine_grid, solver=RungeKutta4())     # takes those given, anywhere

A last step to 0 is the prediction at the level before it, as in other solvers.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import scipy
import torch
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.sampling.solvers import Evaluate


@dataclass(frozen=True)
class RungeKutta4:
    """The classical method of order 4 in sigma, four predictions a step: exact where a prediction does not change."""

    def run(self, evaluate: Evaluate, x: Tensor, sigmas: Sequence[float], noise: Callable[[], Tensor]) -> Tensor:
        """See `Solver.run`."""
        for step, (sigma, after) in enumerate(itertools.pairwise(sigmas)):
            if after == 0:
                return evaluate(x, sigma=sigma, sigma_next=0.0, step=step, call=0)
            slopes, state = [], x
            for call, (level, weight) in enumerate(_STAGES):
                at = sigma + level * (after - sigma)
                denoised = evaluate(state, sigma=at, sigma_next=after, step=step, call=call)
                slopes.append((state - denoised) / at)
                state = x + weight * (after - sigma) * slopes[-1]
            first, second, third, last = slopes
            x = x + (after - sigma) / 6 * (first + 2 * second + 2 * third + last)
        return x


_STAGES = ((0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (1.0, 0.0))  # where it is asked, and how far from there it goes on


@checked
@dataclass(frozen=True)
class RungeKutta:
    """Embedded Runge-Kutta steps in ln sigma, as many as the tolerance asks for.

    The whole batch is one system of `scipy.integrate.solve_ivp`, on the host and in float64.

    Attributes
    ----------
    rtol, atol : float
        Tolerances of a step, relative and in units of the data; of the root mean square over the whole batch, so that
        one sample's error may be larger. Below 1e-6 the denoiser has to be computed in float64.
    method : {"DOP853", "RK45"}
        Dormand and Prince's pairs of order 8 and 5.
    """

    rtol: float = 1e-6
    atol: float = 1e-9
    method: Literal["DOP853", "RK45"] = "DOP853"

    def __post_init__(self) -> None:
        if not 0 < self.rtol < 1 or not 0 <= self.atol < math.inf:
            raise InputError("rtol, atol", found=f"{self.rtol}, {self.atol}", expected="0 < rtol < 1, 0 <= atol")

    def run(self, evaluate: Evaluate, x: Tensor, sigmas: Sequence[float], noise: Callable[[], Tensor]) -> Tensor:
        """See `Solver.run`."""
        for step, (sigma, after) in enumerate(itertools.pairwise(sigmas)):
            if after == 0:
                return evaluate(x, sigma=sigma, sigma_next=0.0, step=step, call=0)
            x = self._across(evaluate, x, sigma, after, step)
        return x

    def _across(self, evaluate: Evaluate, x: Tensor, sigma: float, after: float, step: int) -> Tensor:
        """The state at the next level."""
        calls = itertools.count()

        def slope(log_sigma: float, flat: Any) -> Any:
            state = torch.as_tensor(flat).reshape(x.shape).to(x)
            call = next(calls)
            level = sigma if call == 0 else math.exp(log_sigma)
            denoised = evaluate(x if call == 0 else state, sigma=level, sigma_next=after, step=step, call=call)
            return (state - denoised).double().flatten().cpu().numpy()

        span, start = (math.log(sigma), math.log(after)), x.double().flatten().cpu().numpy()
        found = scipy.integrate.solve_ivp(slope, span, start, method=self.method, rtol=self.rtol, atol=self.atol)
        if not found.success:
            raise InputError("denoiser", found=f"a path that {self.method} cannot follow", expected="a smooth one")
        return torch.as_tensor(found.y[:, -1]).reshape(x.shape).to(x)
