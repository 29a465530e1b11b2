"""Figures of groups: their shares along sampling beside those of the data, and what guidance makes of them."""

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scorescope.reports.page import theme


@theme.styled
def group_shares_along(
    table: pd.DataFrame, group: str, *, landmarks: pd.DataFrame | None = None, label: str = ""
) -> Figure:
    """Share of one group of D against the noise level, a panel a class, a line a setting; data, judged alike, dotted.

    Parameters
    ----------
    table : DataFrame
        `GROUPS_ALONG` of one or more settings, with columns `setting` and `class`. Hard counts are drawn, and where
        samples end as points in a column of their own.
    group : str
        Which.
    landmarks : DataFrame, optional
        `LANDMARKS` with a column `class`: noise levels above `trusted_from` are shaded.
    label : str
        Of the vertical axis.
    """
    rows = theme.rows_where(table[table["counting"] == "hard"], "group", group)
    classes = list(rows["class"].unique())
    figure, axes = theme.panels(len(classes), height=2.1, least=2.4, more=0.9)
    for ax, name in zip(axes, classes, strict=True):
        part = rows[rows["class"] == name]
        data = part[(part["source"] == "data") & (part["setting"] == part["setting"].iloc[0])]
        settings = part[part["source"] == "samples"].groupby("setting", sort=False)
        if len(data):
            _line(ax, data, {"color": theme.REFERENCE, "linestyle": ":"}, "data")
        for place, (setting, own) in enumerate(settings):
            _line(ax, own, theme.series(place).line, theme.literal(str(setting)))
        ax.set(ylim=(-0.03, 1.03), title=theme.literal(str(name)))
        _levels_and_end(ax, part)
        if landmarks is not None:
            _untrusted(ax, landmarks[landmarks["class"] == name], math.sqrt(2) * _end_of(part))
    figure.supxlabel(theme.SIGMA_LABEL)
    axes[0].set_ylabel(theme.folded(label or f"share of {group}", 26))
    theme.legend_above(figure, axes[0])
    return figure


def _line(ax: Axes, rows: pd.DataFrame, look: dict[str, str], label: str) -> None:
    """A curve with its band, and the end of sampling, or the data itself, as a point beside the lowest level."""
    theme.with_band(ax, rows[rows["sigma"] > 0], y="share", label=label, **look)
    end = rows[rows["sigma"] == 0]
    bars = theme.errors(end, "share")
    ax.errorbar([_end_of(rows)] * len(end), end["share"], yerr=bars, fmt="o", color=look["color"], markersize=3)


def _end_of(rows: pd.DataFrame) -> float:
    """Where the column of the samples themselves stands, on the axis of noise levels."""
    return float(rows.loc[rows["sigma"] > 0, "sigma"].min()) / 2


def _levels_and_end(ax: Axes, rows: pd.DataFrame) -> None:
    """Ticks at noise levels, and one for the column of samples."""
    ax.set(xscale=theme.LOG)
    end, most = _end_of(rows), float(rows["sigma"].max())
    levels, marks = (
        [float(one) for one in locator.tick_values(2 * end, most) if 2 * end <= one <= most]
        for locator in (ax.xaxis.get_major_locator(), ax.xaxis.get_minor_locator())
    )
    ax.set_xticks([end, *levels], ["samples", *(f"{level:g}" for level in levels)])
    ax.set_xticks(marks, minor=True)
    ax.set_xlim(end / 1.6, 1.2 * most)


def _untrusted(ax: Axes, landmarks: pd.DataFrame, left: float) -> None:
    """Shade the noise levels at which the judge does not read D; all of them where it never does."""
    found = landmarks.loc[landmarks["landmark"] == "trusted_from", "log_snr"]
    if len(found):
        right = ax.get_xlim()[1]
        edge = min(max(math.exp(-float(found.iloc[0]) / 2), left), right)
        ax.axvspan(edge, right, color=theme.REFERENCE, alpha=0.15, linewidth=0, label="judge not trusted", zorder=0)


@theme.styled
def amplification(table: pd.DataFrame, group: str, *, label: str = "") -> Figure:
    """Share of one group under each setting, a panel a class, beside that in the data.

    Parameters
    ----------
    table : DataFrame
        `AMPLIFICATION`.
    group : str
        Which.
    label : str
        Of the horizontal axis.
    """
    rows = theme.rows_where(table, "group", group)
    classes = list(rows["class"].unique())
    settings = list(rows["setting"].unique())
    figure, axes = theme.panels(len(classes), height=0.22 * len(settings) + 0.5, least=1.7, more=0.7)
    for ax, name in zip(axes, classes, strict=True):
        part = rows[rows["class"] == name].set_index("setting").reindex(settings)
        known = part.iloc[0]
        ax.axvspan(known["data_low"], known["data_high"], color=theme.REFERENCE, alpha=0.2, linewidth=0)
        ax.axvline(known["data_share"], color=theme.REFERENCE, linestyle=":", label="data, with its 95 % interval")
        bars = theme.errors(part, "share")
        ax.errorbar(part["share"], range(len(settings)), xerr=bars, fmt="o", color=theme.PALETTE[0], label="samples")
        ax.set(title=theme.literal(str(name)), xlim=(-0.03, 1.03), ylim=(len(settings) - 0.5, -0.5), xticks=(0, 0.5, 1))
        ax.set_yticks(range(len(settings)), [theme.literal(str(one)) for one in settings])
    figure.supxlabel(theme.folded(label or f"share of {group}", 60))
    theme.legend_above(figure, axes[0])
    return figure
