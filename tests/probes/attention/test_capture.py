"""Attention maps of tiny pipelines against attention by hand, and the pipelines left as they were."""

from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from tests.pipelines import flux_distilled, flux_true, generator, output_of, pixart, sd3, sd15, sdxl, slg, wan
from tests.probes.recording.test_leaving import failing_at, is_clean

from scorescope.data.errors import InputError
from scorescope.probes import PAG, guide, record
from scorescope.probes.attention import attention_maps, cross_attention_sites

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

FAMILIES = {"sd15": sd15, "sdxl": sdxl, "pixart": pixart, "sd3": sd3, "flux": flux_true, "flux-dev": flux_distilled}
CROSS = "unet.mid_block.attentions.0.transformer_blocks.0.attn2"
CLOSE = {"rtol": 0, "atol": 1e-5}  # float32 sums over at most 69 keys, in another order


def run(pipe: Any, arguments: Any) -> torch.Tensor:
    return output_of(pipe(**(arguments | {"generator": generator()})))


def outputs_of(modules: dict[str, torch.nn.Module], pipe: Any, arguments: Any) -> dict[str, torch.Tensor]:
    """What each module puts out in the first call of the denoiser."""
    found: dict[str, torch.Tensor] = {}
    handles = [
        module.register_forward_hook(lambda _, args, output, name=name: found.setdefault(name, output.clone()))
        for name, module in modules.items()
    ]
    run(pipe, arguments)
    for handle in handles:
        handle.remove()
    return found


def in_heads(values: torch.Tensor, count: int) -> torch.Tensor:
    """(row, token, width) to (row, head, token, width / head)."""
    return values.unflatten(-1, (count, -1)).transpose(1, 2) if values.ndim == 3 else values.transpose(1, 2)


