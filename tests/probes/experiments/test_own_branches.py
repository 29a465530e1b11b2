"""Rules with branches of their own inside pipelines: the images of diffusers' own pipelines and of loops by hand."""

import copy

import diffusers
import pytest
import torch
from tests.pipelines import (
    GUIDANCE,
    PIPELINES,
    dit,
    embeddings,
    flux_true,
    generator,
    modular_sdxl,
    output_of,
    pixart,
    sd3,
    sd15,
    sdxl,
)

from scorescope.data import InputError
from scorescope.probes import CFG, Interval, Intervention, guide, intervene, record, sweep
from scorescope.probes.guidance import (
    ICG,
    PAG,
    TSG,
    AdaptiveGuidance,
    Autoguidance,
    GaussianEmbeddings,
    GuidanceState,
    RandomLabels,
    RandomRows,
    Rescaled,
    StepInterval,
)
from scorescope.probes.guidance.base import sample_generators
from scorescope.probes.sites import ActivationCache, cache_activations

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
MIDDLE = "mid_block.attentions.0.transformer_blocks.0.attn1"
UP = "up_blocks.0.attentions.1.transformer_blocks.0.attn1"
SEEDS = (11, 12, 13)


def ddim():
    return diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1)


def run(pipe, arguments, rule, **options):
    """What a pipeline makes under a rule, and the evaluations made in each step."""
    with guide(pipe, rule, **options) as session:
        found = output_of(pipe(**(arguments | {"generator": generator()})))
    return found, session.evaluations


def plain(pipe, arguments):
    return output_of(pipe(**(arguments | {"generator": generator()})))


def close(found, expected):
    # rounding of the network for another batch, and of the prediction, grown by the sampler over four or five steps:
    # measured below 1e-5 of the largest value
    return (found - expected).abs().max() <= 3e-5 * expected.abs().max()


def unguided(build):
    """A pipeline that computes cond alone."""
    pipe, arguments = build()
    return pipe, arguments | {"guidance_scale": 1.0}


def peer(pipe, kind, layers):
    """The same parts in diffusers' own pipeline with perturbed attention."""
    parts = dict(pipe.components)
    extra = {"requires_safety_checker": False} if "safety_checker" in parts else {}
    if kind is diffusers.StableDiffusionXLPAGPipeline:
        extra = {"add_watermarker": False}
    found = kind(**parts, **extra, pag_applied_layers=layers)
    found.set_progress_bar_config(disable=True)
    return found


@pytest.mark.parametrize(
    "build, kind, layers, sites",
    [
        (lambda: sd15(ddim(), batch=2), diffusers.StableDiffusionPAGPipeline, ["mid"], (MIDDLE,)),
        (lambda: sd15(ddim()), diffusers.StableDiffusionPAGPipeline, ["mid", "up_blocks.0.attentions.1"], (MIDDLE, UP)),
        (sdxl, diffusers.StableDiffusionXLPAGPipeline, ["mid"], (MIDDLE,)),
        (pixart, diffusers.PixArtSigmaPAGPipeline, ["blocks.1"], ("transformer_blocks.1.attn1",)),
    ],
    ids=["sd", "sd-two-sites", "sdxl", "pixart"],
)
@pytest.mark.parametrize("scale", [GUIDANCE, 1.0])
def test_pag_makes_the_images_of_diffusers_own_pipeline(build, kind, layers, sites, scale):
    pipe, arguments = build()
    arguments = arguments | {"guidance_scale": scale}
    found, evaluations = run(pipe, arguments, PAG(3.0, sites=sites, weight=scale))
    own = peer(pipe, kind, layers)
    expected = output_of(own(**(arguments | {"generator": generator(), "pag_scale": 3.0})))
    assert close(found, expected)
    needed = 2 if scale == 1 else 3
    assert [step.made for step in evaluations] == [needed + 1] + [needed] * 3  # the first step proves the repetition
    assert all(set(step.needed) == {needed} for step in evaluations)
    assert not close(found, plain(*build()))


def weak_unet(pipe, seed=5):
    """A copy of the network with other weights in its last layer."""
    weak = copy.deepcopy(pipe.unet)
    with torch.no_grad():
        weak.conv_out.weight += 0.3 * torch.randn(weak.conv_out.weight.shape, generator=generator(seed))
    return weak


