"""A colour means one thing: rules, parts of an update and spaces of predictions are told apart, by any eye."""

import itertools

import numpy as np
import pandas as pd
import pytest
import seaborn
from matplotlib.colors import to_rgb

from scorescope.reports.guidance import figures
from scorescope.reports.page import theme

SIGMAS = [10.0, 1.0, 0.1]
# complete colour blindness on linear RGB: Machado, Oliveira and Fernandes 2009, severity 1
EYES = {
    "all cones": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}  # fmt: skip


@pytest.mark.parametrize("name", ["cfg", "CFG", "CFG, w = 4", "negated cfg"])
def test_recorded_and_sampled_cfg_look_the_same(name):
    assert theme.looks([name])[name] == theme.RULES["cfg"]


def test_the_palette_is_the_one_that_it_is_named_after():
    assert list(seaborn.color_palette("colorblind").as_hex()) == theme.PALETTE


def test_rules_are_known_by_their_first_words():
    names = ["Interval[CFG]", "interval APG, w = 8", "AdaptiveGuidance[CFG]", "no guidance"]
    keys = ["interval", "interval", "adaptive", "no guidance"]
    assert list(theme.looks(names).values()) == [theme.RULES[key] for key in keys]
    others = list(theme.looks(["unknown", "multi-branch", "run a"]).values())
    assert len(set(others)) == 3 and not set(others) & set(theme.RULES.values())


def test_no_colour_means_two_things():
    tables = [theme.RULES.values(), theme.OTHER_RULES, theme.PARTS.values(), theme.SPACES.values()]
    tables.append(theme.BRANCHES.values())
    colors = [look.color.lower() for look in itertools.chain(*tables)] + [theme.HIGHLIGHT, theme.REAL, theme.REFERENCE]
    assert len(set(colors)) == len(colors)
    assert len({look.color for look in theme.SERIES}) == len(theme.SERIES)


def seen(color, eye):
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    found = np.clip(np.array(EYES[eye]) @ linear, 0, 1)
    return np.where(found <= 0.0031308, 12.92 * found, 1.055 * found ** (1 / 2.4) - 0.055)


FIGURES = {
    "parts": ["update", "orthogonal", "parallel"],
    "shares": ["cfg", "apg", "mean removed"],
    "spaces": ["denoised", "eps"],
    "paths": ["apg", "interval", "no guidance"],
    "recorded": ["cfg", "apg", "unknown"],
    "branches": ["cond", "uncond", "guided", "weak", "perturbed"],
}


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("figure", FIGURES)
def test_what_is_in_one_figure_is_told_apart(figure, eye):
    known = theme.RULES | theme.PARTS | theme.SPACES | theme.BRANCHES | theme.looks(["unknown"])
    for one, other in itertools.combinations(FIGURES[figure], 2):
        distance = np.linalg.norm(seen(known[one].color, eye) - seen(known[other].color, eye))
        assert distance > 0.15 or known[one].linestyle != known[other].linestyle, (one, other, distance)


def path(rule):
    rows = [(rule, 7.5, quantity, s, 1.5, 1.4, 1.6) for quantity in ("step_gain", "path_gain") for s in SIGMAS]
    return pd.DataFrame(rows, columns=["rule", "weight", "quantity", "sigma", "mean", "low", "high"])


def test_figures_draw_rules_in_their_colours():
    colors = []
    for rule in ("cfg", "CFG"):
        figure = figures.gain_path(path(rule), runs=[(rule, 7.5)])
        (line,) = (line for line in figure.axes[0].get_lines() if line.get_label() == f"{rule} w = 7.5")
        colors.append(line.get_color())
    assert colors == [theme.shades(theme.RULES["cfg"].color, 1)[0]] * 2
    table = path("x").query("quantity == 'step_gain'").assign(separated=[False, True, True])
    ax = figures.separation({"cfg": table, "unguided": table}, tolerance=0.01).axes[0]
    drawn = {line.get_label(): line.get_color() for line in ax.get_lines()}
    assert drawn["cfg"] == theme.RULES["cfg"].color
    assert drawn["unguided"] not in [look.color for look in (*theme.RULES.values(), *theme.PARTS.values())]


def test_bands_and_bars_take_the_interval_of_their_column():
    rows = pd.DataFrame({"sigma": [2.0, 1.0], "a": 1.0, "low": 0.5, "high": 1.5, "b": 3.0, "b_low": 2.0, "b_high": 5.0})
    np.testing.assert_array_equal(theme.errors(rows, "a"), [[0.5, 0.5], [0.5, 0.5]])
    np.testing.assert_array_equal(theme.errors(rows, "b"), [[1.0, 1.0], [2.0, 2.0]])
    assert np.isnan(theme.errors(rows.assign(low=np.nan), "a")[0]).all()  # not drawn, rather than as of no length
    figure, ax = theme.new_figure()
    theme.with_band(ax, rows, y="b", color="black", label="b")
    theme.with_band(ax, rows.head(0), y="b", color="black", label="nothing")
    (line,), (band,) = ax.get_lines(), ax.collections
    np.testing.assert_array_equal(line.get_xydata(), [[1, 3], [2, 3]])
    assert band.get_paths()[0].get_extents().bounds == (1, 2, 1, 3) and figure.axes == [ax]
