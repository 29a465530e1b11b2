"""Train the shipped denoisers: `python -m scorescope.data.train digits`.

Seeded and resumable: every step draws from a generator made of (seed, step), and the whole state
(weights, averaged weights, Adam's moments) is written as safetensors, so a run that was cut off and
continued ends with the same weights as an unbroken one. The checkpoint that is kept is the one with
the least denoising error on held-out images.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.data.augment import augment
from scorescope.data.checkpoints import Card, read_weights, save_denoiser
from scorescope.data.denoising_errors import ErrorBank, denoising_errors, error_bank
from scorescope.data.errors import InputError
from scorescope.data.power_ema import PowerEMA
from scorescope.data.shapes import SHAPE, SIZES
from scorescope.data.training_images import TrainingImages, open_labels, training_images
from scorescope.data.unet import EDMDenoiser, UNetConfig
from scorescope.data.untrusted import only_input_errors
from scorescope.data.written_files import UNSEALED, read_json, write_json, write_sealed

SIGMA_MIN, SIGMA_MAX = 0.002, 80.0
STATE = "scorescope-training-1"  # format of the files that a run goes on from
HELD_OUT = 500  # held-out images that decide which checkpoint is kept


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run."""

    network: UNetConfig = field(default_factory=UNetConfig)
    steps: int = 8_000  # optimiser steps
    batch: int = 256  # images a step
    rate: float = 2e-3  # peak learning rate, falling as a half cosine after warm-up
    restarts: tuple[int, ...] = ()  # steps at which a new half cosine begins, from half the last one's peak
    warm_up: int = 300  # steps
    p_mean: float = -0.6  # mean of ln(sigma) in training
    p_std: float = 1.4  # its standard deviation
    wide: float = 0.15  # share of noise levels drawn log-uniformly from the whole sampling range
    drop_label: float = 0.15  # share of labels replaced by the null class
    average: float = 0.998  # decay of the weight average that is kept
    check_every: int = 250  # steps between held-out errors
    seed: int = 0
    data: str = "digits"  # or "shapes"
    drop_each: float = 0.0  # share of labels of which each attribute is left open with probability 1/2
    mixed: bool = False  # bfloat16 inside the network; weights and moments stay float32


RECIPES = {
    "digits": Recipe(),
    # autoguidance needs a sibling that is worse in the same way: fewer channels and less training
    "digits_weak": Recipe(network=UNetConfig(channels=(16, 32), embedding=64), steps=1_000, check_every=100),
    # for the dynamics of training: small enough to ship several of its snapshots
    "digits_small": Recipe(network=UNetConfig(channels=(16, 32), embedding=64), steps=2_000, check_every=100),
    "shapes": Recipe(
        network=UNetConfig(shape=SHAPE, channels=(48, 80, 96), attributes=SIZES, patch=2, dropout=0.0),
        data="shapes", steps=13_000, restarts=(8_000,), batch=128, rate=1.5e-3, check_every=500,
        drop_label=0.1, drop_each=0.15, average=0.999, mixed=True,
    ),
}  # fmt: skip


