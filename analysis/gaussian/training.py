"""How far a network is from each law while it trains.

    table = training_dynamics({100: early, 400: middle, 2000: late}, [gaussian, per_class], images, sigmas)
    minima = nearest_step(table)

Networks come close to the Gaussian first and leave it as they learn what is not Gaussian (Wang & Vastola 2024,
arXiv 2412.09726): at low noise the distance to it has a minimum over training, at high noise it only falls.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from torch import Tensor
from tqdm import tqdm

from scorescope.analysis.gaussian.scores import SCORES, score_gaps, score_table
from scorescope.analysis.statistics.tables import Column, Schema
from scorescope.data.errors import InputError
from scorescope.probes.approximations import Approximation
from scorescope.probes.models.denoiser import Denoiser

DYNAMICS = Schema("dynamics", (Column("training_step", int, "", "when the snapshot was taken"), *SCORES.columns))

NEAREST = Schema(
    "nearest_step",
    (
        Column("approximation", str, "", "which law"),
        Column("sigma", float, "data", "noise level"),
        Column("training_step", int, "", "snapshot with the least centred unexplained fraction"),
        Column("fraction", float, "1", "its fraction: ratio of sums, centred"),
        Column("last_fraction", float, "1", "that of the last snapshot"),
        Column("rises", bool, "", "the last snapshot is farther away: its interval lies above the nearest one's"),
        Column("snapshots", int, "", "snapshots compared"),
    ),
)


def training_dynamics(
    snapshots: Mapping[int, Denoiser],
    approximations: Sequence[Approximation],
    data: Tensor,
    sigmas: Sequence[float],
    *,
    progress: bool = False,
    **options: Any,
) -> pd.DataFrame:
    """Compare every snapshot with every law at the same points.

    Parameters
    ----------
    snapshots : dict of int to Denoiser
        By training step.
    approximations, data, sigmas, **options
        As in `score_gaps`.
    progress : bool
        Show a progress bar over snapshots.

    Returns
    -------
    DataFrame
        `DYNAMICS`: the rows of `compare_scores` with their training step.

    Raises
    ------
    InputError
        Without snapshots, and all that `score_gaps` refuses.
    """
    if not snapshots:
        raise InputError("snapshots", found="none", expected="at least one denoiser by training step")
    frames = []
    for step in tqdm(sorted(snapshots), desc="training dynamics", disable=not progress, leave=False):
        gaps = score_gaps(snapshots[step], approximations, data, sigmas, **options)
        frames.append(score_table(gaps).assign(training_step=int(step)))
    return DYNAMICS.check(pd.concat(frames, ignore_index=True))


def nearest_step(table: pd.DataFrame) -> pd.DataFrame:
    """The snapshot nearest to each law at each noise level, `NEAREST`, in the centred metric."""
    rows = []
    centred = table[table["metric"] == "centred"]
    for (name, sigma), group in centred.groupby(["approximation", "sigma"], sort=False):
        group = group.sort_values("training_step")
        nearest, last = group.sort_values("ratio_of_sums").iloc[0], group.iloc[-1]
        rows.append(
            {
                "approximation": name, "sigma": sigma, "training_step": int(nearest["training_step"]),
                "fraction": nearest["ratio_of_sums"], "last_fraction": last["ratio_of_sums"],
                "rises": bool(last["ratio_of_sums_low"] > nearest["ratio_of_sums_high"]), "snapshots": len(group),
            }
        )  # fmt: skip
    return NEAREST.check(pd.DataFrame(rows))
