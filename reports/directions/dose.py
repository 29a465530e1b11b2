"""A figure that one steps through in a notebook: samples at each strength of a direction, and how all scores move.

made = sample_arms(denoiser, arms, seeds=range(8), ...)
dose_slider({dose: samples for dose, samples in zip(doses, made.values())}, curve.curve)
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from scorescope.data.doors import checked, require_some
from scorescope.reports.directions.figures import own_arm
from scorescope.reports.page import theme
from scorescope.reports.page.sliders import Slider
from scorescope.reports.page.strips import strips_below

COLUMNS = 10  # samples


@checked
def dose_slider(samples: Mapping[float, Tensor], curve: pd.DataFrame) -> Slider:
    """The change of all scores along a direction, and samples at the strength that one chooses.

    Parameters
    ----------
    samples : mapping of float to Tensor, shape (n, channel, y, x)
        Images in [-1, 1] of the same seeds, with one or three channels, by strength in standard deviations.
    curve : DataFrame
        Declared in `STEER_CURVE`, of one interval of noise levels.
    """
    require_some("samples", samples)
    require_some("curve", curve)
    doses = sorted(samples)

    @theme.styled
    def draw(place: int) -> Figure:
        figure, ax = strips_below(2.4, {"samples": _pictures(samples[doses[place]])})
        own_arm(ax, curve)
        ax.axvline(doses[place], color=theme.REFERENCE)
        ax.set(xlabel="strength (standard deviations of the projection)", ylabel="change of score\n(natural SD)")
        theme.legend(ax)
        return figure

    return Slider(draw, [f"{dose:+g}" for dose in doses], start=len(doses) - 1, name="strength")


def _pictures(images: Tensor) -> NDArray[Any]:
    shown: NDArray[Any] = ((images[:COLUMNS].double().cpu() + 1) / 2).clamp(0, 1).movedim(1, -1).numpy()
    return shown
