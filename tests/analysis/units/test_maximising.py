"""Maximised units against a Gaussian law with linear units, where every step of the walk has a closed form."""

import numpy as np
import pytest
import torch
from torch import nn

from scorescope.analysis.units import maximise_unit
from scorescope.analysis.units.maximising import UNIT_ASCENT
from scorescope.data.errors import InputError

N, SIGMA, STEP = 24, 0.5, 0.2
MEAN = torch.linspace(-1, 1, 16, dtype=torch.float64)
VARIANCES = torch.linspace(0.02, 2, 16, dtype=torch.float64)
FILTERS = torch.randn(2, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
IMAGES = (MEAN + VARIANCES.sqrt() * torch.randn(N, 16, generator=torch.Generator().manual_seed(1))).reshape(N, 1, 4, 4)
NOISY = VARIANCES + SIGMA**2  # variances of noised images


class LinearUnits(nn.Module):
    """The exact denoiser of N(MEAN, VARIANCES), told a shift of the mean by its condition; sites that nothing reads.

    `maps` puts out x times two filters, `tokens` the same as tokens, `numbers` their means, `blind` zeros and what has
    no gradient.
    """

    def __init__(self):
        super().__init__()
        self.maps, self.tokens, self.numbers, self.blind, self.pair = (nn.Identity() for _ in range(5))

    def forward(self, x, sigma, condition=None):
        flat = x.flatten(1)
        filtered = flat[:, None] * FILTERS.to(x)
        self.maps(filtered.reshape(-1, 2, 4, 4))
        self.tokens(filtered.movedim(1, 2))
        self.numbers(filtered.mean(2))
        self.blind(torch.stack([0 * flat, flat], 1).reshape(-1, 2, 4, 4).detach())
        self.pair((filtered, filtered))
        mean = MEAN.to(x) + (0 if condition is None else condition[:, None].to(x))
        gain = VARIANCES.to(x) / (VARIANCES.to(x) + sigma[:, None] ** 2)
        return (mean + gain * (flat - mean)).reshape(x.shape)


NETWORK = LinearUnits()


def maximised(site="maps", unit=0, **more):
    given = {"sigma": SIGMA, "strength": 3.0, "steps": 12, "step": STEP, **more}
    return maximise_unit(NETWORK, site, unit, given.pop("images", IMAGES), **given)


def pulled(slope, spread, iterations, strength=3.0):
    """How far the unit's pull alone has moved a state after some steps: (iteration, element).

    A step leaves the share 1 - step sigma^2 / V of what a state is off V w slope / spread.
    """
    kept = (1 - STEP * SIGMA**2 / NOISY) ** torch.arange(iterations + 1)[:, None]
    return (1 - kept) * NOISY * strength * slope / spread


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize(("site", "unit"), [("maps", 0), ("maps", 1), ("tokens", 1), ("numbers", 0)])
def test_every_step_is_that_of_the_law(site, unit, noise):
    """Fresh noise is that of the control and cancels: the difference is exact for each image."""
    found = maximised(site, unit, noise=noise)
    UNIT_ASCENT.check(found.ascent)
    slope = FILTERS[unit] / 16
    away = pulled(slope, found.ascent["spread"].iloc[0], 12)
    above = (away @ slope / found.ascent["spread"].iloc[0]).numpy()
    for column in ("above", "above_low", "above_high"):
        assert np.allclose(found.ascent[column], above, atol=1e-9)
    gain = VARIANCES / NOISY
    assert torch.allclose((found.images - found.control).flatten(1), (gain * away[-1]).expand(N, -1), atol=1e-9)


def test_in_the_end_the_unit_is_raised_by_the_strength():
    """Of a normal unit, in its own standard deviations under the law; that of the images is of a sample."""
    found = maximised(steps=200, step=1.0)  # of the slowest direction 0.89^200 is left
    slope = FILTERS[0] / 16
    true = float((slope**2 * NOISY).sum().sqrt())
    assert found.ascent["above"].iloc[-1] * found.ascent["spread"].iloc[0] / true == pytest.approx(
        3.0 * true / found.ascent["spread"].iloc[0], rel=1e-5
    )
    assert found.ascent["spread"].iloc[0] == pytest.approx(true, rel=0.3)  # of 24 images: two standard errors


def test_without_noise_the_walk_ends_at_the_state_of_highest_density():
    """MEAN + V w slope / spread, wherever it began."""
    found = maximised(noise=0.0, steps=200, step=1.0)
    slope = FILTERS[0] / 16
    best = MEAN + VARIANCES * 3.0 * slope / found.ascent["spread"].iloc[0]  # D of MEAN + V ...
    assert torch.allclose(found.images.flatten(1), best.expand(N, -1), atol=1e-6)
    assert torch.allclose(found.control.flatten(1), MEAN.expand(N, -1), atol=1e-6)


def test_states_stay_as_noisy_as_the_steps_make_them():
    """(x - D) / sigma is sigma (x - mean) / V. Steps keep V to some per cent; the pull adds its square."""
    steps, images = 40, MEAN + VARIANCES.sqrt() * torch.randn(240, 16, generator=torch.Generator().manual_seed(2))
    found = maximised(images=images.reshape(-1, 1, 4, 4), steps=steps)
    kept = (1 - STEP * SIGMA**2 / NOISY) ** 2
    limit = STEP * (2 - STEP) * SIGMA**2 / (1 - kept)
    variance = limit + kept**steps * (NOISY - limit)
    usual, last = (SIGMA / NOISY) ** 2 * variance, found.ascent.iloc[-1]
    assert last["control_residual"] ** 2 == pytest.approx(float(usual.mean()), rel=0.08)  # three standard errors
    more = (SIGMA / NOISY * pulled(FILTERS[0] / 16, found.ascent["spread"].iloc[0], steps)[-1]).square()
    assert last["residual"] ** 2 == pytest.approx(float((usual + more).mean()), rel=0.08)
    assert float(variance.div(NOISY).min()) > 0.9 and float(variance.div(NOISY).max()) < 1.001


def test_a_region_is_where_the_unit_is_averaged():
    region = torch.zeros(8, 8)
    region[:4] = 1  # two rows of the map
    found = maximised(region=region)
    slope = torch.cat([FILTERS[0][:8] / 8, torch.zeros(8)])
    assert np.allclose(
        found.ascent["above"],
        pulled(slope, found.ascent["spread"].iloc[0], 12) @ slope / found.ascent["spread"].iloc[0],
        atol=1e-5,
    )


def test_conditions_and_batches():
    """A shift of the law moves control and pulled states alike; batches change nothing."""
    shift = torch.linspace(0, 5, N)
    whole, parts = (maximised(condition=shift, batch=batch) for batch in (64, 5))
    assert np.allclose(whole.ascent.select_dtypes(float), parts.ascent.select_dtypes(float), rtol=1e-6)
    assert torch.allclose(whole.images - whole.control, maximised().images - maximised().control, atol=1e-9)
    assert not torch.allclose(whole.images, maximised().images)
    assert not torch.allclose(maximised(seed=1).control, maximised().control)


def test_the_start_is_that_of_noised_images():
    found = maximised(strength=0.0)
    first = found.ascent.iloc[0]
    assert first["value"] == first["control"] and (found.ascent["above"] == 0).all()
    assert first["low"] < first["value"] < first["high"] < first["highest"]
    assert found.start.shape == IMAGES.shape and torch.equal(found.images, found.control)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"images": IMAGES[:7]}, "images, sigma: found 7, 0.5"),
        ({"sigma": 0.0}, "images, sigma: found 24, 0.0"),
        ({"strength": np.inf}, "strength, steps, step, noise"),
        ({"steps": 0}, "strength, steps, step, noise"),
        ({"step": 1.5}, "strength, steps, step, noise"),
        ({"noise": -1.0}, "strength, steps, step, noise"),
        ({"unit": 2}, "unit: found 2"),
        ({"unit": -1}, "unit: found -1"),
        ({"site": "map"}, "site: found 'map'"),
        ({"site": "blind"}, "unit: found a spread of 0.0; expected a unit that varies"),
        ({"site": "blind", "unit": 1}, "'blind', without a gradient"),
        ({"site": "pair"}, "puts out a tuple"),
        ({"site": "numbers", "region": torch.ones(2, 2)}, "region: found a region, of a site that puts out"),
        ({"region": torch.zeros(4, 4)}, "region: found shape"),
        ({"region": torch.ones(1, 4, 4)}, "region: found shape"),
        ({"condition": torch.zeros(3)}, "condition: found 3 rows"),
        ({"strength": 1e300}, "states grew without bound"),
    ],
)
def test_bad_input_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        maximised(**given)


def test_gradients_have_to_be_on():
    with torch.no_grad(), pytest.raises(InputError, match="gradients enabled"):
        maximised()
