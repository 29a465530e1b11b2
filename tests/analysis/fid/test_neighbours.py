import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from scorescope.analysis.fid.neighbours import RealNeighbours, neighbour_table, recall_interval
from scorescope.data.errors import InputError


def draw(n, d, seed, scale=1.0):
    return np.random.default_rng(seed).normal(size=(n, d)) * scale


def test_neighbours_are_the_definition():
    x, y = draw(40, 3, 0), draw(50, 3, 1, 1.4)
    distance = lambda a, b: np.linalg.norm(a[:, None] - b[None], axis=2)  # noqa: E731
    radius = lambda a, k: np.sort(distance(a, a), axis=1)[:, k]  # noqa: E731
    cross = distance(x, y)
    expected = {
        "precision": (cross <= radius(y, 3)).any(1).mean(),
        "recall": (cross <= radius(x, 3)[:, None]).any(0).mean(),
        "density": (cross < radius(y, 5)).sum() / (5 * 40),
        "coverage": (cross.min(0) < radius(y, 5)).mean(),
    }
    table = neighbour_table(x, y).set_index("metric")
    for metric, value in expected.items():
        assert table.loc[metric, "value"] == pytest.approx(value)
        assert table.loc[metric, "low"] <= value <= table.loc[metric, "high"]
    assert table["n"].to_dict() == {"precision": 40, "recall": 50, "density": 40, "coverage": 50}
    with pytest.raises(InputError, match="more than k = 5"):
        neighbour_table(x[:5], y)


def test_tables_of_several_sets_against_one_are_those_of_each_alone_to_the_bit():
    real = draw(60, 3, 1)
    against = RealNeighbours(real)
    for seed, count in enumerate((40, 40, 30, 8, 40)):  # 8: too few in a half for an interval
        fake = draw(count, 3, 10 + seed, 1.2)
        assert_frame_equal(against.table(fake), neighbour_table(fake, real), check_exact=True)


def test_recall_intervals_cover_draws_of_both_sets():
    # 68 % of the intervals that take the generated set as given held the expected recall. 100 runs tell 95 % to within
    # 4.4 % (two standard errors); the intervals are on the wide side, by less than twice
    runs = [(draw(100, 6, 2 * i, 0.8), draw(300, 6, 2 * i + 1)) for i in range(100)]
    values = np.array([neighbour_table(x, y).set_index("metric").loc["recall", "value"] for x, y in runs])
    low, high = np.array([recall_interval(x, y) for x, y in runs]).T
    covered = ((low <= values.mean()) & (values.mean() <= high)).mean()
    assert covered > 0.95 - 2 * np.sqrt(0.95 * 0.05 / len(runs))
    assert (high - low).mean() < 2 * 2 * 1.96 * values.std()
    with pytest.raises(InputError, match="more than k images in a half"):
        recall_interval(draw(7, 3, 0), draw(50, 3, 1))


def test_neighbours_at_the_ends():
    x = draw(300, 4, 0)
    same = neighbour_table(x, x).set_index("metric")["value"]
    assert same["precision"] == same["recall"] == same["coverage"] == 1
    far = neighbour_table(x, x + 100).set_index("metric")["value"]
    assert (far == 0).all()


def test_distances_held_at_once_give_the_same_interval(monkeypatch):
    generator = np.random.default_rng(3)
    fake, real = generator.normal(size=(60, 5)), generator.normal(size=(90, 5))
    whole = recall_interval(fake, real)
    monkeypatch.setattr("scorescope.analysis.fid.neighbours.WHOLE", 0)
    assert recall_interval(fake, real) == whole
