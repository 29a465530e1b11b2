"""How a sampling path bends: its distance from the straight line between its ends, and where its prediction changes.

table = path_geometry(run_path(denoiser, 80.0 * noise, edm_sigmas(60)))
"""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.sampling.paths import Path

PATH_GEOMETRY = Schema(
    "path_geometry",
    (
        Column(
            "quantity", str, "", "state, flow_state, denoised: distance of x, x / (1 + sigma), D from the line between "
            "the ends of its path, over the length of that line; denoised_change: root mean square over elements of "
            "dD / d ln sigma along the path, in data",
        ),
        Column("sigma", float, "data", "noise level"),
        Column("n", int, "", "samples"),
        Column("mean", float, "", "mean over samples"),
        Column("median", float, "", "median over samples"),
        *ends("", "of the mean over samples, corrected for skewness"),
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
        From `run_path`, of at least three levels: finely, for the change of the prediction is a difference of levels.

    Returns
    -------
    DataFrame
        `PATH_GEOMETRY`: one row a (quantity, sigma).

    Raises
    ------
    InputError
        For fewer than three levels.
    """
    if len(path.sigmas) < 3:
        raise InputError("path", found=f"{len(path.sigmas)} noise levels", expected="at least 3")
    sigma = np.asarray(path.sigmas, dtype=np.float64)
    states, denoised = (values.double().flatten(2) for values in (path.states, path.denoised))
    scale = torch.as_tensor(1 + sigma).to(states)[:, None, None]
    curves = {"state": states, "flow_state": states / scale, "denoised": denoised}
    values = {name: _from_chord(curve) for name, curve in curves.items()}
    change = np.gradient(denoised.cpu().numpy(), np.log(sigma), axis=0, edge_order=2)
    values["denoised_change"] = np.sqrt((change**2).mean(2))
    levels, count = values["state"].shape
    rows = {"sigma": np.repeat(sigma, count), "sample": np.tile(np.arange(count), levels)}
    table = pd.DataFrame({**rows, **{name: value.reshape(-1) for name, value in values.items()}})
    return PATH_GEOMETRY.check(summarise_by(table, by=["sigma"], quantities=list(values))[PATH_GEOMETRY.names])


def _from_chord(curve: Tensor) -> Floats:
    """Distance of each point from the line through the first and the last, over the length of that, (level, sample)."""
    chord = curve[-1] - curve[0]
    length = chord.norm(dim=1)
    offset = curve - curve[0]
    along = (offset * chord).sum(2) / length.square()
    found: Floats = ((offset - along[..., None] * chord).norm(dim=2) / length).cpu().numpy()
    return found
