import math

import numpy as np
import pytest

from scorescope.analysis.fid.floors import null_floor
from scorescope.analysis.fid.frechet import frechet_distance
from scorescope.analysis.fid.influence_tables import class_table, group_table, leave_one_out
from scorescope.analysis.fid.optimal_transport import influence
from scorescope.data.errors import InputError


def draw(n, d, seed, spread=1.0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d)) / math.sqrt(d)
    return np.maximum(rng.normal(size=(n, d)) @ (mixing * spread + 0.3 * np.eye(d)), 0)


def test_leave_one_out_is_a_recomputation():
    for n in (15, 60):
        x, y = draw(n, 20, 0), draw(100, 20, 1)
        table = leave_one_out(x, y, rows=[0, 7])
        for row in table.itertuples():
            again = frechet_distance(np.delete(x, row.image, axis=0), y).raw
            assert row.fd_without == pytest.approx(again, abs=1e-11)
        assert table["change"][0] == pytest.approx(table["fd_without"][0] - frechet_distance(x, y).raw, abs=1e-11)


@pytest.mark.parametrize(
    "change",
    [
        lambda x, y: y[:400],  # rows of the other set
        lambda x, y: x[:390],
        lambda x, y: draw(400, 20, 7, spread=1.4),  # another sample of the same law
        lambda x, y: x * 1.01,
        lambda x, y: np.vstack([x[:399], x[:1]]) + 0.0,  # one image twice, one missing
    ],
)
def test_rows_of_another_set_have_no_influence(plan, sets, change):
    with pytest.raises(InputError, match="the rows of the set that the plan was made of as fake"):
        influence(plan, change(*sets))
    again = influence(plan, sets[0].astype(np.float32))
    np.testing.assert_allclose(again, influence(plan, sets[0]), atol=1e-4)
    assert len(influence(plan, sets[1], side="real")) == 500


def test_removal_is_what_leaving_out_does(plan, sets):
    """In the tables of groups and classes as in that of images, but for the bias that a smaller set has more of."""
    values, labels = influence(plan, sets[0]), np.arange(400) % 4
    exact = leave_one_out(sets[0], sets[1])["change"].groupby(labels).mean()
    found = group_table(values, labels).set_index("group")["removal_change"]
    np.testing.assert_allclose(found.sort_index() - found.mean(), exact - exact.mean(), rtol=0.2)
    assert exact.mean() == pytest.approx(null_floor(plan.fake.covariance, 400, 10**9) / 400, rel=0.2)
    weight = np.random.default_rng(0).normal(size=(4, 20))
    classes = class_table(plan, values, labels, labels, weight).set_index("class_index")["removal_change"]
    np.testing.assert_allclose(classes.sort_index(), found.sort_index(), rtol=1e-12)


def test_groups_and_classes(plan, sets):
    values = influence(plan, sets[0])
    labels = np.arange(400) % 4
    table = group_table(values, labels, distance=frechet_distance(*sets).value)
    assert (table["n"] == 100).all()
    # weighted means of all groups cancel: influences have mean 0
    assert abs((table["n"] * table["influence"]).sum()) < 1e-10
    assert ((table["low"] < table["influence"]) & (table["influence"] < table["high"])).all()
    weight = np.random.default_rng(0).normal(size=(5, 20))
    classes = class_table(plan, values, labels, np.arange(500) % 5, weight, names=list("abcde"))
    row = classes.set_index("class_name").loc["e"]
    assert (row["n_fake"], row["n_real"]) == (0, 100)
    assert math.isnan(row["influence"])
    assert row["gap"] == pytest.approx(-0.2)
    assert row["gap_low"] < -0.2 < row["gap_high"] < 0
    with pytest.raises(InputError, match="values from 0 to 4"):
        class_table(plan, values, labels, np.arange(500) % 5, weight[:4])
