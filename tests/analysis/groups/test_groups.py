"""Groups against what is known: a two-point law whose flow under guidance is solved, and closed forms of its shares."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
import scipy
import torch

from scorescope.analysis.directions.balance import balance_table
from scorescope.analysis.groups import (
    JudgedGroups,
    amplification,
    fit_calibration,
    group_distances,
    group_shares,
    judge_control,
    judge_groups,
    shares_along,
)
from scorescope.analysis.trajectories import recorded_path
from scorescope.data.errors import InputError
from scorescope.probes.guidance import CFG
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.recording import Recording
from scorescope.probes.sampling import Euler, RuleField, run_path, sample

GROUPS = ("below", "above")
SHARES = (0.3, 0.7)  # of "above" in classes 0 and 1; one half without a class
N, SIGMAS = 1000, edm_sigmas(60, sigma_max=80.0)


class TwoPoints:
    """Data at -1 and 1; the share of 1 depends on the class: D(x) = tanh(x / sigma^2 + h), h half the log odds."""

    shape = (1,)

    def __call__(self, x, sigma, condition=None):
        sigma = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1)
        odds = torch.tensor([np.log(share / (1 - share)) / 2 for share in SHARES], dtype=x.dtype)
        bias = 0.0 if condition is None else odds[condition][:, None]
        return torch.tanh(x / sigma**2 + bias)


def sign(x):
    """A judge without probabilities."""
    return (x[:, 0] > 0).long()


def log_probabilities(x):
    return torch.nn.functional.logsigmoid(torch.cat([-x, x], 1) * 6)


def starts(n=N):
    """Quantiles of the starting noise: shares of their paths are the true ones, to 1 / n."""
    z = scipy.special.ndtri((np.arange(n) + 0.5) / n)
    return torch.from_numpy(80.0 * z)[:, None]


def guided(x, sigma, weight, share):
    h = np.log(share / (1 - share)) / 2
    uncond, cond = np.tanh(x / sigma**2), np.tanh(x / sigma**2 + h)
    return uncond + weight * (cond - uncond)


def exact_share(sigma, weight, share):
    """Of paths whose guided D is above 0 at a level: as states keep their order, one edge is followed."""

    def slope(log_sigma, x):
        return x - guided(x, np.exp(log_sigma), weight, share)

    edge = scipy.optimize.brentq(lambda x: guided(x, sigma, weight, share), -50 * (1 + sigma**2), 50 * (1 + sigma**2))
    start = scipy.integrate.solve_ivp(slope, np.log([sigma, 80.0]), [edge], rtol=1e-8, atol=1e-10).y[0, -1]
    return float(scipy.special.ndtr(-start / 80.0))


def data_share(sigma, share):
    """Of images whose D at a level is above 0, x > -h sigma^2, in closed form."""
    h = np.log(share / (1 - share)) / 2
    above, below = scipy.special.ndtr([(1 + h * sigma**2) / sigma, (-1 + h * sigma**2) / sigma])
    return share * above + (1 - share) * below


def hard(table, group="above"):
    return table[(table["counting"] == "hard") & (table["group"] == group)]


@cache
def path_of(weight, label=1, n=N):
    condition = torch.full((n,), label)
    return run_path(RuleField(TwoPoints(), CFG(weight)), starts(n), SIGMAS, condition=condition)


@pytest.fixture(scope="module")
def control():
    labels = (torch.arange(600) < 600 * SHARES[1]).long()
    images = (2.0 * labels - 1)[:, None].double()
    condition = torch.ones(600, dtype=torch.int64)
    return judge_control(TwoPoints(), images, SIGMAS[:-1], sign, GROUPS, labels=labels, condition=condition)


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_shares_along_are_those_of_the_flow(weight):
    """Tolerance: 1 / n of counting, and the solver's error of the edge."""
    table = hard(shares_along(path_of(weight), sign, GROUPS).shares)
    for place in (5, 20, 30, 40):
        row = table.iloc[place]
        assert row["share"] == pytest.approx(exact_share(row["sigma"], weight, SHARES[1]), abs=0.004)
        if weight == 1:
            assert row["share"] == pytest.approx(data_share(row["sigma"], SHARES[1]), abs=0.004)
    end = table.iloc[-1]
    assert end["sigma"] == 0 and end["share"] == pytest.approx(exact_share(0.01, weight, SHARES[1]), abs=0.004)
    # at weight 1 the flow gives the law itself; guidance amplifies the larger group
    assert end["share"] == pytest.approx(SHARES[1], abs=0.006) if weight == 1 else end["share"] > 0.85


