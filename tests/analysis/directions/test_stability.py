import numpy as np
import pytest
import torch
from tests.nuisance import WIDTH, U, V, found, nuisance_model

from scorescope.analysis.directions.finding import direction_angles, directions_by_level
from scorescope.analysis.directions.stability import direction_stability, effective_dimension, step_cosines
from scorescope.data.errors import InputError
from scorescope.probes.activations.activations import Activations


def test_random_labels_have_the_cosine_of_random_directions():
    """In white activations 1 / sqrt(d); with ten strong components the d_eff of the covariance."""
    for strength, width in ((1.0, 100), (4.0, 100)):
        scales = torch.ones(width)
        scales[:10] = strength
        squares = []
        for seed in range(150):
            g = torch.Generator().manual_seed(seed)
            x, y = torch.randn(400, width, generator=g) * scales, torch.randint(0, 2, (400,), generator=g).numpy()
            squares.append(float(found(x[:200], y[:200]).unit @ found(x[200:], y[200:]).unit) ** 2)
        variances = scales**2
        size = float(variances.sum() ** 2 / variances.square().sum())
        assert effective_dimension(x) == pytest.approx(size, rel=0.15)
        # a ratio of norms that vary is a little below; 150 squares of a normal variable: 12 % standard error
        assert np.mean(squares) == pytest.approx(1 / size, rel=0.35)


def test_effective_dimension_does_not_grow_with_few_rows():
    x = torch.randn(60, 400, generator=torch.Generator().manual_seed(0))
    assert effective_dimension(x) == pytest.approx(400, rel=0.25)  # the plain estimate is 52


def test_the_null_is_a_cosine():
    """Of activations that vary in two directions it was 1.4."""
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0)) @ torch.randn(2, 40)
    table = direction_stability(x, np.arange(60) % 2, halves=4, resamples=4)
    assert (table["d_eff"] < 3).all() and (table["null"] == 1).all()


def test_stability_grows_with_rows_and_shuffled_labels_are_at_the_null():
    few, many = (
        direction_stability(*nuisance_model(n, seed=0)[:2], resamples=50, halves=30).set_index("cosine")
        for n in (100, 5000)
    )
    assert few["mean"]["split_half"] < many["mean"]["split_half"] > 0.97
    assert many["mean"]["bootstrap"] > 0.98 and many["n"].eq(5000).all()
    variances = torch.linalg.eigvalsh(0.49 * torch.outer(V, V) + 9 * torch.outer(U, U) + 0.25 * torch.eye(WIDTH))
    size = float(variances.sum() ** 2 / variances.square().sum())  # 7, not 64: the nuisance decides most of it
    assert many["d_eff"].iloc[0] == pytest.approx(size, rel=0.05) and many["null"].iloc[0] > 0.7
    assert many["high"]["shuffled"] > 2 * 1.96 / WIDTH**0.5  # so shuffled labels exceed 1.96 / sqrt(d) easily
    white = direction_stability(*nuisance_model(5000, seed=0)[:2], whiten=True, shrinkage=1e-3, resamples=9, halves=30)
    white = white.set_index("cosine")
    assert white["d_eff"].iloc[0] == pytest.approx(WIDTH, rel=0.05)
    assert white["low"]["shuffled"] > -0.5 and white["high"]["shuffled"] < 0.5 < white["low"]["split_half"]


def test_groups_are_kept_together():
    """Copies of each row look like more data only to who draws rows."""
    h, y, _ = nuisance_model(60, seed=0)
    copies, labels, groups = h.repeat(5, 1), np.tile(y, 5), np.tile(np.arange(60), 5)
    kept = direction_stability(copies, labels, groups=groups, resamples=50, halves=50).set_index("cosine")
    once = direction_stability(h, y, resamples=50, halves=50).set_index("cosine")
    blind = direction_stability(copies, labels, resamples=50, halves=50).set_index("cosine")
    assert kept["mean"]["split_half"] == pytest.approx(once["mean"]["split_half"], abs=0.15)
    assert blind["mean"]["split_half"] > kept["mean"]["split_half"] + 0.2


