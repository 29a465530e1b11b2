"""Train the shipped attribute scorer: `python -m scorescope.data.train_scorer`, about a minute, seeded."""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from tqdm.auto import tqdm

from scorescope.data.attribute_scorer import AttributeScorer, ScorerConfig, save_scorer
from scorescope.data.checkpoints import Card
from scorescope.data.shapes import ATTRIBUTES, NUISANCE, SHAPE, Shapes, render_shapes

CHANNELS = (24, 48, 64)
STEPS, BATCH, RATE = 3_000, 128, 3e-3
NOISE = 0.1  # standard deviation of noise added in training, so that the judge does not hang on single pixels


def train_scorer(*, steps: int = STEPS, seed: int = 0, progress: bool = True) -> tuple[AttributeScorer, Card]:
    """Train on rendered shapes whose frame is independent of everything.

    Returns
    -------
    AttributeScorer
        In evaluation mode.
    dict
        Its card, with the accuracy of each attribute on images that training did not see.
    """
    train = render_shapes(20_000, seed=20, frame_shares=(0.5, 0.5))
    held_out = render_shapes(2_000, seed=21, frame_shares=(0.5, 0.5))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        scorer = AttributeScorer(ScorerConfig(SHAPE, CHANNELS, {**ATTRIBUTES, NUISANCE: ("without", "with")}))
    optimiser = torch.optim.AdamW(scorer.parameters(), lr=RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    truth = targets(train)
    for _ in tqdm(range(steps), desc="training scorer", disable=not progress, file=sys.stderr):
        rows = torch.randint(len(train.images), (BATCH,), generator=generator)
        amount = NOISE * torch.rand(BATCH, 1, 1, 1, generator=generator)
        images = train.images[rows] + amount * torch.randn(BATCH, *SHAPE, generator=generator)
        found = scorer(images)
        loss = torch.stack([functional.nll_loss(found[name], truth[name][rows]) for name in found]).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    scorer.eval().requires_grad_(False)
    card: Card = {
        "name": "shapes",
        "command": "python -m scorescope.data.train_scorer",
        "data": "render_shapes with the frame independent of size: 20000 to train (seed 20), 2000 held out (seed 21)",
        "steps": steps,
        "seed": seed,
        "parameters": sum(p.numel() for p in scorer.parameters()),
        "held_out_accuracy": accuracy(scorer, held_out),
        "torch": torch.__version__,
    }
    return scorer, card


def targets(shapes: Shapes) -> dict[str, Tensor]:
    """True value of each attribute and of the nuisance, by name."""
    labels = {name: shapes.labels[:, place] for place, name in enumerate(ATTRIBUTES)}
    return {**labels, NUISANCE: shapes.frame}


@torch.inference_mode()
def accuracy(scorer: AttributeScorer, shapes: Shapes) -> dict[str, float]:
    """Share of images whose attribute is named rightly."""
    truth = targets(shapes)
    return {
        name: float((found.argmax(1) == truth[name]).float().mean()) for name, found in scorer(shapes.images).items()
    }


def main() -> None:
    """Command line: train and write the weights and card."""
    parser = argparse.ArgumentParser(description="Train the shipped attribute scorer (seeded).")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder of the result (default: runs)")
    arguments = parser.parse_args()
    scorer, card = train_scorer()
    path = arguments.out / "scorers" / "shapes.safetensors"
    save_scorer(path, scorer, card)
    sys.stderr.write(f"wrote {path}; held-out accuracy {card['held_out_accuracy']}\n")


if __name__ == "__main__":
    main()