def loop(pipe, arguments, steps, other, weight):
    """DDIM by hand with eps = other + weight (cond - other), where `other` is (x, t, text, step) to a prediction."""
    scheduler, text = ddim(), arguments["prompt_embeds"]
    scheduler.set_timesteps(steps)
    x = torch.randn(len(text), 4, 8, 8, generator=generator())
    with torch.no_grad():
        for step, t in enumerate(scheduler.timesteps):
            cond = pipe.unet(x, t, encoder_hidden_states=text).sample
            away = other(x, t, text, step)
            x = scheduler.step(away + weight * (cond - away), t, x).prev_sample
    return x


@pytest.mark.parametrize("build", [sd15, lambda: unguided(sd15)], ids=["guided", "unguided"])
def test_autoguidance_by_a_copy_is_the_cond_prediction_and_by_another_network_the_loop_by_hand(build):
    pipe, arguments = build()
    found, evaluations = run(pipe, arguments, Autoguidance(3.0, copy.deepcopy(pipe.unet)))
    assert close(found, plain(*unguided(sd15)))
    branches = 2 if arguments["guidance_scale"] > 1 else 1
    assert [step.made for step in evaluations] == [branches + 2] + [branches + 1] * 3
    assert all(step.needed == [2] for step in evaluations)
    weak = weak_unet(pipe)
    found, _ = run(pipe, arguments, Autoguidance(3.0, weak))
    expected = loop(pipe, arguments, 4, lambda x, t, text, step: weak(x, t, encoder_hidden_states=text).sample, 3.0)
    assert close(found, expected) and not close(found, plain(*unguided(sd15)))


def test_tsg_is_the_loop_by_hand_with_its_own_noise_on_the_embedding():
    pipe, arguments = sd15(batch=2)
    rule = TSG(2.5, scale=0.7, site="time_embedding")

    def noisy(x, t, text, step):
        state = GuidanceState(x, 1.0, 0.5, step, 0, seeds=(7, 9))
        noise = torch.stack([torch.randn(32, generator=g) for g in sample_generators(state, 2)])
        handle = pipe.unet.time_embedding.register_forward_hook(
            lambda module, args, out: out + 0.7 * out.std(1, keepdim=True) * noise
        )
        found = pipe.unet(x, t, encoder_hidden_states=text).sample
        handle.remove()
        return found

    expected = loop(pipe, arguments, 4, noisy, 2.5)
    for scale in (GUIDANCE, 1.0):
        found, _ = run(pipe, arguments | {"guidance_scale": scale}, rule, seeds=(7, 9))
        assert close(found, expected)
    assert not close(run(pipe, arguments, rule)[0], expected)  # other seeds, other noise


def test_icg_is_the_loop_by_hand_with_the_embeddings_it_drew():
    pipe, arguments = sd15(batch=2)
    table, drawn = embeddings(6, 5, 16, seed=8), []

    def draw(generators, condition):
        assert torch.equal(condition, arguments["prompt_embeds"])
        drawn.append(RandomRows(table)(generators, condition))
        return drawn[-1]

    found, evaluations = run(pipe, arguments, ICG(3.0, draw))
    assert [step.made for step in evaluations] == [4, 3, 3, 3]  # cond, uncond (not used), drawn
    other = lambda x, t, text, step: pipe.unet(x, t, encoder_hidden_states=drawn[step]).sample  # noqa: E731
    assert close(found, loop(pipe, arguments, 4, other, 3.0))
    assert all((row == table).all((1, 2)).any() for rows in drawn for row in rows)
    assert len(torch.stack(drawn).flatten(0, 1).unique(dim=0)) > 2
    found, evaluations = run(pipe, arguments | {"guidance_scale": 1.0}, ICG(3.0, RandomRows(table)))
    assert [step.made for step in evaluations] == [3, 2, 2, 2]
    assert close(found, loop(pipe, arguments, 4, other, 3.0))


