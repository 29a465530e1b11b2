"""How a sampling path bends: its distance from the straight line between its ends, and where its prediction changes.

table = path_geometry(run_path(denoiser, 80.0 * noise, edm_sigmas(60)))
table = path_geometry(recorded_path(trace))
"""

from typing import Any

import numpy as np
import pandas as pd

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.analysis.trajectories.path_products import PathProducts, known_levels
from scorescope.data.doors import checked
from scorescope.probes.sampling import Path

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
def path_geometry(path: Path) -> pd.DataFrame:
    """Bends of a path at every noise level that it visits.

    In variance-exploding states the noise that is left over hides all else: of any law they look straight. So the
    states of a flow, and the prediction itself, are measured beside them.

    Parameters
    ----------
    path : Path
        From `run_path` or `recorded_path`, of at least three levels: finely, for changes, accelerations and curvature
        are differences of levels.

    Returns
    -------
    DataFrame
        `PATH_GEOMETRY`: one row a (quantity, sigma). Neighbours of a level that is missing are taken for neighbours
        of each other.

    Raises
    ------
    InputError
        For fewer than three levels.

    Notes
    -----
    With x' = (x - D) / sigma along the path, x'' = -D' / sigma; the curvature is that of the path as a line in space,
    |x'' - (x'' . u) u| / |x'|^2 with u along x', whatever the speed.
    """
    whole, kept = known_levels(path, least=3)
    parts = [_bends(products) for products in PathProducts.blocks(whole)]
    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    levels, count = path.states.shape[:2]
    values = {name: np.full((levels, count), np.nan) for name in found}
    for name, each in found.items():
        values[name][kept] = each.T
    rows: dict[str, Any] = {"sigma": np.repeat(path.sigmas, count), "sample": np.tile(np.arange(count), levels)}
    table = pd.DataFrame(rows | {name: value.reshape(-1) for name, value in values.items()})
    summary = summarise_by(table, by=["sigma"], quantities=list(values))
    missing = dict(zip(path.sigmas, path.missing or [""] * levels, strict=True))
    why = summary["sigma"].map(missing).where(summary["n"] == 0, "")
    ends_of_path = (summary["n"] == 0) & (why == "")
    why = why.mask(ends_of_path, "no step to one side of it")
    return PATH_GEOMETRY.check(summary.assign(missing=why)[PATH_GEOMETRY.names])


@np.errstate(invalid="ignore", divide="ignore")  # a path that stands still has no direction: NaN
def _bends(products: PathProducts) -> dict[str, Floats]:
    """Quantities by name, (samples, levels)."""
    log_sigma, root = np.log(products.sigmas), np.sqrt(products.elements)
    found = {name: _from_chord(products, curve) for name, curve in products.curves.items()}
    change = products.derivative(products.denoised, log_sigma)
    found["denoised_change"] = products.norms(change) / root
    found["denoised_acceleration"] = products.norms(products.derivative(change, log_sigma)) / root
    bend = -change / products.sigmas[:, None] ** 2  # x'' = -(dD / dsigma) / sigma
    along, speed = products.dots(bend, products.slopes), products.dots(products.slopes, products.slopes)
    across = np.maximum(products.dots(bend, bend) - along**2 / speed, 0)
    found["curvature"] = np.sqrt(across) / speed
    for name, curve in products.curves.items():
        steps = np.diff(curve, axis=0)
        length = products.norms(steps)
        cosine = products.dots(steps[1:], steps[:-1]) / (length[:, 1:] * length[:, :-1])
        found[f"{name}_turn"] = np.pad(
            np.degrees(np.arccos(np.clip(cosine, -1, 1))), ((0, 0), (1, 1)), constant_values=np.nan
        )
    return found


def _from_chord(products: PathProducts, curve: Floats) -> Floats:
    """Distance of each point from the line through the first and the last, over the length of that."""
    chord, offset = np.broadcast_to(curve[-1] - curve[0], curve.shape), curve - curve[0]
    length = products.dots(chord, chord)
    across = products.dots(offset, offset) - products.dots(offset, chord) ** 2 / length
    return np.sqrt(np.maximum(across, 0) / length)
