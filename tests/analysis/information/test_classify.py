import numpy as np
import pytest
import torch
from tests.mixtures import draw_labelled

from scorescope.analysis import paired_classify
from scorescope.analysis.information import fit_level_weights, likelihood_weights, win_rates
from scorescope.analysis.information.class_decisions import eliminate, plan_looks
from scorescope.data import InputError
from scorescope.probes import Bank, log_snr_grid
from scorescope.probes.bank import Arm, compare_arms
from scorescope.probes.bank.candidate_losses import CandidateLosses

CLASSES = 4


@pytest.fixture(scope="module")
def known():
    return draw_labelled(120, classes=CLASSES, spread=0.5)


@pytest.fixture(scope="module")
def bank(known):
    return Bank(known.images, log_snr_grid(-5, 6, 16), draws=4)


CANDIDATES = {f"class {k}": torch.tensor([k]) for k in range(CLASSES)}


def classify(known, bank, **options):
    return paired_classify(known.law, bank, CANDIDATES, known.labels, **options)


@pytest.fixture(scope="module")
def full(known, bank):
    return classify(known, bank, error=None)


def names_of(positions):
    return [f"class {int(k)}" for k in positions]


def test_agrees_with_the_bayes_classifier(known, full):
    logs = known.by_class()
    bayes = logs.argmax(1)
    top = logs.topk(2, dim=1).values
    clear = (top[:, 0] - top[:, 1] > 3).numpy()  # nats; the losses of 64 points have a standard error of about 1
    agree = np.array(full.predictions["predicted"]) == np.array(names_of(bayes))
    assert clear.sum() > 30 and agree[clear].mean() > 0.97 and agree.mean() > 0.75
    best = float((bayes == known.labels).double().mean())
    row = full.summary.iloc[0]
    assert 1 / CLASSES + 0.2 < row["accuracy"] <= row["high"] and row["low"] <= best
    assert row["n"] == 120 and row["evaluations"] == row["full"] == 120 * CLASSES * 64 and row["share"] == 1


def test_elimination_keeps_the_winner_of_the_full_bank(known, bank, full):
    found = classify(known, bank, error=0.05)
    lost = (found.predictions["predicted"] != full.predictions["predicted"]).mean()
    assert lost <= 0.05
    assert found.summary["share"].item() < 0.8 and found.summary["error"].item() == 0.05
    assert (found.predictions["evaluations"] <= CLASSES * 64).all() and (found.predictions["left"] == 1).all()
    strict = classify(known, bank, error=1e-6)
    assert strict.summary["evaluations"].item() > found.summary["evaluations"].item()


def test_error_level_holds_where_classes_are_alike():
    # losses of pure noise: the winner of the whole population is lost in at most the stated share of images
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 2000, 64))
    winner = values.mean(2).argmin(0)
    alive, seen = np.ones((5, 2000), bool), []
    plan = plan_looks(16, 4, 8, seed=0)
    for points in plan:
        seen.extend(points.tolist())
        part = np.where(alive[:, :, None], values[:, :, seen], np.nan)
        alive = eliminate(part, alive, total=64, error=0.2, looks=len(plan))
    lost = 1 - alive[winner, np.arange(2000)].mean()
    assert lost <= 0.2 and (alive.sum(0) == 1).all()


