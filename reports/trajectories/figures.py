"""Figures of how a model is sampled and trained: declared tables in, matplotlib figures out. Nothing is computed here.

    from scorescope.reports.trajectories import figures

    figures.metrics_along(steps_table(settings), {"end_error": "error (units of data)"}, x="calls", xlabel="calls")

Each takes `style=`, and those of one panel `ax=`: see `theme`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from scorescope.data.doors import require_some
from scorescope.data.errors import InputError
from scorescope.reports.page import theme
from scorescope.reports.trajectories.figures_solvers import end_errors, observed_orders, schedules, step_errors
from scorescope.reports.trajectories.figures_steps import (
    affinity_matrix,
    consistency,
    decided_when,
    effective_levels,
    path_bends,
    path_numbers,
    proxy_dots,
    step_damages,
    variance_bias,
)

__all__ = [
    "affinity_matrix", "by_checkpoint", "consistency", "decided_when", "divergences", "effective_levels", "end_errors",
    "local_errors", "magnitudes", "metrics_along", "observed_orders", "path_bends", "path_geometry", "path_numbers",
    "picture_strips", "proxy_dots", "schedules", "step_damages", "step_errors", "variance_bias", "weighted_losses",
]  # fmt: skip

CURVES = {
    "flow_state": ("state / (1 + σ)", theme.PALETTE[0]),
    "state": ("state", theme.PALETTE[1]),
    "denoised": ("prediction D", theme.HIGHLIGHT),
}


@theme.styled
def metrics_along(
    table: pd.DataFrame, metrics: Mapping[str, str], *, x: str, xlabel: str, line: str = "", scale: str = "linear"
) -> Figure:
    """Metrics of samples against what was varied beside the rule, a panel a metric, a line a rule or solver.

    Parameters
    ----------
    table : DataFrame
        Columns `metric`, `value`, `low`, `high` and `x`, for instance from `steps_table`.
    metrics : mapping of str to str
        Metrics of the table, and their axis labels with units.
    x, xlabel : str
        Column on the axis, and what it is called there; texts stand at even distances in their order.
    line : str
        Column whose values are lines; one line without it.
    scale : {"linear", "log"}
        Of the axis, where its values are numbers.
    """
    return _metrics_along(table, metrics, x, xlabel, line, scale)


def _metrics_along(
    table: pd.DataFrame, metrics: Mapping[str, str], x: str, xlabel: str, line: str, scale: str
) -> Figure:
    require_some("metrics", metrics)
    figure, axes = theme.panels(len(metrics), height=1.7, least=1.6, more=0.7, sharey=False)
    for ax, (metric, label) in zip(axes, metrics.items(), strict=True):
        rows = theme.rows_where(table, "metric", metric, argument="metrics")
        places = _places(ax, rows[x], scale)
        for place, (name, part) in enumerate(rows.groupby(line, sort=False) if line else [("", rows)]):
            look, part = theme.series(place), part.assign(place=part[x].map(places)).sort_values("place")
            ax.errorbar(
                part["place"], part["value"], yerr=theme.errors(part, "value"), marker=look.marker, **look.line,
                label=theme.literal(str(name)) or None,
            )  # fmt: skip
        ax.set_ylabel(theme.folded(label, 28))
        theme.log_if_wide(ax)
    figure.supxlabel(xlabel)
    if line:
        theme.legend_above(figure, axes[0])
    return figure


def _places(ax: Axes, values: pd.Series, scale: str) -> dict[Any, float]:
    """Where each value stands on the axis."""
    if scale not in ("linear", "log"):
        raise InputError("scale", found=repr(scale), expected="'linear' or 'log'")
    if values.dtype.kind in "fi":
        if scale == "log":
            ax.set_xscale(theme.LOG)
        return {value: float(value) for value in values.unique()}
    names = list(values.unique())
    ax.set_xticks(range(len(names)), [theme.literal(str(name)) for name in names])
    return {name: float(place) for place, name in enumerate(names)}


@theme.styled
def weighted_losses(table: pd.DataFrame, *, shown: str, untrained: str = "", ax: Axes | None = None) -> Figure:
    """Weighted denoising loss against sigma: of one model on all sets of images, of others on the last set.

    Parameters
    ----------
    table : DataFrame
        From `analysis.trajectories.weighted_losses`.
    shown : str
        Denoiser that is drawn on every set.
    untrained : str
        Denoiser that is drawn as a line to compare with.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    figure, ax = theme.new_figure(2.9, ax=ax)
    last = theme.rows_where(table, "images", table["images"].iloc[-1])
    if untrained:
        rows = theme.rows_where(last, "denoiser", untrained, argument="untrained").sort_values("sigma")
        ax.plot(rows["sigma"], rows["mean"], color=theme.REFERENCE, linestyle="-.", label=theme.literal(untrained))
    others = [name for name in last["denoiser"].unique() if name not in (shown, untrained)]
    for name, color in zip(others, theme.shades(theme.PALETTE[0], len(others)), strict=True):
        theme.with_band(ax, last[last["denoiser"] == name], color=color, label=theme.literal(name))
    own = theme.rows_where(table, "denoiser", shown, argument="shown")
    for place, (images, rows) in enumerate(own.groupby("images", sort=False)):
        label, dash = theme.literal(f"{shown}, {images}"), ("--", "-")[place % 2]
        theme.with_band(ax, rows, color=theme.HIGHLIGHT, linestyle=dash, label=label)
    theme.sigma_axis(ax, ylabel="weighted loss", ylim=(0, None), xlabel=theme.SIGMA)
    theme.legend(ax)
    return figure


