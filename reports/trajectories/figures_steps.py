"""Figures of paths and of single steps: how paths bend, when samples are decided, which steps matter."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scorescope.data.doors import require_some
from scorescope.reports.page import theme

BENDS = {
    "flow_state_turn": "turn of x / (1 + σ)\na step (degrees)",
    "denoised_turn": "turn of D\na step (degrees)",
    "denoised_acceleration": "RMS of d²D / d (ln σ)²\n(units of data)",
}
NUMBERS = {
    "arc": "length / chord", "rank": "stable rank", "directions": "directions of 99 %",
    "bundle_rank": "stable rank, bundle", "bundle_directions": "directions of 99 %, bundle",
    "relative_straightness": "flow straightness",
}  # fmt: skip
CURVES = {"state": "x", "flow_state": "x / (1 + σ)", "denoised": "D"}


@theme.styled
def path_bends(table: pd.DataFrame) -> Figure:
    """Turns a step of a flow's state and of the prediction, and the acceleration of the prediction, against sigma.

    Parameters
    ----------
    table : DataFrame
        From `analysis.trajectories.path_geometry`; of a column `path` the values are lines, a Gaussian's beside.
    """
    require_some("table", table)
    figure, axes = theme.new_figure(5.4, nrows=len(BENDS), sharex=True)
    table = table if "path" in table else table.assign(path="")
    for ax, (quantity, label) in zip(axes, BENDS.items(), strict=True):
        rows = theme.rows_where(table, "quantity", quantity, argument="table")
        for place, (name, part) in enumerate(rows.groupby("path", sort=False)):
            theme.with_band(ax, part, label=theme.literal(str(name)) or None, **theme.series(place).line)
        ax.set_ylabel(label, multialignment="center")
        theme.log_if_wide(ax)
    theme.sigma_axis(axes[-1])
    if table["path"].iloc[0]:
        theme.legend_above(figure, axes[0])
    return figure


@theme.styled
def path_numbers(table: pd.DataFrame) -> Figure:
    """Lengths, ranks and straightness of paths, each beside that of a Gaussian of equal covariance.

    Parameters
    ----------
    table : DataFrame
        From `analysis.trajectories.path_shape`.
    """
    require_some("table", table)
    shown = [quantity for quantity in NUMBERS if quantity in set(table["quantity"])]
    sides = [("mean", 0.12, theme.series(0), "paths"), ("gaussian", -0.12, theme.series(1), "Gaussian")]
    sides = sides if table["gaussian"].notna().any() else sides[:1]
    figure, axes = theme.panels(len(shown), height=1.4, least=2.0, more=0.6, sharex=False, sharey=False)
    for ax, quantity in zip(axes, shown, strict=True):
        rows = table[table["quantity"] == quantity]
        places = np.arange(len(rows))
        for y, side, look, label in sides:
            known = rows if y == "gaussian" else rows.drop(columns=["gaussian_low", "gaussian_high"])
            ax.errorbar(
                rows[y], places + side, xerr=theme.errors(known, y), marker=look.marker, linestyle="none",
                color=look.color, label=label,
            )  # fmt: skip
        ax.set(yticks=places, yticklabels=[CURVES[curve] for curve in rows["curve"]], ylim=(len(rows) - 0.5, -0.5))
        ax.set_xlabel(NUMBERS[quantity])
        theme.few_ticks(ax)
    theme.legend_above(figure, axes[0])
    return figure


@theme.styled
def decided_when(table: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """What is left between the prediction and the last one against sigma, whole, by band and by class.

    Parameters
    ----------
    table : DataFrame
        From `analysis.trajectories.decisions`.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    require_some("table", table)
    figure, ax = theme.new_figure(2.9, ax=ax)
    for place, (_, rows) in enumerate(table.groupby(["quantity", "low_frequency"], sort=False, dropna=False)):
        theme.with_band(ax, rows, y="left", label=_part(rows.iloc[0]), **theme.series(place).line)
    theme.sigma_axis(ax, ylabel="distance from the last D\nover that of the first", ylim=(0, None), xlabel=theme.SIGMA)
    theme.legend(ax)
    return figure


def _part(row: pd.Series) -> str:
    """What a line of `decided_when` is of."""
    if row["quantity"] == "class":
        return "share of another class"
    if row["quantity"] == "whole":
        return "all frequencies"
    high = row["high_frequency"]
    return f"from {row['low_frequency']:.3g}" if np.isinf(high) else f"{row['low_frequency']:.3g} to {high:.3g} cycles"


@theme.styled
def step_damages(table: pd.DataFrame) -> Figure:
    """Damage of changed steps, means and medians over samples, above proxies over their largest value, by step.

    Parameters
    ----------
    table : DataFrame
        From `analysis.steps.step_damage`.
    """
    figure, (top, bottom) = theme.new_figure(4.6, nrows=2, sharex=True)
    for ax, kind in ((top, "damage"), (bottom, "proxy")):
        rows = theme.rows_where(table, "kind", kind, argument="table")
        for place, (name, part) in enumerate(rows.groupby("name", sort=False)):
            scale = 1.0 if kind == "damage" else part["mean"].max()
            scaled = part.assign(**{one: part[one] / scale for one in ("mean", "low", "high")})
            label = str(name) if kind == "damage" else f"proxy: {name}"
            theme.with_band(ax, scaled, x="step", label=theme.literal(label), **theme.series(place).line)
            if kind == "damage":
                ax.plot(part["step"], part["median"], color=theme.series(place).color, linestyle=":", linewidth=0.8)
        if kind == "damage":
            theme.reference_key(ax, "dotted: medians")
        theme.key_as_title(ax, "")
    theme.log_if_wide(top)
    top.set_ylabel("damage to the end sample\n(RMS, units of data)", multialignment="center")
    bottom.locator_params(axis="x", integer=True)
    bottom.set(ylabel="proxy over its largest", xlabel="step that is changed", ylim=(0, None))
    return figure


