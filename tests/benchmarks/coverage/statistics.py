"""Means, shares and ratios: estimators that many tables share."""

from functools import partial

import numpy as np
import pandas as pd

from scorescope.analysis.statistics.bootstrap import SeedDraws, draw_units, seed_interval
from scorescope.analysis.statistics.intervals import (
    agreeing_interval,
    mean_interval,
    paired_share_interval,
    quantile_interval,
    share_gap,
    share_interval,
    wilson,
)
from scorescope.analysis.statistics.studentised import studentised
from scorescope.analysis.statistics.summaries import summarise_by
from tests.benchmarks.coverage.case import Case

EXACT = "exact: at least 95 % at every share, on purpose"

LAWS = {
    "normal": (lambda rng, size: rng.normal(size=size), 0.0),
    "exponential": (lambda rng, size: rng.exponential(size=size), 1.0),
    "chi-square, 1 degree": (lambda rng, size: rng.chisquare(1, size), 1.0),
    "log-normal, spread 0.5": (lambda rng, size: rng.lognormal(0, 0.5, size), float(np.exp(0.125))),
    "log-normal, spread 1": (lambda rng, size: rng.lognormal(0, 1, size), float(np.exp(0.5))),
}
"""Laws of what is averaged, and their means."""

MEANS = (
    "noise_norms", "flipd", "jacobian_ranks", "memorisation", "weighted_losses", "local_errors", "path_geometry",
    "site_magnitudes", "steps", "gain_path", "decoded_path", "clip_activity", "separation", "parting", "savings",
    "changes", "known_effects", "sweep", "denoising_errors", "cheapest_steps", "consistency_errors",
    "decision_levels", "effective_noise:level", "end_errors", "end_errors:typical_ratio", "moment_bias",
    "moment_bias:beyond", "path_shape", "path_shape:gaussian", "step_damage", "step_noise", "student_gaps",
    "student_gaps:beyond",
)  # fmt: skip
SHARES = ("class_agreement", "attribute_agreement", "end_agreement:flips", "skips:flips", "decisions", "end_groups")
MEDIANS = ("end_errors:median", "observed_orders", "error_estimates", "step_errors", "end_groups:end_error")
WILSONS = ("class_shares", "noise_norms:inside", "class_summary", "law_kept", "balance")


def _means(law, n, rng):
    table = pd.DataFrame({"sample": np.arange(n), "group": "a", "x": LAWS[law][0](rng, n)})
    return {"mean": tuple(summarise_by(table, by=["group"], quantities=["x"]).loc[0, ["low", "high"]])}


def _clusters(n, rng):
    """One to four rows a sample, of values that go together and are larger where there are more."""
    counts = rng.integers(1, 5, n)
    sample = np.repeat(np.arange(n), counts)
    values = np.repeat(rng.normal(size=n) + counts, counts) + 0.5 * rng.normal(size=len(sample))
    table = pd.DataFrame({"sample": sample, "group": "a", "x": values})
    return {"mean over rows": tuple(summarise_by(table, by=["group"], quantities=["x"]).loc[0, ["low", "high"]])}


def _share(n, share, rng):
    return {"share": share_interval((rng.random(n) < share).astype(float))}


def _wilson(n, share, rng):
    return {"share": wilson(rng.binomial(n, share), n)[1:]}


def _paired(n, gain, lose, rng):
    return {
        "difference of two shares, paired": paired_share_interval(
            rng.choice([1, -1, 0], n, p=[gain, lose, 1 - gain - lose])
        )
    }


def _gap(sizes, shares, rng):
    return {
        "difference of two shares": share_gap(
            *(x for n, p in zip(sizes, shares, strict=True) for x in (rng.binomial(n, p), n))
        )[1:]
    }


def _t(n, rng):
    return {"mean": mean_interval(rng.normal(size=n))[1:]}


def _agreeing(n, rare, rng):
    """A bounded quantity that is nearly always the same; only samples that all agree have this interval."""
    values = np.where(rng.random(n) < rare, rng.random(n), 0.0)
    return {"mean of samples that agree": agreeing_interval(0.0, n) if not values.any() else (0.0, 1.0)}


def _median(n, rng):
    return {"median": quantile_interval(rng.lognormal(size=n))}


