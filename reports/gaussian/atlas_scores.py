"""Atlas: figures of laws with a closed form against a network, at images with noise, and over its training."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from scorescope.analysis.gaussian.far_field import FarField
from scorescope.analysis.gaussian.gaps import ScoreGaps, score_gaps
from scorescope.analysis.gaussian.scores import regimes, score_table
from scorescope.analysis.gaussian.training import nearest_step, training_dynamics
from scorescope.probes.approximations import Approximation, TrainingSet
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.gaussian import figures
from scorescope.reports.gaussian.atlas_material import images_facts, study_of, unfit
from scorescope.reports.gaussian.sections_scores import DYNAMICS_SIGMAS
from scorescope.reports.gaussian.study import SIGMAS

HELD_OUT = {"held-out images at every noise level": len(SIGMAS)}
PATH_LEVELS = 40  # of the path that the query "path" follows, beside the levels asked about
ELSEWHERE = {"training images, noise and states of a path": 3 * len(SIGMAS) + 2 * (PATH_LEVELS + len(SIGMAS))}
CITE = ("wang2024unreasonable",)


def gaps_of(material: Material, query: str = "held_out") -> ScoreGaps:
    """Every law against the network at held-out images, the Gaussian alone elsewhere; each is asked once."""
    return material.once(("score gaps", query), lambda: _gaps(material, query))


def _gaps(material: Material, query: str) -> ScoreGaps:
    study = study_of(material)
    points = study.data.train[: len(study.held_out)] if query == "train" else study.held_out
    laws = study.laws if query == "held_out" else [study.gaussian]
    return score_gaps(
        study.denoiser, laws, points, study.within(SIGMAS), query=query, seed=study.seed, progress=study.progress
    )


def law_numbers(material: Material) -> Numbers:
    """Every law's fraction, where no law beats the Gaussian, and what the data say of high noise."""
    study, gaps = study_of(material), gaps_of(material)
    facts = {**images_facts(study), "gaussian": study.gaussian.name, "far": dict(vars(study.far))}
    return Numbers({"scores": score_table(gaps), "regimes": regimes(gaps)}, facts=facts)


def draw_laws(numbers: Numbers, **how: Any) -> Figure:
    """Fractions of every law."""
    tables, facts = numbers.tables, numbers.facts
    far = FarField(**facts["far"])
    return figures.law_fractions(tables["scores"], tables["regimes"], constant=far, gaussian=facts["gaussian"], **how)


def convention_numbers(material: Material) -> Numbers:
    """The same law by every metric, and at every kind of points."""
    study = study_of(material)
    every = [score_table(gaps_of(material, query)) for query in ("held_out", "train", "noise", "path")]
    table = pd.concat(every, ignore_index=True)
    own = table[table["approximation"] == study.gaussian.name].reset_index(drop=True)
    return Numbers({"scores": own}, facts={**images_facts(study), "gaussian": study.gaussian.name})


def draw_conventions(numbers: Numbers, **how: Any) -> Figure:
    """Metrics, averages and queries."""
    return figures.conventions(numbers.tables["scores"], gaussian=numbers.facts["gaussian"], **how)


def training_numbers(material: Material) -> Numbers:
    """Every checkpoint against three laws."""
    study = study_of(material)
    laws: list[Approximation] = [study.gaussian, study.modes, TrainingSet(study.train)]
    snapshots = {int(name): model.denoiser for name, model in material.checkpoints.items()}
    sigmas = study.within(DYNAMICS_SIGMAS)
    table = training_dynamics(snapshots, laws, study.held_out, sigmas, progress=study.progress)
    facts = {
        **images_facts(study), "laws": [law.name for law in laws], "sigmas": list(sigmas),
        "model": f"{len(snapshots)} checkpoints, steps {min(snapshots)} to {max(snapshots)}",
    }  # fmt: skip
    return Numbers({"dynamics": table, "nearest_step": nearest_step(table)}, facts=facts)


def draw_training(numbers: Numbers, **how: Any) -> Figure:
    """Fractions against the training step."""
    facts = numbers.facts
    return figures.dynamics(numbers.tables["dynamics"], names=facts["laws"], sigmas=facts["sigmas"], **how)


def no_steps(material: Material) -> str:
    """Checkpoints stand on a logarithmic axis of training steps, by their names."""
    wrong = [name for name in material.checkpoints if not (name.isdecimal() and int(name) > 0)]
    if wrong:
        return f"checkpoints are named by their training step, a whole number above 0, and one is {wrong[0]!r}"
    steps = [int(name) for name in material.checkpoints]
    if twice := [name for name in material.checkpoints if steps.count(int(name)) > 1]:
        return f"checkpoints are named by their training step, and {' and '.join(map(repr, twice))} are of one"
    return unfit(material)


ENTRIES = (
    Entry(
        "gaussian-unexplained", "what laws with a closed form leave unexplained of the network, against σ",
        ("model", "data"), law_numbers, draw_laws,
        "Squared distance of the network's denoised prediction to that of each law, over its squared distance to the "
        "mean of the data (ratio of sums), against the noise level ({model}, unconditional branch; {n} held-out "
        "images of {data} + σ n; laws fitted to {fitted} training images). Dotted: the Gaussian against the data at "
        "high noise, by their third and fourth cumulants; grey: 97.5 % quantile of what a perfect network would show, "
        "as the laws' moments come from a sample. {bands}.",
        "of a network that is the Gaussian nothing is unexplained; at high noise the training set's own denoiser is "
        "as far from the Gaussian as the cumulants say",
        cites=CITE, calls=HELD_OUT, refuses=unfit,
    ),
    Entry(
        "gaussian-conventions", "one disagreement of network and Gaussian by three metrics and at four kinds of points",
        ("model", "data"), convention_numbers, draw_conventions,
        "The fraction of the network that the Gaussian leaves unexplained, against the noise level ({model}, "
        "unconditional branch, {data}, {n} images or seeds). First panel: at held-out images + σ n, the squared "
        "distance over that to the mean (centred), over the prediction's square (denoised), or over the squared score; "
        "dotted, without band: mean of ratios in place of the ratio of sums. Second panel: the centred fraction at "
        "held-out and training images + σ n, at σ n alone, and on the sampler's path. {bands}.",
        "of the training set's own denoiser the fraction falls at high noise as σ⁻² (centred), σ⁻⁴ (denoised) and "
        "σ⁻⁶ (score)",
        calls={**HELD_OUT, **ELSEWHERE}, refuses=unfit,
    ),
    Entry(
        "linear-first", "what three laws leave unexplained of the network, against the training step",
        ("checkpoints", "data"), training_numbers, draw_training,
        "Squared distance of the network's denoised prediction to that of each law, over its squared distance to the "
        "mean of the data, against the training step, a line a noise level ({model}; unconditional branch; {n} "
        "held-out images of {data} + σ n; laws fitted to {fitted} training images). {bands}.",
        "checkpoints that are one network give a constant line",
        cites=CITE, calls_each={"held-out images of checkpoints": len(DYNAMICS_SIGMAS)}, refuses=no_steps,
    ),
)  # fmt: skip
