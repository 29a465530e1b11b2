"""The Gaussian report on a pipeline: its numbers by another way, its data, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tests.pipelines import PIPELINES
from tests.saved_pipelines import saved
from torch import Tensor

from scorescope.analysis.gaussian.gaps import query_noise
from scorescope.data import InputError
from scorescope.probes.approximations import fit_gaussian
from scorescope.probes.experiments import pipeline_model
from scorescope.probes.models import decode, load_pipeline, vae_decoder, vae_encoder
from scorescope.reports import gaussian
from scorescope.reports.cli.commands import main
from scorescope.reports.gaussian import pipeline_data, report

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

SMALL = {"height": 16, "width": 16}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of 20 x 18 pixels, smooth."""
    folder, draw = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number in range(40):
        small = Image.fromarray(draw.integers(0, 255, (4, 4, 3)).astype(np.uint8))
        small.resize((20, 18), Image.Resampling.BICUBIC).save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, _ = saved("sd15", tmp_path_factory.mktemp("sd15"))
    return load_pipeline(folder)


@pytest.fixture
def laws_alone(monkeypatch: pytest.MonkeyPatch, unrendered: None) -> None:
    """Only the first section, at two levels that the scheduler has and one that it has not."""
    monkeypatch.setattr(report, "SECTIONS", report.SECTIONS[:1])
    monkeypatch.setattr("scorescope.reports.gaussian.sections_scores.SIGMAS", (500.0, 5.0, 0.5))


def by_hand(pipe: Any, x: Tensor, sigma: float, embedding: Tensor | None) -> Tensor:
    """D from the network's own noise, at the timestep between the table's entries."""
    products = pipe.scheduler.alphas_cumprod.double().numpy()
    time = np.interp(np.log(sigma), np.log(np.sqrt((1 - products) / products)), np.arange(len(products)))
    given, time = (x / (1 + sigma**2) ** 0.5, torch.tensor(time, dtype=torch.float32))
    more = () if embedding is None else (embedding.expand(len(x), -1, -1),)
    with torch.no_grad():
        return x - sigma * pipe.unet(given, time, *more, return_dict=False)[0]


def fraction(pipe: Any, data: gaussian.Data, sigma: float, embedding: Tensor | None) -> float:
    """Centred unexplained fraction of the Gaussian at held-out images, one draw of noise."""
    law, clean = fit_gaussian(data.train.double(), name="gaussian"), data.held_out
    x = clean + sigma * query_noise(range(len(clean)), 0, clean)
    denoised = by_hand(pipe, x, sigma, embedding).double()
    closed = law(x.double(), torch.full((len(x),), sigma, dtype=torch.float64), None)
    return float((denoised - closed).square().sum() / (denoised - law.mean).square().sum())


def test_the_fraction_is_that_of_another_way_of_a_latent_model(
    sd15: Any, images: Path, laws_alone: None, tmp_path: Path
) -> None:
    outcome = gaussian.build_from_pipeline(
        tmp_path, sd15, command="test", images=images, arguments=SMALL, quick=True, batch=64, progress=False
    )
    assert outcome.status == "complete", outcome.failures
    pictures = pipeline_data.ImageFolder(images, size=16)
    with torch.no_grad():
        every = torch.cat(
            [sd15.vae.encode(part).latent_dist.mode() * sd15.vae.config.scaling_factor for part in pictures]
        )
        words = sd15.tokenizer("", padding="max_length", max_length=16, return_tensors="pt").input_ids
        embedding = sd15.text_encoder(words)[0]
    scores = outcome.tables["scores"].query(
        "metric == 'centred' and query == 'held_out' and approximation == 'gaussian'"
    )
    assert sorted(scores["sigma"]) == [0.5, 5.0]  # 500 is no level of the scheduler
    for _, row in scores.iterrows():
        right = fraction(sd15, gaussian.split(every), row["sigma"], embedding)
        assert row["ratio_of_sums"] == pytest.approx(right, rel=2e-4)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["sigma_range"] == pytest.approx([0.0100013, 80.0], rel=1e-4)
    # the report ends at 80, and says that the scheduler does not
    assert "the model knows 0.01 to 157" in (tmp_path / "index.html").read_text()


