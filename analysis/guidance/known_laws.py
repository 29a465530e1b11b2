"""Guided sampling where both branches have a closed form: paths on a line, and what is left of a law in a plane.

pair = KnownBranches(of_the_class, of_all)
paths = line_paths(pair, {"none": CFG(1.0), "CFG": CFG(4.0)}, sigmas=edm_sigmas(64))
line_densities(paths)                        # of the ends, without a kernel
law_kept({"CFG": ends}, of_the_class)        # shares of samples outside of the law, and of the law that is lost
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import scipy
import torch
from torch import Tensor

from scorescope.analysis.statistics.intervals import wilson
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.approximations import Gaussian, Mixture
from scorescope.probes.guidance.base import GuidanceState, Rule
from scorescope.probes.models.denoiser import Condition
from scorescope.probes.sampling.sample import sample

INSIDE = 0.99  # share of a law that its contour holds
JUST_ABOVE = 1e-3  # noise at which the density of a law is asked for
DRAWS = 20_000  # from which the contour is known

LINE_PATHS = Schema(
    "line_paths",
    (
        Column("rule", str, "", "name of the rule"),
        Column("path", int, "", "in the order of the starts"),
        Column("quantile", float, "1", "share of the starts below this one"),
        Column("sigma", float, "data", "noise level; 0 is the end"),
        Column("x", float, "data", "state there"),
    ),
)

LINE_DENSITIES = Schema(
    "line_densities",
    (
        Column("rule", str, "", "name of the rule"),
        Column("x", float, "data", "between two ends"),
        Column("density", float, "1/data", "of the ends there: share of the starts between two, by how far they end"),
    ),
)

LAW_KEPT = Schema(
    "law_kept",
    (
        Column("arm", str, "", "how the samples were made"),
        Column("n", int, "", "samples"),
        Column("outside", float, "1", f"share where the law's density is below that of its contour of {INSIDE:.0%}"),
        *ends("1", "Wilson"),
        Column(
            "lost", float, "1", "total variation between the law's components and how often each is the likeliest of a "
            "sample; draws of the law itself have what n gives by chance",
        ),
    ),
)  # fmt: skip


@displayed
@dataclass(frozen=True, eq=False)
class KnownBranches:
    """A denoiser that has one law with a condition, whatever it is, and another without.

    Attributes
    ----------
    cond, uncond : Gaussian or Mixture
        Of one shape.
    """

    cond: Gaussian | Mixture
    uncond: Gaussian | Mixture

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return self.cond.shape

    def __call__(self, x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """The prediction of one of the laws."""
        return self.cond(x, sigma) if condition is not None else self.uncond(x, sigma)


@checked
def line_paths(
    branches: KnownBranches, rules: Mapping[str, Rule], *, sigmas: Sequence[float], count: int = 256
) -> pd.DataFrame:
    """Paths of evenly many quantiles of the noised class under each rule, in one dimension.

    Parameters
    ----------
    branches : KnownBranches
        Of shape (1,); with a condition a Gaussian.
    rules : mapping of str to Rule
        By name.
    sigmas : sequence of float
        Falling noise levels with a final 0.
    count : int
        Paths a rule.

    Returns
    -------
    DataFrame
        Columns declared in `LINE_PATHS`.

    Raises
    ------
    InputError
        For laws of other shapes, and a class that is no Gaussian.
    """
    law = branches.cond
    if law.shape != (1,) or not isinstance(law, Gaussian):
        found = f"a {type(law).__name__} of shape {law.shape}"
        raise InputError("branches.cond", found=found, expected="a Gaussian of shape (1,): paths on a line")
    quantiles = (np.arange(count) + 0.5) / count
    starts = scipy.stats.norm.ppf(quantiles, float(law.mean), np.sqrt(law.variance + sigmas[0] ** 2))
    start = torch.from_numpy(starts)[:, None]
    parts = []
    for name, rule in rules.items():
        states: dict[float, Tensor] = {}
        states[0.0] = sample(
            branches, seeds=range(count), condition=torch.zeros(count), rule=rule, sigmas=sigmas, start=start,
            watch=partial(_keep, states), batch=count, dtype=torch.float64, progress=False,
        ).samples  # fmt: skip
        keys = {"path": np.tile(np.arange(count), len(states)), "quantile": np.tile(quantiles, len(states))}
        x = torch.cat(list(states.values()))[:, 0].numpy()
        parts.append(pd.DataFrame({"rule": name, **keys, "sigma": np.repeat(list(states), count), "x": x}))
    return LINE_PATHS.check(pd.concat(parts, ignore_index=True))


@checked
def line_densities(paths: pd.DataFrame) -> pd.DataFrame:
    """Densities of the ends: on a line paths do not cross, so that what lies between two starts lies between two ends.

    Parameters
    ----------
    paths : DataFrame
        From `line_paths`.

    Returns
    -------
    DataFrame
        Columns declared in `LINE_DENSITIES`.
    """
    parts = []
    for rule, rows in paths[paths["sigma"] == 0].groupby("rule", sort=False):
        x = rows.sort_values("quantile")["x"].to_numpy()
        heights = np.diff(rows["quantile"].sort_values().to_numpy()) / np.diff(x)
        parts.append(pd.DataFrame({"rule": rule, "x": (x[1:] + x[:-1]) / 2, "density": heights}))
    return LINE_DENSITIES.check(pd.concat(parts, ignore_index=True))


@checked
def law_kept(samples: Mapping[str, Tensor], law: Mixture, *, seed: int = 0) -> pd.DataFrame:
    """How many samples lie outside of a law, and how much of the law none of them show.

    Parameters
    ----------
    samples : mapping of str to Tensor, shape (n, *shape)
        By how they were made.
    law : Mixture
        What they should be samples of.
    seed : int
        Of the draws that the law's contour is known from.

    Returns
    -------
    DataFrame
        Columns declared in `LAW_KEPT`.
    """
    level = contour_level(law, seed=seed)
    rows = []
    for arm, points in samples.items():
        outside = int((law.log_density(points, JUST_ABOVE) < level).sum())
        share, low, high = (float(end) for end in wilson(outside, len(points)))
        likeliest = law.responsibilities(points, JUST_ABOVE).argmax(1)
        shown = torch.bincount(likeliest, minlength=len(law.components)) / len(points)
        lost = float((shown - law.weights).abs().sum() / 2)
        rows.append({"arm": arm, "n": len(points), "outside": share, "low": low, "high": high, "lost": lost})
    return LAW_KEPT.check(pd.DataFrame(rows))


def contour_level(law: Mixture, *, seed: int = 0) -> float:
    """Log density, in nats, that all but one in a hundred draws of the law exceed."""
    draws = law.sample(DRAWS, generator=torch.Generator().manual_seed(seed), sigma=JUST_ABOVE)
    return float(law.log_density(draws, JUST_ABOVE).quantile(1 - INSIDE))


def _keep(states: dict[float, Tensor], branch: str, state: GuidanceState, rows: Tensor, prediction: Tensor) -> None:
    """Watches a run of one batch: the state at each level that a step starts from."""
    if state.call == 0:
        states[state.sigma] = state.x
