"""The noise level that the denoiser finds in states, against the one that it is told.

    table = effective_noise(denoiser, path, condition=labels)

For a perfect denoiser of states of its law E|x - D|^2 + sigma^2 tr J_D = d sigma^2, so the left side measures sigma^2.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.analysis.gaussian.jacobians import denoised_and_traces, generators
from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.intervals import skewed_mean_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.analysis.trajectories.path_products import known_levels
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.models.conditions import select_rows
from scorescope.probes.models.denoiser import Condition, Denoiser, sigma_range
from scorescope.probes.sampling import Path

Look = Callable[[float], tuple[Floats, Floats]]
"""A level that is told to |x - D|^2 / d and tr J_D / d there."""

EFFECTIVE_NOISE = Schema(
    "effective_noise",
    (
        Column("sigma", float, "data", "noise level that the run gives the state"),
        Column("n", int, "", "samples"),
        Column("residual", float, "1", "mean of |x - D|^2 / (d sigma^2) at that level: what the trace corrects"),
        Column("trace", float, "1", "mean of tr J_D / d at that level, by Hutchinson's probes"),
        Column("trace_error", float, "1", "standard error of that mean by the draw of the probes alone"),
        Column("ratio", float, "1", "estimated level over sigma, the denoiser told sigma"),
        Column("slope", float, "1", "change of the estimate for one of the level told, both in ln"),
        Column("level", float, "1", "level over sigma where the estimate is what was told; missing if slope > 0.98"),
        *ends("1", "of that level, over samples and probes, corrected for skewness", of="level"),
    ),
)  # fmt: skip
BELIEVES = 0.98  # slope above which the estimate says no more than it was told
STEP = 0.02  # of ln sigma, for the slope


@checked
def effective_noise(
    denoiser: Denoiser,
    path: Path,
    *,
    condition: Condition = None,
    iterations: int = 2,
    probes: int = 2,
    seed: int = 0,
    batch: int = 256,
    progress: bool = False,
) -> pd.DataFrame:
    """Effective noise level of states by the denoiser's residual and the trace of its Jacobian.

    Parameters
    ----------
    denoiser : Denoiser
        Differentiable in x.
    path : Path
        States and the levels that they are taken to be at, from `run_path` or `recorded_path`.
    condition : optional
        One row a sample.
    iterations : int
        Newton steps towards the level at which the estimate is what the denoiser was told. The estimate at the level of
        the run is a weak sensor: the denoiser takes noise beyond the level for signal, so that on a mixture with widths
        of 0.14 to 0.55 a state with 10 % too much reads 8 % at a level of 1, 3 % at 0.3, 0.3 % at 0.1.
    probes : int
        Random signs a state for the trace, at least 2: from their differences comes its error.
    seed : int
        Of the probes.
    batch : int
        States computed together.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DataFrame
        `EFFECTIVE_NOISE`: one row a known level. Levels told are within the denoiser's `sigma_range`.

    Raises
    ------
    InputError
        For fewer than 2 probes or 1 iteration, and a denoiser without a gradient.

    Notes
    -----
    Hutchinson 1990 for the trace. The interval is that of the estimate, widened by 1 / (1 - slope) as its error is.
    Each iteration takes two passes forward, and as many backward for each probe.
    """
    if probes < 2 or iterations < 1 or batch < 1:
        found = f"{probes}, {iterations}, {batch}"
        raise InputError("probes, iterations, batch", found=found, expected="at least 2, 1 and 1")
    path, _ = known_levels(path, least=1)
    least, most = sigma_range(denoiser)
    rows = []
    for states, sigma in zip(tqdm(path.states, disable=not progress, leave=False), path.sigmas, strict=True):

        def look(told: float, states: Tensor = states) -> tuple[Floats, Floats]:
            return _parts(denoiser, states, told, condition, probes, seed, batch)

        first = residual, traces = look(float(sigma))
        spread = np.sqrt(traces.var(0, ddof=1).mean() / traces.size)
        row = {"sigma": float(sigma), "n": len(states), "residual": residual.mean() / sigma**2, "trace": traces.mean()}
        known = least or 1e-6 * float(sigma), most
        rows.append({**row, "trace_error": spread, **_fixed_point(look, first, float(sigma), iterations, known)})
    return EFFECTIVE_NOISE.check(pd.DataFrame(rows))


def _fixed_point(
    look: Look, first: tuple[Floats, Floats], sigma: float, iterations: int, known: tuple[float, float]
) -> dict[str, float]:
    """Where the estimate is what was told, by Newton's steps in ln sigma, all on the same samples and probes."""
    told, found = sigma, dict[str, float]()
    for turn in range(iterations):
        squares = _squares(*(look(told) if turn else first), told)
        step = STEP if told * np.exp(STEP) <= known[1] else -STEP
        shifted = _squares(*look(told * np.exp(step)), told * np.exp(step))
        gap = 0.5 * np.log(squares.mean() / told**2)
        slope = 0.5 * float(np.log(shifted.mean() / squares.mean())) / step
        if not turn:
            found = {"ratio": float(np.sqrt(squares.mean())) / sigma, "slope": slope}
        if slope > BELIEVES:
            return found | dict.fromkeys(("level", "level_low", "level_high"), np.nan)
        ends_of_gap = [0.5 * np.log(np.maximum(end, 1e-300) / told**2) for end in skewed_mean_interval(squares)]
        level, low, high = (told * np.exp(one / (1 - slope)) / sigma for one in (gap, *ends_of_gap))
        told = float(np.clip(level * sigma, *known))
    return found | {"level": float(level), "level_low": float(low), "level_high": float(high)}


def _squares(residual: Floats, traces: Floats, told: float) -> Floats:
    """Squared noise level that each state shows."""
    found: Floats = residual + told**2 * traces.mean(0)
    return found


def _parts(
    denoiser: Denoiser, states: Tensor, sigma: float, condition: Condition, probes: int, seed: int, batch: int,
) -> tuple[Floats, Floats]:  # fmt: skip
    """|x - D|^2 / d of each state, and tr J_D / d by each probe, (probes, states)."""
    residuals, traces, drawing = [], [], generators(seed, len(states))
    for place in (slice(first, first + batch) for first in range(0, len(states), batch)):
        part, rows = states[place], select_rows(condition, place)
        denoised, drawn = denoised_and_traces(denoiser, part, sigma, rows, probes, drawing[place])
        residuals.append((part - denoised).double().flatten(1).square().mean(1).cpu().numpy())
        traces.append(drawn.numpy() / part[0].numel())
    return np.concatenate(residuals), np.concatenate(traces, 1)
