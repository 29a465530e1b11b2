"""Atlas: figures of sampling paths: what is seen along them, and how they bend."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from scorescope.analysis.gaussian.paths import seed_noise
from scorescope.analysis.trajectories import gaussian_path, path_geometry
from scorescope.probes.approximations import fit_gaussian
from scorescope.probes.models.conditions import to_device
from scorescope.probes.sampling.paths import Path, run_path
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.trajectories import figures

STEPS, COUNT = 60, 32
SHOWN, ROWS = (80.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.1), 4
LARGEST = 2048  # elements of a sample up to which a Gaussian with all its modes is fitted
UNGUIDED = {f"paths of {STEPS} steps": 2 * STEPS}


def fine_path(material: Material) -> Path:
    """Unguided paths of the first seeds, in steps so fine that their bends are the denoiser's."""
    return material.once("fine path", lambda: _fine_path(material))


def _fine_path(material: Material) -> Path:
    model, seeds = material.studied, list(material.seeds)[:COUNT]
    start = material.span[1] * seed_noise(seeds, model.shape, torch.float32).to(material.device)
    condition = to_device(model.conditions(len(seeds)), torch.device(material.device))
    return run_path(model.denoiser, start, material.grid(STEPS), condition=condition)


def shape_numbers(material: Material) -> Numbers:
    """Bends of the model's paths, and of those of a Gaussian with the moments of the data."""
    path, data = fine_path(material), material.data
    parts, beside = [path_geometry(path).assign(path="model")], "nothing beside it: there are no data"
    if data is not None and data.train[0].numel() <= LARGEST:
        law = fit_gaussian(data.train.double().cpu())
        parts.append(path_geometry(gaussian_path(law, path)).assign(path="Gaussian"))
        beside = "dotted: a Gaussian with the mean and covariance of the data, in closed form"
    elif data is not None:
        beside = f"no Gaussian beside it: a sample has more than {LARGEST} elements"
    return Numbers({"geometry": pd.concat(parts, ignore_index=True)}, facts=_facts(path) | {"beside": beside})


def draw_shape(numbers: Numbers, **how: Any) -> Figure:
    """Distances from the chord, and the change of the prediction."""
    return figures.path_geometry(numbers.tables["geometry"], **how)


def strip_numbers(material: Material) -> Numbers:
    """Predictions along the paths of a few seeds, with the change of the prediction over all."""
    path = fine_path(material)
    nearest = (int(np.abs(np.log(np.asarray(path.sigmas) / sigma)).argmin()) for sigma in SHOWN)
    places = list(dict.fromkeys(nearest))  # each once, where a model knows fewer levels
    count = min(ROWS, path.end.shape[0])
    shown = [torch.stack([*(path.denoised[place, row] for place in places), path.end[row]]) for row in range(count)]
    table = path_geometry(path)
    columns = [*(f"{path.sigmas[place]:.2g}" for place in places), "end"]
    rows = [f"seed {seed}" for seed in list(material.seeds)[:count]]
    return Numbers(
        {"change": table[table["quantity"] == "denoised_change"].reset_index(drop=True)},
        {"strips": torch.cat(shown)},
        facts=_facts(path) | {"columns": columns, "rows": rows, "range": list(material.studied.value_range or (-1, 1))},
    )  # fmt: skip


def draw_strips(numbers: Numbers, **how: Any) -> Figure:
    """A row a seed, a column a noise level."""
    facts = numbers.facts
    low, high = facts["range"]
    return figures.picture_strips(
        numbers.pictures["strips"], columns=facts["columns"], rows=facts["rows"], value_range=(low, high),
        xlabel="noise level σ  sampling →", **how,
    )  # fmt: skip


def _facts(path: Path) -> dict[str, Any]:
    drawn = f"The first {path.end.shape[0]} of the seeds {{seeds}}, Heun, {STEPS} steps, without guidance."
    return {"how": drawn}


ENTRIES = (
    Entry(
        "denoised-strip", "predictions along sampling, a row a seed, a column a noise level",
        ("model", "pictures"), strip_numbers, draw_strips,
        "Denoised predictions $D(x; \\sigma)$ along unguided sampling, from the highest noise level to the sample "
        "({model}); a row a seed. Its table has how fast the prediction changes at every level.",
        "at the highest noise level it is the mean of the class, or of all data where there is no condition",
        cites=("karras2022elucidating",), place="Figure 1b", calls=UNGUIDED,
    ),
    Entry(
        "trajectory-shape", "distance of sampling paths from a straight line, and change of the prediction, against σ",
        ("model",), shape_numbers, draw_shape,
        "Distance of the state, of the state of a flow, and of the denoised prediction from the straight line between "
        "the ends of their paths, over its length, and the change of the prediction, against the noise level ({model}; "
        "95 % intervals of the mean over samples; {beside}).",
        "of a Gaussian all of them have closed forms",
        calls=UNGUIDED,
    ),
)  # fmt: skip
