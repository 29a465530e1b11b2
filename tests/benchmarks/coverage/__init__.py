"""How often each 95 % interval of the tables holds the truth, simulated on populations whose truth is known.

    python -m tests.benchmarks coverage                       # every case, 500 repeats; prints the table
    python -m tests.benchmarks coverage --only fid --repeats 60

A case is data: a population, what is true of it, and how one sample of it becomes intervals. `ends` names the columns
`low` and `high` of declared tables that a case stands for; `NO_CASE` names those that have none, and why.

Tables of reports that are not declared (how often a judge is right, shares of tokens, class agreement beside samples,
samples nearer to training images than held-out ones) take `share_interval`, `recall_interval` and `studentised`, which
have cases here.
"""

from tests.benchmarks.coverage import (
    changes,
    directions,
    fid,
    gaussian,
    groups,
    guidance,
    information,
    solvers,
    statistics,
    steering,
    steps,
    trajectories,
    units,
)
from tests.benchmarks.coverage.case import Case

WINGS = (
    statistics, fid, guidance, gaussian, information, directions, steering, trajectories, solvers, steps, changes,
    groups, units,
)  # fmt: skip
CASES: tuple[Case, ...] = tuple(case for wing in WINGS for case in wing.CASES)

NO_CASE = {
    "neighbours:given": "a scatter with the radii given, said to be no interval of the metric",
    "companions:scatter": "where measured values fall, no interval of a truth; of Frechet distances it has a case",
    "noise_norms:spread": "quantiles of images, no interval of a number",
    "noise_norms:noise": "quantiles of a known law",
    "direction_stability": "quantiles of cosines over draws, no interval of a number",
    "step_cosines": "quantiles of cosines over halves, no interval of a number",
    "table_changes:first": "copied from the tables that are compared",
    "table_changes:second": "copied from the tables that are compared",
    "sparse_sheet": "the same estimators as of other tables; of FVU it is simulated in tests/analysis/inside",
    "feature_attribution": "skewed_mean_interval over images, which has a case",
    "feature_attribution:ablation": "the same",
    "attribution_levels:effect": "the same",
    "attribution_levels:rank": "simulated in tests/analysis/inside, with features drawn at hand",
    "unit_ascent": "skewed_mean_interval over images, which has a case",
    "unit_ascent:control": "the same",
    "unit_ascent:above": "the same, of pairs",
    "feature_reads": "simulated in tests/analysis/inside, with activations drawn at hand",
    "map_agreement": "the mean of correlations by Student's t, which has a case",
    "map_agreement:excess": "not simulated here: a jackknife over samples, 4.3 to 4.7 % of 4000 null trials miss zero",
    "suggested_interval": "a range of noise levels; its ends have intervals of their own",
}
"""Columns of declared tables that are named like an interval's and have no case."""

__all__ = ["CASES", "NO_CASE", "Case"]
