"""Figures of the directions instrument: declared tables in, matplotlib figures out. Nothing is computed here."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from scorescope.reports.style import PALETTE, REFERENCE, SIGMA_LABEL, new_figure, styled, with_band

STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
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
        width=2.3 * columns + 0.9, height=1.9 * rows + 0.3, nrows=rows, ncols=columns, squeeze=False,
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
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    figure.supxlabel("noise level σ (units of data)", fontsize=8)
    label = "held-out balanced accuracy" if quantity == "value" else "selectivity: accuracy less control task"
    assert image is not None  # there is at least one attribute
    figure.colorbar(image, ax=axes, label=label, shrink=0.8)
    return figure


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
def information_densities(integrands: pd.DataFrame) -> Figure:
    """Information about each attribute per unit of log-SNR, by both estimators.

    Parameters
    ----------
    integrands : DataFrame
        Declared in `INTEGRAND`, with a column `attribute`.
    """
    figure, axes = new_figure(width=6.6, height=2.7, ncols=2, sharex=True)
    titles = {"log_ratio": "log ratio: difference of losses", "influence": "influence: distance of predictions"}
    for ax, (estimator, title) in zip(axes, titles.items(), strict=True):
        for index, (name, part) in enumerate(integrands[integrands["estimator"] == estimator].groupby("attribute")):
            banded = part.rename(columns={"density": "mean"})
            with_band(ax, banded, color=PALETTE[index], label=str(name), linestyle=STYLES[index % len(STYLES)])
        ax.axhline(0, color=REFERENCE, linewidth=0.7)
        ax.set(xscale="log", title=title)
    axes[0].set_ylabel("nats per unit of log-SNR")
    figure.supxlabel(SIGMA_LABEL, fontsize=8)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=6, loc="outside upper center")
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


def _short(site: str) -> str:
    """A site without what all sites have in front."""
    return site.removeprefix("network.")


def _sigma_ticks(ax: Axes, sigmas: np.ndarray) -> None:
    """A few noise levels under the columns of a map."""
    places = np.unique(np.linspace(0, len(sigmas) - 1, 4).round().astype(int))
    ax.set_xticks(places, [f"{sigmas[i]:.2g}" for i in places])
