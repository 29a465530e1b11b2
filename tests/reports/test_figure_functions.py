"""Every figure function: no text over another in a column, panels abreast on a page, in the user's axes."""

import inspect
import itertools
import re
from colorsys import rgb_to_hls

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from tests.artists import faults
from tests.figure_tables import CASES as OTHERS
from tests.reports.directions import test_figures as tables
from tests.reports.page.test_theme import EYES, seen

from scorescope.data import InputError
from scorescope.reports import (
    attention,
    changes,
    directions,
    fid,
    gaussian,
    guidance,
    inside,
    studies,
    theme,
    trajectories,
)

WINGS = {"attention": attention, "changes": changes, "directions": directions, "fid": fid, "gaussian": gaussian,
         "guidance": guidance, "inside": inside, "studies": studies, "trajectories": trajectories}  # fmt: skip
AT_ONE_SITE = tables.probes().query(f"site == {tables.SITES[1]!r}")
IMAGES = tables.pictures(8)
CASES = OTHERS | {
    "directions.probe_maps": ((tables.probes(),), {}),
    "directions.mixing_step": ((tables.probes().query("attribute == 'size'"), tables.norms(), tables.windows()), {}),
    "directions.balance_curves": ((tables.balance(),), {}),
    "directions.read_and_steer": ((tables.steer_map(),), {}),
    "directions.dose_response": ((tables.curve(),), {}),
    "directions.windows_figure": ((tables.windows(), AT_ONE_SITE), {}),
    "directions.emergence_curves": ((tables.emergence(),), {}),
    "directions.landmark_ranges": ((tables.landmarks(),), {}),
    "directions.readers_and_movers": ((tables.readers(),), {}),
    "directions.cosine_matrix": ((tables.cosines(),), {}),
    "directions.token_matrix": ((tables.tokens(),), {}),
    "directions.gap_curves": ((tables.gaps(),), {}),
    "directions.recovery_map": ((tables.recovery(),), {}),
    "directions.attribute_losses": ((tables.losses(),), {"metric": "attribute score"}),
    "directions.win_rate_curves": ((tables.rates(),), {}),
    "directions.accuracy_by_calls": ((tables.accuracies(),), {"chance": 0.1}),
    "directions.overlap_parts": ((tables.overlaps(),), {}),
    "directions.information_curves": ((tables.integrand(), {"size": 0.6931, "hue": 2.3026}), {}),
    "directions.influence_maps": ((IMAGES, {"size": IMAGES[:, 0].abs(), "background": IMAGES[:, 1].abs()}), {}),
    "directions.picture_rows": (({"seed 1000": IMAGES}, ["all along", *"123456", "never"]), {"xlabel": "strength"}),
}
STYLED = {
    f"{wing}.{name}": made
    for wing, module in WINGS.items() for name, made in vars(module.figures).items()
    if "style" in getattr(made, "__signature__", inspect.Signature()).parameters
}  # fmt: skip
ONE_PANEL = [name for name in CASES if "ax" in inspect.signature(STYLED[name]).parameters]
PANELS = sorted({*CASES} - {*ONE_PANEL})


def draw(name, **more):
    places, names = CASES[name]
    return STYLED[name](*places, **{**names, **more})


def test_every_figure_function_is_public_and_tried():
    assert set(STYLED) == set(CASES)
    for wing in ("attention", "guidance", "fid", "directions", "trajectories", "inside"):
        assert {f"{wing}.{name}" for name in WINGS[wing].figures.__all__} == {n for n in STYLED if n.startswith(wing)}
    assert all("Parameters\n" in made.__doc__ for made in STYLED.values())


@pytest.mark.parametrize("name", CASES)
def test_no_text_meets_another_in_a_column(name):
    figure = draw(name, style="paper-single")
    assert faults(figure) == []
    assert figure.get_size_inches()[0] == pytest.approx(3.3)
    assert all(ax.has_data() for ax in figure.axes if ax.axison)


