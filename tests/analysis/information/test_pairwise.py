import numpy as np
import pytest
import torch
from tests.mixtures import draw_labelled

from scorescope.analysis import pairwise_information
from scorescope.analysis.information import grid_levels, information_of_each, logistic_levels
from scorescope.data import InputError
from scorescope.probes import Bank, log_snr_grid
from scorescope.probes.bank import Arm, compare_arms


@pytest.fixture(scope="module")
def found(known):
    return pairwise_information(known.law, known.images, known.labels, levels=grid_levels(-8, 7, 26), draws=3)


def expected(found):
    return found.expected.set_index("estimator")


def test_expected_information_is_exact_within_its_interval(known, found):
    exact = float(draw_labelled(9000, spread=0.35).log_ratio().mean())  # Monte Carlo of the closed form, +- 0.008
    rows = expected(found)
    for name in ("log_ratio", "influence"):
        assert rows.loc[name, "low"] < exact < rows.loc[name, "high"]
        assert rows.loc[name, "high"] - rows.loc[name, "low"] < 0.4 * exact  # an interval that says something
    assert rows.loc["log_ratio", "reading"] == "i(x; y)"
    assert 0 < rows.loc["influence", "outside"] < 0.01


def test_expected_information_against_the_exact_value_of_the_same_images(known, found):
    # the same images: only noise is left, with its standard error from the draws
    error = np.sqrt((found.pointwise["log_ratio_error"] ** 2).sum()) / 300
    gap = expected(found).loc["log_ratio", "nats"] - float(known.log_ratio().mean())
    assert error < 0.03 and abs(gap) < 4 * error


def test_log_ratio_ranks_images_and_influence_ranks_them_backwards(known, found):
    exact = known.log_ratio().numpy()
    assert np.corrcoef(found.pointwise["log_ratio_nats"], exact)[0, 1] > 0.8
    assert np.corrcoef(found.pointwise["influence_nats"], exact)[0, 1] < -0.2


def test_pointwise_values_and_their_errors():
    few = draw_labelled(12)
    found = pairwise_information(few.law, few.images, few.labels, levels=grid_levels(-8, 7, 26), draws=30)
    z = (found.pointwise["log_ratio_nats"] - few.log_ratio().numpy()) / found.pointwise["log_ratio_error"]
    assert np.abs(z).max() < 4 and 0.4 < z.std() < 1.7


def test_logistic_levels_agree(known):
    part = slice(0, 120)
    rows = [
        expected(pairwise_information(known.law, known.images[part], known.labels[part], levels=levels, draws=2))
        for levels in (grid_levels(-5, 7, 25), logistic_levels(40), logistic_levels(40, seed=2))
    ]
    for other, tolerance in ((rows[1], 0.08), (rows[2], 0.25)):  # random levels add an error common to all images
        assert other.loc["influence", "nats"] == pytest.approx(rows[0].loc["influence", "nats"], rel=tolerance)
    assert "draws from" in logistic_levels(40, seed=2).rule


@pytest.mark.parametrize(
    ("levels", "tolerance"),
    [(grid_levels(-9, 6, 13), 0.04), (grid_levels(-9, 6, 61), 0.002), (logistic_levels(60), 0.01),
     (logistic_levels(400, seed=3), 0.03)],
)  # fmt: skip
def test_the_cumulative_integral_ends_at_its_own_level(levels, tolerance):
    """Predictions apart by sigma sqrt(2 s(log-SNR)), s logistic: the influence up to a level is softplus exactly."""

    def denoiser(x, sigma, condition):
        apart = sigma * (2 * torch.sigmoid(-2 * sigma.log())).sqrt()
        return 0.3 * x + (apart[:, None] if condition is not None else 0)

    table = pairwise_information(denoiser, torch.zeros(4, 1), torch.zeros(4), levels=levels).integrand
    table = table[table["estimator"] == "influence"]
    exact = np.logaddexp(0, table["log_snr"]) - np.logaddexp(0, levels.low)
    np.testing.assert_allclose(table["density"], 1 / (1 + np.exp(-table["log_snr"])), rtol=1e-5)
    # the trapezoid rule errs by at most (widest step)^2 / 12 of the change of slope, 1/4
    np.testing.assert_allclose(table["cumulative"], exact, atol=tolerance)


