"""Where an attribute can be read: linear probes at every site and noise level, against a control task.

    found = collect(denoiser, bank, sites)
    scan = probe_scan(found, {"size": labels[:, column("size")], "hue": labels[:, column("hue")]})
    scan.table                        # attribute x site x noise level, on validation images
    scan.final                        # one test number an attribute, of the cell chosen on validation
    scan.probe("size", "network.middle1", sigma=1.0).predict(activations)

The control task (Hewitt and Liang 2019, arXiv 1909.03368) is the same probe on a label drawn at random once for each
image, the same at all noise levels. No image is in two parts of the split.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.analysis.directions.linear_probes import LinearProbe, Path, ProbeMethod, Target, fit_paths
from scorescope.analysis.statistics.arrays import Floats, Integers, host_array
from scorescope.analysis.statistics.bootstrap import percentile_interval
from scorescope.analysis.statistics.splits import (
    PARTS,
    Part,
    Split,
    balanced_accuracy,
    grouped_split,
    one_against_rest,
    r_squared,
    r_squared_interval,
    recall_interval,
)
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.activations.activations import Activations

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
_CELL = (
    Column("attribute", str, "", "what the probe reads"),
    Column("site", str, "", "where its inputs are taken"),
    Column("level", int, "", "index of the noise level"),
    Column("sigma", float, "data", "noise level"),
    Column("log_snr", float, "1", "-2 ln sigma"),
    Column("metric", str, "", "balanced_accuracy, or r2 for a continuous attribute"),
)
_VALUES = (
    Column("n", int, "", "images scored"),
    Column("value", float, "1", "the metric"),
    *ends("1", "score interval of the recalls, by images (groups, where given); for r2 corrected for skewness"),
    Column("control", float, "1", "the metric on the control task: one random label an image"),
    *ends("1", of="control"),
    Column("selectivity", float, "1", "value - control"),
    *ends("1", "the same draws for both, or the score intervals of both where those are wider", of="selectivity"),
    Column("auc", float, "1", "area under the curve of each class against the others, their mean; missing for r2"),
    Column("chance", float, "1", "1 / classes; 0 for r2"),
    Column("train", float, "1", "the metric on the training images"),
    Column("control_train", float, "1", "the control on the training images: what the probe can learn by heart"),
    Column("strength", float, "1", "regularisation, the best on validation; the control uses the same"),
)
PROBES = Schema("probes", (*_CELL, *_VALUES))
FINAL = Schema(
    "probes_final",
    (*_CELL, *_VALUES, Column("validation", float, "1", "the metric on validation, by which the cell was chosen")),
)


@displayed
@dataclass(frozen=True, eq=False)
class ProbeScan:
    """What `probe_scan` gives.

    Attributes
    ----------
    table : DataFrame
        Columns declared in `PROBES`: every cell, scored on validation. Each value is the best of a few strengths on
        the same images, so it is for maps and selection; the number to quote is that of `final`.
    final : DataFrame
        Columns declared in `FINAL`: one row an attribute, the best cell on validation, scored on test once.
    probes : mapping of (attribute, site, level) to LinearProbe
        Fitted on the training images.
    sigmas : tuple of float
        Noise levels.
    split : Split
        Images of each part.
    """

    table: pd.DataFrame
    final: pd.DataFrame
    probes: Mapping[tuple[str, str, int], LinearProbe]
    sigmas: tuple[float, ...]
    split: Split

    def probe(self, attribute: str, site: str, *, sigma: float) -> LinearProbe:
        """The probe at the noise level nearest to `sigma`, by log-SNR.

        Raises
        ------
        InputError
            For an attribute or a site that was not scanned.
        """
        level = int(np.argmin(np.abs(np.log(np.asarray(self.sigmas) / sigma))))
        if (attribute, site, level) not in self.probes:
            known = sorted({f"{name} at {place}" for name, place, _ in self.probes})
            raise InputError("attribute, site", found=f"{attribute} at {site}", expected=f"one of {', '.join(known)}")
        return self.probes[attribute, site, level]


@dataclass(frozen=True, eq=False)
class _Task:
    """One attribute: its labels and those of the control task, one an image."""

    name: str
    labels: NDArray[np.generic]
    control: NDArray[np.generic]

    @property
    def metric(self) -> str:
        return "balanced_accuracy" if np.issubdtype(self.labels.dtype, np.integer) else "r2"

    @property
    def chance(self) -> float:
        return 1 / len(np.unique(self.labels)) if self.metric == "balanced_accuracy" else 0.0

    def score(
        self, predicted: NDArray[np.generic], truth: NDArray[np.generic], part: Part, *, draws: bool = True
    ) -> Floats:
        """The metric of predictions (cell, row of the part) against labels (image,), as (draw, cell)."""
        metric = balanced_accuracy if self.metric == "balanced_accuracy" else r_squared
        return metric(predicted, truth[part.images], part, draws=draws)

    def ends(self, predicted: NDArray[np.generic], truth: NDArray[np.generic], part: Part) -> tuple[Floats, Floats]:
        """95 % interval of the metric by cell."""
        if self.metric == "r2":
            return r_squared_interval(predicted, truth[part.images], part)
        return recall_interval(predicted, truth[part.images], part)

    def areas(self, outputs: Tensor, part: Part) -> Floats:
        """Area under the curve by cell, of outputs (cell, row, column); missing for numbers."""
        if self.metric == "r2":
            return np.full(len(outputs), np.nan)
        return one_against_rest(outputs.numpy(), self.labels[part.images])


@dataclass
class _Scan:
    """What is the same for all sites."""

    method: ProbeMethod
    strengths: Sequence[float]
    parts: dict[str, Part]
    tasks: list[_Task]
    log_snr: list[float]
    sigmas: tuple[float, ...]
    probes: dict[tuple[str, str, int], LinearProbe] = field(default_factory=dict)
    controls: dict[tuple[str, str, int], LinearProbe] = field(default_factory=dict)


@checked
def probe_scan(
    activations: Activations,
    labels: Mapping[str, ArrayLike],
    *,
    method: ProbeMethod = "ridge",
    strengths: Sequence[float] = STRENGTHS,
    groups: ArrayLike | None = None,
    split: Split | None = None,
    resamples: int = 500,
    seed: int = 0,
    progress: bool = False,
) -> ProbeScan:
    """Fit and score a linear probe of every attribute at every site and noise level.

    Parameters
    ----------
    activations : Activations
        From `collect`, or along sampling.
    labels : mapping of str to array, each of shape (images,)
        Integer classes, or floating point values of a continuous attribute (then scored by R^2).
    method, strengths
        See `fit_paths`; the strength is chosen on validation, cell by cell.
    groups : array, shape (images,), optional
        Images that must stay on one side of the split, for instance counterfactual pairs; by default each its own.
        Images of the same content, where the activations know it (`collect` does), are in one group in any case.
    split : Split, optional
        Parts to use; by default `grouped_split(groups, seed=seed)`.
    resamples : int
        Bootstrap draws of groups.
    seed : int
        Of the split, the control labels and the bootstrap.
    progress : bool
        Show a progress bar.

    Returns
    -------
    ProbeScan

    Raises
    ------
    InputError
        For labels of one class only or of another length, fewer images of a class than the parts need, and a
        split with a group on two sides.
    """
    images = activations.images.numpy()
    count = 1 + int(images.max())
    group = np.arange(count) if groups is None else np.unique(host_array(groups), return_inverse=True)[1]
    if len(group) != count or resamples < 1:
        raise InputError("groups, resamples", found=f"{len(group)}, {resamples}", expected=f"{count} and at least 1")
    group = _with_repeats(group, activations)
    split = split or grouped_split(group, seed=seed)
    split.check(group)
    tasks = [_task(name, value, group, count, seed) for name, value in labels.items()]
    if not tasks:
        raise InputError("labels", found="none", expected="at least one attribute")
    parts = {name: Part.of(getattr(split, name), images, group, resamples=resamples, seed=seed) for name in PARTS}
    for task in tasks:
        _check_classes(task, parts)
    scan = _Scan(method, strengths, parts, tasks, activations.log_snr, activations.sigmas)
    sites = tqdm(activations.sites, desc="probes", disable=not progress, leave=False)
    table = pd.concat([_scan_site(scan, site, activations.site(site)) for site in sites], ignore_index=True)
    best = table.loc[table.groupby("attribute", sort=False)["value"].idxmax()]
    final = pd.DataFrame([_test_cell(scan, row, activations) for _, row in best.iterrows()])
    return ProbeScan(PROBES.check(table), FINAL.check(final), scan.probes, activations.sigmas, split)


def _with_repeats(group: Integers, activations: Activations) -> Integers:
    """Groups joined where they hold images of the same content."""
    if activations.contents is None:
        return group
    of_image = np.arange(len(group))  # any row of an image will do
    of_image[activations.images.numpy()] = activations.contents.numpy()
    content = np.unique(of_image, return_inverse=True)[1] + 1 + group.max()
    nodes = 1 + int(content.max())
    edges = scipy.sparse.coo_matrix((np.ones(len(group)), (group, content)), shape=(nodes, nodes))
    joined: Integers = scipy.sparse.csgraph.connected_components(edges, directed=False)[1][group]
    return np.unique(joined, return_inverse=True)[1]


def _task(name: str, values: ArrayLike, group: Integers, count: int, seed: int) -> _Task:
    labels = host_array(values)
    if labels.shape != (count,) or labels.dtype.kind not in "iufb":
        found = f"{labels.dtype} of shape {labels.shape}"
        raise InputError(f"labels of {name!r}", found=found, expected=f"({count},) classes or numbers, one an image")
    labels = labels.astype(np.float64 if labels.dtype.kind == "f" else np.int64)
    if not np.isfinite(labels).all() or len(np.unique(labels)) < 2:
        found = "NaN or infinite values" if not np.isfinite(labels).all() else f"a single class, {labels[0]}"
        raise InputError(f"labels of {name!r}", found=found, expected="finite labels, of at least two classes")
    # a stratified draw: for groups of one image it is a permutation, so that classes are as frequent as before
    groups = 1 + int(group.max())
    order = np.random.default_rng([seed, len(name), *name.encode()]).permutation(groups)
    drawn = np.sort(labels)[((order + 0.5) / groups * count).astype(int)]
    return _Task(name, labels, drawn[group])


def _check_classes(task: _Task, parts: Mapping[str, Part]) -> None:
    for name, part in parts.items():
        images = np.unique(part.images)
        if task.metric == "r2":
            fewest, what = len(images), "images"
        else:
            members = [(task.labels[images] == c).sum() for c in np.unique(task.labels)]
            fewest, what = int(min(members)), "images of the rarest class"
        if fewest < 2:
            found = f"{fewest} {what} of {task.name!r} in {name}"
            raise InputError("images", found=found, expected="at least two: more images, or rarer classes left out")


def _scan_site(scan: _Scan, site: str, values: Tensor) -> pd.DataFrame:
    """All cells of one site, scored on validation."""
    train = scan.parts["train"]
    targets = [Target(side[train.images]) for task in scan.tasks for side in (task.labels, task.control)]
    paths = fit_paths(scan.method, values[:, train.rows], targets, strengths=scan.strengths)
    frames = []
    for number, task in enumerate(scan.tasks):
        path, control = paths[2 * number : 2 * number + 2]
        frames.append(_scan_task(scan, task, site, values, path, control))
    return pd.concat(frames, ignore_index=True)


def _scan_task(scan: _Scan, task: _Task, site: str, values: Tensor, path: Path, control: Path) -> pd.DataFrame:
    train, validation = scan.parts["train"], scan.parts["validation"]
    held_out, learned = values[:, validation.rows], values[:, train.rows]
    outputs, every = path.outputs(held_out), path.predictions(held_out)  # (strength, level, row, ...)
    scores = [task.score(one, task.labels, validation, draws=False)[0] for one in every]
    chosen = np.argmax(scores, axis=0)
    cell = (chosen, np.arange(len(chosen)))
    draws = task.score(every[cell], task.labels, validation)
    areas = task.areas(outputs[cell], validation)
    other = control.predictions(held_out)[cell]
    against = task.score(other, task.control, validation)
    ends = _intervals(
        draws, against, task.ends(every[cell], task.labels, validation), task.ends(other, task.control, validation),
        len(np.unique(validation.cluster)),
    )  # fmt: skip
    inner = task.score(path.predictions(learned)[cell], task.labels, train, draws=False)[0]
    inner_control = task.score(control.predictions(learned)[cell], task.control, train, draws=False)[0]
    rows = []
    for level, strength in enumerate(chosen):
        scan.probes[task.name, site, level] = path.probe(level=level, strength=int(strength))
        scan.controls[task.name, site, level] = control.probe(level=level, strength=int(strength))
        more = {"train": inner[level], "control_train": inner_control[level]}
        more |= {"strength": float(scan.strengths[int(strength)]), "chance": task.chance, "n": validation.count}
        where = {"attribute": task.name, "site": site, "level": level, "metric": task.metric}
        where |= {"sigma": scan.sigmas[level], "log_snr": scan.log_snr[level]}
        rows.append(
            where | more | {"auc": areas[level]} | {name: float(values[level]) for name, values in ends.items()}
        )
    return pd.DataFrame(rows)


def _test_cell(scan: _Scan, row: pd.Series, activations: Activations) -> dict[str, object]:
    """The chosen cell on the test images: the only use of them."""
    task = next(task for task in scan.tasks if task.name == row["attribute"])
    part, key = scan.parts["test"], (row["attribute"], row["site"], row["level"])
    values = activations.at(row["site"], row["level"])[part.rows]
    sides = ((scan.probes[key], task.labels), (scan.controls[key], task.control))
    predicted = [probe.predict(values)[None] for probe, _ in sides]
    draws = [task.score(one, truth, part) for one, (_, truth) in zip(predicted, sides, strict=True)]
    ends = [task.ends(one, truth, part) for one, (_, truth) in zip(predicted, sides, strict=True)]
    count = len(np.unique(part.cluster))
    found = {
        name: float(numbers[0]) for name, numbers in _intervals(draws[0], draws[1], ends[0], ends[1], count).items()
    }
    auc = float(task.areas(sides[0][0].outputs(values)[None], part)[0])
    return {**row, "validation": row["value"], "n": part.count, "auc": auc, **found}


def _intervals(
    draws: Floats, control: Floats, own: tuple[Floats, Floats], other: tuple[Floats, Floats], count: int
) -> dict[str, Floats]:
    """Values and ends by cell, for draws (draw, cell) of so many clusters and the intervals of both sides."""
    gap = draws - control
    low, high = percentile_interval(gap[1:], count)
    # of a difference of two numbers with intervals of their own (Newcombe 1998)
    below = np.hypot(draws[0] - own[0], other[1] - control[0])
    above = np.hypot(own[1] - draws[0], control[0] - other[0])
    return {
        "value": draws[0], "low": own[0], "high": own[1],
        "control": control[0], "control_low": other[0], "control_high": other[1],
        "selectivity": gap[0],
        "selectivity_low": np.minimum(low, gap[0] - below), "selectivity_high": np.maximum(high, gap[0] + above),
    }  # fmt: skip
