"""Figures of the Gaussian-score instrument: declared tables in, matplotlib figures out. Nothing is computed here.

    from scorescope.reports.gaussian import figures

    figures.law_fractions(score_table(gaps), regimes(gaps), constant=far_field(train), gaussian="gaussian")

In the order of the report: laws, paths, solvers, training, memory.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scorescope.analysis.gaussian.far_field import FarField
from scorescope.analysis.gaussian.scores import lowest_run
from scorescope.reports.page import theme

FRACTION = "centred unexplained fraction"


@theme.styled
def law_fractions(scores: pd.DataFrame, regimes: pd.DataFrame, *, constant: float | FarField, gaussian: str) -> Figure:
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
    """
    figure, ax = theme.new_figure(width=4.6, height=3.4)
    centred = scores[scores["metric"] == "centred"]
    for place, (name, rows) in enumerate(centred.groupby("approximation", sort=False)):
        own = {"linewidth": 2.2} if name == gaussian else {"linewidth": 1.2, "linestyle": ("-", "--")[place % 2]}
        theme.with_band(ax, rows, y="ratio_of_sums", color=theme.series(place).color, label=str(name), **own)
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
    theme.sigma_axis(ax, yscale="log", ylabel=FRACTION, ylim=(1e-4, 2))
    theme.legend_above(figure, ncols=3)
    return figure


@theme.styled
def metrics(scores: pd.DataFrame, *, gaussian: str) -> Figure:
    """One disagreement, three metrics, two averages: the Gaussian's unexplained fraction."""
    figure, ax = theme.new_figure(height=2.9)
    rows = scores[scores["approximation"] == gaussian]
    for place, metric in enumerate(("centred", "denoised", "score")):
        part, color = rows[rows["metric"] == metric].sort_values("sigma"), theme.series(place).color
        theme.with_band(ax, part, y="ratio_of_sums", color=color, label=f"{metric}, ratio of sums")
        ax.plot(part["sigma"], part["mean_of_ratios"], color=color, linestyle=":", linewidth=1)
    theme.reference_key(ax, "mean of ratios")
    theme.sigma_axis(ax, yscale="log", ylabel="unexplained fraction, Gaussian")
    ax.legend(loc="best")
    return figure


@theme.styled
def queries(scores: pd.DataFrame, *, names: Sequence[str]) -> Figure:
    """The same fractions at different points: training, held-out, pure noise, on the path."""
    figure, axes = theme.new_figure(width=7.0, height=2.6, ncols=len(names), sharey=True, squeeze=False)
    centred = scores[scores["metric"] == "centred"]
    for ax, name in zip(axes[0], names, strict=True):
        theme.band_each(ax, centred[centred["approximation"] == name], "query", y="ratio_of_sums")
        theme.sigma_axis(ax, yscale="log", title=name, xlabel=theme.SIGMA)
    axes[0][0].set_ylabel(FRACTION)
    axes[0][0].legend(loc="best", title="asked at")
    return figure


@theme.styled
def path_errors(table: pd.DataFrame, candidates: pd.DataFrame) -> Figure:
    """Error of the closed form along the path: state and prediction, and what the data alone predict for the state."""
    figure, ax = theme.new_figure(height=2.9)
    for place, (quantity, label) in enumerate((("state", "state"), ("denoised", "prediction"))):
        rows = table[(table["quantity"] == quantity) & (table["sigma"] < table["sigma"].max())]
        theme.with_band(ax, rows, y="ratio_of_sums", color=theme.series(place).color, label=f"{label}, measured")
    rows = candidates[candidates["in_range"]].sort_values("sigma")
    ax.plot(rows["sigma"], rows["predicted_error"], color="black", linestyle=":", label="state, from the data alone")
    theme.sigma_axis(ax, yscale="log", ylabel="relative squared error", ylim=(1e-9, 3))
    ax.legend(loc="best")
    return figure


