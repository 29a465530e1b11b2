"""Atlas: figures of what the guidance update does at each noise level."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from scorescope.analysis.guidance.decomposition import decompose, decompose_bands, decompose_centred, summarise
from scorescope.analysis.guidance.information import guidance_information, suggest_interval
from scorescope.analysis.guidance.run_keys import PATH, summarise_runs
from scorescope.probes.experiments.sweep import Setting
from scorescope.probes.guidance import APG, CFG
from scorescope.probes.recording.trace import Recording, Trace
from scorescope.probes.sampling import Run
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.entries.material import is_picture
from scorescope.reports.guidance import figures
from scorescope.reports.guidance.peaks import any_update, why_none
from scorescope.reports.guidance.runs import of_run
from scorescope.reports.guidance.study import BAND_EDGES

SWEPT = {"CFG and APG at every weight": 560}
UNGUIDED = {"an unguided run in fine steps": 238}
FINE_STEPS = 60  # of the unguided run: 18 steps move the ends of the suggested interval by 8 %

FINE = {"solver": f"Heun, {FINE_STEPS} steps"}


def swept(material: Material) -> list[Setting]:
    """CFG and APG at every weight, with both branches at every step."""
    edges = BAND_EDGES if is_picture(material.studied) else ()
    record = Recording(material.studied.value_range, all_branches=True, centred=True, band_edges=edges)
    return material.sweep({"CFG": CFG(1.0), "APG": APG(1.0)}, weights=material.weights, record=record)


def unguided(material: Material) -> Trace:
    """A run at w = 1 in steps so fine that sums over them do not depend on them, or the trace that was brought."""
    if material.model is None:
        return material.traces[0]
    return material.once("unguided", lambda: _unguided(material))


def _unguided(material: Material) -> Trace:
    edges = BAND_EDGES if is_picture(material.studied) else ()
    record = Recording(material.studied.value_range, all_branches=True, band_edges=edges)
    (one,) = material.sweep({"CFG": CFG(1.0)}, record=record, sigmas=material.grid(FINE_STEPS))
    assert one.run.trace is not None  # a sweep records
    return one.run.trace


def traces(material: Material) -> list[Trace]:
    """What was brought, else the sampled ones."""
    if material.model is None:
        return list(material.traces)
    return [setting.run.trace for setting in swept(material) if setting.run.trace is not None]


def steps(material: Material) -> pd.DataFrame:
    """Summary of the decomposition of all runs."""
    return material.once("steps", lambda: summarise(pd.concat([decompose(t) for t in traces(material)])))


def shown_run(table: pd.DataFrame, material: Material) -> dict[str, Any]:
    """The run that a figure of one run shows: CFG at the material's weight, else the first trace."""
    runs = table[["rule", "weight"]].drop_duplicates()
    own = runs[(runs["rule"] == "CFG") & (runs["weight"] == material.weight)]
    row = (own if len(own) else runs).iloc[0]
    return {"rule": row["rule"], "weight": row["weight"]}


def update_numbers(material: Material) -> Numbers:
    """Summary of one run."""
    table = steps(material)
    run = shown_run(table, material)
    rows = of_run(table, run["rule"], run["weight"])
    known = any_update(table, run["rule"], run["weight"])
    why = "" if known else f"no update is known at any step: {why_none(rows)}"
    return Numbers({"steps": rows}, facts=run | {"n": int(rows["n"].max())}, why=why)


def draw_parts(numbers: Numbers, **how: Any) -> Figure:
    """Norms of the update and its parts."""
    table = numbers.tables["steps"]
    return figures.update_parts(table, rule=numbers.facts["rule"], weight=numbers.facts["weight"], **how)


def draw_cosine(numbers: Numbers, **how: Any) -> Figure:
    """How far the branches point apart."""
    table = numbers.tables["steps"]
    return figures.branch_cosine(table, rule=numbers.facts["rule"], weight=numbers.facts["weight"], **how)


def share_numbers(material: Material) -> Numbers:
    """Parallel shares of all runs, and with channel means removed."""
    rows = pd.concat([decompose_centred(trace) for trace in traces(material)], ignore_index=True)
    quantities = [str(name) for name in rows if str(name).startswith("centred_")]
    centred = summarise_runs(rows, by=[*PATH, "step", "call", "sigma"], quantities=quantities, reasons=True)
    return Numbers(
        {"steps": steps(material), "centred": centred},
        facts={"shown": list(material.weights), "weight": material.weight},
    )


def draw_share(numbers: Numbers, **how: Any) -> Figure:
    """Parallel share against sigma."""
    tables, weights = numbers.tables, numbers.facts["shown"]
    return figures.parallel_share(
        tables["steps"], tables["centred"], weights=weights, centred_weight=numbers.facts["weight"], **how
    )


