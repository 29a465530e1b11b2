"""Rules inside pipelines: the same images as the pipeline's own guidance, and refusals that say why."""

import importlib
from dataclasses import dataclass

import diffusers
import pytest
import torch
from diffusers.guiders import adaptive_projected_guidance as peer_apg
from diffusers.guiders import classifier_free_zero_star_guidance as peer_zero
from diffusers.guiders import magnitude_aware_guidance as peer_magnitude
from diffusers.guiders import tangential_classifier_free_guidance as peer_tangential
from tests.pipelines import GUIDANCE, PIPELINES, generator, modular_sdxl, output_of, sd3, sd15

from scorescope.data import InputError
from scorescope.probes import APG, CFG, Interval, guide, record, replay, to_denoised
from scorescope.probes.experiments import as_guider
from scorescope.probes.guidance import (
    CFGPP,
    ICG,
    PAG,
    TSG,
    AdaptiveGuidance,
    Autoguidance,
    CFGZeroStar,
    GuidanceState,
    MagnitudeAware,
    RandomLabels,
    Rescaled,
    StepInterval,
    TangentialCFG,
)
from scorescope.probes.models import from_denoised
from scorescope.probes.models.spaces import NoiseLevel
from scorescope.probes.pipelines import Level

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

ZERO = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
SCHEDULERS = {
    "ddim": lambda: diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
    "ddim_v_zero_snr": lambda: diffusers.DDIMScheduler(clip_sample=False, **ZERO),
    "ddpm": lambda: diffusers.DDPMScheduler(clip_sample=False),
    "euler": diffusers.EulerDiscreteScheduler,
    "euler_ancestral": diffusers.EulerAncestralDiscreteScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
    "pndm": lambda: diffusers.PNDMScheduler(skip_prk_steps=True, steps_offset=1),
    "dpm": diffusers.DPMSolverMultistepScheduler,
    "unipc": diffusers.UniPCMultistepScheduler,
    "edm": diffusers.EDMEulerScheduler,
}
# wan22 guides its two experts with two weights; the others make one prediction a step
GUIDED = sorted(set(PIPELINES) - {"wan22", "flux_distilled", "ddpm"})


def guided(pipe, arguments, rule, **options):
    """What a pipeline makes under a rule."""
    with guide(pipe, rule, **options) as session:
        found = output_of(pipe(**(arguments | {"generator": generator()})))
    assert session.steps
    return found


def close(found, expected):
    # one rounding of the prediction a step, grown by the sampler: measured below 1e-5 of the largest value
    return (found - expected).abs().max() <= 3e-5 * expected.abs().max()


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_cfg_reproduces_the_images_with_every_kind_of_scheduler(name):
    pipe, arguments = sd15(SCHEDULERS[name](), batch=2, steps=5)
    expected = output_of(pipe(**arguments))
    assert close(guided(pipe, arguments, CFG(GUIDANCE)), expected)
    assert not close(guided(pipe, arguments, CFG(2.0)), expected)


@pytest.mark.parametrize("name", GUIDED)
def test_cfg_reproduces_the_images_of_every_kind_of_pipeline(name):
    pipe, arguments = PIPELINES[name]()
    assert close(guided(pipe, arguments, CFG(GUIDANCE)), output_of(pipe(**(arguments | {"generator": generator()}))))


def test_the_pipelines_own_weight_has_no_effect():
    pipe, arguments = sd15()
    found = [guided(pipe, arguments | {"guidance_scale": scale}, CFG(3.0)) for scale in (1.5, 9.0)]
    assert close(found[0], found[1])
    assert close(found[0], output_of(pipe(**(arguments | {"generator": generator(), "guidance_scale": 3.0}))))


@pytest.mark.parametrize("build", [sd15, sd3, modular_sdxl])
def test_apg_that_keeps_everything_is_cfg_and_that_removes_the_parallel_part_is_not(build):
    pipe, arguments = build()
    expected = guided(pipe, arguments, CFG(GUIDANCE))
    assert close(guided(pipe, arguments, APG(GUIDANCE, eta=1.0)), expected)
    assert not close(guided(pipe, arguments, APG(GUIDANCE, eta=0.0)), expected)


