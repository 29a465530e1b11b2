"""A solver that chooses its own steps: the path that others are held against.

    fine = run_path(denoiser, x, sigmas, solver=RungeKutta(rtol=1e-10))

The whole batch is one system of `scipy.integrate.solve_ivp`, on the host and in float64.
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


@checked
@dataclass(frozen=True)
class RungeKutta:
    """Embedded Runge-Kutta steps in ln sigma, as many as the tolerance asks for.

    Attributes
    ----------
    rtol, atol : float
        Tolerances of a step, relative and in units of the data; of the root mean square over the whole batch, so that
        one sample's error may be larger. Below 1e-6 the denoiser has to be computed in float64.
    method : {"DOP853", "RK45"}
        Dormand and Prince's pairs of order 8 and 5.

    Notes
    -----
    Of dx / d ln sigma = x - D. A last step to 0 is the prediction at the level before it, as in other solvers.
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
