"""What the settings of a sweep are worth: one tidy table.

table = measure_sweep(settings, value_range=(-1, 1), reference=real_images, labels=labels, scorer=agreement)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.analysis.fid.classes import suspiciously_even
from scorescope.analysis.fid.frechet import frechet_distance
from scorescope.analysis.fid.frechet_error import FrechetInterval, frechet_interval
from scorescope.analysis.fid.neighbours import RealNeighbours, recall_interval
from scorescope.analysis.guidance.run_keys import SWEPT, one_kind, swept_columns, swept_values
from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.intervals import is_binary, share_interval
from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked, require_some
from scorescope.data.errors import InputError
from scorescope.probes.decomposition.products import image_statistics
from scorescope.probes.experiments.sweep import Setting
from scorescope.probes.models.decoding import Decoder, decode

LEAST_FOR_RECALL = 20  # samples: its interval is made of halves of them
Features = Callable[[Tensor], Tensor]
Classes = NDArray[Any]

SWEEP = Schema(
    "sweep",
    (
        Column("setting", str, "", "name of the setting"),
        Column("rule", str, "", "its guidance rule"),
        Column("weight", float, "1", "its weight"),
        SWEPT,
        Column("metric", str, "", "see METRICS"),
        Column("n", int, "", "samples of the setting"),
        Column("value", float, "", "unit as in METRICS"),
        *ends(""),
    ),
)

METRICS = {
    "overshoot_share": "share of elements outside the range, mean over samples",
    "overshoot_mean": "mean distance of elements from the range, units of the data",
    "contrast": "standard deviation within a sample, units of the data",
    "saturation": "mean HSV saturation, colour only",
    "score": "the user's scorer, for class labels the share of samples that a classifier gives the requested class",
    "calls": "denoiser evaluations that the rule needed, a sample; a classic pipeline may make more",
    "diversity": "mean distance of two samples of one condition, units of the features; by sample its jackknife "
    "pseudo-value, of the same mean; two samples of a condition are one pair, told at the first of them",
    "frechet": "Frechet distance to the reference as measured, squared units of the features; no interval",
    "frechet_debiased": "the same without its bias of order 1/n (jackknife), by class where a set has a fixed number "
    "a class; can fall below 0",
    "precision": "share of samples within the reference's neighbourhoods",
    "recall": "share of reference images within the samples' neighbourhoods; its interval is over both sets, "
    "missing for fewer than 20 samples",
}


@checked
def sample_metrics(
    settings: Sequence[Setting],
    *,
    value_range: tuple[float, float] | None = None,
    scorer: Callable[[Tensor], Sequence[float] | Floats] | None = None,
    labels: Tensor | None = None,
    features: Features | None = None,
    decoder: Decoder | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Metrics that each sample has: one row a (setting, sample).

    Parameters
    ----------
    settings : sequence of Setting
        From `probes.sweep`.
    value_range : (float, float), optional
        Range of the data, for overshoot and saturation; with a decoder by default (-1, 1).
    scorer : callable, optional
        Samples to one number a sample.
    labels : Tensor, shape (n,), optional
        Condition of each sample, for the diversity within conditions.
    features : callable, optional
        Samples to (n, d) features, for the diversity; by default the values themselves.
    decoder : callable, optional
        Latents to images in [-1, 1], for latent models, for instance `probes.vae_decoder(pipe.vae)`: everything is
        then measured on the images, a few latents being decoded at a time and one setting held in memory.

    Returns
    -------
    DataFrame
        `setting`, `rule`, `weight`, what the sweep varied (`rule_eta`, ...), `sample` and the sample-level names of
        `METRICS`; NaN where one does not apply.
    """
    require_some("settings", settings)
    measures, rows = _Measures(value_range, scorer, labels, features, decoder), []
    for setting in tqdm(settings, desc="measuring", disable=not progress):
        images = measures.images(setting)
        rows.append(measures.rows(setting, images, None if labels is None else measures.flat(images)))
    return one_kind(pd.concat(rows, ignore_index=True))


