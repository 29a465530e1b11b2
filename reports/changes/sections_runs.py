"""The section on two runs: their steps where they stand beside each other, what they ended with, and their images."""

import numpy as np
import pandas as pd
from torch import Tensor

from scorescope.analysis.changes import RunChanges, end_changes, image_distances, run_changes, shown_ranges
from scorescope.analysis.changes.pairing import pair_samples
from scorescope.data.errors import InputError
from scorescope.reports.changes import figures, readings
from scorescope.reports.changes.findings import difference
from scorescope.reports.changes.recorded import Recorded
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

PANELS = 6  # quantities that are drawn
PAIRS = 6  # images that are drawn
HOW = "Bands hold together over all rows of the table (95 %); marks: shown to differ."


def compare_section(first: Recorded, second: Recorded, suffix: str = "") -> Section:
    """Everything on two runs; names of figures and tables end in `suffix`."""
    pairing = pair_samples(first.trace, second.trace)
    said = [readings.read_pairing(pairing), readings.read_arguments(first.trace, second.trace)]
    steps = Section()
    try:
        steps = _steps(run_changes(first.trace, second.trace), suffix)
    except InputError as error:  # of another schedule, or unguided: what was made can be compared all the same
        said.append(f"Their steps are not compared: {error.found}.")
    ends = end_changes(
        first.trace, second.trace, images=(first.images, second.images), value_range=first.value_range
    )  # fmt: skip
    said += [steps.text, readings.read_ends(ends), readings.read_skewed(ends)]
    distances = image_distances(pairing, first.images, second.images)
    return Section(
        text=" ".join(sentence for sentence in said if sentence),
        figures=[*steps.figures, *_pictures(first, second, distances, suffix)],
        tables=[
            *steps.tables,
            ReportTable(f"ends{suffix}", ends, "What the runs ended with; intervals hold together over these rows."),
            ReportTable(f"pairing{suffix}", pairing, "Samples of both runs; -1: in the other.", shown=False),
            ReportTable(f"image_distances{suffix}", distances, "One row a pair of images.", shown=False),
        ],
        findings=[*steps.findings, *difference(readings.read_ends(ends), ends)],
    )  # fmt: skip


def _steps(found: RunChanges, suffix: str) -> Section:
    table, ranges = found.table, shown_ranges(found.table)
    drawn = list(dict.fromkeys(table["quantity"]))[:PANELS]
    reading = readings.read_runs(table, ranges)
    caption = f"{HOW} Along a path a difference is carried on to the steps that follow. {readings.read_skewed(table)}"
    figure = ReportFigure(
        f"differences{suffix}", figures.run_differences(table, drawn), reading, caption.strip(), wide=True,
    )  # fmt: skip
    tables = [
        ReportTable(f"ranges{suffix}", ranges, "Noise levels at which a quantity is shown to differ."),
        ReportTable(f"differences{suffix}", table, "One row a (quantity, step), largest first."),
    ]
    text = f"Not compared step by step: {found.left_out}, which the other has not." if found.left_out else ""
    said = difference(reading, table, f"differences{suffix}")
    return Section(text=text, figures=[figure], tables=tables, findings=said)


def _pictures(first: Recorded, second: Recorded, distances: pd.DataFrame, suffix: str) -> list[ReportFigure]:
    """The pairs of images that differ most, where both runs kept some."""
    if distances.empty:
        return []
    images = first.images, second.images
    shapes = {tuple(images[0][int(place)].shape) for place in distances["first"]}
    if not all(len(shape) == 3 and shape[0] in (1, 3) for shape in shapes):
        return []  # latents, sounds: their distances are in the table
    reading = (
        f"Of {len(distances)} pairs of images the RMS difference is {distances['rms'].median():.2g} in the median, "
        f"{distances['rms'].iloc[0]:.2g} at most (units of the images)."
    )
    drawn = [
        (f"seed {seed}: {rms:.2g}", _picture(images[0][int(one)]), _picture(images[1][int(other)]))
        for seed, one, other, rms in distances.head(PAIRS)[["seed", "first", "second", "rms"]].itertuples(index=False)
    ]
    grid = figures.image_pairs(drawn, (first.name, second.name))
    return [ReportFigure(f"pairs{suffix}", grid, reading, "The pairs that differ most, with their RMS.", wide=True)]


def _picture(image: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """(y, x, channel) in [0, 1], of at most 256 pixels a side."""
    stride = max(1, -(-max(image.shape[1:]) // 256))
    return np.moveaxis((image[:, ::stride, ::stride] / 2 + 0.5).clamp(0, 1).double().cpu().numpy(), 0, -1)
