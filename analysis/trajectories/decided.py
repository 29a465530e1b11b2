"""When along its path a sample is decided: how far the prediction still is from the last one, by band and by class.

curves = decisions(path, edges=(0.125, 0.25), classify=lambda images: classifier(images).argmax(1))
decision_levels(path, edges=(0.125, 0.25))        # the noise level below which half of the way is made for good
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from scorescope.analysis.statistics.arrays import Floats, host_array
from scorescope.analysis.statistics.bootstrap import draw_units
from scorescope.analysis.statistics.intervals import share_interval, skewed_mean_interval
from scorescope.analysis.statistics.studentised import studentised
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.analysis.trajectories.path_blocks import PathBlocks, blocks_of
from scorescope.data.doors import checked, require_returned
from scorescope.data.errors import InputError
from scorescope.probes.decomposition import band_energies
from scorescope.probes.models.denoiser import working_dtype
from scorescope.probes.recording import Trace
from scorescope.probes.sampling import Path

RESAMPLES = 1000

Classify = Callable[[Tensor], Tensor]
"""Predictions (n, *shape) to the class of each, (n,)."""

_KEYS = (
    Column("quantity", str, "", "whole: distance of D from the last D of its path over that of the first D; band: the "
           "same of one band of frequencies; class: whether D has another class than the last D"),
    Column("low_frequency", float, "cycles per sample", "of a band, inclusive; missing for others"),
    Column("high_frequency", float, "cycles per sample", "of a band; infinite for the last; missing for others"),
)  # fmt: skip
DECISIONS = Schema(
    "decisions",
    (
        *_KEYS,
        Column("sigma", float, "data", "noise level"),
        Column("n", int, "", "samples"),
        Column(
            "left",
            float,
            "1",
            "root of (sum over samples of squared distances over that at the first level): from 1 "
            "to 0; of a class the share of samples",
        ),
        *ends("1", "studentised bootstrap over samples, missing below 16; of a class exact (Clopper & Pearson)"),
        Column("median", float, "1", "median over samples of each one's own ratio of distances; of a class missing"),
        Column("median_n", int, "", "samples of it, all but those whose first prediction is their last; of a class 0"),
    ),
)
DECISION_LEVELS = Schema(
    "decision_levels",
    (
        *_KEYS,
        Column("at", float, "1", "what is left of the distance; of a class 0, as it changes no more"),
        Column("n", int, "", "samples that are counted"),
        Column("from_start", int, "", "samples for which it never was more, which have no such level"),
        Column("sigma", float, "data", "level below which no more than that is left: geometric mean over samples"),
        *ends("data", "of the geometric mean, corrected for skewness"),
    ),
)


@checked
def decisions(path: Path | Trace, *, edges: Sequence[float] = (), classify: Classify | None = None) -> pd.DataFrame:
    """What is left between the prediction and the last one, at each noise level.

    Parameters
    ----------
    path : Path or Trace
        From `run_path` or `recorded_path`, or a trace that kept "branches" or "all", which is read some samples at a
        time, of at least two known levels.
    edges : sequence of float
        Inner edges of frequency bands, in cycles per sample, as `band_energies` takes them; none for no bands.
    classify : callable, optional
        Classes of predictions.

    Returns
    -------
    DataFrame
        `DECISIONS`: one row a (quantity, band, sigma), of the levels that are known.

    Raises
    ------
    InputError
        For fewer than two known levels, and for classes that are not one a sample.
    """
    known, _ = blocks_of(path).known(least=2)
    frames = []
    for keys, far in _distances(known, edges, classify):
        rows = {"sigma": known.sigmas, "n": len(far), **(_shares(far) if keys["quantity"] == "class" else _pooled(far))}
        frames.append(pd.DataFrame({**keys, **rows}))
    return DECISIONS.check(pd.concat(frames, ignore_index=True))


@checked
def decision_levels(
    path: Path | Trace, *, at: float = 0.5, edges: Sequence[float] = (), classify: Classify | None = None
) -> pd.DataFrame:
    """The noise level below which a sample keeps nearer to its end than a share of the way, and below which its class.

    Parameters
    ----------
    path, edges, classify
        As for `decisions`.
    at : float
        Share of the distance from the first prediction to the last that is left.

    Returns
    -------
    DataFrame
        `DECISION_LEVELS`: one row a (quantity, band). Between levels the last crossing is interpolated in ln sigma; of
        a class it is half-way between the last level of another class and the next.

    Raises
    ------
    InputError
        For a share that is not between 0 and 1, and what `decisions` refuses.
    """
    if not 0 < at < 1:
        raise InputError("at", found=str(at), expected="a share between 0 and 1")
    known, _ = blocks_of(path).known(least=2)
    log_sigma, rows = np.log(known.sigmas), []
    for keys, far in _distances(known, edges, classify):
        left = far if keys["quantity"] == "class" else _of_first(far)
        share = 0.5 if keys["quantity"] == "class" else at
        places = np.array([_last_crossing(one, log_sigma, share) for one in left])
        known = places[np.isfinite(places)]
        low, high = skewed_mean_interval(known)
        rows.append(
            keys | {
                "at": 0.0 if keys["quantity"] == "class" else at, "n": len(known), "from_start": len(left) - len(known),
                "sigma": np.exp(known.mean()) if len(known) else np.nan, "low": np.exp(low), "high": np.exp(high),
            }
        )  # fmt: skip
    return DECISION_LEVELS.check(pd.DataFrame(rows).astype({"low": float, "high": float}))


def _distances(
    blocks: PathBlocks, edges: Sequence[float], classify: Classify | None
) -> list[tuple[dict[str, Any], Floats]]:
    """Each quantity with distances from the last prediction, (samples, levels); of a class 1 where it is another."""
    parts = [_of_block(part, edges, classify) for part in blocks]
    return [(same[0][0], np.concatenate([far for _, far in same])) for same in zip(*parts, strict=True)]


def _of_block(path: Path, edges: Sequence[float], classify: Classify | None) -> list[tuple[dict[str, Any], Floats]]:
    """The same of some samples."""
    no_band = {"low_frequency": np.nan, "high_frequency": np.nan}
    last = path.denoised[-1].to(working_dtype(path.denoised))
    far = [torch.linalg.vector_norm((one - last).flatten(1), dim=1).cpu().double().numpy() for one in path.denoised]
    found = [({"quantity": "whole", **no_band}, np.stack(far, 1))]
    if edges:
        energies = torch.stack([band_energies(one - last, edges) for one in path.denoised]).cpu().numpy()
        for band, (low, high) in enumerate(pairwise([0.0, *edges, np.inf])):
            keys = {"quantity": "band", "low_frequency": low, "high_frequency": high}
            found.append((keys, np.sqrt(energies[:, :, band].T)))
    if classify is not None:
        classes = np.stack([_classes(classify, one) for one in path.denoised], 1)
        found.append(({"quantity": "class", **no_band}, (classes != classes[:, -1:]).astype(np.float64)))
    return found


def _pooled(far: Floats) -> dict[str, NDArray[Any]]:
    """Ratio of sums over samples, by which a sample whose prediction hardly moves counts little."""
    squares, draws = far.T**2, draw_units(len(far), resamples=RESAMPLES, seed=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = studentised(squares, np.broadcast_to(squares[0], squares.shape), draws)
        left, low, high = (np.sqrt(np.maximum(one, 0)) for one in (found.value, found.low, found.high))
    own = _of_first(far[far[:, 0] > 0])
    median = np.median(own, axis=0) if len(own) else np.full(far.shape[1], np.nan)
    return {"left": left, "low": low, "high": high, "median": median, "median_n": np.full(far.shape[1], len(own))}


def _of_first(distances: Floats) -> Floats:
    """Of each sample; NaN for one whose prediction never moves."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = distances / distances[:, :1]
    return found


def _classes(classify: Classify, images: Tensor) -> Any:
    found = classify(images)
    require_returned("classify", found, Tensor | ArrayLike)
    classes = host_array(found)
    if classes.shape != (len(images),):
        raise InputError("classify", found=f"shape {classes.shape}", expected=f"({len(images)},), one class a sample")
    return classes


def _shares(wrong: Floats) -> dict[str, NDArray[Any]]:
    found = np.array([share_interval(level) for level in wrong.T])
    none = {"median": np.full(wrong.shape[1], np.nan), "median_n": np.zeros(wrong.shape[1], np.int64)}
    return {"left": wrong.mean(0), "low": found[:, 0], "high": found[:, 1], **none}


def _last_crossing(left: Floats, log_sigma: Floats, at: float) -> float:
    """Where a curve comes below a value for good; NaN where it was never above."""
    above = np.flatnonzero(left > at)
    if not len(above):
        return np.nan
    place = int(above[-1])
    if place == len(left) - 1:
        return np.nan
    share = (left[place] - at) / (left[place] - left[place + 1])
    return float(log_sigma[place] + share * (log_sigma[place + 1] - log_sigma[place]))