def test_gaussian_embeddings_have_the_spread_of_the_condition():
    state = GuidanceState(torch.zeros(2, 1), 1.0, 0.5, 0, 0, seeds=(1, 2))
    condition = torch.cat([embeddings(1, 77, 64, seed=1), 3 * embeddings(1, 77, 64, seed=2)])
    drawn = GaussianEmbeddings()(sample_generators(state, 1), condition)
    # 4928 values: their standard deviation is known to 1 % (one standard error)
    assert torch.allclose(drawn.std((1, 2)), condition.std((1, 2)), rtol=0.05)
    assert torch.nn.functional.cosine_similarity(drawn.flatten(1), condition.flatten(1)).abs().max() < 0.1
    named = {"text": condition, "sizes": torch.ones(2, 6)}
    assert set(GaussianEmbeddings(("text",))(sample_generators(state, 1), named)) == {"text"}
    with pytest.raises(InputError, match="names of those to be drawn, among text, sizes"):
        GaussianEmbeddings()(sample_generators(state, 1), named)
    with pytest.raises(InputError, match=r"RandomLabels draws labels"):
        GaussianEmbeddings()(sample_generators(state, 1), torch.arange(2))


def test_icg_draws_labels_where_the_scheduler_gets_both_halves():
    pipe, arguments = dit()
    drawn = []

    def draw(generators, condition):
        assert condition.tolist() == [1, 2]
        drawn.append(RandomLabels(1000)(generators, condition))
        return drawn[-1]

    found, evaluations = run(pipe, arguments, ICG(3.0, draw))
    assert [step.made for step in evaluations] == [4, 3, 3, 3]
    scheduler = pipe.scheduler
    scheduler.set_timesteps(4)
    torch.manual_seed(0)
    x = torch.randn(2, 4, 8, 8, generator=generator())
    with torch.no_grad():
        for step, t in enumerate(scheduler.timesteps):
            cond, away = (
                pipe.transformer(x, timestep=t.expand(2), class_labels=labels).sample[:, :4]
                for labels in (torch.tensor([1, 2]), drawn[step])
            )
            x = scheduler.step(away + 3.0 * (cond - away), t, x).prev_sample
        expected = pipe.vae.decode(x / pipe.vae.config.scaling_factor).sample
    assert close(found, (expected / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1))


@pytest.mark.parametrize("build", [sdxl, modular_sdxl], ids=["classic", "modular"])
def test_icg_of_several_inputs_draws_the_named_ones(build):
    pipe, arguments = build()
    seen = []

    def draw(generators, condition):
        seen.append(set(condition))
        return GaussianEmbeddings(("encoder_hidden_states", "added_cond_kwargs.text_embeds"))(generators, condition)

    found, evaluations = run(pipe, arguments, ICG(3.0, draw))
    assert seen[0] == {"encoder_hidden_states", "added_cond_kwargs.text_embeds", "added_cond_kwargs.time_ids"}
    assert found.isfinite().all()
    assert [step.made for step in evaluations] == ([3, 2, 2, 2] if build is modular_sdxl else [4, 3, 3, 3])


def test_modular_and_classic_pipelines_make_the_same():
    (classic, a), (modular, b) = sdxl(), modular_sdxl()
    for rule in (
        PAG(3.0, sites=(MIDDLE,), weight=GUIDANCE),
        PAG(3.0, sites=(MIDDLE,)),
        TSG(2.0, site="time_embedding"),
        Autoguidance(2.0, weak_unet(classic)),
        ICG(2.0, GaussianEmbeddings(("encoder_hidden_states",))),
    ):
        found, evaluations = run(modular, b, rule)
        assert close(found, run(classic, a, rule)[0])
        assert [step.made for step in evaluations[1:]] == [step.needed[0] for step in evaluations[1:]]
        assert evaluations[0].made == evaluations[0].needed[0] + 1
    assert not classic.unet._forward_hooks and not modular.unet._forward_hooks and not modular.unet._forward_pre_hooks


def test_two_calls_and_packed_tokens():
    pipe, arguments = flux_true()
    found, evaluations = run(pipe, arguments, TSG(2.0, site="time_text_embed"))
    assert [step.made for step in evaluations] == [4, 3, 3, 3]
    assert not close(found, plain(*flux_true()))
    found, _ = run(pipe, arguments, Autoguidance(4.0, copy.deepcopy(pipe.transformer)))
    assert close(found, run(pipe, arguments, CFG(1.0))[0])


