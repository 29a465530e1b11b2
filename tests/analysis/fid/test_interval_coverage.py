"""What is no interval of the populations' value; how often intervals hold it: tests/benchmarks/coverage."""

import numpy as np
import pytest
from tests.analysis.fid.feature_laws import POPULATIONS, D, draw_rectified

from scorescope.analysis.fid.companions import companion_table
from scorescope.analysis.fid.extrapolation import fid_infinity
from scorescope.analysis.fid.frechet import raw_distance
from scorescope.analysis.fid.frechet_error import frechet_interval
from scorescope.analysis.fid.influence_tables import influence_table
from scorescope.analysis.fid.neighbours import neighbour_table
from scorescope.analysis.fid.optimal_transport import transport
from scorescope.probes.features.moments import Moments


def population(changes, other=None):
    rng = np.random.default_rng(5)
    moments = other or Moments.of(draw_rectified(400_000, rng))
    return raw_distance(Moments.of(draw_rectified(400_000, rng, **changes)), moments)


def coverage(changes, n, repeats):
    """Share of intervals without bias, and of scatters, that hold the distance of the populations."""
    truth, rng, held = population(changes), np.random.default_rng(n), []
    for _ in range(repeats):
        found = frechet_interval(draw_rectified(n, rng, **changes), draw_rectified(n, rng))
        held.append((found.low <= truth <= found.high, found.scatter_low <= truth <= found.scatter_high))
    return np.mean(held, axis=0)


def test_scatter_is_no_interval_of_the_populations():
    covered, by_scatter = coverage(POPULATIONS["near"], 10 * D, 60)
    assert covered >= 0.88 and by_scatter < 0.8


def test_the_fit_of_fid_infinity_is_narrower_than_the_draws():
    rng = np.random.default_rng(2)
    found = fid_infinity(draw_rectified(600, rng, spread=1.4), draw_rectified(2000, rng))
    assert found.low < found.fit_low < found.value < found.fit_high < found.high


def neighbour_coverage(n1, n2, d, spread, repeats):
    rng = np.random.default_rng(n1)
    tables = [
        neighbour_table(rng.normal(size=(n1, d)) * spread, rng.normal(size=(n2, d))).set_index("metric")
        for _ in range(repeats)
    ]
    found = {}
    for metric in tables[0].index:
        rows = np.array([t.loc[metric, ["value", "low", "high", "given_low", "given_high"]] for t in tables], float)
        centre = rows[:, 0].mean()
        found[metric] = [((rows[:, k] <= centre) & (centre <= rows[:, k + 1])).mean() for k in (1, 3)]
        found[metric].append((rows[:, 2] - rows[:, 1]).mean() / (2 * 1.96 * rows[:, 0].std()))
    return found


def test_radii_given_the_coverage_covers_less():
    covered, given, _ = neighbour_coverage(100, 300, 6, 0.8, 40)["coverage"]
    assert covered >= 0.92 and given < 0.92


def test_many_features_have_a_value_without_bias():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(600, 513)) * 1.1, rng.normal(size=(600, 513))
    row = companion_table(x, y, companions=False).set_index("metric").loc["FD without bias"]
    assert row["low"] < row["value"] < row["high"] and row["note"].startswith("10 groups")


@pytest.mark.filterwarnings("ignore::scorescope.analysis.fid.optimal_transport.FirstOrderWarning")
@pytest.mark.parametrize(("spread", "n", "trusted"), [(1.0, 40 * D, False), (1.5, 40 * D, True), (1.5, 5 * D, False)])
def test_influences_near_the_floor_are_not_trusted(spread, n, trusted):
    rng = np.random.default_rng(0)
    x, y = draw_rectified(n, rng, spread=spread), draw_rectified(n, rng)
    assert (influence_table(transport(x, y), x)["trusted"] == trusted).all()
