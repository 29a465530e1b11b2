"""Train the shipped classifiers: `python -m scorescope.data.train_classifiers digits`, seconds to a minute each.

Seeded: the same torch and number of threads give the same weights. `digits` names real digits. `accessory` and
`subject` name only one of the two things in a rendered scene; an L1 penalty on their last maps keeps those silent
where there is nothing to name, as far as the task allows.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from tqdm.auto import tqdm

from scorescope.data.augment import augment
from scorescope.data.checkpoints import Card
from scorescope.data.classifiers import Classifier, ClassifierConfig, save_classifier
from scorescope.data.digits import load_digits
from scorescope.data.scenes import ACCESSORIES, SHAPE, SUBJECTS, render_scenes

Batches = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class ClassifierRecipe:
    """Everything that decides a training run."""

    config: ClassifierConfig
    steps: int
    batch: int = 128
    rate: float = 3e-3  # peak of one cosine
    sparsity: float = 0.0  # weight of the mean activation of the last maps in the loss
    seed: int = 0


def _scene_recipe(classes: tuple[str, ...]) -> ClassifierRecipe:
    return ClassifierRecipe(ClassifierConfig(SHAPE, (16, 32, 32, 32), (1, 2, 2, 1), classes), steps=2000, sparsity=0.03)


RECIPES = {
    "digits": ClassifierRecipe(
        ClassifierConfig((1, 8, 8), (32, 48, 48, 32), (1, 1, 1, 1), tuple("0123456789")), steps=2500, sparsity=1e-2
    ),
    "accessory": _scene_recipe(ACCESSORIES),
    "subject": _scene_recipe(SUBJECTS),
}


def train_classifier(name: str) -> tuple[Classifier, Card]:
    """Train by `RECIPES[name]`.

    Returns
    -------
    Classifier
        In evaluation mode.
    dict
        Its card, with the accuracy on images that training did not see.
    """
    recipe = RECIPES[name]
    batches, (images, labels), source = _data(name)
    sample, _ = batches(2000, torch.Generator().manual_seed(recipe.seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        classifier = Classifier(recipe.config)
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=recipe.rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=recipe.steps)
    generator = torch.Generator().manual_seed(recipe.seed)
    for _ in tqdm(range(recipe.steps), desc=f"training {name}", file=sys.stderr):
        x, y = batches(recipe.batch, generator)
        maps = classifier.activations(x)
        loss = functional.cross_entropy(classifier.head(maps.mean(dim=(2, 3))), y) + recipe.sparsity * maps.mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    classifier.eval().requires_grad_(False)
    _standardise(classifier, sample)
    correct = int((classifier(images).argmax(dim=1) == labels).sum())
    card: Card = {
        "name": name,
        "command": f"python -m scorescope.data.train_classifiers {name}",
        "data": source,
        "recipe": asdict(recipe),
        "parameters": sum(p.numel() for p in classifier.parameters()),
        "held_out": {"n": len(labels), "correct": correct, "accuracy": correct / len(labels)},
        "torch": torch.__version__,
    }
    return classifier, card


def _standardise(classifier: Classifier, images: Tensor) -> None:
    """Scale all features by one number to a root mean square deviation of 1; the logits stay as they are.

    A ReLU commutes with a positive scale, so that the last convolution takes it and the head gives it back. Kernel
    distances need features of order 1. One number for all, or features that hardly ever move would gain weight.
    """
    scale = classifier.activations(images).mean(dim=(2, 3)).var(dim=0).mean().sqrt()
    last = classifier.layers[-1]
    assert isinstance(last, torch.nn.Conv2d) and last.bias is not None
    last.weight.div_(scale)
    last.bias.div_(scale)
    classifier.head.weight.mul_(scale)


def _data(name: str) -> tuple[Batches, tuple[Tensor, Tensor], str]:
    """Training batches, held-out images with labels, and what the card says of them."""
    if name == "digits":
        digits = load_digits()
        train = digits.train

        def draw_digits(batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            rows = torch.randint(len(train.images), (batch,), generator=generator)
            return augment(train.images[rows], generator)[0], train.labels[rows]

        source = "scikit-learn load_digits: 1437 train (augmented by small rotations, scalings, shifts), 360 held out"
        return draw_digits, (digits.held_out.images, digits.held_out.labels), source
    scenes, held_out = render_scenes(6000, seed=10, bitten=0.3), render_scenes(1000, seed=11, bitten=0.3)
    labels = getattr(scenes, name)

    def draw_scenes(batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(labels), (batch,), generator=generator)
        return scenes.images[rows], labels[rows]

    source = f"rendered scenes, labelled by their {name} only: 6000 to train (seed 10), 1000 held out (seed 11)"
    return draw_scenes, (held_out.images, getattr(held_out, name)), source


def main() -> None:
    """Command line: train one of `RECIPES` and write its weights and card."""
    parser = argparse.ArgumentParser(description="Train a shipped classifier (seeded).")
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of the result (default: runs)")
    arguments = parser.parse_args()
    classifier, card = train_classifier(arguments.name)
    path = arguments.out / f"{arguments.name}.safetensors"
    save_classifier(path, classifier, card)
    sys.stderr.write(f"wrote {path}; held-out accuracy {card['held_out']['accuracy']:.4f}\n")


if __name__ == "__main__":
    main()
