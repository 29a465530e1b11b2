"""Atlas: pages of several panels on guidance and on the noise levels that a sampler has to visit."""

from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scorescope.analysis.guidance.decomposition import decompose
from scorescope.analysis.guidance.paths import gain_path
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.guidance import figures
from scorescope.reports.guidance.atlas_update import (
    FINE,
    SWEPT,
    UNGUIDED,
    band_numbers,
    information_numbers,
    no_bands,
    share_numbers,
    traces,
)
from scorescope.reports.guidance.figures_panels import gain_panel, information_panel
from scorescope.reports.page import theme

Panel = tuple[str, str, Callable[[Axes], Any]]  # title, label of its axis, what draws it


def page_numbers(material: Material) -> Numbers:
    """Tables of six figures of one model."""
    share, told = share_numbers(material), information_numbers(material)
    tables = {**share.tables, **told.tables}
    tables["gains"] = gain_path(pd.concat([decompose(trace) for trace in traces(material)], ignore_index=True))
    why = no_bands(material)
    if not why:
        tables |= band_numbers(material).tables
    return Numbers(tables, facts={"no_bands": why, "shown_weight": material.weight, "fine": FINE["solver"]})


@theme.styled
def draw_page(numbers: Numbers) -> Figure:
    """Six panels with letters."""
    tables, weight, why = numbers.tables, numbers.facts["shown_weight"], numbers.facts["no_bands"]
    run: dict[str, Any] = {"rule": "CFG", "weight": weight}
    shares = {"weights": [weight], "centred_weight": weight}
    runs = [(rule, weight) for rule in ("CFG", "APG")]

    def information(ax: Axes) -> None:
        information_panel(ax, tables["information"], tables["interval"], summed=False)
        theme.sigma_axis(ax)

    def gains(ax: Axes) -> None:
        gain_panel(ax, tables["gains"], runs, "path_gain")
        theme.sigma_axis(ax)

    def bands(ax: Axes) -> None:
        _say(ax, why) if why else figures.band_norms(tables["bands"], ax=ax)

    steps, norm = tables["steps"], "L2 norm (units of data)"
    panels: list[Panel] = [
        ("update and its parts", norm, lambda ax: figures.update_parts(steps, ax=ax, **run)),
        ("share along $D_c$", "share", lambda ax: figures.parallel_share(steps, tables["centred"], ax=ax, **shares)),
        ("branches", "1 − cosine", lambda ax: figures.branch_cosine(steps, ax=ax, **run)),
        ("bands of the update", norm, bands),
        ("information", "nats per halving of σ", information),
        ("gain along the path", "product so far", gains),
    ]
    return _lettered(panels)


def _lettered(panels: list[Panel]) -> Figure:
    """Panels side by side, each with its letter and its own key below its title."""
    figure, axes = theme.panels(len(panels), height=2.7, least=2.1, more=0.0, sharex=False, sharey=False)
    for letter, ax, (title, ylabel, draw) in zip("abcdefgh", axes, panels, strict=False):
        draw(ax)
        if (key := ax.get_legend()) is not None:
            key.remove()
        ax.set_title("")
        if ax.axison and ax.lines:
            ax.set(xlabel=theme.SIGMA, ylabel=ylabel)
        theme.key_as_title(ax, f"({letter}) {title}")
    return figure


def _say(ax: Axes, why: str) -> None:
    """The reason in place of a curve."""
    ax.text(0.5, 0.5, theme.folded(why, 24), ha="center", va="center", transform=ax.transAxes)
    theme.without_axes(ax)


ENTRIES = (
    Entry(
        "guidance-page", "six panels on guidance of one model: update, share, cosine, bands, information, gain",
        ("model", "conditions"), page_numbers, draw_page,
        "Guidance of {model}, in denoised space, against the noise level. (a) Norm of the update and its parts along "
        "and orthogonal to $D_c$, CFG at w = {weight:g}. (b) Share of its energy along $D_c$, CFG and APG. (c) 1 − "
        "cosine of the branches in denoised and in eps space. (d) Norm in bands of spatial frequency, and (e) "
        "information on the condition per octave, along an unguided path ({fine}). (f) Product of the gains along "
        "$D_c$. Bands are 95 % intervals over samples.",
        "those of its panels, which are drawn from the same tables as the figures of one panel",
        calls=SWEPT | UNGUIDED,
    ),
)  # fmt: skip