def test_the_fraction_is_that_of_another_way_of_a_pixel_model(images: Path, laws_alone: None, tmp_path: Path) -> None:
    pipe, _ = PIPELINES["ddpm"]()
    outcome = gaussian.build_from_pipeline(
        tmp_path, pipe, command="test", images=images, quick=True, batch=64, progress=False
    )
    assert outcome.status == "complete", outcome.failures
    every = torch.cat(list(pipeline_data.ImageFolder(images, size=8)))
    scores = outcome.tables["scores"].query(
        "metric == 'centred' and query == 'held_out' and approximation == 'gaussian'"
    )
    for _, row in scores.iterrows():
        right = fraction(pipe, gaussian.split(every), row["sigma"], None)
        assert row["ratio_of_sums"] == pytest.approx(right, rel=2e-4)
    assert not (tmp_path / "latents").exists()


def test_a_report_that_was_cut_off_encodes_nothing_again(
    sd15: Any, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = pipeline_model(sd15, [{"prompt": "a"}], arguments=SMALL)
    calls: list[int] = []

    def counted(vae: Any) -> Any:
        encoder = vae_encoder(vae)
        return lambda pictures: (calls.append(len(pictures)), encoder(pictures))[1]

    monkeypatch.setattr(pipeline_data, "vae_encoder", counted)
    how: dict[str, Any] = {"count": 20, "seed": 1, "progress": False}
    first = pipeline_data.folder_latents(sd15, model, images, tmp_path, **how)
    assert first.shape == (20, 4, 8, 8) and sum(calls) == 20
    (tmp_path / "00001.safetensors").unlink()  # cut off there
    again = pipeline_data.folder_latents(sd15, model, images, tmp_path, **how)
    assert torch.equal(first, again) and sum(calls) == 28
    other = pipeline_data.folder_latents(sd15, model, images, tmp_path, **{**how, "seed": 2})
    assert not torch.equal(first, other) and sum(calls) == 48
    (tmp_path / "00000.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="00000"):
        pipeline_data.folder_latents(sd15, model, images, tmp_path, **how)


@pytest.mark.parametrize("kind", ["sd15", "sd3"])
def test_the_encoder_is_what_the_pipelines_own_decoding_undoes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, arguments = PIPELINES[kind]()
    taken: list[Tensor] = []
    decoded = pipe.vae.decode
    monkeypatch.setattr(pipe.vae, "decode", lambda z, **how: (taken.append(z), decoded(z, **how))[1])
    latents = pipe(**arguments).images
    pipe(**{**arguments, "output_type": "np", "generator": torch.Generator().manual_seed(0)})
    taken_by_ours: list[Tensor] = []
    monkeypatch.setattr(pipe.vae, "decode", lambda z, **how: (taken_by_ours.append(z), decoded(z, **how))[1])
    decode(vae_decoder(pipe.vae), latents)
    torch.testing.assert_close(taken_by_ours[0], taken[0])
    mode = taken[0].clone()  # an encoder that gives what the pipeline decodes
    given = type("Found", (), {"latent_dist": type("Law", (), {"mode": staticmethod(lambda: mode)})})
    monkeypatch.setattr(pipe.vae, "encode", lambda images: given)
    torch.testing.assert_close(vae_encoder(pipe.vae)(torch.zeros(1, 3, 16, 16)), latents)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".npy"])
def test_latents_from_a_file(tmp_path: Path, suffix: str) -> None:
    latents, path = torch.randn(20, 4, 8, 8), tmp_path / f"latents{suffix}"
    write(latents, path)
    assert torch.equal(pipeline_data.read_latents(path, (4, 8, 8)), latents)
    with pytest.raises(InputError, match=r"\(n, 4, 16, 16\)"):
        pipeline_data.read_latents(path, (4, 16, 16))
    write(latents * torch.nan, path)
    with pytest.raises(InputError, match="not finite"):
        pipeline_data.read_latents(path, (4, 8, 8))


def test_latents_of_another_byte_order(tmp_path: Path) -> None:
    latents = torch.randn(3, 4, 8, 8)
    np.save(tmp_path / "latents.npy", latents.numpy().astype(">f4"))
    assert torch.equal(pipeline_data.read_latents(tmp_path / "latents.npy", (4, 8, 8)), latents)