def test_apg_equals_a_loop_written_out_in_denoised_space():
    pipe, arguments = sd15(diffusers.EulerDiscreteScheduler(), steps=6)
    found = guided(pipe, arguments, APG(6.0, eta=0.2, norm=4.0, momentum=-0.5))
    scheduler, buffer, axes = pipe.scheduler, 0.0, (1, 2, 3)
    scheduler.set_timesteps(6)
    x = torch.randn(1, 4, 8, 8, generator=generator()) * scheduler.init_noise_sigma
    text = torch.cat([arguments["negative_prompt_embeds"], arguments["prompt_embeds"]])
    for i, t in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[i]
        network = torch.cat([x] * 2) / (sigma**2 + 1).sqrt()
        with torch.no_grad():
            noise = pipe.unet(network, t, encoder_hidden_states=text).sample
        uncond, cond = (x - sigma * part for part in noise.chunk(2))
        buffer = cond - uncond - 0.5 * buffer
        update = buffer * torch.clamp(4.0 / buffer.norm(), max=1)
        parallel = (update * cond).sum(axes, keepdim=True) / cond.square().sum(axes, keepdim=True) * cond
        denoised = cond + 5.0 * (update - 0.8 * parallel)
        x = denoised + scheduler.sigmas[i + 1] / sigma * (x - denoised)
    assert close(found, x)


def test_a_second_run_starts_afresh():
    pipe, arguments = sd15()
    rule = APG(GUIDANCE, momentum=-0.75)
    with guide(pipe, rule) as session:
        first, second = (output_of(pipe(**(arguments | {"generator": generator()}))) for _ in range(2))
    assert torch.equal(first, second) and session.steps == 8


@pytest.mark.parametrize("rule", [AdaptiveGuidance(APG(4.0), 0.99), CFGZeroStar(4.0), TangentialCFG(4.0)])
def test_rules_that_use_the_state_work_from_the_first_step_of_a_flow(rule):
    pipe, arguments = sd3()
    assert guided(pipe, arguments, rule).isfinite().all()


def test_zero_star_equals_the_peer_in_a_flow_pipeline():
    pipe, arguments = sd3()
    found = guided(pipe, arguments, CFGZeroStar(4.0))
    x, scheduler = torch.randn(1, 4, 8, 8, generator=generator()), pipe.scheduler
    peer = diffusers.ClassifierFreeZeroStarGuidance(4.0)
    scheduler.set_timesteps(4)
    for i, t in enumerate(scheduler.timesteps):
        keys = ("prompt_embeds", "pooled_prompt_embeds")
        with torch.no_grad():
            cond, uncond = (
                pipe.transformer(x, timestep=t[None], encoder_hidden_states=text, pooled_projections=pooled).sample
                for text, pooled in ([arguments[s + k] for k in keys] for s in ("", "negative_"))
            )
        peer.set_state(i, 4, t)
        x = scheduler.step(peer.forward(cond, uncond).pred, t, x).prev_sample
    assert close(found, x)


def test_a_rule_saves_calls_where_the_pipeline_asks_the_guider():
    pipe, arguments = modular_sdxl()
    calls = []
    handle = pipe.unet.register_forward_hook(lambda *_: calls.append(1))
    found = guided(pipe, arguments, StepInterval(CFG(GUIDANCE), first=1, last=2))
    handle.remove()
    assert len(calls) == 6  # 4 steps, 2 of them guided
    peer, arguments = modular_sdxl()
    peer.update_components(guider=diffusers.ClassifierFreeGuidance(GUIDANCE, start=0.25, stop=0.75))
    assert close(found, output_of(peer(**arguments)))


