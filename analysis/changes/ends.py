"""What changed in what two runs ended with: their images and their cost, whatever their noise levels on the way.

    table = end_changes(first, second, images=(before, after), value_range=(-1, 1))
    image_distances(pair_samples(first, second), before, after)

Runs of another scheduler, or of another number of steps, have no steps in common; what they made can be compared.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from torch import Tensor

from scorescope.analysis.changes.pairing import pair_samples, partners
from scorescope.analysis.changes.runs import mean_of_known, rounding
from scorescope.analysis.statistics.simultaneous import COLUMNS, paired_means, unpaired_means
from scorescope.analysis.statistics.tables import Column, Schema, require_columns
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.decomposition.products import IMAGE_STATISTICS, image_statistics
from scorescope.probes.recording.trace import Trace

Images = Mapping[int, Tensor]

END_CHANGES = Schema(
    "end_changes",
    (
        Column("quantity", str, "", "calls: denoiser evaluations that the rule needed; others as in image_statistics"),
        Column("of", str, "", "what it is of: the image, the last prediction where no images were kept, or the run"),
        Column("first", float, "of the quantity", "mean in the first run"),
        *COLUMNS,
        Column("shown", bool, "", "the interval leaves 0 out, by more than rounding"),
    ),
)

IMAGE_DISTANCES = Schema(
    "image_distances",
    (
        Column("seed", int, "", "seed of both"),
        Column("first", int, "", "sample of the first run"),
        Column("second", int, "", "sample of the second run"),
        Column("rms", float, "data", "root mean square difference of the two images"),
    ),
)


@checked
def end_changes(
    first: Trace,
    second: Trace,
    *,
    images: tuple[Images, Images] | None = None,
    value_range: tuple[float, float] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Differences of the second run from the first, in what they ended with.

    Parameters
    ----------
    first, second : Trace
        Two runs, of any noise levels. Samples pair as in `run_changes`.
    images : (mapping, mapping) of int to Tensor, optional
        What each run made, (channel, y, x) or any other shape, by sample; without, the last prediction stands for it.
    value_range : (float, float), optional
        Range of the images, for their overshoot and saturation.
    draws, seed
        Of the drawings that the intervals rest on.

    Returns
    -------
    DataFrame
        Columns declared in `END_CHANGES`.

    Raises
    ------
    InputError
        For runs that have nothing in common that is known.
    """
    of = "image" if images is not None and all(images) else "last prediction"
    if of == "image":
        assert images is not None
        ends = [_of_images(one, value_range) for one in images]
    else:
        ends = [_of_last_step(trace) for trace in (first, second)]
    tables = [end.join(_calls(trace), how="outer") for end, trace in zip(ends, (first, second), strict=True)]
    both = [name for name in map(str, tables[0]) if all(table[name].notna().any() for table in tables)]
    if not both:
        raise InputError("first, second", found="nothing that is known of both", expected="runs with steps")
    pairs = partners(pair_samples(first, second))
    if len(pairs):
        values = [table[both].reindex(pairs[name]) for table, name in zip(tables, ("first", "second"), strict=True)]
        one, other = (table.to_numpy(np.float64) for table in values)
        found = paired_means(other - one, draws=draws, seed=seed)
        one = np.where(np.isfinite(other), one, np.nan)
    else:
        one, other = (table[both].to_numpy(np.float64) for table in tables)
        found = unpaired_means(other, one, draws=draws, seed=seed)
    beyond = found["value"].abs() > rounding(first, second) * mean_of_known(np.abs(one))
    table = found.assign(
        quantity=both, of=["run" if name == "calls" else of for name in both], first=mean_of_known(one),
        shown=((found["low"] > 0) | (found["high"] < 0)) & beyond,
    )  # fmt: skip
    return END_CHANGES.check(table)


def _of_images(images: Images, value_range: tuple[float, float] | None) -> pd.DataFrame:
    """Statistics of each image, by sample."""
    rows = {sample: image_statistics(image[None], value_range) for sample, image in images.items()}
    return pd.DataFrame({sample: {name: float(v) for name, v in row.items()} for sample, row in rows.items()}).T


def _of_last_step(trace: Trace) -> pd.DataFrame:
    """Statistics of the guided prediction at the last step of a run's first scheduler, by sample."""
    scalars = trace.scalars
    if "stream" in scalars:
        scalars = scalars[scalars["stream"] == 0]
    last: pd.DataFrame = scalars.sort_values(["step", "call"]).groupby("sample").tail(1).set_index("sample")
    return last[[name for name in IMAGE_STATISTICS if name in last]]


def _calls(trace: Trace) -> "pd.Series[float]":
    calls: pd.Series[float] = trace.scalars.groupby("sample")["needed"].sum().astype(float).rename("calls")
    return calls


@checked
def image_distances(pairing: pd.DataFrame, first: Images, second: Images) -> pd.DataFrame:
    """How far apart the images of each pair are.

    Parameters
    ----------
    pairing : DataFrame
        From `run_changes`.
    first, second : mapping of int to Tensor
        What each run made, by sample.

    Returns
    -------
    DataFrame
        Columns declared in `IMAGE_DISTANCES`, the largest distance first; pairs whose images are not there, are of
        different shapes or not finite are not in it.
    """
    require_columns("pairing", pairing, ["seed", "first", "second"])
    rows = []
    for seed, place, partner in partners(pairing)[["seed", "first", "second"]].itertuples(index=False):
        one, other = first.get(int(place)), second.get(int(partner))
        if one is None or other is None or one.shape != other.shape:
            continue
        rms = float((one.double() - other.double()).square().mean().sqrt())
        if np.isfinite(rms):
            rows.append((int(seed), int(place), int(partner), rms))
    rows.sort(key=lambda row: -row[-1])
    kinds = {"seed": "int64", "first": "int64", "second": "int64", "rms": "float64"}
    return IMAGE_DISTANCES.check(pd.DataFrame(rows, columns=IMAGE_DISTANCES.names).astype(kinds))
