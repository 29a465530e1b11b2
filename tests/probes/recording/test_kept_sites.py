"""A site that keeps nothing is named: before the run where it can be known, else at the first step."""

from typing import Any

import pytest
import torch
from torch import nn

from scorescope.data.errors import InputError
from scorescope.probes import Intervention, intervene, record
from scorescope.probes.sites import ActivationCache, cache_activations
from tests.pipelines import flux_true, generator, sd15, wan22
from tests.probes.recording.test_leaving import is_clean

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def run(pipe: Any, arguments: Any) -> None:
    pipe(**arguments | {"generator": generator()})


def test_sites_inside_of_compiled_blocks_are_refused_before_the_run():
    pipe, _ = sd15()
    pipe.unet.mid_block.compile(backend="eager")
    pipe.unet.up_blocks[0] = torch.compile(pipe.unet.up_blocks[0], backend="eager")
    down = pipe.unet.down_blocks[0]
    down.forward = torch.compile(down.forward, backend="eager")
    silent = (
        "unet.mid_block",
        "unet.mid_block.resnets.0",
        "unet.up_blocks.0.resnets.0",
        "unet.down_blocks.0.resnets.0",
    )
    for site in silent:
        for begin in (
            lambda site=site: record(pipe, sites=[site]),
            lambda site=site: intervene(pipe, [Intervention("zero", site)]),
            lambda site=site: cache_activations(pipe, [site], ActivationCache()),
        ):
            with pytest.raises(InputError, match=f"{site}.*compiled"):
                begin()
    record(pipe, sites=["unet.down_blocks.0", "unet.conv_in"])  # outside of them


def test_regionally_compiled_transformers():
    pipe, _ = flux_true()
    pipe.transformer.compile_repeated_blocks(backend="eager")
    for site in ("transformer.transformer_blocks.0", "transformer.single_transformer_blocks.0.attn"):
        with pytest.raises(InputError, match=r"sites: .*compiled"):
            record(pipe, sites=[site])


def test_a_container_is_refused_before_the_run_and_a_denoiser_is_a_site():
    pipe, arguments = sd15()
    with pytest.raises(InputError, match=r"sites: found 'unet\.down_blocks', never called"):
        record(pipe, sites=["unet.down_blocks"])
    with pytest.raises(InputError, match=r"such as unet\.mid_block"):
        record(pipe, sites=["unet.mid_blok"])
    with record(pipe, sites=["unet"], keep="branches") as trace:
        run(pipe, arguments)
    assert torch.equal(trace.arrays.site("unet", 1, "cond"), trace.arrays.load("cond", 1))


def _fused() -> tuple[Any, Any, str]:
    pipe, arguments = sd15()
    pipe.unet.fuse_qkv_projections()
    path = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    assert isinstance(pipe.unet.get_submodule(path), nn.Module)  # it is still there, and no longer called
    return pipe, arguments, f"unet.{path}"


def _unused() -> tuple[Any, Any, str]:
    pipe, arguments = sd15()
    pipe.unet.spare = nn.Linear(2, 2)
    return pipe, arguments, "unet.spare"


def _replaced() -> tuple[Any, Any, str]:
    pipe, arguments = sd15()
    inner, middle = nn.Identity(), pipe.unet.mid_block
    middle.inner, forward = inner, middle.forward
    middle.forward = lambda *args, **kwargs: forward(*args, **kwargs) + 0 * inner.forward(torch.zeros(1))
    return pipe, arguments, "unet.mid_block.inner"  # its forward is called, and no hook


@pytest.mark.parametrize("build", [_fused, _unused, _replaced])
def test_a_silent_site_is_named_at_the_first_step(build):
    pipe, arguments, site = build()
    steps: list[int] = []
    recording = record(pipe, sites=["unet.conv_in", site], keep="branches")
    with pytest.raises(InputError, match=f"sites: found '{site}', never called") as error, recording as trace:
        run(pipe, arguments | {"callback_on_step_end": lambda pipe, step, *_: steps.append(step) or {}})
    assert not steps and trace.status == "failed" and error.value.argument == "sites" and is_clean(pipe)
    with pytest.raises(InputError, match="never called"), intervene(pipe, [Intervention("zero", site)]):
        run(pipe, arguments)


def test_a_denoiser_that_the_run_never_reaches_is_named_at_the_end():
    pipe, arguments = wan22()
    pipe.register_to_config(boundary_ratio=0.0)  # all levels belong to the first one
    sites = ["transformer.blocks.0", "transformer_2.blocks.0"]
    warned = pytest.warns(UserWarning, match=r"nothing was kept at transformer_2\.blocks\.0")
    with warned, record(pipe, sites=sites, keep="branches") as trace:
        run(pipe, arguments)
    assert trace.status == "complete" and list(trace.site_outputs) == sites[:1]


def test_a_site_that_only_some_calls_reach_is_kept_there():
    pipe, arguments = sd15()
    middle, calls = pipe.unet.mid_block, []
    forward = middle.forward

    def skipping(*args, **kwargs):
        calls.append(0)
        return args[0] if len(calls) > 1 else middle.resnets[0](forward(*args, **kwargs), args[1])

    middle.forward = skipping
    with record(pipe, sites=["unet.mid_block.attentions.0"], keep="branches") as trace:
        run(pipe, arguments)
    assert trace.status == "complete" and len(calls) == 4
