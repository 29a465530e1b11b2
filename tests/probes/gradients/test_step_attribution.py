import warnings
from dataclasses import replace

import pytest
import torch
from tests.probes.gradients.test_step import Reused
from tests.token_denoisers import DiffusersDenoiser, LinearDenoiser, small_unet, unet_points
from torch import nn

from scorescope.data.errors import InputError
from scorescope.probes.gradients.captum_methods import INPUT_METHODS, REFUSED
from scorescope.probes.gradients.heads import attribute_score, guidance_energy, projection
from scorescope.probes.gradients.memory_budget import rows_within
from scorescope.probes.gradients.step import make_step, same_noise
from scorescope.probes.gradients.step_attribution import CompletenessWarning, activation_baseline, attribute_step
from scorescope.probes.sites.modules import capture

SITE = "network.middle1"


@pytest.fixture(scope="module")
def unet():
    return small_unet()


@pytest.fixture(scope="module")
def step(unet):
    x, labels = unet_points()
    direction = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(3))
    return make_step(unet, x, 1.0, labels, head=projection(direction), weight=5.0)


@pytest.mark.parametrize("method", ["IntegratedGradients", "InputXGradient", "FeatureAblation", "ShapleyValueSampling"])
def test_a_linear_denoiser_is_attributed_exactly(method):
    denoiser = LinearDenoiser()
    x, tokens = torch.randn(4, 7, dtype=torch.float64), torch.randn(4, 2, 3, dtype=torch.float64)
    null, direction = torch.randn(1, 2, 3, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    step = make_step(denoiser, x, 0.5, tokens, head=projection(direction), weight=3.0, null=null)
    closed = 3 * (tokens - null) * (denoiser.b.weight.T @ direction).reshape(2, 3)
    found = attribute_step(step, method)
    # captum accumulates Shapley values in float32, and gives the points of the path integral to about 1e-9
    tolerance = 1e-5 if method == "ShapleyValueSampling" else 1e-7
    torch.testing.assert_close(found.by_token, closed.sum(2).detach(), rtol=tolerance, atol=tolerance)
    assert found.total_residual < (1e-6 if method == "ShapleyValueSampling" else 1e-8)
    other = attribute_step(step, method, to="x", baseline=torch.zeros(1, 7, dtype=torch.float64))
    # D_w - D_u does not depend on x: the effect is none, up to rounding
    assert other.effect.abs().max() < 1e-12 and other.values.abs().max() < 1e-12


def test_layer_attributions_sum_to_w_times_the_unguided_effect_and_a_plain_wrap_does_not(unet, step):
    from captum.attr import LayerIntegratedGradients

    plain = make_step(unet, step.x, 1.0, step.tokens, head=step.head, weight=1.0)
    found, unguided = (attribute_step(s, "LayerIntegratedGradients", to=SITE) for s in (step, plain))
    torch.testing.assert_close(found.values.flatten(1).sum(1), 5 * unguided.effect, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.effect, 5 * unguided.effect, rtol=1e-4, atol=1e-4)
    assert found.total_residual < 1e-3

    def wrapped(tokens, x, null):
        """The guided step as it stands in a sampling loop: two calls of the same module."""
        level = torch.full((len(x),), 1.0)
        low, high = unet(x, level, null), unet(x, level, tokens)
        return ((low + 5.0 * (high - low) - low) * step.constants[0][0]).flatten(1).sum(1)

    method = LayerIntegratedGradients(wrapped, unet.network.middle1)
    sums = method.attribute(step.tokens.clone(), step.null.clone(), additional_forward_args=(step.x, step.null))
    missed = (sums.flatten(1).sum(1) - found.effect).norm() / found.effect.norm()
    assert missed > 0.5


def test_two_independent_ways_to_a_site_agree(step):
    hooked = attribute_step(step, "LayerIntegratedGradients", to=SITE)
    replaced = attribute_step(step, "IntegratedGradients", to=SITE)
    torch.testing.assert_close(hooked.values, replaced.values, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(hooked.effect, replaced.effect)
    other = activation_baseline(step.denoiser, SITE, step.x, 1.0, step.tokens)
    assert attribute_step(step, "IntegratedGradients", to=SITE, baseline=other).total_residual < 1e-3


def test_grad_cam_is_the_pooled_gradient_times_the_activation(unet, step):
    with capture(unet, [SITE]) as taken:
        unet(step.x, torch.ones(5), step.tokens)
    activation = taken[SITE].requires_grad_()
    gradient = torch.autograd.grad(step(site=SITE, activation=activation).sum(), activation)[0]
    expected = (gradient.mean((2, 3), keepdim=True) * activation).sum(1).detach()
    found = attribute_step(step, "LayerGradCam", to=SITE)
    torch.testing.assert_close(found.values, expected, rtol=1e-3, atol=1e-5)
    assert found.residual.isnan().all()


def test_occlusion_is_the_ablation_of_patches_and_each_is_a_difference(step):
    baseline = same_noise(step.x, torch.zeros_like(step.x), torch.full_like(step.x, 0.3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CompletenessWarning)
        occluded, ablated = (
            attribute_step(step, method, to="x", baseline=baseline, patch=3)
            for method in ("Occlusion", "FeatureAblation")
        )
    torch.testing.assert_close(occluded.values, ablated.values, rtol=1e-4, atol=1e-6)
    covered = step.x.clone()
    covered[:, :, 6:, 3:6] = baseline[:, :, 6:, 3:6]  # a patch at the edge, of 2 x 3
    effect = step(x=step.x) - step(x=covered)
    torch.testing.assert_close(occluded.values[:, :, 6:, 3:6].sum((1, 2, 3)), effect, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("head", [guidance_energy(), attribute_score(lambda x: {"m": x.mean((1, 2, 3))}, "m")])
@pytest.mark.parametrize("to", ["tokens", "x"])
def test_integrated_gradients_are_complete_for_other_heads(unet, head, to):
    x, labels = unet_points()
    step = make_step(unet, x, 1.0, labels, head=head, weight=3.0)
    baseline = None if to == "tokens" else x + 0.2
    assert attribute_step(step, "IntegratedGradients", to=to, baseline=baseline).total_residual < 1e-3


def test_a_detached_axis_breaks_completeness_with_a_warning(unet):
    x, labels = unet_points()
    step = make_step(unet, x, 1.0, labels, head=guidance_energy(detach_axis=True), weight=3.0)
    with pytest.warns(CompletenessWarning, match="miss the effect"):
        found = attribute_step(step, "IntegratedGradients")
    assert found.total_residual > 0.05


def test_a_sample_without_an_effect_hides_no_residual(unet):
    x, labels = unet_points()
    tokens = unet.embed(labels).detach()
    tokens[0] = unet.embed(None, batch=1).detach()[0]  # the null tokens themselves: no effect, and no attribution
    step = make_step(unet, x, 1.0, tokens, head=guidance_energy(detach_axis=True), weight=3.0)
    with pytest.warns(CompletenessWarning, match="miss the effect"):
        found = attribute_step(step, "IntegratedGradients")
    assert found.effect[0] == 0 and 0.05 < found.total_residual < float("inf")
    whole = make_step(unet, x, 1.0, tokens, head=guidance_energy(), weight=3.0)
    assert attribute_step(whole, "IntegratedGradients").total_residual < 1e-3
    nothing = make_step(unet, x[:1], 1.0, tokens[:1], head=guidance_energy(), weight=3.0)
    assert attribute_step(nothing, "IntegratedGradients").total_residual == 0


@pytest.mark.parametrize("method", [*INPUT_METHODS, "LayerIntegratedGradients", "LayerGradCam"])
def test_memory_batches_and_other_calls_do_not_change_results(unet, step, method):
    layer, maps = method.startswith("Layer"), method == "Occlusion"
    options = {"to": SITE if layer else "x" if maps else "tokens", "baseline": step.x + 0.1 if maps else None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CompletenessWarning)
        whole = attribute_step(step, method, **options)
        unet(torch.randn(2, 3, 8, 8), torch.full((2,), 9.0), None)
        torch.manual_seed(123)
        row = 2**30 // whole.internal_batch_size
        with capture(unet, ["network.middle2"]):  # recording on
            small = attribute_step(step, method, memory=2 * row + 10, **options)
    assert small.internal_batch_size < 5 <= whole.internal_batch_size
    torch.testing.assert_close(small.values, whole.values, rtol=1e-3, atol=2e-5)
    torch.testing.assert_close(small.effect, whole.effect, rtol=1e-4, atol=1e-5)


def test_the_global_generator_is_left_alone(step):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    attribute_step(step, "ShapleyValueSampling")
    assert torch.equal(torch.rand(1), expected)


def test_an_unmodified_diffusers_unet():
    denoiser = DiffusersDenoiser()
    generator = torch.Generator().manual_seed(0)
    x, tokens = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 5, 12, generator=generator)
    direction = torch.randn(4, 8, 8, generator=generator)
    step = make_step(denoiser, x, 2.0, tokens, head=projection(direction), weight=7.5, null=torch.zeros(1, 5, 12))
    assert attribute_step(step, "IntegratedGradients").total_residual < 1e-2
    assert attribute_step(step, "ShapleyValueSampling", samples=3).total_residual < 1e-3
    assert attribute_step(step, "LayerIntegratedGradients", to="unet.mid_block").total_residual < 1e-2
    with pytest.raises(InputError, match="one tensor"):
        attribute_step(step, "LayerIntegratedGradients", to="unet.down_blocks.0")


@pytest.mark.parametrize("method", REFUSED)
def test_wrong_methods_are_refused_with_the_reason(step, method):
    with pytest.raises(InputError, match=REFUSED[method][:20]):
        attribute_step(step, method)


def test_bad_input(unet, step):
    with pytest.raises(InputError, match="IntegratedGradients"):
        attribute_step(step, "IntegratedGradient")
    with pytest.raises(InputError, match=r"network\.middle1"):
        attribute_step(step, "LayerGradCam", to="network.midle1")
    with pytest.raises(InputError, match="a site"):
        attribute_step(step, "LayerGradCam")
    with pytest.raises(InputError, match="maps"):
        attribute_step(step, "LayerGradCam", to="network.noise_embedding")
    with pytest.raises(InputError, match="not called"):
        attribute_step(step, "IntegratedGradients", to="network.augment_embedding")
    with pytest.raises(InputError, match="same_noise"):
        attribute_step(step, "IntegratedGradients", to="x")
    with pytest.raises(InputError, match="baseline"):
        attribute_step(step, "IntegratedGradients", baseline=torch.zeros(1, 2, 12))
    with pytest.raises(InputError, match="baseline"):
        attribute_step(step, "LayerIntegratedGradients", to=SITE, baseline=torch.zeros(1, 3, 12))
    with pytest.raises(InputError, match="memory"):
        attribute_step(step, "IntegratedGradients", memory=1000)
    with pytest.raises(InputError, match="groups"):
        attribute_step(step, "FeatureAblation", groups=torch.zeros(2, 12, dtype=torch.int64))
    with pytest.raises(InputError, match="attributions to tokens"):
        _ = attribute_step(step, "IntegratedGradients", to=SITE).by_token
    with torch.inference_mode(), pytest.raises(InputError, match="inference mode"):
        attribute_step(step, "IntegratedGradients")
    twice = make_step(Reused(), torch.ones(2, 4), 1.0, torch.ones(2, 1, 3), head=projection(torch.ones(4)),
                      null=torch.zeros(1, 1, 3))  # fmt: skip
    with pytest.raises(InputError, match="twice"):
        attribute_step(twice, "LayerIntegratedGradients", to="layer")
    compiled = small_unet()
    compiled.network.middle1.compile(backend="eager")
    with pytest.raises(InputError, match="compiled"):
        attribute_step(replace(step, denoiser=compiled), "LayerIntegratedGradients", to=SITE)


def test_rows_within_a_budget_grow_with_it_and_leave_out_the_weights():
    layer = nn.Linear(1000, 1000)

    def run(rows):
        return layer(torch.ones(rows, 1000).requires_grad_()).square()

    # a row keeps what enters the layer and the square, 8000 bytes, counted twice; the 4 MB of weights are shared
    assert rows_within(80_000, run) == 5
    assert rows_within(160_000, run) == 10
    with pytest.raises(InputError, match="memory"):
        rows_within(100, run)
