"""Which of the tensors that a module puts out is read and edited: the image's, found from the module itself."""

import inspect
from typing import Any

import pytest
import torch
from tests.pipelines import cogvideox, flux_true, generator, output_of, sd3, sd15
from torch import Tensor, nn

from scorescope.data import InputError, IntegrityWarning
from scorescope.probes import Direction, Intervention, Site, intervene, record, sample
from scorescope.probes.activations import collect, sample_with_sites, trace_activations
from scorescope.probes.bank import Bank
from scorescope.probes.gradients.differentiable_sites import watch_site
from scorescope.probes.guidance import TSG
from scorescope.probes.sites import ActivationCache, cache_activations, cached, intervened
from scorescope.probes.sites.outputs import ModuleCall

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

TEXT, TOKENS, WIDTH = 5, 64, 32


def run(pipe: Any, arguments: Any) -> Tensor:
    return output_of(pipe(**arguments | {"generator": generator()}))


def joint_call(block: nn.Module, output: Any, *, text: int = 3, tokens: int = 4) -> ModuleCall:
    """A call of a block, as a hook is told of it, with what it is said to have put out."""
    names = list(inspect.signature(block.forward).parameters)
    given = {"hidden_states": torch.zeros(1, tokens, 8), "encoder_hidden_states": torch.zeros(1, text, 8)}
    return ModuleCall(block, (), {name: value for name, value in given.items() if name in names}, output)


def block_of(module: str, name: str) -> nn.Module:
    """A block of a class of diffusers, of which only the code is asked."""
    models = pytest.importorskip(f"diffusers.models.{module}")
    block = getattr(models, name).__new__(getattr(models, name))
    nn.Module.__init__(block)
    return block


TRANSFORMERS = "transformers.transformer_"
BLOCKS = [
    ("attention", "JointTransformerBlock", 1), (f"{TRANSFORMERS}flux", "FluxTransformerBlock", 1),
    (f"{TRANSFORMERS}flux", "FluxSingleTransformerBlock", 1), (f"{TRANSFORMERS}flux2", "Flux2TransformerBlock", 1),
    (f"{TRANSFORMERS}flux2", "Flux2SingleTransformerBlock", 1), (f"{TRANSFORMERS}chroma", "ChromaTransformerBlock", 1),
    ("transformers.auraflow_transformer_2d", "AuraFlowJointTransformerBlock", 1),
    (f"{TRANSFORMERS}qwenimage", "QwenImageTransformerBlock", 1), (f"{TRANSFORMERS}bria", "BriaTransformerBlock", 1),
    (f"{TRANSFORMERS}longcat_image", "LongCatImageTransformerBlock", 1),
    (f"{TRANSFORMERS}ovis_image", "OvisImageSingleTransformerBlock", 1),
    ("transformers.cogvideox_transformer_3d", "CogVideoXBlock", 0),
    (f"{TRANSFORMERS}mochi", "MochiTransformerBlock", 0),
    (f"{TRANSFORMERS}hunyuan_video", "HunyuanVideoTransformerBlock", 0),
    (f"{TRANSFORMERS}hunyuan_video", "HunyuanVideoSingleTransformerBlock", 0),
    (f"{TRANSFORMERS}hunyuanimage", "HunyuanImageTransformerBlock", 0),
    (f"{TRANSFORMERS}cogview4", "CogView4TransformerBlock", 0),
    (f"{TRANSFORMERS}easyanimate", "EasyAnimateTransformerBlock", 0),
    (f"{TRANSFORMERS}ltx2", "LTX2VideoTransformerBlock", 0),
    (f"{TRANSFORMERS}hidream_image", "HiDreamImageTransformerBlock", 0),
]  # fmt: skip


@pytest.mark.parametrize(("module", "name", "place"), BLOCKS, ids=[name for _, name, _ in BLOCKS])
def test_the_image_of_every_kind_of_block(module, name, place):
    block = block_of(module, name)
    for text in (3, 4):  # fewer tokens than the image has, and as many
        pair = [torch.zeros(1, text, 8), torch.zeros(1, text, 8)]
        pair[place] = torch.zeros(1, 4, 8)
        found = joint_call(block, tuple(pair), text=text).output_of("a block")
        assert (found.place, found.name) == (place, "hidden_states")
        assert str(found) == f"output {place} of 2, hidden_states"
    swapped = (torch.zeros(1, 4, 8), torch.zeros(1, 3, 8))[:: 1 if place else -1]  # not as the names say
    with pytest.raises(InputError, match=r"output=.*nothing tells"):
        joint_call(block, swapped).output_of("a block")


