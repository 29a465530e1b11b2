"""Groups that a judge sees in images, and its probabilities calibrated on labelled images.

    judged = judge_groups(judge, samples, ("plain", "framed"))
    calibration = fit_calibration(judge_groups(judge, held_out, groups), labels)
    calibrated = judge_groups(judge, samples, groups, calibration=calibration)

A judge is anything from images to groups: log-probabilities or logits (n, groups), or the number of each one's group.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from scorescope.analysis.statistics.arrays import Bools, Floats, Integers, are_shares, host_array, require_logarithms
from scorescope.data.display import displayed
from scorescope.data.doors import checked, require_returned
from scorescope.data.errors import InputError

GroupJudge = Callable[[Tensor], Tensor]
"""Images (n, *shape) to log-probabilities or logits (n, groups), or to whole numbers (n,): the group of each."""

STEEPEST = 1e3  # by which logits are divided or multiplied at most


@displayed
@checked
@dataclass(frozen=True, eq=False)
class JudgedGroups:
    """The group of each image.

    Attributes
    ----------
    groups : tuple of str
        Their names.
    chosen : array, shape (n,), int64
        Place of the likeliest group, as the judge itself has it.
    probabilities : array, shape (n, groups), or None
        Of the groups, each row sums to 1; None where the judge gives none.
    calibrated : bool
        Whether the probabilities went through a `Calibration`.
    """

    groups: tuple[str, ...]
    chosen: Integers
    probabilities: Floats | None = None
    calibrated: bool = False

    def __post_init__(self) -> None:
        count, shape = len(self.groups), (len(self.chosen), len(self.groups))
        if self.chosen.ndim != 1 or not ((self.chosen >= 0) & (self.chosen < count)).all():
            raise InputError("chosen", found=str(self.chosen)[:60], expected=f"(n,) places from 0 to {count - 1}")
        if self.probabilities is not None and self.probabilities.shape != shape:
            raise InputError("probabilities", found=f"shape {self.probabilities.shape}", expected=str(shape))
        if self.probabilities is not None and not are_shares(self.probabilities):
            raise InputError("probabilities", found="other numbers", expected="from 0 to 1, each row with the sum 1")

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def counts(self) -> Integers:
        """Images of each group, (groups,)."""
        return np.bincount(self.chosen, minlength=len(self.groups)).astype(np.int64)

    @property
    def members(self) -> Bools:
        """Which group each image is of, (n, groups)."""
        found: Bools = self.chosen[:, None] == np.arange(len(self.groups))
        return found

    def where(self, rows: Bools | Integers) -> "JudgedGroups":
        """Of some of the images: a mask, or their places."""
        listed: NDArray[Any] = np.asarray(rows)
        count, kind = len(self), listed.dtype.kind
        fits = listed.shape == (count,) if kind == "b" else ((listed >= -count) & (listed < count)).all()
        if kind not in "biu" or listed.ndim != 1 or not fits:
            found = f"{listed.dtype} of shape {listed.shape}"
            raise InputError("rows", found=found, expected=f"a mask ({count},), or places from 0 to {count - 1}")
        chosen, probabilities = self.chosen[listed], self.probabilities
        part = None if probabilities is None else probabilities[listed]
        return JudgedGroups(self.groups, chosen, part, self.calibrated)


@displayed
@checked
@dataclass(frozen=True, eq=False)
class Calibration:
    """What makes probabilities of a judge fit the labels that it was fitted on.

    Attributes
    ----------
    method : str
        "temperature" or "isotonic".
    temperature : float
        That logits are divided by; 1 of the other method.
    steps : tuple of (array, array)
        Of "isotonic" each group's thresholds and values; between them it is linear.
    n : int
        Images that it was fitted on.
    groups : tuple of str
        Of which it is.
    """

    method: str
    temperature: float
    steps: tuple[tuple[Floats, Floats], ...]
    n: int
    groups: tuple[str, ...]

    def __call__(self, probabilities: Floats) -> Floats:
        """Calibrated ones, (n, groups); each row sums to 1."""
        if probabilities.shape[1:] != (len(self.groups),):
            expected = f"(n, {len(self.groups)}), of {', '.join(self.groups)}"
            raise InputError("probabilities", found=f"shape {probabilities.shape}", expected=expected)
        if not self.steps:
            scaled: Floats = scipy.special.softmax(_logits(probabilities) / self.temperature, axis=1)
            return scaled
        columns = [np.interp(column, *step) for column, step in zip(probabilities.T, self.steps, strict=True)]
        calibrated = np.stack(columns, axis=1)
        total = calibrated.sum(1, keepdims=True)
        even = np.full_like(calibrated, 1 / calibrated.shape[1])
        return np.where(total > 0, calibrated / np.where(total > 0, total, 1.0), even)


@checked
@torch.no_grad()
def judge_groups(
    judge: GroupJudge, images: Tensor, groups: Sequence[str], *, calibration: Calibration | None = None,
    batch: int = 256,
) -> JudgedGroups:  # fmt: skip
    """What a judge says of images.

    Parameters
    ----------
    judge : callable
        See `GroupJudge`.
    images : Tensor, shape (n, *shape)
        Samples, data, or denoised predictions.
    groups : sequence of str
        Names, in the order of the judge's columns.
    calibration : Calibration, optional
        Of this judge's probabilities; the group chosen stays the likeliest before it.
    batch : int
        Images judged together.

    Raises
    ------
    InputError
        For fewer than two groups, no images, a judge whose answers do not fit them, are not finite or are
        probabilities, and a calibration of other groups.
    """
    if len(set(groups)) < 2 or len(set(groups)) < len(groups) or not len(images):
        found = f"{len(groups)} names, {len(images)} images"
        raise InputError("groups, images", found=found, expected="two or more different names, and an image")
    if not bool(torch.isfinite(images).all()):
        raise InputError("images", found="NaN or infinite values", expected="finite ones")
    if batch < 1:
        raise InputError("batch", found=str(batch), expected="at least 1")
    if calibration is not None and calibration.groups != tuple(groups):
        raise InputError("calibration", found=f"one of {calibration.groups}", expected=f"one of {tuple(groups)}")
    parts = [_answers(judge, part) for part in images.split(batch)]
    if len({(part.shape[1:], part.dtype.kind) for part in parts}) > 1:
        found = ", ".join(sorted({f"rows of shape {part.shape[1:]}, {part.dtype}" for part in parts}))
        raise InputError("judge", found=found, expected="answers of one kind and width for all batches")
    answers = np.concatenate(parts)
    if answers.shape == (len(images),) and np.issubdtype(answers.dtype, np.integer):
        if answers.min() < 0 or answers.max() >= len(groups):
            found = f"numbers from {answers.min()} to {answers.max()}"
            raise InputError("judge", found=found, expected=f"0 to {len(groups) - 1}, one for each name")
        if calibration is not None:
            raise InputError("calibration", found="a judge without probabilities", expected="one with them")
        return JudgedGroups(tuple(groups), answers.astype(np.int64))
    broken = np.isnan(answers) | (answers == np.inf)  # -inf is a group that is impossible
    if answers.shape != (len(images), len(groups)) or broken.any() or not np.isfinite(answers).any(-1).all():
        found = f"shape {answers.shape}, {int(broken.sum())} not numbers, or rows of -inf alone"
        expected = f"log-probabilities ({len(images)}, {len(groups)}), or whole numbers ({len(images)},)"
        raise InputError("judge", found=found, expected=expected)
    require_logarithms("judge", answers)
    chosen = answers.argmax(1).astype(np.int64)
    probabilities = scipy.special.softmax(answers.astype(np.float64), axis=1)
    if calibration is not None:
        probabilities = calibration(probabilities)
    return JudgedGroups(tuple(groups), chosen, probabilities, calibration is not None)


def _answers(judge: GroupJudge, images: Tensor) -> NDArray[Any]:
    """Numbers, one or a row an image."""
    found = judge(images)
    require_returned("judge", found, Tensor | ArrayLike)
    answers = host_array(found)
    if answers.ndim not in (1, 2) or len(answers) != len(images) or answers.dtype.kind not in "iuf":
        told = f"{answers.dtype} of shape {answers.shape} for {len(images)} images"
        raise InputError("judge", found=told, expected="log-probabilities or logits (n, groups), or whole numbers (n,)")
    return answers


@checked
def fit_calibration(
    judged: JudgedGroups, labels: Tensor, *, method: Literal["temperature", "isotonic"] = "temperature"
) -> Calibration:
    """Make a judge's probabilities those of labelled images, which it was not trained on.

    Calibrated on images with other shares of the groups than those it is used on, it draws mean probabilities towards
    the shares that it was fitted on; hard counts are moved by the judge's errors alone.

    Parameters
    ----------
    judged : JudgedGroups
        With probabilities, not calibrated.
    labels : Tensor, shape (n,), int64
        Group of each image.
    method : {"temperature", "isotonic"}
        One number for all logits, by likelihood (Guo et al. 2017, arXiv 1706.04599), or a rising step function for
        each group, by squared error (Zadrozny & Elkan 2002), whose values are divided by their sum.

    Raises
    ------
    InputError
        Without probabilities, for labels that do not fit, and groups without an image.
    """
    truth = host_array(labels)
    if judged.probabilities is None or judged.calibrated:
        found = "none" if judged.probabilities is None else "calibrated ones"
        raise InputError("judged", found=found, expected="probabilities as the judge gives them")
    kinds, whole = len(judged.groups), truth.dtype.kind in "iu"
    if not whole or truth.shape != (len(judged),) or set(np.unique(truth).tolist()) != set(range(kinds)):
        found = f"{truth.dtype} of shape {truth.shape}, labels {np.unique(truth).tolist()[:9]}"
        expected = f"whole numbers ({len(judged)},), each of 0 to {kinds - 1} at least once"
        raise InputError("labels", found=found, expected=expected)
    if method == "isotonic":
        return Calibration(method, 1.0, _isotonic(judged.probabilities, truth), len(judged), judged.groups)
    logits = _logits(judged.probabilities)

    def loss(log_temperature: float) -> float:
        scaled = scipy.special.log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(scaled[np.arange(len(truth)), truth].mean())

    ends = (-np.log(STEEPEST), np.log(STEEPEST))
    best = scipy.optimize.minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-6})
    return Calibration(method, float(np.exp(best.x)), (), len(judged), judged.groups)


def _logits(probabilities: Floats) -> Floats:
    """Logarithms; where a probability is 0 or denormal that of the least number, for the fit and what it is used on."""
    with np.errstate(divide="ignore"):
        found: Floats = np.maximum(np.log(probabilities), np.log(np.finfo(np.float64).tiny))
    return found


def _isotonic(probabilities: Floats, truth: Integers) -> tuple[tuple[Floats, Floats], ...]:
    from sklearn.isotonic import IsotonicRegression  # one second to import, so only when asked

    found = []
    for group, column in enumerate(probabilities.T):
        fit = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(column, truth == group)
        found.append((fit.X_thresholds_.astype(np.float64), fit.y_thresholds_.astype(np.float64)))
    return tuple(found)