@theme.styled
def local_errors(table: pd.DataFrame) -> Figure:
    """Error of one step against the noise level that it starts from, a panel a solver, a line a grid.

    Parameters
    ----------
    table : DataFrame
        From `analysis.trajectories.local_errors`, with a column `grid`.
    """
    require_some("table", table)
    solvers = list(table["solver"].unique())
    figure, axes = theme.panels(len(solvers), height=2.2, least=2.2, more=0.7)
    for ax, solver in zip(axes, solvers, strict=True):
        rows = table[table["solver"] == solver]
        theme.band_each(ax, rows, "grid", y="mean")
        floor = rows.drop_duplicates("sigma").sort_values("sigma")
        ax.plot(
            floor["sigma"], floor["rounding"], color=theme.REFERENCE, linestyle=":", label="resolution of the state"
        )
        theme.sigma_axis(ax, yscale=theme.LOG, xlabel="", title=theme.literal(str(solver)))
    figure.supxlabel(theme.SIGMA_LABEL)
    figure.supylabel("RMS error of a step (units of data)")
    theme.legend_above(figure, axes[0])
    return figure


@theme.styled_pictures
def picture_strips(
    pictures: Tensor, *, columns: Sequence[str], rows: Sequence[str], value_range: tuple[float, float], xlabel: str
) -> Figure:
    """Images in rows and columns, each with its name.

    Parameters
    ----------
    pictures : Tensor, shape (rows * columns, channel, y, x)
        Row after row; one or three channels.
    columns, rows : sequence of str
        Their names.
    value_range : (float, float)
        Black and white; others are clipped.
    xlabel : str
        What the columns are.
    """
    if len(pictures) != len(rows) * len(columns) or not len(pictures):
        expected = f"{len(rows)} rows of {len(columns)}, at least one"
        raise InputError("pictures", found=f"{len(pictures)} pictures", expected=expected)
    low, high = value_range
    shades = ((pictures.detach().float().cpu() - low) / (high - low)).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    height = (theme.width() - 0.6) / len(columns) + 0.05
    figure, axes = theme.new_figure(height * len(rows) + 0.5, nrows=len(rows), ncols=len(columns), squeeze=False)
    for ax, picture in zip(axes.flat, shades, strict=True):
        theme.show_picture(ax, picture)
    for ax, name in zip(axes[0], columns, strict=True):
        ax.set_title(theme.literal(name), fontsize=theme.small(), pad=2)
    for ax, name in zip(axes[:, 0], rows, strict=True):
        theme.label_row(ax, name)
    figure.supxlabel(xlabel)
    return figure


