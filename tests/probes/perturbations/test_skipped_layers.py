"""Skipped layers: diffusers' own skipping on its networks, Stable Diffusion 3's own pipeline, and dropout by seed."""

import diffusers
import pytest
import torch
from diffusers.hooks.layer_skip import LayerSkipConfig, apply_layer_skip
from tests.pipelines import GUIDANCE, flux_true, generator, output_of, pixart, sd3, sd15, slg

from scorescope.data import InputError, load_denoiser
from scorescope.probes import CFG, SLG, Autoguidance, Recording, guide, replay, sample
from scorescope.probes.guidance.base import PERTURBED, WEAK, GuidanceState
from scorescope.probes.perturbations import SkippedLayers

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
LABELS = torch.arange(4)
SITE = "network.middle1"


@pytest.fixture(scope="module")
def digits():
    return load_denoiser("digits")[0]


def run(pipe, arguments, rule):
    with guide(pipe, rule):
        return output_of(pipe(**(arguments | {"generator": generator()})))


def close(found, expected, within=3e-5):
    return (found - expected).abs().max() <= within * expected.abs().max()


def state(sigma=1.0):
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return GuidanceState(x, sigma, 0.5, step=2, call=0, seeds=range(4))


def hooks(network):
    return sum(len(module._forward_hooks) for module in network.modules())


def test_skipped_blocks_make_the_images_of_the_pipelines_own_guidance():
    pipe, arguments = slg()
    expected = output_of(pipe(**(arguments | {"generator": generator()})))
    rule = SLG(2.8, sites=("transformer_blocks.1",), weight=arguments["guidance_scale"], first=1, last=3)
    assert close(run(*sd3(), rule), expected)
    assert not close(run(*sd3(), CFG(arguments["guidance_scale"])), expected, within=1e-2)


def called(network, x):
    """What a PixArt transformer or a UNet makes of a state; the text has 5 tokens."""
    wide = 32 if isinstance(network, diffusers.PixArtTransformer2DModel) else 16
    text = torch.randn(len(x), 5, wide, generator=generator(7))
    with torch.no_grad():
        return network(x, timestep=torch.full((len(x),), 400), encoder_hidden_states=text).sample


class Called(torch.nn.Module):
    """A network as a denoiser."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, sigma, condition):
        return called(self.network, x)


PARTS = {
    "block": ({}, ("",)),
    "attention": ({"skip_ff": False}, (".attn1",)),
    "feed-forward": ({"skip_attention": False}, (".ff",)),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    ("build", "stack"),
    [(lambda: pixart()[0].transformer, "transformer_blocks"),
     (lambda: sd15()[0].unet, "mid_block.attentions.0.transformer_blocks")],
    ids=["pixart", "unet"],
)  # fmt: skip
def test_skipping_is_that_of_diffusers(build, stack, part):
    config, parts = PARTS[part]
    x = torch.randn(2, 4, 8, 8, generator=generator(3))
    network = build()
    sites = tuple(f"network.{stack}.0{name}" for name in parts)
    plain = called(network, x)
    where = GuidanceState(x, 1.0, 0.5, step=0, call=0)
    found = SLG(1.0, sites=sites).predict(PERTURBED, Called(network), x, torch.ones(2), None, where)
    weak = SkippedLayers(sites).weak_prediction(Called(network), x, torch.ones(2), None, where)
    assert hooks(network) == 0 and torch.equal(called(network, x), plain)
    apply_layer_skip(network, LayerSkipConfig([0], fqn=stack, **config))
    expected = called(network, x)
    assert torch.equal(found, expected) and torch.equal(weak, expected) and not close(found, plain, within=1e-4)
    rule = Autoguidance(2.5, SkippedLayers(sites))
    peer = diffusers.AutoGuidance(2.5, auto_guidance_config=LayerSkipConfig([0], fqn=stack, **config))
    where.others[WEAK] = expected
    assert torch.allclose(rule(plain, None, where), peer.forward(plain, expected).pred, atol=1e-6)


class CalledSD3(torch.nn.Module):
    """A Stable Diffusion 3 transformer as a denoiser."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, sigma, condition):
        text = torch.randn(1, 5, 32, generator=generator(2))
        return self.network(x, text, torch.zeros(1, 64), torch.full((1,), 500), return_dict=False)[0]


def test_a_block_passes_on_text_and_image_in_their_places():
    network, x, seen = sd3()[0].transformer, torch.randn(1, 4, 8, 8, generator=generator(1)), []
    for block in network.transformer_blocks:
        block.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True)
    streams, denoiser = ("hidden_states", "encoder_hidden_states"), CalledSD3(network)
    rule = SLG(1.0, sites=("network.transformer_blocks.0",))
    with torch.no_grad():
        rule.predict(PERTURBED, denoiser, x, torch.ones(1), None, GuidanceState(x, 1.0, 0.5, 0, 0))
        apply_layer_skip(network, LayerSkipConfig([0], fqn="transformer_blocks"))
        with pytest.raises(RuntimeError, match="is invalid for input of size 20"):  # its 5 tokens of text
            denoiser(x, torch.ones(1), None)
    first, second, theirs = seen[0], seen[1], seen[-1]
    assert all(torch.equal(first[name], second[name]) for name in streams)
    # the hook of diffusers gives them back in the other order, and goes on with the text for the image
    assert torch.equal(theirs["encoder_hidden_states"], first["hidden_states"])


def test_blocks_of_one_sequence_are_skipped_too():
    pipe, arguments = flux_true()
    rule = SLG(1.0, sites=("transformer_blocks.0", "single_transformer_blocks.0"))
    assert not close(run(pipe, arguments, rule), run(pipe, arguments, CFG(1.0)), within=1e-3)