def test_adaptive_guidance_saves_calls_from_the_step_after_the_one_that_decides():
    pipe, arguments = modular_sdxl()
    calls = []
    handle = pipe.unet.register_forward_hook(lambda *_: calls.append(1))
    with guide(pipe, AdaptiveGuidance(CFG(GUIDANCE), threshold=-1.0)):
        for run in (1, 2):
            output_of(pipe(**(arguments | {"generator": generator()})))
            assert len(calls) == 5 * run  # 4 steps, the first of them guided, in every run
    handle.remove()


def test_replay_of_cfg_on_a_pipelines_trace_is_what_the_pipeline_did():
    pipe, arguments = sd15()
    with record(pipe, keep="branches") as trace:
        pipe(**arguments)
    again = replay(trace, CFG(GUIDANCE)).scalars
    assert again["applied_sq"].to_numpy() == pytest.approx(trace.scalars["applied_sq"].to_numpy(), rel=1e-5)


def test_cfgpp_is_the_papers_step_on_ddim():
    pipe, arguments = sd15(steps=5)
    found = guided(pipe, arguments, CFGPP(0.6))
    scheduler = pipe.scheduler
    scheduler.set_timesteps(5)
    x = torch.randn(1, 4, 8, 8, generator=generator())
    text = torch.cat([arguments["negative_prompt_embeds"], arguments["prompt_embeds"]])
    for t in scheduler.timesteps:
        before = int(t) - 200
        now = scheduler.alphas_cumprod[t]
        after = scheduler.alphas_cumprod[before] if before >= 0 else scheduler.final_alpha_cumprod
        with torch.no_grad():
            uncond, cond = pipe.unet(torch.cat([x] * 2), t, encoder_hidden_states=text).sample.chunk(2)
        denoised = (x - (1 - now).sqrt() * (uncond + 0.6 * (cond - uncond))) / now.sqrt()
        x = after.sqrt() * denoised + (1 - after).sqrt() * uncond  # re-noised by the unconditional prediction
    assert close(found, x)


@pytest.mark.parametrize("name", ["heun", "dpm", "unipc"])
def test_cfgpp_is_refused_before_anything_runs_on_schedulers_of_higher_order(name):
    pipe, _ = sd15(SCHEDULERS[name]())
    with pytest.raises(InputError, match=r"first-order one \(of order 2\).*DDIM"):
        guide(pipe, Interval(CFGPP(0.6)))


@pytest.mark.parametrize("name", ["ddpm", "euler_ancestral", "pndm"])
def test_cfgpp_is_refused_where_a_step_turns_out_not_to_be_first_order(name):
    pipe, arguments = sd15(SCHEDULERS[name]())
    # PNDM's first step is made twice, at one level
    words = "found a step from 3.462 to 3.462" if name == "pndm" else r"first-order one \(in step \d"
    with pytest.raises(InputError, match=words):
        guided(pipe, arguments, CFGPP(0.6))
    assert_clean(pipe)


@pytest.mark.parametrize(
    "rule",
    [Autoguidance(2.0, lambda *_: None), ICG(2.0, RandomLabels(3)), PAG(1.0), TSG(2.0), Rescaled(PAG(1.0))],
    ids=lambda rule: type(rule).__name__,
)
def test_rules_with_branches_of_their_own_are_refused_outside_of_a_pipeline(rule):
    with pytest.raises(InputError, match="computes a branch of its own"):
        as_guider(rule)


def test_guidance_has_to_be_on_in_the_pipeline():
    pipe, arguments = sd15()
    with pytest.raises(InputError, match=r"one prediction in step 0.*guidance_scale above 1"):
        guided(pipe, arguments | {"guidance_scale": 1.0}, CFG(3.0))
    assert_clean(pipe)
    assert guided(pipe, arguments | {"guidance_scale": 1.0}, CFG(1.0)).isfinite().all()  # that one needs no other


