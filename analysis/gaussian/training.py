"""What training does to a network: how far it is from each law, and whether it has memorised.

    table = training_dynamics({100: early, 400: middle, 2000: late}, [gaussian, per_class], images, sigmas)
    minima = nearest_step(table)
    memorisation(denoiser, {"train": train, "held out": held_out}, sigmas)

Networks come close to the Gaussian first and leave it as they learn what is not Gaussian (Wang & Vastola 2024,
arXiv 2412.09726): at low noise the distance to it has a minimum over training, at high noise it only falls.

A denoiser that generalises treats training and held-out points alike. One that memorised (the exact denoiser of the
training set) has no error and no Jacobian on training points as sigma falls, while its error on fresh points stays at
the distance to the nearest training point. The trace of dD/dx is the posterior variance over sigma^2, so
sigma^2 trace is the squared error that the denoiser itself expects.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.analysis.gaussian.gaps import score_gaps
from scorescope.analysis.gaussian.jacobians import Generators, check_sets, denoised_and_trace, generators
from scorescope.analysis.gaussian.scores import SCORES, score_table
from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.approximations import Approximation
from scorescope.probes.models.conditions import row_count
from scorescope.probes.models.conditions import select_rows as select
from scorescope.probes.models.denoiser import Condition, Denoiser

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
        Column(
            "rise_high",
            float,
            "1",
            "most by which the last may be farther away than another: its upper end less the least of their lower ends",
        ),
        Column("snapshots", int, "", "snapshots compared"),
    ),
)


@checked
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


@checked
def nearest_step(table: pd.DataFrame) -> pd.DataFrame:
    """The snapshot nearest to each law at each noise level, `NEAREST`, in the centred metric.

    Parameters
    ----------
    table : DataFrame
        From `training_dynamics`.

    Returns
    -------
    DataFrame
        Columns declared in `NEAREST`, one row a (law, noise level).
    """
    rows = []
    centred = table[table["metric"] == "centred"]
    for (name, sigma), group in centred.groupby(["approximation", "sigma"], sort=False):
        group = group.sort_values("training_step")
        nearest, last = group.sort_values("ratio_of_sums").iloc[0], group.iloc[-1]
        others = group["ratio_of_sums_low"].iloc[:-1]
        rows.append(
            {
                "approximation": name, "sigma": sigma, "training_step": int(nearest["training_step"]),
                "fraction": nearest["ratio_of_sums"], "last_fraction": last["ratio_of_sums"],
                "rises": bool(last["ratio_of_sums_low"] > nearest["ratio_of_sums_high"]),
                "rise_high": last["ratio_of_sums_high"] - others.min(skipna=False), "snapshots": len(group),
            }
        )  # fmt: skip
    return NEAREST.check(pd.DataFrame(rows))


MEMORISATION = Schema(
    "memorisation",
    (
        Column("images", str, "", "which points"),
        Column("sigma", float, "data", "noise level"),
        Column("quantity", str, "", "error: |D - x0|^2 / N; trace: of dD/dx; expected_error: sigma^2 trace / N"),
        Column("n", int, "", "images, one noise draw each"),
        Column("mean", float, "", "mean over images; data^2 for the errors, dimensionless for the trace"),
        Column("median", float, "", "median over images"),
        *ends("", "of the mean over images, corrected for skewness"),
    ),
)


@checked
def memorisation(
    denoiser: Denoiser,
    sets: Mapping[str, Tensor],
    sigmas: Sequence[float],
    *,
    conditions: Mapping[str, Condition] | None = None,
    probes: int = 4,
    seed: int = 0,
    batch: int = 512,
    progress: bool = False,
) -> pd.DataFrame:
    """Denoising error and trace of the Jacobian on several sets of points.

    Parameters
    ----------
    denoiser : Denoiser
        The model; must be differentiable in x.
    sets : dict of str to Tensor, shape (n, *shape)
        Clean points by name; image i of every set meets the same noise and probes.
    sigmas : sequence of float
        Positive noise levels.
    conditions : dict of str to condition, optional
        One row an image, by name of the set.
    probes : int
        Rademacher probes a point for the trace (Hutchinson), one backward pass each. Their noise is part of the
        interval.
    seed : int
        Of noise and probes.
    batch : int
        Points computed together.

    Returns
    -------
    DataFrame
        `MEMORISATION`: one row a (set, sigma, quantity).

    Raises
    ------
    InputError
        For what `flipd` refuses, and conditions of sets that are not there or of other numbers of rows.
    """
    check_sets(sets, sigmas, probes=probes, seed=seed, batch=batch)
    for name, condition in (conditions or {}).items():
        if name not in sets:
            raise InputError("conditions", found=repr(name), expected=f"names of sets: {', '.join(sets)}")
        if condition is not None and row_count(condition) != len(sets[name]):
            found = f"{row_count(condition)} rows for {name!r}"
            raise InputError("conditions", found=found, expected=f"{len(sets[name])}, one an image")
    frames = []
    jobs = [(name, float(sigma)) for name in sets for sigma in sigmas]
    for name, sigma in tqdm(jobs, desc="memorisation", disable=not progress, leave=False):
        points, condition = sets[name], (conditions or {}).get(name)
        drawn = generators(seed, len(points))
        parts = [
            _measure(denoiser, points[rows], sigma, select(condition, rows), probes, drawn[rows])
            for rows in (slice(start, start + batch) for start in range(0, len(points), batch))
        ]
        errors, traces = (np.concatenate(values) for values in zip(*parts, strict=True))
        expected = sigma**2 * traces / points[0].numel()
        values = {"error": errors, "trace": traces, "expected_error": expected}
        frames.append(pd.DataFrame({"images": name, "sigma": sigma, "sample": range(len(points)), **values}))
    table = summarise_by(pd.concat(frames, ignore_index=True), by=["images", "sigma"])
    return MEMORISATION.check(table)


def _measure(
    denoiser: Denoiser, clean: Tensor, sigma: float, condition: Condition, probes: int, rows: Generators
) -> tuple[np.ndarray, np.ndarray]:
    """Squared error an element and Hutchinson's estimate of the trace, of each point."""
    noise = torch.stack([torch.randn(clean.shape[1:], generator=row) for row in rows]).to(clean)
    denoised, trace = denoised_and_trace(denoiser, clean + sigma * noise, sigma, condition, probes, rows)
    error = (denoised - clean).double().flatten(1).square().mean(1)
    return error.cpu().numpy(), trace.numpy()
