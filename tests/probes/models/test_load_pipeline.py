"""Pipelines from folders and single files, as `save_pretrained` and the original code write them."""

import json
import shutil

import pytest
import torch
from diffusers import DDPMPipeline
from huggingface_hub import constants, errors
from tests.pipelines import PIPELINES
from tests.saved_pipelines import saved, single_file

from scorescope.data import InputError
from scorescope.probes.models import load_pipeline
from scorescope.probes.models.load_pipeline import _told

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    return saved("sd15", tmp_path_factory.mktemp("saved"))[0]


@pytest.fixture
def ddpm(tmp_path):
    PIPELINES["ddpm"]()[0].save_pretrained(tmp_path / "ddpm")
    return tmp_path / "ddpm"


def weights(part):
    return {name: value for name, value in part.state_dict().items()}


def test_a_folder_with_another_scheduler_and_type(ddpm):
    before = DDPMPipeline.from_pretrained(ddpm)
    pipe = load_pipeline(ddpm, dtype="bfloat16", scheduler="DDIMScheduler")
    assert type(pipe.scheduler).__name__ == "DDIMScheduler"
    assert pipe.scheduler.config.beta_schedule == before.scheduler.config.beta_schedule
    assert all(
        torch.equal(value, before.unet.state_dict()[name].bfloat16()) for name, value in weights(pipe.unet).items()
    )


def test_a_single_file_of_the_original_names(sd15, tmp_path):
    whole = load_pipeline(sd15)
    pipe = load_pipeline(single_file(whole, tmp_path / "one.safetensors"), config=sd15)
    for part in ("unet", "vae", "text_encoder"):
        ours, theirs = weights(getattr(pipe, part)), weights(getattr(whole, part))
        assert set(ours) == set(theirs) and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_weights_that_are_pickles_are_asked_for(ddpm):
    expected = weights(DDPMPipeline.from_pretrained(ddpm).unet)
    (ddpm / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(expected, ddpm / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(InputError, match="no safetensors; expected safetensors; pickles=True"):
        load_pipeline(ddpm)
    found = weights(load_pipeline(ddpm, pickles=True).unet)
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_what_is_no_pipeline(ddpm, tmp_path):
    index = json.loads((ddpm / "model_index.json").read_text())
    (tmp_path / "empty").mkdir()
    shutil.copytree(ddpm, tmp_path / "newer")
    (tmp_path / "newer" / "model_index.json").write_text(json.dumps(index | {"_class_name": "TomorrowPipeline"}))
    (tmp_path / "weights.ckpt").write_bytes(b"x")
    cases = {
        "empty": "which holds nothing; expected a folder with model_index.json",
        "absent": "which is not there",
        "newer": "'TomorrowPipeline', which diffusers .* has not",
        "weights.ckpt": "a .safetensors file, or a folder",
    }
    for name, said in cases.items():
        with pytest.raises(InputError, match=said):
            load_pipeline(tmp_path / name)
    for more, said in (
        ({"scheduler": "Euler"}, "DDIMScheduler"),
        ({"dtype": "float8"}, "one of float32"),
        ({"device": "nowhere"}, "device"),
        ({"config": "elsewhere"}, "only a single file needs it"),
    ):
        with pytest.raises(InputError, match=said):
            load_pipeline(ddpm, **more)


def http(kind):
    """An error of the hub as it raises it, which wants a response."""
    return kind.__new__(kind)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (http(errors.GatedRepoError), "gated; expected a login"),
        (http(errors.RepositoryNotFoundError), "no such repository"),
        (errors.LocalEntryNotFoundError("x"), "the hub cannot be reached"),
        (OSError("We couldn't connect to 'https://huggingface.co'"), "the hub cannot be reached"),
        (OSError("no file named model.safetensors found"), "no safetensors"),
        (ValueError("mismatch"), "ValueError: mismatch"),
    ],
)
def test_errors_of_the_hub_are_one_sentence(error, said):
    outer = OSError("wrapped")
    outer.__cause__ = error
    assert said in str(_told("owner/name", error, pickles=False))
    if "safetensors" not in said and "ValueError" not in said:
        assert said in str(_told("owner/name", outer, pickles=False))


def test_offline_is_said(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="nobody/nothing, which is not in the cache, and HF_HUB_OFFLINE is set"):
        load_pipeline("nobody/nothing")
