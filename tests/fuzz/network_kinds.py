"""Weights and what is fitted: denoisers, directions, laws, sparse autoencoders, states of training."""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch
from diffusers.utils.logging import disable_progress_bar
from safetensors.torch import save_file
from torch import Tensor, nn

from scorescope.data.attribute_scorer import AttributeScorer, ScorerConfig, load_scorer, save_scorer
from scorescope.data.checkpoints import load_denoiser, save_denoiser
from scorescope.data.classifiers import Classifier, ClassifierConfig, load_classifier, save_classifier
from scorescope.data.train import Recipe
from scorescope.data.train import _Run as TrainingRun
from scorescope.data.unet import EDMDenoiser, UNetConfig
from scorescope.probes import Direction, load_model
from scorescope.probes.approximations import Gaussian, Mixture, TrainingSet, load_approximation, save_approximation
from scorescope.probes.models import find_snapshots, load_pipeline, posthoc_ema
from scorescope.probes.sites import load_token_delta
from scorescope.probes.sparse import SparseAutoencoder, load_sparse, train_sparse
from tests.fuzz import damage
from tests.fuzz.kind import Kind
from tests.pipelines import PIPELINES


def _file(write: Callable[[Path], Any], name: str = "n.safetensors") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write(folder / name)
        return folder / name

    return make


def _direction(path: Path) -> None:
    Direction(torch.arange(1.0, 6.0), site="x", attribute="size", method="difference", scale=2.0, sigma=0.5).save(path)


def _foreign_direction(path: Path) -> None:
    save_file({"vector": torch.arange(1.0, 6.0)}, path, {"site": "network.middle1"})


def _token_delta(path: Path) -> None:
    parts = {"oai_clip_vit_l": torch.arange(1.0, 5).bfloat16(), "openclip_g": torch.tensor([-2.0, 3.0]).bfloat16()}
    torch.save({"delta": {f"tokenwise_delta.{name}": value for name, value in parts.items()}}, path)


def _gaussian() -> Gaussian:
    return Gaussian(torch.zeros(2, 2), torch.eye(4)[:, :2], torch.ones(2), 0.1)


def _mixture() -> Mixture:
    return Mixture((_gaussian(), _gaussian()), torch.tensor([0.5, 0.5]), (0, 1))


def _approximation(make: Callable[[], Any]) -> Callable[[Path], Path]:
    return _file(lambda path: save_approximation(path, make()))


def _read_approximation(path: Path) -> None:
    found = load_approximation(path)
    if tuple(found.shape) == (2, 2):
        found(torch.zeros(1, 2, 2, dtype=found.mean.dtype), 1.0)


def _small() -> EDMDenoiser:
    torch.manual_seed(0)
    return EDMDenoiser(UNetConfig(channels=(8,), classes=2, embedding=8, attention=False), 0.5)


def _denoiser(path: Path) -> None:
    save_denoiser(path, _small(), {"name": "small"})


def _classifier(path: Path) -> None:
    save_classifier(path, Classifier(ClassifierConfig((1, 8, 8), (4, 4), (1, 2), ("a", "b"))), {"name": "small"})


def _scorer(path: Path) -> None:
    save_scorer(path, AttributeScorer(ScorerConfig((3, 8, 8), (4, 4), {"hue": ("red", "blue")})), {"name": "small"})


class EDM(nn.Module):
    """A network as the EDM papers' codes have them."""

    img_channels, img_resolution, label_dim = 1, 4, 2

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        return self.convolution(x)


def _read_edm(path: Path) -> None:
    load_model(str(path), factory="tests.fuzz.network_kinds:EDM")


def _snapshots(folder: Path) -> Path:
    for length in ("0.05", "0.1"):
        about = {"training_step": "10", "sigma_rel": length}
        save_file({"w": torch.arange(4.0), "count": torch.tensor(3)}, folder / f"{length}.safetensors", about)
    return folder


def _read_snapshots(path: Path) -> None:
    posthoc_ema(find_snapshots(path), 0.07, at_most=1)


RECIPE = Recipe(network=UNetConfig(channels=(8,), classes=2, embedding=8, attention=False), steps=4)


