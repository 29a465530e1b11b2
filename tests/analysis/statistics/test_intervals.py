import numpy as np
import pytest
from scipy import stats

from scorescope.analysis.statistics.bootstrap import draw_units, interval, percentile_interval, tails
from scorescope.analysis.statistics.intervals import (
    agreeing_interval,
    bounded_mean_interval,
    is_binary,
    paired_share_interval,
    pairs_needed,
    quantile_interval,
    share_gap,
    share_interval,
    skewed_mean_interval,
    skewed_ratio_interval,
    wilson,
)
from scorescope.data import InputError

Z2 = stats.norm.ppf(0.975) ** 2


def differences(gained, lost, n):
    return np.repeat([1.0, -1.0, 0.0], [gained, lost, n - gained - lost])


def test_share_interval_is_exact():
    low, high = share_interval([1.0] * 8 + [np.nan])
    assert (low, high) == pytest.approx((0.025 ** (1 / 8), 1))  # the closed form at the end
    low, high = share_interval([1.0, 1.0, 0.0, 0.0, 0.0])
    assert stats.binom.sf(1, 5, low) == pytest.approx(0.025) and stats.binom.cdf(2, 5, high) == pytest.approx(0.025)
    with pytest.raises(InputError, match="zeros and ones"):
        share_interval([0.5, 1.0])
    assert is_binary([0.0, np.nan, 1.0]) and not is_binary([np.nan]) and not is_binary([0.0, 0.5])


def test_no_differing_pair_still_leaves_a_width():
    for n in (8, 96):
        half = Z2 / (n + Z2)
        assert paired_share_interval(np.zeros(n)) == pytest.approx((-half, half), abs=1e-9)
        assert half > 1 - 0.05 ** (1 / n)  # no narrower than what the exact one-sided bound at 5 % excludes
    needed = pairs_needed(0.02)
    assert paired_share_interval(np.zeros(needed))[1] <= 0.02 < paired_share_interval(np.zeros(needed - 1))[1]


def test_ends_are_where_the_score_test_turns():
    # Tango's statistic with the restricted maximum likelihood found numerically, in place of its closed form
    gained, lost, n = 7, 2, 40
    for end in paired_share_interval(differences(gained, lost, n)):
        shares = np.linspace(max(0, -end) + 1e-9, (1 - end) / 2 - 1e-9, 2_000_001)  # of the pairs that only lose
        likelihood = gained * np.log(shares + end) + lost * np.log(shares)
        likelihood += (n - gained - lost) * np.log(1 - 2 * shares - end)
        lose = shares[likelihood.argmax()]
        z = (gained - lost - n * end) / np.sqrt(n * (2 * lose + end - end**2))
        assert abs(z) == pytest.approx(np.sqrt(Z2), abs=1e-4)


@pytest.mark.parametrize("shares", [(0.02, 0.01), (0.05, 0.05), (0.15, 0.05), (0.4, 0.2)])
def test_paired_interval_covers(shares):
    # summed over every outcome of 40 pairs, so without noise; a score interval covers 95 % on average, not at least
    n, (gain, lose) = 40, shares
    covered = 0.0
    for gained in range(n + 1):
        for lost in range(n + 1 - gained):
            chance = stats.multinomial.pmf([gained, lost, n - gained - lost], n, [gain, lose, 1 - gain - lose])
            if chance > 1e-7:
                low, high = paired_share_interval(differences(gained, lost, n))
                covered += chance * (low <= gain - lose <= high)
    assert covered > 0.93


def test_intervals_mirror_and_reach_the_ends():
    low, high = paired_share_interval(differences(5, 1, 30))
    assert paired_share_interval(differences(1, 5, 30)) == pytest.approx((-high, -low))
    low, high = paired_share_interval(np.ones(12))
    assert high == 1 and low == pytest.approx((12 - Z2) / (12 + Z2), abs=0.1) and 0 < low < 1
    with pytest.raises(InputError, match="differences of 0 and 1"):
        paired_share_interval([0.5])
    with pytest.raises(InputError, match="margin"):
        pairs_needed(0)


def test_share_gap_against_newcombe_1998():
    """Table II, row (a) of the paper: 56/70 - 48/80, method 10."""
    gap, low, high = share_gap(56, 70, 48, 80)
    assert gap == pytest.approx(0.2)
    assert (round(float(low), 4), round(float(high), 4)) == (0.0524, 0.3339)


@pytest.mark.parametrize("n", range(1, 60))
def test_wilson_holds_its_share_at_both_ends(n):
    share, low, high = wilson(np.arange(n + 1), n)
    assert (low <= share).all() and (share <= high).all() and low[0] == 0 and high[-1] == 1


def test_a_bootstrap_interval_holds_the_value_of_a_biased_statistic():
    # the draws of a largest value lie at or below it; here all of them lie to one side
    value, low, high = interval(np.array([[1.0, 5.0], *([[2.0, 3.0]] * 10)]), 20)
    assert list(value) == [1, 5] and list(low) == [1, 3] and list(high) == [2, 5]
    assert np.isnan(interval(np.array([2.0, np.nan, np.nan]), 20)[1:]).all()


def test_an_interval_is_missing_where_too_many_draws_are_undefined():
    """Dropped, undefined draws gave the interval of the others, which are not a fair part of them."""
    draws = np.linspace(0, 1, 1001)
    few, many = draws.copy(), draws.copy()
    few[:20], many[:40] = np.nan, np.nan  # 2 and 4 %: an end leaves 2.5 % beyond it
    found = [interval(np.concatenate([[0.5], part]), 10**6) for part in (draws, few, many)]
    assert found[0][1:] == pytest.approx((0.025, 0.975), abs=1e-6)
    assert found[1][1:] == pytest.approx((0.0445, 0.9755), abs=1e-3)
    assert np.isnan(found[2][1:]).all() and found[2][0] == 0.5
    both = interval(np.stack([np.r_[0.5, draws], np.r_[0.5, many]], axis=1), 10**6)  # each statistic for itself
    assert np.isfinite(both[1]).tolist() == [True, False]


