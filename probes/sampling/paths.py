"""The states that a sampler passes through, and what the denoiser said there.

    path = run_path(denoiser, x, edm_sigmas(60)[:-1])
    path.states[i], path.denoised[i]            # at path.sigmas[i]

For analyses of paths: everything is kept, (levels, batch, *shape) twice. `sample` draws samples without that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate
from scorescope.probes.models.noise import check_sigmas
from scorescope.probes.sampling.solvers import Heun, Solver


@displayed
@checked
@dataclass(frozen=True)
class Path:
    """Where a batch of samples went.

    Attributes
    ----------
    sigmas : tuple of float
        Noise levels, falling, without a final 0.
    states, denoised : Tensor, shape (levels, batch, *shape)
        State and denoised prediction at each level.
    end : Tensor, shape (batch, *shape)
        State at the last level that was asked for (0 included).
    calls : int
        Denoiser calls a sample that the solver needed.
    missing : tuple of str
        Why state or prediction are not known (NaN), one text a level, empty where they are; none where all are known.
    resolution : float
        Relative rounding of states and predictions as a network or a record had them; 0 where it is that of their type.
    """

    sigmas: tuple[float, ...]
    states: Tensor
    denoised: Tensor
    end: Tensor
    calls: int
    missing: tuple[str, ...] = ()
    resolution: float = 0.0

    def thinned(self, every: int) -> "Path":
        """The same path at every so many of its levels, from the first on."""
        part = slice(None, None, every)
        kept = {name: getattr(self, name)[part] for name in ("sigmas", "states", "denoised", "missing")}
        return replace(self, **kept)


@checked
@torch.no_grad()
def run_path(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    condition: Condition = None,
    solver: Solver | None = None,
) -> Path:
    """Integrate the probability flow from x and keep every state.

    Parameters
    ----------
    denoiser : Denoiser
        The model; called once for the whole batch.
    x : Tensor, shape (batch, *shape)
        State at sigmas[0], variance exploding.
    sigmas : sequence of float
        Falling noise levels, the last may be 0.
    condition : optional
        One row a sample.
    solver : Solver, optional
        A deterministic one; by default `Heun()`.

    Raises
    ------
    InputError
        For levels that do not fall, predictions that do not fit, or a path that is not finite.
    """
    check_sigmas(sigmas)
    states: list[Tensor] = []
    denoised: list[Tensor] = []
    calls = 0

    def guided(x: Tensor, *, sigma: float, sigma_next: float, step: int, call: int) -> Tensor:
        nonlocal calls
        calls += 1
        levels = torch.full((len(x),), sigma, dtype=x.dtype, device=x.device)
        prediction = evaluate(denoiser, x, levels, condition, branch="cond")
        if call == 0:
            states.append(x)
            denoised.append(prediction)
        return prediction

    end = (solver or Heun()).run(guided, x, sigmas, _no_noise)
    needed = calls
    if sigmas[-1] > 0:
        guided(end, sigma=sigmas[-1], sigma_next=sigmas[-1], step=len(sigmas) - 1, call=0)
    _check_finite(end)
    visited = tuple(sigma for sigma in sigmas if sigma > 0)
    return Path(visited, torch.stack(states), torch.stack(denoised), end, needed)


def _no_noise() -> Tensor:
    raise InputError("solver", found="a solver that adds noise", expected="a deterministic solver: paths are compared")


@checked
@torch.no_grad()
def run_to_end(
    denoiser: Denoiser, x: Tensor, sigmas: Sequence[float], *, condition: Condition = None, solver: Solver | None = None
) -> tuple[Tensor, int]:
    """Where the probability flow from x ends, and the denoiser calls a sample that it took; nothing else is kept.

    Parameters, order and errors are those of `run_path`.
    """
    check_sigmas(sigmas)
    calls = 0

    def guided(x: Tensor, *, sigma: float, sigma_next: float, step: int, call: int) -> Tensor:
        nonlocal calls
        calls += 1
        levels = torch.full((len(x),), sigma, dtype=x.dtype, device=x.device)
        return evaluate(denoiser, x, levels, condition, branch="cond")

    end = (solver or Heun()).run(guided, x, sigmas, _no_noise)
    _check_finite(end)
    return end, calls


def _check_finite(end: Tensor) -> None:
    if not bool(torch.isfinite(end).all()):
        raise InputError("denoiser", found="a path with NaN or infinite values", expected="finite predictions")
