"""Laws with a known denoiser: fitted, called, and held against a network."""

from typing import Any

import torch

from scorescope.analysis.gaussian import (
    emergence,
    flipd,
    memorisation,
    noise_norms,
    path_errors,
    path_pair,
    score_gaps,
    score_table,
)
from scorescope.probes.approximations import Gaussian, Mixture, TrainingSet, fit_gaussian, fit_per_class
from scorescope.probes.approximations.gaussian import isotropic
from scorescope.probes.models import edm_sigmas
from tests.benchmarks.growth.case import Case
from tests.benchmarks.growth.made_up import generator, halved, normal

BATCH = 64


def law(d: int, rank: int | None = None) -> Gaussian:
    r = d if rank is None else rank
    basis = torch.linalg.qr(normal(d, r)).Q
    return Gaussian(torch.zeros(d), basis, torch.rand(r, generator=generator()).sort(descending=True).values + 0.1, 0.1)


def asked(denoiser: Any, d: int) -> Any:
    return denoiser, normal(BATCH, d), torch.full((BATCH,), 2.0)


def answer(made: Any) -> None:
    denoiser, x, sigma = made
    denoiser(x, sigma)


def mixture(count: int) -> Mixture:
    parts = tuple(isotropic(normal(256, seed=k), 0.3) for k in range(count))
    return Mixture(parts, torch.full((count,), 1 / count))


def labelled(classes: int, each: int = 40, d: int = 64) -> tuple[Any, Any]:
    return normal(classes * each, d), torch.arange(classes).repeat(each)


def gaps(images: int, d: int = 64, levels: int = 6) -> Any:
    return halved, [law(d), TrainingSet(normal(256, d))], normal(images, d, seed=1), edm_sigmas(levels)[:-1]


def followed(made: Any) -> None:
    gaussian, count, levels = made
    pair = path_pair(halved, gaussian, seeds=range(count), sigmas=edm_sigmas(levels))
    path_errors(pair)
    emergence(pair)


DIM, SAMPLES = (128, 256, 512, 1024), (1000, 2000, 4000, 8000)
CASES = (
    Case("gaussian: fit_gaussian, full", "samples", (4000, 8000, 16000, 32000), lambda n: normal(n, 256), fit_gaussian,
         "n d^2", 1, 1),
    Case("gaussian: fit_gaussian, full", "dimension", DIM, lambda d: normal(2 * d, d), fit_gaussian, "d^3", 3, 2),
    Case("gaussian: fit_gaussian, rank 32", "dimension", (8192, 16384, 32768, 65536), lambda d: normal(200, d),
         lambda x: fit_gaussian(x, rank=32), "n d r", 1, 1),
    Case("gaussian: fit_per_class", "classes", (32, 64, 128, 256), labelled, lambda a: fit_per_class(*a),
         "classes", 1, 1),
    Case("gaussian: full denoiser", "dimension", (512, 1024, 2048, 4096), lambda d: (normal(d, d), d),
         lambda a: answer(asked(Gaussian(torch.zeros(a[1]), a[0], torch.ones(a[1]), 0.0), a[1])), "d^2", 2, 1),
    Case("gaussian: denoiser of rank 64", "dimension", (16384, 32768, 65536, 131072), lambda d: asked(law(d, 64), d),
         answer, "d r", 1, 1),
    Case("gaussian: mixture's denoiser", "components", (32, 64, 128, 256), lambda n: asked(mixture(n), 256), answer,
         "components", 1, 1),
    Case("gaussian: training set's denoiser", "points", (4000, 8000, 16000, 32000),
         lambda n: asked(TrainingSet(normal(n, 256)), 256), answer, "n d", 1, 0),
    Case("gaussian: training set's denoiser", "dimension", (512, 1024, 2048, 4096),
         lambda d: asked(TrainingSet(normal(4000, d)), d), answer, "n d", 1, 1),
    Case("gaussian: score gaps and their table", "images", (250, 500, 1000, 2000, 4000), gaps,
         lambda a: score_table(score_gaps(*a)), "points", 1, 1),
    Case("gaussian: score gaps and their table", "levels", (4, 8, 16, 32), lambda n: gaps(200, levels=n),
         lambda a: score_table(score_gaps(*a)), "points", 1, 1),
    Case("gaussian: paths beside the closed form", "samples", (64, 128, 256, 512), lambda n: (law(128), n, 18),
         followed, "samples", 1, 1),
    Case("gaussian: paths beside the closed form", "levels", (16, 32, 64, 128), lambda n: (law(128), 64, n), followed,
         "levels", 1, 1),
    Case("gaussian: memorisation", "training images", (2000, 4000, 8000, 16000),
         lambda n: {"train": normal(n, 64), "held out": normal(n, 64, seed=1)},
         lambda sets: memorisation(halved, sets, [0.5, 2.0, 8.0]), "n", 1, 1),
    Case("gaussian: noise_norms", "images", SAMPLES, lambda n: normal(n, 256),
         lambda x: noise_norms(x, [0.5, 2.0, 8.0]), "n d", 1, 1),
    Case("gaussian: flipd", "images", (1000, 2000, 4000, 8000), lambda n: {"held out": normal(n, 256)},
         lambda sets: flipd(halved, sets, [0.5, 2.0, 8.0]), "images", 1, 1),
)  # fmt: skip