@pytest.mark.parametrize("n", [2, 8, 96])
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_samples_that_agree_leave_room_for_others(n, value):
    """A law beyond the interval, with its other values at an end of the range, agrees in n samples in under 5 %."""
    low, high = agreeing_interval(value, n)
    assert low <= value <= high and low >= 0 and high <= 1
    for end, bound in ((1.0, high), (0.0, low)):
        if end != value:
            rare = (bound - value) / (end - value)  # how often other values come, for the mean to reach the bound
            assert (1 - rare) ** n == pytest.approx(0.05)


@pytest.mark.parametrize("n", [6, 17, 64])
def test_the_interval_of_a_median_covers_it_whatever_the_law(n):
    drawn = np.random.default_rng(n).lognormal(sigma=2.0, size=(n, 4000))  # its median is 1
    low, high = quantile_interval(drawn)
    exact = 1 - 2 * stats.binom.cdf(stats.binom.ppf(0.025, n, 0.5) - 1, n, 0.5)
    assert ((low <= 1) & (high >= 1)).mean() == pytest.approx(exact, abs=0.012) and exact >= 0.95


def test_below_six_values_a_median_has_no_interval():
    assert all(np.isnan(end).all() for end in quantile_interval(np.arange(10.0).reshape(5, 2)))


def test_quantiles_of_few_units_are_taken_farther_out():
    """sqrt(8 / 7) times Student's 2.365 of seven degrees is 2.528, beyond which 0.573 % of a normal law lie."""
    low, high = tails(8)
    assert (
        low
        == pytest.approx(stats.norm.cdf(-np.sqrt(8 / 7) * stats.t.ppf(0.975, 7)))
        == pytest.approx(0.00573, abs=1e-5)
    )
    assert low + high == pytest.approx(1) and tails(10**7)[0] == pytest.approx(0.025, abs=1e-5)
    assert tails(1) == (0.025, 0.975)


def test_medians_of_eight_are_covered():
    """Percentiles at 2.5 and 97.5 % held 88 %; 1500 repeats tell 95 % to within 1.2 %."""
    values = np.random.default_rng(0).normal(size=(1500, 8))
    weights = draw_units(8, resamples=400, seed=0).astype(int)
    drawn = np.stack([np.repeat(np.arange(8), row) for row in weights])
    low, high = percentile_interval(np.median(values[:, drawn], axis=2).T, 8)
    assert 0.92 <= ((low <= 0) & (high >= 0)).mean() <= 0.985


def test_a_ratio_of_equal_denominators_is_a_mean():
    values = np.random.default_rng(1).exponential(size=(12, 3))
    found = skewed_ratio_interval(values, np.full((12, 3), 4.0))
    np.testing.assert_allclose(found, np.asarray(skewed_mean_interval(values)) / 4)
    same = skewed_ratio_interval(0.5 * values, values)  # the same in every unit
    np.testing.assert_allclose(same, 0.5)


@pytest.mark.parametrize("n", [8, 32])
def test_ratios_are_covered(n):
    """Effects that differ, of which a half comes back: by percentiles of a bootstrap 0.835 at 8."""
    rng = np.random.default_rng(n)
    whole = 1.5 + 0.5 * rng.normal(size=(n, 4000))
    part = (0.5 + 0.2 * rng.normal(size=(n, 4000))) * whole
    low, high = skewed_ratio_interval(part, whole)
    assert 0.92 <= ((low <= 0.5) & (high >= 0.5)).mean() <= 0.98  # the binomial error of 4000 repeats is 0.004


def test_means_of_a_bounded_quantity_stay_within_its_bounds():
    values = np.array([[1.0, 0.2, 1.0], [1.0, 0.2, 0.0], [1.0, 0.2, 1.0], [1.0, 0.2, 1.0]])
    low, high = bounded_mean_interval(values, 0.0, 1.0)
    assert low[:2] == pytest.approx([agreeing_interval(v, 4)[0] for v in (1.0, 0.2)]) and high[0] == 1
    assert high[1] == pytest.approx(agreeing_interval(0.2, 4)[1]) and 0 <= low[2] < 0.75 < high[2] <= 1
    assert np.isnan(bounded_mean_interval(values[:1], 0.0, 1.0)).all()


@pytest.mark.parametrize(("level", "n"), [(0.1, 8), (0.1, 40), (0.5, 8), (0.9, 25)])
def test_quantile_intervals_are_exact(level, n):
    """By the binomial law of how many values lie below, summed over all places of the quantile among them."""
    below = np.arange(n + 1)  # of n values, with the quantile after so many of them
    low, high = quantile_interval(np.arange(1.0, n + 1), level, low=0, high=n + 1)
    chance = stats.binom.pmf(below, n, level)
    assert chance[below + 0.5 < low].sum() <= 0.025 and chance[below + 0.5 > high].sum() <= 0.025
    # and one value farther in on either side would leave out more
    assert chance[below + 0.5 < low + 1].sum() > 0.025 and chance[below + 0.5 > high - 1].sum() > 0.025


def test_a_rare_quantile_of_few_values_is_open():
    low, high = quantile_interval(np.linspace(0.1, 0.8, 8), 0.1, low=-1, high=1)
    assert (low, high) == (-1, pytest.approx(0.4))  # 3 or more of 8 lie below it in 3.8 % of draws