@checked
def measure_sweep(
    settings: Sequence[Setting],
    *,
    value_range: tuple[float, float] | None = None,
    scorer: Callable[[Tensor], Sequence[float] | Floats] | None = None,
    labels: Tensor | None = None,
    reference: Tensor | None = None,
    reference_labels: Tensor | None = None,
    features: Features | None = None,
    decoder: Decoder | None = None,
    rows: pd.DataFrame | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Sample-level and set-level metrics of every setting, each with its interval.

    Parameters
    ----------
    settings, value_range, scorer, labels, features, decoder
        As for `sample_metrics`.
    reference : Tensor, shape (m, *shape), optional
        Real data, for Frechet distance, precision and recall; more rows than features. Images where there is a
        decoder.
    reference_labels : Tensor, shape (m,), optional
        Their classes.
    rows : DataFrame, optional
        From `sample_metrics` of the same settings: then it is not measured again, and of the other arguments only
        `reference`, `features`, `decoder` and the labels of both are looked at.

    Returns
    -------
    DataFrame
        Columns declared in `SWEEP`, metrics in `METRICS`. Intervals are over samples, corrected for skewness; exact for
        a score of zeros and ones; for precision that of `neighbour_table`, for recall that of `recall_interval`; for
        the Frechet distance without bias the jackknife, a row that is missing where there are too few images: not more
        than features without any one of its parts, or fewer than three of a class.

    Notes
    -----
    Conditions that go round the classes, or a reference with as many images of each, are no independent draws: the
    jackknife of independent ones takes too much bias away, to below 0. So a side whose labels are as even as that (see
    `classes.suspiciously_even`) has its parts left out of every class alike; without labels it cannot be told.
    """
    require_some("settings", settings)
    measures = _Measures(value_range, scorer, labels, features, decoder)
    real = None if reference is None else measures.flat(reference)
    near = None if real is None else RealNeighbours(real)
    classes = tuple(_drawn_by_class(of) for of in (labels, reference_labels))
    parts: list[pd.DataFrame] = []
    measured: list[pd.DataFrame] = []
    for setting in tqdm(settings, desc="measuring", disable=not progress):
        if rows is not None and real is None:
            break
        images = measures.images(setting)
        found = None if labels is None and real is None else measures.flat(images)
        if rows is None:
            measured.append(measures.rows(setting, images, found))
        if real is not None and near is not None and found is not None:
            parts.append(_against(found, real, near, classes).assign(**_keys(setting)))
    table = _summary(pd.concat(measured, ignore_index=True) if rows is None else rows)
    return SWEEP.check(one_kind(pd.concat([table, *parts], ignore_index=True)))


def _summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval of each sample-level metric of each setting."""
    found = summarise_by(rows, by=["setting", "rule", "weight", *swept_columns(rows)]).dropna(subset=["mean"])
    table = found.rename(columns={"quantity": "metric", "mean": "value"}).drop(columns="median")
    for setting, scores in rows.groupby("setting")["score"]:
        if is_binary(scores):
            table.loc[(table["setting"] == setting) & (table["metric"] == "score"), ["low", "high"]] = share_interval(
                scores
            )
    return table


@dataclass(frozen=True)
class _Measures:
    """What is measured of each sample of a setting."""

    value_range: tuple[float, float] | None
    scorer: Callable[[Tensor], Sequence[float] | Floats] | None
    labels: Tensor | None
    features: Features | None
    decoder: Decoder | None

    def images(self, setting: Setting) -> Tensor:
        """The samples, decoded where there is a decoder."""
        samples = setting.run.samples.detach()
        return samples.cpu() if self.decoder is None else decode(self.decoder, samples)

    def flat(self, images: Tensor) -> Floats:
        """Their features, (n, d)."""
        return _flat(self.features, images)

    def rows(self, setting: Setting, images: Tensor, features: Floats | None) -> pd.DataFrame:
        """One row a sample; the features are looked at where there are labels."""
        value_range = (-1.0, 1.0) if self.decoder is not None and self.value_range is None else self.value_range
        statistics = image_statistics(images, value_range).items()
        columns: dict[str, Any] = {name: value.detach().cpu().numpy() for name, value in statistics}
        columns["score"] = np.nan if self.scorer is None else np.asarray(self.scorer(images), dtype=np.float64)
        columns["calls"], columns["diversity"] = np.nan, np.nan
        if (trace := setting.run.trace) is not None:
            columns["calls"] = trace.scalars.groupby("sample")["needed"].sum().to_numpy(np.float64)
        if self.labels is not None and features is not None:
            columns["diversity"] = _spread(features, self.labels.cpu().numpy())
        return pd.DataFrame({**_keys(setting), "sample": np.arange(len(images)), **columns})


def _keys(setting: Setting) -> dict[str, Any]:
    rule = setting.rule
    named = {"setting": setting.name, "rule": type(rule).__name__, "weight": float(rule.weight)}
    return named | swept_values(setting.swept)


def _spread(features: Floats, labels: NDArray[Any]) -> Floats:
    """Jackknife pseudo-values of the mean distance within each label; NaN for a label of one row.

    The mean distance U from a row to the others shares its pairs with theirs, so the bootstrap of it over rows is half
    as wide as it should be. With h_i the mean distance of row i to the n - 1 others, the pseudo-value
    n U - (n - 1) U_without_i is U + 2 (n - 1) / (n - 2) (h_i - U): its mean is U, and its spread is that of U.
    """
    found = np.full(len(features), np.nan)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) < 2:
            continue
        points = torch.from_numpy(features[rows])
        distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").numpy()
        if len(rows) == 2:
            found[rows[0]] = distances[0, 1]  # one pair is one independent value
        else:
            mean_distances = distances.sum(1) / (len(rows) - 1)
            whole = mean_distances.mean()
            found[rows] = whole + 2 * (len(rows) - 1) / (len(rows) - 2) * (mean_distances - whole)
    return found