@pytest.mark.parametrize("name", sorted(set(PIPELINES) - {"wan22", "flux_distilled", "ddpm"}))
def test_every_kind_of_pipeline_makes_its_cond_call_again(name):
    pipe, arguments = PIPELINES[name]()
    network = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None) or pipe.prior
    found, evaluations = run(pipe, arguments, Autoguidance(3.0, copy.deepcopy(network)))
    assert close(found, run(pipe, arguments, CFG(1.0))[0])
    assert len({step.made - sum(set(step.needed)) for step in evaluations[1:]}) == 1
    assert evaluations[0].made == evaluations[1].made + 1


def test_a_rule_around_makes_the_call_only_where_it_asks_for_it():
    pipe, arguments = sd15()
    calls = []
    pipe.unet.register_forward_hook(lambda module, args, out: calls.append(len(args[0])))
    inside = PAG(3.0, sites=(MIDDLE,), weight=GUIDANCE)
    for rule in (StepInterval(inside, first=1, last=2), PAG(3.0, sites=(MIDDLE,), weight=GUIDANCE, first=1, last=2)):
        calls.clear()
        _, evaluations = run(pipe, arguments, rule)
        assert [step.made for step in evaluations] == [2, 4, 3, 2]
        assert calls == [2, 2, 1, 1, 2, 1, 2]  # the pipeline's calls of two rows, the proof and two of our own
    assert [step.needed for step in evaluations] == [[2], [3], [3], [2]]
    assert close(run(pipe, arguments, Rescaled(inside, 0.0))[0], run(pipe, arguments, inside)[0])
    outside = run(pipe, arguments, Interval(inside, low=1e6, high=1e7))
    assert [step.made for step in outside[1]] == [2] * 4 and close(outside[0], plain(*unguided(sd15)))
    _, evaluations = run(pipe, arguments, AdaptiveGuidance(ICG(2.0, GaussianEmbeddings()), threshold=-1.0))
    assert [step.made for step in evaluations] == [4, 2, 2, 2]


def test_the_whole_batch_is_called_where_its_rows_alone_give_something_else():
    pipe, arguments = sd15(batch=2)
    rule = TSG(2.5, scale=0.7, site="time_embedding")
    expected, evaluations = run(pipe, arguments, rule)
    assert [step.made for step in evaluations] == [4, 3, 3, 3]
    pipe.unet.register_forward_hook(lambda module, args, out: (out[0] * (0.5 if len(args[0]) == 2 else 1.0),))
    found, evaluations = run(pipe, arguments, rule)
    # in the first step two of the pipeline, one in vain, two to prove the whole batch and the two that count
    assert [step.made for step in evaluations] == [7, 4, 4, 4]
    assert close(found, expected)


def test_a_network_that_changes_from_call_to_call_is_refused():
    pipe, arguments = sd15()
    calls = []
    pipe.unet.register_forward_hook(lambda module, args, out: (calls.append(1), (out[0] * 0.9 ** len(calls),))[1])
    with pytest.raises(InputError, match="something else when it is called again"):
        run(pipe, arguments, PAG(3.0, sites=(MIDDLE,)))


def test_sites_that_are_not_there_or_are_no_self_attention():
    pipe, _ = sd15()
    for rule in (PAG(1.0, sites=(MIDDLE[:-1],)), Interval(PAG(1.0, sites=(MIDDLE, MIDDLE[:-1])))):
        with pytest.raises(InputError, match=rf"^site: found '{MIDDLE[:-1]}'; expected .* such as .*{MIDDLE}"):
            guide(pipe, rule)
    with pytest.raises(InputError, match=r"^site: found 'time_embeding'; .* such as time_embedding"):
        guide(pipe, TSG(2.0, site="time_embeding"))
    for site, found in ((MIDDLE[:-1] + "2", "other tokens than its own"), ("mid_block.resnets.0", "a ResnetBlock2D")):
        with pytest.raises(InputError, match=rf"^sites: found .*{found}; expected self-attention"):
            guide(pipe, PAG(1.0, sites=(site,)))
    with pytest.raises(InputError, match=r"^sites: found an attention with a JointAttnProcessor2_0"):
        guide(sd3()[0], PAG(1.0, sites=("transformer_blocks.0.attn",)))
    pipe, arguments = sd15()
    with pytest.raises(InputError, match=r"^site: found .* no tensor of a row a sample"):
        run(pipe, arguments, TSG(2.0, site="down_blocks.0"))
    assert_clean(pipe)


