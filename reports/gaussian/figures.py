"""Figures of the Gaussian-score instrument: declared tables in, matplotlib figures out. Nothing is computed here.

    from scorescope.reports.gaussian import figures

    figures.law_fractions(score_table(gaps), regimes(gaps), constant=far_field(train), gaussian="gaussian")

Each takes `style=`, and those of one panel `ax=`: see `theme`. In the order of the report: laws, paths, solvers,
training, memory. Those on Jacobians and of pictures are in a file of their own.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scorescope.analysis.gaussian.far_field import FarField
from scorescope.analysis.gaussian.scores import lowest_run
from scorescope.data.doors import require_some
from scorescope.reports.gaussian.figures_jacobians import flipd_curves, jacobian_ranks, same_seeds
from scorescope.reports.page import theme

__all__ = [
    "BELOW", "FRACTION", "conventions", "dynamics", "emergence", "flipd_curves", "gains", "jacobian_ranks",
    "law_fractions", "memorisation", "metrics", "path_errors", "queries", "same_seeds", "skips",
]  # fmt: skip

FRACTION = "centred unexplained fraction"
LEAST = 1e-9  # relative squared errors, below which only rounding is left
BELOW = "Axes end a decade below the lowest value on held-out points: lower ones, on training points, are not drawn. "
DECADES = (-1000, -100, -10, -1, 0, 1, 10, 100, 1000)


@theme.styled
def law_fractions(
    scores: pd.DataFrame,
    regimes: pd.DataFrame,
    *,
    constant: float | FarField,
    gaussian: str,
    ax: Axes | None = None,
) -> Figure:
    """Centred unexplained fraction of every law against sigma, with the far-field line and the floor.

    Parameters
    ----------
    scores : DataFrame
        From `compare_scores`.
    regimes : DataFrame
        From `regimes`, for the same query: where network error is shown is shaded.
    constant : FarField or float
        From `far_field`, drawn where it holds; a float is c alone.
    gaussian : str
        Name of the Gaussian, which is drawn thicker.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    centred = theme.rows_where(scores, "metric", "centred", argument="scores")
    theme.rows_where(centred, "approximation", gaussian, argument="gaussian")
    figure, ax = theme.new_figure(3.9, ax=ax)
    for place, (name, rows) in enumerate(centred.groupby("approximation", sort=False)):
        own = {"linewidth": 2.2 * theme.unit(), "linestyle": "-"} if name == gaussian else {}
        look = theme.series(place).line | own
        theme.with_band(ax, rows, y="ratio_of_sums", label=theme.literal(str(name)), **look)
    levels = np.sort(centred["sigma"].unique())
    far = constant if isinstance(constant, FarField) else FarField(constant, 0.0, 0.0, constant**0.5)
    levels = levels[levels >= far.lowest]
    label = "Gaussian against the data, high noise" if far.fourth else "Gaussian against the data: $c/\\sigma^2$"
    ax.plot(levels, [far.fraction(sigma) for sigma in levels], color="black", linestyle=":", label=label)
    floor = centred[centred["approximation"] == gaussian].sort_values("sigma")
    ax.plot(floor["sigma"], floor["floor_high"], color=theme.REFERENCE, label="floor: a perfect network, 97.5 %")
    own_error = lowest_run(regimes, "network_error")
    if np.isfinite(own_error):
        label = "network's error shown"
        ax.axvspan(own_error, centred["sigma"].max(), color=theme.REFERENCE, alpha=0.12, linewidth=0, label=label)
    theme.sigma_axis(ax, yscale=theme.LOG, ylabel=FRACTION)
    _at_least(ax)
    theme.legend(ax)
    return figure


