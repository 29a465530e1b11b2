import math

import numpy as np
import pytest

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
