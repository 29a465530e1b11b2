import pytest
import torch

from scorescope.data import InputError
from scorescope.probes import NoiseLevel, to_denoised
from scorescope.probes.models import SPACES, from_denoised

SD = 0.5


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


def levels(count):
    sigma = torch.logspace(-2.7, 1.9, count, dtype=torch.float64)
    return {"ve": NoiseLevel.ve(sigma), "vp": NoiseLevel.vp(sigma), "flow": NoiseLevel.flow(sigma / (1 + sigma))}


@pytest.mark.parametrize("shape", [(5,), (2, 3), (1, 4, 4), (2, 2, 3, 3)])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("convention", ["ve", "vp", "flow"])
def test_round_trips_both_ways(convention, space, shape):
    # 1e-12 relative to the larger of x and the prediction, and to the factor by which the space divides
    level = levels(9)[convention]
    x, denoised = draw(9, *shape), draw(9, *shape) + 0.3
    there = from_denoised(denoised, x, level, space=space, sigma_data=SD)
    back = to_denoised(there, x, level, space=space, sigma_data=SD)
    assert torch.allclose(back, denoised, rtol=1e-12, atol=1e-12 * float(1 + level.sigma.max()))
    again = from_denoised(back, x, level, space=space, sigma_data=SD)
    assert torch.allclose(again, there, rtol=1e-11, atol=1e-12 * float(there.abs().max()))


@pytest.mark.parametrize("convention", ["ve", "vp", "flow"])
def test_every_space_says_what_it_is_defined_to_be(convention):
    # build x from a known x0 and n: the perfect network of each space predicts its definition
    level = levels(9)[convention]
    x0, n = draw(9, 3, 4), draw(9, 3, 4) * 0.9
    alpha, s = (value[:, None, None] for value in (level.alpha, level.s))
    x, sigma = alpha * x0 + s * n, s / alpha
    expected = {
        "denoised": x0,
        "eps": n,
        "v": (alpha * n - s * x0) / (alpha**2 + s**2).sqrt(),
        "flow": n - x0,
        "score": -n / s,
        "edm": (x0 - SD**2 / (SD**2 + sigma**2) * x / alpha) * (SD**2 + sigma**2).sqrt() / (sigma * SD),
    }
    for space, prediction in expected.items():
        found = to_denoised(prediction, x, level, space=space, sigma_data=SD)
        assert torch.allclose(found, x0, rtol=1e-9, atol=1e-12 * float(1 + sigma.max() ** 2)), space


def test_v_in_the_two_published_forms():
    sigma = torch.tensor([0.3, 4.0], dtype=torch.float64)
    x_ve, v = draw(2, 6), draw(2, 6)
    ve = to_denoised(v, x_ve, NoiseLevel.ve(sigma), space="v")
    s = sigma[:, None]
    assert torch.allclose(ve, x_ve / (s**2 + 1) - v * s / (s**2 + 1).sqrt(), rtol=1e-14)
    level = NoiseLevel.vp(sigma)
    vp = to_denoised(v, level.from_ve(x_ve), level, space="v")
    assert torch.allclose(vp, ve, rtol=1e-13)
    assert torch.allclose(level.to_ve(level.from_ve(x_ve)), x_ve, rtol=1e-15)


@pytest.mark.parametrize("space", [space for space in SPACES if space != "denoised"])
def test_linear_guidance_is_the_same_in_every_space(space):
    level = NoiseLevel.vp(torch.tensor([0.2, 1.0, 9.0], dtype=torch.float64))
    x, cond, uncond = draw(3, 8), draw(3, 8) * 0.5, draw(3, 8) * 0.4 + 1
    raw = [from_denoised(d, x, level, space=space, sigma_data=SD) for d in (cond, uncond)]
    guided = to_denoised(raw[1] + 3.5 * (raw[0] - raw[1]), x, level, space=space, sigma_data=SD)
    assert torch.allclose(guided, uncond + 3.5 * (cond - uncond), rtol=1e-10)


def test_levels_that_determine_nothing_are_not_finite():
    level = NoiseLevel(torch.zeros(1), torch.ones(1))  # zero terminal SNR
    x, prediction = torch.ones(1, 4), torch.full((1, 4), 0.5)
    assert not to_denoised(prediction, x, level, space="eps").isfinite().any()
    assert torch.equal(to_denoised(prediction, x, level, space="v"), -prediction)


def test_bad_input():
    x, level = torch.zeros(2, 3), NoiseLevel.ve(torch.ones(2))
    with pytest.raises(InputError, match="space: found 'noise'"):
        to_denoised(x, x, level, space="noise")
    with pytest.raises(InputError, match="sigma_data"):
        from_denoised(x, x, level, space="edm")
    with pytest.raises(InputError, match="prediction"):
        to_denoised(torch.zeros(2, 4), x, level, space="eps")