@theme.styled
def path_geometry(table: pd.DataFrame) -> Figure:
    """Distance of paths from the line between their ends, above the change of the prediction, against sigma.

    Parameters
    ----------
    table : DataFrame
        From `analysis.trajectories.path_geometry`; of a column `path` the values are lines.
    """
    names = ["", *table["path"].unique()[1:]] if "path" in table else [""]
    figure, (top, bottom) = theme.new_figure(4.4, nrows=2, sharex=True)
    for name, dash in zip(names, ("-", ":", "--", "-."), strict=False):
        rows = table if "path" not in table else table[table["path"] == (name or table["path"].iloc[0])]
        for quantity, (label, color) in CURVES.items():
            curve = theme.rows_where(rows, "quantity", quantity, argument="table")
            label = theme.literal(f"{label}, {name}" if name else label)
            theme.with_band(top, curve, color=color, linestyle=dash, label=label)
        change = theme.rows_where(rows, "quantity", "denoised_change", argument="table")
        theme.with_band(bottom, change, color=theme.HIGHLIGHT, linestyle=dash, label=None)
    top.set_ylabel("distance from the chord\nover its length", multialignment="center")
    theme.sigma_axis(bottom, ylabel="RMS of dD / d ln σ\n(units of data)")
    theme.legend_above(figure, top)
    return figure


@theme.styled
def divergences(table: pd.DataFrame) -> Figure:
    """Divergence gained per octave of noise, above its sum from high noise down, a line a pair of checkpoints.

    Parameters
    ----------
    table : DataFrame
        From `analysis.trajectories.divergence`, with a column `pair`.
    """
    require_some("table", table)
    figure, (top, bottom) = theme.new_figure(4.4, nrows=2, sharex=True)
    theme.band_each(top, table, "pair", y="density")
    theme.band_each(bottom, table, "pair", y="divergence")
    top.set_ylabel("nats per halving of σ")
    theme.sigma_axis(bottom, ylabel="divergence down to σ (nats)", xlabel=theme.SIGMA)
    for ax in (top, bottom):
        theme.log_if_wide(ax)
    theme.legend_above(figure, bottom)
    return figure


@theme.styled
def magnitudes(table: pd.DataFrame) -> Figure:
    """Root mean squares of activations and of weights over checkpoints, a panel each, a line a site.

    Parameters
    ----------
    table : DataFrame
        From `analysis.trajectories.site_magnitudes`, of one noise level, with a column `checkpoint`.
    """
    require_some("table", table)
    rows = table.rename(columns={"quantity": "metric", "mean": "value"})
    there = {"activation": "RMS of activations", "weight": "RMS of weights"}
    shown = {name: label for name, label in there.items() if name in set(rows["metric"])}
    x = "position" if rows["position"].notna().all() else "checkpoint"
    return _metrics_along(rows, shown, x, "checkpoint, as it is named", "site", "log")


@theme.styled
def by_checkpoint(table: pd.DataFrame, quantities: Mapping[str, str]) -> Figure:
    """Curves against sigma stacked on one axis, a panel a quantity, a shade a checkpoint.

    Parameters
    ----------
    table : DataFrame
        Columns `quantity`, `checkpoint`, `sigma`, `mean`, `low`, `high`.
    quantities : mapping of str to str
        Quantities of the table, and their axis labels with units.
    """
    require_some("quantities", quantities)
    figure, axes = theme.new_figure(1.5 * len(quantities) + 0.8, nrows=len(quantities), sharex=True, squeeze=False)
    names = list(table["checkpoint"].unique())
    colors = theme.shades(theme.PALETTE[0], len(names))
    for ax, (quantity, label) in zip(axes[:, 0], quantities.items(), strict=True):
        rows = theme.rows_where(table, "quantity", quantity, argument="quantities")
        for name, color in zip(names, colors, strict=True):
            theme.with_band(ax, rows[rows["checkpoint"] == name], color=color, label=theme.literal(str(name)))
        ax.set(xscale=theme.LOG, ylabel=theme.folded(label, 24))
        theme.log_if_wide(ax)
    axes[-1, 0].set_xlabel(theme.SIGMA)
    theme.legend_above(figure, axes[0, 0])
    return figure
