"""Comparisons on a bank: many conditions at once against one by one, elimination against all points, shared noise."""

import time

import numpy as np
import torch

from scorescope.analysis import paired_classify
from scorescope.analysis.information import grid_levels
from scorescope.data import load_denoiser, load_digits
from scorescope.data.shapes import column, render_shapes
from scorescope.data.train import RECIPES
from scorescope.data.unet import EDMDenoiser
from scorescope.probes import Bank, log_snr_grid
from scorescope.probes.bank import Arm, compare_arms
from scorescope.probes.models import attribute_candidates
from tests.benchmarks.timing import side_by_side
from tests.mixtures import draw_labelled


def main() -> None:
    streaming()
    elimination()
    shared_noise()


def streaming() -> None:
    """The shapes network (untrained: the time is the same), four hues, against a plain loop for each."""
    denoiser = EDMDenoiser(RECIPES["shapes"].network, 0.5121).eval().requires_grad_(False)
    shapes = render_shapes(64, seed=0)
    bank = Bank(shapes.images, log_snr_grid(-4, 4, 4))
    candidates = attribute_candidates(denoiser.config.attributes, column("hue"), labels=shapes.labels)
    arms = [Arm(name, denoiser, labels) for name, labels in candidates.items()]

    def one_by_one() -> None:
        for labels in candidates.values():
            for point in bank.points(batch=256):
                denoised = denoiser(point.x, point.sigma, labels[point.rows])
                (denoised - point.x0).double().square().flatten(1).sum(1)

    ours, plain, ratio = side_by_side(lambda: compare_arms(bank, arms, pairs=[]), one_by_one, pairs=5)
    paired = side_by_side(lambda: compare_arms(bank, arms), one_by_one, pairs=3)[2]
    mapped = side_by_side(lambda: compare_arms(bank, arms, map_weights=[1.0] * 4), one_by_one, pairs=3)[2]
    print(
        f"four conditions, 64 images x 4 levels: {ours:.2f} s against {plain:.2f} s one by one, ratio {ratio:.3f}; "
        f"with three pairs compared {paired:.3f}, with their maps {mapped:.3f} (bound 1.1)"
    )


def elimination() -> None:
    denoiser, _ = load_denoiser("digits")
    digits = load_digits().held_out
    bank = Bank(digits.images[:100], log_snr_grid(-3, 3, 13), draws=4)
    candidates = {str(k): torch.tensor([k]) for k in range(10)}
    runs = {}
    for error in (None, 0.05, 0.01):
        start = time.perf_counter()
        found = paired_classify(denoiser, bank, candidates, digits.labels[:100], error=error)
        runs[error] = (found, time.perf_counter() - start)
    full, took = runs[None]
    print(f"digits, 100 images, 10 classes x 52 points: accuracy {_accuracy(full)}, {took:.1f} s")
    for error in (0.05, 0.01):
        found, seconds = runs[error]
        lost = (found.predictions["predicted"] != full.predictions["predicted"]).mean()
        print(
            f"  elimination at {error:g}: {found.summary['share'].item():.3f} of the evaluations, {seconds:.1f} s, "
            f"accuracy {_accuracy(found)}, other decision in {lost:.2f} of images (bound {error:g})"
        )


def _accuracy(found) -> str:
    row = found.summary.iloc[0]
    return f"{row['accuracy']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"


def shared_noise() -> None:
    pair = draw_labelled(200, classes=2, shape=(16,), spread=0.3)
    levels = grid_levels(-6, 6, 25)
    arms = [Arm("none", pair.law), Arm("class", pair.law, pair.labels)]
    one, other = (compare_arms(Bank(pair.images, levels.sigmas, seed=seed), arms) for seed in (0, 1))
    shared = one.difference("none", "class") @ levels.weights / 2
    apart = (one.loss("none") - other.loss("class")) @ levels.weights / 2
    exact = pair.log_ratio().numpy()
    print(
        f"log-ratio of 200 images, exact mean {exact.mean():.3f} nat: shared noise {shared.mean():.3f} +- "
        f"{shared.std():.2f}, independent noise {apart.mean():.3f} +- {apart.std():.2f}; "
        f"variance x {np.var(apart) / np.var(shared):.0f}"
    )
