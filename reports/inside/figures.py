"""Figures of what is inside: declared tables in, matplotlib figures out. Nothing is computed here but histograms.

    from scorescope.reports.inside import figures

    figures.sparse_sheet(study.sheet)
    figures.density_histogram(study.density)
    figures.read_and_move(study.judged)
    figures.feature_page(pictures, top.maps, density, reads, moves)
    figures.unit_overlap(table, pictures, maps, sigma=1.0)
    figures.unit_effects(effects.verdicts, effects.arms)
    figures.units_maximised(found.ascent, torch.stack([found.control, found.images]))
    figures.group_shares_along(groups.along, "with")
    figures.amplification(groups.amplification, "with")
    figures.attribution_scatter(found.features, found.levels)

Each takes `style=`: see `theme`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray
from torch import Tensor

from scorescope.data.doors import require_some
from scorescope.data.errors import InputError
from scorescope.reports.inside.figures_groups import amplification, group_shares_along
from scorescope.reports.inside.figures_units import unit_effects, unit_overlap, units_maximised
from scorescope.reports.page import theme

__all__ = [
    "amplification", "attribution_scatter", "density_histogram", "feature_page", "group_shares_along", "read_and_move",
    "sparse_sheet", "unit_effects", "unit_overlap", "units_maximised",
]  # fmt: skip

SHOWN = {
    "fvu": "unexplained variance (FVU)", "dead": "share of features silent at this level",
    "share_of_zero": "loss: reconstruction / without the site",
}  # fmt: skip
NEVER = "never"


@theme.styled
def sparse_sheet(table: pd.DataFrame, quantities: Mapping[str, str] = SHOWN) -> Figure:
    """Quantities of the metric sheet against the noise level, a panel each, a line a site.

    Parameters
    ----------
    table : DataFrame
        `SPARSE_SHEET`, of one or more sites.
    quantities : mapping of str to str
        Which, and their axis labels; those of which no value is known have no panel.
    """
    require_some("quantities", quantities)
    known = table.groupby("quantity")["value"].count()
    shown = {name: label for name, label in quantities.items() if known.get(name, 1)}  # an unknown name is an error
    figure, axes = theme.panels(len(shown), height=1.7, least=2.4, more=0.9, sharey=False)
    for ax, (quantity, label) in zip(axes, shown.items(), strict=True):
        rows = theme.rows_where(table, "quantity", quantity, argument="quantities")
        for place, (site, part) in enumerate(rows.groupby("site", sort=False)):
            look, part = theme.series(place), part.sort_values("sigma")
            bars = theme.errors(part, "value")
            ax.errorbar(
                part["sigma"], part["value"], yerr=bars, marker=look.marker, **look.line, label=theme.literal(str(site))
            )
        ax.set(xscale=theme.LOG, ylabel=theme.folded(label, 26))
        if np.nanmin(rows[["value", "low"]]) >= 0:
            ax.set_ylim(0, None)
    figure.supxlabel(theme.SIGMA)
    theme.legend_above(figure, axes[0])
    return figure


@theme.styled
def density_histogram(table: pd.DataFrame) -> Figure:
    """How often features fire, a panel a site, a shade a noise level; those that never do stand apart.

    Parameters
    ----------
    table : DataFrame
        `SPARSE_DENSITY`, of one or more sites.
    """
    require_some("table", table)
    sites = list(table["site"].unique())
    figure, axes = theme.panels(len(sites), height=2.0, least=2.4, more=0.9)
    least = np.floor(np.log10(1 / table["rows"].max()))
    edges = np.arange(least, 0.01, 0.5)
    sigmas = np.sort(table["sigma"].unique())
    for ax, site in zip(axes, sites, strict=True):
        rows = table[table["site"] == site]
        for sigma, color in zip(sigmas, theme.shades(theme.PALETTE[0], len(sigmas)), strict=True):
            density = rows.loc[rows["sigma"] == sigma, "density"].to_numpy()
            counts = np.histogram(np.log10(density[density > 0]), np.append(edges, edges[-1] + 0.5))[0]
            shares = np.concatenate([[(density == 0).sum()], counts]) / len(density)
            ax.plot(np.arange(len(shares)), shares, color=color, drawstyle="steps-mid", label=f"{sigma:.2g}")
        names = [NEVER, *(f"$10^{{{edge:.0f}}}$" if edge == round(edge) else "" for edge in edges)]
        ax.set_xticks(range(len(names)), names)
        ax.set(title=theme.literal(site), ylim=(0, None))
    figure.supxlabel("share of positions at which a feature fires")
    figure.supylabel("share of features")
    theme.legend_above(figure, axes[0], title=theme.SIGMA)
    return figure


@theme.styled
def read_and_move(table: pd.DataFrame) -> Figure:
    """What chosen features read, and how far each moves it: a row of panels a site, a line a feature.

    Parameters
    ----------
    table : DataFrame
        `SparseStudy.judged`. Effects of those that are judged steerable within the budget are filled.
    """
    require_some("table", table)
    parts = list(table.groupby("site", sort=False))
    lines = [len(rows) for _, rows in parts]
    height = 0.19 * sum(lines) + 0.4 * len(parts) + 0.5
    figure, axes = theme.new_figure(height, nrows=len(parts), ncols=2, squeeze=False, height_ratios=lines, sharex="col")
    for (read, move), (site, rows) in zip(axes, parts, strict=True):
        places = np.arange(len(rows))
        names = [f"{row['attribute']} ({row['feature']})" for _, row in rows.iterrows()]
        steers = ((rows["verdict"] == "steerable") & rows["within_budget"]).to_numpy()
        color = theme.PALETTE[0]
        read.errorbar(rows["value"], places, xerr=theme.errors(rows, "value"), fmt="o", color=color, mfc="white")
        for chosen, fill in ((steers, color), (~steers, "white")):
            part = rows[chosen]
            bars = theme.errors(part, "effect")
            move.errorbar(part["effect"], places[chosen], xerr=bars, fmt="o", color=color, mfc=fill)
        move.barh(places, 2 * rows["chance"], left=-rows["chance"], height=0.7, color=theme.REFERENCE, alpha=0.3)
        read.axvline(0.5, color=theme.REFERENCE, linestyle=":")
        move.axvline(0.0, color=theme.REFERENCE, linestyle=":")
        read.set_yticks(places, [theme.literal(name) for name in names])
        read.set(ylim=(len(rows) - 0.5, -0.5))
        read.set_title(theme.literal(str(site)), loc="left")
        move.set(yticks=[], ylim=(len(rows) - 0.5, -0.5))
    axes[-1, 0].set_xlabel("AUC of reading\n(held-out images)")
    axes[-1, 1].set_xlabel("change of score\nwhen added (SD)")
    return figure


@theme.styled
def feature_page(
    pictures: Tensor | None, maps: Tensor | None, density: pd.DataFrame, reads: pd.DataFrame, moves: pd.DataFrame
) -> Figure:
    """One feature: its strongest images with where it fires, how often along noise, what it reads, what it moves.

    Parameters
    ----------
    pictures : Tensor, shape (n, channel, y, x), optional
        The images in which it is strongest, in [-1, 1]; without them nothing is shown of images.
    maps : Tensor, shape (n, y, x), optional
        Its codes there, at the site's positions; of a site without a grid there are none.
    density : DataFrame
        `SPARSE_DENSITY` of it.
    reads : DataFrame
        `FEATURE_READS` of it, at one noise level.
    moves : DataFrame
        `STEER_CURVE` of it; the arm "direction" at the largest strength is drawn.
    """
    if maps is not None and (pictures is None or maps.ndim != 3 or len(maps) != len(pictures)):
        found = f"{None if pictures is None else tuple(pictures.shape)}, {tuple(maps.shape)}"
        raise InputError("pictures, maps", found=found, expected="(n, channel, y, x) and (n, y, x)")
    if pictures is not None and (pictures.ndim != 4 or not len(pictures)):
        raise InputError("pictures", found=str(tuple(pictures.shape)), expected="(n >= 1, channel, y, x)")
    scores = moves[(moves["arm"] == "direction") & (moves["strength"] == moves["strength"].max())]
    names = list(dict.fromkeys([*reads["attribute"], *scores["score"]]))
    shown = [] if pictures is None else [_shades(pictures)]
    if maps is not None:
        shown.append([codes.detach().cpu().numpy() for codes in maps])
    side = (theme.width() - 0.2) / len(shown[0]) if shown else 0.0
    heights = [len(shown) * side, 1.4, 0.16 * len(names) + 0.8]
    figure, whole = theme.new_figure(sum(heights))
    whole.remove()
    parts: Any = figure.subfigures(3 - (not shown), 1, height_ratios=heights[not shown :])
    middle, below = parts[-2:]
    if shown:
        _strongest(parts[0], *shown)
    _fires(middle.subplots(), density)
    read, move = below.subplots(1, 2, sharey=True)
    _bars(read, reads.set_index("attribute"), names, 0.5, "AUC of its mean code")
    _bars(move, scores.set_index("score"), names, 0.0, "change of score (SD)")
    read.set_yticks(range(len(names)), [theme.literal(str(name)) for name in names])
    read.set_ylim(len(names) - 0.5, -0.5)
    return figure


@theme.styled
def attribution_scatter(features: pd.DataFrame, levels: pd.DataFrame) -> Figure:
    """Attributions of features against what ablating them does, a panel a noise level; on the line they agree.

    Parameters
    ----------
    features : DataFrame
        `FEATURE_ATTRIBUTION` of one site and baseline; features that were not ablated are left out.
    levels : DataFrame
        `ATTRIBUTION_LEVELS` of the same.
    """
    shown = features[features["ablation"].notna()]
    require_some("features", shown)
    figure, axes = theme.panels(len(levels), height=1.8, least=1.6, more=0.9, sharex=False, sharey=False)
    for ax, row in zip(axes, levels.to_dict("records"), strict=True):
        part = shown[shown["sigma"] == row["sigma"]]
        ax.axline((0, 0), slope=1, color=theme.REFERENCE, linestyle=":")
        bars = {"xerr": theme.errors(part, "ablation"), "yerr": theme.errors(part, "value")}
        ax.errorbar(
            part["ablation"], part["value"], **bars, fmt="o", markersize=3, color=theme.PALETTE[0], elinewidth=0.5
        )
        rank = f", rank {row['rank']:.2f}" if np.isfinite(row["rank"]) else ""
        ax.set_title(f"σ = {row['sigma']:.2g}{rank}")
    figure.supxlabel("score lost when the feature is ablated")
    figure.supylabel("attribution to the feature")
    return figure


def _strongest(part: SubFigure, pictures: list[NDArray[np.float32]], maps: Sequence[NDArray[Any]] = ()) -> None:
    """Images, above where the feature fires in them, all on one scale."""
    axes = part.subplots(2 if len(maps) else 1, len(pictures), squeeze=False)
    for ax, picture in zip(axes[0], pictures, strict=True):
        theme.show_picture(ax, picture)
    top = max((float(codes.max()) for codes in maps), default=0.0) or 1.0
    for ax, codes in zip(axes[1] if len(maps) else (), maps, strict=True):
        ax.imshow(codes, cmap="magma", vmin=0, vmax=top, interpolation="nearest")
        theme.without_axes(ax)


def _shades(pictures: Tensor) -> list[NDArray[np.float32]]:
    shades = (pictures.detach().float().cpu() / 2 + 0.5).clamp(0, 1)
    return list(shades.permute(0, 2, 3, 1).numpy())


def _fires(ax: Axes, density: pd.DataFrame) -> None:
    rows = density.sort_values("sigma")
    ax.plot(rows["sigma"], rows["density"], color=theme.HIGHLIGHT, marker="o")
    theme.sigma_axis(ax, ylabel="share of\npositions", xlabel=theme.SIGMA, ylim=(0, None))


def _bars(ax: Axes, rows: pd.DataFrame, names: list[str], nothing: float, label: str) -> None:
    """A point with its interval a name, and a line where there is nothing; no point where nothing is known."""
    rows = rows.reindex(names)
    ax.errorbar(rows["value"], range(len(names)), xerr=theme.errors(rows, "value"), fmt="o", color=theme.PALETTE[0])
    ax.axvline(nothing, color=theme.REFERENCE, linestyle=":")
    ax.set(xlabel=label)
