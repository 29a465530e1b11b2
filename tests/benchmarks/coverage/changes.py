"""Comparison of checkpoints: intervals that hold together for all rows, and what is shown where nothing differs."""

from functools import partial

import numpy as np
import torch

from scorescope.analysis.changes.denoisers import above_lowest, denoiser_changes
from scorescope.analysis.statistics.simultaneous import paired_means, unpaired_means
from scorescope.probes import Bank
from tests.benchmarks.coverage.case import Case
from tests.benchmarks.coverage.trajectories import shrink

ROWS, DRAWS = 40, 500


def together(kind, rng, units, rows=ROWS):
    """Units whose rows go together (correlation 1/2), of three laws."""
    values = np.sqrt(0.5) * (rng.standard_normal((units, 1)) + rng.standard_normal((units, rows)))
    return {"normal": values, "log-normal, spread 1": np.exp(values), "cube of a normal": values**3}[kind]


MEAN = {"normal": 0.0, "log-normal, spread 1": np.exp(0.5), "cube of a normal": 0.0}
ALL, NONE = "all rows together", "nothing shown where nothing differs"


def shown_ends(shown):
    """A verdict as an interval about no difference: it leaves 0 out, or it does not."""
    return (1.0, 1.0) if shown else (-1.0, 1.0)


def _paired(kind, units, rng):
    table = paired_means(together(kind, rng, units), draws=DRAWS, seed=int(rng.integers(2**31)))
    other = together(kind, rng, units) - together(kind, rng, units)
    null = paired_means(other, draws=DRAWS, seed=int(rng.integers(2**31)))
    return {
        ALL: (table["low"], table["high"]),
        NONE: shown_ends(bool(((null["low"] > 0) | (null["high"] < 0)).any())),
    }


def _unpaired(kind, units, rng):
    one, other = together(kind, rng, units) + 1, together(kind, rng, units)
    table = unpaired_means(one, other, draws=DRAWS, seed=int(rng.integers(2**31)))
    null = unpaired_means(together(kind, rng, units), other, draws=DRAWS, seed=int(rng.integers(2**31)))
    return {
        ALL: (table["low"], table["high"]),
        NONE: shown_ends(bool(((null["low"] > 0) | (null["high"] < 0)).any())),
    }


FACTORS = (1.0, 1.6, 0.7)
SIGMAS = (4.0, 2.0, 1.0, 0.5)
DIMENSION = 4


def _loss(variance, sigma):
    share = variance / (variance + sigma**2)
    return DIMENSION * ((1 - share) ** 2 + share**2 * sigma**2) / sigma**2


def _denoisers(n, rng):
    """Three denoisers of a Gaussian, one of them exact: differences of all pairs, and what is above the lowest."""
    bank = Bank(torch.from_numpy(rng.normal(size=(n, DIMENSION))), SIGMAS, seed=int(rng.integers(2**31)))
    table = denoiser_changes(bank, {str(k): shrink(k) for k in FACTORS}, draws=DRAWS)
    above = above_lowest(table).dropna(subset="low")
    # which is the lowest is found from the sample: each row against its own truth
    least = above_lowest(table).query("missing == 'the lowest'").set_index("sigma")["denoiser"]
    apart = [
        _loss(float(row.denoiser), row.sigma) - _loss(float(least[row.sigma]), row.sigma) for row in above.itertuples()
    ]
    return {
        "differences of loss, all together": (table["low"], table["high"]),
        "losses above the lowest, all together": (above["low"] - apart, above["high"] - apart),
    }


def _denoiser_truth():
    pairs = [(FACTORS[i], FACTORS[j]) for i in range(3) for j in range(i + 1, 3)]
    differences = [_loss(second, sigma) - _loss(first, sigma) for first, second in pairs for sigma in SIGMAS]
    return {"differences of loss, all together": differences, "losses above the lowest, all together": 0.0}


TABLES = ("run_changes", "end_changes", "decomposition_changes", "denoiser_changes", "above_lowest")
SKEWED = "strongly skewed: said in `simultaneous`, and row by row in `skewness`"
CASES = (
    *(
        Case(
            f"changes: paired, {kind}, {units}", "largest t under drawn signs", f"{units} pairs, {ROWS} rows", kind,
            partial(lambda kind: {ALL: MEAN[kind], NONE: 0.0}, kind), partial(_paired, kind, units), TABLES,
            wide="symmetric heavy tails" if kind.startswith("cube") else "",
            short={ALL: SKEWED} if kind.startswith("log") else {},
        )
        for kind in MEAN
        for units in (8, 32)
    ),
    *(
        Case(
            f"changes: two sets, {kind}, {units}", "largest t under drawn sets", f"{units} and {units}, {ROWS} rows",
            kind, lambda: {ALL: 1.0, NONE: 0.0}, partial(_unpaired, kind, units), TABLES[:2],
        )
        for kind in ("normal", "log-normal, spread 1")
        for units in (8, 32)
    ),
    Case(
        "changes: denoisers, 24", "largest t under drawn signs", "24 images, 3 denoisers, 4 levels", "Gaussian, d = 4",
        _denoiser_truth, partial(_denoisers, 24), TABLES[3:],
    ),
)  # fmt: skip
