"""Figures of the directions instrument: declared tables in, matplotlib figures out. Nothing is computed here.

    from scorescope.reports.directions import figures

    figures.probe_maps(probe_scan(activations, labels).table)

In this order: probes, steering, sampling, directions, conditions, information, pictures.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from torch import Tensor

from scorescope.reports.directions.study import site_name
from scorescope.reports.page import theme

MARKS = {"steerable": "o", "reversed": "v", "not steerable": "_", "undecided": "$?$", "breaks the image": "x"}
MARK: dict[str, Any] = {"color": "black", "markersize": 4.5, "linestyle": "none"}
OUTLINE = [withStroke(linewidth=2.2, foreground="white")]  # legible on dark colours too
HATCHES = {"steerable": "", "reversed": "xxx", "not steerable": "", "undecided": "////"}
CURVES = {"probe": "probe", "estimate": "estimate", "agreement": "agreement with the end", "switch": "switch"}
PALE = 0.3  # opacity of an effect of which neither is shown that it is there nor that it is not
MAP = "cividis"  # even in lightness, and the same to colour-blind eyes


@theme.styled
def probe_maps(probes: pd.DataFrame, *, quantity: str = "value") -> Figure:
    """Held-out score of a linear probe at every site and noise level, one map an attribute.

    Parameters
    ----------
    probes : DataFrame
        Declared in `PROBES`.
    quantity : str
        "value" or "selectivity".
    """
    names = list(probes["attribute"].unique())
    figure, axes = theme.panels(len(names))
    low, high = (-0.1, 1.0) if quantity == "selectivity" else (0.0, 1.0)
    for ax, name in zip(axes.flat, names, strict=False):
        part = probes[probes["attribute"] == name]
        table = part.pivot(index="site", columns="sigma", values=quantity).loc[part["site"].unique()]
        image = ax.imshow(table.to_numpy(), aspect="auto", cmap=MAP, vmin=low, vmax=high, interpolation="nearest")
        theme.sigma_ticks(ax.xaxis, table.columns.to_numpy(float))
        _rows(ax, map(site_name, table.index))
        ax.set_title(f"{name} (chance {part['chance'].iloc[0]:.2g})" if quantity == "value" else name)
    figure.supxlabel(theme.SIGMA)
    label = "held-out balanced accuracy" if quantity == "value" else "selectivity: accuracy less control task"
    figure.colorbar(image, ax=axes, label=label, shrink=0.8)
    return figure


@theme.styled
def read_and_steer(table: pd.DataFrame) -> Figure:
    """Probe accuracy and steering effect at every site, side by side; effects of which nothing is shown are pale.

    Parameters
    ----------
    table : DataFrame
        Columns attribute, site, accuracy, effect (in natural standard deviations), verdict and within_budget.
    """
    attributes, sites = list(table["attribute"].unique()), list(table["site"].unique())
    size = {"width": max(0.95 * len(attributes) + 2.2, 4.4), "height": 0.24 * len(sites) + 1.3}
    figure, axes = theme.new_figure(**size, ncols=2, sharey=True)
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
        _columns(ax, attributes)
        _rows(ax, map(site_name, sites))
        ax.set_title(title)
    for name, mark in MARKS.items():
        axes[1].plot([], [], marker=mark, label=name, **MARK)
    theme.legend_above(figure, ncols=5, handletextpad=0.1)
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
    figure, axes = theme.new_figure(width=6.6, height=2.7, ncols=2, sharex=True)
    target = curve[curve["target"]]
    for arm, part in target[target["arm"] != "none"].groupby("arm", sort=False):
        look, label = _arm(str(arm))
        _dose_line(axes[0], part, look, label)
    own = curve[curve["arm"] == "direction"]
    for place, (score, part) in enumerate(own.groupby("score", sort=False)):
        _dose_line(axes[1], part, theme.series(place), str(score))
    axes[0].set(title="the target, by arm", ylabel="change of score (natural SD)")
    axes[1].set(title="all scores, along the direction")
    for ax in axes:
        theme.reference_line(ax, 0)
        ax.legend(fontsize=6, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.08))
    figure.supxlabel("strength (standard deviations of the projection)")
    return figure


def _arm(arm: str) -> tuple[theme.Look, str | None]:
    """The look and the label of an arm; of all random ones the first has the label."""
    if arm.startswith("random"):
        return theme.Look(theme.REFERENCE, "", ":"), "random, same norm" if arm == "random 1" else None
    if arm.startswith("shuffled "):
        look = theme.series(1)
        return look, "shuffled labels" if arm == "shuffled 1" else None
    return (theme.series(0) if arm == "direction" else theme.series(1)), arm


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
    names = list(effects["attribute"].unique())
    figure, axes = theme.new_figure(
        width=2.3 * len(names) + 0.6, height=3.6, nrows=2, ncols=len(names), squeeze=False, sharex=True, sharey="row"
    )
    for column, name in enumerate(names):
        cells = probes[probes["attribute"] == name]
        rows = effects[effects["attribute"] == name]
        top, bottom = axes[0, column], axes[1, column]
        theme.with_band(top, cells, y="value", color=theme.PALETTE[0], label="probe")
        theme.reference_line(top, cells["chance"].iloc[0])
        top.set(title=f"{name} at {site_name(rows['site'].iloc[0])}", ylim=(0, 1.03))
        for _, row in rows.iterrows():
            low, high = max(row["sigma_low"], 1e-3), row["sigma_high"]
            look = _look(row["verdict"])
            bottom.fill_between([low, high], row["low"], row["high"], **look, linewidth=0)
            bottom.plot([low, high], [row["margin"]] * 2, color=look["edgecolor"])
        theme.reference_line(bottom, 0)
        bottom.set(xscale="log")
    axes[0, 0].set_ylabel("probe accuracy\n(dotted: chance)")
    axes[1, 0].set_ylabel("effect beyond controls\n(natural SD)")
    figure.supxlabel(theme.SIGMA_LABEL)
    shown = [name for name in HATCHES if (effects["verdict"] == name).any()]
    handles = [Patch(label=name, linewidth=0, **_look(name)) for name in shown]
    figure.legend(handles=handles, ncols=4, loc="outside upper center")
    return figure


def _look(verdict: str) -> dict[str, Any]:
    """Face, edge and hatch of a verdict: what moves has a colour, what is not decided or moves backwards a hatch."""
    color = theme.PALETTE[1] if verdict in ("steerable", "reversed") else theme.REFERENCE
    return {"facecolor": (color, 0.3), "edgecolor": color, "hatch": HATCHES[verdict]}


@theme.styled
def emergence_curves(curves: pd.DataFrame) -> Figure:
    """Probe, estimate, agreement and switch along sampling, one panel an attribute.

    Parameters
    ----------
    curves : DataFrame
        Declared in `EMERGENCE_CURVES`.
    """
    names = list(curves["attribute"].unique())
    figure, axes = theme.panels(len(names))
    for ax, name in zip(axes.flat, names, strict=False):
        part = curves[curves["attribute"] == name]
        for place, (curve, label) in enumerate(CURVES.items()):
            theme.with_band(ax, part[part["curve"] == curve], y="value", label=label, **theme.series(place).line)
        theme.reference_line(ax, 0.5)
        theme.sigma_axis(ax, xlabel="", title=name, ylim=(-0.03, 1.03))
    figure.supxlabel(theme.SIGMA_LABEL)
    figure.supylabel("balanced accuracy\n(switch: share that follows)")
    theme.legend_above(figure, axes[0, 0])
    return figure


@theme.styled
def landmark_ranges(landmarks: pd.DataFrame) -> Figure:
    """Noise levels of each attribute's landmarks, with intervals.

    Parameters
    ----------
    landmarks : DataFrame
        Declared in `LANDMARKS`.
    """
    attributes, kinds = list(landmarks["attribute"].unique()), list(landmarks["landmark"].unique())
    figure, ax = theme.new_figure(width=5.6, height=0.42 * len(attributes) + 1.1)
    for index, kind in enumerate(kinds):
        look, rows = theme.series(index), landmarks[(landmarks["landmark"] == kind) & np.isfinite(landmarks["sigma"])]
        for _, row in rows.iterrows():  # those that were asked and reached
            y = attributes.index(row["attribute"]) + 0.17 * (index - (len(kinds) - 1) / 2)
            ends = np.exp(-np.clip(row[["low", "high"]].to_numpy(float), -12, 12) / 2)
            ax.plot(ends, [y, y], color=look.color, linewidth=1.2)
            ax.plot(row["sigma"], y, look.marker, color=look.color, markersize=4)
        ax.plot([], [], look.marker, color=look.color, markersize=4, label=kind.replace("_", " "))
    _rows(ax, attributes)
    ax.set_ylim(len(attributes) - 0.5, -0.5)
    theme.sigma_axis(ax)
    theme.legend_above(figure)
    return figure


@theme.styled
def readers_and_movers(readers: pd.DataFrame) -> Figure:
    """How well each direction reads against how purely it moves, with 95 % intervals.

    Parameters
    ----------
    readers : DataFrame
        Declared in `READERS`.
    """
    figure, ax = theme.new_figure(height=2.7)
    for place, (method, row) in enumerate(readers.groupby("method", sort=False)):
        look = theme.series(place)
        ax.errorbar(
            row["auc"], row["purity"], xerr=theme.errors(row, "auc"), yerr=theme.errors(row, "purity"), linewidth=1,
            fmt=look.marker, color=look.color, label=method, markersize=5,
        )  # fmt: skip
    ax.set(xlabel="reads: AUC on held-out images", ylabel="moves: share of change on target")
    ax.set_ylim(0, 1.03)
    theme.legend_above(figure, handletextpad=0.3)
    return figure


@theme.styled
def cosine_matrix(steps: pd.DataFrame) -> Figure:
    """Cosines between the directions of every two noise levels.

    Parameters
    ----------
    steps : DataFrame
        Declared in `STEP_COSINES`.
    """
    table = steps.pivot(index="sigma_a", columns="sigma_b", values="crossed")
    values = table.combine_first(table.T).to_numpy(float)
    figure, ax = theme.new_figure(height=3.0)
    image = ax.imshow(values, cmap="PuOr", vmin=-1, vmax=1, origin="lower")
    for axis in (ax.xaxis, ax.yaxis):
        theme.sigma_ticks(axis, table.columns.to_numpy(float))
    ax.set(xlabel=theme.SIGMA, ylabel=theme.SIGMA)
    figure.colorbar(image, ax=ax, label="cosine between directions")
    return figure


@theme.styled
def token_matrix(matrix: pd.DataFrame) -> Figure:
    """Share of each condition token in the change of each score, by noise level.

    Parameters
    ----------
    matrix : DataFrame
        Columns score, sigma, token and share.
    """
    sigmas = sorted(matrix["sigma"].unique(), reverse=True)
    scores, tokens = list(matrix["score"].unique()), list(matrix["token"].unique())
    size = {"width": 2.2 * len(sigmas) + 0.9, "height": 0.3 * len(scores) + 1.2}
    figure, axes = theme.new_figure(**size, ncols=len(sigmas), squeeze=False, sharey=True)
    for ax, sigma in zip(axes[0], sigmas, strict=True):
        part = matrix[matrix["sigma"] == sigma].pivot(index="score", columns="token", values="share")
        image = ax.imshow(part.loc[scores, tokens].to_numpy(float), cmap=MAP, vmin=0, vmax=1, aspect="auto")
        _columns(ax, tokens)
        _rows(ax, scores)
        ax.set_title(f"σ = {sigma:g}")
    axes[0, 0].set_ylabel("score")
    figure.supxlabel("condition token")
    figure.colorbar(image, ax=axes, label="share of the change")
    return figure


@theme.styled
def gap_curves(gaps: pd.DataFrame) -> Figure:
    """Linearity gap of half and whole shifts against the noise level.

    Parameters
    ----------
    gaps : DataFrame
        Declared in `LINEARITY`, with a column `attribute`.
    """
    figure, axes = theme.new_figure(width=5.6, height=2.7, ncols=2, sharex=True, sharey=True)
    for ax, whole in zip(axes, (False, True), strict=True):
        theme.band_each(ax, gaps[(gaps["multiple"] > 0.75) == whole], "attribute", y="gap")
        theme.reference_line(ax, 1)
        theme.sigma_axis(ax, xlabel="", title="whole difference" if whole else "half of it")
    axes[0].set_ylabel("linearity gap (1: as no shift)")
    axes[0].set_ylim(bottom=0)
    figure.supxlabel(theme.SIGMA_LABEL)
    theme.legend_above(figure, axes[0], ncols=6)
    return figure


@theme.styled
def recovery_map(recovery: pd.DataFrame) -> Figure:
    """Normalised recovery by site and noise levels, patched in and taken out.

    Parameters
    ----------
    recovery : DataFrame
        Declared in `RECOVERY`.
    """
    sites = list(recovery["site"].unique())
    spans = recovery[["sigma_low", "sigma_high"]].drop_duplicates().to_numpy(float)
    figure, axes = theme.new_figure(width=6.4, height=0.26 * len(sites) + 1.2, ncols=2, sharey=True)
    for ax, form in zip(axes, ("sufficiency", "necessity"), strict=True):
        part = recovery[recovery["form"] == form]
        values = np.array([[_median(part, site, *span) for span in spans] for site in sites])
        image = ax.imshow(values, aspect="auto", cmap=MAP, vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(values):
            color = "black" if value > 0.6 else "white"
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=color)
        ax.set_xticks(range(len(spans)), [f"{low:.2g} to {high:.2g}" for low, high in spans])
        _rows(ax, map(site_name, sites))
        ax.set_title(form)
    figure.supxlabel("patched at noise levels σ (units of data)")
    figure.colorbar(image, ax=axes, label="median recovery", extend="both")
    return figure


def _median(part: pd.DataFrame, site: str, low: float, high: float) -> float:
    row = part[(part["site"] == site) & (part["sigma_low"] == low) & (part["sigma_high"] == high)]
    return float(row["median"].iloc[0])


@theme.styled
def attribute_losses(curves: pd.DataFrame, *, metric: str) -> Figure:
    """Share of reconstructions nearer to the changed image against the noise level, with the floor of any denoiser.

    Parameters
    ----------
    curves : DataFrame
        Declared in `ATTRIBUTE_LOSS`, with a column `attribute`.
    metric : str
        The feature metric that is drawn beside pixels.
    """
    figure, axes = theme.new_figure(width=6.6, height=2.7, ncols=2, sharey=True, sharex=True)
    for ax, shown in zip(axes, ("pixels", metric), strict=True):
        part = curves[curves["metric"] == shown].sort_values("sigma")
        theme.band_each(ax, part, "attribute", y="error")
        theme.reference_line(ax, 0.25)
        theme.sigma_axis(
            ax, xlabel="", title="by pixel distance" if shown == "pixels" else f"by {shown}", ylim=(0, 0.55)
        )
    pixels = curves[curves["metric"] == "pixels"].sort_values("sigma")
    for place, (_, floor) in enumerate(pixels.groupby("attribute", sort=False)):
        axes[0].plot(floor["sigma"], floor["floor"], color=theme.series(place).color, linewidth=0.8, linestyle=":")
    theme.reference_key(axes[0], "floor: ideal two-point denoiser")
    axes[0].set_ylabel("Err: share taken for the other image")
    figure.supxlabel(theme.SIGMA_LABEL)
    theme.legend_above(figure, axes[0])
    return figure


@theme.styled
def win_rate_curves(rates: pd.DataFrame) -> Figure:
    """How often the true value denoises best, at each noise level alone.

    Parameters
    ----------
    rates : DataFrame
        Declared in `WIN_RATES`, of one foil, with a column `attribute`.
    """
    figure, ax = theme.new_figure(width=4.2, height=2.9)
    theme.band_each(ax, rates, "attribute", y="rate")
    theme.sigma_axis(ax, ylabel="win rate of the true value", ylim=(0, 1.02))
    theme.legend_above(figure, ncols=3)
    return figure


@theme.styled
def information_curves(integrands: pd.DataFrame, entropies: Mapping[str, float]) -> Figure:
    """Information about each attribute, integrated from high noise down, by both estimators.

    Parameters
    ----------
    integrands : DataFrame
        Declared in `INTEGRAND`, with a column `attribute`.
    entropies : mapping of str to float
        Entropy of each attribute, in nats: what an exact denoiser's curves cannot exceed.
    """
    figure, axes = theme.new_figure(width=6.6, height=2.7, ncols=2, sharex=True)
    different = sorted(set(entropies.values()))
    titles = {"log_ratio": "log ratio: difference of losses", "influence": "influence: distance of predictions"}
    for ax, (estimator, title) in zip(axes, titles.items(), strict=True):
        part = integrands[integrands["estimator"] == estimator]
        for place, (name, rows) in enumerate(part.sort_values("sigma").groupby("attribute", sort=False)):
            ax.plot(rows["sigma"], rows["cumulative"], label=str(name), **theme.series(place).line)
        for entropy in different:
            theme.reference_line(ax, entropy)
        theme.sigma_axis(ax, xlabel="", title=title, ylim=(-0.5, max(4.0, 1.2 * max(different))))
    theme.reference_key(axes[0], "entropy: " + ", ".join(f"{entropy:.2f}" for entropy in different))
    axes[0].set_ylabel("nats, from high noise down to σ")
    figure.supxlabel(theme.SIGMA_LABEL)
    theme.legend_above(figure, axes[0])
    return figure


@theme.styled
def influence_maps(images: Tensor, maps: Mapping[str, Tensor]) -> Figure:
    """Where each attribute's condition changes the prediction, image by image, on one colour scale.

    Parameters
    ----------
    images : Tensor, shape (n, channel, y, x)
        In [-1, 1].
    maps : mapping of str to Tensor, shape (n, y, x)
        Nats a pixel, by attribute.
    """
    count, rows = len(images), len(maps) + 1
    figure, axes = theme.new_figure(
        width=0.75 * count + 1.4, height=0.75 * rows + 0.3, nrows=rows, ncols=count, squeeze=False
    )
    top = float(np.quantile(np.stack([np.asarray(found) for found in maps.values()]), 0.995))
    _pictures(axes[0], images, "image")
    for line, (name, found) in zip(axes[1:], maps.items(), strict=True):
        for ax, values in zip(line, np.asarray(found), strict=True):
            drawn = ax.imshow(values, cmap=MAP, vmin=0, vmax=max(top, 1e-9))
            theme.without_axes(ax)
        theme.label_row(line[0], name)
    figure.colorbar(drawn, ax=axes[1:], label="influence (nats a pixel)", shrink=0.7, extend="max")
    return figure


@theme.styled
def picture_rows(rows: Mapping[str, Tensor], columns: Sequence[str], *, xlabel: str = "") -> Figure:
    """Strips of images: one row a setting, one column a value.

    Parameters
    ----------
    rows : mapping of str to Tensor, shape (columns, channel, y, x)
        Images in [-1, 1] by the row's label.
    columns : sequence of str
        Label of each column.
    xlabel : str
        What the columns are.
    """
    figure, axes = theme.new_figure(
        width=0.72 * len(columns) + 1.3, height=0.74 * len(rows) + 0.5, nrows=len(rows), ncols=len(columns),
        squeeze=False,
    )  # fmt: skip
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        _pictures(line, images, name)
    for ax, label in zip(axes[0], columns, strict=True):
        ax.set_title(label, fontsize=7, pad=2)
    if xlabel:
        figure.supxlabel(xlabel)
    return figure


def _pictures(line: Sequence[Axes], images: Tensor, label: str) -> None:
    for ax, image in zip(line, images, strict=True):
        theme.show_picture(ax, ((image.float().clamp(-1, 1) + 1) / 2).permute(1, 2, 0).cpu().numpy())
    theme.label_row(line[0], label)


def _rows(ax: Axes, names: Iterable[str]) -> None:
    """Names of the rows of a map."""
    names = list(names)
    ax.set_yticks(range(len(names)), names)


def _columns(ax: Axes, names: Sequence[str]) -> None:
    """Names of the columns of a map."""
    ax.set_xticks(range(len(names)), names, rotation=40, ha="right")