def by_hand(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """softmax(Q K^T / sqrt(d)), (row, head, query, key)."""
    return (torch.einsum("rhqd,rhkd->rhqk", query, key) / query.shape[-1] ** 0.5).softmax(-1)


def as_maps(probabilities: torch.Tensor, side: int) -> torch.Tensor:
    """(row, head, query, token) to (row, head, token, y, x)."""
    return probabilities.mT.unflatten(-1, (side, side))


@pytest.mark.parametrize("name", FAMILIES)
def test_images_are_the_same_to_the_bit_and_nothing_stays(name):
    pipe, arguments = FAMILIES[name]()
    bare = run(pipe, arguments)
    with attention_maps(pipe, branch="both") as watching:
        assert torch.equal(run(pipe, arguments), bare)
    found = watching.read()
    branches = ["cond"] if name == "flux-dev" else ["cond", "uncond"]
    assert found.branches == tuple(sorted(branches)) * 4 and found.steps == tuple(sorted([*range(4)] * len(branches)))
    assert found.maps.shape == (4 * len(branches), 1, 1, 1, 5, 16, 16) and set(found.runs) == {0}
    assert is_clean(pipe) and torch.equal(run(pipe, arguments), bare)
    assert not any("forward" in module.__dict__ for module in watching._modules.values())


@pytest.mark.parametrize("name", ["sd15", "sdxl", "pixart"])
def test_cross_attention_is_that_by_hand_and_its_rows_sum_to_one(name):
    pipe, arguments = FAMILIES[name]()
    site = cross_attention_sites(pipe)[-1]
    module = dict(pipe.components)[site.partition(".")[0]].get_submodule(site.partition(".")[2])
    parts = outputs_of({"q": module.to_q, "k": module.to_k}, pipe, arguments)
    expected = by_hand(in_heads(parts["q"], module.heads), in_heads(parts["k"], module.heads))
    side = round(expected.shape[2] ** 0.5)
    with attention_maps(pipe, [site], apart="head", size=side, branch="both") as watching:
        run(pipe, arguments)
    found = watching.read()
    assert found.layers == found.sites == (site,) and found.branches[:2] == ("cond", "uncond")
    cond, uncond = found.maps[0, 0, 0], found.maps[1, 0, 0]
    torch.testing.assert_close(torch.stack([uncond, cond]), as_maps(expected, side), **CLOSE)  # rows [uncond, cond]
    torch.testing.assert_close(found.maps.sum(4), torch.ones_like(found.maps.sum(4)), **CLOSE)


def test_joint_attention_of_sd3_is_that_by_hand_with_the_text_behind_the_image():
    pipe, arguments = sd3()
    module = pipe.transformer.transformer_blocks[0].attn
    names = {"q": module.to_q, "k": module.to_k, "tq": module.add_q_proj, "tk": module.add_k_proj}
    parts = {name: in_heads(value, module.heads) for name, value in outputs_of(names, pipe, arguments).items()}
    whole = by_hand(torch.cat([parts["q"], parts["tq"]], 2), torch.cat([parts["k"], parts["tk"]], 2))
    torch.testing.assert_close(whole.sum(-1), torch.ones_like(whole.sum(-1)), **CLOSE)
    with attention_maps(pipe, ["transformer.transformer_blocks.0.attn"], apart="head", size=8) as watching:
        run(pipe, arguments)
    found = watching.read().maps[0, 0, 0]
    torch.testing.assert_close(found, as_maps(whole[1:, :, :64, 64:], 8)[0], **CLOSE)
    torch.testing.assert_close(found.sum(1), 1 - whole[1, :, :64, :64].sum(-1).unflatten(-1, (8, 8)), **CLOSE)


def rotated(values: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotary embedding by hand: pairs of neighbouring numbers as complex ones, turned; (row, head, token, width)."""
    turn = torch.complex(angles[0][:, ::2], angles[1][:, ::2])
    return torch.view_as_real(torch.view_as_complex(values.unflatten(-1, (-1, 2)).contiguous()) * turn).flatten(-2)


@pytest.mark.parametrize("block", ["transformer_blocks", "single_transformer_blocks"])
def test_joint_attention_of_flux_is_that_by_hand_after_norms_and_rotary_embeddings(block):
    pipe, arguments = flux_true()
    module, double = getattr(pipe.transformer, block)[0].attn, block == "transformer_blocks"
    names = {"q": module.norm_q, "k": module.norm_k}
    names |= {"tq": module.norm_added_q, "tk": module.norm_added_k} if double else {}
    angles = []
    handle = pipe.transformer.pos_embed.register_forward_hook(lambda _, args, output: angles.append(output))
    parts = {name: in_heads(value, module.heads) for name, value in outputs_of(names, pipe, arguments).items()}
    handle.remove()
    query, key = (torch.cat([parts[f"t{n}"], parts[n]], 2) if double else parts[n] for n in "qk")
    whole = by_hand(rotated(query, angles[0]), rotated(key, angles[0]))
    with attention_maps(pipe, apart="head", size=8) as watching:
        run(pipe, arguments)
    found = watching.read()
    layer = found.layers.index(f"transformer.{block}.0.attn")
    side = round((whole.shape[2] - 5) ** 0.5)
    maps = as_maps(whole[:1, :, 5:, :5], side)[0]
    expected = torch.nn.functional.interpolate(maps, size=(8, 8))  # coarser attention is repeated
    torch.testing.assert_close(found.maps[0, 0, layer], expected, **CLOSE)


def test_means_over_heads_and_layers_and_cells_are_means_of_the_maps_kept_apart():
    pipe, arguments = sd15()
    kept = []
    for apart, size in (("head", 8), ("layer", 8), ("call", 8), ("call", 2)):
        with attention_maps(pipe, apart=apart, size=size) as watching:
            run(pipe, arguments)
        kept.append(watching.read())
    heads, layers, calls, cells = (one.maps for one in kept)
    torch.testing.assert_close(layers, heads.mean(3, keepdim=True), **CLOSE)
    torch.testing.assert_close(calls, layers.mean(2, keepdim=True), **CLOSE)
    torch.testing.assert_close(cells, calls.unflatten(-1, (2, 4)).mean(-1).unflatten(-2, (2, 4)).mean(-2), **CLOSE)
    assert len(kept[1].layers) == 4 and kept[2].layers == ("mean",) and kept[2].sites == kept[1].layers


def test_masked_tokens_are_not_looked_at():
    pipe, arguments = pixart()
    mask = torch.tensor([[1, 1, 1, 0, 0]])
    with attention_maps(pipe) as watching:
        run(pipe, arguments | {"prompt_attention_mask": mask, "negative_prompt_attention_mask": mask})
    found = watching.read().maps
    assert (found[..., 3:, :, :] < 1e-6).all()  # the pipeline's own mask is a large number, not infinity
    torch.testing.assert_close(found[..., :3, :, :].sum(4), torch.ones_like(found.sum(4)), **CLOSE)


def test_levels_and_branches_are_those_of_a_recording_beside_it():
    pipe, arguments = sd15(batch=2)
    with record(pipe) as trace, attention_maps(pipe, tokens=[1, 3], branch="both") as watching:
        run(pipe, arguments)
        run(pipe, arguments)
    found = watching.read()
    assert found.maps.shape[:2] == (16, 2) and found.tokens == ("1", "3") and found.runs == (0,) * 8 + (1,) * 8
    sigmas = trace.scalars.drop_duplicates("step")["sigma"].to_numpy()
    assert found.of_branch("cond").sigmas.tolist() == pytest.approx([*sigmas[:4]] * 2)
    assert not torch.equal(found.of_branch("cond").maps, found.of_branch("uncond").maps)


def test_layers_that_a_pipeline_skips_and_calls_that_a_rule_repeats_are_no_obstacle():
    pipe, arguments = slg()  # a third call, without a layer
    with attention_maps(pipe, apart="layer") as watching:
        run(pipe, arguments)
    assert watching.read().steps == (0, 1, 2, 3) and len(watching.read().layers) == 2
    pipe, arguments = sd15()
    rule = PAG(2.0, sites=("mid_block.attentions.0.transformer_blocks.0.attn1",), weight=5.0)
    with guide(pipe, rule):
        bare = run(pipe, arguments)
        with attention_maps(pipe) as watching:
            assert torch.equal(run(pipe, arguments), bare)
    assert watching.read().steps == (0, 1, 2, 3)


@pytest.mark.parametrize("make", [sd15, flux_true])
def test_half_precision_stays_what_it_is_and_maps_are_float32(make):
    pipe, arguments = make()
    pipe.to(torch.bfloat16)
    half = {name: value.bfloat16() if isinstance(value, torch.Tensor) else value for name, value in arguments.items()}
    bare = run(pipe, half)
    with attention_maps(pipe) as watching:
        assert torch.equal(run(pipe, half), bare)
    maps = watching.read().maps
    assert maps.dtype == torch.float32 and (maps.sum(4) < 1 + 1e-5).all() and (maps >= 0).all()


def test_a_failure_inside_an_attention_leaves_nothing_behind():
    pipe, arguments = sd15()
    bare, module = run(pipe, arguments), pipe.unet.get_submodule(CROSS.partition(".")[2])
    handle = module.to_out[0].register_forward_hook(failing_at(2, RuntimeError))
    with pytest.raises(RuntimeError, match="injected"), attention_maps(pipe):
        run(pipe, arguments)
    handle.remove()
    assert is_clean(pipe) and "forward" not in module.__dict__
    assert torch.equal(run(pipe, arguments), bare)


def test_what_cannot_be_read_is_one_clear_error():
    pipe, arguments = sd15()
    with pytest.raises(InputError, match=r"sites: found \['unet.conv_in'\]"):
        attention_maps(pipe, ["unet.conv_in"])
    with pytest.raises(InputError, match="given no text"), attention_maps(pipe, [CROSS.replace("attn2", "attn1")]):
        run(pipe, arguments)
    with pytest.raises(InputError, match=r"tokens: found \[7\]"), attention_maps(pipe, tokens=[7]):
        run(pipe, arguments)
    with pytest.raises(InputError, match="budget: found maps of 20480 bytes"), attention_maps(pipe, budget=20_000):
        run(pipe, arguments)  # 4 steps, 5 tokens, 16 x 16 float32
    pipe.unet.set_attn_processor(AttnProcessor())
    with pytest.raises(InputError, match="0 calls of torch's scaled_dot_product"), attention_maps(pipe):
        run(pipe, arguments)
    pipe.unet.set_attn_processor(AttnProcessor2_0())
    with pytest.raises(InputError, match="no step with attention"), attention_maps(pipe) as watching:
        watching.read()
    pipe, arguments = wan()
    with pytest.raises(InputError, match="image tokens, of a state of shape"), attention_maps(pipe):
        run(pipe, arguments)