def write(latents: Tensor, path: Path, name: str = "latents") -> None:
    if path.suffix == ".safetensors":
        save_file({name: latents}, path)
    elif path.suffix == ".npz":
        np.savez(path, **{name: latents.numpy()})
    else:
        np.save(path, latents.numpy())


def test_files_that_hold_no_latents(tmp_path: Path) -> None:
    for suffix in (".safetensors", ".npz"):
        write(torch.zeros(2, 4), tmp_path / f"other{suffix}", "images")
        with pytest.raises(InputError, match="'latents'"):
            pipeline_data.read_latents(tmp_path / f"other{suffix}", (4,))
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for name in ("objects.npy", "none.npy", "latents.pt"):
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            pipeline_data.read_latents(tmp_path / name, (4,))


def test_what_is_refused(sd15: Any, images: Path, tmp_path: Path) -> None:
    def refused(match: str, pipe: Any, **how: Any) -> None:
        with pytest.raises(InputError, match=match):
            gaussian.build_from_pipeline(tmp_path / "out", pipe, command="test", progress=False, **how)

    refused("neither images nor latents.*--images.*--latents", sd15)
    refused("both", sd15, images=images, latents=tmp_path / "a.npy")
    refused("at least 12", sd15, images=images, arguments=SMALL, count=6)
    refused("'hight'", sd15, images=images, arguments={"hight": 16})
    refused("no unconditional prediction", sd15, images=images, arguments={**SMALL, "guidance_scale": 1.0})
    (tmp_path / "empty").mkdir()
    refused("empty", sd15, images=tmp_path / "empty", arguments=SMALL)
    pipe, given = PIPELINES["flux_true"]()
    row = {name: value for name, value in given.items() if "embeds" in name}
    shared = {"true_cfg_scale": 5.0, "height": 16, "width": 16}
    refused(r"states of shape \(16, 16\).*--latents", pipe, images=images, row=row, arguments=shared)


def test_count_and_seed_choose_images() -> None:
    data = gaussian.Data(torch.arange(80.0)[:, None], torch.arange(20.0)[:, None], torch.arange(80))
    assert data.limited(None) is data and data.limited(100) is data
    few = data.limited(50, seed=3)
    assert len(few.train) == 40 and len(few.held_out) == 10 and torch.equal(few.train[:, 0].long(), few.labels)
    assert torch.equal(few.train, data.limited(50, seed=3).train)
    assert not torch.equal(few.train, data.limited(50, seed=4).train)


@pytest.mark.slow
def test_the_whole_report_of_a_pipeline(sd15: Any, images: Path, unrendered: None, tmp_path: Path) -> None:
    outcome = gaussian.build_from_pipeline(
        tmp_path, sd15, command="test", images=images, arguments=SMALL, quick=True, batch=64, progress=False
    )
    assert outcome.status == "complete", outcome.failures
    least = {name: table["sigma"].min() for name, table in outcome.tables.items() if "sigma" in table}
    assert min(least.values()) >= 0.01
    assert outcome.tables["skips"]["sigma_skip"].max() == 80.0


def test_the_command(
    sd15: Any, tmp_path: Path, laws_alone: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, latents = tmp_path / "pipe", tmp_path / "latents.npy"
    sd15.save_pretrained(folder)
    write(torch.randn(30, 4, 8, 8, generator=torch.Generator().manual_seed(0)), latents)

    def run(*options: str) -> int:
        monkeypatch.setattr("sys.argv", ["scorescope", "report", "gaussian", "--out", str(tmp_path / "out"), *options])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    of_pipe = ("--pipeline", str(folder), "--set", "height=16", "--set", "width=16", "--quick", "--batch", "64")
    assert run(*of_pipe) == 2 and "neither images nor latents" in capsys.readouterr().err
    assert run("--latents", str(latents)) == 2 and "--latents: found no --pipeline" in capsys.readouterr().err
    asked = ("--latents", str(latents), "--count", "25", "--seed", "3", "--scheduler", "EulerDiscreteScheduler")
    assert run(*of_pipe, *asked) == 0
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert (manifest["train"], manifest["held_out"], manifest["seed"]) == (20, 5, 3)
    assert "EulerDiscreteScheduler" in manifest["model_source"]
    assert run("--count", "100", "--seed", "1", "--quick") == 0  # the shipped denoiser
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["train"] + manifest["held_out"] == 100 and manifest["seed"] == 1
