"""Interventions in unmodified pipelines."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from tests.pipelines import ddpm, dit, flux_true, generator, modular_sdxl, output_of, sd3, sd15, sdxl, wan
from tests.probes.recording.test_leaving import failing_at, is_clean
from torch import nn

from scorescope.data.errors import InputError
from scorescope.probes import Intervention, Site, intervene, record
from scorescope.probes.sites import ActivationCache, cache_activations, intervened

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

MIDDLE = "unet.mid_block"


def run(pipe: Any, arguments: Any) -> torch.Tensor:
    given = arguments | ({"generator": generator()} if "generator" in arguments else {})
    return output_of(pipe(**given))


def width(pipe: Any) -> int:
    return int(pipe.unet.config.block_out_channels[-1])


def test_adding_zero_gives_the_same_image_to_the_bit():
    pipe, arguments = sd15()
    bare = run(pipe, arguments)
    vector = torch.randn(width(pipe), generator=generator(1))
    for given in (Intervention("add", MIDDLE, vector, 0.0), Intervention("add", MIDDLE, 0 * vector)):
        with intervene(pipe, [given]):
            assert torch.equal(run(pipe, arguments), bare)
    with intervene(pipe, [Intervention("add", MIDDLE, vector)]):
        assert not torch.isclose(run(pipe, arguments), bare).all()
    assert is_clean(pipe) and torch.equal(run(pipe, arguments), bare)


@pytest.mark.parametrize("branch", ["both", "cond", "uncond"])
def test_adding_a_vector_is_a_hook_written_by_hand(branch):
    pipe, arguments = sd15(batch=2)  # [uncond, uncond, cond, cond]
    vector = torch.randn(width(pipe), generator=generator(1))
    rows = {"both": [1, 1, 1, 1], "cond": [0, 0, 1, 1], "uncond": [1, 1, 0, 0]}[branch]
    shift = torch.tensor(rows)[:, None, None, None] * vector[None, :, None, None]
    handle = pipe.unet.mid_block.register_forward_hook(lambda module, args, output: output + shift)
    expected = run(pipe, arguments)
    handle.remove()
    given = Intervention("add", MIDDLE, vector, branch=branch)
    with intervene(pipe, [given], branches=("uncond", "cond")):
        found = run(pipe, arguments)
    torch.testing.assert_close(found, expected)
    assert is_clean(pipe)


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize(("branch", "bounds"), [("cond", {}), ("uncond", {"low": 0.5}), ("cond", {"high": 1.0})])
def test_an_order_of_branches_that_the_step_disproves_is_refused(branch, bounds, recorded):
    pipe, arguments = sd15()
    given = Intervention("add", MIDDLE, torch.ones(width(pipe)), branch=branch, **bounds)
    words = r"found \('cond', 'uncond'\) in call 0.*\('uncond', 'cond'\), as the step"
    listening = record(pipe) if recorded else nullcontext()
    with pytest.raises(InputError, match=words), listening, intervene(pipe, [given], branches=("cond", "uncond")):
        run(pipe, arguments)
    assert is_clean(pipe)


def test_edits_outside_their_interval_are_skipped_without_asking_the_device():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Identity()

        def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            return self.layer(sample)

    scheduler = EulerDiscreteScheduler()
    scheduler.set_timesteps(4)
    pipe = SimpleNamespace(unet=Net(), scheduler=scheduler)
    x = torch.zeros(2, 3, 4, 4, device="meta")  # values that cannot be read, as if that took forever
    wrong = torch.ones(5)  # an edit that is applied does not fit
    with intervene(pipe, [Intervention("add", "unet.layer", wrong, high=0.01)]):
        assert pipe.unet(x, scheduler.timesteps[0]) is x
    with pytest.raises(InputError, match="5 numbers"), intervene(pipe, [Intervention("add", "unet.layer", wrong)]):
        pipe.unet(x, scheduler.timesteps[0])


def test_it_acts_by_noise_level_and_by_image():
    pipe, arguments = sd15(batch=2)
    with record(pipe) as trace:
        bare = run(pipe, arguments)
    sigmas = trace.scalars["sigma"].unique()
    vector, seen = torch.randn(width(pipe), generator=generator(1)), []
    strength = torch.tensor([0.0, 1.0])
    given = Intervention("add", MIDDLE, vector, strength, low=float(sigmas[2]), high=float(sigmas[1]) * (1 + 1e-6))

    def by_hand(module, args, output):
        seen.append(0)
        return output + (len(seen) == 2) * strength.repeat(2)[:, None, None, None] * vector[None, :, None, None]

    handle = pipe.unet.mid_block.register_forward_hook(by_hand)
    expected = run(pipe, arguments)
    handle.remove()
    with intervene(pipe, [given]):
        found = run(pipe, arguments)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found[0], bare[0])
    assert not torch.isclose(found[1], bare[1]).all()


def test_recording_sees_it_and_changes_nothing():
    pipe, arguments = sd15()
    vector = torch.randn(width(pipe), generator=generator(1))
    given = [Intervention("replace", MIDDLE, vector)]
    with intervene(pipe, given):
        alone = run(pipe, arguments)
    with record(pipe, sites=[Site(MIDDLE)], keep="all") as outer, intervene(pipe, given):
        first = run(pipe, arguments)
    with intervene(pipe, given), record(pipe, sites=[Site(MIDDLE)], keep="all") as inner:
        second = run(pipe, arguments)
    assert torch.equal(first, alone) and torch.equal(second, alone)
    assert len(outer.scalars) == len(inner.scalars) > 0 and is_clean(pipe)
    for trace in (outer, inner):  # what is kept is what the network went on with
        for branch in ("cond", "uncond"):
            kept = trace.arrays.site(MIDDLE, 0, branch)
            torch.testing.assert_close(kept, vector[:, None, None].expand_as(kept))


def test_patching_along_a_direction_is_a_hook_written_by_hand():
    """Of the source's activation, the part along v, whatever the length of v; keyed on the noise level."""
    pipe, arguments = sd15()
    other = arguments | {"prompt_embeds": arguments["prompt_embeds"].flip(1)}
    cache, seen = ActivationCache(), []
    with cache_activations(pipe, [MIDDLE], cache):
        handle = pipe.unet.mid_block.register_forward_hook(lambda module, args, output: seen.append(output))
        run(pipe, arguments)
        handle.remove()
    vector = 3 * torch.randn(width(pipe), generator=generator(1))
    unit, steps = (vector / vector.norm())[None, :, None, None], iter(seen)

    def by_hand(module, args, output):
        return output + ((next(steps) - output) * unit).sum(1, keepdim=True) * unit

    handle = pipe.unet.mid_block.register_forward_hook(by_hand)
    expected = run(pipe, other)
    handle.remove()
    with intervene(pipe, [Intervention("patch", MIDDLE, vector, source=cache)]):
        torch.testing.assert_close(run(pipe, other), expected)
    assert not torch.isclose(expected, run(pipe, other)).all() and is_clean(pipe)


