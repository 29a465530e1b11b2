import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tests.benchmarks.coverage.statistics import LAWS

from scorescope.analysis import summarise_by
from scorescope.analysis.statistics.intervals import mean_interval, skewed_mean_interval, skewed_t
from scorescope.data import InputError


def table(values, **columns):
    return pd.DataFrame({"sample": np.arange(len(values)), "group": "a", "x": values} | columns)


def test_mean_median_and_normal_interval():
    values = np.random.default_rng(0).normal(3, 2, 400)
    row = summarise_by(table(values), by=["group"]).iloc[0]
    assert row["n"] == 400 and row["mean"] == pytest.approx(values.mean()) and row["median"] == np.median(values)
    half = 1.96 * values.std(ddof=1) / 20
    # the interval of a mean of 400 agrees with the normal interval to a few percent of its width
    assert row["low"] == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert row["high"] == pytest.approx(values.mean() + half, abs=0.1 * half)


POPULATIONS = [name for name in LAWS if name != "log-normal, spread 1"]


@pytest.mark.parametrize("name", POPULATIONS)
@pytest.mark.parametrize("n", [8, 16, 64])
def test_intervals_cover_at_their_level(name, n):
    draw, mean = LAWS[name]
    repeats = 4000
    values = draw(np.random.default_rng(n), (repeats, n))
    rows = {"sample": np.tile(np.arange(n), repeats), "g": np.repeat(np.arange(repeats), n), "x": values.ravel()}
    found = summarise_by(pd.DataFrame(rows), by=["g"])
    covered = ((found["low"] <= mean) & (found["high"] >= mean)).mean()
    assert 0.92 - 0.008 <= covered <= 0.98  # 95 %; the binomial error of 4000 repeats is 0.004


def test_a_heavy_law_needs_thirty_two():
    draw = np.random.default_rng(5).lognormal(0, 1, (4000, 32))
    low, high = skewed_mean_interval(draw.T)
    assert 0.91 <= ((low <= np.exp(0.5)) & (high >= np.exp(0.5))).mean() <= 0.98


def test_the_statistic_is_within_reach_exactly_inside_the_interval():
    values = np.random.default_rng(6).exponential(size=(12, 50))
    low, high = skewed_mean_interval(values)
    t = stats.t.ppf(0.975, 11)
    np.testing.assert_allclose(skewed_t(values - low), t, rtol=1e-9)
    np.testing.assert_allclose(skewed_t(values - high), -t, rtol=1e-9)
    assert ((low < values.mean(0)) & (values.mean(0) < high)).all()


def test_symmetric_and_equal_values_have_students_interval():
    symmetric = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    assert skewed_mean_interval(symmetric) == pytest.approx(mean_interval(symmetric)[1:])
    assert skewed_mean_interval(np.full((4, 2), 3.0))[0].tolist() == [3.0, 3.0]


def test_rows_of_a_sample_stay_together():
    # each sample's value ten times over: the interval must not shrink by sqrt(10)
    values = np.random.default_rng(2).normal(size=100)
    alone = summarise_by(table(values), by=["group"]).iloc[0]
    repeated = summarise_by(
        pd.DataFrame({"sample": np.repeat(np.arange(100), 10), "group": "a", "x": np.repeat(values, 10)}), by=["group"]
    ).iloc[0]
    assert repeated["n"] == 1000
    assert repeated["high"] - repeated["low"] == pytest.approx(alone["high"] - alone["low"], rel=1e-9)


def test_missing_values_are_left_out_and_counted():
    found = summarise_by(table(np.array([1.0, np.nan, 3.0, np.nan])), by=["group"]).iloc[0]
    assert found["n"] == 2 and found["mean"] == 2 and found["low"] < 2 < found["high"]


def test_lone_and_empty_groups_have_no_interval():
    found = summarise_by(table(np.array([1.0, 2.0, np.nan]), group=["a", "b", "c"]), by=["group"]).set_index("group")
    assert found.loc["a", "mean"] == 1 and found["low"].isna().all()
    assert found.loc["c", "n"] == 0 and np.isnan(found.loc["c", "mean"])


def test_group_keys_may_be_missing():
    found = summarise_by(table(np.ones(4), weight=[1.0, 1.0, np.nan, np.nan]), by=["weight"], quantities=["x"])
    assert list(found["n"]) == [2, 2] and found["weight"].isna().sum() == 1


def test_bad_input():
    with pytest.raises(InputError, match="without \\['y'\\]"):
        summarise_by(table(np.ones(2)), by=["group"], quantities=["y"])
    with pytest.raises(InputError, match="0 rows"):
        summarise_by(table(np.ones(0)), by=["group"])