@theme.styled
def emergence(amplitudes: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """How each eigen-mode of the prediction grows, and where it is there against the closed form's place."""
    figure, (left, right) = theme.new_figure(width=7.0, height=2.8, ncols=2)
    modes = sorted(amplitudes["mode"].unique())
    for mode, color in zip(modes, theme.shades(theme.PALETTE[0], len(modes))[::-1], strict=True):
        rows = amplitudes[amplitudes["mode"] == mode].sort_values("sigma")
        label = f"mode {mode}" if mode in (modes[0], modes[-1]) else None
        left.plot(rows["sigma"], rows["network"], color=color, label=label)
        left.plot(rows["sigma"], rows["gaussian"], color=color, linestyle=":", linewidth=1)
    theme.reference_key(left, "closed form")
    left.axhline(0.5**0.5, color=theme.REFERENCE, linewidth=0.7)
    theme.sigma_axis(left, ylabel="size along the mode / final size", ylim=(0, 1.3))
    left.legend(loc="best")
    known = table.dropna(subset=["sigma_network"])
    root = known["sqrt_eigenvalue"]
    right.errorbar(
        root, known["sigma_network"], yerr=theme.errors(known, "sigma_network"), color=theme.PALETTE[0], fmt="o",
        markersize=3, capsize=2,
    )  # fmt: skip
    every = table["sqrt_eigenvalue"]  # of modes too whose place is not known: where it is of none, an axis has a range
    ends = [every.min(), every.max()]
    right.plot(ends, ends, color=theme.REFERENCE, linestyle=":", label="closed form: σ = √λ")
    right.set(xscale="log", yscale="log", xlabel="√λ of the mode (units of data)")
    right.set(ylabel="σ at 0.707 of the final size")
    _plain_ticks(right)
    right.legend(loc="best")
    return figure


@theme.styled
def skips(table: pd.DataFrame) -> Figure:
    """Error of the end samples against the skip, for both ways to spend it."""
    solvers = list(table["solver"].unique())
    figure, axes = theme.new_figure(width=7.0, height=2.9, ncols=len(solvers), sharey=True, squeeze=False)
    for ax, solver in zip(axes[0], solvers, strict=True):
        rows = table[table["solver"] == solver]
        for place, (steps, part) in enumerate(rows.groupby("steps")):
            for spent, group in part.sort_values("sigma_skip").groupby("spent"):
                ax.plot(
                    group["sigma_skip"], group["median"], marker="o", markersize=3, color=theme.series(place).color,
                    linestyle="-" if str(spent).startswith("same calls") else "--", label=f"{steps} steps: {spent}",
                )  # fmt: skip
        ax.set(xscale="log", yscale="log", title=solver, xlabel="σ at which the network takes over")
    axes[0][0].set_ylabel("squared error of end samples,\nmedian, relative")
    theme.legend_above(figure, axes[0][0], ncols=2)
    return figure


@theme.styled
def gains(table: pd.DataFrame) -> Figure:
    """By how much a schedule inflates each mode's standard deviation, no network needed."""
    figure, ax = theme.new_figure()
    schedules = table.sort_values("eigenvalue", kind="stable").groupby(["solver", "calls"], sort=False)
    for place, ((solver, calls), rows) in enumerate(schedules):
        label = f"{solver}, {calls} calls"
        ax.plot(rows["eigenvalue"], 100 * rows["relative_error"], color=theme.series(place).color, label=label)
    theme.reference_line(ax, 0)
    ax.set(xscale="log", xlabel="variance of the mode (units of data²)", ylabel="error of its standard deviation, %")
    ax.set_yscale("symlog", linthresh=1)
    ax.set_yticks([-10, -1, 0, 1, 10], ["−10", "−1", "0", "1", "10"])
    theme.legend_above(figure, ncols=2)
    return figure


@theme.styled
def dynamics(table: pd.DataFrame, *, names: Sequence[str], sigmas: Sequence[float]) -> Figure:
    """Centred unexplained fraction against the training step, a line a noise level, a panel a law."""
    figure, axes = theme.new_figure(width=7.0, height=2.7, ncols=len(names), sharey=True, squeeze=False)
    centred = table[table["metric"] == "centred"]
    for ax, name in zip(axes[0], names, strict=True):
        for sigma, color in zip(sigmas, theme.shades(theme.PALETTE[0], len(sigmas))[::-1], strict=True):
            rows = centred[(centred["approximation"] == name) & np.isclose(centred["sigma"], sigma)]
            theme.with_band(
                ax, rows, y="ratio_of_sums", x="training_step", color=color, label=f"σ = {sigma:g}", marker="o",
                markersize=3,
            )  # fmt: skip
        ax.set(xscale="log", yscale="log", title=name, xlabel="training step")
    axes[0][0].set_ylabel(FRACTION)
    axes[0][-1].legend(loc="best")
    return figure


@theme.styled
def memorisation(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Error and trace of the Jacobian on training and held-out points, for each denoiser."""
    figure, axes = theme.new_figure(width=7.0, height=2.8, ncols=2)
    labels = {"error": "squared error an element (units of data²)", "trace": "trace of dD/dx"}
    for ax, (quantity, label) in zip(axes, labels.items(), strict=True):
        shown = {name: table[table["quantity"] == quantity] for name, table in tables.items()}
        for place, (name, table) in enumerate(shown.items()):
            for images, rows in table.groupby("images", sort=False):
                look = {"color": theme.series(place).color, "linestyle": "-" if images == "held out" else ":"}
                theme.with_band(ax, rows, label=f"{name}, {images}", **look)
        # on training points the memoriser falls to nothing: that much of the axis says nothing
        top = max(float(table["high"].max()) for table in shown.values())
        theme.sigma_axis(ax, yscale="log", ylabel=label, ylim=(1e-4 * top, 2 * top))
    theme.legend_above(figure, axes[0], ncols=3)
    return figure


def _plain_ticks(ax: Axes) -> None:
    """Numbers such as 0.5 in place of powers of ten on a log axis of less than a decade."""
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("{x:.2g}")