def test_samples_are_decided_as_their_order_says():
    """States keep their order: a sample is of another group only between the edge of its level and that of the end."""
    along = shares_along(path_of(3.0), sign, GROUPS)
    shares = hard(along.shares)["share"].to_numpy()
    decided = along.readings.query("quantity == 'decided'")
    assert decided["value"].to_numpy() == pytest.approx(1 - np.abs(shares[:-1] - shares[-1]), abs=1e-12)
    row = along.landmarks.set_index("landmark").loc["decided_at"]
    values = decided.set_index("log_snr")["value"]
    assert (values[values.index >= row["log_snr"]] >= 0.95).all() and row["low"] <= row["log_snr"] <= row["high"]
    assert "trusted_from" not in set(along.landmarks["landmark"]) and set(along.distances["against"]) == {"target"}


def test_the_control_reads_what_noise_leaves(control):
    """Of D of noised data: shares and the judge's rate in closed form; 600 images, 4 standard errors."""
    along = shares_along(path_of(1.0), sign, GROUPS, control=control)
    data, judge = hard(along.shares).query("source == 'data'"), along.readings.query("quantity == 'judge'")
    h = np.log(SHARES[1] / (1 - SHARES[1])) / 2
    for place in (0, 24, 36, 48):
        sigma = SIGMAS[place]
        right = scipy.special.ndtr([(1 + h * sigma**2) / sigma, (1 - h * sigma**2) / sigma])
        assert data.iloc[place]["share"] == pytest.approx(data_share(sigma, SHARES[1]), abs=4 * 0.5 / np.sqrt(600))
        assert judge.iloc[place]["value"] == pytest.approx(right.mean(), abs=4 * 0.5 / np.sqrt(180))
    assert judge["value"].iloc[0] == pytest.approx(0.5, abs=0.05) and judge["chance"].eq(0.5).all()
    found = along.landmarks.set_index("landmark")
    exact = scipy.optimize.brentq(
        lambda s: scipy.special.ndtr([(1 + h * s**2) / s, (1 - h * s**2) / s]).mean() - 0.9, 0.1, 5
    )
    row = found.loc["trusted_from"]
    # three standard errors; its interval holds the place for 37 of 40 seeds of the noise
    assert row["log_snr"] == pytest.approx(-2 * np.log(exact), abs=0.25) and row["high"] - row["low"] < 0.5
    # unguided samples are those of the data: their shares never depart for good
    assert found.loc["departs_from_data", "log_snr"] == np.inf and found.loc["departs_from_data", "reached"] < 0.05
    # from even shares they depart, but no earlier than can be seen
    assert found.loc["departs_from_target", "log_snr"] >= row["log_snr"]


def test_guided_shares_depart_where_the_flow_says(control):
    along = shares_along(path_of(3.0), sign, GROUPS, control=control)
    exact = scipy.optimize.brentq(
        lambda s: exact_share(s, 3.0, SHARES[1]) - data_share(s, SHARES[1]) - 0.1, 1, 10, xtol=1e-3
    )
    row = along.landmarks.set_index("landmark").loc["departs_from_data"]
    assert row["low"] <= -2 * np.log(exact) <= row["high"] and row["reached"] == 1 and row["curve"] == "total_variation"
    apart = along.distances.query("against == 'data' and distance == 'total_variation' and sigma == 0").iloc[0]
    assert apart["low"] <= exact_share(0.01, 3.0, SHARES[1]) - SHARES[1] <= apart["high"]
    assert apart["n"] == N and apart["target_n"] == 600 and apart["value"] > 3 * apart["floor"]


