"""A figure that one steps through: what both branches predict at each noise level of a path, and their difference.

along_path(trace, value_range=(-1, 1), name="CFG at w = 4")        # a ReportFigure with a frame a noise level
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from scorescope.probes.experiments.replay import visits
from scorescope.probes.recording.trace import Trace, Visit
from scorescope.reports.page.numbers import between
from scorescope.reports.page.pages import ReportFigure
from scorescope.reports.page.strips import strips

COLUMNS = 10  # samples
FRAMES = 9  # noise levels that one steps through
OVERVIEW = 5  # of them all, in the picture that stands where scripts are off
HOW = (
    "Along {name}: the guided prediction at falling noise levels, a column a sample. By the slider both branches and "
    "their difference, grey where it is nothing, each scaled to its own largest element; above each its L2 norm."
)


def along_path(trace: Trace, *, value_range: tuple[float, float], name: str) -> ReportFigure:
    """Both branches, the update and its norm image by image, at noise levels along a path whose branches were kept.

    Parameters
    ----------
    trace : Trace
        Of images with one or three channels.
    value_range : (float, float)
        Black and white.
    name : str
        What made the path, for the caption.
    """
    steps = [visit for visit in visits(trace) if visit.call == 0 and visit.first == 0 and visit.uncond is not None]
    rows = {_level(visit): _pictures(visit.guided, value_range) for visit in _spread(steps, OVERVIEW)}
    chosen = _spread(steps, FRAMES)
    norms = [_update(visit).flatten(1).norm(dim=1).tolist() for visit in chosen]
    frames = {
        _level(visit): strips(_branches(visit, value_range), [f"{norm:.2g}" for norm in of])
        for visit, of in zip(chosen, norms, strict=True)
    }
    ends = [f"{between(min(norms[at]), max(norms[at]))} at {_level(chosen[at])}" for at in (0, -1)]
    reading = f"The norm of the update of these {len(norms[0])} samples is {' and '.join(ends)}."
    return ReportFigure("along_path", strips(rows), reading, HOW.format(name=name), wide=True, frames=frames)


def _level(visit: Visit) -> str:
    return f"σ = {visit.sigma:.3g}"


def _spread(steps: list[Visit], most: int) -> list[Visit]:
    """The first, the last and others between, evenly."""
    places = np.unique(np.linspace(0, len(steps) - 1, most).round().astype(int))
    return [steps[place] for place in places]


def _update(visit: Visit) -> Tensor:
    assert visit.uncond is not None  # of those that have one
    return (visit.cond - visit.uncond)[:COLUMNS].double().cpu()


def _branches(visit: Visit, value_range: tuple[float, float]) -> dict[str, NDArray[Any]]:
    update = _update(visit)
    assert visit.uncond is not None
    reach = update.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-300)
    return {
        "cond": _pictures(visit.cond, value_range),
        "uncond": _pictures(visit.uncond, value_range),
        "update": _pictures(update / reach, (-1.0, 1.0)),
    }


def _pictures(images: Tensor, value_range: tuple[float, float]) -> NDArray[Any]:
    low, high = value_range
    shown = ((images[:COLUMNS].double().cpu() - low) / (high - low)).clamp(0, 1)
    pictures: NDArray[Any] = shown.movedim(1, -1).numpy()
    return pictures
