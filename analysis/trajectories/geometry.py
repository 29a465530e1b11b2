"""How a sampling path bends: its distance from the straight line between its ends, and where its prediction changes.

table = path_geometry(run_path(denoiser, 80.0 * noise, edm_sigmas(60)))
table = path_geometry(Trace.open("runs/a"))          # some samples at a time
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.analysis.trajectories.path_blocks import blocks_of
from scorescope.analysis.trajectories.path_products import PathProducts, products_of
from scorescope.data.doors import checked
from scorescope.probes.recording import Trace
from scorescope.probes.sampling import Path

CLEAR = 10.0  # norm of a difference of points over its rounding: which adds up to 0.5 % to the norm,
SHARP = 100.0  # and to an angle between two such differences 0.8 degrees
ROUNDED, ONE_SIDE = "the change is too near to its rounding", "no step to one side of it"

PATH_GEOMETRY = Schema(
    "path_geometry",
    (
        Column(
            "quantity", str, "", "state, flow_state, denoised: distance of x, x / (1 + sigma), D from the line between "
            "the ends of its path, over the length of that line; denoised_change, denoised_acceleration: root mean "
            "square over elements of dD / d ln sigma and of its derivative along the path, in data; curvature: of the "
            "path of x, in 1 / data; state_turn, flow_state_turn, denoised_turn: angle between the steps before and "
            "after a level, in degrees",
        ),
        Column("sigma", float, "data", "noise level"),
        Column("n", int, "", "samples"),
        Column("mean", float, "", "mean over samples"),
        Column("median", float, "", "median over samples"),
        *ends("", "of the mean over samples, corrected for skewness"),
        Column("missing", str, "", "why there is no number; empty where there is"),
    ),
)  # fmt: skip


@checked
def path_geometry(path: Path | Trace, *, products: Sequence[PathProducts] | None = None) -> pd.DataFrame:
    """Bends of a path at every noise level that it visits.

    In variance-exploding states the noise that is left over hides all else: of any law they look straight. So the
    states of a flow, and the prediction itself, are measured beside them.

    Parameters
    ----------
    path : Path or Trace
        From `run_path` or `recorded_path`, or a trace that kept "branches" or "all", which is read some samples at a
        time; of at least three levels: finely, for changes, accelerations and curvature are differences of levels,
        one-sided at its ends.
    products : sequence of PathProducts, optional
        Those that `products_along` made of this path, where `path_shape` needs them too.

    Returns
    -------
    DataFrame
        `PATH_GEOMETRY`: one row a (quantity, sigma). Neighbours of a level that is missing are taken for neighbours
        of each other. Missing is what is made of differences of which rounding is more than
        a tenth, of angles a hundredth.

    Raises
    ------
    InputError
        For fewer than three levels, and products of another path.

    Notes
    -----
    With x' = (x - D) / sigma along the path, x'' = -D' / sigma; the curvature is that of the path as a line in space,
    |x'' - (x'' . u) u| / |x'|^2 with u along x', whatever the speed.
    """
    whole = blocks_of(path)
    known, kept = whole.known(least=3)
    parts = [_bends(part) for part in products_of(known, products)]
    levels, count = len(whole.sigmas), whole.count
    values, why = {}, []
    for name in parts[0]:
        each, clear = (np.concatenate([part[name][side] for part in parts]) for side in (0, 1))
        reasons = np.array(list(whole.missing or [""] * levels), dtype=object)
        with np.errstate(invalid="ignore"):
            rounded = ~np.isnan(each).all(0) & ~(np.median(clear, axis=0) >= CLEAR)
        reasons[kept] = np.where(rounded, ROUNDED, np.where(np.isnan(each).all(0), ONE_SIDE, ""))
        values[name] = np.full((levels, count), np.nan)
        values[name][kept] = np.where(rounded, np.nan, each).T
        why.append(reasons)
    rows: dict[str, Any] = {"sigma": np.repeat(whole.sigmas, count), "sample": np.tile(np.arange(count), levels)}
    table = pd.DataFrame(rows | {name: value.reshape(-1) for name, value in values.items()})
    summary = summarise_by(table, by=["sigma"], quantities=list(values))
    return PATH_GEOMETRY.check(summary.assign(missing=np.concatenate(why))[PATH_GEOMETRY.names])


@np.errstate(invalid="ignore", divide="ignore")  # a path that stands still has no direction: NaN
def _bends(products: PathProducts) -> dict[str, tuple[Floats, Floats]]:
    """Quantities by name, (samples, levels), and how far what they are made of is above its rounding."""
    log_sigma, root = np.log(products.sigmas), np.sqrt(products.elements)
    found = {}
    for name, curve in products.curves.items():
        values = _from_chord(products, curve)
        found[name] = values, np.full_like(values, np.inf)
    change = products.derivative(products.denoised, log_sigma)
    second = products.derivative(change, log_sigma)
    found["denoised_change"] = products.norms(change) / root, products.clearness(change)
    found["denoised_acceleration"] = products.norms(second) / root, products.clearness(second)
    bend = -change / products.sigmas[:, None] ** 2  # x'' = -(dD / dsigma) / sigma
    along, speed = products.dots(bend, products.slopes), products.dots(products.slopes, products.slopes)
    whole = products.dots(bend, bend)
    across = np.maximum(whole - along**2 / speed, 0)
    clear = np.minimum(products.clearness(bend), products.clearness(products.slopes))  # of either direction
    found["curvature"] = np.sqrt(across) / speed, clear * np.sqrt(across / whole)
    for name, curve in products.curves.items():
        steps = np.diff(curve, axis=0)
        length = products.norms(steps)
        cosine = products.dots(steps[1:], steps[:-1]) / (length[:, 1:] * length[:, :-1])
        clear = products.clearness(steps) * CLEAR / SHARP
        angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        found[f"{name}_turn"] = _inner(angle), _inner(np.minimum(clear[:, 1:], clear[:, :-1]))
    return found


def _inner(values: Floats) -> Floats:
    """With a missing value before and after."""
    return np.pad(values, ((0, 0), (1, 1)), constant_values=np.nan)


def _from_chord(products: PathProducts, curve: Floats) -> Floats:
    """Distance of each point from the line through the first and the last, over the length of that."""
    chord, offset = np.broadcast_to(curve[-1] - curve[0], curve.shape), curve - curve[0]
    length = products.dots(chord, chord)
    across = products.dots(offset, offset) - products.dots(offset, chord) ** 2 / length
    return np.sqrt(np.maximum(across, 0) / length)