def test_a_recorded_run_gives_the_same_shares():
    condition, levels = torch.ones(40, dtype=torch.int64), SIGMAS[::4]
    start, how = starts(40), {"solver": Euler(), "sigmas": levels, "dtype": torch.float64}
    run = sample(TwoPoints(), seeds=range(40), condition=condition, rule=CFG(3.0), start=start,
                 record=Recording(keep=True), progress=False, **how)  # fmt: skip
    path = run_path(RuleField(TwoPoints(), CFG(3.0)), start, levels, condition=condition, solver=Euler())
    tables = [shares_along(one, log_probabilities, GROUPS).shares for one in (recorded_path(run.trace), path)]
    pd.testing.assert_frame_equal(*tables, atol=1e-6)  # kept in float32
    assert set(tables[0]["counting"]) == {"hard", "soft"}


def test_amplification_of_guidance_is_that_of_the_flow():
    samples = {}
    for weight in (1.0, 3.0):
        ends = torch.cat([path_of(weight, label, 500).end for label in (0, 1)])
        samples[f"w = {weight:g}"] = judge_groups(sign, ends, GROUPS)
    m = 1000
    labels = np.repeat([0, 1], m)
    truth = np.concatenate([np.arange(m) < m * share for share in SHARES]).astype(np.int64)
    table = amplification(
        samples, JudgedGroups(GROUPS, truth), classes=torch.arange(2).repeat_interleave(500), data_classes=labels
    )
    rows = table[table["group"] == "above"].set_index(["setting", "class"])
    for label, share in enumerate(SHARES):
        bare, strong = rows.loc[("w = 1", str(label))], rows.loc[("w = 3", str(label))]
        exact = exact_share(0.01, 3.0, share)
        assert bare["share"] == pytest.approx(share, abs=0.008) and bare["data_share"] == share
        assert bare["difference_low"] < 0 < bare["difference_high"] and np.isnan(bare["change"])
        assert strong["difference"] == pytest.approx(exact - share, abs=0.006)
        ratio = np.log(exact / (1 - exact)) - np.log(share / (1 - share))
        assert strong["log_odds_ratio_low"] < ratio < strong["log_odds_ratio_high"]
        assert strong["log_odds_ratio"] == pytest.approx(ratio, rel=0.03)
        assert strong["change"] == pytest.approx(strong["share"] - bare["share"])
        assert strong["change_low"] < exact - share < strong["change_high"]
    # classes go to opposite sides: over both together nothing is seen
    both = amplification(samples, JudgedGroups(GROUPS, truth)).query("setting == 'w = 3' and group == 'above'")
    assert abs(both["difference"].iloc[0]) < 0.01 and both["class"].iloc[0] == "all"


def test_a_group_that_never_comes_has_one_known_end():
    samples = {"a": JudgedGroups(GROUPS, np.zeros(20, np.int64))}
    row = amplification(samples, JudgedGroups(GROUPS, np.arange(40) % 2)).set_index("group").loc["above"]
    assert row[["log_odds_ratio", "log_odds_ratio_low"]].isna().all() and row["log_odds_ratio_high"] < -1
    assert row["missing"] == "no sample is of the group"
    nothing = amplification(samples, JudgedGroups(GROUPS, np.zeros(9, np.int64))).set_index("group").loc["above"]
    names = ["log_odds_ratio", "log_odds_ratio_low", "log_odds_ratio_high"]
    assert nothing[names].isna().all() and nothing["missing"] == "no sample is of the group; no image is of the group"
    known = amplification({"a": JudgedGroups(GROUPS, np.arange(20) % 2)}, JudgedGroups(GROUPS, np.arange(40) % 2))
    assert known[names].notna().to_numpy().all() and known["missing"].eq("").all()


