"""What the sections of a directions report share: sizes, activations, probes, each made when first needed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.analysis.directions.direction_fits import Method
from scorescope.analysis.directions.finding import find_direction
from scorescope.analysis.directions.noise_intervals import EVERYWHERE
from scorescope.analysis.directions.probing import ProbeScan
from scorescope.analysis.directions.steered import SteerCurve
from scorescope.analysis.directions.steering import steer_curve
from scorescope.analysis.directions.verdicts import judge_together
from scorescope.analysis.statistics.splits import Split, stratified_halves
from scorescope.data.display import displayed
from scorescope.probes.activations.activations import Activations
from scorescope.probes.activations.collect import collect
from scorescope.probes.bank.points import Bank, log_snr_grid
from scorescope.probes.models.denoiser import Condition, sigma_range
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.sampling.arms import Sampling
from scorescope.probes.sampling.kept_predictions import KeptPredictions
from scorescope.probes.sampling.solvers import Euler
from scorescope.probes.sites.control_directions import shuffled_directions
from scorescope.probes.sites.direction import Direction
from scorescope.reports.directions.known_labels import of_images, scan_known, split_known
from scorescope.reports.directions.study import Contrast, Subject, site_name

LOWEST, HIGHEST = 0.03, 60.0  # noise levels of the scans, in units of the data
FOUND_AT = 1.0  # noise level at which steering directions are found, in units of the data
DOSE = 3.0  # standard deviations of the projection that are added where one dose must do
READABLE = 0.9  # balanced accuracy whose interval has to lie above this
RELEVANT = 0.2  # effect that counts, in natural standard deviations: of two equally frequent values, a tenth of the way
FRESH = 1000  # first seed of what is measured after a site or a contrast was chosen by the seeds from 0 on
ALONE = "readable, not steerable"  # the finding that is confirmed on other data
LAW = 3  # directions of shuffled labels: the lengths tell labels that mean something from them, so that few will do
MOVES = {"steerable": "steerable", "reversed": "moves backwards"}


@displayed
@dataclass(frozen=True)
class Workbench:
    """A subject, how much is measured of it, and what was measured once for all sections.

    Attributes
    ----------
    subject : Subject
        Model and data.
    quick : bool
        Fewer images, levels, seeds and controls; the first two contrasts, and every third site in the steering map.
    progress : bool
        Show progress bars.
    count : int or None
        Labelled images that are looked at, in place of 1000 (500 with `quick`).
    seed : int
        First seed of samples, and that of noise and splits.
    """

    subject: Subject
    quick: bool
    progress: bool
    count: int | None = None
    seed: int = 0

    def size(self, full: int, quick: int) -> int:
        """A number of things, by the size of the report."""
        return quick if self.quick else full

    @property
    def contrasts(self) -> list[Contrast]:
        """What is asked; with `quick` the first two."""
        return list(self.subject.contrasts)[: self.size(len(self.subject.contrasts), 2)]

    @property
    def told(self) -> list[Contrast]:
        """Those of them that the condition names."""
        return [contrast for contrast in self.contrasts if self.subject.is_told(contrast.attribute)]

    @cached_property
    def sigmas(self) -> list[float]:
        """Noise levels of the scans, evenly spaced in log-SNR, falling."""
        return self.levels(self.size(14, 9))

    def levels(self, count: int, *, low: float = LOWEST, high: float = HIGHEST) -> list[float]:
        """Noise levels evenly spaced in log-SNR from `high` to `low`, as far as the denoiser has them."""
        least, largest = sigma_range(self.subject.denoiser, low=low, high=high)
        return log_snr_grid(-2 * math.log(largest), -2 * math.log(least), count)

    def steps(self, count: int) -> list[float]:
        """Noise levels of sampling, as far as the denoiser has them, and 0."""
        least, largest = sigma_range(self.subject.denoiser, low=0.002, high=80.0)
        return edm_sigmas(count, sigma_min=least, sigma_max=largest)

    def seeds(self, count: int) -> range:
        """Seeds of samples."""
        return range(self.seed, self.seed + count)

    def fresh(self, count: int) -> range:
        """Seeds of samples that had no part in a choice."""
        return range(self.seed + FRESH, self.seed + FRESH + count)

    @cached_property
    def images(self) -> Tensor:
        """Labelled images that are looked at."""
        return self.subject.images[: self.count or self.size(1000, 500)]

    @cached_property
    def labels(self) -> Tensor:
        """Their labels."""
        return self.subject.labels[: len(self.images)]

    @cached_property
    def groups(self) -> Tensor:
        """Which of them are independent: each its own group, or those that the subject says."""
        given = self.subject.groups
        return torch.arange(len(self.images)) if given is None else given[: len(self.images)]

    def known(self, *contrasts: Contrast, count: int | None = None) -> Tensor:
        """Images, at most the first `count`, of which the attributes of the contrasts are known."""
        columns = [self.subject.column(contrast.attribute) for contrast in contrasts]
        return (self.labels[:, columns] >= 0).all(1).nonzero()[:count, 0]

    def halves(self, rows: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Places among some images of two halves of them that share no group, classes alike where groups are single."""
        groups = self.groups[rows]
        if len(groups.unique()) == len(groups):
            return stratified_halves(classes, seed=self.seed)
        order = torch.randperm(len(groups.unique()), generator=torch.Generator().manual_seed(self.seed))
        first = order[groups.unique(return_inverse=True)[1]] < len(order) // 2
        return first.nonzero()[:, 0], (~first).nonzero()[:, 0]

    @cached_property
    def denoiser(self) -> KeptPredictions:
        """The model, asked once of what several sections and contrasts share; its inner sites are the subject's."""
        return KeptPredictions(self.subject.denoiser)

    @cached_property
    def activations(self) -> Activations:
        """Averages over space at every site, of the unconditional branch."""
        # a conditional branch would be told the attribute
        bank = Bank(self.images, self.sigmas, seed=self.seed + 1)
        batch = self.subject.batch
        return collect(self.subject.denoiser, bank, list(self.subject.sites), batch=batch, progress=self.progress)

    @cached_property
    def scan(self) -> ProbeScan:
        """Probes of every contrast's attribute at every site and noise level."""
        labels = {c.attribute: self.labels[:, self.subject.column(c.attribute)] for c in self.contrasts}
        return self.scan_of(self.activations, labels, resamples=self.size(500, 200))

    def scan_of(self, activations: Activations, labels: Mapping[str, Tensor], *, resamples: int) -> ProbeScan:
        """Probes of labels of the images, -1 where not known, on the workbench's split."""
        return scan_known(
            activations, labels, split=self.split, groups=self.groups, resamples=resamples, seed=self.seed,
            progress=self.progress,
        )  # fmt: skip

    @cached_property
    def split(self) -> Split:
        """Images of each part of all probes: no group of images, and no image that comes twice, is in two."""
        contents = self.activations.contents
        alike = contents if self.subject.groups is None and contents is not None else self.groups
        return split_known(self.labels >= 0, alike, seed=self.seed)

    @property
    def sampling(self) -> Sampling:
        """First-order steps: half the calls of Heun, and the same noise levels in all arms."""
        shape, device = tuple(self.images.shape[1:]), self.images.device
        steps = self.steps(self.size(8, 7))
        return Sampling(solver=Euler(), sigmas=steps, shape=shape, device=device, batch=self.subject.batch)

    @cached_property
    def natural(self) -> dict[str, float]:
        """Standard deviation of each score over the images whose attribute is known: the unit of effects."""
        with torch.no_grad():
            found = self.subject.scores()(self.images)
        rows = {contrast.attribute: self.known(contrast) for contrast in self.subject.contrasts}
        return {name: float(values[rows.get(name, slice(None))].std()) for name, values in found.items()}

    def open_condition(self, contrast: Contrast, count: int) -> Condition:
        """Conditions of `count` samples that name everything but the contrast's attribute."""
        return self.subject.conditions(self.subject.opened(self.subject.drawn(count, contrast), contrast))

    def examples(self, contrast: Contrast, site: str, level: int) -> tuple[Tensor, Tensor]:
        """Activations of the images that show one end of a contrast, and which: 1 at its high end."""
        rows, high = self.subject.rows(contrast)
        kept = rows < len(self.images)
        return self.activations.at(site, level)[rows[kept]], high[kept]

    def direction(self, contrast: Contrast, site: str, *, sigma: float, method: Method = "difference") -> Direction:
        """The direction of a contrast at a site, found at the noise level nearest to `sigma`."""
        level = self.activations.nearest_level(sigma)
        values, high = self.examples(contrast, site, level)
        return find_direction(
            values, high.numpy(), method=method, site=site, attribute=contrast.attribute,
            sigma=self.activations.sigmas[level], output=self.activations.output_of(site),
        )  # fmt: skip

    def contrast_activations(self, contrast: Contrast, site: str) -> Activations:
        """Activations at one site of the images that show one end of a contrast."""
        rows, _ = self.subject.rows(contrast)
        rows = rows[rows < len(self.images)]
        return of_images(self.at_site(site), rows)

    def at_site(self, site: str) -> Activations:
        """Activations at one site alone."""
        return replace(self.activations, values={site: self.activations.site(site)}, how={site: "mean"})

    def presence_scan(self, site: str) -> ProbeScan:
        """Probes at one site of each contrast's high end against all other values."""
        labels = {}
        for contrast in self.contrasts:
            values = self.labels[:, self.subject.column(contrast.attribute)]
            labels[contrast.attribute] = (values == self.subject.values(contrast)[1]).long().where(values >= 0, -1)
        return self.scan_of(self.at_site(site), labels, resamples=50)

    def steer(
        self, contrast: Contrast, direction: Direction, *, strengths: Sequence[float], seeds: range,
        intervals: Sequence[tuple[float, float]] = EVERYWHERE,
    ) -> SteerCurve:  # fmt: skip
        """Dose and response of a direction against its controls, the attribute left open in the condition.

        Controls are drawn anew for every contrast, site and range of seeds. The direction is that of `direction`.
        """
        values, high = self.examples(contrast, direction.site, self.activations.nearest_level(FOUND_AT))
        place = self.contrasts.index(contrast) * len(self.subject.sites) + self.subject.sites.index(direction.site)
        drawn = seeds.start + place
        return steer_curve(
            self.subject.denoiser, direction, self.subject.scores(), target=contrast.attribute, seeds=seeds,
            condition=self.open_condition(contrast, len(seeds)), strengths=strengths, intervals=intervals,
            natural=self.natural, relevant=RELEVANT, random=self.size(5, 4),
            shuffled=shuffled_directions(direction, values, high, count=LAW, seed=drawn),
            sampling=self.sampling, resamples=self.size(1000, 400), seed=drawn, progress=False,
        )  # fmt: skip

    @cached_property
    def steered(self) -> pd.DataFrame:
        """Readability and steerability of every contrast at every site, as a screening (false discovery rate)."""
        cells = [(contrast, site) for contrast in self.contrasts for site in self.sites]
        readings, verdicts = [], []
        for contrast, site in tqdm(cells, desc="steering map", disable=not self.progress, leave=False):
            direction = self.direction(contrast, site, sigma=FOUND_AT)
            found = self.steer(contrast, direction, strengths=(-DOSE, DOSE), seeds=self.seeds(self.size(10, 8)))
            readings.append(self._reading(contrast, site))
            verdicts.append(found.verdicts)
        table = pd.concat([pd.DataFrame(readings), verdict_columns(judge_together(verdicts, correction="fdr"))], axis=1)
        return table.assign(finding=[finding_of(row) for row in table.to_dict("records")])

    def best_site(self, contrast: Contrast) -> str:
        """The site at which a contrast's direction outdoes its controls most."""
        rows = self.steered[self.steered["attribute"] == contrast.attribute]
        return str(_best(rows)["site"])

    @property
    def strongest(self) -> Contrast:
        """The contrast whose direction outdoes its controls most anywhere."""
        return self.contrast_of(str(_best(self.steered)["attribute"]))

    def contrast_of(self, attribute: str) -> Contrast:
        """The contrast of an attribute."""
        return next(contrast for contrast in self.contrasts if contrast.attribute == attribute)

    @property
    def looked_at(self) -> str:
        """What the steering map holds, of what the subject has."""
        parts = [
            f"{len(taken)} of {len(every)} {name}" if len(taken) < len(every) else f"all {len(every)} {name}"
            for name, taken, every in (
                ("contrasts", self.contrasts, self.subject.contrasts), ("sites", self.sites, self.subject.sites)
            )
        ]  # fmt: skip
        return f"{' and '.join(parts)} ({', '.join(map(site_name, self.sites))})"

    @property
    def sites(self) -> list[str]:
        """Sites of the steering map; with `quick` every third one."""
        return list(self.subject.sites)[:: self.size(1, 3)]

    def _reading(self, contrast: Contrast, site: str) -> dict[Any, Any]:
        """Validation accuracy of the attribute's probe at a site, at the level where directions are found."""
        table, level = self.scan.table, self.activations.nearest_level(FOUND_AT)
        cell = table[(table["attribute"] == contrast.attribute) & (table["site"] == site) & (table["level"] == level)]
        names = {"value": "accuracy", "low": "accuracy_low", "high": "accuracy_high"}
        found: dict[Any, Any] = cell[["attribute", "site", *names]].rename(columns=names).iloc[0].to_dict()
        return found


