"""At which noise level an attribute is lost: how often a reconstruction is nearer to the other image of a pair.

    found = attribute_loss(denoiser, first, second, sigmas=log_snr_grid(-6, 6, 13))
    found.curve                                   # error against its floor, level by level
    found.half                                    # the level at which one in four reconstructions is confused

For a pair (x0, y0) that differs in one attribute (DiTi, ICLR 2024, arXiv 2401.11430),

    Err = 1/2 {P[|D(x) - x0| > |D(x) - y0|] + P[|D(y) - y0| > |D(y) - x0|]},    x = x0 + sigma n, y = y0 + sigma n'

Whoever decides between the two from the noisy image errs at least Phi(-|x0 - y0| / (2 sigma)) of the time: the laws
are two Gaussians. That is a floor for every denoiser and every metric on what it says, reached by the ideal denoiser
of the two points. It depends on the size of the edit in pixels only, so read the excess, and a feature metric.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy
import torch
from torch import Tensor

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.bootstrap import draw_units, percentile_interval
from scorescope.analysis.statistics.intervals import bounded_mean_interval, skewed_mean_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.bank.points import Bank, Point
from scorescope.probes.models.conditions import ConditionRows, to_device
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate

Features = Callable[[Tensor], Tensor]
PIXELS = "pixels"
HALF = 0.25

ATTRIBUTE_LOSS = Schema(
    "attribute_loss",
    (
        Column("metric", str, "", "space in which reconstructions are compared: pixels, or a feature metric"),
        Column("sigma", float, "data", "noise level"),
        Column("log_snr", float, "1", "-2 ln sigma"),
        Column("n", int, "", "pairs"),
        Column("error", float, "1", "share of reconstructions nearer to the other image; ties count half"),
        *ends("1", "over pairs, corrected for skewness; where all agree, by Clopper and Pearson"),
        Column("floor", float, "1", "mean over pairs of Phi(-|x0 - y0| / (2 sigma)), distances in pixels"),
        Column("excess", float, "1", "error less floor"),
        *ends("1", of="excess"),
    ),
)

HALF_LOSS = Schema(
    "half_loss",
    (
        Column("metric", str, "", "as in the curve, or floor"),
        Column("n", int, "", "pairs"),
        Column(
            "sigma",
            float,
            "data",
            "lowest noise level at which the error reaches 1/4; NaN if never, or above it from the lowest on",
        ),
        Column(
            "low",
            float,
            "data",
            "low end over the bootstrap draws of pairs that cross 1/4 within the levels, see `tails`",
        ),
        Column("high", float, "data", "high end over these; with `reached` below 1, of a part of the draws only"),
        Column("log_snr", float, "1", "-2 ln sigma"),
        Column("reached", float, "1", "share of bootstrap draws that cross 1/4 within the levels"),
    ),
)


@displayed
@checked
@dataclass(frozen=True, eq=False)
class AttributeLoss:
    """What `attribute_loss` found.

    Attributes
    ----------
    curve, half : DataFrame
        Columns declared in `ATTRIBUTE_LOSS` and `HALF_LOSS`.
    errors : dict of str to array, shape (pairs, levels)
        Err of each pair, by metric.
    floor : array, shape (pairs, levels)
        Its floor.
    """

    curve: pd.DataFrame
    half: pd.DataFrame
    errors: dict[str, Floats]
    floor: Floats


@checked
def attribute_loss(
    denoiser: Denoiser,
    first: Tensor,
    second: Tensor,
    *,
    sigmas: Sequence[float],
    condition: Condition = None,
    features: Mapping[str, Features] | None = None,
    draws: int = 1,
    seed: int = 0,
    batch: int = 256,
    resamples: int = 1000,
    progress: bool = False,
) -> AttributeLoss:
    """Err of attribute-matched pairs against the noise level, with its floor.

    Parameters
    ----------
    denoiser : Denoiser
        The model.
    first, second : Tensor, shape (pairs, *shape)
        x0 and y0, in units of the data; at least two pairs. `render_shapes` with one label changed makes such pairs.
    sigmas : sequence of float
        Noise levels, in units of the data.
    condition : Condition, optional
        One row a pair, or one for all, the same for both images: it must not tell which of the two it is. By default
        unconditional, as published.
    features : mapping of str to callable, optional
        Further metrics: (n, *shape) to (n, ...) features, compared by Euclidean distance. For instance logits.
    draws, seed : int
        Noises for each image and level, and their seed.
    batch : int
        Samples in one denoiser call.
    resamples : int
        Bootstrap draws of pairs, for the level of half the loss.
    progress : bool
        Show a progress bar.

    Returns
    -------
    AttributeLoss
        The curve, its crossing of 1/4, and what they are made from.

    Raises
    ------
    InputError
        For fewer than two pairs, images of different shapes or a pair of equal images, a metric called "pixels",
        features of another length, and predictions that are not finite.
    """
    _check_pairs(first, second)
    metrics: dict[str, Features] = {PIXELS: lambda images: images} | dict(features or {})
    if PIXELS in (features or {}):
        raise InputError("features", found=repr(PIXELS), expected="another name: pixels are always compared")
    bank = Bank(torch.cat([first, second]), sigmas, draws, seed)
    errors = _errors(denoiser, bank, condition, metrics, batch, progress)
    levels = np.asarray(sigmas, np.float64)
    distance = (first.double() - second.double()).flatten(1).norm(dim=1).cpu().numpy()
    floor = np.asarray(scipy.stats.norm.cdf(-distance[:, None] / (2 * levels)), np.float64)
    units = draw_units(len(first), resamples=resamples, seed=0) / len(first)
    curve = pd.concat([_curve(name, levels, found, floor) for name, found in errors.items()])
    half = [_half(name, levels, found, units) for name, found in (errors | {"floor": floor}).items()]
    return AttributeLoss(ATTRIBUTE_LOSS.check(curve), HALF_LOSS.check(pd.DataFrame(half)), errors, floor)


def _check_pairs(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape or first.dtype != second.dtype or first.ndim < 2 or len(first) < 2:
        found = f"{first.dtype} {tuple(first.shape)} and {second.dtype} {tuple(second.shape)}"
        raise InputError("first, second", found=found, expected="two equal shapes (pairs >= 2, *shape) and dtypes")
    if same := (first == second).flatten(1).all(1).nonzero()[:, 0].tolist():
        raise InputError("first, second", found=f"equal images in pairs {same[:5]}", expected="images that differ")


def _errors(
    denoiser: Denoiser, bank: Bank, condition: Condition, metrics: Mapping[str, Features], batch: int, progress: bool
) -> dict[str, Floats]:
    """Err of each pair and level, by metric."""
    pairs = len(bank) // 2
    table = None if condition is None else ConditionRows.join([condition], count=pairs)
    wrong = {name: np.zeros((len(bank), len(bank.sigmas))) for name in metrics}
    with torch.no_grad():
        targets = {name: _all_features(name, metric, bank.x0, batch) for name, metric in metrics.items()}
        for point in bank.points(batch=batch, progress=progress):
            arms, rows = torch.zeros_like(point.rows), point.rows % pairs
            given = None if table is None else to_device(table.take(arms, rows), point.x.device)
            denoised = evaluate(denoiser, point.x, point.sigma, given, branch="attribute loss")
            _check_finite(denoised, point)
            for name, metric in metrics.items():
                wrong[name][point.rows.numpy(), point.level] += _nearer_other(
                    _features(name, metric, denoised), targets[name], point.rows
                )
    return {name: (found[:pairs] + found[pairs:]) / (2 * bank.draws) for name, found in wrong.items()}


def _all_features(name: str, metric: Features, images: Tensor, batch: int) -> Tensor:
    return torch.cat([_features(name, metric, part) for part in images.split(batch)])


def _features(name: str, metric: Features, images: Tensor) -> Tensor:
    found = metric(images)
    if not isinstance(found, Tensor) or len(found) != len(images) or not found.isfinite().all():
        what = f"{tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise InputError(f"features[{name!r}]", found=what, expected=f"finite values for each of {len(images)} images")
    return found.flatten(1)


def _nearer_other(found: Tensor, targets: Tensor, rows: Tensor) -> Floats:
    """1 where the features are nearer to the other image's than to the own, 1/2 for a tie."""
    count = len(targets)
    own, other = targets[rows.to(targets.device)], targets[(rows + count // 2).to(targets.device) % count]
    # |found - own|^2 - |found - other|^2 without squaring what is common to both
    apart = other.double() - own.double()
    gap = ((2 * found.double() - own.double() - other.double()) * apart).sum(1)
    return np.asarray(((1 + gap.sign()) / 2).cpu(), np.float64)


def _check_finite(denoised: Tensor, point: Point) -> None:
    if not denoised.isfinite().all():
        found = f"values that are not finite at sigma {float(point.sigma[0]):.4g}"
        raise InputError("denoiser", found=found, expected="finite predictions")


def _curve(name: str, levels: Floats, errors: Floats, floor: Floats) -> pd.DataFrame:
    low, high = bounded_mean_interval(errors, 0.0, 1.0)
    excess_low, excess_high = skewed_mean_interval(errors - floor)
    alike = (errors == errors[0]).all(0)  # then the floor scatters alone
    excess_low = np.where(alike, np.minimum(excess_low, low - floor.mean(0)), excess_low)
    excess_high = np.where(alike, np.maximum(excess_high, high - floor.mean(0)), excess_high)
    return pd.DataFrame(
        {
            "metric": name, "sigma": levels, "log_snr": -2 * np.log(levels), "n": len(errors),
            "error": errors.mean(0), "low": low, "high": high, "floor": floor.mean(0),
            "excess": (errors - floor).mean(0), "excess_low": excess_low, "excess_high": excess_high,
        }
    )  # fmt: skip


def _half(name: str, levels: Floats, errors: Floats, units: Floats) -> dict[str, object]:
    order = np.argsort(levels)
    levels, errors = levels[order], errors[:, order]
    draws = np.array([_crossing(levels, row) for row in units @ errors])
    known = draws[np.isfinite(draws)]
    low, high = percentile_interval(known, len(errors)) if len(known) else (np.nan, np.nan)
    sigma = _crossing(levels, errors.mean(0))
    return {
        "metric": name, "n": len(errors), "sigma": sigma, "low": float(low), "high": float(high),
        "log_snr": -2 * float(np.log(sigma)), "reached": len(known) / len(draws),
    }  # fmt: skip


def _crossing(levels: Floats, error: Floats) -> float:
    """The lowest level at which the error reaches 1/4, linear in ln sigma between levels; NaN if it starts above."""
    above = error >= HALF
    first = int(above.argmax())
    if not above.any() or first == 0:
        return float("nan")
    share = (HALF - error[first - 1]) / (error[first] - error[first - 1])
    return float(np.exp((1 - share) * np.log(levels[first - 1]) + share * np.log(levels[first])))