def test_given_makes_it_conditional_information():
    # y in {0, 1, 2, 3}; c = y // 2 is known: i(x; y | c) = log p(x | y) / p(x | c)
    known = draw_labelled(240, classes=4)
    groups = known.labels // 2

    def law(x, sigma, condition):
        """Labels 0 to 3 are classes; 4 and 5 are the groups {0, 1} and {2, 3}."""
        if condition is None:
            return known.law(x, sigma)
        joint = known.law._log_joint(*_entered(known.law, x, sigma))
        members = torch.stack([known.law(x, sigma, torch.full((len(x),), k)) for k in range(4)], 1)
        groups = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]])
        allowed = torch.cat([torch.eye(4), groups]).bool()[condition]
        share = joint.masked_fill(~allowed, -torch.inf).softmax(1)
        return (share[:, :, None] * members).sum(1)

    found = pairwise_information(
        law, known.images, known.labels, given=4 + groups, levels=grid_levels(-8, 7, 22), draws=2
    )
    by_class = known.by_class()
    rows = torch.arange(240)
    group = torch.stack([by_class[rows, 2 * groups], by_class[rows, 2 * groups + 1]], 1).logsumexp(1) - np.log(2)
    exact = float((by_class[rows, known.labels] - group).mean())
    row = expected(found).loc["log_ratio"]
    error = np.sqrt((found.pointwise["log_ratio_error"] ** 2).sum()) / 240
    assert row["reading"] == "i(x; y | c)" and abs(row["nats"] - exact) < 4 * error and row["low"] < exact < row["high"]


def _entered(law, x, sigma):
    rows, s2 = law._enter(x, sigma)
    return rows, s2, law._coefficients(rows)


def test_baseline_makes_it_a_likelihood_ratio(known):
    few = draw_labelled(30)
    other = (few.labels + 1) % 3
    found = pairwise_information(
        few.law, few.images, few.labels, baseline=other, levels=grid_levels(-8, 7, 26), draws=20
    )
    rows = torch.arange(30)
    exact = (few.by_class()[rows, few.labels] - few.by_class()[rows, other]).numpy()
    assert found.reading == "log p(x | y) / p(x | baseline)"
    z = (found.pointwise["log_ratio_nats"] - exact) / found.pointwise["log_ratio_error"]
    assert np.abs(z).max() < 4.5


def test_independent_noise_is_far_noisier(known):
    # two components in 16 dimensions; loss differences with the same and with another noise in the second arm
    pair = draw_labelled(200, classes=2, shape=(16,), spread=0.3)
    levels = grid_levels(-6, 6, 25)
    arms = [Arm("none", pair.law), Arm("class", pair.law, pair.labels)]
    one, other = (compare_arms(Bank(pair.images, levels.sigmas, seed=seed), arms) for seed in (0, 1))
    shared = one.difference("none", "class") @ levels.weights / 2
    apart = (one.loss("none") - other.loss("class")) @ levels.weights / 2
    assert apart.mean() == pytest.approx(shared.mean(), abs=4 * apart.std() / np.sqrt(200))
    assert apart.var() > 20 * shared.var()


def test_maps_sum_to_the_pointwise_values():
    known = draw_labelled(6, shape=(2, 3, 3))
    found = pairwise_information(known.law, known.images, known.labels, levels=grid_levels(-4, 4, 9), maps=True)
    assert found.log_ratio_map.shape == found.influence_map.shape == (6, 3, 3)
    np.testing.assert_allclose(found.log_ratio_map.sum((1, 2)), found.pointwise["log_ratio_nats"], atol=1e-9)
    np.testing.assert_allclose(found.influence_map.sum((1, 2)), found.pointwise["influence_nats"], rtol=1e-9)


def test_integrand_sums_to_the_expectation(found):
    by_level = found.integrand.assign(part=found.integrand["weight"] * found.integrand["density"])
    sums = by_level.groupby("estimator")["part"].sum()
    for name in ("log_ratio", "influence"):
        assert sums[name] == pytest.approx(expected(found).loc[name, "nats"])
    assert (found.integrand["low"] <= found.integrand["high"]).all()


