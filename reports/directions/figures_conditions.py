"""Figures of the directions instrument on conditions, on information, and of pictures.

Public through `figures`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from scorescope.data.doors import require_some
from scorescope.reports.directions.study import site_name
from scorescope.reports.page import theme

MAP = "cividis"  # even in lightness, and the same to colour-blind eyes


@theme.styled
def token_matrix(matrix: pd.DataFrame) -> Figure:
    """Share of each condition token in the change of each score, by noise level.

    Parameters
    ----------
    matrix : DataFrame
        Columns score, sigma, token and share.
    """
    require_some("matrix", matrix)
    sigmas = sorted(matrix["sigma"].unique(), reverse=True)
    scores, tokens = list(matrix["score"].unique()), list(matrix["token"].unique())
    least = max(1.7, 0.24 * len(tokens) + 0.6)
    figure, axes = theme.panels(len(sigmas), height=0.24 * len(scores) + 0.5, least=least, more=1.6)
    for ax, sigma in zip(axes, sigmas, strict=True):
        part = matrix[matrix["sigma"] == sigma].pivot(index="score", columns="token", values="share")
        image = ax.imshow(part.loc[scores, tokens].to_numpy(float), cmap=MAP, vmin=0, vmax=1, aspect="auto")
        theme.column_names(ax, tokens)
        theme.row_names(ax, scores)
        ax.set_title(f"σ = {sigma:g}")
    figure.supylabel("score")
    figure.supxlabel("condition token")
    figure.colorbar(image, ax=axes, label="share of the change", location="top", shrink=0.8, aspect=30)
    return figure


@theme.styled
def gap_curves(gaps: pd.DataFrame) -> Figure:
    """Linearity gap of half and whole shifts against the noise level.

    Parameters
    ----------
    gaps : DataFrame
        Declared in `LINEARITY`, with a column `attribute`.
    """
    require_some("gaps", gaps)
    figure, axes = theme.panels(2, least=2.6, more=0.8)
    for ax, whole in zip(axes, (False, True), strict=True):
        theme.band_each(ax, gaps[(gaps["multiple"] > 0.75) == whole], "attribute", y="gap")
        theme.reference_line(ax, 1)
        theme.sigma_axis(ax, xlabel="", title="whole difference" if whole else "half of it")
    axes[0].set_ylim(bottom=0)
    figure.supylabel("linearity gap (1: as no shift)")
    figure.supxlabel(theme.SIGMA_LABEL)
    theme.legend_above(figure, axes[0])
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
    figure, axes = theme.panels(2, height=0.24 * len(sites) + 0.4, least=2.6, more=1.3)
    for ax, form in zip(axes, ("sufficiency", "necessity"), strict=True):
        part = recovery[recovery["form"] == form]
        values = np.array([[_median(part, site, *span) for span in spans] for site in sites])
        image = ax.imshow(values, aspect="auto", cmap=MAP, vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(values):
            color = "black" if value > 0.6 else "white"
            ax.text(
                column,
                row,
                f"{round(value, 2) + 0.0:.2f}",
                ha="center",
                va="center",
                fontsize=theme.small(),
                color=color,
            )
        ax.set_xticks(range(len(spans)), [f"{low:.2g} to {high:.2g}" for low, high in spans])
        theme.row_names(ax, map(site_name, sites))
        ax.set_title(form)
    figure.supxlabel("patched at noise levels σ (units of data)")
    figure.colorbar(image, ax=axes, label="median recovery", extend="both", location="top", shrink=0.8, aspect=30)
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
    figure, axes = theme.panels(2, least=2.6, more=0.8)
    for ax, shown in zip(axes, ("pixels", metric), strict=True):
        part = theme.rows_where(curves, "metric", shown).sort_values("sigma")
        theme.band_each(ax, part, "attribute", y="error")
        theme.reference_line(ax, 0.25)
        title = "by pixel distance" if shown == "pixels" else theme.literal(f"by {shown}")
        theme.sigma_axis(ax, xlabel="", title=title)
    pixels = curves[curves["metric"] == "pixels"].sort_values("sigma")
    for place, (_, floor) in enumerate(pixels.groupby("attribute", sort=False)):
        axes[0].plot(
            floor["sigma"], floor["floor"], color=theme.series(place).color, linewidth=0.8 * theme.unit(), linestyle=":"
        )
    theme.reference_key(axes[0], "floor: ideal two-point denoiser")
    axes[0].set_ylim(0, max(0.55, 1.03 * max(ax.dataLim.ymax for ax in axes)))
    figure.supylabel("Err: share taken for the other image")
    figure.supxlabel(theme.SIGMA_LABEL)
    theme.legend_above(figure, axes[0])
    return figure


@theme.styled
def win_rate_curves(rates: pd.DataFrame, *, chance: float | None = None, ax: Axes | None = None) -> Figure:
    """How often the true value denoises best, at each noise level alone.

    Parameters
    ----------
    rates : DataFrame
        Declared in `WIN_RATES`, of one foil, with a column `attribute`.
    chance : float, optional
        Rate of a guess, drawn as a line.
    ax : Axes, optional
        Where to draw; a figure of its own if not given.
    """
    require_some("rates", rates)
    figure, ax = theme.new_figure(2.9, ax=ax)
    theme.band_each(ax, rates, "attribute", y="rate")
    if chance is not None:
        theme.reference_line(ax, chance, "chance")
    theme.sigma_axis(ax, ylabel="win rate of the true value", ylim=(0, 1.02))
    theme.legend(ax)
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
    require_some("entropies", entropies)
    figure, axes = theme.panels(2, least=2.6, more=0.8, sharey=False)
    different = sorted(set(entropies.values()))
    titles = {"log_ratio": "log ratio: difference of losses", "influence": "influence: distance of predictions"}
    for ax, (estimator, title) in zip(axes, titles.items(), strict=True):
        part = integrands[integrands["estimator"] == estimator]
        for place, (name, rows) in enumerate(part.sort_values("sigma").groupby("attribute", sort=False)):
            ax.plot(rows["sigma"], rows["cumulative"], label=theme.literal(str(name)), **theme.series(place).line)
        for entropy in different:
            theme.reference_line(ax, entropy)
        theme.sigma_axis(ax, xlabel="", title=title)
        ax.margins(y=0.06)
    theme.reference_key(axes[0], "entropy: " + ", ".join(f"{entropy:.2f}" for entropy in different))
    figure.supylabel("nats, from high noise down to σ")
    figure.supxlabel(theme.SIGMA_LABEL)
    theme.legend_above(figure, axes[0])
    return figure


@theme.styled_pictures
def influence_maps(images: Tensor, maps: Mapping[str, Tensor]) -> Figure:
    """Where each attribute's condition changes the prediction, image by image, on one colour scale.

    Parameters
    ----------
    images : Tensor, shape (n, channel, y, x)
        In [-1, 1].
    maps : mapping of str to Tensor, shape (n, y, x)
        Nats a pixel, by attribute.
    """
    require_some("maps", maps)
    count, rows = len(images), len(maps) + 1
    height = (theme.width() - 1.3) / count + 0.05
    figure, axes = theme.new_figure(height * rows + 0.7, nrows=rows, ncols=count, squeeze=False)
    top = float(np.quantile(np.stack([np.asarray(found) for found in maps.values()]), 0.995))
    _pictures(axes[0], images, "image")
    for line, (name, found) in zip(axes[1:], maps.items(), strict=True):
        for ax, values in zip(line, np.asarray(found), strict=True):
            drawn = ax.imshow(values, cmap=MAP, vmin=0, vmax=max(top, 1e-9))
            theme.without_axes(ax)
        theme.label_row(line[0], name)
    figure.colorbar(
        drawn, ax=axes, label="influence (nats a pixel)", extend="max", location="bottom", shrink=0.7, aspect=30
    )
    return figure


@theme.styled_pictures
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
    require_some("rows", rows)
    height = (theme.width() - 0.6) / len(columns) + 0.05
    figure, axes = theme.new_figure(height * len(rows) + 0.5, nrows=len(rows), ncols=len(columns), squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        _pictures(line, images, name)
    for ax, label in zip(axes[0], columns, strict=True):
        ax.set_title(theme.literal(label), fontsize=theme.small(), pad=2)
    if xlabel:
        figure.supxlabel(xlabel)
    return figure


def _pictures(line: Sequence[Axes], images: Tensor, label: str) -> None:
    for ax, image in zip(line, images, strict=True):
        theme.show_picture(ax, ((image.float().clamp(-1, 1) + 1) / 2).permute(1, 2, 0).cpu().numpy())
    theme.label_row(line[0], label)
