import json
import weakref

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.covariance import ledoit_wolf, oas

from scorescope.data import InputError, load_digits
from scorescope.probes.approximations import (
    Batches,
    ImageFolder,
    TrainingSet,
    fit_gaussian,
    fit_isotropic,
    fit_kmeans,
    fit_per_class,
    load_approximation,
    save_approximation,
)
from scorescope.probes.approximations.gaussian_fit import ledoit_wolf_weight


@pytest.fixture(scope="module")
def images():
    return load_digits().train.images.double()


def same(one, other, tolerance=1e-10):
    torch.testing.assert_close(one.mean, other.mean, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(one.covariance(), other.covariance(), rtol=tolerance, atol=tolerance)


def test_every_kind_of_source_gives_the_same_fit(images):
    direct = fit_gaussian(images)
    parts = list(images.split(100))
    labelled = [(part, torch.zeros(len(part))) for part in parts]
    for source in (images.numpy(), parts, labelled, lambda: iter(parts), Batches(images, batch=33)):
        same(fit_gaussian(source), direct)


@pytest.mark.parametrize("rank", [None, 5])
def test_a_stream_is_passed_over_twice_and_no_batch_is_kept(images, rank):
    alive, most, passes = [], [], []

    def stream():
        passes.append(1)
        for part in images.split(100):
            most.append(sum(reference() is not None for reference in alive))
            batch = part.clone()
            alive.append(weakref.ref(batch))
            yield batch

    fit_gaussian(stream, rank=rank)
    assert max(most) <= 2  # the one before may still be in the loop's variable
    assert len(passes) == 3  # a look at the first batch for its shape, the mean, the covariance


@pytest.mark.parametrize("count", [20, 90, 300])
@pytest.mark.parametrize(("kind", "reference"), [("ledoit_wolf", ledoit_wolf), ("oas", oas)])
def test_shrinkage_is_that_of_scikit_learn(images, count, kind, reference):
    data = images[:count]
    covariance, weight = reference(data.flatten(1).numpy())
    gaussian = fit_gaussian(data, shrinkage=kind)
    torch.testing.assert_close(gaussian.covariance(), torch.from_numpy(covariance), rtol=1e-9, atol=1e-10)
    assert f"{weight:.3f}" in gaussian.note


def test_shrinkage_is_chosen_by_samples_over_features(images):
    assert "Ledoit-Wolf" in fit_gaussian(images[:127]).note
    assert "shrinkage" not in fit_gaussian(images[:128]).note


def test_randomised_fit_equals_the_exact_one():
    """1e-3 on the first half of the eigenvalues, with a slowly falling spectrum and float32 products."""
    generator = torch.Generator().manual_seed(0)
    d, n, rank = 4200, 600, 100  # above the size up to which a matrix is formed
    scales = torch.arange(1, d + 1).double() ** -0.5
    data = (torch.randn(n, d, generator=generator).double() * scales + 3.0).float()
    fitted = fit_gaussian(data, rank=rank, oversample=32)
    centred = data.double() - data.double().mean(0)
    exact = torch.linalg.eigvalsh(centred @ centred.mT / n).flip(0)  # n x n Gram matrix: the same eigenvalues
    error = (fitted.eigenvalues.double() / exact[:rank] - 1).abs()
    assert error[: rank // 2].max() < 1e-3
    assert fitted.variance == pytest.approx(float(exact.sum()), rel=1e-5)
    overlap = fitted.basis.mT @ fitted.basis
    torch.testing.assert_close(overlap, torch.eye(rank), atol=1e-5, rtol=0)
    with pytest.raises(InputError, match="power_iterations"):
        fit_gaussian(data, rank=rank, power_iterations=2)


def test_constant_features_are_counted_and_harmless(images):
    gaussian = fit_gaussian(images)
    assert gaussian.note == "4 constant features"
    assert torch.isfinite(gaussian(images[:3], 0.002)).all()
    assert torch.isfinite(gaussian.log_density(images[:3], 0.002)).all()


def test_data_that_do_not_fit_are_refused(images):
    broken = images.clone()
    broken[1200, 0, 0, 0] = float("nan")
    cases = [
        (lambda: fit_gaussian(images[:10], rank=10), "at most 9"),
        (lambda: fit_gaussian(images, rank=65), "rank"),
        (lambda: fit_gaussian(images[:1]), "at least 2"),
        (lambda: fit_gaussian(images[:1].expand(5, -1, -1, -1)), "data that vary"),
        (lambda: fit_gaussian(broken), r"batch 1\): found NaN"),
        (lambda: fit_gaussian((images + 1) / 2 * 255, value_range=(-1, 1)), "value_range"),
        (lambda: fit_gaussian(iter([images])), "iterator"),
        (lambda: fit_gaussian([]), "no batches"),
        (lambda: fit_gaussian(images[:0]), "no samples"),
        (lambda: fit_gaussian([images[:5], images[:5, :, :4]]), "like the first"),
        (lambda: fit_gaussian(images.long()), "floating point"),
        (lambda: fit_gaussian(images, shrinkage="some"), "shrinkage"),
    ]
    for case, message in cases:
        with pytest.raises(InputError, match=message):
            case()


def test_image_folders(tmp_path):
    from PIL import Image

    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)
    (tmp_path / "deeper").mkdir()
    for index, array in enumerate(pixels):
        Image.fromarray(array).save(tmp_path / ("deeper" if index > 8 else "") / f"{index:02d}.png")
    folder = ImageFolder(tmp_path, batch=5)
    assert len(folder) == 3
    expected = torch.from_numpy(pixels).permute(0, 3, 1, 2).double() / 127.5 - 1
    same(fit_gaussian(folder, value_range=(-1, 1), rank=4), fit_gaussian(expected, rank=4), tolerance=1e-6)
    assert fit_gaussian(ImageFolder(tmp_path, size=4), rank=3).shape == (3, 4, 4)
    Image.fromarray(pixels[0, :4]).save(tmp_path / "99.png")
    with pytest.raises(InputError, match=r"99\.png"):
        fit_isotropic(folder := ImageFolder(tmp_path))
    (tmp_path / "99.png").write_text("not an image")
    with pytest.raises(InputError, match="cannot be read"):
        fit_isotropic(folder)
    with pytest.raises(InputError, match="no folder"):
        ImageFolder(tmp_path / "nothing")


def test_saving_keeps_everything(tmp_path, images):
    labels = load_digits().train.labels
    fits = [
        fit_gaussian(images, rank=5, units="pixels in [-1, 1]"),
        fit_per_class(images, labels, rank=3, units="pixels in [-1, 1]"),
        fit_kmeans(images, clusters=4, rank=3),
        TrainingSet(images[:50], labels[:50], chunk=7, units="pixels in [-1, 1]"),
    ]
    for fitted in fits:
        path = tmp_path / "fit.safetensors"
        save_approximation(path, fitted)
        loaded = load_approximation(path)
        assert (loaded.name, loaded.note, loaded.units) == (fitted.name, fitted.note, fitted.units)
        assert getattr(loaded, "fit", None) == getattr(fitted, "fit", None)
        assert torch.equal(loaded(images[:3], 0.7), fitted(images[:3], 0.7))
        assert torch.equal(loaded(images[:3], 0.7, labels[:3]), fitted(images[:3], 0.7, labels[:3]))


@pytest.mark.filterwarnings("ignore::scorescope.data.IntegrityWarning")  # written without a hash
def test_files_that_do_not_fit_are_refused(tmp_path):
    (tmp_path / "text.safetensors").write_text("no")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    about = json.dumps({"kind": "gaussian"})
    save_file(
        {"a": torch.zeros(1)}, tmp_path / "short.safetensors", {"format": "scorescope-approximation-1", "about": about}
    )
    messages = {"text": "a damaged file", "other": "format", "short": "do not fit", "none": "no such file"}
    for name, message in messages.items():
        with pytest.raises(InputError, match=message):
            load_approximation(tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize("shrinkage", ["auto", "none", "oas"])
def test_fewer_samples_than_features_are_fitted_by_their_own_span(images, shrinkage):
    """n - 1 modes and the shrinkage's variance elsewhere are the whole covariance: no d x d matrix is formed."""
    few = images[:20]
    fitted = fit_gaussian(few, shrinkage=shrinkage)
    assert fitted.rank == 19
    rows = (few - few.mean(0)).flatten(1)
    covariance = rows.mT @ rows / 20
    if shrinkage != "none":
        expected, _ = (ledoit_wolf if shrinkage == "auto" else oas)(few.flatten(1).numpy())
        covariance = torch.from_numpy(expected)
    torch.testing.assert_close(fitted.covariance(), covariance, rtol=1e-9, atol=1e-11)
    overlap = fitted.basis.mT @ fitted.basis
    torch.testing.assert_close(overlap, torch.eye(19).double(), atol=1e-10, rtol=0)


def test_a_full_fit_of_few_large_images_is_fast():
    """d = 12 288: a d x d float32 matrix is 0.6 GB and its eigenvectors take minutes."""
    data = torch.randn(60, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    fitted = fit_gaussian(data)
    assert fitted.rank == 59 and fitted.residual > 0 and "Ledoit-Wolf" in fitted.note
    assert fitted.fit is not None and fitted.fit.samples == 60
    assert fitted.variance == pytest.approx(float((data - data.mean(0)).square().sum() / 60), rel=1e-4)


@pytest.mark.parametrize("sizes", [(40, None), (400, None), (400, 5)])
def test_a_fit_knows_the_error_of_its_covariance(sizes):
    """The mean squared error of repeated fits, for data that are not normal."""
    n, rank = sizes
    generator = torch.Generator().manual_seed(0)
    errors, stated, exact = [], [], torch.diag(1 / torch.arange(1, 7).double()) * (1 - 2 / torch.pi)
    for _ in range(60):
        data = torch.randn(n, 6, generator=generator, dtype=torch.float64).abs() * exact.diagonal().sqrt()
        data = data / (1 - 2 / torch.pi) ** 0.5
        fitted = fit_gaussian(data, shrinkage="none")
        errors.append(float((fitted.covariance() - exact).square().sum()))
        stated.append(fit_gaussian(data, rank=rank, shrinkage="none").fit.covariance_error)
    assert np.mean(stated) == pytest.approx(np.mean(errors), rel=0.3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["full", "low rank", "mixture", "training set"])
def test_half_precision_is_widened(images, kind, dtype):
    """From sigma = 256 up sigma^2 is infinite in float16, and the mean was all that came back."""
    law = {
        "full": lambda: fit_gaussian(images),
        "low rank": lambda: fit_gaussian(images, rank=5),
        "mixture": lambda: fit_kmeans(images, clusters=3, rank=2),
        "training set": lambda: TrainingSet(images[:50]),
    }[kind]()
    half, sigma = law.to(dtype), 400.0
    x = sigma * torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved, expected = half(x, sigma) - half.mean.double(), law(x, sigma) - law.mean
    assert (moved - expected).norm() < 0.2 * expected.norm()  # statistics are rounded, nothing more
    assert half(x.to(torch.float32), sigma).dtype == torch.float32
    if kind != "training set":
        wide = half.to(torch.float32)
        assert torch.equal(wide.mean, half.mean)


@pytest.mark.parametrize("seed", range(12))
def test_two_samples_are_shrunk_by_nothing(seed):
    """Their fourth moment is the square of their covariance: rounding may not make the weight negative."""
    pair = torch.randn(2, 64, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    law = fit_gaussian(pair)
    assert law.residual == pytest.approx(0, abs=1e-12) and law.residual >= 0
    total = float((pair[0] - pair[1]).square().sum()) / 4
    assert float(law.eigenvalues[0]) == pytest.approx(total)


def test_the_ledoit_wolf_weight_is_a_share():
    assert ledoit_wolf_weight(5.0, 2.0, 5.0 - 1e-15, 2, 64) == 0
    assert ledoit_wolf_weight(5.0, 2.0, 1e9, 2, 64) == 1


@pytest.mark.parametrize("seed", [4, 5, 6])
def test_clusters_of_two_samples_can_be_fitted(seed):
    images = torch.randn(20, 4, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert fit_kmeans(images, clusters=10).sample(3, generator=torch.Generator().manual_seed(0)).isfinite().all()