def test_without_dropout_the_weak_model_is_the_model(digits):
    where, sigma = state(), torch.ones(4)
    with torch.no_grad():
        plain = digits(where.x, sigma, LABELS)
        found = SkippedLayers((SITE,), dropout=0.0).weak_prediction(digits, where.x, sigma, LABELS, where)
    assert torch.equal(found, plain)
    rule = Autoguidance(3.0, SkippedLayers((SITE,), dropout=0.0))
    plain = draw(digits, CFG(1.0))
    assert torch.allclose(draw(digits, rule).samples, plain.samples, atol=1e-4)


def draw(denoiser, rule, **options):
    how = {"sigmas": (20.0, 3.0, 0.5, 0.0), "record": Recording(keep=True), "progress": False}
    return sample(denoiser, seeds=range(4), condition=LABELS, rule=rule, **how, **options)


@pytest.mark.parametrize("rule", [
    SLG(1.5, sites=("network.attention", SITE), weight=2.0),
    Autoguidance(2.0, SkippedLayers((SITE,))),
    Autoguidance(2.0, SkippedLayers((SITE, "network.attention"), dropout=0.3)),
], ids=repr)  # fmt: skip
def test_runs_repeat_and_do_not_depend_on_the_batch(digits, rule):
    whole = draw(digits, rule)
    assert torch.equal(draw(digits, rule).samples, whole.samples)
    # float32 convolutions may sum in another order for another batch
    assert torch.allclose(draw(digits, rule, batch=1).samples, whole.samples, atol=2e-3)
    assert not torch.allclose(draw(digits, CFG(1.0)).samples, whole.samples, atol=2e-2)
    assert hooks(digits) == 0
    table = replay(whole.trace, rule).scalars  # from the branches that were kept
    assert ((table["difference_sq"] / table["guided_sq"]) ** 0.5).max() < 1e-5


def test_dropout_sets_its_share_to_zero_and_lets_the_others_grow(digits):
    where, seen = state(), []
    weak = SkippedLayers((SITE,), dropout=0.25)
    with torch.no_grad():
        handles = [digits.network.middle1.register_forward_hook(lambda m, i, out: seen.append(out))]
        handles += [digits.network.attention.register_forward_pre_hook(lambda m, args: seen.append(args[0]))]
        weak.weak_prediction(digits, where.x, torch.ones(4), LABELS, where)
    for handle in handles:
        handle.remove()
    before, after = seen
    zero = after == 0
    assert zero.float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert torch.allclose(after[~zero], before[~zero] / 0.75)
    assert not (zero[0] == zero[1]).all()  # each sample has its own


def test_a_pipeline_may_drop_layers_of_its_own_network():
    pipe, arguments = sd15(batch=2)
    site = "mid_block.attentions.0.transformer_blocks.0"
    skipped, dropped = (run(pipe, arguments, Autoguidance(2.0, SkippedLayers((site,), p))) for p in (1.0, 0.4))
    assert not close(skipped, dropped) and skipped.isfinite().all() and dropped.isfinite().all()
    assert close(run(pipe, arguments, Autoguidance(2.0, SkippedLayers((site,), 0.0))), run(pipe, arguments, CFG(1.0)))
    assert hooks(pipe.unet) == 0


def test_sites_that_cannot_be_skipped_are_refused_and_nothing_stays(digits):
    where = state()
    for rule in (SLG(1.0, sites=("network.nothing",)), Autoguidance(2.0, SkippedLayers(("network.nothing",)))):
        with pytest.raises(InputError, match=r"^site: found 'network.nothing'; expected a module of the"):
            rule.predict(WEAK if isinstance(rule, Autoguidance) else PERTURBED, digits, where.x, torch.ones(4), LABELS,
                         where)  # fmt: skip
    wide = next(name for name, module in digits.named_modules() if getattr(module, "in_channels", 0) == 1)
    with pytest.raises(InputError, match=r"^sites: found a Conv2d, which puts out 0: \(4, \d+, 8, 8\); expected a mod"):
        SLG(1.0, sites=(wide,)).predict(PERTURBED, digits, where.x, torch.ones(4), LABELS, where)
    handle = digits.network.attention.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        SLG(1.0, sites=(SITE,)).predict(PERTURBED, digits, where.x, torch.ones(4), LABELS, where)
    handle.remove()
    assert hooks(digits) == 0
    pipe, arguments = sd15()
    for rule in (SLG(1.0, sites=("mid_blok",)), Autoguidance(2.0, SkippedLayers(("mid_blok",)))):
        with pytest.raises(InputError, match=r"^site: found 'mid_blok'; expected .* such as .*mid_block"):
            guide(pipe, rule)
    with pytest.raises(InputError, match=r"^sites: found a DownBlock2D"):  # it returns its residuals too
        run(pipe, arguments, SLG(1.0, sites=("down_blocks.0",), weight=GUIDANCE))
    assert hooks(pipe.unet) == 0


@pytest.mark.parametrize(("make", "match"), [
    (lambda: SLG(1.0, sites=()), r"^sites: found \(\); expected at least one module's name"),
    (lambda: SLG(1.0, sites=("a", "a")), r"^sites: found \('a', 'a'\).*each once"),
    (lambda: SkippedLayers(()), r"^sites: found \(\)"),
    (lambda: SkippedLayers(("a",), dropout=1.5), r"^dropout: found 1.5; expected a share from 0 to 1"),
    (lambda: SkippedLayers(("a",), dropout=float("nan")), r"^dropout: found nan"),
])  # fmt: skip
def test_bad_input(make, match):
    with pytest.raises(InputError, match=match):
        make()
