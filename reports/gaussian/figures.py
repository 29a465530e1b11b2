"""Figures of the Gaussian-score instrument: declared tables in, matplotlib figures out. Nothing is computed here."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scorescope.reports.page.theme import PALETTE, REFERENCE, SIGMA_LABEL, new_figure, shades, styled, with_band

FRACTION = "centred unexplained fraction"
LAW_COLORS = (0, 1, 2, 3, 4, 7, 9, 5, 6, 8)  # of the palette; neighbours far apart
STYLES = ("-", "--", "-.", ":")


@styled
def law_fractions(scores: pd.DataFrame, regimes: pd.DataFrame, *, constant: float, gaussian: str) -> Figure:
    """Centred unexplained fraction of every law against sigma, with the far-field line and the network's own error.

    Parameters
    ----------
    scores : DataFrame
        From `compare_scores`.
    regimes : DataFrame
        From `regimes`, for the same query: where the laws agree is shaded.
    constant : float
        From `far_field_constant`.
    gaussian : str
        Name of the Gaussian, which is drawn thicker.
    """
    figure, ax = new_figure(width=4.6, height=3.4)
    centred = scores[scores["metric"] == "centred"]
    for index, (name, rows) in enumerate(centred.groupby("approximation", sort=False)):
        width = 2.2 if name == gaussian else 1.2
        style = STYLES[0 if name == gaussian else index % 2]
        with_band(ax, _banded(rows), color=_color(index), label=str(name), linewidth=width, linestyle=style)
    levels = np.sort(centred["sigma"].unique())
    far = levels[levels >= np.sqrt(constant)]
    ax.plot(far, constant / far**2, color="black", linestyle=":", label="Gaussian against the data: $c/\\sigma^2$")
    own = regimes.loc[regimes["network_error"], "sigma"]
    if len(own):
        ax.axvspan(
            own.min(), levels.max(), color=REFERENCE, alpha=0.12, linewidth=0, label="laws agree: network's error"
        )
    ax.set(xscale="log", yscale="log", xlabel=SIGMA_LABEL, ylabel=FRACTION, ylim=(1e-4, 2))
    figure.legend(ncols=3, loc="outside upper center", columnspacing=1.0)
    return figure


@styled
def metrics(scores: pd.DataFrame, *, gaussian: str) -> Figure:
    """One disagreement, three metrics, two averages: the Gaussian's unexplained fraction."""
    figure, ax = new_figure(height=2.9)
    rows = scores[scores["approximation"] == gaussian]
    for index, metric in enumerate(("centred", "denoised", "score")):
        part = rows[rows["metric"] == metric]
        with_band(ax, _banded(part), color=PALETTE[index], label=f"{metric}, ratio of sums")
        other = part.sort_values("sigma")
        ax.plot(other["sigma"], other["mean_of_ratios"], color=PALETTE[index], linestyle=":", linewidth=1)
    ax.plot([], [], color=REFERENCE, linestyle=":", label="mean of ratios")
    ax.set(xscale="log", yscale="log", xlabel=SIGMA_LABEL, ylabel="unexplained fraction, Gaussian")
    ax.legend(loc="best")
    return figure


@styled
def queries(scores: pd.DataFrame, *, names: Sequence[str]) -> Figure:
    """The same fractions at different points: training, held-out, pure noise, on the path."""
    figure, axes = new_figure(width=7.0, height=2.6, ncols=len(names), sharey=True, squeeze=False)
    centred = scores[scores["metric"] == "centred"]
    for ax, name in zip(axes[0], names, strict=True):
        for index, (query, rows) in enumerate(centred[centred["approximation"] == name].groupby("query", sort=False)):
            label = str(query).replace("_", " ")
            with_band(ax, _banded(rows), color=PALETTE[index], label=label, linestyle=STYLES[index])
        ax.set(xscale="log", yscale="log", title=name, xlabel="noise level σ (units of data)")
    axes[0][0].set_ylabel(FRACTION)
    axes[0][0].legend(loc="best", title="asked at")
    return figure


@styled
def path_errors(errors: pd.DataFrame, candidates: pd.DataFrame) -> Figure:
    """Error of the closed form along the path: state and prediction, and what the data alone predict for the state."""
    figure, ax = new_figure(height=2.9)
    for index, (quantity, label) in enumerate((("state", "state"), ("denoised", "prediction"))):
        rows = _banded(errors[errors["quantity"] == quantity])
        with_band(ax, rows[rows["sigma"] < rows["sigma"].max()], color=PALETTE[index], label=f"{label}, measured")
    rows = candidates[candidates["predicted_error"] < 1].sort_values("sigma")
    ax.plot(rows["sigma"], rows["predicted_error"], color="black", linestyle=":", label="state, from the data alone")
    ax.set(xscale="log", yscale="log", xlabel=SIGMA_LABEL, ylabel="relative squared error", ylim=(1e-9, 3))
    ax.legend(loc="best")
    return figure


