"""Values under the pointer: where they are, and what they say."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from scorescope.reports.page import theme
from scorescope.reports.page.hover import MOST, spots
from scorescope.reports.page.rendered import picture_files
from scorescope.reports.page.strips import strips


def found(figure):
    return spots(figure, picture_files(figure, "test")[2])


def test_points_of_curves_by_name_and_axis():
    figure = Figure(figsize=(4, 2), layout="constrained")
    ax = figure.subplots()
    ax.errorbar([1, 10], [2, 3], yerr=1, label=theme.literal("$w$ = 4"))
    ax.plot([1, 10, 1000], [2, np.nan, 3])
    ax.scatter([5], [2.5], label="dominated")
    ax.axhline(2.2)
    ax.set(xlabel="noise level σ (units of data; to the left)", ylabel="norm", xlim=(0.5, 20), ylim=(1, 4))
    told = [spot.text for spot in found(figure)]
    assert told == [
        "$w$ = 4: noise level σ 1, norm 2",
        "$w$ = 4: noise level σ 10, norm 3",
        "noise level σ 1, norm 2",  # neither the missing point nor the one outside of the axes
        "dominated: noise level σ 5, norm 2.5",
    ]


def test_a_point_is_where_the_picture_has_it():
    figure = Figure(figsize=(4, 4))
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, 1), ylim=(0, 1))
    ax.set_axis_off()
    ax.plot([0.25], [0.75], "o")
    ax.plot([0, 1], [0, 1], alpha=0, label="_corners")  # the saved part is the whole figure and its margin
    spot = found(figure)[0]
    margin = 0.1 / 4.2 * 100
    assert spot.left + spot.width / 2 == pytest.approx(margin + 25 * 4 / 4.2, abs=0.5)
    assert spot.top + spot.height / 2 == pytest.approx(margin + 25 * 4 / 4.2, abs=0.5)


def test_cells_of_maps_by_the_names_of_their_row_and_column():
    figure = Figure(figsize=(4, 3), layout="constrained")
    left, right = figure.subplots(ncols=2, sharey=True)
    for ax in (left, right):
        ax.imshow([[0.5, np.nan], [1.0, 2.0]], aspect="auto")
        ax.set_xticks([0, 1], ["size", "hue"])
    left.set_yticks([0, 1], ["first", "last"])
    cells = found(figure)
    assert [cell.text for cell in cells[:4]] == [
        "first, size: 0.5",
        "first, hue: missing",
        "last, size: 1",
        "last, hue: 2",
    ]
    assert [cell.text for cell in cells[4:]] == [cell.text for cell in cells[:4]]
    assert cells[0].left + cells[0].width == pytest.approx(cells[1].left)
    assert cells[0].top + cells[0].height == pytest.approx(cells[2].top) and cells[4].left > cells[1].left


def test_pictures_and_crowds_say_nothing():
    assert found(strips({"row": np.zeros((3, 4, 4, 1))}, ["1", "2", "3"])) == []
    figure = Figure()
    figure.subplots().plot(np.arange(MOST + 1))
    assert found(figure) == []


def test_a_strip_is_its_pictures_side_by_side_with_a_mark_above_each():
    figure = strips({"first": np.zeros((3, 4, 5, 3)), "second": np.ones((3, 4, 5, 3))}, ["a", "$b", "c"])
    top, bottom = figure.axes
    shown = top.images[0].get_array()
    assert shown.shape == (4, 18, 3) and (shown[:, 5::6] == 1).all() and (shown[:, :5] == 0).all()
    assert [label.get_text() for label in top.get_xticklabels()] == ["a", r"\$b", "c"]
    np.testing.assert_allclose(top.get_xticks(), [2, 8, 14])
    assert bottom.get_ylabel() == "second" and not bottom.get_xticks().size
