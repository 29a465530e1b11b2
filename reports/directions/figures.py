"""Figures of the directions instrument: declared tables in, matplotlib figures out. Nothing is computed here.

    from scorescope.reports.directions import figures

    figures.probe_maps(probe_scan(activations, labels).table)

Each takes `style=`, and those of one panel `ax=`: see `theme`. Here are probes, steering, sampling and directions;
conditions, information and pictures, and windows and balance, are in files of their own.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke

from scorescope.data.doors import require_some
from scorescope.reports.directions.figures_classes import accuracy_by_calls, overlap_parts
from scorescope.reports.directions.figures_conditions import (
    MAP,
    attribute_losses,
    gap_curves,
    influence_maps,
    information_curves,
    picture_rows,
    recovery_map,
    token_matrix,
    win_rate_curves,
)
from scorescope.reports.directions.figures_mixing import (
    arm_look,
    balance_curves,
    mixing_step,
    window_bars,
    window_key,
)
from scorescope.reports.directions.study import site_name
from scorescope.reports.page import theme

__all__ = [
    "accuracy_by_calls", "attribute_losses", "balance_curves", "cosine_matrix", "dose_response", "emergence_curves",
    "gap_curves", "influence_maps", "information_curves", "landmark_ranges", "mixing_step", "overlap_parts",
    "picture_rows", "probe_maps", "read_and_steer", "readers_and_movers", "recovery_map", "token_matrix",
    "win_rate_curves", "windows_figure",
]  # fmt: skip

MARKS = {"steerable": "o", "reversed": "v", "not steerable": "$\\circ$", "undecided": "$?$", "breaks the image": "x"}
MARK: dict[str, Any] = {"color": "black", "linestyle": "none"}
OUTLINE = [withStroke(linewidth=2.2, foreground="white")]  # legible on dark colours too
CURVES = {"probe": "probe", "estimate": "estimate", "agreement": "agreement with the end", "switch": "switch"}
PALE = 0.3  # opacity of an effect of which neither is shown that it is there nor that it is not


@theme.styled
def probe_maps(probes: pd.DataFrame, *, quantity: str = "value", control: bool = False) -> Figure:
    """Held-out score of a linear probe at every site and noise level, one map an attribute.

    Parameters
    ----------
    probes : DataFrame
        Declared in `PROBES`.
    quantity : str
        "value" or "selectivity".
    control : bool
        Show the score on the control task beside each.
    """
    require_some("probes", probes)
    names, sites = list(probes["attribute"].unique()), probes["site"].nunique()
    maps = [(name, kind) for name in names for kind in (quantity, *(["control"] if control else []))]
    least = 1.5 if control else 1.7
    figure, axes = theme.panels(len(maps), height=0.16 * max(sites, 6) + 0.5, least=least, more=1.1)
    limits = (-0.1, 1.0) if quantity == "selectivity" else (0.0, 1.0)
    for ax, (name, kind) in zip(axes, maps, strict=True):
        image = _probe_map(ax, probes[probes["attribute"] == name], kind, limits)
    figure.supxlabel(theme.SIGMA)
    label = "balanced accuracy, validation images" if quantity == "value" else "selectivity: accuracy less control task"
    figure.colorbar(image, ax=axes, label=label, location="top", shrink=0.8, aspect=30)
    return figure


def _probe_map(ax: Axes, part: pd.DataFrame, kind: str, limits: tuple[float, float]) -> AxesImage:
    """One quantity of one attribute, site by noise level."""
    table = part.pivot(index="site", columns="sigma", values=kind).loc[part["site"].unique()]
    look: dict[str, Any] = {"cmap": MAP, "vmin": limits[0], "vmax": limits[1], "interpolation": "nearest"}
    image = ax.imshow(table.to_numpy(), aspect="auto", **look)
    theme.sigma_ticks(ax.xaxis, table.columns.to_numpy(float))
    theme.row_names(ax, map(site_name, table.index))
    notes = {"value": f" (chance {part['chance'].iloc[0]:.2g})", "control": ", control"}
    ax.set_title(theme.folded(theme.literal(str(part["attribute"].iloc[0])) + notes.get(kind, ""), 22))
    return image


@theme.styled
def read_and_steer(table: pd.DataFrame) -> Figure:
    """Probe accuracy and steering effect at every site, side by side; effects of which nothing is shown are pale.

    Parameters
    ----------
    table : DataFrame
        Columns attribute, site, accuracy, effect (in natural standard deviations), verdict and within_budget.
    """
    require_some("table", table)
    attributes, sites = list(table["attribute"].unique()), list(table["site"].unique())
    figure, axes = theme.panels(2, height=0.22 * max(len(sites), 5) + 0.5, least=2.6, more=0.9)
    accuracy = table.pivot(index="site", columns="attribute", values="accuracy").loc[sites, attributes]
    effect = table.pivot(index="site", columns="attribute", values="effect").loc[sites, attributes].to_numpy(float)
    read = axes[0].imshow(accuracy.to_numpy(float), aspect="auto", cmap=MAP, vmin=0, vmax=1)
    top, shown = _largest(table), table["within_budget"] & (table["verdict"] != "undecided")
    solid = table.assign(alpha=np.where(shown, 1.0, PALE)).pivot(index="site", columns="attribute", values="alpha")
    look: dict[str, Any] = {"alpha": solid.loc[sites, attributes].to_numpy(float), "cmap": "PuOr"}
    moved = axes[1].imshow(effect, aspect="auto", vmin=-top, vmax=top, **look)
    for _, row in table.iterrows():
        place = attributes.index(row["attribute"]), sites.index(row["site"])
        axes[1].plot(*place, marker=_mark(row), path_effects=OUTLINE, **MARK)
    for ax, title in zip(axes, ("readable", "steerable"), strict=True):
        theme.column_names(ax, attributes)
        theme.row_names(ax, map(site_name, sites))
        ax.set_title(title)
    for name, mark in MARKS.items():
        axes[1].plot([], [], marker=mark, label=name, **MARK)
    theme.legend_above(figure, axes[1], handletextpad=0.1)
    figure.colorbar(read, ax=axes[0], label="probe accuracy", shrink=0.9)
    figure.colorbar(moved, ax=axes[1], label="effect (natural SD)", shrink=0.9, extend="both")
    return figure


def _largest(table: pd.DataFrame) -> float:
    """The largest effect that is shown to be one, by which others are coloured; of all where none is.

    Broken images would leave the others no colour, and what may be chance would look like an effect.
    """
    inside = table[table["within_budget"]]
    moving = inside[inside["verdict"].isin(["steerable", "reversed"])]
    return float(next(part for part in (moving, inside, table) if len(part))["effect"].abs().max()) or 1.0


def _mark(row: "pd.Series[Any]") -> str:
    """Verdict and budget as a mark: what breaks the image is not shown to move the attribute, nor to leave it."""
    if row["within_budget"]:
        return MARKS[row["verdict"]]
    return MARKS["breaks the image"] if row["verdict"] in ("steerable", "reversed") else MARKS["undecided"]


@theme.styled
def dose_response(curve: pd.DataFrame) -> Figure:
    """Change of the target against strength in every arm, and of all scores in the direction's own arm.

    Parameters
    ----------
    curve : DataFrame
        Declared in `STEER_CURVE`, of one interval of noise levels.
    """
    require_some("curve", curve)
    figure, axes = theme.panels(2, height=2.6, least=2.6, more=0.3, sharey=False)
    target = curve[curve["target"]]
    for arm, part in target[target["arm"] != "none"].groupby("arm", sort=False):
        look, label = arm_look(str(arm))
        _dose_line(axes[0], part, look, label)
    own_arm(axes[1], curve)
    figure.supylabel("change of score (natural SD)")
    for ax, title in zip(axes, ("the target, by arm", "all scores, along the direction"), strict=True):
        theme.reference_line(ax, 0)
        theme.key_as_title(ax, title)
    figure.supxlabel("strength (standard deviations of the projection)")
    return figure


def own_arm(ax: Axes, curve: pd.DataFrame) -> None:
    """Change of all scores along the direction itself."""
    for place, (score, part) in enumerate(curve[curve["arm"] == "direction"].groupby("score", sort=False)):
        _dose_line(ax, part, theme.series(place), theme.literal(str(score)))


def _dose_line(ax: Axes, part: pd.DataFrame, look: theme.Look, label: str | None) -> None:
    """A line through the arm without edit."""
    zero = pd.DataFrame({"strength": [0.0], "value": [0.0], "low": [0.0], "high": [0.0]})
    part = pd.concat([part[zero.columns], zero]).drop_duplicates("strength")
    theme.with_band(ax, part, x="strength", y="value", label=label, **look.line)


@theme.styled
def windows_figure(effects: pd.DataFrame, probes: pd.DataFrame) -> Figure:
    """Where an attribute is read and in which windows of noise levels it is steered.

    Parameters
    ----------
    effects : DataFrame
        Declared in `STEER_VERDICTS`, several attributes and windows.
    probes : DataFrame
        Declared in `PROBES`, of the same attributes and sites.
    """
    require_some("effects", effects)
    names = list(effects["attribute"].unique())
    columns = theme.abreast(len(names), 1.7)
    blocks = -(-len(names) // columns)
    figure, axes = theme.new_figure(3.2 * blocks + 0.6, nrows=2 * blocks, ncols=columns, squeeze=False, sharex=True)
    for ax in axes.T.flat[2 * len(names) :] if blocks == 1 else axes[-2:, len(names) - columns * (blocks - 1) :].flat:
        ax.set_axis_off()
    for place, name in enumerate(names):
        cells = probes[probes["attribute"] == name]
        rows = effects[effects["attribute"] == name]
        top, bottom = axes[2 * (place // columns) :, place % columns][:2]
        theme.with_band(top, cells, y="value", color=theme.PALETTE[0], label="probe")
        theme.reference_line(top, cells["chance"].iloc[0])
        top.set(title=theme.folded(theme.literal(f"{name} at {site_name(rows['site'].iloc[0])}"), 24), ylim=(0, 1.03))
        window_bars(bottom, rows)
    _same_limits(axes[1::2].flat)
    for top, bottom in axes[:, 0].reshape(-1, 2):
        top.set_ylabel("probe accuracy\n(dotted: chance)")
        bottom.set_ylabel("effect beyond controls\n(natural SD)")
    for ax in axes[:, 1:].flat:
        ax.tick_params(labelleft=False)
    figure.supxlabel(theme.SIGMA_LABEL)
    theme.key_above(figure, *window_key(effects))
    return figure


def _same_limits(axes: Iterable[Axes]) -> None:
    """One vertical range for all that are drawn in, the widest."""
    drawn = [ax for ax in axes if ax.axison]
    low, high = np.transpose([ax.get_ylim() for ax in drawn])
    for ax in drawn:
        ax.set_ylim(low.min(), high.max())


@theme.styled
def emergence_curves(curves: pd.DataFrame) -> Figure:
    """Probe, estimate, agreement and switch along sampling, one panel an attribute.

    Parameters
    ----------
    curves : DataFrame
        Declared in `EMERGENCE_CURVES`.
    """
    require_some("curves", curves)
    names = list(curves["attribute"].unique())
    figure, axes = theme.panels(len(names), more=0.8)
    for ax, name in zip(axes, names, strict=True):
        part = curves[curves["attribute"] == name]
        for place, (curve, label) in enumerate(CURVES.items()):
            theme.with_band(ax, part[part["curve"] == curve], y="value", label=label, **theme.series(place).line)
        theme.reference_line(ax, 0.5)
        theme.sigma_axis(ax, xlabel="", title=theme.literal(name), ylim=(-0.03, 1.03))
    figure.supxlabel(theme.SIGMA_LABEL)
    figure.supylabel("balanced accuracy\n(switch: share that follows)", multialignment="center")
    theme.legend_above(figure, axes[0])
    return figure


@theme.styled
def landmark_ranges(landmarks: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Noise levels of each attribute's landmarks, with intervals.

    Parameters
    ----------
    landmarks : DataFrame
        Declared in `LANDMARKS`.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    require_some("landmarks", landmarks)
    attributes, kinds = list(landmarks["attribute"].unique()), list(landmarks["landmark"].unique())
    figure, ax = theme.new_figure(0.42 * len(attributes) + 1.1, ax=ax)
    for index, kind in enumerate(kinds):
        look, rows = theme.series(index), landmarks[(landmarks["landmark"] == kind) & np.isfinite(landmarks["sigma"])]
        for _, row in rows.iterrows():  # those that were asked and reached
            y = attributes.index(row["attribute"]) + 0.17 * (index - (len(kinds) - 1) / 2)
            ends = np.exp(-np.clip(row[["low", "high"]].to_numpy(float), -12, 12) / 2)
            ax.plot(ends, [y, y], color=look.color)
            ax.plot(row["sigma"], y, look.marker, color=look.color)
        ax.plot([], [], look.marker, color=look.color, label=kind.replace("_", " "))
    theme.row_names(ax, attributes)
    ax.set_ylim(len(attributes) - 0.5, -0.5)
    theme.sigma_axis(ax)
    theme.legend(ax)
    return figure


@theme.styled
def readers_and_movers(readers: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """How well each direction reads against how purely it moves, with 95 % intervals.

    Where no other score is judged, a share says nothing: then by how much it moves.

    Parameters
    ----------
    readers : DataFrame
        Declared in `READERS`.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    require_some("readers", readers)
    figure, ax = theme.new_figure(3.0, ax=ax)
    moved = "effect" if readers["purity"].isna().all() else "purity"
    for place, (method, row) in enumerate(readers.groupby("method", sort=False)):
        look = theme.series(place)
        ax.errorbar(
            row["auc"], row[moved], xerr=theme.errors(row, "auc"), yerr=theme.errors(row, moved), capsize=0,
            fmt=look.marker, color=look.color, label=theme.literal(str(method)),
        )  # fmt: skip
    ax.set(xlabel="reads: AUC on held-out images")
    if moved == "purity":
        ax.set(ylabel="moves: share of change on target", ylim=(0, 1.03))
    else:
        ax.set(ylabel="moves: change of score a unit of strength")
    theme.legend(ax)
    return figure


@theme.styled
def cosine_matrix(steps: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Cosines between the directions of every two noise levels.

    Parameters
    ----------
    steps : DataFrame
        Declared in `STEP_COSINES`.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    table = steps.pivot(index="sigma_a", columns="sigma_b", values="crossed")
    values = table.combine_first(table.T).to_numpy(float)
    figure, ax = theme.new_figure(3.0, ax=ax)
    image = ax.imshow(values, cmap="PuOr", vmin=-1, vmax=1, origin="lower")
    for axis in (ax.xaxis, ax.yaxis):
        theme.sigma_ticks(axis, table.columns.to_numpy(float))
    ax.set(xlabel=theme.SIGMA, ylabel=theme.SIGMA)
    figure.colorbar(image, ax=ax, label="cosine between directions")
    return figure
