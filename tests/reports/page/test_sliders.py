"""A slider shows its picture everywhere, and follows where ipywidgets is installed."""

import base64
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from scorescope.reports.page import Slider
from scorescope.reports.page.rendered import render_figure

VIEW = "application/vnd.jupyter.widget-view+json"


def square(place):
    figure = Figure(figsize=(1, 1))
    figure.subplots().imshow(np.full((2, 2), place), vmin=0, vmax=2)
    return figure


@pytest.fixture
def slider():
    return Slider(square, ["80", "4.2", "0.1"], start=1, name="σ")


def test_the_picture_at_the_start_stands_where_no_widget_is(slider, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    shown = slider._repr_mimebundle_()
    assert set(shown) == {"text/plain", "image/png"} and shown["text/plain"] == "Slider(σ: 80, 4.2, 0.1)"
    assert base64.b64decode(shown["image/png"]) == render_figure(square(1), "png", dpi=100)


def test_beside_a_widget_there_is_the_picture_too(slider):
    pytest.importorskip("ipywidgets")
    shown = slider._repr_mimebundle_(include=None, exclude=None)
    assert set(shown) == {"text/plain", "image/png", VIEW}


def test_a_widget_draws_the_place_that_it_comes_to_once(monkeypatch):
    widgets = pytest.importorskip("ipywidgets")
    boxes, drawn, box = [], [], widgets.VBox
    monkeypatch.setattr(widgets, "VBox", lambda parts: boxes.append(parts) or box(parts))
    Slider(lambda place: drawn.append(place) or square(place), ["a", "b", "c"], start=1)._repr_mimebundle_()
    slider, picture = boxes[0]
    first = bytes(picture.value)
    assert slider.index == 1 and first == render_figure(square(1), "png", dpi=100)
    slider.index = 2
    assert bytes(picture.value) == render_figure(square(2), "png", dpi=100) != first
    slider.index = 1
    assert bytes(picture.value) == first and drawn == [1, 2]


def test_places_may_say_the_same():
    widgets = pytest.importorskip("ipywidgets")
    assert widgets and VIEW in Slider(square, ["0.1", "0.1"])._repr_mimebundle_()