def pairs_of(n, scale=1.0):
    """Rows 2k and 2k + 1 are a pair, apart by V and noise."""
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(2 * n) % 2
    base = 3 * torch.randn(n, WIDTH, generator=g).repeat_interleave(2, 0)
    return base + labels[:, None] * V + scale * torch.randn(2 * n, WIDTH, generator=g), labels.numpy()


def test_pairs_as_groups_swap_their_labels_within():
    """A group with a row of each class has no one label: its shuffle turns the pair over."""
    values, labels = pairs_of(100, scale=0.3)
    table = direction_stability(values, labels, groups=np.arange(200) // 2, resamples=20, halves=60)
    means = table.set_index("cosine")["mean"]
    # each half is the mean of 50 differences V + 0.3 sqrt(2) noise
    assert means["split_half"] == pytest.approx(1 / (1 + WIDTH * 2 * 0.3**2 / 50), abs=0.04)
    assert abs(means["shuffled"]) < 0.1


def test_the_bootstrap_of_pairs_is_one_of_the_whole_number_of_pairs():
    """Near a strong component, first principal components of n pairs scatter as the difference of means does."""
    values, labels = pairs_of(150, scale=0.1)
    pairs = np.arange(300) // 2
    paired = direction_stability(values, labels, method="pca", pairs=pairs, resamples=200, halves=4)
    plain = direction_stability(values, labels, groups=pairs, resamples=200, halves=4)
    # sine^2 of the angle to the whole; draws of distinct pairs alone would have 0.58 of it: 1 / 0.632 - 1
    sizes = [1 - table.set_index("cosine")["mean"]["bootstrap"] for table in (paired, plain)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.15)


def two_levels(n=600):
    """The same direction in both of the first levels, another in the third; five draws share no noise."""
    g = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, (n,), generator=g)
    signs = (2.0 * y - 1)[:, None]
    levels = [signs * axis + torch.randn(n, WIDTH, generator=g) for axis in (V, V, torch.roll(V, 7))]
    return Activations({"h": torch.stack(levels)}, (4.0, 2.0, 1.0), torch.arange(n), {"h": "mean"}), y.numpy()


def test_step_cosines_tell_levels_that_share_a_direction():
    activations, y = two_levels()
    table = step_cosines(activations, y, site="h").set_index(["sigma_a", "sigma_b"])
    assert len(table) == 9 and table["cosine"][4.0, 4.0] == pytest.approx(1)
    assert table["crossed"][4.0, 4.0] < 1 and table["low"][4.0, 2.0] > table["null"][4.0, 2.0]
    assert abs(table["crossed"][4.0, 1.0]) < table["null"][4.0, 1.0]
    assert table["crossed"][4.0, 2.0] == pytest.approx(table["crossed"][2.0, 4.0])
    by_level = directions_by_level(activations, y, site="h", attribute="y")
    assert [direction.sigma for direction in by_level] == [4.0, 2.0, 1.0]
    angles = direction_angles(by_level).set_index(["sigma_a", "sigma_b"])
    assert angles["cosine"][4.0, 2.0] == pytest.approx(table["cosine"][4.0, 2.0], abs=1e-5)


def test_images_of_one_group_are_in_one_half():
    # both ends of a pair share noise that is in no other: over halves that part a pair it is common, turned over
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(30, 40, generator=generator).repeat_interleave(2, dim=0) * 3
    y = np.tile([0, 1], 30)
    values = noise + 0.3 * torch.randn(60, 40, generator=generator)
    values[:, 0] += torch.from_numpy(y).float()
    activations = Activations({"h": values[None]}, (1.0,), torch.arange(60), {"h": "mean"}, "uncond")
    apart = step_cosines(activations, y, site="h").iloc[0]
    together = step_cosines(activations, y, site="h", groups=np.arange(60) // 2).iloc[0]
    assert together["crossed"] > 0.6 > apart["crossed"] and (apart["n"], together["n"]) == (60, 30)
    assert together["cosine"] == apart["cosine"]


@pytest.mark.parametrize("none", [{"halves": 0}, {"resamples": 0}])
def test_no_draws_are_refused(none):
    values = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match=r"^halves, resamples: "):
        direction_stability(values, np.arange(40) % 2, **none)