@theme.styled
def metrics(scores: pd.DataFrame, *, gaussian: str, ax: Axes | None = None) -> Figure:
    """One disagreement, three metrics, two averages: the Gaussian's unexplained fraction.

    Parameters
    ----------
    scores : DataFrame
        From `compare_scores`, of every metric.
    gaussian : str
        Name of the Gaussian.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    rows = theme.rows_where(scores, "approximation", gaussian, argument="gaussian")
    figure, ax = theme.new_figure(3.0, ax=ax)
    _metric_lines(ax, rows)
    theme.sigma_axis(ax, yscale=theme.LOG, ylabel="unexplained fraction, Gaussian")
    theme.legend(ax)
    return figure


def _metric_lines(ax: Axes, rows: pd.DataFrame) -> None:
    """Of each metric both averages."""
    for place, metric in enumerate(("centred", "denoised", "score")):
        part, look = rows[rows["metric"] == metric].sort_values("sigma"), theme.series(place)
        theme.with_band(ax, part, y="ratio_of_sums", label=f"{metric}, ratio of sums", **look.line)
        ax.plot(part["sigma"], part["mean_of_ratios"], color=look.color, linestyle=":", linewidth=theme.unit())
    theme.reference_key(ax, "mean of ratios")


@theme.styled
def queries(scores: pd.DataFrame, *, names: Sequence[str]) -> Figure:
    """The same fractions at different points: training, held-out, pure noise, on the path.

    Parameters
    ----------
    scores : DataFrame
        From `compare_scores`, of every query.
    names : sequence of str
        Laws: one a panel.
    """
    require_some("names", names)
    figure, axes = theme.panels(len(names), least=2.2)
    centred = scores[scores["metric"] == "centred"]
    for ax, name in zip(axes, names, strict=True):
        rows = theme.rows_where(centred, "approximation", name, argument="names")
        theme.band_each(ax, rows, "query", y="ratio_of_sums")
        theme.sigma_axis(ax, yscale=theme.LOG, title=theme.literal(name), xlabel="")
        _at_least(ax)
    figure.supylabel(FRACTION)
    figure.supxlabel(theme.SIGMA)
    theme.legend_above(figure, axes[0], title="asked at")
    return figure


@theme.styled
def conventions(scores: pd.DataFrame, *, gaussian: str) -> Figure:
    """One law, by every metric where held-out images are asked about, and in one metric wherever one asks.

    Parameters
    ----------
    scores : DataFrame
        From `compare_scores`, of every query, "held_out" among them.
    gaussian : str
        Name of the law.
    """
    rows = theme.rows_where(scores, "approximation", gaussian, argument="gaussian")
    figure, (left, right) = theme.panels(2, height=2.4, least=2.6, sharey=False)
    _metric_lines(left, theme.rows_where(rows, "query", "held_out", argument="scores"))
    theme.band_each(right, rows[rows["metric"] == "centred"], "query", y="ratio_of_sums")
    for ax, title in ((left, "by metric, held-out images"), (right, "asked at, centred")):
        theme.sigma_axis(ax, yscale=theme.LOG, xlabel="")
        _at_least(ax)
        theme.key_as_title(ax, title)
    figure.supylabel("unexplained fraction")
    figure.supxlabel(theme.SIGMA)
    return figure


@theme.styled
def path_errors(table: pd.DataFrame, candidates: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Error of the closed form along the path: state and prediction, and what the data alone predict for the state.

    Parameters
    ----------
    table : DataFrame
        From `path_errors`: the first noise level, where nothing is different yet, is left out.
    candidates : DataFrame
        The table of `suggest_skip`, of which those in range are drawn.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    figure, ax = theme.new_figure(3.0, ax=ax)
    for place, (quantity, label) in enumerate((("state", "state"), ("denoised", "prediction"))):
        rows = theme.rows_where(table, "quantity", quantity, argument="table")
        rows = rows[rows["sigma"] < table["sigma"].max()]
        theme.with_band(ax, rows, y="ratio_of_sums", label=f"{label}, measured", **theme.series(place).line)
    rows = candidates[candidates["in_range"]].sort_values("sigma")
    ax.plot(rows["sigma"], rows["predicted_error"], color="black", linestyle=":", label="state, from the data alone")
    theme.sigma_axis(ax, yscale=theme.LOG, ylabel="relative squared error")
    _at_least(ax)
    theme.legend(ax)
    return figure


@theme.styled
def emergence(amplitudes: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """How each eigen-mode of the prediction grows, and where it is there against the closed form's place.

    Parameters
    ----------
    amplitudes : DataFrame
        From `mode_amplitudes`.
    table : DataFrame
        From `emergence`, of the same modes.
    """
    figure, (left, right) = theme.panels(2, height=2.5, least=2.6, sharex=False, sharey=False)
    modes = sorted(amplitudes["mode"].unique())
    for mode, color in zip(modes, theme.shades(theme.PALETTE[0], len(modes))[::-1], strict=True):
        rows = amplitudes[amplitudes["mode"] == mode].sort_values("sigma")
        label = f"mode {mode}" if mode in (modes[0], modes[-1]) else None
        left.plot(rows["sigma"], rows["network"], color=color, label=label)
        left.plot(rows["sigma"], rows["gaussian"], color=color, linestyle=":", linewidth=theme.unit())
    theme.reference_key(left, "closed form")
    left.axhline(0.5**0.5, color=theme.REFERENCE, linewidth=0.7 * theme.unit())
    theme.sigma_axis(left, ylabel="size along the mode / final size", ylim=(0, max(1.3, 1.05 * left.dataLim.ymax)))
    left.legend(loc="best")
    known = table.dropna(subset=["sigma_network"])
    root, places = known["sqrt_eigenvalue"], theme.errors(known, "sigma_network")
    right.errorbar(root, known["sigma_network"], yerr=places, color=theme.PALETTE[0], fmt="o")
    if known.empty:
        note = "no mode reaches 0.707\nof its final size within\nthese noise levels"
        right.text(0.05, 0.95, note, transform=right.transAxes, va="top")
    every = table["sqrt_eigenvalue"]  # of modes too whose place is not known: where it is of none, an axis has a range
    ends = [every.min(), every.max()]
    right.plot(ends, ends, color=theme.REFERENCE, linestyle=":", label="closed form: σ = √λ")
    right.set(xscale=theme.LOG, yscale=theme.LOG, xlabel="√λ of the mode (units of data)")
    right.set(ylabel="σ at 0.707 of the final size")
    right.legend(loc="lower right" if known.empty else "best")
    return figure


@theme.styled
def skips(table: pd.DataFrame) -> Figure:
    """Error of the end samples against the skip, for both ways to spend it.

    Parameters
    ----------
    table : DataFrame
        From `skip_table`: one panel a solver.
    """
    require_some("table", table)
    solvers = list(table["solver"].unique())
    figure, axes = theme.panels(len(solvers), height=2.3, least=2.6, more=0.9)
    for ax, solver in zip(axes, solvers, strict=True):
        rows = table[table["solver"] == solver]
        for place, (steps, part) in enumerate(rows.groupby("steps")):
            for spent, group in part.sort_values("sigma_skip").groupby("spent"):
                look = theme.series(place)
                ax.plot(
                    group["sigma_skip"], group["median"], marker=look.marker, color=look.color,
                    linestyle="-" if str(spent).startswith("same calls") else "--", label=f"{steps} steps: {spent}",
                )  # fmt: skip
        ax.set(xscale=theme.LOG, yscale=theme.LOG, title=theme.literal(str(solver)))
    figure.supxlabel("σ at which the network takes over")
    figure.supylabel("squared error of end samples,\nmedian, relative", multialignment="center")
    theme.legend_above(figure)
    return figure


@theme.styled
def gains(table: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """By how much a schedule inflates each mode's standard deviation, no network needed.

    Parameters
    ----------
    table : DataFrame
        From `solver_gains`, of one or more schedules.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    require_some("table", table)
    figure, ax = theme.new_figure(2.9, ax=ax)
    schedules = table.sort_values("eigenvalue", kind="stable").groupby(["solver", "calls"], sort=False)
    for place, ((solver, calls), rows) in enumerate(schedules):
        label = theme.literal(f"{solver}, {calls} calls")
        ax.plot(rows["eigenvalue"], 100 * rows["relative_error"], label=label, **theme.series(place).line)
    theme.reference_line(ax, 0)
    ax.set(
        xscale=theme.LOG, xlabel="variance of the mode (units of data²)", ylabel="error of its standard deviation, %"
    )
    ax.set_yscale("symlog", linthresh=1)
    low, high = ax.get_ylim()
    ticks = [tick for tick in DECADES if low <= tick <= high]
    ax.set_yticks(ticks, [f"{tick}".replace("-", "−") for tick in ticks])
    theme.legend(ax)
    return figure


