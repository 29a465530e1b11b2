"""Directions against closed forms: the nuisance model, nulls, pairs; readers are not movers."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from scorescope.analysis.directions.comparison import compare_directions
from scorescope.analysis.directions.finding import as_direction, direction_angles, directions_by_level, find_direction
from scorescope.analysis.directions.stability import direction_stability, effective_dimension, step_cosines
from scorescope.data.errors import InputError
from scorescope.data.unet import EDMDenoiser, UNetConfig
from scorescope.probes.sampling.activations import Activations
from scorescope.probes.sites.direction import Direction

WIDTH, METHODS = 64, ("difference", "lda", "logistic", "svm")
V, U = torch.zeros(WIDTH), torch.zeros(WIDTH)
V[0], U[0], U[1] = 1.0, 0.6, 0.8  # unit vectors, cosine 0.6


def nuisance_model(n, seed, same=None):
    """h = 0.7 y v + 3 z u + 0.5 noise, y = -1 or 1, z standard normal; or a sign too, y with probability `same`."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 2, (n,), generator=g)
    sign = 2.0 * y - 1
    z = torch.randn(n, generator=g) if same is None else torch.where(torch.rand(n, generator=g) < same, sign, -sign)
    h = 0.7 * sign[:, None] * V + 3 * z[:, None] * U + 0.5 * torch.randn(n, WIDTH, generator=g)
    return h, y.numpy(), z.numpy()


def found(values, labels, method="difference", **options):
    return find_direction(values, labels, method=method, site="h", attribute="y", **options)


def moved(direction):
    """What a unit step does to both factors: its coordinates along v and u, by least squares."""
    basis = torch.stack([V, U], 1).double()
    y, z = torch.linalg.lstsq(basis, direction.unit.double()[:, None]).solution[:, 0]
    return {"y": y.repeat(20), "z": z.repeat(20)}


def test_the_nuisance_model_has_its_best_reader_and_its_best_mover_35_7_degrees_apart():
    h, y, _ = nuisance_model(60_000, seed=0)
    held_out, truth, _ = nuisance_model(10_000, seed=1)
    directions = [found(h, y, method, shrinkage=1e-4) for method in METHODS]
    table = compare_directions(directions, held_out, truth, effect=moved).set_index("method")
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


@pytest.mark.parametrize(("n", "expected"), [(1000, (0.98, 0.78, 0.76, 0.76)), (10_000, (1.00, 0.81, 0.81, 0.81))])
def test_cosines_to_the_causal_axis_are_those_known_of_the_nuisance_model(n, expected):
    """Known to two digits as means of 10 repeats; a mean of 5 here, of spread 0.01 to 0.02."""
    repeats = [nuisance_model(n, seed=seed)[:2] for seed in range(5)]
    for method, value in zip(METHODS, expected, strict=True):
        cosines = [float(found(h, y, method, shrinkage=1e-3).unit @ V) for h, y in repeats]
        assert np.mean(cosines) == pytest.approx(value, abs=0.025), method


def test_a_correlated_nuisance_tilts_the_difference_of_means_until_it_is_taken_out():
    h, y, z = nuisance_model(20_000, seed=0, same=0.9)
    plain, adjusted = found(h, y), found(h, y, nuisance=z)
    assert float(plain.unit @ V) < 0.75 and float(adjusted.unit @ V) > 0.99
    assert float(found(h, y, "lda", nuisance=z, shrinkage=1e-4).unit @ V) > 0.99


def test_the_difference_is_that_of_the_class_means_and_lda_is_scikit_learns():
    h, y, _ = nuisance_model(300, seed=2)
    difference = found(h, y)
    torch.testing.assert_close(difference.vector, h[y == 1].mean(0) - h[y == 0].mean(0), rtol=1e-4, atol=1e-5)
    assert difference.scale == pytest.approx(float((h @ difference.unit).std(correction=0)), rel=1e-5)
    scale = h.std(0, correction=0)
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.2).fit((h / scale).numpy(), y)
    expected = torch.from_numpy(model.coef_[0]).float() / scale
    cosine = torch.nn.functional.cosine_similarity(expected, found(h, y, "lda", shrinkage=0.2).vector, dim=0)
    assert float(cosine) > 1 - 1e-6


def test_a_continuous_attribute_gives_the_slope_and_its_inverse_covariance_form():
    g = torch.Generator().manual_seed(0)
    t = torch.randn(5000, generator=g)
    h = t[:, None] * V + 2 * torch.randn(5000, 1, generator=g) * U + 0.3 * torch.randn(5000, WIDTH, generator=g)
    assert float(found(h, t.numpy()).unit @ V) > 0.98
    population = torch.linalg.solve(4 * torch.outer(U, U) + 0.09 * torch.eye(WIDTH), V)
    cosine = torch.nn.functional.cosine_similarity(population, found(h, t.numpy(), "lda", shrinkage=1e-4).vector, dim=0)
    assert float(cosine) > 0.99