def _paired_ratio(n, rng):
    base = rng.lognormal(sigma=0.5, size=n)
    draws = SeedDraws.of(n)
    found = seed_interval(draws.means(0.7 * base * rng.lognormal(-0.02, 0.2, n)) / draws.means(base), n)
    return {"ratio of means, paired": found[1:]}


def _ratio(modes, n, rng):
    x = rng.standard_normal((n, modes))
    errors = ((0.05 * x + 0.06) ** 2).sum(1)  # a law whose mean and covariance are a little off
    found = studentised(errors[None], (x**2).sum(1)[None], draw_units(n, resamples=1000, seed=0))
    return {"ratio of sums": (found.low[0], found.high[0])}


CASES = (
    *(
        Case(
            f"statistics: mean, {law}, {n}", "Hall's corrected t (`summarise_by`)", str(n), law,
            partial(lambda law: {"mean": LAWS[law][1]}, law), partial(_means, law, n), MEANS,
        )
        for law, n in (
            ("normal", 8), ("exponential", 8), ("exponential", 16), ("chi-square, 1 degree", 8),
            ("log-normal, spread 0.5", 8), ("log-normal, spread 1", 32),
        )
    ),
    Case(
        "statistics: mean, clusters, 16", "Hall's corrected t of what a sample adds (`summarise_by`)", "16 samples",
        "1 to 4 rows a sample that go together", lambda: {"mean over rows": 3.0}, partial(_clusters, 16), MEANS,
    ),
    Case("statistics: mean, t, 8", "Student's t", "8", "normal", lambda: {"mean": 0.0}, partial(_t, 8)),
    *(
        Case(
            f"statistics: share, exact, {n}, {share}", "exact (Clopper & Pearson)", str(n), f"share {share}",
            partial(lambda share: {"share": share}, share), partial(_share, n, share), SHARES, wide=EXACT,
        )
        for n, share in ((8, 0.5), (20, 0.1))
    ),
    *(
        Case(
            f"statistics: share, Wilson, {n}, {share}", "Wilson", str(n), f"share {share}",
            partial(lambda share: {"share": share}, share), partial(_wilson, n, share), WILSONS,
            wide="of few outcomes: 95 % on average over shares",
        )
        for n, share in ((20, 0.3), (40, 0.05), (100, 0.9))
    ),
    Case(
        "statistics: paired shares, 40", "Tango's score interval", "40 pairs", "shares 0.15 and 0.05 differ",
        lambda: {"difference of two shares, paired": 0.1}, partial(_paired, 40, 0.15, 0.05),
        ("changes", "known_effects"),
    ),
    Case(
        "statistics: two shares, 70 and 80", "Newcombe, method 10", "70, 80", "shares 0.1 and 0.2",
        lambda: {"difference of two shares": -0.1}, partial(_gap, (70, 80), (0.1, 0.2)), ("classes:gap",),
    ),
    Case(
        "statistics: agreeing, 8", "exact bound for samples that agree", "8", "0 but for one in twenty, uniform",
        lambda: {"mean of samples that agree": 0.025}, partial(_agreeing, 8, 0.05), ("clip_share", "savings:saved"),
        wide="a bound",
    ),
    *(
        Case(
            f"statistics: median, {n}", "order statistics", str(n), "log-normal", lambda: {"median": 1.0},
            partial(_median, n), MEDIANS, wide="between two values: at least 95 %",
        )
        for n in (8, 20)
    ),
    *(
        Case(
            f"statistics: ratio of means, {n}", "bootstrap over samples, paired", str(n), "log-normal errors, paired",
            lambda: {"ratio of means, paired": 0.7}, partial(_paired_ratio, n), ("end_errors:ratio", "step_errors"),
        )
        for n in (8, 32)
    ),
    *(
        Case(
            f"statistics: ratio of sums, {modes} modes, {n}", "studentised bootstrap", str(n),
            f"squares along {modes} modes, a law a little off",
            partial(lambda modes: {"ratio of sums": 0.05**2 + 0.06**2}, modes), partial(_ratio, modes, n),
            ("path_errors", "end_agreement", "skip_candidates", "skips", "decisions"),
        )
        for modes, n in ((1, 16), (2, 16), (3, 16), (3, 48))
    ),
)  # fmt: skip