def _training(folder: Path) -> Path:
    run = TrainingRun(RECIPE, _small(), folder, (0.1,))
    images = torch.zeros(2, *RECIPE.network.shape)
    run.update(images, torch.tensor([0, 1]), torch.ones(2), torch.ones_like(images), None, 0)
    run._save()
    return folder


def _go_on(path: Path) -> None:
    TrainingRun(RECIPE, _small(), path, (0.1,)).resume()


def _pipeline(folder: Path) -> Path:
    disable_progress_bar()
    PIPELINES["ddpm"]()[0].save_pretrained(folder)
    return folder


def _codes(path: Path) -> None:
    SparseAutoencoder(4, 8, 2, kind="batchtopk").save(path)


def _read_codes(path: Path) -> None:
    found = load_sparse(path)
    found(torch.ones(1, found.width))


def _rows(epoch: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(epoch)
    return (torch.randn(16, 4, generator=generator) for _ in range(3))


def train(path: Path, batches: Callable[[int], Iterator[Tensor]] = _rows) -> SparseAutoencoder:
    """Six steps of training, a file every second one."""
    return train_sparse(batches, features=8, k=2, steps=6, save_every=2, path=path)


class CutOff(Exception):
    """Training ends here."""


def _half_trained(path: Path) -> None:
    def batches(epoch: int) -> Iterator[Tensor]:
        yield from itertools.islice(_rows(epoch), 2 if epoch else None)
        if epoch:
            raise CutOff

    try:
        train(path, batches)
    except CutOff:
        return


def _unbox(folder: Path) -> Path:
    (folder / "config.json").write_text(json.dumps({"k": 3, "d_model": 4, "batch_topk": False}))
    names = {"encoder.weight": (8, 4), "latent_bias": (8,), "decoder.weight": (4, 8), "pre_bias": (4,)}
    torch.save({"state_dict": {name: torch.ones(shape) for name, shape in names.items()}}, folder / "state_dict.pth")
    return folder


def _saeuron(folder: Path) -> Path:
    (folder / "cfg.json").write_text(json.dumps({"k": 3, "batch_topk": True, "d_in": 4}))
    names = {"encoder.weight": (8, 4), "encoder.bias": (8,), "W_dec": (8, 4), "b_dec": (4,)}
    save_file({name: torch.ones(shape) for name, shape in names.items()}, folder / "sae.safetensors")
    return folder


def _in_unbox(path: Path, rng: Random) -> None:
    """Damage the settings, or a member of the weights' archive with its sum."""
    if rng.random() < 0.4:
        damage.in_json(path / "config.json", rng)
    else:
        damage.in_zip(path / "state_dict.pth", rng)


NETWORK_KINDS = (
    Kind("direction", _file(_direction), Direction.load, damage.in_safetensors),
    Kind("direction of others", _file(_foreign_direction), Direction.load, damage.in_safetensors),
    Kind("token delta", _file(_token_delta, "age.pt"), load_token_delta, damage.in_zip),
    Kind("Gaussian", _approximation(_gaussian), _read_approximation, damage.in_safetensors),
    Kind("mixture", _approximation(_mixture), _read_approximation, damage.in_safetensors),
    Kind(
        "training set", _approximation(lambda: TrainingSet(torch.eye(4).reshape(4, 2, 2))),
        _read_approximation, damage.in_safetensors,
    ),
    Kind("denoiser and card", _file(_denoiser), load_denoiser, damage.in_folder),
    Kind("classifier and card", _file(_classifier), load_classifier, damage.in_folder),
    Kind("scorer and card", _file(_scorer), load_scorer, damage.in_folder),
    Kind(
        "network of others", _file(lambda path: save_file(EDM().state_dict(), path)), _read_edm, damage.in_safetensors
    ),
    Kind("EMA snapshots", _snapshots, _read_snapshots, damage.in_folder),
    Kind("training state", _training, _go_on, damage.in_folder),
    Kind("pipeline", _pipeline, load_pipeline, damage.in_folder),
    Kind("sparse autoencoder", _file(_codes), _read_codes, damage.in_safetensors),
    Kind("sparse autoencoder of sdxl-unbox", _unbox, _read_codes, _in_unbox),
    Kind("sparse autoencoder of SAeUron", _saeuron, _read_codes, damage.in_folder),
    Kind("sparse training", _file(_half_trained), train, damage.in_safetensors),
)  # fmt: skip