def test_entropy_bounds_the_information(known):
    images, labels, levels = known.images[:60], known.labels[:60], grid_levels(-6, 6, 13)
    exact = pairwise_information(known.law, images, labels, levels=levels, entropy=np.log(3))
    assert (exact.expected["nats"] < exact.expected["bound"]).all()
    assert (exact.expected["reading"] == "i(x; y)").all()

    def inconsistent(x, sigma, condition):  # an error of the conditional branch, which eps at low noise magnifies
        return known.law(x, sigma, condition) + (0 if condition is None else 0.1)

    found = pairwise_information(inconsistent, images, labels, levels=levels, entropy=np.log(3))
    assert "exceeds the entropy" in expected(found).loc["influence", "reading"]
    curve = found.integrand[found.integrand["estimator"] == "influence"]
    assert curve["cumulative"].iloc[-1] == pytest.approx(expected(found).loc["influence", "nats"])
    assert curve["cumulative"].iloc[6] < np.log(3)  # up to log-SNR 0 nothing is wrong yet


def test_stated_tail_is_what_more_levels_find(known):
    part = slice(0, 150)
    images, labels = known.images[part], known.labels[part]
    narrow = pairwise_information(known.law, images, labels, levels=grid_levels(-4, 7, 23), draws=2)
    below = pairwise_information(known.law, images, labels, levels=grid_levels(-12, -4, 17), draws=2)
    tail = narrow.tails.set_index(["estimator", "end"]).loc[("influence", "low")]
    missing = expected(below).loc["influence", "nats"]
    # at log-SNR -4 the slope has nearly reached 1
    assert tail["nats"] == pytest.approx(missing, rel=0.2) and 0 < tail["slope"] < 1


def test_several_conditions_share_the_baseline(known):
    part = slice(0, 20)
    images, labels = known.images[part], known.labels[part]
    bank = Bank(images, log_snr_grid(-4, 4, 9))
    both = information_of_each(known.law, bank, {"true": labels, "next": (labels + 1) % 3})
    for name, condition in {"true": labels, "next": (labels + 1) % 3}.items():
        alone = pairwise_information(known.law, bank, condition)
        np.testing.assert_allclose(both[name].pointwise, alone.pointwise)
    means = {name: expected(part).loc["log_ratio", "nats"] for name, part in both.items()}
    assert means["true"] > 0 > means["next"]  # a log-ratio may be negative


def test_guidance_is_said_to_void_the_meaning(known):
    with pytest.warns(UserWarning, match="guided at weight 3"):
        found = pairwise_information(
            known.law, known.images[:4], known.labels[:4], levels=grid_levels(-2, 2, 4), guidance=3.0
        )
    assert "not information" in found.reading and "not information" in found.expected["reading"].iloc[0]


def test_one_image_has_values_but_no_interval(known):
    found = pairwise_information(known.law, known.images[:1], known.labels[:1], levels=grid_levels(-2, 2, 4))
    assert found.expected["nats"].notna().all() and found.expected[["low", "high", "deviation"]].isna().all(axis=None)


def test_bad_input(known):
    images, labels = known.images[:4], known.labels[:4]
    with pytest.raises(InputError, match="None"):
        pairwise_information(known.law, images, None)
    with pytest.raises(InputError, match="both"):
        pairwise_information(known.law, images, labels, baseline=labels, given=labels)
    with pytest.raises(InputError, match="3 rows for 4 images"):
        pairwise_information(known.law, images, labels[:3])
    with pytest.raises(InputError, match="at least two noise levels"):
        pairwise_information(known.law, Bank(images, [1.0]), labels)
    with pytest.raises(InputError, match="levels"):
        pairwise_information(known.law, Bank(images, [2.0, 1.0]), labels, levels=grid_levels(0, 1, 2))
    with pytest.raises(InputError, match="not finite"):
        pairwise_information(lambda x, sigma, c: x * torch.nan, images, labels)