@theme.styled
def affinity_matrix(table: pd.DataFrame, *, quantity: str = "agreement", ax: Axes | None = None) -> Figure:
    """Cosines of training gradients between noise levels, as a matrix; grey where they are missing.

    Parameters
    ----------
    table : DataFrame
        From `analysis.steps.gradient_affinity`.
    quantity : {"agreement", "cosine"}
        What is shown: without or with the noise of the gradients.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    require_some("table", table)
    both = pd.concat([table, table.rename(columns={"sigma": "sigma_other", "sigma_other": "sigma"})])
    values = both.drop_duplicates(["sigma", "sigma_other"]).pivot(index="sigma", columns="sigma_other", values=quantity)
    figure, ax = theme.new_figure(3.0, ax=ax)
    ax.set_facecolor("0.8")
    image = ax.imshow(values.to_numpy(float), cmap="PuOr", vmin=-1, vmax=1, origin="lower")
    for axis in (ax.xaxis, ax.yaxis):
        theme.sigma_ticks(axis, values.index.to_numpy(float))
    ax.set(xlabel=theme.SIGMA, ylabel=theme.SIGMA)
    figure.colorbar(image, ax=ax, label=f"{quantity} of gradients")
    return figure


@theme.styled
def variance_bias(table: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Relative bias of the states' variance against sigma, and what the solver alone does on a Gaussian.

    Parameters
    ----------
    table : DataFrame
        From `analysis.trajectories.moment_bias`.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    rows = theme.rows_where(table, "quantity", "variance", argument="table")
    figure, ax = theme.new_figure(2.7, ax=ax)
    theme.with_band(ax, rows, color=theme.HIGHLIGHT, label="states of the run")
    if rows["gaussian"].notna().any():
        ordered = rows.sort_values("sigma")
        ax.plot(
            ordered["sigma"], ordered["gaussian"], color=theme.PALETTE[0], linestyle="--", label="Gaussian, same solver"
        )
    theme.reference_line(ax, 0.0, "the schedule's")
    theme.sigma_axis(ax, ylabel="variance of the state\nover the schedule's, less 1", xlabel=theme.SIGMA)
    theme.legend(ax)
    return figure


@theme.styled
def effective_levels(table: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Noise level that the network finds in states over the one that they are given, against sigma.

    Parameters
    ----------
    table : DataFrame
        From `analysis.trajectories.effective_noise`.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    require_some("table", table)
    figure, ax = theme.new_figure(2.7, ax=ax)
    theme.with_band(ax, table, y="level", color=theme.HIGHLIGHT, label="level at which the estimate is what is told")
    ordered, label = table.sort_values("sigma"), "estimate at the level of the run"
    ax.plot(ordered["sigma"], ordered["ratio"], color=theme.PALETTE[0], linestyle="--", label=label)
    theme.reference_line(ax, 1.0, "the level of the run")
    theme.sigma_axis(ax, ylabel="effective level over σ", xlabel=theme.SIGMA)
    theme.legend(ax)
    return figure


@theme.styled
def proxy_dots(table: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """Rank correlation of each proxy with the damage of each change.

    Parameters
    ----------
    table : DataFrame
        From `analysis.steps.proxy_ranks`.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    require_some("table", table)
    proxies, changes = list(table["proxy"].unique()), list(table["change"].unique())
    figure, ax = theme.new_figure(0.32 * len(proxies) + 1.3, ax=ax)
    for place, change in enumerate(changes):
        rows, look = table[table["change"] == change], theme.series(place)
        sides = [proxies.index(one) + 0.5 * (place + 0.5) / len(changes) - 0.25 for one in rows["proxy"]]
        ax.errorbar(
            rows["rank"], sides, xerr=theme.errors(rows, "rank"), marker=look.marker, linestyle="none",
            color=look.color, label=theme.literal(str(change)),
        )  # fmt: skip
    names = [theme.literal(str(one)) for one in proxies]
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5), xlim=(-1.05, 1.05))
    ax.set(xlabel="rank correlation with the damage", ylabel="proxy")
    theme.legend(ax)
    return figure


@theme.styled
def consistency(table: pd.DataFrame, *, ax: Axes | None = None) -> Figure:
    """How far the answers of a few-step model are from each other, and from the end, along a teacher's path.

    Parameters
    ----------
    table : DataFrame
        From `analysis.steps.consistency_errors`.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    figure, ax = theme.new_figure(2.7, ax=ax)
    for place, (quantity, label) in enumerate((("end", "from the end of the path"), ("next", "from the next answer"))):
        rows = theme.rows_where(table, "quantity", quantity, argument="table")
        theme.with_band(ax, rows, label=label, **theme.series(place).line)
    theme.log_if_wide(ax)
    theme.sigma_axis(ax, ylabel="RMS distance of an answer\n(units of data)", xlabel=theme.SIGMA)
    theme.legend(ax)
    return figure