@pytest.mark.parametrize("whiten", [False, True])
def test_pairs_give_the_axis_in_which_they_differ(whiten):
    g = torch.Generator().manual_seed(0)
    base = 3 * torch.randn(300, 1, generator=g) * U + 0.5 * torch.randn(300, WIDTH, generator=g)
    other = base - 1.4 * V + 0.1 * torch.randn(300, WIDTH, generator=g)
    values = torch.cat([base, other])[torch.randperm(600, generator=g)]
    order = torch.randperm(600, generator=torch.Generator().manual_seed(5))
    values = torch.cat([base, other])[order]
    pairs, labels = torch.arange(300).repeat(2)[order], torch.arange(2).repeat_interleave(300).flip(0)[order]
    direction = found(values, labels.numpy(), "pca", pairs=pairs.numpy(), whiten=whiten)
    assert float(direction.unit @ V) > 0.99
    table = direction_stability(values, labels.numpy(), method="pca", pairs=pairs.numpy(), resamples=20, halves=10)
    assert table.set_index("cosine")["mean"]["split_half"] > 0.99


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


def test_label_embeddings_give_a_direction_in_condition_space():
    denoiser = EDMDenoiser(UNetConfig(channels=(8,), attributes=(2, 3), attention=False), 0.5)
    labels = torch.cartesian_prod(torch.arange(2), torch.arange(3))
    tokens = denoiser.embed(labels)[:, 0].detach()
    direction = find_direction(tokens, labels[:, 0], site="condition.0", attribute="size")
    expected = denoiser.embed(torch.tensor([[1, 0]]))[0, 0] - denoiser.embed(torch.tensor([[0, 0]]))[0, 0]
    expected = expected.detach()
    torch.testing.assert_close(direction.vector, expected)
    assert direction.scale == pytest.approx(float(expected.norm()) / 2, rel=1e-5)


def test_a_vector_from_elsewhere_gets_a_scale_and_a_side():
    h, y, _ = nuisance_model(500, seed=0)
    direction = as_direction(-3 * V, h, site="h", attribute="y", method="jacobian", labels=y)
    assert torch.allclose(direction.unit, V) and direction.scale == pytest.approx(float(h[:, 0].std()), rel=0.01)


def pairless(**options):
    return {"method": "pca", **options}


@pytest.mark.parametrize(
    ("labels", "options", "text"),
    [
        (np.zeros(40, int), {}, "a single class"),
        (np.arange(40) % 3, {}, "3 classes"),
        (np.arange(30) % 2, {}, r"\(40,\)"),
        (np.arange(40) % 2, {"method": "umap"}, "difference, lda"),
        (np.arange(40) % 2, {"method": "pca"}, "pairs for 'pca'"),
        (np.arange(40) % 2, {"method": "pca", "pairs": np.arange(40) // 4}, "two rows a pair"),
        (np.arange(40) % 2, {"method": "lda", "shrinkage": 0.0}, "fewer rows than channels"),
        (np.arange(40) % 2, {"nuisance": np.arange(40) % 2}, "do not vary within"),
        (np.arange(40) % 2, {"nuisance": np.arange(40) % 2, "method": "svm"}, "'difference' or 'lda'"),
        (np.linspace(0, 1, 40), {"method": "svm"}, "two classes"),
    ],
)
def test_bad_input(labels, options, text):
    with pytest.raises(InputError, match=text):
        found(torch.randn(40, WIDTH), labels, **options)


def test_bad_values_and_sizes_are_refused():
    y = np.arange(40) % 2
    with pytest.raises(InputError, match="NaN"):
        found(torch.full((40, 3), torch.nan), y)
    with pytest.raises(InputError, match="3 numbers"):
        as_direction(torch.ones(3), torch.randn(40, 4), site="h", attribute="y", method="file")
    with pytest.raises(InputError, match="no variation"):
        as_direction(torch.ones(3), torch.ones(40, 3), site="h", attribute="y", method="file")
    a, b = Direction(torch.ones(3), "h", "y", "m", 1.0), Direction(torch.ones(4), "h", "y", "m", 1.0)
    with pytest.raises(InputError, match="4 numbers"):
        direction_angles([a, b])
    with pytest.raises(InputError, match="at one site"):
        direction_angles([a, Direction(torch.ones(3), "g", "y", "m", 1.0)])
    with pytest.raises(InputError, match="score of 'y'"):
        compare_directions([a], torch.randn(40, 3), y, effect=lambda d: {"z": torch.ones(3)})
    grid = Activations({"h": torch.randn(1, 40, 8)}, (1.0,), torch.arange(40), {"h": 2})
    with pytest.raises(InputError, match="over channels"):
        directions_by_level(grid, y, site="h", attribute="y")
    with pytest.raises(InputError, match="fewer than 4"):
        direction_stability(torch.randn(40, 3), np.arange(40) < 3)
