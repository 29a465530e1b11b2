"""Guidance by a loss: exact for a classifier of noisy states, closed forms of a Gaussian, recorded like other rules."""

import pytest
import torch
from tests.mixtures import draw_labelled

from scorescope.data import InputError
from scorescope.probes.approximations import Gaussian
from scorescope.probes.gradients import LossGuidance
from scorescope.probes.models import edm_sigmas
from scorescope.probes.recording import Recording
from scorescope.probes.sampling import Euler, RuleField, run_to_end, sample

LAW = draw_labelled(6).law
VARIANCES = torch.tensor([2.0, 0.3, 0.05], dtype=torch.float64)
GAUSSIAN = Gaussian(torch.tensor([1.0, 0.0, -1.0]).double(), torch.eye(3).double(), VARIANCES)
TARGET = torch.tensor([0.5, 1.0, -2.0], dtype=torch.float64)
NONE = torch.zeros(6, dtype=torch.long)  # a condition that the denoisers below do not look at


def without_labels(x, sigma, condition):
    return LAW(x, sigma)


def of_class(k):
    return lambda x, sigma: -LAW.responsibilities(x, sigma)[:, k].log()


def squares(value, sigma):
    return (value - TARGET).square().sum(1) / 2


def states(shape, sigma):
    return sigma * torch.randn(6, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def guided(rule, denoiser, x, sigma):
    return RuleField(denoiser, rule)(x, torch.full((6,), sigma, dtype=torch.float64), NONE)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("k", [0, 2])
def test_with_the_classifier_of_noisy_states_it_is_the_conditional_denoiser(sigma, k):
    x = states((8,), sigma)
    found = guided(LossGuidance(of_class(k), of="state"), without_labels, x, sigma)
    torch.testing.assert_close(found, LAW.components[k](x, sigma), rtol=1e-9, atol=1e-9)


def test_its_samples_are_then_those_of_the_class():
    start, levels = states((8,), 5.0), edm_sigmas(6, sigma_max=5.0, sigma_min=0.1)
    field = RuleField(without_labels, LossGuidance(of_class(1), of="state"))
    end, _ = run_to_end(field, start, levels, condition=NONE)
    torch.testing.assert_close(end, run_to_end(LAW.components[1], start, levels)[0], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("of", ["denoiser", "prediction", "state"])
def test_of_a_gaussian_each_form_is_known(of):
    sigma, x = 0.7, states((3,), 2.0)
    denoised, shrinkage = GAUSSIAN(x, sigma), VARIANCES / (VARIANCES + sigma**2)
    shift = {
        "denoiser": shrinkage * (denoised - TARGET),
        "prediction": denoised - TARGET,
        "state": x - TARGET,
    }[of]
    found = guided(LossGuidance(squares, scale=0.4, of=of), GAUSSIAN, x, sigma)
    torch.testing.assert_close(found, denoised - 0.4 * sigma**2 * shift)
    weaker = guided(LossGuidance(squares, of=of, strength=lambda sigma: 0.1 / sigma), GAUSSIAN, x, sigma)
    torch.testing.assert_close(weaker, denoised - 0.1 / sigma * shift)


def test_a_projection_takes_the_guided_prediction_back():
    sigma, x = 0.7, states((3,), 2.0)
    rule = LossGuidance(squares, of="prediction", project=lambda value: value * torch.tensor([1.0, 0.0, 1.0]).double())
    denoised = GAUSSIAN(x, sigma)
    expected = (denoised - sigma**2 * (denoised - TARGET)) * torch.tensor([1.0, 0.0, 1.0]).double()
    torch.testing.assert_close(guided(rule, GAUSSIAN, x, sigma), expected)


def test_it_acts_between_its_levels_and_is_recorded_like_other_rules():
    rule = LossGuidance(squares, of="prediction", low=0.5, high=3.0)
    levels = [5.0, 2.0, 1.0, 0.3]
    run = sample(
        GAUSSIAN, seeds=range(6), condition=NONE, rule=rule, sigmas=levels, solver=Euler(), record=Recording(),
        dtype=torch.float64, progress=False,
    )  # fmt: skip
    table = run.trace.scalars
    inside = table[table["sigma"].isin([2.0, 1.0])]
    assert (inside["update_sq"] > 0).all() and (inside["needed"] == 2).all()
    assert table[table["sigma"] == 5.0]["update_sq"].isna().all()


def test_losses_and_forms_that_do_not_fit_are_refused():
    x = states((3,), 1.0)
    for loss in (lambda value, sigma: value, lambda value, sigma: torch.zeros(6)):
        with pytest.raises(InputError, match="loss"):
            guided(LossGuidance(loss), GAUSSIAN, x, 1.0)
    with pytest.raises(InputError, match="project"):
        LossGuidance(squares, project=lambda value: value)
    with pytest.raises(InputError, match="scale"):
        LossGuidance(squares, scale=float("nan"))