def test_condition_tokens():
    pipe, arguments = sd15()
    tokens = arguments["prompt_embeds"].clone()
    shift = torch.randn(tokens.shape[-1], generator=generator(1))
    tokens[:, 2] += shift
    expected = run(pipe, arguments | {"prompt_embeds": tokens})
    given = Intervention("add", "condition.2", shift, branch="cond")
    with intervene(pipe, [given], branches=("uncond", "cond")):
        torch.testing.assert_close(run(pipe, arguments), expected)


def test_patching_everything_gives_the_source_run():
    pipe, arguments = sd15()
    other = arguments | {"prompt_embeds": arguments["prompt_embeds"].flip(1)}
    source = run(pipe, arguments)
    cache = ActivationCache()
    with cache_activations(pipe, ["unet.conv_out", MIDDLE], cache):
        assert torch.equal(run(pipe, arguments), source)
    assert len(cache.sigmas()) == 4 and is_clean(pipe)
    with intervene(pipe, [Intervention("patch", "unet.conv_out", source=cache)]):
        assert torch.equal(run(pipe, other), source)
    with intervene(pipe, [Intervention("patch", MIDDLE, source=cache)]):
        half = run(pipe, other)
    assert not torch.isclose(half, source).all()
    with pytest.raises(InputError, match="nearest"), intervene(pipe, [Intervention("patch", MIDDLE, source=cache)]):
        run(pipe, other | {"num_inference_steps": 7})
    assert is_clean(pipe)


