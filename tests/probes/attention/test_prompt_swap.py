"""Another prompt in some layers: all layers are the other prompt itself, some are a hook written by hand."""

from typing import Any

import pytest
import torch
from tests.pipelines import flux_true, generator, output_of, pixart, sd15, sdxl
from tests.probes.recording.test_leaving import is_clean

from scorescope.data.errors import InputError
from scorescope.probes.attention import cross_attention_sites, swap_prompt

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

ORDER = {"branches": ("uncond", "cond")}


def run(pipe: Any, arguments: Any) -> torch.Tensor:
    return output_of(pipe(**(arguments | {"generator": generator()})))


def test_sites_are_in_the_order_of_the_blocks():
    blocks = [site.split(".")[1] for site in cross_attention_sites(sdxl()[0])]
    assert blocks == ["down_blocks", "mid_block", "up_blocks", "up_blocks"]
    assert len(cross_attention_sites(pixart()[0])) == 2
    with pytest.raises(InputError, match="without cross-attention"):
        cross_attention_sites(flux_true()[0])


def test_another_prompt_in_all_layers_is_that_prompt_and_its_own_changes_nothing():
    pipe, arguments = sd15()
    sites, own = cross_attention_sites(pipe), arguments["prompt_embeds"]
    other = torch.randn(own.shape, generator=generator(8))
    bare, expected = run(pipe, arguments), run(pipe, arguments | {"prompt_embeds": other})
    assert not torch.allclose(bare, expected)
    with swap_prompt(pipe, other, sites, **ORDER):
        torch.testing.assert_close(run(pipe, arguments), expected, rtol=0, atol=0)
    with swap_prompt(pipe, own, sites, **ORDER):
        assert torch.equal(run(pipe, arguments), bare)
    assert is_clean(pipe) and torch.equal(run(pipe, arguments), bare)


def test_some_layers_of_one_branch_at_some_levels_are_a_hook_by_hand():
    pipe, arguments = sd15(batch=2)  # [uncond, uncond, cond, cond]
    site = cross_attention_sites(pipe)[1]
    other = torch.randn(1, 5, 16, generator=generator(8))
    times: list[float] = []

    def give(module: Any, args: Any, kwargs: Any) -> Any:
        states = kwargs["encoder_hidden_states"].clone()
        states[2:] = other
        return (args, {**kwargs, "encoder_hidden_states": states}) if times[-1] > 500 else None

    handles = [
        pipe.unet.register_forward_pre_hook(
            lambda module, args, kwargs: times.append(float(args[1])), with_kwargs=True
        ),
        pipe.unet.get_submodule(site.partition(".")[2]).register_forward_pre_hook(give, with_kwargs=True),
    ]
    expected = run(pipe, arguments)
    for handle in handles:
        handle.remove()
    assert min(times) < 500 < max(times)
    alphas = pipe.scheduler.alphas_cumprod[500]
    with swap_prompt(pipe, other, [site], low=float(((1 - alphas) / alphas) ** 0.5), **ORDER):
        found = run(pipe, arguments)
    assert torch.equal(found, expected) and not torch.equal(found, run(pipe, arguments))


def test_what_cannot_be_swapped_is_one_clear_error():
    pipe, arguments = sd15()
    sites = cross_attention_sites(pipe)
    with pytest.raises(InputError, match="states: found"), swap_prompt(pipe, torch.zeros(1, 7, 16), sites, **ORDER):
        run(pipe, arguments)
    with pytest.raises(InputError, match="branch"), swap_prompt(pipe, torch.zeros(1, 5, 16), sites):
        run(pipe, arguments)  # nothing tells the rows before the first step
    with pytest.raises(InputError, match="0 <= low < high"):
        swap_prompt(pipe, torch.zeros(1, 5, 16), sites, low=2.0, high=1.0)
    pipe, arguments = pixart()  # its layers are given what a projection makes of the text
    swap = swap_prompt(pipe, torch.zeros(1, 5, 32), cross_attention_sites(pipe), **ORDER)
    with pytest.raises(InputError, match="something else than the denoiser's text"), swap:
        run(pipe, arguments)
    assert is_clean(pipe)
