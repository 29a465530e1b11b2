"""Groups that the condition does not name: their shares along sampling, what guidance makes of them, what moves them.

    study = study_groups(shapes_subject(), progress=True)
    study.attribute, study.groups                       # frame, ("without", "with")
    study.amplification, study.along, study.landmarks

Classes are the two ends of the first contrast that the condition names.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scorescope.analysis.directions import steer_curve
from scorescope.analysis.groups import GroupJudge, amplification, judge_control, judge_groups, shares_along
from scorescope.analysis.inside import feature_reads
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.experiments import sweep
from scorescope.probes.guidance import APG, CFG, Interval, Rule
from scorescope.probes.models.conditions import select_rows
from scorescope.probes.models.denoiser import sigma_range
from scorescope.probes.models.noise import SampleNoise, edm_sigmas
from scorescope.probes.sampling import Euler, RuleField, Sampling, run_path
from scorescope.probes.sparse import feature_direction
from scorescope.reports.directions import Contrast, Subject
from scorescope.reports.inside.sparse_study import JUDGED, SparseStudy, nearest

BARE, STRONG = "CFG, w = 1", "CFG, w = 4"
RULES: dict[str, Rule] = {
    BARE: CFG(1.0), "CFG, w = 2": CFG(2.0), STRONG: CFG(4.0), "APG, w = 4": APG(4.0),
    "CFG, w = 4, σ 0.2 to 2": Interval(CFG(4.0), low=0.2, high=2.0),
}  # fmt: skip
STEPS, FIRST_SEED = 12, 7000
DOSES = (-8.0, 8.0)  # standard deviations of the projection


@displayed
@checked
@dataclass(frozen=True, eq=False)
class GroupStudy:
    """What was found of groups.

    Attributes
    ----------
    attribute : str
        What they are groups of.
    groups, classes : tuple of str
        Names of its values, and of the classes that the condition names.
    amplification : DataFrame
        `AMPLIFICATION` of the rules.
    along, readings, landmarks : DataFrame
        `GROUPS_ALONG`, `GROUP_READINGS` and `LANDMARKS`, with columns `setting` and `class`.
    """

    attribute: str
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    amplification: pd.DataFrame
    along: pd.DataFrame
    readings: pd.DataFrame
    landmarks: pd.DataFrame


def open_attribute(subject: Subject) -> str | None:
    """The first attribute that the judge knows and the condition does not name; None where it names them all."""
    with torch.no_grad():
        known = subject.scorer(subject.images[:1])
    return next((name for name in known if name not in subject.attributes or not subject.is_told(name)), None)


def named_contrast(subject: Subject) -> Contrast | None:
    """The first contrast whose attribute the condition names."""
    return next((one for one in subject.contrasts if subject.is_told(one.attribute)), None)


def judge_of(subject: Subject, attribute: str) -> tuple[GroupJudge, tuple[str, ...]]:
    """The subject's judge of one attribute, and the names of its values: their numbers where none are known."""
    with torch.no_grad():
        count = subject.scorer(subject.images[:1])[attribute].shape[1]
    config = getattr(subject.scorer, "config", None)
    known: Mapping[str, Any] = {**getattr(config, "attributes", {}), **subject.attributes}
    names = tuple(map(str, known.get(attribute, range(count))))

    def judge(images: Tensor) -> Tensor:
        with torch.no_grad():
            return subject.scorer(images)[attribute]

    return judge, names


@checked
def study_groups(
    subject: Subject, *, seeds: int = 240, paths: int = 64, control: int = 200, seed: int = 0, progress: bool = False
) -> GroupStudy:
    """Measure the groups of the first attribute that the condition leaves open.

    Parameters
    ----------
    subject : Subject
        Model, labelled images and judge.
    seeds : int
        Samples of every rule, half of each class.
    paths : int
        Samples of each class that are judged along their paths.
    control : int
        Images of each class whose D is judged at every noise level.
    seed : int
        Of noise; the first of the samples.
    progress : bool
        Show progress bars.

    Raises
    ------
    InputError
        Where the condition names all that the judge knows, or nothing.
    """
    attribute, contrast = open_attribute(subject), named_contrast(subject)
    if attribute is None or contrast is None:
        found = f"none open beside {list(subject.attributes)}" if contrast else "a condition that names no contrast"
        expected = "an attribute that the condition names, and one that it does not"
        raise InputError("subject", found=found, expected=expected)
    work = _Work(subject, contrast, *judge_of(subject, attribute), attribute, FIRST_SEED + seed, progress)
    tables = [
        part
        for name, value in zip((contrast.low, contrast.high), subject.values(contrast), strict=True)
        for part in work.along(name, value, paths, control)
    ]
    joined = [pd.concat(parts, ignore_index=True) for parts in zip(*tables, strict=True)]
    return GroupStudy(attribute, work.groups, (contrast.low, contrast.high), work.amplified(seeds), *joined)


