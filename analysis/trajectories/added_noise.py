"""What a recorded step adds that no prediction explains: noise, and how much of the state it keeps.

    step_noise(trace)[["sigma", "kept_noise", "added", "closure"]]

Any of the linear solvers moves a state by a combination of itself and of the latest predictions. What is left of a step
when the best such combination is taken out is what was added at random, or what a scheduler does that is not linear
(clipping, thresholds).
"""

from collections import defaultdict
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.intervals import skewed_mean_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.experiments import visits
from scorescope.probes.models.denoiser import working_dtype
from scorescope.probes.recording import Trace, Visit

EARLIER = 3  # predictions before the step that a solver of order 4 uses
SMALL = 1e-13  # of the largest eigenvalue: combinations of predictions that say the same

STEP_NOISE = Schema(
    "step_noise",
    (
        Column("run", int, "", "run of the pipeline; 0 for `sample`"),
        Column("stream", int, "", "which of its schedulers"),
        Column("step", int, "", "step, from the state that it starts from to that of the next step"),
        Column("sigma", float, "data", "noise level of that state"),
        Column("sigma_next", float, "data", "noise level of the state of the next step"),
        Column("n", int, "", "samples"),
        Column("kept", float, "1", "share k of x - D that stays in the next state: sigma_next / sigma without noise"),
        Column("kept_noise", float, "data", "k sigma: noise that the state keeps"),
        Column("added", float, "data", "root mean square over elements of what no prediction explains, over samples"),
        *ends("data", "of the root of the mean square over samples, corrected for skewness"),
        Column("nominal", float, "data", "noise that is missing of sigma_next, sqrt(sigma_next^2 - (k sigma)^2)"),
        Column("closure", float, "1", "sqrt((k sigma)^2 + added^2) / sigma_next: 1 where noise taken is given back"),
        Column("rounding", float, "data", "root mean square of the next state, times the resolution of its type"),
        Column("missing", str, "", "why there is no number; empty where there is"),
    ),
)


@checked
def step_noise(trace: Trace) -> pd.DataFrame:
    """Noise kept and noise added in every step of a run.

    Parameters
    ----------
    trace : Trace
        A run whose states and predictions were kept, those of all calls of a step.

    Returns
    -------
    DataFrame
        `STEP_NOISE`: one row a (run, stream, step), of all samples of the run together; of the last step the state
        after it is not recorded.

    Raises
    ------
    InputError
        For a trace without kept states.

    Notes
    -----
    x' - D = k (x - D) + sum_j a_j (D_j - D), with the predictions of the step's own calls and of up to three before, by
    least squares over all elements and samples at once: one k and one a_j a step, as solvers have them. The fit takes
    as many degrees of freedom of the noise as it has terms, so few samples of a few elements read too little.
    """
    rows = list[dict[str, Any]]()
    for run, some in groupby(visits(trace), attrgetter("run")):  # the states of one run are held at a time
        streams: dict[int, dict[int, list[Visit]]] = defaultdict(lambda: defaultdict(list))
        for visit in some:
            streams[visit.stream][visit.first].append(visit)
        rows += [row for stream, batches in streams.items() for row in _rows((run, stream), list(batches.values()))]
    if not rows:
        raise InputError("trace", found="no state that was kept", expected="a run whose states were kept")
    return STEP_NOISE.check(pd.DataFrame(rows))


def _rows(key: tuple[int, int], batches: list[list[Visit]]) -> list[dict[str, Any]]:
    """A row a step of one run."""
    starts = [[place for place, visit in enumerate(batch) if not visit.call] for batch in batches]
    rows = []
    for step in range(min(map(len, starts))):
        now = batches[0][starts[0][step]]
        row = {"run": key[0], "stream": key[1], "step": now.step, "sigma": now.sigma}
        if step == len(starts[0]) - 1:
            rows.append(row | _nothing("the state after the last step is not recorded", now.sigma_next))
            continue
        after = batches[0][starts[0][step + 1]]
        grams = [_gram(batch, *places[step : step + 2]) for batch, places in zip(batches, starts, strict=True)]
        known = np.concatenate([gram for gram, _ in grams])
        if not np.isfinite(known).all():
            rows.append(row | _nothing(now.why or after.why or "values that are not finite", after.sigma))
            continue
        rows.append(row | _fit(known, [scale for _, scale in grams], now.sigma, after))
    return rows


def _nothing(why: str, sigma_next: float) -> dict[str, Any]:
    names = ("kept", "kept_noise", "added", "low", "high", "nominal", "closure", "rounding")
    return {"sigma_next": sigma_next, "n": 0, **dict.fromkeys(names, np.nan), "missing": why}


def _gram(batch: list[Visit], place: int, after: int) -> tuple[Floats, float]:
    """Inner products of x' - D, x - D and the other predictions less D, (samples, terms, terms); mean square of x'."""
    now, end = batch[place], batch[after].x
    others = [visit.guided for visit in [*batch[max(0, place - EARLIER) : place], *batch[place + 1 : after]]]
    base = _wide(now.guided)
    terms = torch.stack([_wide(one) - base for one in (end, now.x, *others)], 1)
    return (terms @ terms.mT).cpu().double().numpy() / base.shape[1], float(_wide(end).square().mean())


def _wide(values: Tensor) -> Tensor:
    return values.flatten(1).to(working_dtype(values))


def _fit(gram: Floats, scales: list[float], sigma: float, after: Visit) -> dict[str, Any]:
    """Least squares of the first term by the others, pooled over samples."""
    pooled = gram.mean(0)
    weights = np.linalg.pinv(pooled[1:, 1:], rcond=SMALL, hermitian=True) @ pooled[1:, 0]
    combination = np.concatenate([[1.0], -weights])
    squares = np.maximum(np.einsum("i,nij,j->n", combination, gram, combination), 0)
    low, high = (np.sqrt(np.maximum(end, 0)) for end in skewed_mean_interval(squares))
    kept, added, target = float(weights[0]), float(np.sqrt(squares.mean())), after.sigma
    return {
        "sigma_next": target, "n": len(gram), "kept": kept, "kept_noise": kept * sigma, "added": added,
        "low": float(low), "high": float(high), "nominal": float(np.sqrt(max(target**2 - (kept * sigma) ** 2, 0.0))),
        "closure": float(np.hypot(kept * sigma, added)) / target,
        "rounding": float(torch.finfo(after.x.dtype).eps * np.sqrt(np.mean(scales))), "missing": "",
    }  # fmt: skip
