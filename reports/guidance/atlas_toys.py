"""Atlas: figures of guidance on laws of one and two dimensions, in closed form."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from scorescope.analysis.guidance.known_laws import (
    JUST_ABOVE,
    KnownBranches,
    contour_level,
    law_kept,
    line_densities,
    line_paths,
)
from scorescope.probes.approximations import Gaussian, Mixture, isotropic
from scorescope.probes.guidance import CFG, Autoguidance, Interval, Rule
from scorescope.probes.models.denoiser import Denoiser
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.sampling.sample import sample
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.guidance import figures

Place = NDArray[np.float64]
Stem = tuple[Place, float, float]  # root, angle, length
LINE_STEPS, PLANE_STEPS = 64, 32
SIDE, SPREAD = 1.0, 0.3  # of two classes on a line: their means, one on each side, and their standard deviation
INSIDE = (0.2, 1.0)  # noise levels that an interval guides at, on the line
POINTS = 1500
BLURS = {"strong": 0.04, "weak": 0.16}  # standard deviation by which a model of the tree is blurred
LENGTH = 1.4  # of scores that are lengthened


def two_classes() -> KnownBranches:
    """One of two classes on a line, and both of them."""
    parts = tuple(isotropic(torch.tensor([side], dtype=torch.float64), SPREAD**2) for side in (SIDE, -SIDE))
    return KnownBranches(parts[0], Mixture(parts, torch.full((2,), 0.5, dtype=torch.float64)))


def line_numbers(material: Material) -> Numbers:
    """Paths and densities of the ends, without guidance, with it, and with it in an interval."""
    branches, weight = two_classes(), material.weight
    rules: dict[str, Rule] = {"no guidance": CFG(1.0), "CFG": CFG(weight), "interval": Interval(CFG(weight), *INSIDE)}
    paths = line_paths(branches, rules, sigmas=edm_sigmas(LINE_STEPS))
    at = np.linspace(-2 * SIDE, 3 * SIDE, 400)
    points = torch.from_numpy(at)[:, None]
    laws = {
        law: pd.DataFrame({"rule": law, "x": at, "density": of.log_density(points, JUST_ABOVE).exp().numpy()})
        for law, of in (("class", branches.cond), ("both classes", branches.uncond))
    }
    densities = pd.concat([*laws.values(), line_densities(paths)], ignore_index=True)
    return Numbers({"paths": paths, "densities": densities}, facts={"low": INSIDE[0], "high": INSIDE[1]})


def draw_line(numbers: Numbers, **how: Any) -> Figure:
    """Densities of the ends above the paths."""
    return figures.toy_paths(numbers.tables["paths"], numbers.tables["densities"], **how)


def tree(side: int, blur: float = 0.0) -> Mixture:
    """A class in the plane whose law branches: stems of Gaussians that fork three times, to one side."""
    stems = list(_stems(np.zeros(2), math.pi / 2 - side * math.pi / 4, 1.0, forks=3))
    shares = torch.tensor([length for *_, length in stems], dtype=torch.float64)
    return Mixture(tuple(_stem(*stem, blur=blur) for stem in stems), shares / shares.sum())


def _stems(root: Place, angle: float, length: float, forks: int) -> Iterator[Stem]:
    """Root, angle and length of a stem and of all that grow from it."""
    yield root, angle, length
    if forks:
        top = root + length * np.array([math.cos(angle), math.sin(angle)])
        for turn in (-0.45, 0.4):
            yield from _stems(top, angle + turn, 0.62 * length, forks - 1)


def _stem(root: Place, angle: float, length: float, *, blur: float) -> Gaussian:
    """A Gaussian as long as its stem and a twentieth of that wide, blurred."""
    along = np.array([math.cos(angle), math.sin(angle)])
    basis = torch.tensor(np.stack([along, [-along[1], along[0]]], axis=1))
    variances = torch.tensor([(0.3 * length) ** 2, (0.05 * length) ** 2]) + blur**2
    return Gaussian(torch.tensor(root + 0.5 * length * along), basis, variances.double())


def both_trees(blur: float) -> KnownBranches:
    """One of two trees, and both of them, as a model sees them that blurs."""
    one, other = tree(1, blur), tree(-1, blur)
    shares = torch.cat([one.weights, other.weights]) / 2
    return KnownBranches(one, Mixture((*one.components, *other.components), shares))


def lengthened(denoiser: Denoiser) -> Denoiser:
    """A denoiser whose scores are longer: a truncation that knows nothing of the law."""
    return lambda x, sigma, condition: x + LENGTH * (denoiser(x, sigma, condition) - x)


def plane_arms(weight: float) -> dict[str, tuple[Denoiser, Rule]]:
    """Models and rules by the name of their panel."""
    strong, weak = (both_trees(BLURS[name]) for name in ("strong", "weak"))
    return {
        "no guidance": (strong, CFG(1.0)),
        "CFG": (strong, CFG(weight)),
        "lengthened scores": (lengthened(strong), CFG(1.0)),
        "autoguidance": (strong, Autoguidance(weight, weak)),
    }


def plane_numbers(material: Material) -> Numbers:
    """Samples of a tree under each rule, what is kept of its law."""
    law, weight = tree(1), min(material.weight, 3.0)
    generator = torch.Generator().manual_seed(material.seed)
    points = {"the law itself": law.sample(POINTS, generator=generator)}
    arms = plane_arms(weight)
    for name, (denoiser, rule) in arms.items():
        points[name] = sample(
            denoiser, seeds=range(POINTS), condition=torch.zeros(POINTS), shape=(2,), rule=rule, dtype=torch.float64,
            sigmas=edm_sigmas(PLANE_STEPS), batch=POINTS, progress=False,
        ).samples  # fmt: skip
    tables = {
        "kept": law_kept(points, law),
        "points": pd.concat([_table(place).assign(arm=name) for name, place in points.items()], ignore_index=True),
        "density": _density(law),
    }
    return Numbers(
        tables, facts={"w": weight, "level": contour_level(law), "points": POINTS, "length": LENGTH, **BLURS}
    )


def _table(points: Tensor) -> pd.DataFrame:
    return pd.DataFrame(points.numpy(), columns=["x", "y"])


def _density(law: Mixture) -> pd.DataFrame:
    """Log density on a grid around the law."""
    draws = law.sample(2000, generator=torch.Generator().manual_seed(0))
    low, high = draws.amin(0) - 0.3, draws.amax(0) + 0.3
    grid = torch.cartesian_prod(
        *(torch.linspace(*ends, 160, dtype=torch.float64) for ends in zip(low, high, strict=True))
    )
    return _table(grid).assign(log_density=law.log_density(grid, JUST_ABOVE).numpy())


def draw_plane(numbers: Numbers, **how: Any) -> Figure:
    """Samples on the law's contour."""
    tables = numbers.tables
    return figures.toy_fields(tables["points"], tables["density"], tables["kept"], level=numbers.facts["level"], **how)


