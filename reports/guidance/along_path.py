"""Figures that one steps through: what both branches predict at each noise level of a path, and their difference.

along_path(trace, value_range=(-1, 1), name="CFG at w = 4")        # a ReportFigure with a frame a noise level
update_slider(trace, value_range=(-1, 1))                          # a Slider, under the update's parts
"""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from scorescope.analysis.guidance.decomposition import decompose, summarise
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.experiments.replay import visits
from scorescope.probes.recording.trace import Trace, Visit
from scorescope.reports.guidance.figures import update_parts
from scorescope.reports.page import theme
from scorescope.reports.page.numbers import between
from scorescope.reports.page.pages import ReportFigure
from scorescope.reports.page.sliders import Slider
from scorescope.reports.page.strips import strips, strips_below

COLUMNS = 10  # samples
FRAMES = 9  # noise levels that one steps through on a page
STOPS = 30  # in a notebook, where they are drawn when one comes there
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
    steps = _steps(trace)
    rows = {_level(visit): _pictures(visit.guided, value_range) for visit in _spread(steps, OVERVIEW)}
    chosen = _spread(steps, FRAMES)
    norms = [_norms(visit) for visit in chosen]
    frames = {_level(visit): strips(_branches(visit, value_range), _marks(visit)) for visit in chosen}
    ends = [f"{between(min(norms[at]), max(norms[at]))} at {_level(chosen[at])}" for at in (0, -1)]
    reading = f"The norm of the update of these {len(norms[0])} samples is {' and '.join(ends)}."
    return ReportFigure("along_path", strips(rows), reading, HOW.format(name=name), wide=True, frames=frames)


@checked
def update_slider(trace: Trace, *, value_range: tuple[float, float]) -> Slider:
    """The update's parts at all noise levels, and both branches and their difference at the one that one chooses.

    Parameters
    ----------
    trace : Trace
        One run of images with one or three channels, whose states and branches were kept.
    value_range : (float, float)
        Black and white.

    Raises
    ------
    InputError
        Where states or both branches were not kept.
    """
    steps = _steps(trace)
    if not steps:
        raise InputError("trace", found="no step with both branches kept", expected="a run recorded with all_branches")
    chosen, table = _spread(steps, STOPS), decompose(trace)
    rule, weight = str(table["rule"].iloc[0]), float(table["weight"].iloc[0])
    parts = summarise(table)

    @theme.styled
    def draw(place: int) -> Figure:
        visit = chosen[place]
        figure, ax = strips_below(2.4, _branches(visit, value_range), _marks(visit))
        update_parts(parts, rule=rule, weight=weight, ax=ax)
        ax.axvline(visit.sigma, color=theme.REFERENCE)
        return figure

    return Slider(draw, [f"{visit.sigma:.3g}" for visit in chosen], start=len(chosen) // 2, name="σ")


def _steps(trace: Trace) -> list[Visit]:
    """First calls of the first samples, where both branches are known."""
    return [visit for visit in visits(trace) if visit.call == 0 and visit.first == 0 and visit.uncond is not None]


def _norms(visit: Visit) -> list[float]:
    norms: list[float] = _update(visit).flatten(1).norm(dim=1).tolist()
    return norms


def _marks(visit: Visit) -> list[str]:
    return [f"{norm:.2g}" for norm in _norms(visit)]


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