@dataclass(frozen=True, eq=False)
class _Work:
    """What the parts of a study share."""

    subject: Subject
    contrast: Contrast
    judge: GroupJudge
    groups: tuple[str, ...]
    attribute: str
    seed: int
    progress: bool

    def conditions(self, count: int, value: int) -> Any:
        """Of samples of one class; what else the condition names is drawn."""
        labels = self.subject.drawn(count, self.contrast)
        return self.subject.conditions(self.subject.with_value(labels, self.contrast.attribute, value))

    def amplified(self, seeds: int) -> pd.DataFrame:
        """Every rule, class by class, from the same seeds."""
        low, high = self.subject.values(self.contrast)
        labels = self.subject.drawn(seeds, self.contrast)
        column = self.subject.column(self.contrast.attribute)
        labels[:, column] = torch.where(torch.arange(seeds) % 2 == 1, high, low)
        runs = sweep(
            self.subject.denoiser, RULES, seeds=range(self.seed, self.seed + seeds),
            condition=self.subject.conditions(labels), solver=Euler(), sigmas=levels_of(self.subject),
            shape=tuple(self.subject.images.shape[1:]), batch=self.subject.batch, progress=self.progress,
            device=self.subject.images.device,
        )  # fmt: skip
        samples = {run.name: judge_groups(self.judge, run.run.samples, self.groups) for run in runs}
        rows, ends = self.subject.rows(self.contrast)
        data = judge_groups(self.judge, self.subject.images[rows], self.groups)
        names = np.array([self.contrast.low, self.contrast.high])
        classes = names[(labels[:, column] == high).long().cpu().numpy()]
        return amplification(samples, data, classes=classes, data_classes=names[ends.cpu().numpy()])

    def along(
        self, name: str, value: int, paths: int, control: int
    ) -> Iterator[tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]]:
        """Shares, readings and landmarks of one class, without guidance and with."""
        subject, x0, sigmas = self.subject, self.subject.images, levels_of(self.subject)
        noise = SampleNoise(range(self.seed, self.seed + paths), tuple(x0.shape[1:]), x0.device, x0.dtype)
        start, condition = sigmas[0] * noise.draw(), self.conditions(paths, value)
        rows = (subject.labels[:, subject.column(self.contrast.attribute)] == value).nonzero()[:control, 0]
        known = judge_control(
            subject.denoiser, x0[rows], sigmas, self.judge, self.groups, seed=self.seed, batch=subject.batch,
            condition=subject.conditions(subject.labels[rows]), progress=self.progress,
        )  # fmt: skip
        for setting in (BARE, STRONG):
            field = RuleField(subject.denoiser, RULES[setting])
            parts = [
                run_path(field, start[one], sigmas, condition=select_rows(condition, one), solver=Euler())
                for one in torch.arange(paths).split(subject.batch)
            ]
            path = replace(
                parts[0], states=torch.cat([part.states for part in parts], 1), end=torch.cat([p.end for p in parts]),
                denoised=torch.cat([part.denoised for part in parts], 1),
            )  # fmt: skip
            found = shares_along(path, self.judge, self.groups, control=known, attribute=self.attribute)
            told = {"setting": setting, "class": name}
            yield found.shares.assign(**told), found.readings.assign(**told), found.landmarks.assign(**told)


@checked
def steered_shares(
    subject: Subject, sparse: SparseStudy, attribute: str, *, seeds: Sequence[int] = JUDGED, seed: int = 0
) -> pd.DataFrame:
    """The feature of each site that reads one of two groups best: their shares when it is added, and what that costs.

    Parameters
    ----------
    subject : Subject
        Model and judge.
    sparse : SparseStudy
        Autoencoders, and the held-out images by which a feature is chosen.
    attribute : str
        Of two values.
    seeds : sequence of int
        Of the samples, without a condition.
    seed : int
        Of the random directions beside it.

    Returns
    -------
    DataFrame
        `BALANCE` with columns `feature`, `reads` (chance that it, or where it reads the first group its negative, is
        stronger in an image of the second: of the images that it was chosen on), `random_least` and `random_most`,
        shares under random directions of the same norm. Strengths lead to the second group. There is no verdict: the
        feature is the best of hundreds, of which random directions of any number are no measure.
    """
    judge, groups = judge_of(subject, attribute)
    labels = {attribute: torch.from_numpy(judge_groups(judge, sparse.images, groups).chosen)}
    level, stored = nearest(sparse.stored.sigmas), sparse.stored

    def scores(images: Tensor) -> dict[str, Tensor]:
        found = judge(images)
        return {attribute: found[:, 1] - found[:, 0]}

    how = Sampling(
        solver=Euler(), sigmas=levels_of(subject), shape=tuple(subject.images.shape[1:]), batch=subject.batch,
        device=subject.images.device,
    )  # fmt: skip
    parts = []
    for site, codec in sparse.autoencoders.items():
        reads = feature_reads(codec, stored, site, labels, levels=[level])
        best = reads.iloc[int((reads["value"] - 0.5).abs().to_numpy().argmax())]
        number, turn = int(best["feature"]), 1.0 if best["value"] > 0.5 else -1.0
        values = stored.at(site, level).flatten(0, 1)
        found = feature_direction(codec, number, site=site, values=values, attribute=attribute)
        curve = steer_curve(
            subject.denoiser, replace(found, vector=turn * found.vector), scores, target=attribute, seeds=seeds,
            strengths=DOSES, sampling=how, seed=seed, progress=False,
        )  # fmt: skip
        table = curve.balance(*groups)
        read = 0.5 + turn * (float(best["value"]) - 0.5)
        own = table[table["arm"].isin(["none", "direction"])].assign(feature=number, reads=read)
        parts.append(own.merge(_of_random(table), on=["strength", "value"], how="left"))
    return pd.concat(parts, ignore_index=True)


def _of_random(balance: pd.DataFrame) -> pd.DataFrame:
    """Least and largest share under random directions, by strength and value."""
    shares = balance[balance["arm"].str.startswith("random")].groupby(["strength", "value"])["share"]
    return shares.agg(random_least="min", random_most="max").reset_index()


def levels_of(subject: Subject) -> list[float]:
    """Noise levels of sampling."""
    least, largest = sigma_range(subject.denoiser, low=0.002, high=80.0)
    return edm_sigmas(STEPS, sigma_min=least, sigma_max=largest)