@pytest.mark.parametrize(
    ("classes", "data_classes", "shares"),
    [
        ([0, 0, 1, 1], np.array([0.0, 0.0, 1.0, 1.0]), [0.0, 1.0]),
        (torch.tensor([0, 0, 1, 1], dtype=torch.bfloat16), [0, 0, 1, 1], [0.0, 1.0]),
        (["b", "b", "a", "a"], np.array(["a", "a", "b", "b"], object), [1.0, 0.0]),
        (list(torch.tensor([0, 0, 1, 1])), [np.int64(0), np.uint8(0), 1, True], [0.0, 1.0]),
    ],
)
def test_classes_are_one_where_their_values_are(classes, data_classes, shares):
    judged = JudgedGroups(GROUPS, np.array([0, 0, 1, 1]))
    table = amplification({"a": judged}, judged, classes=classes, data_classes=data_classes).query("group == 'above'")
    assert table["data_share"].tolist() == shares and table["share"].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("classes", "data_classes"),
    [
        ([0, 0, 1, 1], ["0", "0", "1", "1"]),
        ([0.5, 0.5, 1, 1], [0, 0, 1, 1]),
        ([0, "0", 1, 1], [0, "0", 1, 1]),
        ([0, 0, 1, np.nan], [0, 0, 1, np.nan]),
        ([0, 0, 1, None], [0, 0, 1, None]),
        ([[0], [0], [1], [1]], [0, 0, 1, 1]),
        (np.array(0), [0, 0, 1, 1]),
    ],
)
def test_classes_of_other_values_are_not_one(classes, data_classes):
    judged = JudgedGroups(GROUPS, np.array([0, 0, 1, 1]))
    with pytest.raises(InputError, match="classes"):
        amplification({"a": judged}, judged, classes=classes, data_classes=data_classes)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.55])
def test_two_groups_have_closed_forms(share):
    n = 40
    judged = JudgedGroups(GROUPS, (np.arange(n) < n * share).astype(np.int64))
    table = group_distances(judged).set_index("distance")
    ends = scipy.stats.binomtest(round(n * share), n).proportion_ci(0.95, method="exact")
    shares = group_shares(judged).set_index("group").loc["above"]
    assert (shares["low"], shares["high"]) == pytest.approx((ends.low, ends.high))
    gaps = sorted(abs(end - 0.5) for end in ends)
    low = 0.0 if ends.low <= 0.5 <= ends.high else gaps[0]
    for name, scale in (("total_variation", 1.0), ("fairness_discrepancy", np.sqrt(2))):
        row = table.loc[name]
        assert row[["value", "low", "high"]].tolist() == pytest.approx(
            [scale * abs(share - 0.5), scale * low, scale * gaps[1]], abs=1e-12
        )
        # mean absolute deviation of a binomial (de Moivre), and 2000 draws of it: 4 standard errors of 2 %
        assert row["floor"] == pytest.approx(scale * deviation(n, 0.5), rel=0.08)
    samples = pd.DataFrame({
        "attribute": "a", "method": "b", "site": "c", "sigma_low": 0.0, "sigma_high": 1.0, "log_snr": 0.0,
        "arm": "none", "strength": 0.0, "seed": range(n), "score": "s", "value": 2.0 * judged.chosen - 1,
        "distance": 0.0,
    })  # fmt: skip
    balance = balance_table(samples, score="s", values=GROUPS)
    assert table.loc["fairness_discrepancy", "value"] == pytest.approx(balance["imbalance"].iloc[0], abs=1e-12)


def deviation(n, share):
    m = int(np.floor(n * share)) + 1
    return 2 * m / n * scipy.special.comb(n, m) * share**m * (1 - share) ** (n - m + 1)


