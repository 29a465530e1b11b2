"""Figures of the directions instrument: declared tables in, matplotlib figures out. Nothing is computed here."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from torch import Tensor

from scorescope.reports.page.theme import PALETTE, REFERENCE, SIGMA_LABEL, new_figure, styled, with_band

STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKS = {"steerable": "o", "reversed": "v", "not steerable": "_", "undecided": "$?$", "breaks the image": "x"}
MARK: dict[str, Any] = {"color": "black", "markersize": 4.5, "linestyle": "none"}
OUTLINE = [withStroke(linewidth=2.2, foreground="white")]  # legible on dark colours too
HATCHES = {"steerable": "", "reversed": "xxx", "not steerable": "", "undecided": "////"}
MAP = "cividis"  # even in lightness, and the same to colour-blind eyes


@styled
def probe_maps(probes: pd.DataFrame, *, quantity: str = "value", columns: int = 3) -> Figure:
    """Held-out score of a linear probe at every site and noise level, one map an attribute.

    Parameters
    ----------
    probes : DataFrame
        Declared in `PROBES`.
    quantity : str
        "value" or "selectivity".
    columns : int
        Maps beside each other.
    """
    names = list(probes["attribute"].unique())
    rows = -(-len(names) // columns)
    columns = min(columns, len(names))
    figure, axes = new_figure(
        width=2.3 * columns + 0.9, height=max(1.9 * rows + 0.3, 2.6), nrows=rows, ncols=columns, squeeze=False,
        sharex=True, sharey=True,
    )  # fmt: skip
    low, high = (-0.1, 1.0) if quantity == "selectivity" else (0.0, 1.0)
    image = None
    for ax, name in zip(axes.flat, names, strict=False):
        part = probes[probes["attribute"] == name]
        table = part.pivot(index="site", columns="sigma", values=quantity).loc[part["site"].unique()]
        image = ax.imshow(table.to_numpy(), aspect="auto", cmap=MAP, vmin=low, vmax=high, interpolation="nearest")
        _sigma_ticks(ax, table.columns.to_numpy(float))
        ax.set_yticks(range(len(table)), [_short(site) for site in table.index])
        ax.set_title(f"{name} (chance {part['chance'].iloc[0]:.2g})" if quantity == "value" else name)
    _close_grid(axes, len(names))
    figure.supxlabel("noise level σ (units of data)", fontsize=8)
    label = "held-out balanced accuracy" if quantity == "value" else "selectivity: accuracy less control task"
    assert image is not None  # there is at least one attribute
    figure.colorbar(image, ax=axes, label=label, shrink=0.8)
    return figure


@styled
def read_and_steer(table: pd.DataFrame) -> Figure:
    """Probe accuracy and steering effect at every site, side by side.

    Parameters
    ----------
    table : DataFrame
        Columns attribute, site, accuracy, effect (in natural standard deviations), verdict and within_budget.
    """
    attributes, sites = list(table["attribute"].unique()), list(table["site"].unique())
    size = {"width": max(0.95 * len(attributes) + 2.2, 4.4), "height": 0.24 * len(sites) + 1.3}
    figure, axes = new_figure(**size, ncols=2, sharey=True)
    accuracy = table.pivot(index="site", columns="attribute", values="accuracy").loc[sites, attributes]
    effect = table.pivot(index="site", columns="attribute", values="effect").loc[sites, attributes].to_numpy(float)
    read = axes[0].imshow(accuracy.to_numpy(float), aspect="auto", cmap=MAP, vmin=0, vmax=1)
    inside = np.abs(table.loc[table["within_budget"], "effect"])  # broken images would leave the others no colour
    top = float((inside if len(inside) else table["effect"].abs()).max()) or 1.0
    moved = axes[1].imshow(effect, aspect="auto", cmap="PuOr", vmin=-top, vmax=top)
    for _, row in table.iterrows():
        place = attributes.index(row["attribute"]), sites.index(row["site"])
        axes[1].plot(*place, marker=_mark(row), path_effects=OUTLINE, **MARK)
    for ax, title in zip(axes, ("readable", "steerable"), strict=True):
        ax.set_xticks(range(len(attributes)), attributes, rotation=40, ha="right")
        ax.set_yticks(range(len(sites)), [_short(site) for site in sites])
        ax.set_title(title)
    for name, mark in MARKS.items():
        axes[1].plot([], [], marker=mark, label=name, **MARK)
    figure.legend(ncols=5, loc="outside upper center", columnspacing=1.0, handletextpad=0.1)
    figure.colorbar(read, ax=axes[0], label="probe accuracy", shrink=0.9)
    figure.colorbar(moved, ax=axes[1], label="effect (natural SD)", shrink=0.9, extend="both")
    return figure


def _mark(row: "pd.Series[Any]") -> str:
    """Verdict and budget as a mark: what breaks the image is not shown to move the attribute, nor to leave it."""
    if row["within_budget"]:
        return MARKS[row["verdict"]]
    return MARKS["breaks the image"] if row["verdict"] in ("steerable", "reversed") else MARKS["undecided"]


@styled
def dose_response(curve: pd.DataFrame) -> Figure:
    """Change of the target against strength in every arm, and of all scores in the direction's own arm.

    Parameters
    ----------
    curve : DataFrame
        Declared in `STEER_CURVE`, of one interval of noise levels.
    """
    figure, axes = new_figure(width=6.6, height=2.7, ncols=2, sharex=True)
    target = curve[curve["target"]]
    for arm, part in target[target["arm"] != "none"].groupby("arm", sort=False):
        random = str(arm).startswith("random")
        color = REFERENCE if random else PALETTE[0 if arm == "direction" else 1]
        label = "random, same norm" if random and arm == "random 1" else None if random else str(arm)
        _dose_line(axes[0], part, color, label, "-" if arm == "direction" else ":" if random else "--")
    own = curve[curve["arm"] == "direction"]
    for index, (score, part) in enumerate(own.groupby("score", sort=False)):
        _dose_line(axes[1], part, PALETTE[index % len(PALETTE)], str(score), STYLES[index % len(STYLES)])
    axes[0].set(title="the target, by arm", ylabel="change of score (natural SD)")
    axes[1].set(title="all scores, along the direction")
    for ax in axes:
        ax.axhline(0, color=REFERENCE, linewidth=0.6)
        ax.legend(fontsize=6, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.08))
    figure.supxlabel("strength (standard deviations of the projection)", fontsize=8)
    return figure


def _dose_line(ax: Axes, part: pd.DataFrame, color: str, label: str | None, style: object) -> None:
    part = part.sort_values("strength")
    zero = pd.DataFrame({"strength": [0.0], "value": [0.0], "low": [0.0], "high": [0.0]})
    part = pd.concat([part[zero.columns], zero]).drop_duplicates("strength").sort_values("strength")
    ax.plot(part["strength"], part["value"], color=color, label=label, linestyle=style)
    ax.fill_between(part["strength"], part["low"], part["high"], color=color, alpha=0.15, linewidth=0)


@styled
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
    figure, axes = new_figure(
        width=2.3 * len(names) + 0.6, height=3.6, nrows=2, ncols=len(names), squeeze=False, sharex=True, sharey="row"
    )
    for column, name in enumerate(names):
        cells = probes[probes["attribute"] == name].rename(columns={"value": "mean"})
        rows = effects[effects["attribute"] == name]
        top, bottom = axes[0, column], axes[1, column]
        with_band(top, cells, color=PALETTE[0], label="probe")
        top.axhline(cells["chance"].iloc[0], color=REFERENCE, linestyle=":", linewidth=0.8)
        top.set(title=f"{name} at {_short(rows['site'].iloc[0])}", ylim=(0, 1.03))
        for _, row in rows.iterrows():
            low, high = max(row["sigma_low"], 1e-3), row["sigma_high"]
            look = _look(row["verdict"])
            bottom.fill_between([low, high], row["low"], row["high"], **look, linewidth=0)
            bottom.plot([low, high], [row["margin"]] * 2, color=look["edgecolor"])
        bottom.axhline(0, color=REFERENCE, linewidth=0.6)
        bottom.set(xscale="log")
    axes[0, 0].set_ylabel("probe accuracy\n(dotted: chance)")
    axes[1, 0].set_ylabel("effect beyond controls\n(natural SD)")
    figure.supxlabel(SIGMA_LABEL, fontsize=8)
    shown = [name for name in HATCHES if (effects["verdict"] == name).any()]
    handles = [Patch(label=name, linewidth=0, **_look(name)) for name in shown]
    figure.legend(handles=handles, ncols=4, loc="outside upper center")
    return figure


def _look(verdict: str) -> dict[str, Any]:
    """Face, edge and hatch of a verdict: what moves has a colour, what is not decided or moves backwards a hatch."""
    color = PALETTE[1] if verdict in ("steerable", "reversed") else REFERENCE
    return {"facecolor": (color, 0.3), "edgecolor": color, "hatch": HATCHES[verdict]}


@styled
def emergence_curves(curves: pd.DataFrame, *, columns: int = 3) -> Figure:
    """Probe, estimate, agreement and switch along sampling, one panel an attribute.

    Parameters
    ----------
    curves : DataFrame
        Declared in `EMERGENCE_CURVES`.
    columns : int
        Panels beside each other.
    """
    names = list(curves["attribute"].unique())
    rows = -(-len(names) // columns)
    columns = min(columns, len(names))
    size = {"width": max(2.2 * columns + 0.4, 4.6), "height": max(1.75 * rows + 0.6, 2.6)}  # the legend has to fit
    figure, axes = new_figure(**size, nrows=rows, ncols=columns, squeeze=False, sharex=True, sharey=True)
    labels = {"probe": "probe", "estimate": "estimate", "agreement": "agreement with the end", "switch": "switch"}
    for ax, name in zip(axes.flat, names, strict=False):
        part = curves[curves["attribute"] == name].rename(columns={"value": "mean"})
        for index, (curve, label) in enumerate(labels.items()):
            line = part[part["curve"] == curve]
            with_band(ax, line, color=PALETTE[index], label=label, linestyle=STYLES[index])
        ax.axhline(0.5, color=REFERENCE, linewidth=0.6, linestyle=":")
        ax.set(xscale="log", title=name, ylim=(-0.03, 1.03))
    _close_grid(axes, len(names))
    figure.supxlabel(SIGMA_LABEL, fontsize=8)
    figure.supylabel("balanced accuracy\n(switch: share that follows)", fontsize=8)
    handles, texts = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, texts, ncols=4, loc="outside upper center")
    return figure


@styled
def landmark_ranges(landmarks: pd.DataFrame) -> Figure:
    """Noise levels of each attribute's landmarks, with intervals.

    Parameters
    ----------
    landmarks : DataFrame
        Declared in `LANDMARKS`.
    """
    attributes, kinds = list(landmarks["attribute"].unique()), list(landmarks["landmark"].unique())
    figure, ax = new_figure(width=5.6, height=0.42 * len(attributes) + 1.1)
    markers = ("o", "s", "^", "D")
    for place, attribute in enumerate(attributes):
        for index, kind in enumerate(kinds):
            rows = landmarks[(landmarks["attribute"] == attribute) & (landmarks["landmark"] == kind)]
            rows = rows[np.isfinite(rows["sigma"])]
            if rows.empty:  # not asked of this attribute, or not reached
                continue
            row, color = rows.iloc[0], PALETTE[index]
            y = place + 0.17 * (index - (len(kinds) - 1) / 2)
            ends = np.exp(-np.clip(row[["low", "high"]].to_numpy(float), -12, 12) / 2)
            ax.plot(ends, [y, y], color=color, linewidth=1.2)
            ax.plot(row["sigma"], y, markers[index % 4], color=color, markersize=4)
    for index, kind in enumerate(kinds):
        ax.plot([], [], markers[index % 4], color=PALETTE[index], markersize=4, label=kind.replace("_", " "))
    ax.set_yticks(range(len(attributes)), attributes)
    ax.set_ylim(len(attributes) - 0.5, -0.5)
    ax.set(xscale="log", xlabel=SIGMA_LABEL)
    figure.legend(ncols=4, loc="outside upper center")
    return figure


@styled
def readers_and_movers(readers: pd.DataFrame) -> Figure:
    """How well each direction reads against how purely it moves, with 95 % intervals.

    Parameters
    ----------
    readers : DataFrame
        Declared in `READERS`.
    """
    figure, ax = new_figure(height=2.7)
    for index, (_, row) in enumerate(readers.iterrows()):
        style = {"fmt": "osD^v"[index % 5], "color": PALETTE[index], "label": row["method"], "markersize": 5}
        x, y = ([[row[name] - row[f"{name}_low"]], [row[f"{name}_high"] - row[name]]] for name in ("auc", "purity"))
        ax.errorbar(row["auc"], row["purity"], xerr=np.maximum(x, 0), yerr=np.maximum(y, 0), linewidth=1, **style)
    ax.set(xlabel="reads: AUC on held-out images", ylabel="moves: share of change on target")
    ax.set_ylim(0, 1.03)
    figure.legend(ncols=4, loc="outside upper center", columnspacing=1.0, handletextpad=0.3)
    return figure


@styled
def cosine_matrix(steps: pd.DataFrame) -> Figure:
    """Cosines between the directions of every two noise levels.

    Parameters
    ----------
    steps : DataFrame
        Declared in `STEP_COSINES`.
    """
    table = steps.pivot(index="sigma_a", columns="sigma_b", values="crossed")
    values = table.combine_first(table.T).to_numpy(float)
    figure, ax = new_figure(height=3.0)
    image = ax.imshow(values, cmap="PuOr", vmin=-1, vmax=1, origin="lower")
    _sigma_ticks(ax, table.columns.to_numpy(float))
    places = np.unique(np.linspace(0, len(table) - 1, 4).round().astype(int))
    ax.set_yticks(places, [f"{table.index[i]:.2g}" for i in places])
    ax.set(xlabel="noise level σ (units of data)", ylabel="noise level σ (units of data)")
    figure.colorbar(image, ax=ax, label="cosine between directions")
    return figure


@styled
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
    figure, axes = new_figure(**size, ncols=len(sigmas), squeeze=False, sharey=True)
    image = None
    for ax, sigma in zip(axes[0], sigmas, strict=True):
        part = matrix[matrix["sigma"] == sigma].pivot(index="score", columns="token", values="share")
        image = ax.imshow(part.loc[scores, tokens].to_numpy(float), cmap=MAP, vmin=0, vmax=1, aspect="auto")
        ax.set_xticks(range(len(tokens)), tokens, rotation=40, ha="right")
        ax.set_yticks(range(len(scores)), scores)
        ax.set_title(f"σ = {sigma:g}")
    axes[0, 0].set_ylabel("score")
    figure.supxlabel("condition token", fontsize=8)
    assert image is not None
    figure.colorbar(image, ax=axes, label="share of the change")
    return figure


@styled
def gap_curves(gaps: pd.DataFrame) -> Figure:
    """Linearity gap of half and whole shifts against the noise level.

    Parameters
    ----------
    gaps : DataFrame
        Declared in `LINEARITY`, with a column `attribute`.
    """
    figure, axes = new_figure(width=5.6, height=2.7, ncols=2, sharex=True, sharey=True)
    for ax, whole in zip(axes, (False, True), strict=True):
        for index, (name, part) in enumerate(gaps.groupby("attribute", sort=False)):
            rows = part[(part["multiple"] > 0.75) == whole].rename(columns={"gap": "mean"})
            with_band(ax, rows, color=PALETTE[index], label=str(name), linestyle=STYLES[index % len(STYLES)])
        ax.axhline(1, color=REFERENCE, linewidth=0.6, linestyle=":")
        ax.set(xscale="log", title="whole difference" if whole else "half of it")
    axes[0].set_ylabel("linearity gap (1: as no shift)")
    axes[0].set_ylim(bottom=0)
    figure.supxlabel(SIGMA_LABEL, fontsize=8)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=6, loc="outside upper center")
    return figure


@styled
def recovery_map(recovery: pd.DataFrame) -> Figure:
    """Normalised recovery by site and noise levels, patched in and taken out.

    Parameters
    ----------
    recovery : DataFrame
        Declared in `RECOVERY`.
    """
    sites = list(recovery["site"].unique())
    spans = recovery[["sigma_low", "sigma_high"]].drop_duplicates().to_numpy(float)
    figure, axes = new_figure(width=6.4, height=0.26 * len(sites) + 1.2, ncols=2, sharey=True)
    image = None
    for ax, form in zip(axes, ("sufficiency", "necessity"), strict=True):
        part = recovery[recovery["form"] == form]
        values = np.array([[_median(part, site, *span) for span in spans] for site in sites])
        image = ax.imshow(values, aspect="auto", cmap=MAP, vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(values):
            color = "black" if value > 0.6 else "white"
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=color)
        ax.set_xticks(range(len(spans)), [f"{low:.2g} to {high:.2g}" for low, high in spans])
        ax.set_yticks(range(len(sites)), [_short(site) for site in sites])
        ax.set_title(form)
    figure.supxlabel("patched at noise levels σ (units of data)", fontsize=8)
    assert image is not None
    figure.colorbar(image, ax=axes, label="median recovery", extend="both")
    return figure


def _median(part: pd.DataFrame, site: str, low: float, high: float) -> float:
    row = part[(part["site"] == site) & (part["sigma_low"] == low) & (part["sigma_high"] == high)]
    return float(row["median"].iloc[0])


@styled
def attribute_losses(curves: pd.DataFrame, *, metric: str) -> Figure:
    """Share of reconstructions nearer to the changed image against the noise level, with the floor of any denoiser.

    Parameters
    ----------
    curves : DataFrame
        Declared in `ATTRIBUTE_LOSS`, with a column `attribute`.
    metric : str
        The feature metric that is drawn beside pixels.
    """
    names = list(curves["attribute"].unique())
    figure, axes = new_figure(width=6.6, height=2.7, ncols=2, sharey=True, sharex=True)
    for ax, shown, title in zip(axes, ("pixels", metric), ("by pixel distance", f"by {metric}"), strict=True):
        for index, name in enumerate(names):
            part = curves[(curves["attribute"] == name) & (curves["metric"] == shown)].sort_values("sigma")
            banded = part.rename(columns={"error": "mean"})
            with_band(ax, banded, color=PALETTE[index], label=name, linestyle=STYLES[index % len(STYLES)])
            if shown == "pixels":
                ax.plot(part["sigma"], part["floor"], color=PALETTE[index], linewidth=0.8, alpha=0.7, linestyle=":")
        ax.axhline(0.25, color=REFERENCE, linewidth=0.7)
        ax.set(xscale="log", title=title, ylim=(0, 0.55))
    axes[0].plot([], [], color=REFERENCE, linewidth=0.8, linestyle=":", label="floor: ideal two-point denoiser")
    axes[0].set_ylabel("Err: share taken for the other image")
    figure.supxlabel(SIGMA_LABEL, fontsize=8)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=4, loc="outside upper center")
    return figure


@styled
def win_rate_curves(rates: pd.DataFrame) -> Figure:
    """How often the true value denoises best, at each noise level alone.

    Parameters
    ----------
    rates : DataFrame
        Declared in `WIN_RATES`, of one foil, with a column `attribute`.
    """
    figure, ax = new_figure(width=4.2, height=2.9)
    for index, (name, part) in enumerate(rates.groupby("attribute", sort=False)):
        banded = part.rename(columns={"rate": "mean"})
        with_band(ax, banded, color=PALETTE[index], label=str(name), linestyle=STYLES[index % len(STYLES)])
    ax.set(xscale="log", xlabel=SIGMA_LABEL, ylabel="win rate of the true value", ylim=(0, 1.02))
    figure.legend(ncols=3, loc="outside upper center")
    return figure


@styled
def information_curves(integrands: pd.DataFrame, entropies: Mapping[str, float]) -> Figure:
    """Information about each attribute, integrated from high noise down, by both estimators.

    Parameters
    ----------
    integrands : DataFrame
        Declared in `INTEGRAND`, with a column `attribute`.
    entropies : mapping of str to float
        Entropy of each attribute, in nats: what an exact denoiser's curves cannot exceed.
    """
    figure, axes = new_figure(width=6.6, height=2.7, ncols=2, sharex=True)
    titles = {"log_ratio": "log ratio: difference of losses", "influence": "influence: distance of predictions"}
    for ax, (estimator, title) in zip(axes, titles.items(), strict=True):
        part = integrands[integrands["estimator"] == estimator]
        for index, (name, rows) in enumerate(part.groupby("attribute", sort=False)):
            rows = rows.sort_values("sigma")
            style = STYLES[index % len(STYLES)]
            ax.plot(rows["sigma"], rows["cumulative"], color=PALETTE[index], label=str(name), linestyle=style)
        for entropy in sorted(set(entropies.values())):
            ax.axhline(entropy, color=REFERENCE, linewidth=0.7, linestyle=":")
        ax.set(xscale="log", title=title, ylim=(-0.5, max(4.0, 1.2 * max(entropies.values()))))
    label = "entropy: " + ", ".join(f"{entropy:.2f}" for entropy in sorted(set(entropies.values())))
    axes[0].plot([], [], color=REFERENCE, linewidth=0.7, linestyle=":", label=label)
    axes[0].set_ylabel("nats, from high noise down to σ")
    figure.supxlabel(SIGMA_LABEL, fontsize=8)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=4, loc="outside upper center")
    return figure


@styled
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
    figure, axes = new_figure(
        width=0.75 * count + 1.4, height=0.75 * rows + 0.3, nrows=rows, ncols=count, squeeze=False
    )
    top = float(np.quantile(np.stack([np.asarray(found) for found in maps.values()]), 0.995))
    _pictures(axes[0], images, "image")
    drawn = None
    for line, (name, found) in zip(axes[1:], maps.items(), strict=True):
        for ax, values in zip(line, np.asarray(found), strict=True):
            drawn = ax.imshow(values, cmap=MAP, vmin=0, vmax=max(top, 1e-9))
            _bare(ax)
        _row_label(line[0], name)
    assert drawn is not None
    figure.colorbar(drawn, ax=axes[1:], label="influence (nats a pixel)", shrink=0.7, extend="max")
    return figure


@styled
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
    figure, axes = new_figure(
        width=0.72 * len(columns) + 1.3, height=0.74 * len(rows) + 0.5, nrows=len(rows), ncols=len(columns),
        squeeze=False,
    )  # fmt: skip
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        _pictures(line, images, name)
    for ax, label in zip(axes[0], columns, strict=True):
        ax.set_title(label, fontsize=7, pad=2)
    if xlabel:
        figure.supxlabel(xlabel, fontsize=8)
    return figure


def _pictures(line: Sequence[Axes], images: Tensor, label: str) -> None:
    for ax, image in zip(line, images, strict=True):
        picture = ((image.float().clamp(-1, 1) + 1) / 2).permute(1, 2, 0).cpu().numpy()
        grey = picture.shape[2] == 1
        ax.imshow(picture[..., 0] if grey else picture, cmap="gray" if grey else None, vmin=0, vmax=1)
        _bare(ax)
    _row_label(line[0], label)


def _bare(ax: Axes) -> None:
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)


def _row_label(ax: Axes, label: str) -> None:
    ax.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=7)


def _close_grid(axes: np.ndarray, used: int) -> None:
    """Hide the panels of a grid that are not used; the ones above them get their tick labels back."""
    for ax in axes.flat[used:]:
        ax.set_axis_off()
    for ax in axes.flat[max(0, used - axes.shape[1]) : used]:
        ax.tick_params(labelbottom=True)


def _short(site: str) -> str:
    """A site without what all sites have in front."""
    return site.removeprefix("network.")


def _sigma_ticks(ax: Axes, sigmas: np.ndarray) -> None:
    """A few noise levels under the columns of a map."""
    places = np.unique(np.linspace(0, len(sigmas) - 1, 4).round().astype(int))
    ax.set_xticks(places, [f"{sigmas[i]:.2g}" for i in places])
