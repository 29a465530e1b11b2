"""Directions and information: probes, stability, steering, losses by class, classification."""

from typing import Any

import numpy as np
import torch

from scorescope.analysis.directions import direction_stability, find_direction, probe_scan, steer_curve
from scorescope.analysis.information import pair_table, paired_classify, pairwise_information, win_rates
from scorescope.probes import Bank, log_snr_grid
from scorescope.probes.activations import Activations
from scorescope.probes.bank import Arm, compare_arms
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import Euler, Sampling
from tests.benchmarks.growth.case import Case
from tests.benchmarks.growth.made_up import generator, normal
from tests.mixtures import draw_labelled
from tests.planted import Planted, scores, unit_direction


def scan(images: int, d: int, sites: int = 1, levels: int = 1) -> tuple[Activations, Any]:
    values = {f"site{k}": normal(levels, images, d, seed=k) for k in range(sites)}
    sigmas = tuple(float(sigma) for sigma in np.geomspace(10, 0.1, levels))
    made = Activations(values, sigmas, torch.arange(images), dict.fromkeys(values, "mean"))
    return made, {"label": torch.randint(2, (images,), generator=generator()).numpy()}


def probed(made: Any) -> None:
    activations, labels = made
    probe_scan(activations, labels, progress=False)


def cell(images: int, d: int) -> tuple[Any, Any]:
    activations, labels = scan(images, d)
    return activations.at("site0", 0), labels["label"]


def found(made: Any) -> None:
    values, labels = made
    find_direction(values, labels, site="site0", attribute="label", method="lda")


def stable(made: Any) -> None:
    direction_stability(*made, resamples=20, halves=10)


def steered(made: Any) -> None:
    seeds, strengths = made
    steer_curve(
        Planted(), unit_direction(0), scores, target="attribute", seeds=range(seeds),
        condition=torch.arange(seeds) % 2, strengths=strengths, resamples=300, progress=False,
        sampling=Sampling(solver=Euler(), sigmas=edm_sigmas(6)),
    )  # fmt: skip


def bank(images: int, classes: int) -> Any:
    known = draw_labelled(images, classes=classes)
    candidates = {f"class {k}": torch.tensor([k]) for k in range(classes)}
    return known, Bank(known.images.float(), log_snr_grid(-4, 4, 6)), candidates


def compared(made: Any) -> None:
    known, points, candidates = made
    found = compare_arms(points, [Arm(name, known.law, value) for name, value in candidates.items()], pairs=())
    win_rates(found, known.labels.numpy())


def classified(made: Any) -> None:
    known, points, candidates = made
    paired_classify(known.law, points, candidates, known.labels.numpy(), error=None)


def informed(made: Any) -> None:
    known, points, _ = made
    pairwise_information(known.law, points, condition=known.labels)
    pair_table(compare_arms(points, [Arm("none", known.law), Arm("class", known.law, known.labels)]))


CLASSES = (4, 8, 16, 32)
STRENGTHS = tuple(range(1, 65))
CASES = (
    Case("directions: probe_scan", "images", (500, 1000, 2000, 4000, 8000), lambda n: scan(n, 64), probed, "n d^2",
         1, 1),
    Case("directions: probe_scan", "features", (64, 128, 256, 512), lambda d: scan(1000, d), probed, "n d^2 + d^3",
         3, 2),
    Case("directions: probe_scan", "sites", (4, 8, 16, 32), lambda n: scan(300, 32, sites=n), probed, "sites", 1, 1),
    Case("directions: probe_scan", "levels", (16, 32, 64, 128, 256), lambda n: scan(300, 32, levels=n), probed,
         "levels", 1, 1),
    Case("directions: find_direction, LDA", "features", (128, 256, 512, 1024), lambda d: cell(2000, d), found,
         "n d^2 + d^3", 3, 2),
    Case("directions: stability", "images", (8000, 16000, 32000, 64000), lambda n: cell(n, 64), stable,
         "n d", 1, 1),
    Case("directions: steer_curve", "seeds", (16, 32, 64, 128, 256), lambda n: (n, (-1, 1)), steered, "samples", 1, 1),
    Case("directions: steer_curve", "strengths", (8, 16, 32, 64), lambda n: (16, STRENGTHS[:n]), steered, "arms", 1, 1),
    Case("information: win rates", "images", (250, 500, 1000, 2000), lambda n: bank(n, 4), compared, "points x classes",
         1, 1),
    Case("information: win rates", "classes", CLASSES, lambda n: bank(128, n), compared, "classes; the law's own too",
         2, 2),
    Case("information: classification", "images", (250, 500, 1000, 2000), lambda n: bank(n, 4), classified,
         "points x classes", 1, 1),
    Case("information: classification", "classes", CLASSES, lambda n: bank(128, n), classified,
         "classes; the law's own too", 2, 2),
    Case("information: pairwise, pair table", "images", (500, 1000, 2000, 4000), lambda n: bank(n, 4), informed,
         "points", 1, 1),
)  # fmt: skip
