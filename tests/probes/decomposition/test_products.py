import colorsys

import numpy as np
import pytest
import torch

from scorescope.data import InputError
from scorescope.probes.decomposition import products as decomposition
from scorescope.probes.decomposition.products import (
    band_products,
    branch_products,
    centred_products,
    chosen_products,
    guided_products,
    image_statistics,
    projection_products,
)
from scorescope.probes.guidance import APG, GuidanceState

SHAPES = [(7,), (3, 50), (3, 9, 5), (2, 3, 8, 6), (4, 64, 64)]
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def branches(shape, dtype, batch=5, ratio=0.05):
    generator = torch.Generator().manual_seed(sum(shape))
    cond = torch.randn(batch, *shape, generator=generator, dtype=torch.float64)
    uncond = cond + ratio * torch.randn(batch, *shape, generator=generator, dtype=torch.float64)
    x = cond + 2 * torch.randn(batch, *shape, generator=generator, dtype=torch.float64)
    return cond.to(dtype), uncond.to(dtype), x.to(dtype)


def naive(cond, uncond, x):
    c, u, x = (t.double().flatten(1) for t in (cond, uncond, x))
    d, e = c - u, x - c
    pairs = {"cond_sq": (c, c), "uncond_sq": (u, u), "update_sq": (d, d), "update_cond": (d, c), "noise_sq": (e, e)}
    return {name: (a * b).sum(1) for name, (a, b) in (pairs | {"update_noise": (d, e)}).items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_products_equal_the_naive_float64_formula(shape, dtype):
    cond, uncond, x = branches(shape, dtype)
    found, expected = branch_products(cond, uncond, x), naive(cond, uncond, x)
    for name, value in expected.items():
        # inner products cancel: the bound is relative to the norms of their two factors
        scale = value if name.endswith("_sq") else (found["update_sq"] * expected["cond_sq"]).sqrt()
        assert found[name].dtype == torch.float64
        assert ((found[name] - value).abs() <= 1e-10 * scale.abs()).all(), name


def test_blocks_do_not_change_the_result(monkeypatch):
    cond, uncond, x = branches((3, 20, 20), torch.float32, batch=7)
    whole = branch_products(cond, uncond, x) | centred_products(cond, uncond)
    monkeypatch.setattr(decomposition, "_CACHE_ELEMENTS", 333)  # several blocks a row, then several rows a block
    small = branch_products(cond, uncond, x) | centred_products(cond, uncond)
    for name, value in whole.items():
        assert torch.allclose(small[name], value, rtol=1e-12), name


def test_parts_from_products_are_the_parts():
    cond, uncond, x = branches((4, 16, 16), torch.float32)
    sums = branch_products(cond, uncond, x)
    c, d = cond.double().flatten(1), (cond.double() - uncond.double()).flatten(1)
    unit = c / c.norm(dim=1, keepdim=True)
    parallel = (d * unit).sum(1, keepdim=True) * unit
    assert torch.allclose((sums["update_cond"] ** 2 / sums["cond_sq"]).sqrt(), parallel.norm(dim=1), rtol=1e-10)
    orthogonal = (sums["update_sq"] - sums["update_cond"] ** 2 / sums["cond_sq"]).sqrt()
    assert torch.allclose(orthogonal, (d - parallel).norm(dim=1), rtol=1e-10)


def test_nearly_equal_branches_keep_their_digits():
    # d is 1e-6 of c: squaring before subtracting would lose 12 of 16 digits
    cond, uncond, x = branches((4, 64, 64), torch.float64, ratio=1e-6)
    assert torch.allclose(
        branch_products(cond, uncond, x)["update_sq"], (cond - uncond).square().sum((1, 2, 3)), rtol=1e-12
    )


def test_missing_branch_is_missing():
    cond, _, x = branches((3, 4), torch.float32)
    found = branch_products(cond, None, x)
    assert found["cond_sq"].isfinite().all() and found["noise_sq"].isfinite().all()
    assert all(found[name].isnan().all() for name in ("uncond_sq", "update_sq", "update_cond", "update_noise"))


def test_products_without_a_state():
    cond, uncond, x = branches((3, 4), torch.float32)
    found, whole = branch_products(cond, uncond), branch_products(cond, uncond, x)
    assert all(torch.equal(found[name], whole[name]) for name in ("cond_sq", "uncond_sq", "update_sq", "update_cond"))
    assert found["noise_sq"].isnan().all() and found["update_noise"].isnan().all()


def test_projection_products():
    cond, uncond, _ = branches((3, 9, 5), torch.float32)
    dd, dc, cc = projection_products(cond - uncond, cond)
    d, c = (cond - uncond).double().flatten(1), cond.double().flatten(1)
    for found, (a, b) in zip((dd, dc, cc), ((d, d), (d, c), (c, c)), strict=True):
        assert torch.allclose(found, (a * b).sum(1), rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_centred_products(shape):
    cond, uncond, _ = branches(shape, torch.float32)
    axes = tuple(range(min(2, len(shape)), len(shape) + 1))
    c, u = (t.double() - t.double().mean(axes, keepdim=True) for t in (cond, uncond))
    found = centred_products(cond, uncond)
    assert torch.allclose(found["centred_update_sq"], (c - u).flatten(1).square().sum(1), rtol=1e-10)
    assert torch.allclose(found["centred_update_cond"], ((c - u) * c).flatten(1).sum(1), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_bands_sum_to_the_whole(shape):
    cond, uncond, _ = branches(shape, torch.float32)
    found = band_products(cond, uncond, (0.125, 0.25))
    update = (cond.double() - uncond.double()).flatten(1).square().sum(1)
    assert torch.allclose(sum(found[f"update_sq_band{k}"] for k in range(3)), update, rtol=1e-12)
    assert torch.allclose(
        sum(found[f"cond_sq_band{k}"] for k in range(3)), cond.double().flatten(1).square().sum(1), rtol=1e-12
    )


def test_bands_hold_their_frequencies():
    grid = torch.arange(32, dtype=torch.float64)
    slow, fast = (torch.cos(2 * torch.pi * f * grid)[None, None, :].repeat(1, 32, 1) for f in (1 / 32, 12 / 32))
    uncond = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    energy = 32 * 16  # of a cosine over 32 x 32 points
    found = band_products((slow + 2 * fast)[None], uncond, (0.2,))
    assert found["update_sq_band0"].item() == pytest.approx(energy, rel=1e-12)
    assert found["update_sq_band1"].item() == pytest.approx(4 * energy, rel=1e-12)


def test_overshoot_counts_what_rounding_to_a_picture_cannot_undo():
    images = torch.tensor([[[-1.5, -1.0, 0.0, 1.0], [1.001, 1.1, 1.0, 0.5]]])
    found = image_statistics(images, (-1, 1))
    assert found["overshoot_share"].item() == pytest.approx(2 / 8)  # 1.001 is within half an 8-bit level
    assert found["overshoot_mean"].item() == pytest.approx((0.5 + 0.001 + 0.1) / 8, rel=1e-5)
    assert image_statistics(images, None)["overshoot_share"].isnan().all()


def test_saturation_is_that_of_the_standard_library():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 5, 5, generator=generator, dtype=torch.float64)
    images[0, :, 0, 0] = 0  # black: saturation 0
    expected = [np.mean([colorsys.rgb_to_hsv(*pixel)[1] for pixel in image.flatten(1).T.tolist()]) for image in images]
    found = image_statistics(2 * images - 1, (-1, 1))
    assert np.allclose(found["saturation"], expected, rtol=1e-12)
    luma = torch.tensordot(torch.tensor([0.299, 0.587, 0.114]).double(), images, dims=([0], [1]))
    assert np.allclose(found["contrast"], 2 * luma.flatten(1).std(1, correction=0), rtol=1e-6)
    assert image_statistics(images[:, :1], (0, 1))["saturation"].isnan().all()


def test_guided_products_measure_what_was_applied():
    cond, uncond, _ = branches((3, 8, 8), torch.float64)
    found = guided_products(uncond + 3 * (cond - uncond), cond, None)
    sums = branch_products(cond, uncond, cond)
    assert torch.allclose(found["applied_sq"], 4 * sums["update_sq"], rtol=1e-10)
    assert torch.allclose(found["applied_cond"], 2 * sums["update_cond"], rtol=1e-8)


def test_bad_input():
    cond, uncond, x = branches((3, 4), torch.float32)
    with pytest.raises(InputError, match="uncond: found shape"):
        branch_products(cond, uncond[:, :2], x)
    with pytest.raises(InputError, match="cond: found shape"):
        branch_products(cond[:0], uncond[:0], x[:0])
    for edges in [(0.3, 0.2), (0.0,), (0.6,), (0.2, 0.2)]:
        with pytest.raises(InputError, match="edges"):
            band_products(cond, uncond, edges)


def test_threads_change_rounding_only():
    cond, uncond, x = torch.randn(3, 9, 4, 256, 128, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(
                branch_products(cond, uncond, x) | {"apg": APG(4.0)(cond, uncond, GuidanceState(x, 2.0, 1.0, 3, 0))}
            )
    finally:
        torch.set_num_threads(threads)
    apart = found[0].pop("apg"), found[1].pop("apg")
    assert (apart[0] - apart[1]).abs().max() < 1e-5  # one rounding of float32 values of order 10
    size = torch.stack([found[0][name] for name in ("cond_sq", "uncond_sq", "noise_sq")]).amax()
    # sums of 131072 products in another order: float64 rounding of the largest of them
    assert all((found[0][name] - found[1][name]).abs().max() < 1e-12 * size for name in found[0])


def test_chosen_products_are_those_of_all_of_them_bit_by_bit():
    cond, uncond, x = torch.randn(3, 5, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    whole = branch_products(cond, uncond, x)
    for names in (("update_cond",), ("noise_sq", "cond_sq"), ("update_noise", "update_sq", "uncond_sq")):
        found = chosen_products(names, cond, uncond, x)
        assert all(torch.equal(found[name], whole[name]) for name in names)
    expected = (cond.double() * (x.double() - cond.double())).sum((1, 2, 3))
    assert torch.allclose(chosen_products(["cond_noise"], cond, None, x)["cond_noise"], expected, rtol=1e-12)


@pytest.mark.parametrize("size", [100, 8192, 20_000])
def test_products_in_the_type_of_the_data_are_right_to_its_precision(size):
    update, cond = torch.randn(2, 3, size, generator=torch.Generator().manual_seed(0))
    exact = projection_products(update, cond)
    quick = projection_products(update, cond, exact=False)
    sizes = exact[0].sqrt() * exact[2].sqrt()  # |d| |c|: <d,c> of vectors that are nearly orthogonal is far smaller
    for a, b, size in zip(quick, exact, (exact[0], sizes, exact[2]), strict=True):
        assert a.dtype == torch.float64 and ((a - b).abs() <= 1e-6 * size).all()
    in_double = projection_products(update.double(), cond.double(), exact=False)
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(in_double, exact, strict=True))


def test_products_do_not_depend_on_the_length_of_what_stands_beside(monkeypatch):
    # samples long enough for a loop of their own, against the same as a block of tensors; bfloat16 too
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        cond, uncond, x = torch.randn(3, 2, 5000, generator=torch.Generator().manual_seed(0)).to(dtype)
        monkeypatch.setattr("scorescope.probes.decomposition.products._on_host_by_rows", lambda first: True)
        by_rows = branch_products(cond, uncond, x)
        with monkeypatch.context() as patch:
            patch.setattr("scorescope.probes.decomposition.products._on_host_by_rows", lambda first: False)
            as_block = branch_products(cond, uncond, x)
        assert all(torch.allclose(by_rows[name], as_block[name], rtol=1e-12, atol=1e-12) for name in by_rows)
