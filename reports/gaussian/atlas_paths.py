"""Atlas: figures of a network's paths beside the closed form's, and of what a solver makes of a Gaussian."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from scorescope.analysis.gaussian.paths import (
    PathPair,
    beside,
    emergence,
    end_agreement,
    mode_amplitudes,
    mode_of,
    path_errors,
    seed_noise,
)
from scorescope.analysis.gaussian.skip import FINE_STEPS, skip_table
from scorescope.analysis.gaussian.solver_errors import solver_gains
from scorescope.probes.approximations import TrainingSet
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.sampling.paths import run_path
from scorescope.probes.sampling.solvers import DPMSolverPP2M, Heun
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.gaussian import figures
from scorescope.reports.gaussian.atlas_material import path_facts, study_of, unfit
from scorescope.reports.gaussian.sections_paths import SCHEDULES, SKIPS
from scorescope.reports.gaussian.study import Study

FINE = {"the network's own path in fine steps": 2 * FINE_STEPS - 1}
TELEPORTS = {"skipped starts, two solvers": 1100}
THINNED = 2  # every so many levels of the fine path are drawn
MODES, CURVES = 16, 8  # eigen-modes whose place is drawn, and whose growth
SHOWN = 8  # seeds in rows of pictures
STEPS = (8, 18)  # of the grids that are skipped into
VARIANCES = np.logspace(-4, np.log10(25.0), 60)
CITE = ("wang2024unreasonable",)


def pair_of(material: Material) -> PathPair:
    """The network's fine path and the Gaussian's, from the same starts."""
    study = study_of(material)
    return material.once("path pair", lambda: beside(study.fine.thinned(THINNED), study.gaussian))


def emergence_numbers(material: Material) -> Numbers:
    """Size of each eigen-mode, and where it reaches 0.707 of its final one."""
    study, pair = study_of(material), pair_of(material)
    modes = min(MODES, study.gaussian.rank)
    tables = {
        "emergence": emergence(pair, modes=modes), "mode_amplitudes": mode_amplitudes(pair, modes=min(CURVES, modes)),
    }  # fmt: skip
    return Numbers(tables, facts={**path_facts(study, FINE_STEPS), "modes": modes})


def draw_emergence(numbers: Numbers, **how: Any) -> Figure:
    """Growth and place of the modes."""
    return figures.emergence(numbers.tables["mode_amplitudes"], numbers.tables["emergence"], **how)


def path_numbers(material: Material) -> Numbers:
    """Errors of the closed form's states and predictions, and what the data alone predict."""
    study = study_of(material)
    tables = {"path_errors": path_errors(pair_of(material)), "skip_candidates": study.advice.table}
    return Numbers(tables, facts=path_facts(study, FINE_STEPS))


def draw_path(numbers: Numbers, **how: Any) -> Figure:
    """Errors along the path."""
    return figures.path_errors(numbers.tables["path_errors"], numbers.tables["skip_candidates"], **how)


def teleport_numbers(material: Material) -> Numbers:
    """End samples of every skip, solver and number of steps."""
    study = study_of(material)
    table = skip_table(
        study.denoiser, study.gaussian, seeds=study.seeds, skips=(study.span[1], *study.within(SKIPS)),
        solvers={"Heun": Heun(), "DPM-Solver++ 2M": DPMSolverPP2M()}, steps=STEPS, real=study.data.held_out,
        classify=mode_of(study.modes), sigma_min=study.span[0], reference=study.fine.end, progress=study.progress,
    )  # fmt: skip
    solvers = "Heun and DPM-Solver++ 2M, {} and {} steps".format(*STEPS)
    return Numbers({"skips": table}, facts={**path_facts(study, FINE_STEPS), "solver": solvers, "fine": FINE_STEPS})


def draw_teleport(numbers: Numbers, **how: Any) -> Figure:
    """Errors against the skip."""
    return figures.skips(numbers.tables["skips"], **how)


def ends_of(study: Study) -> dict[str, Tensor]:
    """End samples of every law from the noise of the network's, finely integrated where there is no closed form."""
    start = study.span[1] * seed_noise(study.seeds, study.gaussian.shape, torch.float64)
    grid = study.grid(FINE_STEPS)
    ends = {"network": study.fine.end, study.gaussian.name: study.gaussian.flow(start, grid[0], 0.0)}
    laws = (study.modes, TrainingSet(study.train))
    return {**ends, **{law.name: run_path(law, start, grid).end for law in laws}}