def test_the_floor_of_many_groups_is_their_mean_deviation():
    """Total variation of counts from their own law: half the sum of mean absolute deviations of binomials."""
    n, target = 60, {"a": 0.5, "b": 0.3, "c": 0.15, "d": 0.05}
    judged = JudgedGroups(tuple(target), np.repeat([0, 1, 2, 3], [30, 18, 9, 3]))
    row = group_distances(judged, target).set_index("distance").loc["total_variation"]
    assert row["value"] == pytest.approx(0, abs=1e-12) and row["low"] == 0
    assert row["floor"] == pytest.approx(sum(deviation(n, share) for share in target.values()) / 2, rel=0.05)
    alone = group_distances(JudgedGroups(tuple(target), np.full(n, 3)), target).set_index("distance")
    assert alone.loc["total_variation", ["value", "high"]].tolist() == pytest.approx([0.95, 0.95])


@pytest.fixture(scope="module")
def blurred():
    """Groups with overlapping readings, 3 of 10 above: x = +-1 + noise, whose log-odds are 2 x + log(3 / 7)."""
    rng = np.random.default_rng(0)
    truth = (rng.random((2, 3000)) < 0.3).astype(np.int64)
    x = 2 * truth - 1 + rng.normal(size=truth.shape)
    return torch.from_numpy(truth), torch.from_numpy(2 * x + np.log(0.3 / 0.7))[..., None]


def soft(judged):
    return group_shares(judged).query("counting != 'hard' and group == 'above'").iloc[0]


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_a_miscalibrated_judge_moves_soft_shares_until_it_is_calibrated(blurred, method):
    truth, log_odds = blurred

    def unsure(x):
        """The right log-odds, divided by 4: surer of nothing, and right as often."""
        return torch.cat([torch.zeros_like(x), x / 4], 1)

    def sound(x):
        return torch.cat([torch.zeros_like(x), x], 1)

    right = soft(judge_groups(sound, log_odds[1], GROUPS))
    assert right["low"] < 0.3 < right["high"]
    judged = judge_groups(unsure, log_odds[1], GROUPS)
    wrong = soft(judged)
    assert wrong["low"] > 0.35 and wrong["counting"] == "soft"
    calibration = fit_calibration(judge_groups(unsure, log_odds[0], GROUPS), truth[0], method=method)
    if method == "temperature":
        assert calibration.temperature == pytest.approx(0.25, rel=0.1)
    calibrated = judge_groups(unsure, log_odds[1], GROUPS, calibration=calibration)
    row = soft(calibrated)
    assert row["counting"] == "soft, calibrated" and row["low"] < 0.31 and row["high"] > 0.29
    assert calibrated.probabilities.sum(1) == pytest.approx(1)
    assert (calibrated.chosen == judged.chosen).all()
    distances = group_distances(calibrated, {"below": 0.7, "above": 0.3})
    part = distances.query("counting != 'hard' and distance == 'total_variation'").iloc[0]
    assert part["low"] == 0 and part["value"] < 5 * part["floor"]


def test_calibration_on_other_shares_is_no_calibration(blurred):
    """Fitted where groups are even, probabilities are too high where three in ten are above."""
    truth, log_odds = blurred
    even = np.concatenate([np.flatnonzero(truth[0] == one)[:800] for one in (0, 1)])

    def judge(x):
        return torch.cat([torch.zeros_like(x), x], 1)

    calibration = fit_calibration(judge_groups(judge, log_odds[0][even], GROUPS), truth[0][even], method="isotonic")
    assert soft(judge_groups(judge, log_odds[1], GROUPS, calibration=calibration))["low"] > 0.33


