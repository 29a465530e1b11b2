"""Atlas: pages of several panels on guidance and on the noise levels that a sampler has to visit."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scorescope.analysis.gaussian import score_gaps, score_table
from scorescope.analysis.guidance.decomposition import decompose
from scorescope.analysis.guidance.paths import gain_path
from scorescope.probes.approximations import fit_gaussian
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.guidance import figures
from scorescope.reports.guidance.atlas_branches import LEVELS
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
from scorescope.reports.guidance.figures_panels import Panel, gain_panel, information_panel, lettered, say_in
from scorescope.reports.page import theme


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
        say_in(ax, why) if why else figures.band_norms(tables["bands"], ax=ax)

    steps, norm = tables["steps"], "L2 norm (units of data)"
    panels: list[Panel] = [
        ("update and its parts", norm, lambda ax: figures.update_parts(steps, ax=ax, **run)),
        ("share along $D_c$", "share", lambda ax: figures.parallel_share(steps, tables["centred"], ax=ax, **shares)),
        ("branches", "1 − cosine", lambda ax: figures.branch_cosine(steps, ax=ax, **run)),
        ("bands of the update", norm, bands),
        ("information", "nats per halving of σ", information),
        ("gain along the path", "product so far", gains),
    ]
    return lettered(panels)


def schedule_numbers(material: Material) -> Numbers:
    """At which noise levels a Gaussian would do, the condition is told, and the sampler steps."""
    assert material.data is not None  # `needs` has seen to it
    held = material.data.held_out[: material.count].to(material.device)
    law = fit_gaussian(material.data.train)
    scores = score_table(
        score_gaps(material.studied.denoiser, [law], held, material.within(LEVELS), seed=material.seed)
    )
    tables = {"gaussian": scores[scores["metric"] == "centred"], **information_numbers(material).tables}
    tables["grid"] = pd.DataFrame({"step": range(material.steps), "sigma": material.sigmas[:-1]})
    return Numbers(tables, facts={"images": len(held), "fine": FINE["solver"]})


@theme.styled
def draw_schedule(numbers: Numbers) -> Figure:
    """Strips over one axis of noise levels."""
    tables = numbers.tables
    figure, (gaussian, told, steps) = theme.new_figure(4.2, nrows=3, sharex=True, height_ratios=(2, 2, 0.6))
    scores = tables["gaussian"].sort_values("sigma")
    theme.with_band(gaussian, scores, y="ratio_of_sums", label=None, color=theme.series(0).color)
    gaussian.plot(scores["sigma"], scores["floor_high"], color=theme.REFERENCE, linestyle=":")
    gaussian.set(yscale=theme.LOG, ylabel="unexplained", title="(a) what a Gaussian leaves of the prediction")
    information_panel(told, tables["information"], tables["interval"], summed=False)
    told.set(title="(b) information on the condition", ylabel="nats per octave")
    steps.vlines(tables["grid"]["sigma"], 0, 1, color=theme.REAL, linewidth=1)
    steps.set(title=f"(c) {len(tables['grid'])} steps of the sampler", yticks=[], ylim=(0, 1))
    theme.sigma_axis(steps)
    return figure


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
    Entry(
        "schedule-page", "where on the axis of σ a Gaussian would do, the condition is told, and a sampler steps",
        ("model", "conditions", "data"), schedule_numbers, draw_schedule,
        "{model} against the noise level. (a) Squared distance of its unconditional prediction from that of the "
        "Gaussian of the training images, as a share of that from their mean, at {images} noised held-out images; "
        "dotted, what a perfect model would stay below in 97.5 % of cases, were the data Gaussian. (b) Information on "
        "the condition gained per halving of σ along an unguided path ({fine}); shaded, the levels that hold its "
        "central 90 %. (c) Levels of the sampler. Bands are 95 % intervals over images and over samples.",
        "of a Gaussian model (a) stays below its dotted line, and (b) is "
        "log 2 σ² |m_c − m_u|² / (λ + σ²)² nats an octave for Gaussian branches of variance λ",
        calls=UNGUIDED | {"unconditional predictions of held-out images": len(LEVELS)},
    ),
)  # fmt: skip