def _drawn_by_class(labels: Tensor | None) -> Classes | None:
    """The classes of a set that has a fixed number of each; None for other sets."""
    if labels is None or labels.ndim != 1 or not suspiciously_even(labels.cpu().numpy()):
        return None
    classes: Classes = labels.cpu().numpy()
    return classes


def _debiased(fake: Floats, real: Floats, classes: Sequence[Classes | None]) -> FrechetInterval | None:
    """Without the bias of order 1/n; None for too few images."""
    try:
        return frechet_interval(
            fake, real, method="jackknife", groups=20, fake_classes=classes[0], real_classes=classes[1]
        )
    except InputError:
        return None


def _against(fake: Floats, real: Floats, near: RealNeighbours, classes: Sequence[Classes | None]) -> pd.DataFrame:
    value = frechet_distance(fake, real).value
    rows: list[tuple[str, int, float, float, float]] = [("frechet", len(fake), value, np.nan, np.nan)]
    if (found := _debiased(fake, real, classes)) is not None:
        rows.append(("frechet_debiased", len(fake), found.debiased, found.low, found.high))
    first = pd.DataFrame(rows, columns=["metric", "n", "value", "low", "high"])
    neighbours = near.table(fake)
    chosen = neighbours[neighbours["metric"].isin(["precision", "recall"])].copy()
    # that of the table halves both sets; here a half of the samples meets the whole reference
    low, high = recall_interval(fake, real) if len(fake) >= LEAST_FOR_RECALL else (np.nan, np.nan)
    chosen.loc[chosen["metric"] == "recall", ["n", "low", "high"]] = len(fake), low, high
    chosen["n"] = chosen["n"].astype(int)
    return pd.concat([first, chosen[["metric", "n", "value", "low", "high"]]], ignore_index=True)


def _flat(features: Features | None, samples: Tensor) -> Floats:
    found = samples if features is None else features(samples)
    values: Floats = found.detach().flatten(1).double().cpu().numpy()
    return values
