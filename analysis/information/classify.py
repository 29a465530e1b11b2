"""A diffusion model as a classifier: which condition denoises an image best, at the same noisy points.

    candidates = attribute_candidates(denoiser.config.attributes, column("hue"))      # the other attributes open
    found = paired_classify(denoiser, Bank(images, log_snr_grid(-4, 4, 17), draws=2), candidates, labels)
    found.summary                                 # accuracy, and evaluations spent against the full bank
    found.win_rates                               # at which noise level the true class beats which other

Losses are in eps space, weighted over levels; with the likelihood weights their differences are log-likelihood ratios
and the decision is Bayes' under equal priors, for the optimal denoiser. Li et al. 2023 (arXiv 2303.16203) drop
classes after fixed numbers of evaluations; here a class is dropped by a paired test with a stated error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from torch import Tensor

from scorescope.analysis.information.class_decisions import eliminate, fit_level_weights, likelihood_weights, plan_looks
from scorescope.analysis.information.loss_tables import WIN_RATES, stacked_losses, win_rates
from scorescope.analysis.statistics.arrays import Floats, Integers, host_array
from scorescope.analysis.statistics.intervals import wilson
from scorescope.analysis.statistics.splits import split_rows
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.bank.candidate_losses import CandidateLosses
from scorescope.probes.bank.compare import Arm, compare_arms
from scorescope.probes.bank.comparison import Comparison
from scorescope.probes.bank.points import Bank
from scorescope.probes.models.denoiser import Condition, Denoiser

Weights = Literal["likelihood", "uniform", "fitted"]
BLOCK_VALUES = 2**24  # losses held at once: 128 MB of float64

PREDICTIONS = Schema(
    "class_predictions",
    (
        Column("image", int, "", "row of the bank"),
        Column("label", str, "", "true class"),
        Column("predicted", str, "", "class of the lowest weighted loss"),
        Column("correct", bool, "", "whether they agree"),
        Column("left", int, "", "classes that were not eliminated"),
        Column("evaluations", int, "", "denoiser evaluations that the image took"),
    ),
)

LEVEL_WEIGHTS = Schema(
    "class_level_weights",
    (
        Column("sigma", float, "data", "noise level"),
        Column("log_snr", float, "1", "-2 ln sigma"),
        Column("weight", float, "1", "of the eps loss in the decision"),
        Column("rule", str, "", "likelihood, uniform, given, or fitted on n images that are not in the test"),
    ),
)

SUMMARY = Schema(
    "class_summary",
    (
        Column("n", int, "", "test images"),
        Column("classes", int, "", "candidates"),
        Column("accuracy", float, "1", "share of test images classified correctly"),
        *ends("1", "Wilson"),
        Column("evaluations", int, "", "denoiser evaluations spent on the test images"),
        Column("full", int, "", "evaluations of the full bank"),
        Column("share", float, "1", "the one over the other"),
        Column("error", float, "1", "chance that an image loses its full-bank winner early; 0 without elimination"),
    ),
)


@displayed
@checked
@dataclass(frozen=True, eq=False)
class Classification:
    """What `paired_classify` found.

    Attributes
    ----------
    predictions, win_rates, weights, summary : DataFrame
        Columns declared in `PREDICTIONS`, `WIN_RATES`, `LEVEL_WEIGHTS` and `SUMMARY`. Win rates are of images
        evaluated at every point: the fit split, and the test split without elimination; empty if there are none.
    """

    predictions: pd.DataFrame
    win_rates: pd.DataFrame
    weights: pd.DataFrame
    summary: pd.DataFrame


@checked
def paired_classify(
    denoiser: Denoiser,
    bank: Bank,
    candidates: Mapping[str, Condition],
    labels: ArrayLike | Tensor,
    *,
    weights: Weights | Sequence[float] = "likelihood",
    fit_rows: Tensor | None = None,
    test_rows: Tensor | None = None,
    error: float | None = 0.01,
    looks: int = 8,
    ridge: float = 0.01,
    batch: int = 256,
    progress: bool = False,
) -> Classification:
    """Classify images by which candidate condition denoises them best.

    Parameters
    ----------
    denoiser : Denoiser
        The model, not guided.
    bank : Bank
        Images, noise levels (falling), draws.
    candidates : mapping of str to Condition
        At least two, by class name: one row an image, or one for all. `attribute_candidates` makes them for one
        attribute with the others open, or fixed at known values.
    labels : array of int, shape (n,)
        True class of each image, as a position among the candidates.
    weights : {"likelihood", "uniform", "fitted"} or sequence of float, one a level
        How much each level counts. `fitted` needs `fit_rows`.
    fit_rows, test_rows : Tensor of int, optional
        Images to fit the weights on, and to classify. By default there is no fit split, and all others are the test.
    error : float or None
        Error level of the elimination, for each image; None evaluates every point of every class.
    looks : int
        Times at which classes may be eliminated.
    ridge : float
        Of the fit, see `fit_level_weights`.
    batch : int
        Samples in one denoiser call.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Classification
        Predictions, win rates, level weights and a summary.

    Raises
    ------
    InputError
        For fewer than two candidates, labels that do not fit, an image in both splits (the same row, or the same
        pixels), a fit without a split or with weights of 0 only, and predictions that are not finite.
    """
    names, truth = _checked(bank, candidates, labels, error)
    fit, test = split_rows(bank, fit_rows, test_rows)
    arms = [Arm(name, denoiser, candidates[name]) for name in names]
    fitted = None if fit is None else compare_arms(bank, arms, pairs=[], rows=fit, batch=batch, progress=progress)
    table = _weights(weights, bank, fitted, truth, ridge)
    level_weights = table["weight"].to_numpy(np.float64)
    measured = [] if fitted is None else [("fit", fitted)]
    if error is None:
        full = compare_arms(bank, arms, pairs=[], rows=test, batch=batch, progress=progress)
        measured.append(("test", full))
        found = _full(full, level_weights)
    else:
        losses = CandidateLosses(denoiser, bank, list(candidates.values()), batch=batch)
        found = _adaptive(losses, test, level_weights, error, looks, progress)
    rates = [win_rates(part, truth[part.rows]).assign(split=split) for split, part in measured]
    predictions = _predictions(test, truth, names, *found)
    empty = pd.DataFrame({column.name: pd.Series(dtype=column.kind) for column in WIN_RATES.columns})
    return Classification(
        predictions, WIN_RATES.check(pd.concat(rates, ignore_index=True) if rates else empty), table,
        _summary(predictions, len(names), len(bank.sigmas) * bank.draws, error),
    )  # fmt: skip


def _checked(
    bank: Bank, candidates: Mapping[str, Condition], labels: ArrayLike | Tensor, error: float | None
) -> tuple[list[str], Integers]:
    names, truth = list(candidates), host_array(labels)
    if len(names) < 2 or any(condition is None for condition in candidates.values()):
        raise InputError("candidates", found=str(names), expected="at least two conditions, none of them None")
    whole = truth.shape == (len(bank),) and np.issubdtype(truth.dtype, np.integer)
    if not whole or truth.min() < 0 or truth.max() >= len(names):
        found = f"{truth.dtype} of shape {truth.shape}"
        raise InputError("labels", found=found, expected=f"({len(bank)},) integers from 0 to {len(names) - 1}")
    if error is not None and not 0 < error < 1:
        raise InputError("error", found=str(error), expected="a probability between 0 and 1, or None")
    return names, truth.astype(np.int64)


def _weights(
    weights: Weights | Sequence[float], bank: Bank, fitted: Comparison | None, truth: Integers, ridge: float
) -> pd.DataFrame:
    sigmas = np.asarray(bank.sigmas, np.float64)
    rule: str = weights if isinstance(weights, str) else "given"
    if rule == "likelihood":
        values = likelihood_weights(sigmas)
    elif rule == "uniform":
        values = np.ones(len(sigmas))
    elif rule == "fitted":
        if fitted is None:
            raise InputError("fit_rows", found="None", expected="images to fit the weights on, none of the test")
        values = fit_level_weights(stacked_losses(fitted), truth[fitted.rows], sigmas, ridge=ridge)
        rule = f"fitted on {len(fitted.rows)} images that are not in the test"
    elif rule == "given":
        values = _given(weights, len(sigmas))
    else:
        raise InputError("weights", found=repr(rule), expected="likelihood, uniform, fitted, or one number a level")
    columns = {"sigma": sigmas, "log_snr": -2 * np.log(sigmas), "weight": values, "rule": rule}
    return LEVEL_WEIGHTS.check(pd.DataFrame(columns))


def _given(weights: str | Sequence[float], levels: int) -> Floats:
    values = np.asarray(weights, np.float64)
    if values.shape != (levels,) or not (np.isfinite(values).all() and (values >= 0).all() and values.any()):
        found = f"{values.tolist()[:5]}"
        raise InputError("weights", found=found, expected=f"{levels} finite numbers >= 0, not all 0")
    return values


def _full(comparison: Comparison, weights: Floats) -> tuple[Integers, Integers, Integers]:
    """As `_adaptive`, when every point of every class has been evaluated."""
    losses = stacked_losses(comparison)
    left = np.full(losses.shape[1], len(losses))
    return (losses @ weights).argmin(0), left, left * losses.shape[2] * comparison.draws


def _adaptive(
    losses: CandidateLosses, rows: Tensor, weights: Floats, error: float, looks: int, progress: bool
) -> tuple[Integers, Integers, Integers]:
    """Predicted class, classes left and evaluations spent, of each row."""
    total = len(weights) * losses.bank.draws
    plan = plan_looks(len(weights), losses.bank.draws, looks, seed=losses.bank.seed)
    block = max(1, min(len(rows), BLOCK_VALUES // (losses.classes * total)))
    found = [_decide(losses, part, weights, error, plan, progress) for part in rows.split(block)]
    predicted, left, spent = (np.concatenate(part) for part in zip(*found, strict=True))
    return predicted, left, spent


def _decide(
    losses: CandidateLosses, rows: Tensor, weights: Floats, error: float, plan: Sequence[Integers],
    progress: bool,
) -> tuple[Integers, Integers, Integers]:  # fmt: skip
    draws, count = losses.bank.draws, len(rows)
    alive, spent = np.ones((losses.classes, count), bool), np.zeros(count, np.int64)
    values = np.full((losses.classes, count, len(weights) * draws), np.nan)
    seen: list[int] = []
    for points in plan:
        open_images = alive.sum(0) > 1
        if not open_images.any():
            break
        asked = alive & open_images
        classes, images = asked.nonzero()
        for_points = losses.at(classes, rows.numpy()[images], points, progress=progress)
        values[classes[:, None], images[:, None], points] = for_points * weights[points // draws]
        spent += asked.sum(0) * len(points)
        seen.extend(points.tolist())
        part = values[:, open_images][:, :, seen]
        alive[:, open_images] = eliminate(
            part, alive[:, open_images], total=values.shape[2], error=error, looks=len(plan)
        )
        # a decided image is not evaluated any further: its survivor stays
    means = np.where(alive, np.where(np.isnan(values), 0, values).sum(2), np.inf)
    return means.argmin(0), alive.sum(0), spent


def _predictions(
    rows: Tensor, truth: Integers, names: Sequence[str], predicted: Integers, left: Integers, spent: Integers
) -> pd.DataFrame:
    own = truth[rows.numpy()]
    table = {
        "image": rows.numpy(), "label": [names[k] for k in own], "predicted": [names[k] for k in predicted],
        "correct": own == predicted, "left": left, "evaluations": spent,
    }  # fmt: skip
    return PREDICTIONS.check(pd.DataFrame(table))


def _summary(predictions: pd.DataFrame, classes: int, points: int, error: float | None) -> pd.DataFrame:
    n, spent = len(predictions), int(predictions["evaluations"].sum())
    accuracy, low, high = (float(v) for v in wilson(int(predictions["correct"].sum()), n))
    row = {
        "n": n, "classes": classes, "accuracy": accuracy, "low": low, "high": high, "evaluations": spent,
        "full": n * classes * points, "share": spent / (n * classes * points), "error": error or 0.0,
    }  # fmt: skip
    return SUMMARY.check(pd.DataFrame([row]))
