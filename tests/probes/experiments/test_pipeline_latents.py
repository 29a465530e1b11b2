"""Latents that a pipeline makes: those of its own calls, kept, and not made again."""

import pytest
import torch
from tests.pipelines import PIPELINES
from tests.saved_pipelines import saved

from scorescope.data import InputError
from scorescope.probes.experiments import plan_calls
from scorescope.probes.experiments.pipeline_latents import pipeline_latents
from scorescope.probes.models import load_pipeline

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
ROWS = [{"prompt": "a"}, {"prompt": "b"}]


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    folder, call = saved("sd15", tmp_path_factory.mktemp("sd15"))
    return load_pipeline(str(folder)), {**call, "num_inference_steps": 2}


def test_they_are_those_of_the_pipelines_own_calls(sd15, tmp_path):
    pipe, shared = sd15
    calls = plan_calls(pipe, ROWS, seeds=[3, 4])
    found = pipeline_latents(pipe, calls, folder=tmp_path, arguments=shared, progress=False)
    for call, latent in zip(calls, found, strict=True):
        generator = torch.Generator().manual_seed(call["seed"])
        own = pipe(call["prompt"], generator=generator, output_type="latent", **shared).images[0]
        torch.testing.assert_close(latent, own)


def test_a_run_that_was_cut_off_goes_on(sd15, tmp_path, monkeypatch):
    pipe, shared = sd15
    calls = plan_calls(pipe, ROWS, seeds=[3, 4])
    step, steps = pipe.scheduler.step, []

    def counted(*args, **given):
        steps.append(0)
        if len(steps) == 5:  # in the third call
            raise KeyboardInterrupt
        return step(*args, **given)

    monkeypatch.setattr(pipe.scheduler, "step", counted)
    with pytest.raises(KeyboardInterrupt):
        pipeline_latents(pipe, calls, folder=tmp_path, arguments=shared, progress=False)
    assert len(list(tmp_path.glob("0*.safetensors"))) == 2
    found = pipeline_latents(pipe, calls, folder=tmp_path, arguments=shared, progress=False)
    assert len(found) == 4 and len(steps) == 5 + 4
    (tmp_path / "whole").mkdir()
    whole = pipeline_latents(pipe, calls, folder=tmp_path / "whole", arguments=shared, progress=False)
    torch.testing.assert_close(found, whole, rtol=0, atol=0)


def test_folders_and_pipelines_that_do_not_fit(sd15, tmp_path):
    pipe, shared = sd15
    calls = plan_calls(pipe, ROWS[:1])
    pipeline_latents(pipe, calls, folder=tmp_path, arguments=shared, progress=False)
    with pytest.raises(InputError, match="made with another arguments; expected another folder"):
        pipeline_latents(pipe, calls, folder=tmp_path, arguments=shared | {"guidance_scale": 2.0}, progress=False)
    with pytest.raises(InputError, match=r"of the call .*'prompt': 'a'.* expected that of .*'prompt': 'b'"):
        pipeline_latents(pipe, plan_calls(pipe, ROWS[1:]), folder=tmp_path, arguments=shared, progress=False)
    (tmp_path / "00000.safetensors").write_bytes(b"no tensor")
    with pytest.raises(InputError, match="a latent that was kept here"):
        pipeline_latents(pipe, calls, folder=tmp_path, arguments=shared, progress=False)
    with pytest.raises(InputError, match="a DDPMPipeline without a VAE"):
        pipeline_latents(PIPELINES["ddpm"]()[0], [{"seed": 0}], folder=tmp_path / "ddpm", progress=False)


def test_a_latent_that_is_not_finite(sd15, tmp_path, monkeypatch):
    pipe, shared = sd15
    step = pipe.scheduler.step
    monkeypatch.setattr(pipe.scheduler, "step", lambda *args, **given: tuple(part / 0 for part in step(*args, **given)))
    with pytest.raises(InputError, match="not finite"):
        pipeline_latents(pipe, plan_calls(pipe, ROWS), folder=tmp_path, arguments=shared, progress=False)
