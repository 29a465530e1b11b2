"""Sparse features of a subject's sites, from images to verdicts: what a report on them shows.

    study = study_sparse(shapes_subject(images=1600), ["network.middle2", "network.up.0"], folder="features")
    study.sheet, study.density, study.reads, study.verdicts

Features are chosen on the images that the autoencoders were trained on, and by their effects on samples of some seeds;
what is said of them is measured on other images, and on samples of other seeds. The best of hundreds of features moves
more than a random direction does even where they are random directions themselves, so that their number is corrected
for.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.analysis.directions import SteerCurve, judge_together, steer_curve, steering_effect
from scorescope.analysis.inside import feature_density, feature_reads, sparse_sheet, top_images
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.activations import ShuffledRows, StoredActivations, collect
from scorescope.probes.bank import Bank, log_snr_grid
from scorescope.probes.models.denoiser import sigma_range
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.sampling import Euler, Sampling
from scorescope.probes.sites import Direction
from scorescope.probes.sparse import SparseAutoencoder, feature_direction, train_sparse
from scorescope.reports.directions import Contrast, Subject
from scorescope.reports.inside import figures

READ_AT = 1.0  # noise level at which features are chosen, in units of the data
DOSE = 3.0  # standard deviations of the projection
RELEVANT = 0.2  # natural standard deviations, as in the directions report
RANDOM = 32  # arms of the verdicts: a feature is one of hundreds, of which the best moves more than one that is drawn
SCREENED, JUDGED = range(9000, 9012), range(5000, 5024)
SHEET_IMAGES = 128  # whose predictions are compared; the reconstruction is judged on all held-out images
FEATURES, ACTIVE, STEPS, BATCH = 4, 8, 1000, 1024  # features a channel; active ones; of the training


@displayed
@checked
@dataclass(frozen=True, eq=False)
class SparseStudy:
    """Sparse features and what was found of them.

    Attributes
    ----------
    autoencoders : mapping of str to SparseAutoencoder
        By site, one for all noise levels.
    stored : StoredActivations
        Those of the held-out images.
    images : Tensor, shape (n, *shape)
        The held-out images.
    sheet, density : DataFrame
        `SPARSE_SHEET` and `SPARSE_DENSITY` of all sites.
    reads : DataFrame
        `FEATURE_READS` of the chosen features at all noise levels, on the held-out images.
    verdicts : DataFrame
        `STEER_VERDICTS` of the chosen features, one family, on seeds that had no part in the choice.
    moves : DataFrame
        `STEER_CURVE` of them, with columns `site` and `feature`.
    chosen : DataFrame
        `site`, `attribute`, `feature` and `sign` (-1: turned round), one row a verdict.
    """

    autoencoders: Mapping[str, SparseAutoencoder]
    stored: StoredActivations
    images: Tensor
    sheet: pd.DataFrame
    density: pd.DataFrame
    reads: pd.DataFrame
    verdicts: pd.DataFrame
    moves: pd.DataFrame
    chosen: pd.DataFrame

    @property
    def judged(self) -> pd.DataFrame:
        """A row a verdict: `STEER_VERDICTS`, with `feature`, and of what it reads of the attribute on the held-out
        images, at the level at which it was chosen: `images`, `value`, `value_low` and `value_high`, above 0.5
        where it reads as it did on the images of training, and `p_reads`, corrected; the level is `read_at`. Effects
        are of the feature turned to the high end of what it reads (`sign` -1: subtracted).
        """
        level = self.stored.sigmas[nearest(self.stored.sigmas)]
        found = self.verdicts.merge(self.chosen, on=["site", "attribute"], validate="one_to_one")
        keys = ["site", "feature", "attribute"]
        names = {"low": "value_low", "high": "value_high", "p_adjusted": "p_reads", "n": "images"}
        read = self.reads.loc[self.reads["sigma"] == level, [*keys, "value", *names]].rename(columns=names)
        found = found.merge(read, on=keys, how="left", validate="many_to_one")
        found["read_at"] = level
        turned = found["sign"] < 0
        ends = ["value", "value_low", "value_high"]
        found.loc[turned, ends] = 1 - found.loc[turned, ["value", "value_high", "value_low"]].to_numpy()
        return found

    @property
    def steerable(self) -> pd.DataFrame:
        """Verdicts that say that a feature moves what it reads and leaves the image within its budget."""
        return self.verdicts[(self.verdicts["verdict"] == "steerable") & self.verdicts["within_budget"]]

    def page(
        self, row: int, *, count: int = 6, show: Callable[[Tensor], Tensor] = lambda images: images, **style: Any
    ) -> Figure:
        """The page of one row of `chosen`, at the noise level at which it was chosen; `style` as figures take it.

        `show` makes pictures in [-1, 1] of images that are none themselves; of data that are no images there are none.
        """
        given = self.chosen.iloc[row]
        site, number = str(given["site"]), int(given["feature"])
        level = nearest(self.stored.sigmas)
        top = top_images(self.autoencoders[site], self.stored, site, number, level=level, count=count)
        own = [
            part[(part["site"] == site) & (part["feature"] == number)]
            for part in (self.density, self.reads, self.moves)
        ]
        density, reads, moves = own
        at_level = reads[reads["sigma"] == self.stored.sigmas[level]]
        own_moves = moves[moves["attribute"] == given["attribute"]]
        own_moves = own_moves.assign(strength=given["sign"] * own_moves["strength"])  # the feature itself, not turned
        is_image, has_grid = self.images.ndim == 4, top.maps.ndim == 3
        pictures = show(self.images[top.images]) if is_image else None
        maps = top.maps if is_image and has_grid else None
        return figures.feature_page(pictures, maps, density, at_level, own_moves, **style)


def nearest(sigmas: Sequence[float]) -> int:
    """The level next to that at which features are chosen."""
    return min(range(len(sigmas)), key=lambda place: abs(math.log(sigmas[place] / READ_AT)))


@checked
def study_sparse(
    subject: Subject, sites: Sequence[str], *, folder: str | Path, levels: int = 6, candidates: int = 3,
    seed: int = 0, progress: bool = False,
) -> SparseStudy:  # fmt: skip
    """Train sparse autoencoders at sites, measure them, and judge the features that read the subject's contrasts.

    Parameters
    ----------
    subject : Subject
        Model, labelled images and judge. Two thirds of the images are trained on, the others are held out.
    sites : sequence of str
        Inner modules.
    folder : str or Path
        Where activations and autoencoders go; what is there already is gone on with.
    levels : int
        Noise levels.
    candidates : int
        Features a site and contrast that are screened by their effects; the one of the largest effect is judged.
    seed : int
        Of noise, weights and controls.
    progress : bool
        Show progress bars.

    Raises
    ------
    InputError
        For fewer than 60 images, sites that are there twice, and as `collect` and `steer_curve` do.
    """
    if len(subject.images) < 60:
        raise InputError("subject", found=f"{len(subject.images)} images", expected="at least 60")
    if len(set(sites)) < len(sites) or not sites:
        raise InputError("sites", found=str(list(sites)), expected="one or more, each once")
    work = _Work(subject, list(sites), Path(folder), levels, seed, progress)
    found = {site: work.train(site) for site in sites}
    sheet = pd.concat([work.sheet(site, found[site]) for site in sites], ignore_index=True)
    density = pd.concat([feature_density(found[site], work.held_out, site) for site in sites], ignore_index=True)
    chosen = pd.DataFrame([
        work.choose(site, contrast, found[site], candidates) for site in sites for contrast in subject.contrasts
    ])  # fmt: skip
    reads = pd.concat([work.reads(site, found[site], chosen) for site in sites], ignore_index=True)
    rows = tqdm(chosen.to_dict("records"), desc="judged", disable=not progress, leave=False)
    curves = [work.judge(row, found[row["site"]]) for row in rows]
    moves = [curve.curve.assign(feature=number) for curve, number in zip(curves, chosen["feature"], strict=True)]
    return SparseStudy(
        found, work.held_out, work.later, sheet, density, reads,
        judge_together([curve.verdicts for curve in curves]), pd.concat(moves, ignore_index=True), chosen,
    )  # fmt: skip


@dataclass(eq=False)
class _Work:
    """What the parts of a study share."""

    subject: Subject
    sites: list[str]
    folder: Path
    count: int
    seed: int
    progress: bool

    @cached_property
    def parts(self) -> tuple[Tensor, Tensor]:
        """Images that are trained on, two thirds of them, and those that are held out; no group is in both."""
        count, groups = len(self.subject.images), self.subject.groups
        names, place = (torch.arange(count) if groups is None else groups.cpu()).unique(return_inverse=True)
        order = torch.randperm(len(names), generator=torch.Generator().manual_seed(self.seed))
        trained = order[place] < 2 * len(names) // 3
        return trained.nonzero()[:, 0], (~trained).nonzero()[:, 0]

    @cached_property
    def later(self) -> Tensor:
        """Images that are held out."""
        return self.subject.images[self.parts[1]]

    @cached_property
    def sigmas(self) -> list[float]:
        """Noise levels, evenly spaced in log-SNR."""
        least, largest = sigma_range(self.subject.denoiser, low=0.05, high=20.0)
        return log_snr_grid(-2 * math.log(largest), -2 * math.log(least), self.count)

    @property
    def level(self) -> int:
        """The level at which features are chosen."""
        return nearest(self.sigmas)

    @cached_property
    def trained_on(self) -> StoredActivations:
        """Activations of the images that are trained on; nothing is told to the network."""
        return self._collected(self.subject.images[self.parts[0]], self.seed, "training")

    @cached_property
    def held_out(self) -> StoredActivations:
        """Those of the others."""
        return self._collected(self.later, self.seed + 1, "held_out")

    def _collected(self, images: Tensor, seed: int, name: str) -> StoredActivations:
        bank = Bank(images, self.sigmas, seed=seed)
        batch, path = self.subject.batch, self.folder / name
        denoiser = self.subject.denoiser
        return collect(denoiser, bank, self.sites, how="whole", path=path, batch=batch, progress=self.progress)

    def train(self, site: str) -> SparseAutoencoder:
        """One autoencoder for all noise levels."""
        rows = ShuffledRows(self.trained_on, site, batch=BATCH, seed=self.seed)
        return train_sparse(
            rows.epoch, features=FEATURES * rows.width, k=ACTIVE, steps=STEPS, seed=self.seed, dead_after=50 * BATCH,
            path=self.folder / f"{site}.safetensors", progress=self.progress,
        )  # fmt: skip

    def sheet(self, site: str, codec: SparseAutoencoder) -> pd.DataFrame:
        """The metric sheet of a site."""
        bank = Bank(self.later[:SHEET_IMAGES], self.sigmas, seed=self.seed + 1)
        return sparse_sheet(
            codec, self.held_out, site, denoiser=self.subject.denoiser, bank=bank, batch=self.subject.batch
        )

    def labels(self, contrast: Contrast, rows: Tensor) -> Tensor:
        """1 at the high end of a contrast, 0 at the low one, -1 elsewhere."""
        values = self.subject.labels[rows, self.subject.column(contrast.attribute)]
        low, high = self.subject.values(contrast)
        return torch.where(values == high, 1, torch.where(values == low, 0, -1))

    def choose(self, site: str, contrast: Contrast, codec: SparseAutoencoder, candidates: int) -> dict[str, Any]:
        """The feature that moves a contrast most, of those that tell its ends apart best."""
        labels = {contrast.attribute: self.labels(contrast, self.parts[0])}
        table = feature_reads(codec, self.trained_on, site, labels, levels=[self.level])
        best = table.assign(apart=(table["value"] - 0.5).abs()).nlargest(candidates, "apart")
        effect = steering_effect(
            self.subject.denoiser, self.subject.scores(), seeds=SCREENED, strength=DOSE, sampling=self.sampling
        )
        rows = [
            {"site": site, "attribute": contrast.attribute, "feature": int(number), "sign": 1 if area > 0.5 else -1}
            for number, area in zip(best["feature"], best["value"], strict=True)
        ]
        effects = [float(effect(self.direction(row, codec))[contrast.attribute].mean()) for row in rows]
        return rows[max(range(len(rows)), key=effects.__getitem__)]

    def direction(self, row: Mapping[str, Any], codec: SparseAutoencoder) -> Direction:
        """A chosen feature, turned to the high end of what it reads."""
        site, number = str(row["site"]), int(row["feature"])
        values = self.trained_on.at(site, self.level).flatten(0, 1)
        found = feature_direction(codec, number, site=site, values=values, attribute=str(row["attribute"]))
        return replace(found, vector=row["sign"] * found.vector, method=f"{found.method} {number}")

    def reads(self, site: str, codec: SparseAutoencoder, chosen: pd.DataFrame) -> pd.DataFrame:
        """What the chosen features of a site read of all contrasts, on held-out images."""
        labels = {one.attribute: self.labels(one, self.parts[1]) for one in self.subject.contrasts}
        features = sorted(set(chosen.loc[chosen["site"] == site, "feature"]))
        return feature_reads(codec, self.held_out, site, labels, features=features)

    def judge(self, row: Mapping[str, Any], codec: SparseAutoencoder) -> SteerCurve:
        """Dose and response of a chosen feature, against random directions of its norm: the best of as many."""
        return steer_curve(
            self.subject.denoiser, self.direction(row, codec), self.subject.scores(), target=str(row["attribute"]),
            seeds=JUDGED, strengths=(-DOSE, DOSE), natural=self.natural, relevant=RELEVANT, random=RANDOM,
            chosen_from=codec.features, sampling=self.sampling, seed=self.seed, progress=False,
        )  # fmt: skip

    @cached_property
    def natural(self) -> dict[str, float]:
        """Standard deviation of each score over the held-out images: the unit of effects."""
        with torch.no_grad():
            return {name: float(values.std()) for name, values in self.subject.scores()(self.later).items()}

    @property
    def sampling(self) -> Sampling:
        """First-order steps, as in the directions report."""
        least, largest = sigma_range(self.subject.denoiser, low=0.002, high=80.0)
        steps = edm_sigmas(8, sigma_min=least, sigma_max=largest)
        shape, device = tuple(self.subject.images.shape[1:]), self.subject.images.device
        return Sampling(solver=Euler(), sigmas=steps, shape=shape, device=device, batch=self.subject.batch)