JUDGED = JudgedGroups(GROUPS, np.array([0, 1, 1]), np.full((3, 2), 0.5))


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: judge_groups(sign, torch.ones(3, 1), ("one",)), "groups"),
        (lambda: judge_groups(lambda x: x[:, 0].long() + 5, torch.ones(3, 1), GROUPS), "judge"),
        (lambda: judge_groups(lambda x: x, torch.ones(3, 1), GROUPS), "judge"),
        (lambda: judge_groups(lambda x: x.repeat(1, 2) * np.nan, torch.ones(3, 1), GROUPS), "judge"),
        (lambda: fit_calibration(JudgedGroups(GROUPS, np.array([0, 1])), torch.tensor([0, 1])), "judged"),
        (lambda: fit_calibration(JUDGED, torch.tensor([0, 0, 0])), "labels"),
        (lambda: group_distances(JUDGED, {"below": 0.5, "above": 0.6}), "target"),
        (lambda: group_distances(JUDGED, {"below": 1.0}), "target"),
        (lambda: group_distances(JUDGED, JudgedGroups(("a", "b"), np.array([0]))), "target"),
        (lambda: amplification({"a": JUDGED, "b": JUDGED.where(np.array([0]))}, JUDGED), "samples"),
        (lambda: amplification({}, JUDGED), "samples"),
        (lambda: amplification({"a": JUDGED}, JUDGED, classes=[0, 1, 2], data_classes=[0, 1, 1]), "classes"),
        (lambda: amplification({"a": JUDGED}, JUDGED, classes=[0, 1, 1]), "classes"),
        (lambda: judge_control(TwoPoints(), torch.ones(9, 1), [1.0], sign, GROUPS), "labels"),
        (lambda: shares_along(path_of(1.0, n=9), sign, GROUPS, margin=0.0), "thresholds"),
    ],
)
def test_what_does_not_fit_is_refused(call, argument):
    with pytest.raises(InputError, match=argument):
        call()


def test_a_control_at_other_levels_is_refused(control):
    path = run_path(TwoPoints(), starts(9), SIGMAS[::2])
    with pytest.raises(InputError, match="control"):
        shares_along(path, sign, GROUPS, control=control)


def test_of_few_images_probabilities_have_no_interval():
    table = group_distances(JUDGED).query("counting == 'soft'")
    assert table[["low", "high", "floor"]].isna().to_numpy().all() and table["value"].notna().all()


def logits(images):
    return torch.stack([images[:, 0], 2 - images[:, 0]], dim=1)


def test_logits_of_any_type_are_read():
    """In bfloat16, which numpy does not have, as the numbers that they are; the group impossible, -inf, too."""
    images = torch.tensor([[0.25], [3.0]])
    found = judge_groups(lambda x: logits(x).bfloat16(), images, GROUPS)
    assert found.probabilities == pytest.approx(judge_groups(logits, images, GROUPS).probabilities)
    sure = judge_groups(lambda x: torch.tensor([[0.0, -torch.inf]]).expand(len(x), 2), images, GROUPS)
    assert sure.probabilities.tolist() == [[1, 0], [1, 0]]


def fitted(groups):
    """A calibration of other groups."""
    probabilities = np.random.default_rng(0).dirichlet(np.ones(len(groups)), 20)
    judged = JudgedGroups(groups, probabilities.argmax(1), probabilities)
    return fit_calibration(judged, torch.arange(20) % len(groups), method="isotonic")


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: judge_groups(logits, torch.full((3, 1), torch.nan), ("a", "b")), "images"),
        (lambda: judge_groups(lambda x: torch.full((len(x), 2), torch.inf), torch.zeros(3, 1), ("a", "b")), "judge"),
        (lambda: judge_groups(lambda x: torch.full((len(x), 2), -torch.inf), torch.zeros(3, 1), ("a", "b")), "judge"),
        (lambda: judge_groups(logits, torch.zeros(3, 1), ("a", "b"), batch=0), "batch"),
        (lambda: judge_groups(lambda x: logits(x).softmax(1), torch.rand(3, 1), GROUPS), "judge"),
        (lambda: judge_groups(lambda x: logits(x).softmax(1).bfloat16(), torch.rand(300, 1), GROUPS), "judge"),
        (lambda: judge_groups(lambda x: torch.eye(2)[[0, 1, 1]], torch.rand(3, 1), GROUPS), "judge"),
        (lambda: judge_groups(lambda x: {"a": logits(x)}, torch.rand(3, 1), GROUPS), "judge"),
        (lambda: judge_groups(lambda x: None, torch.rand(3, 1), GROUPS), "judge"),
        (lambda: judge_groups(lambda x: logits(x).sum(), torch.rand(3, 1), GROUPS), "judge"),
        (lambda: judge_groups(logits, torch.rand(20, 1), GROUPS, calibration=fitted(GROUPS[::-1])), "calibration"),
        (lambda: judge_groups(logits, torch.rand(20, 1), GROUPS, calibration=fitted(("a", "b", "c"))), "calibration"),
        (lambda: fitted(("a", "b", "c"))(np.full((4, 2), 0.5)), "probabilities"),
        (lambda: JudgedGroups(GROUPS, np.array([0]), np.log([[0.25, 0.75]])), "probabilities"),
        (lambda: shares_along(path_of(1.0, n=9), sign, GROUPS, resamples=0), "resamples"),
        (lambda: JudgedGroups(("a", "b"), np.array([0, 1, 5])), "chosen"),
        (lambda: JudgedGroups(("a", "b"), np.array([0, 1]), np.full((20, 2), 0.5)), "probabilities"),
        (lambda: group_distances(JudgedGroups(("a", "b"), np.zeros(0, dtype=np.int64))), "judged, target"),
    ],
)
def test_what_would_be_counted_wrongly_is_refused(call, argument):
    with pytest.raises(InputError, match=f"^{argument}: "):
        call()