def train(
    recipe: Recipe, images: TrainingImages, folder: Path, *, snapshots: Sequence[int] = (), ema: Sequence[float] = ()
) -> tuple[EDMDenoiser, list[dict[str, float]]]:
    """Train by `recipe`, continuing from `folder` where a run of the same recipe was cut off.

    The averaged weights after each of the steps in `snapshots` are written to `folder` as step-00100.safetensors
    and so on, in half precision: `load_denoiser` reads them. With lengths in `ema` the power-function averages of
    those lengths (see `PowerEMA`) are tracked too, and written as step-00100-ema-0.05.safetensors and so on.

    Returns
    -------
    EDMDenoiser
        The averaged weights with the least held-out error.
    list of dict
        Loss curve: step, train_loss (weighted, running mean), held_out_error (weighted).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        denoiser = EDMDenoiser(recipe.network, images.sigma_data)
    run = _Run(recipe, denoiser, folder, ema)
    run.resume()
    sigmas = torch.logspace(-1.5, 1, 8)  # 0.03 to 10: where the held-out error is decided
    bank = error_bank(images.held_out_images[:HELD_OUT], images.held_out_labels[:HELD_OUT], sigmas=sigmas)
    progress = tqdm(
        range(run.step, recipe.steps), initial=run.step, total=recipe.steps, desc="training", file=sys.stderr
    )
    for step in progress:
        run.update(*_draw(recipe, run.denoiser, images, step))
        if step + 1 in snapshots:
            run.write_snapshots()
        if (step + 1) % recipe.check_every == 0 or step + 1 == recipe.steps:
            row = run.check(bank)
            progress.set_postfix(loss=f"{row['train_loss']:.4f}", held_out=f"{row['held_out_error']:.4f}")
    best = deepcopy(run.averaged)
    best.load_state_dict(read_weights(folder / "best.safetensors")[1])
    return best.eval().requires_grad_(False), run.curve


def _draw(
    recipe: Recipe, denoiser: EDMDenoiser, images: TrainingImages, step: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, int]:
    """Images, labels, sigma, noise, augmentation and dropout seed of one step: a function of (seed, step)."""
    seed = recipe.seed * 1_000_003 + step
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(images.images), (recipe.batch,), generator=generator)
    clean, parameters = images.images[rows], None
    if images.augmented:
        clean, parameters = augment(clean, generator)
    null = denoiser.null(recipe.batch)
    labels = open_labels(images.labels[rows], null, whole=recipe.drop_label, each=recipe.drop_each, generator=generator)
    log_sigma = recipe.p_mean + recipe.p_std * torch.randn(recipe.batch, generator=generator)
    low, high = torch.tensor([SIGMA_MIN, SIGMA_MAX]).log()
    uniform = low + (high - low) * torch.rand(recipe.batch, generator=generator)
    wide = torch.rand(recipe.batch, generator=generator) < recipe.wide
    sigma = torch.where(wide, uniform, log_sigma).exp()
    return clean, labels, sigma, torch.randn(clean.shape, generator=generator), parameters, seed


def learning_rate(recipe: Recipe, step: int) -> float:
    """The learning rate of one step: a warm-up, then half cosines from one restart to the next."""
    bounds = [0, *recipe.restarts, recipe.steps]
    cycle = sum(step >= start for start in recipe.restarts)
    angle = torch.pi * (step - bounds[cycle]) / (bounds[cycle + 1] - bounds[cycle])
    ramp = min(1.0, (step + 1) / recipe.warm_up)
    fall = 0.5 * (1 + torch.cos(torch.tensor(angle)).item())
    return recipe.rate * 0.5**cycle * ramp * fall


class _Run:
    """The state of one training run and its files."""

    def __init__(self, recipe: Recipe, denoiser: EDMDenoiser, folder: Path, ema: Sequence[float] = ()) -> None:
        self.recipe, self.denoiser, self.folder = recipe, denoiser.train(), folder
        self.averaged = deepcopy(denoiser).eval().requires_grad_(False)
        self.ema = PowerEMA(denoiser, ema)
        self.optimiser = torch.optim.Adam(denoiser.parameters(), lr=recipe.rate, betas=(0.9, 0.99))
        self.step = 0
        self.losses: list[float] = []
        self.curve: list[dict[str, float]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def update(
        self, images: Tensor, labels: Tensor, sigma: Tensor, noise: Tensor, parameters: Tensor | None, seed: int
    ) -> None:
        """One optimiser step on the EDM loss (Karras et al. 2022, eq. 8 with their weighting)."""
        recipe = self.recipe
        self.optimiser.param_groups[0]["lr"] = learning_rate(recipe, self.step)
        with torch.random.fork_rng(devices=[]), torch.autocast("cpu", torch.bfloat16, enabled=recipe.mixed):
            torch.manual_seed(seed)  # dropout draws from the global generator
            denoised = self.denoiser.denoise(images + sigma[:, None, None, None] * noise, sigma, labels, parameters)
        loss = (self._weight(sigma) * (denoised - images).square().mean(dim=(1, 2, 3))).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.denoiser.parameters(), 1.0)
        self.optimiser.step()
        # a shorter memory early on, or the average would still hold the initial weights
        decay = min(recipe.average, (self.step + 1) / (self.step + 10))
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self.denoiser.parameters()), 1 - decay)
        self.ema.update(self.denoiser)
        self.step += 1
        self.losses.append(loss.item())

    def write_snapshots(self) -> None:
        """Write the averaged weights of now, in half precision."""
        about: Card = {"training_step": self.step, "recipe": _plain(self.recipe)}
        path = self.folder / f"step-{self.step:05d}.safetensors"
        save_denoiser(path, deepcopy(self.averaged).half(), about)
        for length, average in self.ema.networks.items():
            assert isinstance(average, EDMDenoiser)  # a copy of what is trained
            of_length = path.with_name(f"{path.stem}-ema-{length!r}.safetensors")
            metadata = {"training_step": str(self.step), "sigma_rel": repr(length)}
            save_denoiser(of_length, deepcopy(average).half(), {**about, "sigma_rel": length}, metadata=metadata)

    def check(self, bank: ErrorBank) -> dict[str, float]:
        """Held-out error of the averaged weights; keep them if they are the best so far; save the state."""
        errors = denoising_errors(self.averaged, bank)
        held_out = float((self._weight(bank.sigma) * errors).mean())
        row = {"step": self.step, "train_loss": sum(self.losses) / len(self.losses), "held_out_error": held_out}
        if all(held_out < earlier["held_out_error"] for earlier in self.curve):
            _write_tensors(self.folder / "best.safetensors", self.averaged.state_dict())
        self.curve.append(row)
        self.losses.clear()
        self._save()
        return row

    def resume(self) -> None:
        """Continue from the folder's last saved state, if there is one of the same recipe."""
        path = self.folder / "state.json"
        if path.exists():
            with only_input_errors(path, expected="the state of a training"):
                self._take(read_json(path))

    def _take(self, saved: Mapping[str, Any]) -> None:
        if saved["recipe"] != _plain(self.recipe):
            raise InputError(
                "folder",
                found=f"a run of another recipe in {self.folder}",
                expected="an empty folder or the same recipe",
            )
        if type(saved["step"]) is not int or not all(
            isinstance(row["held_out_error"], float) for row in saved["curve"]
        ):
            raise ValueError("no step, or errors that are no numbers")
        _, tensors, _ = read_weights(self.folder / f"state-{saved['step']}.safetensors")
        self.step, self.curve = saved["step"], saved["curve"]
        self.denoiser.load_state_dict(_strip(tensors, "weights."))
        self.averaged.load_state_dict(_strip(tensors, "averaged."))
        ema = _strip(tensors, "ema.")
        if ema or self.ema.networks:  # an earlier version kept none
            self.ema.load_state_dict(ema)
        moments = _strip(tensors, "adam.")
        state = self.optimiser.state_dict()
        for index in range(len(state["param_groups"][0]["params"])):
            state["state"][index] = _strip(moments, f"{index}.")
        self.optimiser.load_state_dict(state)

    def _save(self) -> None:
        tensors = {f"weights.{k}": v for k, v in self.denoiser.state_dict().items()}
        tensors |= {f"averaged.{k}": v for k, v in self.averaged.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{k}": v for k, v in moments.items()}
        _write_tensors(self.folder / f"state-{self.step}.safetensors", tensors)
        saved = {"step": self.step, "recipe": _plain(self.recipe), "curve": self.curve}
        write_json(self.folder / "state.json", saved)
        for old in self.folder.glob("state-*.safetensors"):
            if old.name != f"state-{self.step}.safetensors":
                old.unlink()

    def _weight(self, sigma: Tensor) -> Tensor:
        sd = self.denoiser.sigma_data
        return (sigma**2 + sd**2) / (sigma * sd) ** 2


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    write_sealed(path, lambda temporary: save_file(tensors, temporary, {"format": STATE, "seal": UNSEALED}))


def _strip(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _plain(recipe: Recipe) -> Any:
    return json.loads(json.dumps(asdict(recipe)))  # tuples become lists, as they do in the file


def training_card(
    name: str, recipe: Recipe, images: TrainingImages, denoiser: EDMDenoiser, curve: list[dict[str, float]]
) -> Card:
    """What the card says of the training; quality figures are added by `scorescope card`."""
    best = min(curve, key=lambda row: row["held_out_error"])
    return {
        "name": name,
        "command": f"python -m scorescope.data.train {name}",
        "data": images.about,
        "data_sha256": images.sha256,
        "sigma_data": denoiser.sigma_data,
        "parameters": sum(p.numel() for p in denoiser.parameters()),
        "seed": recipe.seed,
        "steps": recipe.steps,
        "kept_step": best["step"],
        "recipe": _plain(recipe),
        "torch": torch.__version__,
        "loss_curve": curve,
    }


def what_is_kept(folder: Path, recipe: Recipe) -> str:
    """What a run that was cut off goes on from, in words."""
    if (folder / "state.json").is_file():
        return f"cut off; the same command goes on from step {read_json(folder / 'state.json')['step']}"
    return f"cut off before its first checkpoint, after step {recipe.check_every}: nothing is kept"


def main() -> None:
    """Command line: train one of `RECIPES` and write its weights and card."""
    parser = argparse.ArgumentParser(description="Train a shipped denoiser (seeded, resumable).")
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), help="folder of the run and the result (default: runs)"
    )
    parser.add_argument(
        "--snapshots", type=int, nargs="*", default=[], metavar="STEP", help="also keep the weights after these steps"
    )
    parser.add_argument(
        "--ema", type=float, nargs="*", default=[], metavar="LENGTH",
        help="also track power-function averages of these lengths (sigma_rel), and keep them after those steps; two, "
        "0.05 and 0.10, are enough for posthoc_ema to make any other",
    )  # fmt: skip
    arguments = parser.parse_args()
    recipe = RECIPES[arguments.name]
    images = training_images(recipe.data)
    folder = arguments.out / arguments.name
    try:
        denoiser, curve = train(recipe, images, folder, snapshots=arguments.snapshots, ema=arguments.ema)
    except KeyboardInterrupt:
        sys.stderr.write(f"\n{what_is_kept(folder, recipe)}\n")
        raise SystemExit(130) from None
    path = arguments.out / f"{arguments.name}.safetensors"
    save_denoiser(path, denoiser, training_card(arguments.name, recipe, images, denoiser, curve))
    sys.stderr.write(f"wrote {path} and its card\n")


if __name__ == "__main__":
    main()
