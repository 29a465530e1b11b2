"""Groups along sampling: what a judge says of the denoised prediction at every noise level, samples beside data.

    path = run_path(RuleField(denoiser, CFG(4.0)), 80.0 * noise, edm_sigmas(18), condition=labels)
    control = judge_control(denoiser, images, path.sigmas, judge, groups, condition=image_labels)
    along = shares_along(path, judge, groups, control=control)
    along.shares, along.distances, along.readings, along.landmarks

The path of a recorded run comes from `recorded_path(trace)` of `analysis.trajectories`. At high noise D is a mean of
many images, of which a judge says the same of all: the control, D of noised data, says from where it reads anything,
and what shares it would give there to samples without a bias.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scorescope.analysis.directions.landmarks import (
    Curve,
    Places,
    Shares,
    draw_seeds,
    landmark_table,
    last_rise,
)
from scorescope.analysis.groups.judging import Calibration, GroupJudge, JudgedGroups, judge_groups
from scorescope.analysis.groups.shares import (
    DISTANCES,
    GROUP_DISTANCES,
    GROUP_SHARES,
    group_distances,
    group_shares,
    shares_wanted,
)
from scorescope.analysis.statistics.arrays import Floats, Integers, host_array
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.bank import Bank
from scorescope.probes.models.conditions import select_rows, to_device
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate
from scorescope.probes.sampling import Path

_LEVEL = (
    Column("sigma", float, "data", "noise level of D; 0 of the samples or images themselves"),
    Column("log_snr", float, "1", "-2 ln sigma; infinite at 0"),
)
GROUPS_ALONG = Schema(
    "groups_along",
    (Column("source", str, "", "samples, or data: D of noised images"), *_LEVEL, *GROUP_SHARES.columns),
)
GROUP_DISTANCES_ALONG = Schema(
    "group_distances_along",
    (
        Column("against", str, "", "target, or data: D of noised images at the same level"),
        *_LEVEL,
        *GROUP_DISTANCES.columns,
    ),
)
GROUP_READINGS = Schema(
    "group_readings",
    (
        Column("quantity", str, "", "decided: share of samples whose D is of the group of their end; judge: mean over "
               "groups of the share of noised images whose D is read as what they are labelled"),
        *_LEVEL,
        Column("n", int, "", "samples, or images"),
        Column("value", float, "1", "that share"),
        *ends("1", "Wilson; of the judge from those of all groups (Newcombe)"),
        Column("chance", float, "1", "of the judge one over the number of groups; missing of decided"),
    ),
)  # fmt: skip
SAMPLES, DATA = "samples", "data"
FEWEST = 4  # images of each group


@displayed
@checked
@dataclass(frozen=True, eq=False)
class GroupControl:
    """What a judge says of D of noised data.

    Attributes
    ----------
    sigmas : tuple of float
        Noise levels.
    judged : tuple of JudgedGroups
        Of D at each of them.
    clean : JudgedGroups
        Of the images themselves.
    truth : array, shape (n,), int64
        Labels of the images; the judge's own of the images themselves where none were given.
    """

    sigmas: tuple[float, ...]
    judged: tuple[JudgedGroups, ...]
    clean: JudgedGroups
    truth: Integers


@displayed
@checked
@dataclass(frozen=True, eq=False)
class GroupsAlong:
    """What `shares_along` found.

    Attributes
    ----------
    shares, distances, readings, landmarks : DataFrame
        Columns declared in `GROUPS_ALONG`, `GROUP_DISTANCES_ALONG`, `GROUP_READINGS` and `LANDMARKS` of directions.
    """

    shares: pd.DataFrame
    distances: pd.DataFrame
    readings: pd.DataFrame
    landmarks: pd.DataFrame


@checked
@torch.no_grad()
def judge_control(
    denoiser: Denoiser, images: Tensor, sigmas: Sequence[float], judge: GroupJudge, groups: Sequence[str], *,
    labels: Tensor | None = None, condition: Condition = None, calibration: Calibration | None = None, seed: int = 0,
    batch: int = 64, progress: bool = False,
) -> GroupControl:  # fmt: skip
    """Judge D of noised images: posterior means, as blurred as the predictions along a path, of known groups.

    Parameters
    ----------
    denoiser : Denoiser
        The model, without guidance.
    images : Tensor, shape (n, *shape)
        Data, with the classes that the samples have.
    sigmas : sequence of float
        Noise levels, those of the path.
    judge, groups, calibration
        As for `judge_groups`.
    labels : Tensor, shape (n,), int64, optional
        Group of each image; by default what the judge says of the images themselves.
    condition : optional
        One row an image.
    seed : int
        Of the noise.
    batch : int
        Images a call of the denoiser.
    progress : bool
        Show a progress bar.

    Raises
    ------
    InputError
        For labels that do not fit, and fewer than four images of a group.
    """
    clean = judge_groups(judge, images, groups, calibration=calibration)
    truth, kinds = clean.chosen if labels is None else host_array(labels), len(groups)
    fits = np.issubdtype(truth.dtype, np.integer) and truth.shape == (len(images),) and truth.min() >= 0
    if not fits or truth.max() >= kinds or np.bincount(truth, minlength=kinds).min() < FEWEST:
        found = f"shape {truth.shape}, {np.unique(truth, return_counts=True)[1].tolist()} images"
        raise InputError("labels", found=found, expected=f"({len(images)},), {FEWEST} or more of each of {kinds}")
    bank = Bank(images, [float(sigma) for sigma in sigmas if sigma > 0], seed=seed)
    condition = to_device(condition, images.device)
    branch = "uncond" if condition is None else "cond"
    predictions: list[list[Tensor]] = [[] for _ in bank.sigmas]
    for point in bank.points(batch=batch, progress=progress):
        rows = None if condition is None else select_rows(condition, point.rows)
        predictions[point.level].append(evaluate(denoiser, point.x, point.sigma, rows, branch=branch))
    judged = tuple(judge_groups(judge, torch.cat(part), groups, calibration=calibration) for part in predictions)
    return GroupControl(tuple(bank.sigmas), judged, clean, truth)


@checked
def shares_along(
    path: Path, judge: GroupJudge, groups: Sequence[str], *, target: Mapping[str, float] | None = None,
    control: GroupControl | None = None, calibration: Calibration | None = None, attribute: str = "group",
    margin: float = 0.1, trusted: float = 0.9, decided: float = 0.95, resamples: int = 1000, seed: int = 0,
) -> GroupsAlong:  # fmt: skip
    """Shares of groups of D at every noise level, how far they are from a target and from data, and where that begins.

    Parameters
    ----------
    path : Path
        Of `run_path`, or of a recorded run; samples are independent.
    judge, groups, calibration
        As for `judge_groups`.
    target : mapping of str to float, optional
        Shares that are wanted; by default even ones.
    control : GroupControl, optional
        From `judge_control`, at the levels of the path.
    attribute : str
        What the groups are groups of, for the table of landmarks.
    margin : float
        Total variation at which shares depart: `departs_from_target` and `departs_from_data` are the noise levels
        below which hard counts are farther off at all levels. With a control, the former is no earlier than the judge
        is trusted.
    trusted : float
        Mean share of groups that the judge reads as labelled, for `trusted_from`.
    decided : float
        Share of samples that are of the group of their end, for `decided_at`.
    resamples, seed : int
        Of the bootstrap over samples, and over images.

    Raises
    ------
    InputError
        For a path of fewer than two known levels or samples, a control at other levels or of other groups, and
        thresholds that are no shares.
    """
    kept = [level for level in range(len(path.sigmas)) if not path.missing or not path.missing[level]]
    if len(kept) < 2 or path.denoised.shape[1] < 2 or not all(0 < one < 1 for one in (margin, trusted, decided)):
        found = f"{len(kept)} known levels, {path.denoised.shape[1]} samples; {margin}, {trusted}, {decided}"
        raise InputError("path, thresholds", found=found, expected="two or more of both; between 0 and 1")
    sigmas = tuple(float(path.sigmas[level]) for level in kept)
    if control is not None and (
        control.clean.groups != tuple(groups)
        or len(control.sigmas) != len(sigmas)
        or not np.allclose(control.sigmas, sigmas)
    ):
        found = f"{len(control.sigmas)} levels, groups {control.clean.groups}"
        raise InputError("control", found=found, expected=f"the {len(sigmas)} levels of the path, groups {groups}")
    end = path.end if bool(torch.isfinite(path.end).any()) else path.denoised[kept[-1]]  # a recording may have none
    images = (*path.denoised[kept], end)
    judged = [judge_groups(judge, one, groups, calibration=calibration) for one in images]
    wanted = shares_wanted(tuple(groups), target)
    of_data = {} if control is None else {DATA: [*control.judged, control.clean]}
    both = {SAMPLES: judged, **of_data}
    curves = _Curves.of(both, None if control is None else control.truth, resamples=resamples, seed=seed)
    return GroupsAlong(
        shares=_shares(both, sigmas),
        distances=_distances(both, sigmas, dict(zip(groups, wanted.tolist(), strict=True)), seed),
        readings=curves.table(sigmas),
        landmarks=landmark_table(attribute, curves.landmarks(sigmas, wanted, (margin, trusted, decided))),
    )


Found = Mapping[str, Sequence[JudgedGroups]]
"""By source: what was judged at each noise level, and last of all at the end."""


def _shares(found: Found, sigmas: Sequence[float]) -> pd.DataFrame:
    parts = [
        group_shares(one).assign(source=source, **_place(sigma))
        for source, judged in found.items()
        for one, sigma in zip(judged, (*sigmas, 0.0), strict=True)
    ]
    return GROUPS_ALONG.check(pd.concat(parts, ignore_index=True))


def _distances(found: Found, sigmas: Sequence[float], target: Mapping[str, float], seed: int) -> pd.DataFrame:
    parts = []
    for place, sigma in enumerate((*sigmas, 0.0)):
        one = found[SAMPLES][place]
        parts.append(group_distances(one, target, seed=seed).assign(against="target", **_place(sigma)))
        if DATA in found:
            table = group_distances(one, found[DATA][place], seed=seed)
            parts.append(table.assign(against=DATA, **_place(sigma)))
    table = pd.concat(parts, ignore_index=True)
    return GROUP_DISTANCES_ALONG.check(table.sort_values("against", kind="stable", ascending=False))


def _place(sigma: float) -> dict[str, float]:
    return {"sigma": sigma, "log_snr": -2 * math.log(sigma) if sigma > 0 else math.inf}


@dataclass(frozen=True, eq=False)
class _Curves:
    """Members (level, image, group) of each source, bootstrap weights of their images, and what is read."""

    members: dict[str, Floats]
    weights: dict[str, Floats]
    readings: dict[str, Shares]

    @classmethod
    def of(cls, found: Found, truth: Integers | None, *, resamples: int, seed: int) -> "_Curves":
        chosen = {source: np.stack([one.chosen for one in judged]) for source, judged in found.items()}
        steps = list(range(len(chosen[SAMPLES]) - 1))
        own = chosen[SAMPLES]
        readings = {"decided": Shares("decided", [(own[:-1] == own[-1], np.ones(own.shape[1], bool))], steps)}
        if truth is not None:
            kinds = range(len(found[DATA][0].groups))
            right = chosen[DATA][:-1] == truth
            readings["judge"] = Shares("judge", [(right, truth == kind) for kind in kinds], steps)
        members = {
            source: np.stack([one.members for one in judged[:-1]]).astype(np.float64)
            for source, judged in found.items()
        }
        weights = {
            source: draw_seeds([shares], members[source].shape[1], resamples=resamples, seed=seed + place)
            for place, (source, shares) in enumerate(zip(found, readings.values(), strict=True))
        }
        return cls(members, weights, readings)

    def table(self, sigmas: Sequence[float]) -> pd.DataFrame:
        """What is read at each level."""
        parts = []
        for source, (quantity, shares) in zip(self.weights, self.readings.items(), strict=True):
            low, high = shares.ends()
            value = shares.draws(self.weights[source][:1])[0]
            chance = math.nan if quantity == "decided" else 1 / len(shares.groups)
            parts.append(
                pd.DataFrame({
                    "quantity": quantity, "sigma": sigmas, "log_snr": -2 * np.log(sigmas),
                    "n": self.members[source].shape[1], "value": value, "low": low, "high": high, "chance": chance,
                })
            )  # fmt: skip
        return GROUP_READINGS.check(pd.concat(parts, ignore_index=True))

    def landmarks(self, sigmas: Sequence[float], target: Floats, thresholds: tuple[float, float, float]) -> Places:
        """Where curves cross their thresholds for good, in every draw."""
        margin, trusted, decided = thresholds
        log_snr = -2 * np.log(sigmas)

        def crossed(curve: Curve, threshold: float) -> tuple[Curve, float, Floats]:
            return curve, threshold, last_rise(log_snr, curve.draws, threshold)

        found = {}
        if DATA in self.weights:
            found["trusted_from"] = crossed(Curve.of(self.readings["judge"], self.weights[DATA]), trusted)
        found["decided_at"] = crossed(Curve.of(self.readings["decided"], self.weights[SAMPLES]), decided)
        curve, _, places = crossed(self._apart(target), margin)
        if "trusted_from" in found:
            places = np.maximum(places, found["trusted_from"][2])
        found["departs_from_target"] = (curve, margin, places)
        if DATA in self.weights:
            found["departs_from_data"] = crossed(self._apart(self._drawn(DATA)), margin)
        return found

    def _apart(self, other: Floats) -> Curve:
        """Total variation of the samples' shares in every draw, (draw, level)."""
        values = DISTANCES["total_variation"](self._drawn(SAMPLES) - other)
        nowhere = np.full(values.shape[1], np.nan)
        count = self.members[SAMPLES].shape[1]
        return Curve("total_variation", values, (nowhere, nowhere), list(range(values.shape[1])), count)

    def _drawn(self, source: str) -> Floats:
        """Shares in every draw, (draw, level, group)."""
        weights = self.weights[source]
        shares = np.einsum("di,lig->dlg", weights, self.members[source], optimize=True)
        found: Floats = shares / weights.sum(1)[:, None, None]
        return found