def test_networks_and_conditions_that_do_not_fit():
    pipe, arguments = sd15()
    large = diffusers.UNet2DConditionModel(
        **{**pipe.unet.config, "out_channels": 5}
    )  # fmt: skip
    with pytest.raises(InputError, match=r"^weak: found outputs of shape \[\(1, 5, 8, 8\)\]; .*\(2, 4, 8, 8\)"):
        run(pipe, arguments, Autoguidance(2.0, large))
    with pytest.raises(InputError, match=r"^weak: found Linear \(.*same arguments"):
        run(pipe, arguments, Autoguidance(2.0, torch.nn.Linear(2, 2)))
    with pytest.raises(InputError, match=r"^draw: found RandomLabels for embeddings"):
        run(pipe, arguments, ICG(2.0, RandomLabels(10)))
    with pytest.raises(InputError, match=r"^condition\['encoder_hidden_states'\]: found \(1, 4, 16\).*\(1, 5, 16\)"):
        run(pipe, arguments, ICG(2.0, RandomRows(torch.zeros(3, 4, 16))))
    pipe_xl, arguments = sdxl()
    with pytest.raises(InputError, match=r"names of those to be drawn, among encoder_hidden_states, added_cond"):
        run(pipe_xl, arguments, ICG(2.0, GaussianEmbeddings()))
    assert_clean(pipe)
    assert_clean(pipe_xl)