def keys(ax):
    """Colour, and dash and marker, of what has a name in an axes."""
    for handle in ax.get_legend_handles_labels()[0]:
        artist = handle.lines[0] if hasattr(handle, "lines") else handle
        if isinstance(artist, Line2D):
            yield to_hex(artist.get_color()), (str(artist._dash_pattern), artist.get_marker(), artist.get_fillstyle())
        elif hasattr(artist, "patches"):
            yield to_hex(artist.patches[0].get_facecolor()), "bar"


@pytest.mark.parametrize("name", CASES)
def test_what_meets_in_an_axes_is_told_apart_by_any_eye(name):
    """By dash or marker, by a distance of 0.15 in sRGB, or as shades of one colour, which have an order, by 0.05."""
    for ax in draw(name).axes:
        for (one, how), (other, also) in itertools.combinations(keys(ax), 2):
            if how == also:
                apart = min(np.linalg.norm(seen(one, eye) - seen(other, eye)) for eye in EYES)
                hues = [rgb_to_hls(*to_rgb(color))[0] for color in (one, other)]
                assert apart > (0.05 if abs(hues[0] - hues[1]) < 0.04 else 0.15), (one, other)


@pytest.mark.parametrize("name", PANELS)
def test_panels_stand_abreast_where_there_is_room(name):
    figure = draw(name, style="paper-double")
    assert faults(figure) == []
    assert figure.get_size_inches()[0] == pytest.approx(6.9)


@pytest.mark.parametrize("name", ["guidance.cost_and_quality", "guidance.sample_grid", "fid.audit"])
def test_other_styles_have_room_too(name):
    for style in ("notebook", "slides", theme.Style(5.5, text=9)):
        assert faults(draw(name, style=style)) == []


@pytest.mark.parametrize("name", ONE_PANEL)
def test_one_panel_is_drawn_where_the_user_wants_it(name):
    figure = Figure()
    mine, other = figure.subplots(ncols=2)
    assert draw(name, ax=mine) is figure
    assert mine.has_data() and not other.has_data() and figure.axes[:2] == [mine, other] and not figure.legends


def test_nothing_global_is_left():
    before = dict(mpl.rcParams)
    sizes = {style: draw("guidance.band_norms", style=style).axes[0].xaxis.label.get_size() for style in theme.STYLES}
    assert sizes == {style: 16 if style == "slides" else 8 for style in theme.STYLES}
    with pytest.raises(InputError):
        draw("guidance.update_parts", rule="nope")
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(("name", "wrong", "message"), [
    ("guidance.update_parts", {"rule": "nope"}, r"^rule, weight: found 'nope' at 4, .* one of its runs: 'CFG' at 1"),
    ("guidance.branch_cosine", {"weight": 3.0}, r"^rule, weight: found 'CFG' at 3"),
    ("guidance.applied_gain", {"weights": (5.0,)}, r"^rule, weight: found 'CFG' at 5"),
    ("guidance.gain_path", {"runs": [("CFG", 3.0)]}, r"^rule, weight: found 'CFG' at 3"),
    ("guidance.value_densities", {"weights": (3.0,)}, r"^rule, weight: found 'CFG' at 3"),
    ("guidance.cost_and_quality", {"metric": "fid"}, r"^metric: found 'fid'.* one of 'calls', 'frechet'"),
    ("gaussian.law_fractions", {"gaussian": "normal"}, r"^gaussian: found 'normal'.*one of 'isotropic'"),
    ("gaussian.queries", {"names": ["nope"]}, r"^names: found 'nope'"),
    ("gaussian.memorisation", {"style": "a0"}, r"^style: found 'a0' \(str\); expected a Style, or one of notebook, "),
])  # fmt: skip
def test_what_is_not_there_is_no_empty_figure(name, wrong, message):
    with pytest.raises(InputError, match=message):
        draw(name, **wrong)


def test_a_strangers_table_is_refused_by_name():
    with pytest.raises(InputError, match=r"^bands: found a table in which 'sigma' is missing, with band, low"):
        guidance.figures.band_norms(CASES["guidance.band_norms"][0][0].drop(columns="sigma"))
    with pytest.raises(InputError, match=r"^summary: found 'text'"):
        guidance.figures.update_parts("text", rule="CFG", weight=4.0)
    with pytest.raises(InputError, match=r"^tables: found nothing in it"):
        guidance.figures.separation({}, tolerance=0.1)