ENTRIES = (
    Entry(
        "interval-toy-1d", "densities and paths of guidance on two known classes on a line, and in an interval",
        (), line_numbers, draw_line,
        "Above, densities of what paths end as, for one of two classes N(±1, 0.3²) in closed form, without guidance, "
        "with CFG at w = {weight:g} and with CFG at {low:g} < σ ≤ {high:g} alone; filled, the class. Below, paths of "
        "evenly many quantiles against the noise level. Exact denoisers; densities are differences of quantiles, and "
        "there is nothing random.",
        "of two Gaussians of one variance λ the end's mean moves by (w − 1)(m_c − m_u), in an interval by the share "
        "√λ [(λ + lo²)^−½ − (λ + hi²)^−½] of it, and the variance stays",
        cites=("kynkaanniemi2024applying",), differs="the two laws are ours",
    ),
    Entry(
        "autoguidance-toy-2d", "samples of a branching law in the plane under CFG, lengthened scores and autoguidance",
        (), plane_numbers, draw_plane,
        "{points} samples each of a law that branches, on the contour that holds 99 % of it: draws of the law itself, "
        "and of models of it that blur by {strong:g} (the guided one) and {weak:g} (the weak one). CFG and "
        "autoguidance at w = {w:g}, scores lengthened by {length:g}; above each, the share outside the contour. All "
        "laws are mixtures of Gaussians in closed form.",
        "of Gaussians with variances λ (strong) and λ₀ (weak) the guided end has standard deviation "
        "√λ (λ/λ₀)^((w − 1)/2); draws of the law are outside in 1 % of cases",
        cites=("karras2024guiding",), differs="models that blur in closed form stand for trained networks",
    ),
)  # fmt: skip