def assert_clean(pipe):
    assert "step" not in pipe.scheduler.__dict__ and "cache_context" not in pipe.unet.__dict__
    assert not pipe.unet._forward_hooks and not pipe.unet._forward_pre_hooks
    assert not any(module._forward_hooks for module in pipe.unet.modules())
    assert not any("scorescope" in name for name in pipe.unet.__dict__)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    pipe, arguments = sd15()
    pipe.to(dtype)
    arguments = {k: v.to(dtype) if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
    found, evaluations = run(pipe, arguments, PAG(3.0, sites=(MIDDLE,), weight=GUIDANCE))
    own = peer(pipe, diffusers.StableDiffusionPAGPipeline, ["mid"])
    expected = output_of(own(**(arguments | {"generator": generator(), "pag_scale": 3.0})))
    # roundings of the pipeline's own sum of three in place of one, over four steps
    assert (found - expected).float().abs().max() <= 32 * torch.finfo(dtype).eps * expected.abs().max()
    assert [step.made for step in evaluations] == [4, 3, 3, 3]


def test_a_recording_outside_sees_the_pipelines_calls_and_what_the_scheduler_got():
    pipe, arguments = sd15()
    how = {"keep": "branches", "branches": ("uncond", "cond"), "sites": ["unet.mid_block"]}
    rule = PAG(3.0, sites=(MIDDLE,), weight=GUIDANCE)
    with record(pipe, **how) as without:
        run(pipe, arguments, CFG(GUIDANCE))
    with record(pipe, **how) as trace:
        run(pipe, arguments, rule)
    assert len(trace.scalars) == len(without.scalars) == 4
    for name in ("x", "cond", "uncond"):
        assert torch.equal(trace.load(name, 0), without.load(name, 0))  # the first state is the same
    for name in ("cond", "uncond"):
        assert torch.equal(*(one.arrays.site("unet.mid_block", 0, name) for one in (trace, without)))
    cfg = without.load("guided", 0)
    assert not torch.allclose(trace.load("guided", 0), cfg, rtol=1e-3)


def test_a_sweep_of_a_pipeline_takes_every_rule(tmp_path):
    pipe, arguments = sd15(batch=len(SEEDS))
    rows = {name: arguments.pop(name) for name in ("prompt_embeds", "negative_prompt_embeds")}
    del arguments["generator"]
    how = {"condition": rows, "arguments": arguments, "seeds": SEEDS, "progress": False, "folder": tmp_path}
    rules = {
        "PAG": PAG(3.0, sites=(MIDDLE,), weight=GUIDANCE),
        "TSG": TSG(2.0, site="time_embedding"),
        "auto": Autoguidance(2.0, weak_unet(pipe)),
        "ICG": ICG(2.0, GaussianEmbeddings()),
        "interval": Interval(PAG(3.0, sites=(MIDDLE,), weight=GUIDANCE), low=0.5, high=5.0),
    }
    parts, whole = (sweep(pipe, rules, batch=b, **(how | {"folder": tmp_path / str(b)})) for b in (2, 3))
    for part, one in zip(parts, whole, strict=True):
        # a sample depends on its seed, not on its batch: the draws are the seed's
        assert (part.run.samples - one.run.samples).abs().max() <= 3e-5 * one.run.samples.abs().max()
        scalars = one.run.trace.scalars
        total, acts = scalars["needed"] + scalars["observed"], scalars["needed"] > 1
        needed = 3 if part.name in ("PAG", "interval") else 2
        assert set(scalars.loc[acts, "needed"]) == {needed}
        first = scalars["step"] == scalars.loc[acts, "step"].min()  # the proof is one more
        assert (total == 2 + acts + first).all()
    assert not whole[-1].run.trace.scalars["needed"].eq(3).all()
    with pytest.raises(InputError, match="another sweep"):
        sweep(
            pipe,
            rules | {"auto": Autoguidance(2.0, weak_unet(pipe, seed=6))},
            batch=3,
            **(how | {"folder": tmp_path / "3"}),
        )
    again = sweep(pipe, rules, batch=3, **(how | {"folder": tmp_path / "3"}))
    assert all(torch.equal(a.run.samples, b.run.samples) for a, b in zip(again, whole, strict=True))


def test_interventions_act_in_repeated_calls_once_and_caches_pass_them_by():
    pipe, arguments = sd15()
    same = ICG(3.0, lambda generators, condition: condition.clone())
    for site, size in (("condition", 16), ("unet.mid_block", 16)):
        given = Intervention("add", site, 0.5 * torch.randn(size, generator=generator(4)))
        for options in ({}, {"branches": ("uncond", "cond")}):
            one = given if not options else Intervention("add", site, given.value, branch="cond")
            with intervene(pipe, [one], **options):
                expected = run(pipe, arguments, CFG(1.0))[0]
                found, _ = run(pipe, arguments, same)
            assert close(found, expected) and not close(found, plain(*unguided(sd15)))
    kept = []
    for rule in (CFG(GUIDANCE), PAG(3.0, sites=(MIDDLE,), weight=GUIDANCE)):
        cache = ActivationCache()
        with cache_activations(pipe, ["unet.mid_block"], cache):
            run(pipe, arguments, rule)
        kept.append(len(cache))
    assert kept[0] == kept[1] > 0


def test_nothing_stays_behind_when_a_branch_fails():
    pipe, arguments = sd15()

    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(pipe, arguments, Autoguidance(2.0, fail))
    assert_clean(pipe)
    pipe.unet.mid_block.resnets[1].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(pipe, arguments, PAG(3.0, sites=(MIDDLE,)))
    assert_clean(pipe)


def test_a_compiled_network_is_called_again():
    pipe, arguments = sd15()
    expected, _ = run(pipe, arguments, Autoguidance(3.0, weak_unet(pipe)))
    weak = weak_unet(pipe)
    torch._dynamo.reset()
    pipe.unet = torch.compile(pipe.unet, backend="eager")
    with record(pipe, branches=("uncond", "cond")) as trace:
        found, evaluations = run(pipe, arguments, Autoguidance(3.0, weak))
    assert close(found, expected) and len(trace.scalars) == 4
    assert [step.made for step in evaluations] == [4, 3, 3, 3]
    with pytest.raises(InputError, match="compiled"):
        guide(pipe, PAG(3.0, sites=(MIDDLE,)))
    torch._dynamo.reset()