@styled
def emergence(amplitudes: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """How each eigen-mode of the prediction grows, and where it is there against the closed form's place."""
    figure, (left, right) = new_figure(width=7.0, height=2.8, ncols=2)
    modes = sorted(amplitudes["mode"].unique())
    for mode, color in zip(modes, shades(PALETTE[0], len(modes))[::-1], strict=True):
        rows = amplitudes[amplitudes["mode"] == mode].sort_values("sigma")
        left.plot(
            rows["sigma"],
            rows["network"],
            color=color,
            label=f"mode {mode}" if mode in modes[:: len(modes) - 1] else None,
        )
        left.plot(rows["sigma"], rows["gaussian"], color=color, linestyle=":", linewidth=1)
    left.plot([], [], color=REFERENCE, linestyle=":", label="closed form")
    left.axhline(0.5**0.5, color=REFERENCE, linewidth=0.7)
    left.set(xscale="log", xlabel=SIGMA_LABEL, ylabel="size along the mode / final size", ylim=(0, 1.3))
    left.legend(loc="best")
    known = table.dropna(subset=["sigma_network"])
    spread = np.abs(known[["low", "high"]].to_numpy().T - known["sigma_network"].to_numpy())
    right.errorbar(
        known["sqrt_eigenvalue"],
        known["sigma_network"],
        yerr=spread,
        fmt="o",
        markersize=3,
        color=PALETTE[0],
        capsize=2,
    )
    ends = [known["sqrt_eigenvalue"].min(), known["sqrt_eigenvalue"].max()]
    right.plot(ends, ends, color=REFERENCE, linestyle=":", label="closed form: σ = √λ")
    right.set(
        xscale="log", yscale="log", xlabel="√λ of the mode (units of data)", ylabel="σ at 0.707 of the final size"
    )
    _plain_ticks(right)
    right.legend(loc="best")
    return figure


@styled
def skips(table: pd.DataFrame) -> Figure:
    """Error of the end samples against the skip, for both ways to spend it."""
    solvers = list(table["solver"].unique())
    figure, axes = new_figure(width=7.0, height=2.9, ncols=len(solvers), sharey=True, squeeze=False)
    for ax, solver in zip(axes[0], solvers, strict=True):
        rows = table[table["solver"] == solver]
        for index, (steps, part) in enumerate(rows.groupby("steps")):
            for spent, group in part.groupby("spent"):
                group = group.sort_values("sigma_skip")
                style = "-" if str(spent).startswith("same calls") else "--"
                line = {"color": PALETTE[index], "linestyle": style, "label": f"{steps} steps: {spent}"}
                ax.plot(group["sigma_skip"], group["median"], marker="o", markersize=3, **line)
        ax.set(xscale="log", yscale="log", title=solver, xlabel="σ at which the network takes over")
    axes[0][0].set_ylabel("squared error of end samples,\nmedian, relative")
    figure.legend(*axes[0][0].get_legend_handles_labels(), ncols=2, loc="outside upper center")
    return figure


@styled
def gains(table: pd.DataFrame) -> Figure:
    """By how much a schedule inflates each mode's standard deviation, no network needed."""
    figure, ax = new_figure()
    for index, ((solver, calls), rows) in enumerate(table.groupby(["solver", "calls"], sort=False)):
        rows = rows.sort_values("eigenvalue")
        ax.plot(
            rows["eigenvalue"], 100 * rows["relative_error"], color=PALETTE[index], label=f"{solver}, {calls} calls"
        )
    ax.axhline(0, color=REFERENCE, linewidth=0.7)
    ax.set(xscale="log", xlabel="variance of the mode (units of data²)", ylabel="error of its standard deviation, %")
    ax.set_yscale("symlog", linthresh=1)
    ax.set_yticks([-10, -1, 0, 1, 10], ["−10", "−1", "0", "1", "10"])
    figure.legend(ncols=2, loc="outside upper center")
    return figure


@styled
def dynamics(table: pd.DataFrame, *, names: Sequence[str], sigmas: Sequence[float]) -> Figure:
    """Centred unexplained fraction against the training step, a line a noise level, a panel a law."""
    figure, axes = new_figure(width=7.0, height=2.7, ncols=len(names), sharey=True, squeeze=False)
    centred = table[table["metric"] == "centred"]
    for ax, name in zip(axes[0], names, strict=True):
        for sigma, color in zip(sigmas, shades(PALETTE[0], len(sigmas))[::-1], strict=True):
            rows = centred[(centred["approximation"] == name) & np.isclose(centred["sigma"], sigma)]
            with_band(
                ax, _banded(rows), x="training_step", color=color, label=f"σ = {sigma:g}", marker="o", markersize=3
            )
        ax.set(xscale="log", yscale="log", title=name, xlabel="training step")
    axes[0][0].set_ylabel(FRACTION)
    axes[0][-1].legend(loc="best")
    return figure


@styled
def memorisation(tables: dict[str, pd.DataFrame]) -> Figure:
    """Error and trace of the Jacobian on training and held-out points, for each denoiser."""
    figure, axes = new_figure(width=7.0, height=2.8, ncols=2)
    for ax, quantity, label in zip(
        axes, ("error", "trace"), ("squared error an element (units of data²)", "trace of dD/dx"), strict=True
    ):
        for index, (name, table) in enumerate(tables.items()):
            for images, rows in table[table["quantity"] == quantity].groupby("images", sort=False):
                style = "-" if images == "held out" else ":"
                with_band(ax, rows, color=PALETTE[index], label=f"{name}, {images}", linestyle=style)
        # on training points the memoriser falls to nothing: that much of the axis says nothing
        top = max(float(table.loc[table["quantity"] == quantity, "high"].max()) for table in tables.values())
        ax.set(xscale="log", yscale="log", xlabel=SIGMA_LABEL, ylabel=label, ylim=(1e-4 * top, 2 * top))
    figure.legend(*axes[0].get_legend_handles_labels(), ncols=3, loc="outside upper center")
    return figure


def _banded(rows: pd.DataFrame) -> pd.DataFrame:
    """The ratio of sums and its interval under the names that `with_band` draws."""
    names = {"ratio_of_sums": "mean", "ratio_of_sums_low": "low", "ratio_of_sums_high": "high"}
    return rows.rename(columns=names)


def _color(index: int) -> str:
    return str(PALETTE[LAW_COLORS[index % len(LAW_COLORS)]])


def _plain_ticks(ax: Axes) -> None:
    """Numbers such as 0.5 in place of powers of ten on a log axis of less than a decade."""
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("{x:.2g}")
