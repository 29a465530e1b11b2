"""Atlas: figures of where, when and how long attributes are read: probes, paths, directions by level, noise, tokens."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from scorescope.analysis.directions.emergence import Thresholds
from scorescope.analysis.directions.stability import direction_stability
from scorescope.reports.directions import figures
from scorescope.reports.directions.atlas_bench import (
    MAPPED,
    READ,
    bench_of,
    facts_of,
    needs,
    no_pairs,
    no_tokens,
    spread_of,
)
from scorescope.reports.directions.sections_conditions import token_gap
from scorescope.reports.directions.sections_directions import cosines_of
from scorescope.reports.directions.sections_information import contrast_loss, joined
from scorescope.reports.directions.sections_sampling import trace_all
from scorescope.reports.directions.study import site_name
from scorescope.reports.directions.workbench import FOUND_AT
from scorescope.reports.entries import Entry, Material, Numbers

PAIRS = 40  # counterfactual ones, of each attribute
TRACED = 16  # seeds that are followed through sampling
METRIC = "attribute score"


def probe_numbers(material: Material) -> Numbers:
    """Probes of every attribute at every site and noise level, and the best of each on test images."""
    bench = bench_of(material)
    final, split = bench.scan.final, bench.scan.split
    best = "; ".join(
        f"{row['attribute']} {row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f}) at {site_name(row['site'])}, "
        f"σ = {row['sigma']:.2g}"
        for row in final.to_dict("records")
    )
    said: dict[str, Any] = {
        "best": best,
        "train": len(split.train),
        "validation": len(split.validation),
        "test": len(split.test),
    }
    return Numbers({"probes": bench.scan.table, "final": final}, facts=facts_of(bench, **said))


def draw_probes(numbers: Numbers, **how: Any) -> Figure:
    """Accuracy, and the control task beside it."""
    return figures.probe_maps(numbers.tables["probes"], control=True, **how)


def timeline_numbers(material: Material) -> Numbers:
    """Landmarks of each attribute along sampling, and the curves that they are taken from."""
    bench = bench_of(material)
    site = bench.subject.sites[len(bench.subject.sites) // 2]
    found, left_out = trace_all(bench, site, bench.presence_scan(site))
    tables = {
        name: pd.concat([getattr(part, name) for part in found], ignore_index=True) if found else pd.DataFrame()
        for name in ("landmarks", "curves", "gaps")
    }
    said: dict[str, Any] = {"seeds": spread_of(bench.seeds(TRACED)), "steps": len(bench.steps(10)) - 1, **_limits()}
    facts = facts_of(bench, site=site, missing=_missing(tables["landmarks"], left_out), **said)
    return Numbers(tables, facts=facts, why="" if found else f"no attribute can be followed. {left_out}")


def _limits() -> dict[str, float]:
    """Where landmarks are taken."""
    limits = Thresholds()
    return {"readable": limits.readable, "visible": limits.visible, "committed": limits.committed}


def _missing(landmarks: pd.DataFrame, left_out: str) -> str:
    """What has no mark in the figure, as the end of a sentence."""
    if landmarks.empty:
        return ""
    rows = landmarks[landmarks["sigma"].isna()]
    names = [f"{row['attribute']}, {row['landmark'].replace('_', ' ')}" for row in rows.to_dict("records")]
    absent = f"; not reached or not shown: {'; '.join(names)}" if names else ""
    return f"{absent}; {left_out.rstrip('.')}" if left_out else absent


def draw_timeline(numbers: Numbers, **how: Any) -> Figure:
    """Ranges of landmarks."""
    return figures.landmark_ranges(numbers.tables["landmarks"], **how)


def cosine_numbers(material: Material) -> Numbers:
    """Cosines between the directions of every two noise levels, and what chance alone gives."""
    bench = bench_of(material)
    contrast = bench.contrasts[0]
    site = bench.best_site(contrast)
    rows, _ = bench.subject.rows(contrast)
    rows = rows[rows < len(bench.images)]
    level = bench.activations.nearest_level(FOUND_AT)
    values, high = bench.examples(contrast, site, level)
    stability = direction_stability(values, high.numpy(), groups=bench.groups[rows].numpy(), resamples=20, halves=20)
    half, shuffled = (stability[stability["cosine"] == name].iloc[0] for name in ("split_half", "shuffled"))
    said = {
        "shown": len(rows), "null": float(half["null"]), "dimension": float(half["d_eff"]), "half": float(half["mean"]),
        "shuffled_low": float(shuffled["low"]), "shuffled_high": float(shuffled["high"]),
    }  # fmt: skip
    tables = {"step_cosines": cosines_of(bench, site), "stability": stability}
    return Numbers(tables, facts=facts_of(bench, contrast, site, **said))


def draw_cosines(numbers: Numbers, **how: Any) -> Figure:
    """The matrix."""
    return figures.cosine_matrix(numbers.tables["step_cosines"], **how)


def gap_numbers(material: Material) -> Numbers:
    """Linearity gap of each attribute that the condition names."""
    bench = bench_of(material)
    table = pd.concat([token_gap(bench, contrast) for contrast in bench.told], ignore_index=True)
    return Numbers({"linearity": table}, facts=facts_of(bench, images=int(table["n"].min())))


def draw_gaps(numbers: Numbers, **how: Any) -> Figure:
    """Half and whole shifts."""
    return figures.gap_curves(numbers.tables["linearity"], **how)


def loss_numbers(material: Material) -> Numbers:
    """How often a reconstruction is nearer to the other image of a pair, with its floor."""
    bench = bench_of(material)
    found = {contrast.attribute: contrast_loss(bench, contrast, PAIRS) for contrast in bench.contrasts}
    half = joined(found, "half")
    pixels = half[half["metric"] == "pixels"]
    said = "; ".join(
        f"{row['attribute']} {row['sigma']:.2g} ({row['low']:.2g} to {row['high']:.2g})"
        if row["sigma"] == row["sigma"] else f"{row['attribute']} not within these levels"
        for row in pixels.to_dict("records")
    )  # fmt: skip
    return Numbers({"loss": joined(found, "curve"), "half": half}, facts=facts_of(bench, pairs=PAIRS, half=said))


def draw_losses(numbers: Numbers, **how: Any) -> Figure:
    """By pixels, and by the judge's score."""
    return figures.attribute_losses(numbers.tables["loss"], metric=METRIC, **how)


