from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from tests.nuisance import METHODS, WIDTH, U, V, found, nuisance_model

from scorescope.analysis.directions.comparison import compare_directions
from scorescope.data.errors import InputError
from scorescope.probes.sites.control_directions import shuffled_directions
from scorescope.probes.sites.direction import Direction


def moved(direction):
    """What a step of its scale does to both factors: its coordinates along v and u, by least squares."""
    basis = torch.stack([V, U], 1).double()
    y, z = direction.scale * torch.linalg.lstsq(basis, direction.unit.double()[:, None]).solution[:, 0]
    return {"y": y.repeat(20), "z": z.repeat(20)}


def test_the_nuisance_model_has_its_best_reader_and_its_best_mover_35_7_degrees_apart():
    h, y, _ = nuisance_model(60_000, seed=0)
    held_out, truth, _ = nuisance_model(10_000, seed=1)
    directions = [replace(found(h, y, method, shrinkage=1e-4), scale=1.0) for method in METHODS]
    laws = [
        shuffled_directions(
            way,
            h,
            torch.from_numpy(y),
            count=2,
            find=lambda x, labels, method=method: found(x, labels, method, shrinkage=1e-4).vector,
        )
        for way, method in zip(directions[:2], METHODS, strict=False)
    ]
    laws += [(), ()]  # the planes take seconds
    table = compare_directions(directions, held_out, truth, effect=moved, random=2, shuffled=laws).set_index("method")
    # population LDA: (S)^-1 v with S = 9 u u^T + 0.25 I, whose angle to v is 35.7 degrees
    covariance = 9 * torch.outer(U, U) + 0.25 * torch.eye(WIDTH)
    population = torch.linalg.solve(covariance, V)
    angle = float(torch.rad2deg(torch.arccos(population[0] / population.norm())))
    assert angle == pytest.approx(35.7, abs=0.05)
    to_axis = float(torch.rad2deg(torch.arccos(directions[1].unit @ V)))
    assert to_axis == pytest.approx(angle, abs=0.5)
    # the difference of means is itself 2 degrees off the axis here: 0.8 * 3 * 2 / sqrt(n) against 1.4
    assert table.loc["lda", "degrees_to_mover"] == pytest.approx(angle, abs=3)
    assert table.loc["difference", "moves_best"]
    assert table.loc["difference", "degrees_to_mover"] == pytest.approx(0, abs=1e-5)
    assert not table.loc["difference", "reads_best"] and table.loc["lda", "auc"] > table.loc["difference", "auc"] + 0.1
    assert table.loc["lda", "accuracy"] == pytest.approx(0.87, abs=0.015)
    assert table.loc["difference", "accuracy"] == pytest.approx(0.64, abs=0.04)
    assert table.loc["lda", "effect"] == pytest.approx(1.25, abs=0.03)
    assert table.loc["lda", "off_target"] == pytest.approx(0.73, abs=0.04)
    assert table.loc["difference", "effect"] == pytest.approx(1.0, abs=0.08)
    assert table["moves_best"].sum() == 1
    planes = table.loc[["lda", "logistic", "svm"]]  # which read alike, and are said to
    assert planes["reads_best"].all() and np.ptp(planes["auc"]) < 2e-3 and table["reads_best"].sum() == 3
    assert not table.loc[["random 1", "random 2"], ["reads_best", "moves", "moves_best"]].any(axis=None)


def test_the_auc_is_scikit_learns_with_ties():
    """A constant projection reads nothing, in whatever order the labels come; a rectified channel has many ties."""
    g = torch.Generator().manual_seed(0)
    values = torch.randn(400, 3, generator=g).relu() * torch.tensor([1.0, 1.0, 0.0])
    values[:, 1] += 0.3 * (torch.arange(400) >= 200)
    directions = [Direction(axis, "h", "y", f"axis {k}", 1.0) for k, axis in enumerate(torch.eye(3))]
    for labels in (np.arange(400) >= 200, np.arange(400) < 200):
        table = compare_directions(directions, values, labels, effect=lambda d: {"y": torch.arange(1.0, 21)})
        expected = [roc_auc_score(labels, values[:, k]) for k in range(3)]
        np.testing.assert_allclose(table["auc"][:3], expected, atol=1e-12)
        assert table["auc"].iloc[2] == 0.5


def test_an_area_of_1_has_an_interval():
    labels = np.arange(60) % 2
    values = torch.from_numpy(np.eye(3)[labels] * 5).float()
    row = compare_directions(axes(), values, labels, effect=lambda d: {"y": torch.arange(1.0, 21)}).iloc[1]
    assert row["auc"] == row["auc_high"] == 1 and row["auc_low"] == pytest.approx(0.8865, abs=1e-3)  # 30 of 30


def axes(count=2):
    return [Direction(axis, "h", "y", f"axis {k}", 1.0) for k, axis in enumerate(torch.eye(3)[:count])]


