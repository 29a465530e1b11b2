"""Directions against closed forms: the nuisance model, nulls, pairs; readers are not movers."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from tests.nuisance import METHODS, WIDTH, U, V, found, nuisance_model

from scorescope.analysis.directions.comparison import compare_directions
from scorescope.analysis.directions.finding import as_direction, direction_angles, directions_by_level, find_direction
from scorescope.analysis.directions.stability import direction_stability
from scorescope.data.errors import InputError
from scorescope.data.unet import EDMDenoiser, UNetConfig
from scorescope.probes.activations.activations import Activations
from scorescope.probes.sites.direction import Direction


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