class Nameless(nn.Module):
    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor) -> Any:
        return tuple(part + 1 for part in (encoder_hidden_states, hidden_states))


def test_without_names_the_number_of_tokens_decides_and_else_the_user_does():
    text, image = torch.zeros(1, 3, 8), torch.zeros(1, 4, 8)
    assert joint_call(Nameless(), (text, image)).output_of("block").place == 1
    equal = joint_call(Nameless(), (image, image))
    with pytest.raises(InputError, match=r"'block' \(Nameless\).*0: \(1, 4, 8\), 1: \(1, 4, 8\).*output="):
        equal.output_of("block")
    assert [equal.output_of("block", wanted).place for wanted in (0, 1)] == [0, 1]
    with pytest.raises(InputError, match="so many tensors"):
        equal.output_of("block", 2)
    control = block_of(f"{TRANSFORMERS}wan_vace", "WanVACETransformerBlock")
    with pytest.raises(InputError, match="output="):  # two streams that are both beside the image
        joint_call(control, (image, image)).output_of("block")


def test_a_unet_block_goes_on_with_what_it_has_resampled_not_with_a_residual_of_the_old_shape():
    down = block_of("unets.unet_2d_blocks", "CrossAttnDownBlock2D")
    old, new = torch.zeros(1, 8, 4, 4), torch.zeros(1, 8, 2, 2)
    found = ModuleCall(down, (old,), {}, (new, (old, new))).output_of("down")
    assert (found.place, found.count, found.name) == (0, 3, "hidden_states")
    last = block_of("attention", "JointTransformerBlock")  # of SD3: the text ends here
    assert str(joint_call(last, (None, torch.zeros(1, 4, 8))).output_of("block")) == "its only output"


def test_an_attention_is_read_by_its_processor():
    from diffusers.models.attention_processor import Attention, JointAttnProcessor2_0

    attention = block_of("attention_processor", "Attention")
    assert isinstance(attention, Attention)
    attention.processor = JointAttnProcessor2_0()
    image = torch.zeros(1, 4, 8)
    found = joint_call(attention, (image, image), text=4).output_of("attn")
    assert (found.place, found.name) == (0, "hidden_states")


PIPES = [
    (sd3, "transformer.transformer_blocks.0", 1), (flux_true, "transformer.transformer_blocks.0", 1),
    (flux_true, "transformer.single_transformer_blocks.0", 1), (cogvideox, "transformer.transformer_blocks.0", 0),
]  # fmt: skip


@pytest.mark.parametrize(("build", "site", "place"), PIPES, ids=["sd3", "flux", "flux_single", "cogvideox"])
def test_recorded_cached_and_edited_is_the_image(build, site, place):
    pipe, arguments = build()
    seen: list[Tensor] = []
    module = pipe.transformer.get_submodule(site.partition(".")[2])
    handle = module.register_forward_hook(lambda *given: seen.append(given[-1][place].clone()))
    cache = ActivationCache()
    with record(pipe, sites=[site], keep="branches") as trace, cache_activations(pipe, [site], cache):
        bare = run(pipe, arguments)
    handle.remove()
    kept = [trace.arrays.site(site, 0, "cond"), trace.arrays.site(site, 0, "uncond")]
    first = seen[0] if len(seen[0]) == 2 else torch.cat(seen[:2])
    assert all(any(torch.equal(row[0], other) for other in first) for row in kept)
    assert trace.site_outputs[site].place == place and cache.outputs[site] == trace.site_outputs[site]
    assert f"output {place} of 2, hidden_states" in cache.describe()
    found = trace_activations(trace, [site])
    assert found.output_of(site) == place and f"output {place} of 2, hidden_states; mean" in found.describe()
    zeroed: list[Any] = []
    with intervene(pipe, [Intervention("zero", site)]) as block:
        handle = module.register_forward_hook(lambda *given: zeroed.append(given[-1]))
        assert not torch.isclose(run(pipe, arguments), bare).all()
        handle.remove()
    assert not zeroed[-1][place].any() and zeroed[-1][1 - place].any()
    assert block.describe() == f"{site}: output {place} of 2, hidden_states"
    with intervene(pipe, [Intervention("patch", site, source=cache)]):
        assert torch.equal(run(pipe, arguments), bare)
    other = Intervention("patch", site, source=cache, output=1 - place)
    with pytest.raises(InputError, match="in the source"), intervene(pipe, [other]):
        run(pipe, arguments)