def information_numbers(material: Material) -> Numbers:
    """Information along the unguided run and the interval that it suggests."""
    trace = unguided(material)
    interval = suggest_interval(trace)
    return Numbers({"information": guidance_information(trace), "interval": interval}, facts=_unguided_facts(material))


def draw_information(numbers: Numbers, **how: Any) -> Figure:
    """Nats per octave, and their sum."""
    return figures.information(numbers.tables["information"], numbers.tables["interval"], **how)


def band_numbers(material: Material) -> Numbers:
    """Norm of the update in bands of frequency."""
    return Numbers({"bands": summarise_bands(unguided(material))}, facts=_unguided_facts(material))


def _unguided_facts(material: Material) -> dict[str, Any]:
    """How the unguided run was made, or that the first of the traces stands for it."""
    if material.model is not None:
        return FINE | {"path": "an unguided path"}
    return {"path": "the first recorded trace", "n": len(material.traces[0].samples)}


def summarise_bands(run: Trace | Run) -> pd.DataFrame:
    """Norms of the update and of D_c in each band, in the mean over samples."""
    by = [*PATH, "band", "low_frequency", "high_frequency", "step", "call", "sigma"]
    return summarise_runs(decompose_bands(run), by=by, quantities=["update_norm", "cond_norm"])


def draw_bands(numbers: Numbers, **how: Any) -> Figure:
    """Norms by band."""
    return figures.band_norms(numbers.tables["bands"], **how)


def no_bands(material: Material) -> str:
    """Bands of frequency are of images, and of traces that recorded them."""
    if material.model is not None:
        return "" if is_picture(material.model) else "bands of frequency need samples that are images"
    recorded: Mapping[str, Any] = material.traces[0].manifest.get("recording", {})
    return "" if recorded.get("band_edges") else "the trace was recorded without bands of frequency"


ENTRIES = (
    Entry(
        "apg-update-parts", "norm of the guidance update and of its parts along and across the prediction, against σ",
        ("run", "conditions"), update_numbers, draw_parts,
        "Norm of the guidance update $D_c - D_u$ and of its parts along and orthogonal to $D_c$, in denoised space, "
        "against the noise level ({model}, {rule}, w = {weight:g}). Bands are 95 % intervals of the mean over samples.",
        "the squared parts sum to the squared norm in every row; of two Gaussians of one covariance the norm is that "
        "of σ² (S + σ² I)⁻¹ (m_c − m_u)",
        cites=("sadat2025eliminating",), place="section 4", calls=SWEPT, one_panel=True,
    ),
    Entry(
        "apg-parallel-share", "share of the update's energy along the prediction against σ, beside chance",
        ("model", "conditions"), share_numbers, draw_share,
        "Share of the squared guidance update that lies along $D_c$, in denoised space, for CFG at w = {weights} and "
        "APG at the largest ({model}); also with each channel's mean removed, and the chance level 1/N.",
        "for any data the limit at high noise is the squared cosine of m_c − m_u and m_c, the conditional and "
        "unconditional means",
        cites=("sadat2025eliminating",), place="section 4", calls=SWEPT, one_panel=True,
    ),
    Entry(
        "ag-cosine", "1 − cosine of the two branches against σ, in denoised and in eps space, with rounding floors",
        ("run", "conditions"), update_numbers, draw_cosine,
        "1 − cosine of the conditional and unconditional predictions against the noise level, in denoised and in eps "
        "space ({model}, {rule}, w = {weight:g}).",
        "the eps curve falls to 0 at high noise and the denoised curve at low noise, for any model",
        cites=("castillo2025adaptive",), calls=SWEPT, one_panel=True,
    ),
    Entry(
        "guidance-information", "information about the condition per octave of noise, and the interval that holds it",
        ("run", "conditions"), information_numbers, draw_information,
        "Mutual information of condition and state per octave of σ and its sum, from "
        "$E|D_c - D_u|^2 / \\sigma^2$ along {path} ({model}); shaded: the levels that hold its central 90 %.",
        "for a mixture with labels the sum is the mutual information, and at most the entropy H(c) of the labels",
        calls=UNGUIDED,
    ),
    Entry(
        "fdg-band-norms", "norm of the guidance update in bands of spatial frequency against σ",
        ("run", "conditions"), band_numbers, draw_bands,
        "Norm of the guidance update in bands of spatial frequency against the noise level ({model}; {path}).",
        "the squared norms of the bands sum to that of the whole update",
        calls=UNGUIDED, one_panel=True, refuses=no_bands, differs="the paper's σ axis is linear",
    ),
)  # fmt: skip