def pair_numbers(material: Material) -> Numbers:
    """Samples of the same seeds, and how far each law's are from the network's."""
    study = study_of(material)
    ends = ends_of(study)
    others = {name: end for name, end in ends.items() if name != "network"}
    table = end_agreement(others, ends["network"], study.gaussian.mean, mode_of(study.modes))
    far = ", ".join(f"{row.what} {row.median:.2g}" for row in table.itertuples())
    pictures = {name: end[:SHOWN].float() for name, end in ends.items()}
    facts = {**path_facts(study, FINE_STEPS), "far": far, "range": list(study.model.value_range or (-1.0, 1.0))}
    return Numbers({"ends": table}, pictures, {**facts, "first": study.seeds[0], "mixture": study.modes.name})


def draw_pairs(numbers: Numbers, **how: Any) -> Figure:
    """A row a law, a column a seed."""
    low, high = numbers.facts["range"]
    return figures.same_seeds(numbers.pictures, first=numbers.facts["first"], value_range=(low, high), **how)


def gain_numbers(material: Material) -> Numbers:
    """Error of every schedule on modes of every variance."""
    grids = [(solver, edm_sigmas(steps)[:-1]) for solver, steps in SCHEDULES]
    table = pd.concat([solver_gains(solver, grid, torch.from_numpy(VARIANCES)) for solver, grid in grids])
    return Numbers({"gains": table.reset_index(drop=True)}, facts={"top": grids[0][1][0], "end": grids[0][1][-1]})


def draw_gains(numbers: Numbers, **how: Any) -> Figure:
    """Error against the variance."""
    return figures.gains(numbers.tables["gains"], **how)


ENTRIES = (
    Entry(
        "gaussian-emergence", "growth of each eigen-mode of the prediction against σ, and where it appears",
        ("model", "data"), emergence_numbers, draw_emergence,
        "Root mean square of the network's denoised prediction along eigen-modes of the data's covariance, over its "
        "final one, against the noise level, without bands (dotted: √(λ / (λ + σ²)), the Gaussian's); and the σ at "
        "which each of the first {modes} modes reaches 0.707 of its final size, against √λ, with 95 % bootstrap "
        "intervals over seeds ({model}, unconditional branch, sampled from σ = {top:g}; Gaussian of {fitted} training "
        "images of {data}).",
        "of a network that is the Gaussian every mode appears at σ = √λ",
        cites=CITE, calls=FINE, refuses=unfit,
    ),
    Entry(
        "gaussian-path", "error of the Gaussian's closed-form path against σ, of the state and of the prediction",
        ("model", "data"), path_numbers, draw_path,
        "Squared distance of the network's states and denoised predictions to the Gaussian's from the same starting "
        "noise, over its squared distance from the mean (ratio of sums), against the noise level ({model}, "
        "unconditional branch, from σ = {top:g}; Gaussian of {fitted} training images of {data}). Dotted: the state's "
        "error that the data alone predict. {bands}.",
        "of a network that is the Gaussian only the solver's error is left, which falls with the fourth power of the "
        "number of steps, being squared",
        cites=CITE, calls=FINE, refuses=unfit,
    ),
    Entry(
        "gaussian-pairs", "samples of the same seeds: the network's, and those of laws with a closed form",
        ("model", "data", "pictures"), pair_numbers, draw_pairs,
        "Samples from the same starting noise at σ = {top:g}: of the network ({model}, unconditional branch), of the "
        "Gaussian in closed form, of a mixture of Gaussians ({mixture}), and of the training set's own denoiser, "
        "fitted to {fitted} images of {data}. Median squared distance to the network's sample, over that one's from "
        "the mean, over {n} seeds: {far}.",
        "the training set's own denoiser ends at training images",
        cites=CITE, calls=FINE, refuses=unfit,
    ),
    Entry(
        "teleport", "error of end samples against the σ down to which a closed form carries the noise",
        ("model", "data"), teleport_numbers, draw_teleport,
        "Squared error of end samples against the σ at which the network takes over from the Gaussian's closed form, "
        "relative to the squared distance from the mean, median over seeds ({model}, unconditional branch; reference: "
        "{fine} Heun steps from the same noise; Gaussian of {fitted} training images of {data}). The largest σ is no "
        "skip. Medians are drawn without bands; their ratio to no skip has 95 % bootstrap intervals in the table.",
        "a network that is the Gaussian may be skipped to any σ: no skip adds to the error",
        cites=CITE, calls={**FINE, **TELEPORTS}, refuses=unfit,
        differs="the paper's quality is the Frechet distance of Inception features; errors here are of paired samples",
    ),
    Entry(
        "solver-gains", "error that a solver's schedule makes of a Gaussian mode against its variance",
        (), gain_numbers, draw_gains,
        "By how much each schedule inflates the standard deviation of a Gaussian mode against its variance, from "
        "σ = {top:g} to {end:g} (ρ = 7); exact, without a network or samples.",
        "Euler's gain is the product of its linear factors, and Heun's error falls with the square of the steps",
        cites=("pierret2025diffusion",),
        differs="the paper reports distances of the end distributions, not errors mode by mode",
    ),
)  # fmt: skip
