"""A figure that follows a slider in a notebook, and stands still where ipywidgets or a running kernel is missing.

Slider(lambda place: strips(rows[place]), ["80", "4.2", "0.1"], start=1, name="σ")        # as a cell's last line
"""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from matplotlib.figure import Figure

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.reports.page.rendered import render_figure
from scorescope.reports.page.texts import clean_texts


@checked
@dataclass(frozen=True, repr=False)
class Slider:
    """A figure a place of a slider, drawn when the slider comes there.

    In a notebook with ipywidgets it is a slider above a picture; without, and in a saved notebook, the picture at
    `start`.

    Attributes
    ----------
    draw : callable
        From the number of a place, 0 to `len(places) - 1`, to its figure.
    places : sequence of str
        What the slider says at each place.
    start : int
        The place where it stands first.
    name : str
        What stands before the slider.
    """

    draw: Callable[[int], Figure]
    places: Sequence[str]
    start: int = 0
    name: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.start < len(self.places):
            raise InputError(
                "start", found=f"{self.start} of {len(self.places)} places", expected="one of them, from 0"
            )

    def __repr__(self) -> str:
        return f"Slider({self.name}: {', '.join(self.places)})"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        drawn = cache(self._png)
        still = base64.b64encode(drawn(self.start)).decode()
        return {"text/plain": repr(self), "image/png": still, **self._widget(drawn)}

    def _png(self, place: int) -> bytes:
        figure = self.draw(place)
        clean_texts(figure)
        return render_figure(figure, "png", dpi=figure.dpi)

    def _widget(self, drawn: Callable[[int], bytes]) -> dict[str, Any]:
        """A view of a widget, or nothing where ipywidgets is not installed."""
        try:
            import ipywidgets
        except ImportError:
            return {}
        options = [(text, place) for place, text in enumerate(self.places)]
        slider = ipywidgets.SelectionSlider(options=options, value=self.start, description=self.name)
        picture = ipywidgets.Image(value=drawn(self.start), format="png", layout={"object_fit": "none"})
        slider.observe(lambda change: setattr(picture, "value", drawn(change["new"])), names="value")
        view: dict[str, Any] = ipywidgets.VBox([slider, picture])._repr_mimebundle_()
        return {kind: shown for kind, shown in view.items() if kind != "text/plain"}
