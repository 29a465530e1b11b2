"""Atlas: figures of what a network remembers, and of the dimension that its Jacobian sees."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scorescope.analysis.gaussian.jacobians import flipd, jacobian_ranks
from scorescope.analysis.gaussian.training import memorisation
from scorescope.probes.approximations import TrainingSet
from scorescope.probes.models.denoiser import Denoiser
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.gaussian import figures
from scorescope.reports.gaussian.atlas_material import images_facts, study_of, without_gradient
from scorescope.reports.gaussian.study import MEMORY_SIGMAS, Study

LEVELS = tuple(float(sigma) for sigma in np.geomspace(10.0, 0.02, 14))
ENERGY = 0.99
IMAGES = 16  # whose whole Jacobians are taken
MOST = 1024  # elements of a sample: a whole Jacobian takes as many backward passes
GAPS = {"training and held-out images with noise": 2 * len(MEMORY_SIGMAS)}
CLEAN = {"training and held-out images, clean": 2 * len(LEVELS)}


def denoisers(study: Study) -> dict[str, Denoiser]:
    """The network, the Gaussian, and what has memorised the training images."""
    return {study.model.name: study.denoiser, "Gaussian": study.gaussian, "memoriser": TrainingSet(study.train)}


def point_sets(study: Study) -> dict[str, Any]:
    """As many training images as held-out ones."""
    return {"train": study.data.train[: len(study.held_out)], "held out": study.held_out}


def _by_denoiser(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([table.assign(denoiser=name) for name, table in tables.items()], ignore_index=True)


def _parted(numbers: Numbers, name: str) -> dict[str, pd.DataFrame]:
    table = numbers.tables[name]
    return {str(name): rows for name, rows in table.groupby("denoiser", sort=False)}


def memory_numbers(material: Material) -> Numbers:
    """Error and trace of the Jacobian on both sets, of each denoiser."""
    study = study_of(material)
    levels, sets = study.within(MEMORY_SIGMAS), point_sets(study)
    found = {
        name: memorisation(denoiser, sets, levels, seed=study.seed, progress=study.progress)
        for name, denoiser in denoisers(study).items()
    }
    return Numbers({"memorisation": _by_denoiser(found)}, facts=images_facts(study))


def draw_memory(numbers: Numbers, **how: Any) -> Figure:
    """Error and trace."""
    return figures.memorisation(_parted(numbers, "memorisation"), **how)


def flipd_numbers(material: Material) -> Numbers:
    """The FLIPD curve on both sets, of each denoiser."""
    study = study_of(material)
    levels, sets = study.within(LEVELS), point_sets(study)
    found = {
        name: flipd(denoiser, sets, levels, seed=study.seed, progress=study.progress)
        for name, denoiser in denoisers(study).items()
    }
    return Numbers({"flipd": _by_denoiser(found)}, facts={**images_facts(study), "d": study.gaussian.dimension})


def draw_flipd(numbers: Numbers, **how: Any) -> Figure:
    """Dimension against the noise level."""
    return figures.flipd_curves(_parted(numbers, "flipd"), dimension=numbers.facts["d"], **how)


def rank_numbers(material: Material) -> Numbers:
    """Rank and trace of the network's Jacobian and of the Gaussian's."""
    study = study_of(material)
    levels, images = study.within(MEMORY_SIGMAS), study.held_out[:IMAGES]
    found = {
        name: jacobian_ranks(denoiser, images, levels, energy=ENERGY, seed=study.seed, progress=study.progress)
        for name, denoiser in {study.model.name: study.denoiser, "Gaussian": study.gaussian}.items()
    }
    facts = {**images_facts(study), "n": len(images), "energy": 100 * ENERGY}
    return Numbers({"ranks": _by_denoiser(found)}, facts=facts)


def draw_ranks(numbers: Numbers, **how: Any) -> Figure:
    """Rank and trace against the noise level."""
    return figures.jacobian_ranks(_parted(numbers, "ranks"), **how)


def whole_jacobians(material: Material) -> dict[str, int]:
    """A row an element, whatever the number of samples."""
    rows = IMAGES * len(MEMORY_SIGMAS) * int(np.prod(material.studied.shape))
    return {"whole Jacobians of some images": -(-rows // material.count)}


def too_large(material: Material) -> str:
    """Whole Jacobians are of small samples."""
    width = int(np.prod(material.studied.shape))
    if width > MOST:
        return f"whole Jacobians are taken of samples of at most {MOST} elements, and these have {width}"
    return without_gradient(material)


ENTRIES = (
    Entry(
        "memorisation-gap", "denoising error and trace of the Jacobian on training and held-out images against σ",
        ("model", "data"), memory_numbers, draw_memory,
        "Squared denoising error an element, and trace of dD/dx (four Rademacher probes), against the noise level, at "
        "{n} training and {n} held-out images of {data} + σ n ({model}, unconditional branch), beside the Gaussian and "
        "the exact denoiser of {fitted} training images. Bands are 95 % intervals of means over images, corrected for "
        f"skewness. {figures.BELOW.strip()}",
        "σ² times the trace is the squared error of an exact posterior mean; the training set's own denoiser has "
        "neither error nor trace at training images as σ falls",
        calls=GAPS, refuses=without_gradient,
    ),
    Entry(
        "flipd-curve", "the FLIPD estimate of the data's dimension at clean images against σ",
        ("model", "data"), flipd_numbers, draw_flipd,
        "Trace of dD/dx plus |x − D(x, σ)|² / σ² at clean images x against the noise level, at {n} training and {n} "
        "held-out images of {data} ({model}, unconditional branch, {d} elements), beside the Gaussian and the exact "
        "denoiser of {fitted} training images. Bands are 95 % intervals of means over images, corrected for skewness; "
        "the axis ends a quarter above the dimension of the space.",
        "for a Gaussian on a plane of k dimensions the curve tends to k as σ falls",
        cites=("kamkari2024geometric",), calls=CLEAN, refuses=without_gradient,
        differs="whole curves in place of the value at one noise level",
    ),
    Entry(
        "jacobian-rank", "numerical rank and trace of the denoiser's Jacobian against σ, beside the Gaussian's",
        ("model", "data"), rank_numbers, draw_ranks,
        "Number of singular values of dD/dx that hold {energy:g} % of the sum of their squares, and its trace, against "
        "the noise level, at {n} held-out images of {data} + σ n ({model}, unconditional branch), beside the Gaussian "
        "of {fitted} training images. Bands are 95 % intervals of means over images, corrected for skewness.",
        "of a network that is a Gaussian the spectrum is λ / (λ + σ²)",
        cites=("wang2024diffusion",), calls=whole_jacobians, refuses=too_large,
        differs="there σ falls along a path of the sampler and the share is 98 %",
    ),
)  # fmt: skip
