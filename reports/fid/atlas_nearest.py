"""Atlas: whether samples lie nearer to the training images than other real images do."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from scorescope.analysis.guidance.quality import nearest_distances, nearest_images
from scorescope.analysis.statistics.intervals import share_interval
from scorescope.probes.guidance import CFG
from scorescope.probes.models.model import Model
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.entries.material import RealImages, is_picture
from scorescope.reports.fid import figures

SHOWN = 8  # samples below the histograms, those that are nearest
SAMPLES, HELD_OUT = "samples", "held out"


def nearest_numbers(material: Material) -> Numbers:
    """Distances of samples and of held-out images to the nearest training image, and the nearest pairs."""
    model, data = material.studied, material.data
    assert data is not None  # it is among the needs
    (setting,) = material.sweep({"CFG": CFG(1.0)})
    samples = setting.run.samples.to(data.train)
    sets = {SAMPLES: samples, HELD_OUT: data.held_out.to(data.train)}
    each, summary = nearest_images(sets, data.train), nearest_distances(sets, data.train, reference=HELD_OUT)
    limit = float(summary.set_index("what")["quantile05"][HELD_OUT])
    nearer = (each.loc[each["what"] == SAMPLES, "distance"] < limit).to_numpy()
    low, high = share_interval(nearer)
    facts = {
        "limit": limit, "nearer": float(nearer.mean()), "low": low, "high": high, "data": data.name,
        "train": len(data.train), "held_out": len(data.held_out),
    }  # fmt: skip
    pictures = _pairs(each, samples, data, model) if is_picture(model) else {}
    return Numbers({"distances": each, "summary": summary}, pictures=pictures, facts=facts)


def _pairs(each: pd.DataFrame, samples: Tensor, data: RealImages, model: Model) -> dict[str, Tensor]:
    """The nearest samples and their training images, in [0, 1]."""
    rows = each[each["what"] == SAMPLES].nsmallest(SHOWN, "distance")
    low, high = model.value_range or (0.0, 1.0)
    found = {"sample": samples[rows["image"].tolist()], "nearest": data.train[rows["nearest"].tolist()]}
    return {name: ((images - low) / (high - low)).clamp(0, 1) for name, images in found.items()}


def draw_nearest(numbers: Numbers, **how: Any) -> Figure:
    """Histograms above the pairs."""
    rows = {name: np.moveaxis(images.numpy(), 1, -1) for name, images in numbers.pictures.items()}
    return figures.nearest_training_images(numbers.tables["distances"], numbers.facts["limit"], rows, **how)


ENTRIES = (
    Entry(
        "nearest-training-image", "distances of samples and of held-out images to the nearest training image",
        ("model", "data"), nearest_numbers, draw_nearest,
        "Distance of unguided samples ({model}) and of {held_out} held-out images to the nearest of {train} training "
        "images ({data}), L2 over all values in units of data, as shares of each set; dotted: the 5 % quantile of the "
        "held-out images, {limit:.3g}. Nearer than that are {nearer:.1%} of the samples (95 % interval {low:.1%} to "
        "{high:.1%}, the quantile being given). Below: the nearest samples and their training images.",
        "samples that are training images have distance 0; of the exact law as many are near as of held-out images",
        calls={"CFG at w = 1, range alone": 35},
    ),
)  # fmt: skip
