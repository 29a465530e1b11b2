"""Blurred queries: diffusers' blur on its networks, attention by hand on ours, the mean at an infinite blur."""

import math

import pytest
import torch
from diffusers.hooks import HookRegistry, smoothed_energy_guidance_utils
from scipy import ndimage
from tests.pipelines import GUIDANCE, flux_true, generator, output_of, sd3, sd15

from scorescope.data import InputError, load_denoiser
from scorescope.probes import CFG, SEG, Recording, guide, replay, sample
from scorescope.probes.guidance import PAG
from scorescope.probes.guidance.base import PERTURBED, GuidanceState

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
LABELS = torch.arange(4)
MIDDLE = "mid_block.attentions.0.transformer_blocks.0.attn1"
UP = "up_blocks.0.attentions.0.transformer_blocks.0.attn1"


@pytest.fixture(scope="module")
def digits():
    return load_denoiser("digits")[0]


class Called(torch.nn.Module):
    """A UNet as a denoiser."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, sigma, condition):
        text = torch.randn(len(x), 5, 16, generator=generator(7))
        with torch.no_grad():
            return self.network(x, torch.full((len(x),), 400), encoder_hidden_states=text).sample


def state(x=None):
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)) if x is None else x
    return GuidanceState(x, 1.0, 0.5, step=2, call=0, seeds=range(len(x)))


def perturbed(rule, denoiser, x):
    return rule.predict(PERTURBED, denoiser, x, torch.ones(len(x)), LABELS, state(x))


def hooks(network):
    return sum(len(module._forward_hooks) for module in network.modules())


@pytest.mark.parametrize("blur", [0.4, 1.0, 3.0, math.inf])
@pytest.mark.parametrize("site", [MIDDLE, UP])
def test_the_blur_is_that_of_diffusers(site, blur):
    network, x = sd15()[0].unet, torch.randn(2, 4, 8, 8, generator=generator(3))
    plain = Called(network)(x, None, None)
    found = perturbed(SEG(1.0, sites=(f"network.{site}",), blur=blur), Called(network), x)
    assert hooks(network) == 0 and torch.equal(Called(network)(x, None, None), plain)
    # its hook takes the mean below its threshold and the kernel above, where the paper's code does the contrary
    threshold = math.inf if blur == math.inf else 0.0
    hook = smoothed_energy_guidance_utils.SmoothedEnergyGuidanceHook(min(blur, 9.0), threshold)
    HookRegistry.check_if_exists_or_initialize(network.get_submodule(site).to_q).register_hook(hook, "blur")
    expected = Called(network)(x, None, None)
    assert torch.allclose(found, expected, atol=1e-5) and not torch.allclose(found, plain, atol=1e-5)


def test_attention_with_blurred_queries_by_hand(digits):
    attention = digits.network.attention
    h = torch.randn(3, attention.qkv.in_channels, 4, 4, generator=torch.Generator().manual_seed(0))

    def by_hand(change):
        query, key, value = attention.qkv(attention.norm(h)).chunk(3, dim=1)
        heads = [part.reshape(3, attention.heads, -1, 16) for part in (change(query), key, value)]
        q, k, v = heads
        weights = (torch.einsum("bhcq,bhck->bhqk", q, k) / q.shape[2] ** 0.5).softmax(-1)
        return h + attention.out(torch.einsum("bhqk,bhck->bhcq", weights, v).reshape(h.shape))

    def blurred(query):  # scipy's "mirror" is torch's "reflect"; three positions reach as far as ceil(6 * 0.5)
        return torch.from_numpy(ndimage.gaussian_filter(query.numpy(), (0, 0, 0.5, 0.5), mode="mirror", radius=1))

    def mean(query):
        return query.mean((2, 3), keepdim=True).expand_as(query)

    with torch.no_grad():
        assert torch.allclose(attention(h), by_hand(lambda query: query), atol=1e-5)
        for blur, change in ((0.5, blurred), (math.inf, mean)):
            found = attention.with_queries(h, SEG(1.0, blur=blur)._blurred)
            assert torch.allclose(found, by_hand(change), atol=1e-5)
            assert not torch.allclose(found, attention(h), atol=1e-2)


def draw(denoiser, rule, **options):
    how = {"sigmas": (20.0, 3.0, 0.5, 0.0), "record": Recording(keep=True), "progress": False}
    return sample(denoiser, seeds=range(4), condition=LABELS, rule=rule, **how, **options)


def test_no_blur_is_no_guidance(digits):
    with torch.no_grad():
        found = perturbed(SEG(1.0, blur=0.0), digits, state().x)
        assert torch.allclose(found, digits(state().x, torch.ones(4), LABELS), atol=1e-6)
    assert torch.allclose(draw(digits, SEG(2.0, blur=0.0)).samples, draw(digits, CFG(1.0)).samples, atol=1e-4)


def test_more_blur_is_more_of_a_disturbance_and_ends_at_the_mean(digits):
    x = state().x
    with torch.no_grad():
        plain, mean = digits(x, torch.ones(4), LABELS), perturbed(SEG(1.0), digits, x)
        away = [(perturbed(SEG(1.0, blur=blur), digits, x) - plain).norm().item() for blur in (0.2, 0.5, 1.0)]
        wide = perturbed(SEG(1.0, blur=1e4), digits, x)
    assert 0 < away[0] < away[1] < away[2]
    assert 0 < (wide - mean).norm() < 0.5 * (mean - plain).norm()  # the kernel ends at the map


@pytest.mark.parametrize("rule", [SEG(1.5, weight=2.0), SEG(1.0, blur=0.7), SEG(1.0, first=1, last=1)], ids=repr)
def test_runs_repeat_and_do_not_depend_on_the_batch(digits, rule):
    whole = draw(digits, rule)
    assert torch.equal(draw(digits, rule).samples, whole.samples)
    # float32 convolutions may sum in another order for another batch
    assert torch.allclose(draw(digits, rule, batch=1).samples, whole.samples, atol=2e-3)
    assert hooks(digits) == 0
    table = replay(whole.trace, rule).scalars
    assert ((table["difference_sq"] / table["guided_sq"]) ** 0.5).max() < 1e-5
    if rule.first == 0:
        with pytest.raises(InputError, match="of a SEG with other parameters"):
            replay(whole.trace, SEG(rule.scale, blur=0.9))
        with pytest.raises(InputError, match="the perturbed branch of SEG at step 0; expected that of PAG"):
            replay(whole.trace, PAG(1.0))


def run(pipe, arguments, rule):
    with guide(pipe, rule) as session:
        return output_of(pipe(**(arguments | {"generator": generator()}))), session.evaluations


@pytest.mark.parametrize(("build", "site"), [(sd15, MIDDLE), (sd3, "transformer_blocks.0.attn")])
def test_pipelines_take_it(build, site):
    pipe, arguments = build()
    found, evaluations = run(pipe, arguments, SEG(3.0, sites=(site,), weight=GUIDANCE))
    assert [step.made for step in evaluations] == [4, 3, 3, 3]
    plain, _ = run(pipe, arguments, CFG(GUIDANCE))
    assert (found - plain).abs().max() > 1e-4 * plain.abs().max()
    network = getattr(pipe, "unet", None) or pipe.transformer
    assert hooks(network) == 0


def test_tokens_become_a_map_by_the_aspect():
    queries = torch.randn(2, 24, 8, generator=generator(1))
    found = SEG(1.0, sites=("a",), blur=0.8, aspect=1.5)._blurred_tokens(queries)
    maps = queries.transpose(1, 2).reshape(2, 8, 6, 4)
    expected = ndimage.gaussian_filter(maps.numpy(), (0, 0, 0.8, 0.8), mode="mirror", radius=2)
    assert torch.allclose(found.transpose(1, 2).reshape(2, 8, 6, 4), torch.from_numpy(expected), atol=1e-5)
    for aspect in (1.0, 2.0):
        with pytest.raises(InputError, match=r"^sites: found an attention over 24 tokens; expected .* as aspect="):
            SEG(1.0, sites=("a",), aspect=aspect)._blurred_tokens(queries)


def test_sites_that_are_no_self_attention_are_refused_and_nothing_stays(digits):
    with pytest.raises(InputError, match=r"^sites: found a ResidualBlock; expected self-attention"):
        perturbed(SEG(1.0, sites=("network.attention", "network.middle1")), digits, state().x)
    handle = digits.network.middle2.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        perturbed(SEG(1.0), digits, state().x)
    handle.remove()
    assert hooks(digits) == 0
    pipe, arguments = sd15()
    for site, match in ((MIDDLE[:-1] + "2", "other tokens than its own"), ("mid_block.resnets.0", "a ResnetBlock2D")):
        with pytest.raises(InputError, match=rf"^sites: found .*{match}"):
            guide(pipe, SEG(1.0, sites=(site,)))
    with pytest.raises(InputError, match="text and image in one sequence"):
        guide(flux_true()[0], SEG(1.0, sites=("single_transformer_blocks.0.attn",)))
    pipe.unet.fuse_qkv_projections()
    with pytest.raises(InputError, match="never called"):
        run(pipe, arguments, SEG(1.0, sites=(MIDDLE,)))
    assert hooks(pipe.unet) == 0


@pytest.mark.parametrize(("make", "match"), [
    (lambda: SEG(1.0, blur=-1.0), r"^blur: found -1.0; expected a standard deviation >= 0"),
    (lambda: SEG(1.0, blur=math.nan), r"^blur: found nan"),
    (lambda: SEG(1.0, aspect=0.0), r"^aspect: found 0.0; expected height over width"),
    (lambda: SEG(1.0, sites=()), r"^sites: found \(\)"),
    (lambda: SEG(math.inf), r"^scale: found inf"),
])  # fmt: skip
def test_bad_input(make, match):
    with pytest.raises(InputError, match=match):
        make()