def test_axes_hold_what_sentences_say():
    row = {"attribute": "size", "sigma": [10.0, 0.1], "cumulative": [0, 13.0]}
    table = pd.concat([pd.DataFrame(row | {"estimator": name}) for name in ("log_ratio", "influence")])
    assert all(ax.get_ylim()[1] > 13 for ax in directions.figures.information_curves(table, {"size": 0.69}).axes)
    heights = CASES["guidance.value_densities"][0][0]["density"]
    ax = draw("guidance.value_densities").axes[0]
    assert ax.get_ylim()[1] > heights.max() and ax.get_ylim()[0] < 0.01 * heights.max() and ax.get_yscale() == "log"


def test_an_axis_is_logarithmic_from_three_decades_on():
    (path,), _ = CASES["guidance.gain_path"]
    assert [ax.get_yscale() for ax in draw("guidance.gain_path").axes] == ["log", "log"]
    small = guidance.figures.gain_path(path.assign(mean=1.5, low=-1.0, high=2.0), runs=[("CFG", 2.0)])
    assert [ax.get_yscale() for ax in small.axes] == ["linear", "linear"]


def test_a_number_in_a_legend_is_written_out():
    names = [text.get_text() for text in draw("guidance.clip").legends[0].get_texts()]
    assert names[1:] == ["r = 0.34", "r = 1.4", "r = 490"]


@pytest.mark.parametrize(("low", "high", "labels"), [
    (0.52, 2.1, ["1", "1.5", "2"]),
    (0.9, 60, ["1", "2", "5", "10", "20", "50"]),
    (0.002, 80, ["0.01", "0.1", "1", "10"]),
    (1e-6, 2, ["10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "10⁰"]),
])  # fmt: skip
def test_ticks_can_be_read(low, high, labels):
    assert labels_of(5, low, high) == labels


@pytest.mark.parametrize(("low", "high", "labels"), [(4.5, 38, ["5", "10", "20"]), (1.1, 95, ["3", "10", "30"])])
def test_a_narrow_axis_has_more_than_one_label(low, high, labels):
    assert labels_of(1.7, low, high) == labels


def test_an_axis_that_is_turned_round_has_the_same_ticks():
    assert labels_of(5, 80, 0.002) == ["0.01", "0.1", "1", "10"]


def labels_of(width, low, high):
    """What stands at a logarithmic axis of a figure that wide."""
    figure = Figure(figsize=(width, 2))
    ax = figure.subplots()
    ax.set(xscale=theme.LOG, xlim=(low, high))
    figure.draw_without_rendering()
    ticks = zip(ax.get_xticklabels(), ax.get_xticks(), strict=True)
    return [text.get_text() for text, at in ticks if min(low, high) <= at <= max(low, high)]


def test_a_floor_ends_its_axis():
    (table,), run = CASES["guidance.update_parts"]
    lowest = table.query("quantity == 'parallel_norm'")["low"].min()

    def drawn(floor):
        means = table["mean"].where(table["quantity"] != "norm_floor", floor)
        figure = guidance.figures.update_parts(table.assign(mean=means), **run)
        return figure.axes[0].get_ylim()[0], [text.get_text() for text in figure.legends[0].get_texts()][-1]

    assert drawn(1e-2 * lowest) == (pytest.approx(1e-2 * lowest), "rounding floor")
    ends, label = drawn(1e-30)  # which would leave a tenth of the axis to what was measured
    assert 1e-4 * lowest < ends < lowest and label == "rounding floor: at most 10⁻³⁰"


def test_verdicts_differ_in_an_svg(tmp_path):
    """A hatch over a face of its own colour, as which a half transparent one is written, cannot be seen."""
    text = theme.save(draw("directions.windows_figure"), tmp_path / "windows.svg").read_text()
    patterns = re.findall(r"<pattern .*?</pattern>", text, flags=re.DOTALL)
    colors = [set(re.findall(r"#[0-9a-f]{6}", pattern)) for pattern in patterns]
    assert len(patterns) >= 2 and all(len(pair) >= 2 for pair in colors), patterns