@pytest.mark.parametrize("inside", [False, True], ids=["recording_around", "recording_inside"])
def test_a_stream_that_nobody_reads_cannot_be_steered(inside):
    pipe, arguments = flux_true()
    last, first = "transformer.single_transformer_blocks.0", "transformer.transformer_blocks.0"
    vector = torch.randn(WIDTH, generator=generator(1))
    dropped = intervene(pipe, [Intervention("add", last, vector, output=0)])
    outer, inner = (dropped, record(pipe, sites=[last])) if inside else (record(pipe, sites=[last]), dropped)
    with pytest.raises(InputError, match=rf"output 0 of '{last}', which nothing in the network reads"), outer, inner:
        run(pipe, arguments)
    bare = run(pipe, arguments)
    with intervene(pipe, [Intervention("add", first, vector, output=0)]):  # the next block reads this text
        assert not torch.isclose(run(pipe, arguments), bare).all()
    twice = [Intervention("add", last, vector, output=0), Intervention("zero", last, output=0)]
    with pytest.raises(InputError, match="nothing in the network reads"), intervene(pipe, twice):
        run(pipe, arguments)


def test_the_text_of_the_last_block_of_sd3_is_not_there_to_be_steered():
    pipe, arguments = sd3()
    last = Intervention("zero", "transformer.transformer_blocks.1", output=1)
    with pytest.raises(InputError, match="so many tensors"), intervene(pipe, [last]):
        run(pipe, arguments)


def test_the_block_that_reads_may_be_compiled():
    pipe, arguments = flux_true()
    bare, vector = run(pipe, arguments), torch.randn(WIDTH, generator=generator(1))
    given = [Intervention("add", "transformer.transformer_blocks.0", vector, output=0)]
    with intervene(pipe, given):
        expected = run(pipe, arguments)
    pipe.transformer.single_transformer_blocks[0].compile(backend="eager")
    with intervene(pipe, given):
        found = run(pipe, arguments)
    torch.testing.assert_close(found, expected)
    assert not torch.isclose(found, bare).all()


def test_two_blocks_of_interventions_see_what_the_network_goes_on_with():
    pipe, arguments = flux_true()
    site = "transformer.transformer_blocks.0"
    given = Intervention("add", site, torch.randn(WIDTH, generator=generator(1)), 0.5)
    with intervene(pipe, [given, given]):
        expected = run(pipe, arguments)
    with intervene(pipe, [given]), intervene(pipe, [given]):
        assert torch.equal(run(pipe, arguments), expected)


