"""Rank correlations of maps against scipy, closed forms, and independent maps."""

import numpy as np
import pytest
import scipy
import torch

from scorescope.analysis.attention import change_maps, map_agreement
from scorescope.data.errors import InputError


def draws(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def excess_of(pairs):
    """Mean correlation of a sample with itself less that of different ones, of all pairs."""
    return np.diag(pairs).mean() - pairs[~np.eye(len(pairs), dtype=bool)].mean()


def test_each_number_is_that_of_scipy():
    attention, change = draws(2, 9, 4, 4), draws(2, 9, 4, 4, seed=1).round(decimals=1)  # with ties
    table = map_agreement(attention, change, sigmas=[2.0, 1.0])
    for level, row in table.iterrows():
        pairs = np.array([[scipy.stats.spearmanr(a.flatten(), b.flatten()).statistic for b in change[level]]
                          for a in attention[level]])  # fmt: skip
        assert row["mean"] == pytest.approx(np.diag(pairs).mean(), abs=1e-12)
        assert row["across"] == pytest.approx(np.diag(pairs).mean() - excess_of(pairs), abs=1e-12)
        assert row["excess"] == pytest.approx(excess_of(pairs), abs=1e-12)
        low, high = scipy.stats.ttest_1samp(np.diag(pairs), 0).confidence_interval()
        assert (row["low"], row["high"]) == pytest.approx((low, high), abs=1e-12)
        left_out = [excess_of(np.delete(np.delete(pairs, k, 0), k, 1)) for k in range(9)]
        error = (8 / 9 * np.square(left_out - np.mean(left_out)).sum()) ** 0.5  # the jackknife's
        assert row["excess_high"] - row["excess"] == pytest.approx(scipy.stats.t.ppf(0.975, 8) * error, rel=1e-9)
        assert row["excess"] - row["excess_low"] == pytest.approx(row["excess_high"] - row["excess"])
    assert table["n"].eq(9).all() and table["cells"].eq(16).all() and table["reason"].eq("").all()


def test_any_rising_function_of_the_same_map_agrees_entirely_and_a_falling_one_not_at_all():
    maps = draws(1, 8, 4, 4)
    assert map_agreement(maps, maps.exp(), sigmas=[1.0])["mean"][0] == pytest.approx(1)
    assert map_agreement(maps, -(maps**3), sigmas=[1.0])["mean"][0] == pytest.approx(-1)
    assert map_agreement(maps, maps[0], sigmas=[1.0], compared="image")["mean"][0] == pytest.approx(1)  # without levels


def test_what_maps_of_all_samples_share_is_no_excess():
    shared = draws(4, 4).expand(1, 12, 4, 4)
    found = map_agreement(shared, shared, sigmas=[1.0]).iloc[0]
    assert found["mean"] == pytest.approx(1) and found["across"] == pytest.approx(1)
    assert found["excess"] == pytest.approx(0, abs=1e-12)


def test_intervals_of_independent_maps_hold_zero():
    trials, count = 1000, 8
    attention, change = draws(trials, count, 6, 6, seed=2), draws(trials, count, 6, 6, seed=3)
    table = map_agreement(attention, change, sigmas=np.ones(trials))
    for low, high in (("low", "high"), ("excess_low", "excess_high")):
        wrong = ((table[low] > 0) | (table[high] < 0)).mean()
        assert wrong <= 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5, (
            low,
            wrong,
        )  # and three standard errors


def test_few_samples_have_no_interval_and_flat_maps_no_ranks():
    maps = draws(1, 3, 4, 4)
    found = map_agreement(maps, maps, sigmas=[1.0]).iloc[0]
    assert found["mean"] == pytest.approx(1) and np.isnan(found["low"]) and "fewer than 8" in found["reason"]
    maps[0, 1] = 0.5
    assert map_agreement(maps, draws(1, 3, 4, 4), sigmas=[1.0])["n"][0] == 2
    found = map_agreement(torch.ones(1, 3, 4, 4), maps, sigmas=[1.0]).iloc[0]
    assert found["n"] == 0 and np.isnan(found["mean"]) and "contrast" in found["reason"]
    one = map_agreement(draws(1, 1, 4, 4), draws(1, 1, 4, 4), sigmas=[1.0]).iloc[0]
    assert one["n"] == 1 and np.isnan(one["across"])
    for wrong in (draws(1, 3, 4, 5), draws(3, 4)):
        with pytest.raises(InputError, match="attention, change"):
            map_agreement(maps, wrong, sigmas=[1.0])


def test_changes_are_squared_summed_over_channels_and_averaged_over_cells():
    first, second = draws(2, 3, 4, 6), draws(2, 3, 4, 6, seed=1)
    expected = (first - second).square().sum(1).reshape(2, 2, 2, 3, 2).mean((2, 4))
    torch.testing.assert_close(change_maps(first, second, size=(2, 3)), expected)
    packed = [one.flatten(2).mT for one in (first, second)]
    torch.testing.assert_close(change_maps(*packed, size=(2, 3), grid=(4, 6)), expected)
    with pytest.raises(InputError, match="grid: found"):
        change_maps(*packed, size=(2, 3), grid=(4, 5))
    with pytest.raises(InputError, match="first, second"):
        change_maps(first, second[:1], size=(2, 3))