BUILT = [
    (sdxl, "unet.mid_block", ()), (dit, "transformer.transformer_blocks.0", ("cond", "uncond")),
    (sd3, "transformer.transformer_blocks.0", ("uncond", "cond")), (flux_true, "transformer.transformer_blocks.0", ()),
    (wan, "transformer.blocks.0", ()), (ddpm, "unet.mid_block", ()), (modular_sdxl, "unet.mid_block", ()),
]  # fmt: skip


@pytest.mark.parametrize(("build", "site", "branches"), BUILT, ids=[build.__name__ for build, *_ in BUILT])
def test_every_kind_of_pipeline(build, site, branches):
    pipe, arguments = build()
    with record(pipe) as trace:
        bare = run(pipe, arguments)
    sigmas = trace.scalars["sigma"].to_numpy()
    split = float(sigmas[len(sigmas) // 2])
    for low, high in ((split, float("inf")), (0.0, split)):
        off = Intervention("zero", site, low=low, high=high)
        with intervene(pipe, [off]):
            assert not torch.isclose(run(pipe, arguments), bare).all()
        with intervene(pipe, [Intervention("zero", site, strength=0.0, low=low, high=high)]):
            assert torch.equal(run(pipe, arguments), bare)
    # outside of the levels of the run it does nothing, so the levels before the steps are those of the steps
    top = float(sigmas[sigmas < float("inf")].max())
    with intervene(pipe, [Intervention("zero", site, high=float(sigmas.min()) * 0.999)]):
        assert torch.equal(run(pipe, arguments), bare)
    if (sigmas < float("inf")).all():
        with intervene(pipe, [Intervention("zero", site, low=top * 1.001)]):
            assert torch.equal(run(pipe, arguments), bare)
    assert is_clean(pipe)


@pytest.mark.parametrize("build", [flux_true, wan], ids=["flux", "wan"])
def test_named_calls_are_told_apart(build):
    pipe, arguments = build()
    site = "transformer.transformer_blocks.0" if build is flux_true else "transformer.blocks.0"
    found = {}
    for branch in ("cond", "uncond", "both"):
        with intervene(pipe, [Intervention("zero", site, branch=branch)]):
            found[branch] = run(pipe, arguments)
    assert not torch.isclose(found["cond"], found["uncond"]).all()
    assert not torch.isclose(found["cond"], found["both"]).all()
    cache = ActivationCache()
    with cache_activations(pipe, [site], cache):
        run(pipe, arguments)
    assert cache.sigmas("cond") == cache.sigmas("uncond") != []


@pytest.mark.parametrize("count", range(3))
def test_nothing_stays_after_an_error(count):
    pipe, arguments = sd15()
    handle = pipe.unet.conv_out.register_forward_pre_hook(failing_at(count, RuntimeError))
    with pytest.raises(RuntimeError, match="injected"), intervene(pipe, [Intervention("zero", MIDDLE)]):
        run(pipe, arguments)
    handle.remove()
    assert is_clean(pipe)


def test_nothing_stays_when_entering_fails(monkeypatch):
    pipe, _ = sd15()
    count = iter(range(100))
    inner = nn.Module.register_forward_hook

    def register(self, *args, **kwargs):
        if next(count) == 1:
            raise RuntimeError("half-way")
        return inner(self, *args, **kwargs)

    monkeypatch.setattr(nn.Module, "register_forward_hook", register)
    with pytest.raises(RuntimeError, match="half-way"), intervene(pipe, [Intervention("zero", MIDDLE)]):
        pass
    assert is_clean(pipe)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Intervention("zero", "unet.mid_blok"), "unet.mid_block"),
        (Intervention("zero", "vae.mid_block"), "a module of a denoiser"),
        (Intervention("zero", "x"), "or 'condition'"),
        (Intervention("zero", "unet.down_blocks"), "never called"),
        (Intervention("zero", MIDDLE, branch="cond"), "branches="),
        (Intervention("add", MIDDLE, torch.ones(3)), "its channels"),
        (Intervention("add", MIDDLE, torch.ones(4, 3), torch.ones(3)), "3 rows"),
        (Intervention("add", "condition.9", torch.ones(16)), "of 5 tokens"),
    ],
)
def test_bad_input(given, words):
    pipe, arguments = sd15()
    with pytest.raises(InputError, match=words), intervene(pipe, [given]):
        run(pipe, arguments)
    assert is_clean(pipe)