def test_intervals_of_auc_and_purity_are_those_of_their_laws():
    """Normal projections: AUC Phi(d / sqrt 2), Hanley and McNeil's error; purity by the delta method."""
    n, seeds = 2000, 400
    g = torch.Generator().manual_seed(1)
    y = torch.arange(n) % 2
    values = torch.randn(n, 3, generator=g) + y[:, None] * torch.tensor([1.0, 0.2, 0.0])
    noise = torch.randn(2, seeds, generator=g)

    def effect(direction):
        own = torch.tensor([1.0, 0.5]) if direction.method == "axis 0" else torch.zeros(2)
        return dict(zip("yz", own[:, None] + noise, strict=True))

    table = compare_directions(axes(), values, y, effect=effect).set_index("method")
    area = norm.cdf(1 / 2**0.5)
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = ((area * (1 - area) + (n / 2 - 1) * (q1 + q2 - 2 * area**2)) / (n / 2) ** 2) ** 0.5
    row = table.loc["axis 0"]
    assert row["auc_high"] - row["auc_low"] == pytest.approx(2 * 1.96 * error, rel=0.12)
    assert row["auc_low"] < area < row["auc_high"] and row["purity_low"] < 2 / 3 < row["purity_high"]
    # purity t / (t + o): its gradient is (o, -t) / (t + o)^2
    slope = (0.5**2 + 1) ** 0.5 / 1.5**2 / seeds**0.5
    assert row["purity_high"] - row["purity_low"] == pytest.approx(2 * 1.96 * slope, rel=0.15)
    assert row["reads_best"] and row["moves_best"] and not table.loc["axis 1", ["reads_best", "moves"]].any()


def test_directions_that_differ_by_chance_are_not_told_apart():
    g = torch.Generator().manual_seed(0)
    y = torch.arange(200) % 2
    values = torch.randn(200, 3, generator=g) + y[:, None]
    noise = {f"axis {k}": torch.randn(30, generator=g) for k in range(2)}

    def effect(direction):
        found = noise.get(direction.method)
        if found is None:
            return {"y": torch.zeros(30), "z": torch.ones(30)}
        return {"y": 2 + found, "z": 1 + found.roll(1)}

    table = compare_directions(axes(), values, y, effect=effect).set_index("method")
    assert table["auc"].iloc[0] != table["auc"].iloc[1] and table["purity"].iloc[0] != table["purity"].iloc[1]
    assert table[["reads_best", "moves_best"]].iloc[:2].all(axis=None)
    # what a random direction moves as far is no mover, however sure its effect is
    idle = compare_directions(axes(), values, y, effect=lambda d: {"y": torch.full((30,), 2.0), "z": torch.ones(30)})
    assert (idle["effect_low"] > 0).all() and not idle["moves"].any() and idle["degrees_to_mover"].isna().all()


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ({"y": torch.ones(1)}, "at least 8 seeds"),
        ({"y": torch.full((9,), torch.nan)}, "9 not finite"),
        ({"y": torch.ones(9, 2)}, "one finite number"),
        ({"y": torch.ones(9), "z": torch.ones(8)}, "different numbers of seeds"),
    ],
)
def test_effects_that_say_nothing_are_refused(found, text):
    values, y = torch.randn(40, 3), torch.arange(40) % 2
    with pytest.raises(InputError, match=text):
        compare_directions(axes(), values, y, effect=lambda d: found)


def test_directions_and_labels_that_do_not_go_together_are_refused():
    values, y = torch.randn(40, 3), torch.arange(40) % 2
    other = Direction(torch.ones(3), "h", "x", "other", 1.0)
    for directions, labels, options, text in (
        ([*axes(), other], y, {}, "one attribute and site"),
        ([], y, {}, "at least one, of one attribute"),
        (axes(), torch.linspace(0, 1, 40), {}, "two classes, to read"),
        (axes(), y, {"random": 0}, "at least one random"),
    ):
        with pytest.raises(InputError, match=text):
            compare_directions(directions, values, labels, effect=lambda d: {"y": torch.ones(9)}, **options)
    counts = iter((9, 10, 9, 9))
    with pytest.raises(InputError, match="different numbers of seeds"):
        compare_directions(axes(), values, y, effect=lambda d: {"y": torch.ones(next(counts))})


def test_without_another_score_a_share_is_missing_and_the_largest_effect_is_best():
    """Purity was 1 for every direction that moved anything, and the first of them the purest."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 60)
    values = torch.from_numpy(rng.normal(size=(120, 4)) + 2 * y[:, None]).float()
    ways = [
        Direction(vector=torch.eye(4)[k], scale=1.0, site="site", attribute="size", method=f"way {k}", sigma=1.0)
        for k in range(2)
    ]
    sizes = {"way 0": 1.0, "way 1": 2.0}

    def effect(way):
        return {"size": sizes.get(way.method, 0.01) + torch.from_numpy(rng.normal(size=12)) / 20}

    table = compare_directions(ways, values, y, effect=effect, random=4, seed=0).set_index("method")
    assert table[["off_target", "purity", "purity_low", "purity_high"]].isna().all(axis=None)
    assert table.loc["way 1", "moves_best"] and not table.loc["way 0", "moves_best"]
    assert table.loc["way 1", "degrees_to_mover"] == pytest.approx(0, abs=1e-3)