def test_branches_that_cannot_be_told_apart_are_an_error_until_they_are_named():
    pipe, arguments = sd15()
    rescaled = arguments | {"guidance_rescale": 0.7}
    with pytest.raises(InputError, match=r"not a combination|neither to 1"):
        guided(pipe, rescaled, CFG(GUIDANCE))
    found = guided(pipe, rescaled, CFG(GUIDANCE), branches=("uncond", "cond"))
    assert close(found, output_of(pipe(**(arguments | {"generator": generator()}))))


def assert_clean(pipe):
    assert "step" not in pipe.scheduler.__dict__
    assert not pipe.unet._forward_hooks and not pipe.unet._forward_pre_hooks
    assert "cache_context" not in pipe.unet.__dict__


@pytest.mark.parametrize("build", [sd15, modular_sdxl])
@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_nothing_stays_behind(build, error):
    pipe, arguments = build()
    before = getattr(pipe, "guider", None)
    foreign = pipe.unet.register_forward_hook(lambda *_: None)
    try:
        with guide(pipe, CFG(3.0)):
            output_of(pipe(**arguments))
            if error is not None:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass
    assert len(pipe.unet._forward_hooks) == 1
    foreign.remove()
    assert_clean(pipe)
    assert getattr(pipe, "guider", None) is before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_pipelines_keep_their_type(dtype):
    pipe, arguments = sd15()
    pipe.to(dtype)
    arguments = {k: v.to(dtype) if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
    expected = output_of(pipe(**arguments))
    found = guided(pipe, arguments, CFG(GUIDANCE))
    assert found.dtype == dtype
    # two roundings of the pipeline's own sum in place of one, over four steps
    assert (found - expected).float().abs().max() <= 16 * torch.finfo(dtype).eps * expected.abs().max()


def test_a_recording_outside_sees_the_rules_prediction():
    pipe, arguments = sd15()
    with record(pipe, keep="branches") as trace:
        guided(pipe, arguments, CFG(3.0))
    assert trace.scalars["weight"].to_numpy() == pytest.approx(3.0, abs=1e-4)


def test_a_guider_outside_of_guide_says_what_to_do():
    pipe, arguments = modular_sdxl()
    pipe.guider = as_guider(CFG(2.0))
    with pytest.raises(InputError, match="with guide"):
        pipe(**arguments)
    with pytest.raises(InputError, match="at\\(x, level\\)"):
        as_guider(CFG(2.0))(torch.zeros(1, 4), torch.zeros(1, 4))


SIGMAS = (0.3, 2.0, 12.0)


def draw(sigma, shape=(3, 4, 6, 6)):
    """x and two denoised predictions, float64."""
    noise = generator(7)
    cond = torch.randn(shape, generator=noise, dtype=torch.float64)
    uncond = cond + 0.4 * torch.randn(shape, generator=noise, dtype=torch.float64)
    return cond + sigma * torch.randn(shape, generator=noise, dtype=torch.float64), cond, uncond


def at(x, sigma, step=3):
    return GuidanceState(x, sigma, sigma / 2, step, 0)


def raw(denoised, x, sigma, space):
    return from_denoised(denoised, x, NoiseLevel.ve(torch.tensor(sigma, dtype=torch.float64)), space=space)


def back(prediction, x, sigma, space):
    return to_denoised(prediction, x, NoiseLevel.ve(torch.tensor(sigma, dtype=torch.float64)), space=space)


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("space", ["denoised", "eps", "v", "flow"])
def test_cfg_equals_the_peer_in_every_space(sigma, space):
    x, cond, uncond = draw(sigma)
    peer = diffusers.ClassifierFreeGuidance(4.0)
    found = peer.forward(raw(cond, x, sigma, space), raw(uncond, x, sigma, space)).pred
    expected = CFG(4.0)(cond, uncond, at(x, sigma))
    assert torch.allclose(back(found, x, sigma, space), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("norm", [1.5, 1e6])
def test_apg_equals_the_peer_on_denoised_predictions_in_its_other_convention(norm):
    buffer, memory, rule = peer_apg.MomentumBuffer(-0.5), {}, APG(4.0, eta=0.3, norm=norm, momentum=-0.5)
    for step, sigma in enumerate(reversed(SIGMAS)):
        x, cond, uncond = draw(sigma)
        found = peer_apg.normalized_guidance(cond, uncond, 3.0, buffer, 0.3, norm, use_original_formulation=True)
        state = GuidanceState(x, sigma, 0.0, step, 0, memory)
        assert torch.allclose(found, rule(cond, uncond, state), rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", [(3, 4, 80, 80), (2, 5, 128, 128), (2, 3, 5, 40, 40)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, "other"])
def test_apg_of_large_samples_equals_the_peer_too(shape, layout):
    x, cond, uncond = draw(2.0, shape)
    if layout == "other":
        cond, uncond = (tensor.transpose(1, -1).contiguous().transpose(1, -1) for tensor in (cond, uncond))
    kept = cond.clone(), uncond.clone()
    buffer, memory, rule = peer_apg.MomentumBuffer(-0.5), {}, APG(4.0, eta=0.3, norm=20.0, momentum=-0.5)
    for step in range(3):
        found = rule(cond, uncond, GuidanceState(x, 2.0, 0.0, step, 0, memory))
        expected = peer_apg.normalized_guidance(cond, uncond, 3.0, buffer, 0.3, 20.0, use_original_formulation=True)
        assert torch.allclose(found, expected, rtol=0, atol=1e-10)
    assert torch.equal(cond, kept[0]) and torch.equal(uncond, kept[1])
    zero = torch.zeros(shape)
    assert torch.equal(APG(4.0, norm=1.0)(zero, zero, at(zero, 2.0)), zero)


def test_apg_of_the_peer_is_not_the_papers_by_default():
    x, cond, uncond = draw(2.0)
    rule = APG(4.0)(cond, uncond, at(x, 2.0))
    default = peer_apg.normalized_guidance(cond, uncond, 4.0, eta=0.0)
    update = cond - uncond
    axes = (1, 2, 3)
    parallel = (update * cond).sum(axes, keepdim=True) / cond.square().sum(axes, keepdim=True) * cond
    assert torch.allclose(default, rule - parallel, rtol=0, atol=1e-10)  # the unguided difference loses it too
    assert diffusers.AdaptiveProjectedGuidance().eta == 1.0  # and by default nothing is projected
    # on what the network says, eps, the parallel part is another one
    in_eps = peer_apg.normalized_guidance(
        raw(cond, x, 2.0, "eps"), raw(uncond, x, 2.0, "eps"), 3.0, None, 0.0, 0.0, True
    )
    assert (back(in_eps, x, 2.0, "eps") - rule).abs().max() > 0.01


def test_zero_star_equals_the_peer_on_flow_velocities():
    x, cond, uncond = draw(2.0)
    scale = peer_zero.cfg_zero_star_scale(*(raw(d, x, 2.0, "flow").flatten(1) for d in (cond, uncond)))
    velocity = raw(cond, x, 2.0, "flow"), raw(uncond, x, 2.0, "flow") * scale.reshape(-1, 1, 1, 1)
    peer = diffusers.ClassifierFreeZeroStarGuidance(4.0)
    peer.set_state(3, 10, torch.tensor(0))
    whole = back(peer.forward(raw(cond, x, 2.0, "flow"), raw(uncond, x, 2.0, "flow")).pred, x, 2.0, "flow")
    assert torch.allclose(whole, CFGZeroStar(4.0)(cond, uncond, at(x, 2.0)), rtol=0, atol=1e-5)  # s* in float32
    expected = back(velocity[1] + 4.0 * (velocity[0] - velocity[1]), x, 2.0, "flow")
    assert torch.allclose(expected, whole, rtol=0, atol=1e-10)


def test_magnitude_aware_equals_the_peer_on_flow_velocities():
    x, cond, uncond = draw(2.0, shape=(3, 9, 6))
    found = peer_magnitude.mambo_guidance(raw(cond, x, 2.0, "flow"), raw(uncond, x, 2.0, "flow"), 4.0, 8.0)
    expected = MagnitudeAware(4.0, alpha=8.0)(cond, uncond, at(x, 2.0))
    assert torch.allclose(back(found, x, 2.0, "flow"), expected, rtol=0, atol=1e-10)


def test_magnitude_aware_of_the_peer_fails_on_images():
    # it asks torch.norm for a Frobenius norm over three axes, which is refused; packed tokens have two
    x, cond, uncond = draw(2.0)
    with pytest.raises(RuntimeError, match="2-tuple"):
        peer_magnitude.mambo_guidance(cond, uncond, 4.0, 8.0)
    assert MagnitudeAware(4.0)(cond, uncond, at(x, 2.0)).isfinite().all()


def test_tangential_equals_the_peer_on_scores():
    x, cond, uncond = draw(2.0)
    found = peer_tangential.normalized_guidance(raw(cond, x, 2.0, "eps"), raw(uncond, x, 2.0, "eps"), 4.0)
    expected = TangentialCFG(4.0)(cond, uncond, at(x, 2.0))
    assert torch.allclose(back(found, x, 2.0, "eps"), expected, rtol=0, atol=1e-4)  # its singular vectors are float32
    # on denoised predictions it is another rule
    other = peer_tangential.normalized_guidance(cond, uncond, 4.0)
    assert (other - expected).abs().max() > 0.01


@pytest.mark.parametrize("space", ["denoised", "eps", "v", "flow"])
def test_rescale_equals_the_peer_in_the_space_that_is_named(space):
    x, cond, uncond = draw(2.0)
    peer = diffusers.ClassifierFreeGuidance(4.0, guidance_rescale=0.7)
    found = peer.forward(raw(cond, x, 2.0, space), raw(uncond, x, 2.0, space)).pred
    expected = Rescaled(CFG(4.0), phi=0.7, space=space)(cond, uncond, at(x, 2.0))
    assert torch.allclose(back(found, x, 2.0, space), expected, rtol=0, atol=1e-10)


def test_as_guider_speaks_the_prediction_space():
    x, cond, uncond = draw(2.0)
    alpha = 1 / (1 + 2.0**2) ** 0.5
    level = Level.of(alpha, 2.0 * alpha, "eps", sigma_next=1.0)
    predictions = raw(cond, x, 2.0, "eps"), raw(uncond, x, 2.0, "eps")
    out = as_guider(APG(4.0)).at(alpha * x, level)(*predictions)
    assert out.pred_cond is predictions[0]
    expected = APG(4.0)(cond, uncond, at(x, 2.0))
    assert torch.allclose(back(out.pred, x, 2.0, "eps"), expected, rtol=0, atol=1e-10)


@dataclass(frozen=True)
class Broken:
    """Not a number from a step on."""

    weight: float = 2.0
    first: int = 2

    def branches(self, state):
        return ("cond", "uncond")

    def __call__(self, cond, uncond, state):
        return cond * (float("nan") if state.step >= self.first else 1.0)


@pytest.mark.parametrize("accelerator", [False, True])
def test_predictions_that_are_not_finite_are_refused_without_a_wait_in_every_step(accelerator, monkeypatch):
    module, reads, steps = importlib.import_module("scorescope.probes.guidance.scheduler_step"), [], []
    monkeypatch.setattr(module, "_asynchronous", lambda tensor: accelerator)
    check = module.FiniteFlags.check
    monkeypatch.setattr(module.FiniteFlags, "check", lambda flags: reads.append(len(steps)) or check(flags))
    pipe, arguments = sd15()
    arguments["callback_on_step_end"] = lambda *given: steps.append(given[1]) or given[-1]
    with (
        pytest.raises(InputError, match=r"a prediction of Broken that is not finite, in step 2"),
        guide(pipe, Broken()),
    ):
        pipe(**arguments)
    # on the CPU after every step; on an accelerator when the block ends, here by the next step's unknown branches
    assert (reads, len(steps)) == (([3], 3) if accelerator else ([0, 1, 2, 2], 2))
