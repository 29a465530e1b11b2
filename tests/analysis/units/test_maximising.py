"""Maximised units against a Gaussian law with linear units, where every step of the walk has a closed form."""

import numpy as np
import pytest
import torch
from torch import nn

from scorescope.analysis.units import maximise_unit
from scorescope.analysis.units.maximising import UNIT_ASCENT
from scorescope.data.errors import InputError

N, SIGMAS, STEP, STRENGTH = 24, [3.0, 1.0, 0.5], 0.2, 3.0
MEAN = torch.linspace(-1, 1, 16, dtype=torch.float64)
VARIANCES = torch.linspace(0.02, 2, 16, dtype=torch.float64)
FILTERS = torch.randn(2, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SLOPE = FILTERS[0] / 16  # of the mean of the first map


def draws(count, seed):
    noise = torch.randn(count, 16, generator=torch.Generator().manual_seed(seed))
    return (MEAN + VARIANCES.sqrt() * noise).reshape(count, 1, 4, 4)


class LinearUnits(nn.Module):
    """The exact denoiser of N(MEAN, VARIANCES), told a shift of the mean by its condition; nothing reads its sites.

    `maps` puts out x times two filters, `tokens` the same as tokens, `numbers` their means; `blind` zeros, and what has
    no gradient; `pair` two tensors.
    """

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale
        self.maps, self.tokens, self.numbers, self.blind, self.pair = (nn.Identity() for _ in range(5))

    def forward(self, x, sigma, condition=None):
        flat = x.flatten(1)
        filtered = flat[:, None] * FILTERS.to(x)
        self.maps(filtered.reshape(-1, 2, 4, 4) * self.scale)
        self.tokens(filtered.movedim(1, 2))
        self.numbers(filtered.mean(2))
        self.blind(torch.stack([0 * flat, flat], 1).reshape(-1, 2, 4, 4).detach())
        self.pair((filtered, filtered))
        mean = MEAN.to(x) + (0 if condition is None else condition[:, None].to(x))
        return (mean + gain(sigma[:, None]) * (flat - mean)).reshape(x.shape)


def gain(sigma):
    return VARIANCES / (VARIANCES + sigma**2)


def maximised(site="maps", unit=0, denoiser=None, **more):
    given = {"images": draws(N, 1), "sigmas": SIGMAS, "strength": STRENGTH, "steps": 5, "step": STEP, **more}
    return maximise_unit(denoiser or LinearUnits(), site, unit, given.pop("images"), **given)


def last(found):
    return found.ascent.iloc[-1]


def pulled(ascent, slope):
    """How far the unit has moved a state at each row, (row, element): its pull on the level's law, step by step.

    A step leaves the share 1 - step sigma^2 / V of what a state is off V w slope / s; then the noise of what it is off
    is brought to the next level.
    """
    found, away = [], torch.zeros(16, dtype=torch.float64)
    levels = ascent["sigma"].unique()
    for level, sigma in enumerate(levels):
        rows = ascent[ascent["sigma"] == sigma]
        law = VARIANCES + sigma**2
        goal = law * STRENGTH * slope / rows["spread"].iloc[0]
        parts = [goal + (1 - STEP * sigma**2 / law) ** k * (away - goal) for k in range(len(rows))]
        found += parts
        after = levels[min(level + 1, len(levels) - 1)]
        away = (gain(sigma) + after / sigma * (1 - gain(sigma))) * parts[-1]
    return torch.stack(found)


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize(("site", "unit"), [("maps", 0), ("maps", 1), ("tokens", 1), ("numbers", 0)])
def test_every_step_is_that_of_the_law(site, unit, noise):
    """Fresh noise is that of the control and cancels: the difference is exact for each image."""
    found = maximised(site, unit, noise=noise)
    UNIT_ASCENT.check(found.ascent)
    slope = FILTERS[unit] / 16
    away = pulled(found.ascent, slope)
    above = (away @ slope).numpy() / found.ascent["spread"]
    for column in ("above", "above_low", "above_high"):
        assert np.allclose(found.ascent[column], above, atol=1e-9)
    moved = (found.images - found.control).flatten(1)
    assert torch.allclose(moved, (gain(SIGMAS[-1]) * away[-1]).expand(N, -1), atol=1e-9)


def test_in_the_end_the_unit_is_raised_by_the_strength():
    """Of a normal unit, in its own standard deviations under the law; that of the images is of a sample."""
    row = last(maximised(sigmas=[0.5], steps=200, step=1.0))  # of the slowest direction 0.89^200 is left
    true = float((SLOPE**2 * (VARIANCES + 0.25)).sum().sqrt())
    assert row["above"] * row["spread"] / true == pytest.approx(STRENGTH * true / row["spread"], rel=1e-9)
    assert row["spread"] == pytest.approx(true, rel=0.3)  # of 24 images: two standard errors


def test_without_noise_the_walk_ends_at_the_state_of_highest_density():
    """MEAN + V w slope / s, wherever it began."""
    found = maximised(sigmas=[0.5], noise=0.0, steps=200, step=1.0)
    best = MEAN + VARIANCES * STRENGTH * SLOPE / last(found)["spread"]  # D of it
    assert torch.allclose(found.images.flatten(1), best.expand(N, -1), atol=1e-9)
    assert torch.allclose(found.control.flatten(1), MEAN.expand(N, -1), atol=1e-9)


def test_states_stay_as_noisy_as_the_steps_make_them():
    """(x - D) / sigma is sigma (x - mean) / V. Steps keep V to some per cent; the pull adds its square."""
    steps, sigma = 40, 0.5
    found = maximised(images=draws(240, 2), sigmas=[sigma], steps=steps)
    law = VARIANCES + sigma**2
    kept = (1 - STEP * sigma**2 / law) ** 2
    limit = STEP * (2 - STEP) * sigma**2 / (1 - kept)
    variance = limit + kept**steps * (law - limit)
    usual = (sigma / law) ** 2 * variance
    more = (sigma / law * pulled(found.ascent, SLOPE)[-1]).square()
    row = last(found)
    assert row["control_residual"] ** 2 == pytest.approx(float(usual.mean()), rel=0.08)  # three standard errors
    assert row["residual"] ** 2 == pytest.approx(float((usual + more).mean()), rel=0.08)
    assert float(variance.div(law).min()) > 0.9 and float(variance.div(law).max()) < 1.001


class ManyPoints(nn.Module):
    """The exact denoiser of -1 or 1 at each pixel by itself; the unit is the mean of the noisy image."""

    def __init__(self):
        super().__init__()
        self.maps = nn.Identity()

    def forward(self, x, sigma, condition=None):
        self.maps(x)
        return torch.tanh(x / sigma[:, None, None, None] ** 2)


def test_where_nothing_is_linear_states_are_drawn_from_the_tilted_law():
    """Mean and residual of p(x) exp(w a / s) by quadrature, which for each pixel is p(x) exp(tilt x).

    Of 4000 pixels the mean has a standard error of 0.02, and steps of 0.05 a bias of some per cent.
    """
    shape, sigma = (8, 1, 20, 25), 1.0
    images = torch.randint(2, shape, generator=torch.Generator().manual_seed(5)) * 2.0 - 1
    found = maximise_unit(ManyPoints(), "maps", 0, images, sigmas=[sigma], strength=20.0, steps=100, step=0.05)
    row, x = last(found), np.linspace(-12, 12, 4001)
    for tilt, mean, residual in (
        (20.0 / (500 * row["spread"]), row["value"], row["residual"]), (0.0, row["control"], row["control_residual"]),
    ):  # fmt: skip
        density = np.exp(-((x - 1) ** 2) / 2 + tilt * x) + np.exp(-((x + 1) ** 2) / 2 + tilt * x)
        density /= density.sum()
        assert mean == pytest.approx(density @ x, abs=0.08)
        assert residual**2 == pytest.approx(density @ (x - np.tanh(x)) ** 2, rel=0.1)
    assert row["value"] > 0.5  # a tilt that is seen


def test_noised_images_are_those_of_the_level():
    """Mean, spread and highest of a normal law: 960 images, four standard errors of the mean and the spread."""
    found = maximised(images=draws(960, 3), steps=1).ascent.drop_duplicates("sigma")
    true = [float((SLOPE**2 * (VARIANCES + sigma**2)).sum().sqrt()) for sigma in found["sigma"]]
    assert np.allclose(found["noised"], float(SLOPE @ MEAN), atol=4 * max(true) / 960**0.5)
    assert np.allclose(found["spread"], true, rtol=4 / 1920**0.5)
    assert (found["highest"] > found["noised"] + 2 * found["spread"]).all() and (found["n"] == 960).all()


def test_a_region_is_where_the_unit_is_averaged():
    region = torch.zeros(8, 8)
    region[:4] = 1  # two rows of the map
    ascent = maximised(region=region).ascent
    slope = torch.cat([FILTERS[0][:8] / 8, torch.zeros(8)])
    assert np.allclose(ascent["above"], (pulled(ascent, slope) @ slope).numpy() / ascent["spread"], atol=1e-5)


def test_nothing_outside_a_region_moves_its_mean():
    """The lower half a million times as bright: of the region alone the activation of noised images is as it was."""
    region, scale = torch.zeros(4, 4), torch.ones(4, 4, dtype=torch.float64)
    region[:2], scale[2:] = 1, 1e6
    dark, bright = maximised(region=region).ascent, maximised(denoiser=LinearUnits(scale), region=region).ascent
    assert np.allclose(dark["noised"], bright["noised"], rtol=1e-9, atol=0)


def test_conditions_batches_and_seeds():
    """A shift of the law moves control and pulled states alike; batches change nothing."""
    shift = torch.linspace(0, 5, N)
    plain, whole, parts = (maximised(**more) for more in ({}, {"condition": shift}, {"condition": shift, "batch": 5}))
    assert np.allclose(whole.ascent.select_dtypes(float), parts.ascent.select_dtypes(float), rtol=1e-6)
    assert torch.allclose(whole.images, parts.images) and not torch.allclose(whole.images, plain.images)
    assert not torch.allclose(maximised(seed=1).control, plain.control)


def test_without_strength_it_is_its_own_control():
    found = maximised(strength=0.0)
    first = found.ascent.iloc[0]
    assert first["value"] == first["control"] == first["noised"] and (found.ascent["above"] == 0).all()
    assert first["low"] < first["value"] < first["high"] < first["highest"] and torch.equal(found.images, found.control)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"images": draws(7, 1)}, "images, sigmas: found 7, "),
        ({"sigmas": []}, "images, sigmas: found 24, "),
        ({"sigmas": [1.0, 2.0]}, "images, sigmas: found 24, "),
        ({"sigmas": [1.0, 0.0]}, "sigmas"),
        ({"strength": np.inf}, "strength, steps, step, noise"),
        ({"steps": 0}, "strength, steps, step, noise"),
        ({"step": 1.5}, "strength, steps, step, noise"),
        ({"noise": -1.0}, "strength, steps, step, noise"),
        ({"batch": 0}, "strength, steps, step, noise, batch"),
        ({"unit": 2}, "unit: found 2"),
        ({"unit": -1}, "unit: found -1"),
        ({"site": "map"}, "site: found 'map'"),
        ({"site": "blind"}, "unit: found a spread of 0.0"),
        ({"site": "blind", "unit": 1}, "'blind', without a gradient"),
        ({"site": "pair"}, "puts out a tuple"),
        ({"site": "numbers", "region": torch.ones(2, 2)}, "region: found a region, of a site that puts out"),
        ({"region": torch.zeros(4, 4)}, "region: found shape"),
        ({"region": torch.ones(1, 4, 4)}, "region: found shape"),
        ({"condition": torch.zeros(3)}, "condition: found 3 rows"),
        ({"strength": 1e300, "step": 1.0}, "states grew without bound"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        maximised(**given)


def test_gradients_have_to_be_on():
    with torch.no_grad(), pytest.raises(InputError, match="gradients enabled"):
        maximised()