def test_looks_partition_the_points_and_spread_over_levels():
    plan = plan_looks(16, 4, 8, seed=1)
    assert sorted(np.concatenate(plan)) == list(range(64)) and {len(part) for part in plan} == {8}
    for part in plan:
        levels = np.sort(part // 4)
        assert (np.diff(levels) <= 3).all()
    assert len(plan_looks(3, 2, 8, seed=0)) == 1  # six points: no two looks of four


def test_candidate_losses_equal_the_comparison(known, bank):
    losses = CandidateLosses(known.law, bank, list(CANDIDATES.values()), batch=7)
    rows, classes = np.array([5, 2, 5, 9]), np.array([0, 3, 1, 2])
    points = np.arange(64)
    found = losses.at(classes, rows, points).reshape(4, 16, 4).mean(2)
    arms = [Arm(name, known.law, condition) for name, condition in CANDIDATES.items()]
    whole = compare_arms(bank, arms, pairs=[])
    expected = [whole.loss(f"class {c}")[r] for c, r in zip(classes, rows, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_win_rates_count_paired_wins(known, full):
    rates = full.win_rates
    assert set(rates["split"]) == {"test"} and set(rates["foil"]) == {"every other", *CANDIDATES}
    assert (rates["low"] <= rates["rate"]).all() and (rates["rate"] <= rates["high"]).all()
    assert rates.set_index("foil").loc["class 1", "n"].iloc[0] == 90
    # at high noise a denoiser says the mean of its class: the nearest mean wins, whatever the widths
    means = torch.stack([part.mean for part in known.law.components])
    distance = torch.cdist(known.images, means)
    own = distance.gather(1, known.labels[:, None])
    others = known.labels != 1
    first = rates[(rates["foil"] == "class 1") & (rates["sigma"] == rates["sigma"].max())]["rate"].item()
    assert first == pytest.approx(float((own[others, 0] < distance[others, 1]).double().mean()), abs=0.05)


def test_win_rates_by_hand():
    def denoiser(x, sigma, condition):
        return condition[:, None].expand_as(x)

    # x0 = 0, 1, 2: the candidate nearest to it wins at every level
    bank = Bank(torch.tensor([[0.0], [1.0], [2.0]]), [2.0, 1.0])
    arms = [Arm(str(v), denoiser, torch.tensor([v])) for v in (0.0, 1.0, 3.0)]
    table = win_rates(compare_arms(bank, arms, pairs=[]), [0, 1, 2])
    first = table[table["sigma"] == 1.0].set_index("foil")
    # image 2, of class 3.0, is one away from its own and one from 1.0: a tie
    assert first.loc["every other", "rate"] == pytest.approx(2 / 3)
    assert first.loc["1.0", "rate"] == pytest.approx(0.75) and first.loc["1.0", "n"] == 2


def test_fitted_weights_find_the_level_that_tells():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    losses = rng.normal(size=(3, 400, 5)) * np.array([1, 1, 1, 1, 30])  # the last level is loud and says nothing
    losses[labels, np.arange(400), 2] -= 2.0
    sigmas = np.array(log_snr_grid(-2, 2, 5))
    weights = fit_level_weights(losses, labels, sigmas)
    assert (weights >= 0).all() and weights.argmax() == 2 and weights[4] < 0.05 * weights[2]

    def accuracy(chosen):
        return ((losses @ chosen).argmin(0) == labels).mean()

    assert accuracy(weights) > accuracy(likelihood_weights(sigmas)) + 0.2


def test_fit_is_a_minimum():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 60)
    losses = rng.normal(size=(3, 60, 4))
    losses[labels, np.arange(60)] -= 0.5
    sigmas, ridge = np.array(log_snr_grid(-2, 2, 4)), 0.01
    base = likelihood_weights(sigmas)

    def objective(weights):
        logits = -(losses @ weights)
        ratio = weights / base
        entropy = np.log(np.exp(logits).sum(0)) - logits[labels, np.arange(60)]
        return entropy.mean() + ridge * ((ratio - ratio.mean()) ** 2).mean()

    best = fit_level_weights(losses, labels, sigmas, ridge=ridge)
    for change in rng.normal(size=(50, 4)) * 0.05:
        assert objective(np.maximum(best + change, 0)) >= objective(best) - 1e-7


def test_fitted_on_a_held_out_split(known, bank):
    fit = torch.arange(60)
    found = classify(known, bank, weights="fitted", fit_rows=fit, error=0.01)
    assert found.summary["n"].item() == 60 and found.predictions["image"].min() == 60
    assert "fitted on 60 images" in found.weights["rule"].iloc[0] and set(found.win_rates["split"]) == {"fit"}
    assert classify(known, bank, test_rows=torch.arange(60, 120), error=0.01).win_rates.empty


def test_a_fit_leaves_out_the_levels_at_which_a_network_contradicts_its_condition(known, bank):
    """At low noise this denoiser takes each class for the next: there the true class loses."""

    def turned(x, sigma, condition):
        return known.law(x, sigma, torch.where(sigma < 0.5, (condition + 1) % CLASSES, condition))

    rows, fit = torch.arange(60, 120), torch.arange(60)
    options = {"labels": known.labels, "error": None, "test_rows": rows}
    plain = paired_classify(turned, bank, CANDIDATES, **options)
    found = paired_classify(turned, bank, CANDIDATES, **options, weights="fitted", fit_rows=fit)
    low = found.weights["sigma"] < 0.5
    assert found.weights["weight"][low].sum() < 0.05 * found.weights["weight"].sum()
    upper = np.where(low, 0, likelihood_weights(np.array(bank.sigmas)))
    best = paired_classify(known.law, bank, CANDIDATES, **options, weights=upper)  # what those levels do not touch
    accuracy = [part.summary["accuracy"].item() for part in (plain, found, best)]
    assert accuracy[1] > accuracy[0] + 0.25 and accuracy[1] > accuracy[2] - 0.06, accuracy


def test_weights_of_zero_are_refused():
    """Where the true class always loses, no weight is the best weight, and every image would be of the first class."""
    rng = np.random.default_rng(0)
    labels, losses = rng.integers(0, 3, 60), rng.random((3, 60, 4))
    losses[labels, np.arange(60)] += 1
    with pytest.raises(InputError, match="weights of 0 at every level"):
        fit_level_weights(losses, labels, np.array(log_snr_grid(-2, 2, 4)))


def test_weights_given_or_uniform(known, bank):
    rows = torch.arange(20)
    one = np.zeros(16)
    one[8] = 1
    given = classify(known, bank, weights=one, test_rows=rows, error=None)
    arms = [Arm(name, known.law, condition) for name, condition in CANDIDATES.items()]
    losses = np.stack([compare_arms(bank, arms, pairs=[], rows=rows).loss(name)[:, 8] for name in CANDIDATES])
    assert list(given.predictions["predicted"]) == names_of(losses.argmin(0))
    uniform = classify(known, bank, weights="uniform", test_rows=rows, error=None)
    assert (uniform.weights["weight"] == 1).all()


@pytest.mark.parametrize("batch", [1, 64])
def test_batches_and_other_calls(known, bank, batch):
    rows = torch.arange(12)
    first = classify(known, bank, test_rows=rows, error=0.05, batch=batch)
    torch.randn(3)
    classify(known, Bank(known.images, [2.0, 1.0], draws=4, seed=4), test_rows=rows, error=None)
    again = classify(known, bank, test_rows=rows, error=0.05, batch=50)
    assert first.predictions.equals(again.predictions)


def test_candidates_with_a_row_an_image(known, bank):
    rows = {f"class {k}": torch.full((120,), k) for k in range(CLASSES)}
    part = torch.arange(15)
    one = classify(known, bank, test_rows=part)
    other = paired_classify(known.law, bank, rows, known.labels, test_rows=part)
    assert one.predictions.equals(other.predictions)


def test_leakage_is_an_error(known, bank):
    with pytest.raises(InputError, match=r"leakage: images \[3\]"):
        classify(known, bank, fit_rows=torch.arange(4), test_rows=torch.tensor([3, 10]), weights="fitted")
    copied = known.images.clone()
    copied[100] = copied[2]
    with pytest.raises(InputError, match=r"leakage: images \[100\]"):
        classify(known, Bank(copied, bank.sigmas), fit_rows=torch.arange(50), weights="fitted")


def test_bad_input(known, bank):
    with pytest.raises(InputError, match="at least two conditions"):
        paired_classify(known.law, bank, {"a": known.labels}, known.labels)
    with pytest.raises(InputError, match="None"):
        paired_classify(known.law, bank, {"a": known.labels, "b": None}, known.labels)
    for labels in (known.labels[:5], known.labels + 1, known.labels.double()):
        with pytest.raises(InputError, match="labels"):
            paired_classify(known.law, bank, CANDIDATES, labels)
    for weights in ("best", [1.0], -np.ones(16), np.zeros(16)):
        with pytest.raises(InputError, match="weights"):
            classify(known, bank, weights=weights)
    with pytest.raises(InputError, match="fit_rows"):
        classify(known, bank, weights="fitted")
    with pytest.raises(InputError, match="some left"):
        classify(known, bank, weights="fitted", fit_rows=torch.arange(120))
    with pytest.raises(InputError, match="two classes in the split"):
        classify(known, bank, weights="fitted", fit_rows=torch.tensor([0, 4]))
    with pytest.raises(InputError, match="probability"):
        classify(known, bank, error=1.5)
    with pytest.raises(InputError, match="4 points"):
        classify(known, Bank(known.images, [2.0, 1.0]))
    with pytest.raises(InputError, match="not finite"):
        paired_classify(lambda x, s, c: x * torch.nan, bank, CANDIDATES, known.labels)
    with pytest.raises(InputError, match="7 rows for 120"):
        paired_classify(known.law, bank, {"a": known.labels[:7], "b": known.labels}, known.labels % 2)