def verdict_columns(verdicts: pd.DataFrame) -> pd.DataFrame:
    """What the map keeps of verdicts of one interval each."""
    kept = [
        "n", "within_budget", "effect", "effect_low", "effect_high", "bar", "margin", "low", "high", "chance",
        "chance_shuffled", "p_random", "p_shuffled", "untested", "p_adjusted", "p_not_adjusted", "family",
        "correction", "verdict",
    ]  # fmt: skip
    return verdicts[kept].rename(columns={"low": "margin_low", "high": "margin_high"})


def _best(rows: pd.DataFrame) -> "pd.Series[Any]":
    """The row with the largest margin, of those that move forwards and leave the image the same image, if any do."""
    inside, forwards = rows["within_budget"], rows["effect"] > 0
    kept = next(part for part in (rows[inside & forwards], rows[forwards], rows) if len(part))
    return kept.sort_values("margin").iloc[-1]


def finding_of(row: Mapping[Any, Any]) -> str:
    """What reading and steering say together of one cell; only what both show is said."""
    readable = row["accuracy_low"] > READABLE
    if row["verdict"] in MOVES:
        if not row["within_budget"]:
            return "moves by breaking the image"
        moves = MOVES[row["verdict"]]
        return f"readable and {moves}" if readable else f"{moves}, not shown readable"
    if row["verdict"] == "not steerable" and row["within_budget"]:
        return ALONE if readable else "not steerable, not shown readable"
    return "readable, undecided" if readable else "undecided"