@pytest.mark.parametrize("labels", [[0, 1] * 9 + [-1, -1], [0, 1] * 9 + [99, 2], [0.7, 1.7] * 10])
def test_labels_that_are_no_group_are_refused(labels):
    with pytest.raises(InputError, match="labels"):
        judge_control(lambda x, sigma, condition: x, torch.rand(20, 1), [1.0], logits, ("a", "b"),
                      labels=torch.tensor(labels))  # fmt: skip


def test_the_floor_of_probabilities_is_that_of_their_mean():
    """Beta(2, 2), mean 1/2: mean absolute deviation of a mean of 12; the draws were as wide as Student's t, +10 %."""
    rng = np.random.default_rng(0)
    truth = np.abs(rng.beta(2, 2, size=(20000, 12)).mean(1) - 0.5).mean()
    floors = []
    for draw in rng.beta(2, 2, size=(150, 12)):
        judged = JudgedGroups(("a", "b"), (draw < 0.5).astype(np.int64), np.stack([draw, 1 - draw], axis=1))
        table = group_distances(judged).set_index(["counting", "distance"])
        floors.append(table.loc[("soft", "total_variation"), "floor"])
    assert np.mean(floors) == pytest.approx(truth, rel=0.06)  # its own standard error is 2 %


def test_a_temperature_is_used_on_what_it_was_fitted_on():
    """Of a judge that says 0 to what is there, the calibrated probabilities have the likelihood that was found."""
    sure = np.tile([[1.0, 0.0], [0.0, 1.0]], (10, 1))
    truth = np.tile([0, 1], 10)
    truth[0] = 1  # one in twenty is wrong, by a probability of 0
    judged = JudgedGroups(GROUPS, sure.argmax(1), sure)
    calibrated = fit_calibration(judged, torch.from_numpy(truth))(sure)
    assert calibrated[0, 1] == pytest.approx(1 / 20, rel=1e-3) and calibrated[1, 0] == pytest.approx(1 / 20, rel=1e-3)


def test_judges_that_answer_otherwise_in_the_next_batch_are_refused():
    def judge(images):
        return torch.zeros(len(images), len(images))

    with pytest.raises(InputError, match="one kind and width"):
        judge_groups(judge, torch.rand(5, 1), GROUPS, batch=2)


@pytest.mark.parametrize("kind", [torch.bool, torch.float32])
def test_labels_are_whole_numbers(kind):
    with pytest.raises(InputError, match="labels: found"):
        fit_calibration(JUDGED, torch.tensor([0, 1, 1]).to(kind))


@pytest.mark.parametrize("rows", [np.ones(2, bool), np.array([3]), np.array([0.0]), np.zeros((1, 1), int)])
def test_rows_that_are_not_there_are_refused(rows):
    with pytest.raises(InputError, match="rows: found"):
        JUDGED.where(rows)