class Joint(nn.Module):
    """Text first, as SD3 has it; the text of the last block is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(4, 4)

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        hidden_states = hidden_states + self.mix(encoder_hidden_states).mean(1, keepdim=True)
        encoder_hidden_states = encoder_hidden_states + 1
        return encoder_hidden_states, hidden_states


class Two(nn.Module):
    shape = (6, 4)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.spare = Joint(), Joint(), nn.Linear(4, 4)

    def forward(self, x: Tensor, sigma: Tensor, condition: Any = None) -> Tensor:
        text, image = self.first(x, x[:, :6] * 0 + 3)
        _, image = self.last(image, text)
        return image


def test_a_plain_denoiser_is_read_and_edited_at_the_same_output():
    denoiser, bank = Two().eval(), Bank(torch.randn(5, 6, 4, generator=generator(1)), [2.0, 0.5])
    image, text = collect(denoiser, bank, ["first"]), collect(denoiser, bank, ["first"], output={"first": 0})
    assert torch.allclose(text.at("first", 0), torch.full((5, 4), 4.0))
    assert not torch.allclose(image.at("first", 0), text.at("first", 0))
    assert (image.output_of("first"), text.output_of("first")) == (1, 0)
    _, taps = sample_with_sites(denoiser, ["first"], seeds=[0, 1], sigmas=[2.0, 0.5, 0.0], progress=False)
    assert taps.activations().output_of("first") == 1
    x, sigma = torch.randn(2, 6, 4, generator=generator(2)), torch.ones(2)
    bare = denoiser(x, sigma)
    pushed = intervened(denoiser, [Intervention("add", "last", torch.ones(4))])
    torch.testing.assert_close(pushed(x, sigma, None), bare + 1)
    assert pushed.describe() == "last: output 1 of 2, hidden_states" and type(pushed(x, sigma, None)) is Tensor
    by_text = intervened(denoiser, [Intervention("add", "first", torch.ones(4), output=0)])
    assert not torch.isclose(by_text(x, sigma, None), bare).all()
    for _ in range(2):  # each time anew
        with pytest.raises(InputError, match="nothing in the network reads"):
            unread = intervened(denoiser, [Intervention("add", "last", torch.ones(4), output=0)])
            unread(x, sigma, None)
    cache = ActivationCache()
    cached(denoiser, ["first"], cache, output=0)(x, sigma, None)
    torch.testing.assert_close(cache.at("first", sigma, "uncond"), torch.full((2, 6, 4), 4.0))
    with pytest.raises(InputError, match="as in the cache"):
        cached(denoiser, ["first"], cache)(x, 2 * sigma, None)


def test_a_direction_keeps_the_output_that_it_was_found_at_and_refuses_another(tmp_path):
    direction = Direction(torch.ones(4), "first", "size", "difference", scale=1.0, output=1)
    assert "at first, output 1: difference" in direction.describe()
    loaded = Direction.load(direction.save(tmp_path / "d"))
    assert loaded.output == 1 and Intervention.along(loaded).output == 1 and Intervention.without(loaded).output == 1
    with pytest.raises(InputError, match="expected 1, the output of 'first'"):
        Intervention.along(loaded, output=0)
    assert Intervention.along(Direction(torch.ones(4), "first", "size", "mine", scale=1.0), output=0).output == 0
    for wrong in (-1, 1.0, True):
        with pytest.raises(InputError, match="number"):
            Direction(torch.ones(4), "first", "size", "mine", scale=1.0, output=wrong)


def test_a_direction_of_an_earlier_version_is_of_the_first_output_and_an_imported_one_of_none(tmp_path):
    from safetensors.torch import save_file

    ours = {"attribute": "size", "method": "lda", "site": "first", "space": "activation", "scale": "1.0", "sigma": "2"}
    save_file({"vector": torch.ones(4)}, tmp_path / "old", metadata=ours)
    save_file({"vector": torch.ones(4)}, tmp_path / "other", metadata={"site": "first"})
    save_file({"vector": torch.ones(4)}, tmp_path / "bad", metadata={"site": "first", "output": "0.5"})
    with pytest.warns(IntegrityWarning, match="an earlier version"):
        assert Direction.load(tmp_path / "old").output == 0
    assert Direction.load(tmp_path / "other").output is None
    with pytest.raises(InputError, match="output"):
        Direction.load(tmp_path / "bad")


def test_sites_that_stay_silent_are_named():
    denoiser, bank = Two(), Bank(torch.randn(3, 6, 4), [2.0])
    for ask in (
        lambda: collect(denoiser, bank, ["first", "spare"]),
        lambda: sample_with_sites(denoiser, ["spare"], seeds=[0], sigmas=[2.0, 0.0], progress=False),
        lambda: cached(denoiser, ["spare"], ActivationCache())(torch.zeros(1, 6, 4), torch.ones(1), None),
    ):
        with pytest.raises(InputError, match="'spare', never called"):
            ask()
    x, sigma = torch.zeros(1, 6, 4), torch.ones(1)
    with pytest.raises(InputError, match="'spare', never called"), watch_site(denoiser, "spare"):
        denoiser(x, sigma)
    rule = TSG(2.0, site="spare")
    with pytest.raises(InputError, match="'spare', never called"):
        sample(denoiser, seeds=[0], rule=rule, condition=torch.zeros(1, 4), sigmas=[2.0, 0.0], progress=False)


def test_one_output_of_a_module_in_a_recording():
    pipe, arguments = sd3()
    site = "transformer.transformer_blocks.0"
    with pytest.raises(InputError, match=r"outputs None and 0 of .*one output of a module"):
        record(pipe, sites=[Site(site, output=0), site])
    with record(pipe, sites=[Site(site, output=0, reduce="tokens")], keep="branches") as trace:
        run(pipe, arguments)
    assert trace.site_outputs[site].name == "encoder_hidden_states"
    assert trace.manifest["outputs_asked"] == {site: 0}


def test_recorded_outputs_survive_the_folder_and_a_resumed_recording_reads_the_same(tmp_path):
    pipe, arguments = sd3()
    site = "transformer.transformer_blocks.0"
    from scorescope.probes import Trace
    from scorescope.probes.recording import TraceError

    with record(pipe, sites=[site], path=tmp_path / "t"):
        run(pipe, arguments)
    assert str(Trace.open(tmp_path / "t").site_outputs[site]) == "output 1 of 2, hidden_states"
    with (
        pytest.raises(TraceError, match="outputs_asked"),
        record(pipe, sites=[Site(site, output=0)], path=tmp_path / "t", resume=True),
    ):
        pass


def test_a_unet_block_is_read_as_before():
    pipe, arguments = sd15()
    with record(pipe, sites=["unet.down_blocks.0"], keep="branches") as trace:
        run(pipe, arguments)
    assert trace.site_outputs["unet.down_blocks.0"].place == 0