def test_unknown_noise_levels():
    pipe, arguments = sd15()

    def unknown(scheduler, timestep, state):
        from scorescope.probes.pipelines import Level

        return Level(note="unknown here")

    with (
        pytest.raises(InputError, match="unknown here"),
        intervene(pipe, [Intervention("zero", MIDDLE, low=1.0)], level=unknown),
    ):
        run(pipe, arguments)
    with intervene(pipe, [Intervention("zero", MIDDLE)], level=unknown):  # at all levels none needs to be known
        run(pipe, arguments)


POOLED_OF = {"sdxl": (sdxl, "pooled_prompt_embeds"), "sd3": (sd3, "pooled_prompt_embeds"),
             "flux": (flux_true, "pooled_prompt_embeds")}  # fmt: skip


@pytest.mark.parametrize("name", POOLED_OF)
def test_pooled_embeddings_and_tokens_of_the_cond_branch_are_those_of_another_prompt(name):
    make, argument = POOLED_OF[name]
    pipe, arguments = make()
    bare = run(pipe, arguments)
    pooled = torch.randn(arguments[argument].shape[1], generator=generator(1))
    token = torch.randn(arguments["prompt_embeds"].shape[2], generator=generator(2))
    other = {argument: arguments[argument] + 2 * pooled, "prompt_embeds": arguments["prompt_embeds"].clone()}
    other["prompt_embeds"][:, 3] -= token
    expected = run(pipe, arguments | other)
    both = [Intervention("add", "pooled", pooled, 2.0, branch="cond"),
            Intervention("add", "condition.3", token, -1.0, branch="cond")]  # fmt: skip
    order = () if name == "flux" else ("uncond", "cond")  # its calls have names
    with intervene(pipe, both, branches=order):
        torch.testing.assert_close(run(pipe, arguments), expected)
    with intervene(pipe, both[:1], branches=order):
        only = run(pipe, arguments)
    assert torch.equal(run(pipe, arguments), bare) and not torch.allclose(only, expected)
    torch.testing.assert_close(only, run(pipe, arguments | {argument: other[argument]}))


def test_one_encoder_of_two_that_lie_side_by_side_is_shifted_by_its_channels():
    pipe, arguments = sdxl()  # as if of encoders of widths 6 and 10
    step = torch.randn(10, generator=generator(1))
    other = arguments["prompt_embeds"].clone()
    other[..., 6:] += step
    expected = run(pipe, arguments | {"prompt_embeds": other})
    given = Intervention("add", "condition", step, channels=tuple(range(6, 16)), branch="cond")
    with intervene(pipe, [given], branches=("uncond", "cond")):
        torch.testing.assert_close(run(pipe, arguments), expected)


def test_a_denoiser_without_a_pooled_embedding_says_so():
    pipe, arguments = sd15()
    given = Intervention("add", "pooled", torch.ones(8))
    with pytest.raises(InputError, match="pooled: found a call of unet without such states"), intervene(pipe, [given]):
        run(pipe, arguments)
    with pytest.raises(InputError, match="site: found 'pooled'"):
        intervened(nn.Identity(), [given])
