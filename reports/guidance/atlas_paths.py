"""Atlas: figures of whole paths under guidance, and of what branches say along them."""

from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from scorescope.analysis.information.optimal_weights import optimal_weights
from scorescope.probes.bank import Arm, Bank, compare_arms, log_snr_grid
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.guidance import figures

LEVELS = log_snr_grid(-7.0, 7.0, 15)  # from sigma 33 to 0.03
DRAWS = 2
ONE_STEP = {"three arms at noisy held-out images": 3 * len(LEVELS) * DRAWS}


def labels_of(material: Material) -> Tensor | None:
    """Classes of held-out images, where they are what the model is conditioned on."""
    if material.data is None or material.model is None:
        return None
    asked = material.model.conditions(1)
    return material.data.held_out_labels if isinstance(asked, Tensor) and asked.ndim == 1 else None


def no_rival(material: Material) -> str:
    """There is something to guide away from: a weak model, or no condition where the condition is known."""
    if material.weak is not None or labels_of(material) is not None:
        return ""
    return "it needs a weaker model to guide with (--weak), or held-out images whose classes are the model's conditions"


def one_step_numbers(material: Material) -> Numbers:
    """Weights of least one-step error on held-out images, away from each model or branch that there is."""
    assert material.data is not None  # `needs` has seen to it
    images, labels, model = material.data.held_out[: material.count], labels_of(material), material.studied
    labels = None if labels is None else labels[: len(images)]
    arms = [Arm(model.name, model.denoiser, labels)]
    if material.weak is not None:
        arms.append(Arm(f"weak: {material.weak.name}", material.weak.denoiser, labels))
    if labels is not None:
        arms.append(Arm("without condition", model.denoiser))
    pairs = [(arm.name, model.name) for arm in arms[1:]]
    bank = Bank(images.to(material.device), LEVELS, draws=DRAWS, seed=material.seed)
    table = optimal_weights(compare_arms(bank, arms, pairs=pairs))
    facts = {"images": len(images), "draws": DRAWS, "of": material.data.name, "how": "No sampling: one call a point."}
    why = "" if table["weight"].notna().any() else f"at no noise level is there a weight: {table['missing'].iloc[0]}"
    return Numbers({"weights": table}, facts=facts, why=why)


def draw_one_step(numbers: Numbers, **how: Any) -> Figure:
    """Weights above, alignment of errors below."""
    return figures.one_step_weights(numbers.tables["weights"], **how)


ENTRIES = (
    Entry(
        "optimal-weight-vs-sigma", "guidance weight of least one-step error against σ, away from a weak model or from "
        "the unconditional branch", ("model", "data"), one_step_numbers, draw_one_step,
        "Above, the weight $w$ for which $D_0 + w (D_1 - D_0)$ is nearest to the clean image in the mean square, "
        "against the noise level, $D_1$ of {model} and $D_0$ as named; dotted, no guidance, which is best for an "
        "exact $D_1$. Below, the cosine of the error of $D_1$ and $D_0 - D_1$. Denoised space, {images} held-out "
        "images of {of} with {draws} draws of noise a level; bands are 95 % bootstrap intervals over images. It is a "
        "weight of least squares in one step, not that of the best Frechet distance.",
        "an exact strong model has w = 1 at all σ; errors e and k e have 1 + 1/(k − 1)",
        calls=ONE_STEP, refuses=no_rival,
    ),
)  # fmt: skip
