"""Calls of a pipeline, each a run with its decoded image; what there is in a pipeline, by two steps."""

import numpy as np
import pytest
import torch
from tests.pipelines import PIPELINES
from tests.saved_pipelines import saved

from scorescope.data import InputError
from scorescope.probes import Trace
from scorescope.probes.experiments import describe_pipeline, plan_calls, record_calls
from scorescope.probes.experiments.encoded_once import encoded_once
from scorescope.probes.models import decode, load_pipeline, vae_decoder

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SHARED = {"height": 16, "width": 16, "guidance_scale": 5.0, "num_inference_steps": 3}
ROWS = [{"prompt": "a"}, {"prompt": "b", "negative_prompt": "c"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved("sd15", tmp_path_factory.mktemp("saved"))[0]


@pytest.fixture
def pipe(folder):
    return load_pipeline(folder)


class Count:
    """Calls of a method, and an error in one of them."""

    def __init__(self, inner, fail_at=-1):
        self.inner, self.count, self.fail_at = inner, 0, fail_at

    def __call__(self, *args, **kwargs):
        self.count += 1
        if self.count == self.fail_at:
            raise KeyboardInterrupt
        return self.inner(*args, **kwargs)


def test_plan(pipe):
    assert [(call["prompt"], call["seed"]) for call in plan_calls(pipe, ROWS, seeds=[4, 5])] == [
        ("a", 4), ("a", 5), ("b", 4), ("b", 5),
    ]  # fmt: skip
    own = [{"prompt": "a", "seed": 9}, {"prompt": "b"}]
    assert [call["seed"] for call in plan_calls(pipe, own, count=4, seed=20)] == [9, 21, 22, 23]
    with pytest.raises(InputError, match="an argument of StableDiffusionPipeline, as prompt"):
        plan_calls(pipe, [{"promt": "a"}])
    with pytest.raises(InputError, match="this one is set here"):
        plan_calls(pipe, [{"prompt": "a", "generator": 3}])
    with pytest.raises(InputError, match="seeds beside those of the rows"):
        plan_calls(pipe, own, seeds=[1])


def test_images_are_the_pipelines_before_clipping(pipe, tmp_path):
    made = record_calls(pipe, plan_calls(pipe, ROWS, seed=7), folder=tmp_path / "a", arguments=SHARED, progress=False)
    assert made.trace.status == "complete" and made.rows == (0, 1) and not made.clipped
    assert list(made.trace.samples["seed"]) == [7, 8] and list(made.trace.samples["condition"]) == ["a", "b"]
    for place, row in enumerate(ROWS):
        generator = torch.Generator().manual_seed(7 + place)
        alone = pipe(**row, **SHARED, generator=generator, output_type="np").images[0]
        # half precision on disk: 2^-11 of values up to 2
        np.testing.assert_allclose((made.images[place] / 2 + 0.5).clamp(0, 1).permute(1, 2, 0), alone, atol=1e-3)
        generator = torch.Generator().manual_seed(7 + place)
        latents = pipe(**row, **SHARED, generator=generator, output_type="latent").images
        torch.testing.assert_close(made.images[place], decode(vae_decoder(pipe.vae), latents)[0], atol=2e-3, rtol=1e-3)
    assert "decode" not in vars(pipe.vae) and "encode_prompt" not in vars(pipe)


def test_a_run_that_was_cut_off_goes_on(pipe, tmp_path):
    calls = plan_calls(pipe, ROWS, seeds=[0, 1])
    whole = record_calls(pipe, calls, folder=tmp_path / "whole", arguments=SHARED, progress=False)
    forward = pipe.unet.forward
    pipe.unet.forward = Count(forward, fail_at=8)  # in the third of four images
    with pytest.raises(KeyboardInterrupt):
        record_calls(pipe, calls, folder=tmp_path / "cut", arguments=SHARED, progress=False)
    assert "decode" not in vars(pipe.vae) and "encode_prompt" not in vars(pipe)
    pipe.unet.forward = Count(forward)
    again = record_calls(pipe, calls, folder=tmp_path / "cut", arguments=SHARED, progress=False)
    assert pipe.unet.forward.count == 2 * 3  # two images of three steps are left
    assert torch.equal(again.images, whole.images)
    columns = ["sample", "step", "sigma", "update_sq", "cond_sq", "weight"]
    assert again.trace.scalars[columns].equals(whole.trace.scalars[columns])
    pipe.unet.forward = Count(forward)
    record_calls(pipe, calls, folder=tmp_path / "cut", arguments=SHARED, progress=False)
    assert pipe.unet.forward.count == 0
    with pytest.raises(InputError, match=r"specs\[0\]|shared"):
        record_calls(pipe, calls, folder=tmp_path / "cut", arguments={**SHARED, "guidance_scale": 4.0}, progress=False)


def test_a_folder_of_another_pipeline_is_not_gone_on_with(pipe, tmp_path):
    calls = plan_calls(pipe, ROWS)
    record_calls(pipe, calls, folder=tmp_path, arguments=SHARED, keep="scalars", progress=False)
    with pytest.raises(InputError, match="1, for a folder of 2"):
        record_calls(pipe, calls[:1], folder=tmp_path, arguments=SHARED, keep="scalars", progress=False)
    scheduler = pipe.scheduler
    pipe.scheduler = type(scheduler).from_config(scheduler.config, prediction_type="v_prediction")
    with pytest.raises(InputError, match="a pipeline with another scheduler"):
        record_calls(pipe, calls, folder=tmp_path, arguments=SHARED, keep="scalars", progress=False)
    pipe.scheduler = scheduler
    with torch.no_grad():
        pipe.vae.decoder.conv_out.weight.mul_(2)
        pipe.text_encoder.get_input_embeddings().weight.mul_(2)
    with pytest.raises(InputError, match=r"a pipeline with another (vae, text_encoder|text_encoder, vae)"):
        record_calls(pipe, calls, folder=tmp_path, arguments=SHARED, keep="scalars", progress=False)


def test_what_a_call_raises_is_one_sentence(pipe):
    for arguments, said in (
        ({"guidance_scale": "abc"}, "arguments, and a scheduler, that StableDiffusionPipeline can be called with"),
        ({"height": 17}, "call: found ValueError"),
        ({"num_images_per_prompt": 2}, "one image a call"),
    ):
        with pytest.raises(InputError, match=said):
            describe_pipeline(pipe, {"prompt": "a"}, arguments=SHARED | arguments)


def test_a_prompt_is_encoded_once(pipe, tmp_path):
    forward = pipe.text_encoder.forward
    pipe.text_encoder.forward = Count(forward)
    calls = plan_calls(pipe, ROWS, seeds=[0, 1, 2])
    record_calls(pipe, calls, folder=tmp_path, arguments=SHARED, keep="scalars", progress=False)
    assert pipe.text_encoder.forward.count == 4  # two prompts and their negatives, of six images


def test_what_was_encoded_is_not_changed_by_a_pipeline(pipe):
    given = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": True}
    expected = pipe.encode_prompt("a", **given)
    with encoded_once(pipe):
        pipe.encode_prompt("a", **given)[0].zero_()
        found = pipe.encode_prompt("a", **given)
        other = pipe.encode_prompt("b", **given)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
    assert not torch.equal(other[0], expected[0])


def test_of_a_pipeline_without_decoder_the_result_is_kept(tmp_path):
    pipe, _ = PIPELINES["ddpm"]()
    made = record_calls(
        pipe, plan_calls(pipe, [{}], count=2), folder=tmp_path, arguments={"num_inference_steps": 2}, progress=False
    )
    assert made.clipped and made.images.shape == (2, 3, 8, 8) and made.images.abs().max() <= 1
    assert Trace.open(tmp_path / "trace").scalars["missing"].str.contains("no guidance was applied").all()


def test_describe(pipe):
    found = describe_pipeline(pipe, {"prompt": "a"}, arguments=SHARED | {"num_inference_steps": 50})
    assert list(found.branches["branches"]) == ["cond, uncond"] * 2
    np.testing.assert_allclose(found.branches["weight"], 5, rtol=1e-6)  # fitted in float32
    one = found.denoisers.iloc[0]
    assert one["parameters"] == sum(part.numel() for part in pipe.unet.parameters()) and one["calls_a_step"] == 1
    sizes = found.memory.set_index("keep")["bytes"]
    state = 4 * 8 * 8 * 4  # bytes of a state in float32
    assert sizes["scalars"] == 0 and sizes["latents"] == 2 * state and sizes["branches"] == 4 * state
    sites = found.sites.set_index("site")
    assert sites.loc["unet.mid_block", "shape"] == "(2, 16, 4, 4)" and not (sites["note"] != "").any()
    assert found.seconds > 0 and "unet.mid_block" in str(found)
    assert all(not part._forward_hooks and not part._forward_pre_hooks for part in pipe.unet.modules())


def test_describe_names_the_image_of_blocks_with_two_streams():
    pipe, arguments = PIPELINES["flux_distilled"]()
    call = {name: value for name, value in arguments.items() if name not in ("generator", "output_type")}
    found = describe_pipeline(pipe, call)
    assert found.sites.iloc[0]["output"] == "output 1 of 2, hidden_states"
    assert "guidance-distilled" in found.branches.iloc[0]["missing"]
    with pytest.raises(InputError, match="FluxPipeline, as"):
        describe_pipeline(pipe, {"promt": "a"})
