"""Do images show the attributes that were asked for?

attribute_agreement(scorer, {"samples": (samples, labels), "held out": (images, labels)})
"""

from collections.abc import Callable, Mapping

import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from scorescope.analysis.statistics.tables import Column, Schema
from scorescope.data.errors import InputError

ATTRIBUTE_AGREEMENT = Schema(
    "attribute_agreement",
    (
        Column("what", str, "", "which images"),
        Column("attribute", str, "", "its name; all: every attribute of an image at once"),
        Column("n", int, "", "images"),
        Column("agreement", float, "1", "share whose value by the scorer is the requested (real: true) one"),
        Column("low", float, "1", "lower end of the exact 95 % interval (Clopper & Pearson)"),
        Column("high", float, "1", "upper end"),
    ),
)


@torch.inference_mode()
def attribute_agreement(
    scorer: Callable[[Tensor], Mapping[str, Tensor]], sets: Mapping[str, tuple[Tensor, Tensor]], *, batch: int = 500
) -> pd.DataFrame:
    """How often a scorer of attributes names the values that were asked for.

    Parameters
    ----------
    scorer : callable
        Images to {attribute: (n, values)}, the largest of which is its answer. Attributes beyond the labels'
        columns (a nuisance) are left out.
    sets : mapping of str to (images, labels)
        By name: images (n, *shape) and requested values (n, attribute), in the scorer's order of attributes.

    Returns
    -------
    DataFrame
        Columns declared in `ATTRIBUTE_AGREEMENT`.

    Raises
    ------
    InputError
        If a set's images and labels differ in number.
    """
    rows = []
    for what, (images, labels) in sets.items():
        if len(images) != len(labels) or not len(images):
            raise InputError("sets", found=f"{len(images)} images, {len(labels)} labels", expected="as many, >= 1")
        parts = [scorer(part) for part in images.split(batch)]
        names = list(parts[0])[: labels.shape[1]]
        right = torch.stack([torch.cat([part[name] for part in parts]).argmax(1) for name in names], dim=1) == labels
        for name, found in [*zip(names, right.unbind(1), strict=True), ("all", right.all(1))]:
            count, total = int(found.sum()), len(images)
            interval = stats.binomtest(count, total).proportion_ci(method="exact")
            rows.append((what, name, total, count / total, interval.low, interval.high))
    return ATTRIBUTE_AGREEMENT.check(pd.DataFrame(rows, columns=ATTRIBUTE_AGREEMENT.names))