@theme.styled
def dynamics(table: pd.DataFrame, *, names: Sequence[str], sigmas: Sequence[float]) -> Figure:
    """Centred unexplained fraction against the training step, a line a noise level, a panel a law.

    Parameters
    ----------
    table : DataFrame
        From `training_dynamics`.
    names : sequence of str
        Laws: one a panel.
    sigmas : sequence of float
        Noise levels: one a line.
    """
    require_some("names", names)
    figure, axes = theme.panels(len(names), height=2.1, more=0.9)
    centred = theme.rows_where(table, "metric", "centred", argument="table")
    for ax, name in zip(axes, names, strict=True):
        law = theme.rows_where(centred, "approximation", name, argument="names")
        for place, color in enumerate(theme.shades(theme.PALETTE[0], len(sigmas))[::-1]):
            sigma, marker = sigmas[place], theme.series(place).marker
            look: dict[str, Any] = {
                "color": color,
                "marker": marker,
                "markersize": 3 * theme.unit(),
                "label": f"σ = {sigma:.3g}",
            }
            rows = law[np.isclose(law["sigma"], sigma)]
            theme.with_band(ax, rows, y="ratio_of_sums", x="training_step", **look)
        ax.set(xscale=theme.LOG, yscale=theme.LOG, title=theme.literal(name))
    figure.supxlabel("training step")
    figure.supylabel(FRACTION)
    theme.legend_above(figure, axes[0])
    return figure