ENTRIES = (
    Entry(
        "ddae-probe-map", "held-out accuracy of a linear probe by site and noise level, beside its control task",
        ("subject",), probe_numbers, draw_probes,
        "Balanced accuracy of linear probes at every site and noise level, one map an attribute, and beside it that of "
        "the control task, one random label an image, the same at all levels ({subject}; activations averaged over "
        "space, unconditional branch; {train} {images_are} to fit and {validation} to score, none in both). Best on "
        "validation, scored once on {test} test images, with 95 % intervals: {best}.",
        "where classes have known laws the probe has the Bayes accuracy at every noise level, and the control is at "
        "chance",
        cites=("xiang2023denoising", "hewitt2019designing"), calls=READ,
        differs="cells are chosen on validation images where the released code chooses them on test images, and probes "
        "are ridge regressions",
    ),
    Entry(
        "attribute-timeline", "noise levels at which each attribute is readable, visible, committed and steerable",
        ("subject",), timeline_numbers, draw_timeline,
        "Noise levels along sampling from which on each attribute is readable (probe at {site}, balanced accuracy "
        "{readable:g}), visible in the denoised estimate ({visible:g}) and committed (agreement with the final image "
        "{committed:g}), and until which half of the seeds follow a switched condition ({subject}, guidance weight 1; "
        "seeds {seeds}, Euler, {steps} steps; bars are 95 % intervals, bootstrap over seeds; sampling runs from right "
        "to left{missing}).",
        "a condition that is switched at the first noise level is followed by every seed; in a mixture the share that "
        "follows has a closed form",
        calls={**READ, "runs with switched conditions": 2304},
    ),
    Entry(
        "direction-through-time", "cosines between the directions of an attribute at every two noise levels",
        ("subject",), cosine_numbers, draw_cosines,
        "Cosines between the directions of {contrast} at {site} at every two noise levels, each between directions of "
        "different halves of {shown} {images_are} ({subject}; difference of means, unconditional branch). Beyond "
        "±{null:.2g} a cosine is beyond chance (95 %, {dimension:.3g} effective dimensions); at σ = {found_at} that of "
        "halves is {half:.2f} in the mean, and with shuffled labels 95 % of them lie between {shuffled_low:.2f} and "
        "{shuffled_high:.2f}. Intervals of the cosines, over halves, are in the table.",
        "a direction that is the same at all noise levels has cosine 1, and shuffled labels stay within the null",
        calls=MAPPED,
    ),
    Entry(
        "token-linearity", "linearity gap of shifts in condition tokens against the noise level",
        ("subject",), gap_numbers, draw_gaps,
        "Linearity gap of shifts of condition tokens from one value of an attribute towards the other, by a half and "
        "by the whole difference, in denoised space against the noise level ({subject}; {images} images; bands are "
        "95 % intervals over images). 0: the shift changes the prediction in proportion; 1: as much is "
        "missed as without a shift. Where one token holds the attribute the whole difference replaces it and has no "
        "gap.",
        "a denoiser that is linear in its condition has no gap; with a times the square of a token that is −1 or 1 "
        "beside it, the gap of a half is a",
        cites=("baumann2025continuous",), calls={"linearity of tokens": 800}, refuses=needs("tokens", no_tokens),
        differs="tokens are those of the subject's condition, with the difference of the two values as direction",
    ),
    Entry(
        "diti-attribute-loss", "confusion of the two images of a pair against the noise level, with its floor",
        ("subject",), loss_numbers, draw_losses,
        "Share of reconstructions that are nearer to the other image of a pair, against the noise level, by pixels and "
        "by the judge's score ({subject}; {pairs} pairs an attribute, unconditional branch; bands are 95 % intervals "
        "over pairs). Dotted: the floor of any denoiser by pixels, which depends on the pairs' distance "
        "alone. One in four is confused by pixels, with 95 % intervals, at σ = {half}.",
        "two images alone: an exact denoiser lies on the floor Φ(−|x₀ − y₀| / 2σ)",
        cites=("yue2024exploring",), calls={"reconstructions of pairs": 1440}, refuses=needs("loss", no_pairs),
    ),
)  # fmt: skip