@theme.styled
def memorisation(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Error and trace of the Jacobian on training and held-out points, for each denoiser.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        From `memorisation`, by the denoiser's name.
    """
    require_some("tables", tables)
    figure, axes = theme.panels(2, height=2.3, least=2.6, more=0.9, sharey=False)
    labels = {"error": "squared error an element (units of data²)", "trace": "trace of dD/dx"}
    for ax, (quantity, label) in zip(axes, labels.items(), strict=True):
        shown = {name: table[table["quantity"] == quantity] for name, table in tables.items()}
        for place, (name, table) in enumerate(shown.items()):
            for images, rows in table.groupby("images", sort=False):
                look = vars(theme.series(place)) | {"linestyle": "-" if images == "held out" else ":"}
                theme.with_band(ax, rows, label=theme.literal(f"{name}, {images}"), **look)
        theme.sigma_axis(ax, yscale=theme.LOG, xlabel="", ylabel=theme.folded(label, 28), ylim=_span(shown.values()))
    figure.supxlabel(theme.SIGMA)
    theme.legend_above(figure, axes[0])
    return figure


def _span(tables: Iterable[pd.DataFrame]) -> tuple[float, float]:
    """Ends of an axis for everything on held-out points, and for training points a decade below.

    On those a memoriser falls to nothing: that much of an axis would say nothing of the others.
    """
    table = pd.concat(tables)
    fresh = table[(table["images"] == "held out") & (table["mean"] > 0)]
    fresh = table[table["mean"] > 0] if fresh.empty else fresh
    least = fresh["low"].where(fresh["low"] > 0).fillna(fresh["mean"]).min()
    return 0.1 * float(least), 2 * float(table[["mean", "high"]].max().max())


def _at_least(ax: Axes) -> None:
    """Let a logarithmic axis hold all that is drawn down to a value, below which nothing is meant."""
    low, high = ax.get_ylim()
    if low < LEAST < high:
        ax.set_ylim(bottom=LEAST)
