"""Atlas: figures of what directions and patches move: dose, purity, windows of noise levels, carriers, balance."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from scorescope.analysis.directions.noise_intervals import windows
from scorescope.analysis.gaussian.norms import noise_norms
from scorescope.probes.activations.collect import collect
from scorescope.probes.bank.points import Bank
from scorescope.reports.directions import figures
from scorescope.reports.directions.atlas_bench import (
    DOSED,
    MAPPED,
    arm_seeds,
    bench_of,
    facts_of,
    needs,
    spread_of,
    steered,
    untold,
)
from scorescope.reports.directions.sections_conditions import patch_told
from scorescope.reports.directions.sections_directions import compare_readers
from scorescope.reports.directions.study import Contrast
from scorescope.reports.directions.workbench import DOSE, FOUND_AT, RELEVANT, Workbench
from scorescope.reports.entries import Entry, Material, Numbers

STATE = "x"  # the noisy state itself, as a site
READERS = 8  # seeds that directions of every recipe are moved on
PATCHED = 20  # seeds of patched runs


def _chosen(material: Material) -> tuple[Workbench, Contrast, str]:
    """The contrast that moves most, and the site where it does."""
    bench = bench_of(material)
    return bench, bench.strongest, bench.best_site(bench.strongest)


def dose_numbers(material: Material) -> Numbers:
    """Dose and response with its verdict."""
    bench, contrast, site = _chosen(material)
    found, seeds = steered(material), arm_seeds(material)
    verdict = found.verdicts.iloc[0]
    said = {
        "n": len(seeds), "seeds": spread_of(seeds), "verdict": verdict["verdict"], "budget": found.budget,
        "relevant": RELEVANT, "random": sum(name.startswith("random") for name in found.controls),
        "shuffled": sum(name.startswith("shuffled") for name in found.controls),
    }  # fmt: skip
    tables = {"curve": found.curve, "arms": found.arms, "verdicts": found.verdicts}
    return Numbers(tables, facts=facts_of(bench, contrast, site, **said))


def draw_dose(numbers: Numbers, **how: Any) -> Figure:
    """The target by arm, and all scores."""
    return figures.dose_response(numbers.tables["curve"], **how)


def reader_numbers(material: Material) -> Numbers:
    """How well directions of each recipe read, and how purely they move."""
    bench = bench_of(material)
    contrast = bench.contrasts[0]
    site = bench.best_site(contrast)
    table = compare_readers(bench, site)
    others = [name for name in bench.natural if name != contrast.attribute]
    said = {
        "n": READERS, "seeds": spread_of(bench.fresh(READERS)), "rows": int(table["n"].iloc[0]),
        "others": ", ".join(others) or "none",
        "moving": ", ".join(table.loc[table["moves"], "method"]) or "none",
    }  # fmt: skip
    return Numbers({"readers": table}, facts=facts_of(bench, contrast, site, **said))


def draw_readers(numbers: Numbers, **how: Any) -> Figure:
    """Purity of the move against the area under the curve."""
    return figures.readers_and_movers(numbers.tables["readers"], **how)


def mixing_numbers(material: Material) -> Numbers:
    """Probes of the state and of a site, norms of states, and effects of a direction by window."""
    bench, contrast, site = _chosen(material)
    norms = noise_norms(bench.images, bench.sigmas, seed=bench.seed + 1)
    sigmas = [sigma for sigma in bench.sampling.sigmas or () if sigma > 0]
    direction = bench.direction(contrast, site, sigma=FOUND_AT)
    found = bench.steer(
        contrast, direction, strengths=(-DOSE, DOSE), seeds=arm_seeds(material), intervals=windows(sigmas, 3)
    )
    said = {
        "seeds": spread_of(arm_seeds(material)), "n": len(arm_seeds(material)), "dose": DOSE,
        "d": int(norms["d"].iloc[0]),
        "inside": _inside(norms),
    }  # fmt: skip
    tables = {"windows": found.verdicts, "probes": _read_both(bench, contrast, site), "norms": norms}
    return Numbers(tables, facts=facts_of(bench, contrast, site, **said))


def _inside(norms: pd.DataFrame) -> str:
    """From which level up nine in ten images are as long as noise is, as the end of a sentence."""
    falling = norms.sort_values("sigma", ascending=False)
    held = falling[(falling["inside"] >= 0.9).cummin()]
    return "not even at the highest level" if held.empty else f"from σ = {held['sigma'].min():.2g} on"


def _read_both(bench: Workbench, contrast: Contrast, site: str) -> pd.DataFrame:
    """Probes of one attribute in the noisy state and at a site, on the same split."""
    state = collect(bench.subject.denoiser, Bank(bench.images, bench.sigmas, seed=bench.seed + 1), {STATE: "whole"})
    labels = {contrast.attribute: bench.labels[:, bench.subject.column(contrast.attribute)]}
    table = bench.scan.table
    own = table[(table["attribute"] == contrast.attribute) & (table["site"] == site)]
    return pd.concat([bench.scan_of(state, labels, resamples=50).table, own], ignore_index=True)


def draw_mixing(numbers: Numbers, **how: Any) -> Figure:
    """Read, long, moved."""
    tables = numbers.tables
    return figures.mixing_step(tables["probes"], tables["norms"], tables["windows"], **how)


def patch_numbers(material: Material) -> Numbers:
    """Normalised recovery by site and interval of noise levels."""
    bench = bench_of(material)
    contrast = bench.told[0]
    table = patch_told(bench, contrast, count=PATCHED).recovery
    said: dict[str, Any] = {"seeds": spread_of(bench.seeds(PATCHED)), "fewest": int(table["n"].min()), "n": PATCHED}
    return Numbers({"recovery": table}, facts=facts_of(bench, contrast, high=contrast.high, **said))


def draw_patches(numbers: Numbers, **how: Any) -> Figure:
    """Sufficiency and necessity."""
    return figures.recovery_map(numbers.tables["recovery"], **how)


def balance_numbers(material: Material) -> Numbers:
    """Shares of both ends of a contrast among steered samples."""
    bench, contrast, site = _chosen(material)
    found, seeds = steered(material), arm_seeds(material)
    table = found.balance(contrast.low, contrast.high)
    own = table[table["arm"].isin(["direction", "none"])]
    bare = own[own["arm"] == "none"].iloc[0]
    kept = sorted(own.loc[own["distance"] <= found.budget, "strength"].unique())
    said = {
        "n": len(seeds), "seeds": spread_of(seeds), "bare": float(bare["imbalance"]),
        "bare_low": float(bare["imbalance_low"]), "bare_high": float(bare["imbalance_high"]),
        "kept": ", ".join(f"{strength:g}" for strength in kept),
    }  # fmt: skip
    return Numbers({"balance": table}, facts=facts_of(bench, contrast, site, **said))


def draw_balance(numbers: Numbers, **how: Any) -> Figure:
    """Shares, and their distance from even."""
    return figures.balance_curves(numbers.tables["balance"], **how)


ENTRIES = (
    Entry(
        "dose-response", "change of an attribute's score against the strength of its direction, beside controls",
        ("subject",), dose_numbers, draw_dose,
        "Change of the judge's score of {contrast} against the strength of its direction at {site}, of {random} random "
        "directions of the same norm and {shuffled} directions of shuffled labels, and of all scores along the "
        "direction, in standard deviations over {images_are} ({subject}; difference of means at σ = {found_at}, added "
        "at all noise levels, the attribute left open; {n} samples an arm, seeds {seeds}, same start and noise, "
        "{solver}, guidance weight 1; bands are 95 % intervals over seeds). Site and contrast were chosen "
        "on other seeds; against its controls and {relevant:g} standard deviations the direction is {verdict}.",
        "strength 0 changes nothing; in a denoiser with a known unit the response is the solution of one ordinary "
        "differential equation",
        cites=("gandikota2024concept",), calls=DOSED,
        differs="a direction of activations is added, where sliders scale an adaptor of the weights",
    ),
    Entry(
        "read-vs-move", "how well directions of several recipes read an attribute against how purely they move it",
        ("subject",), reader_numbers, draw_readers,
        "Share of the change that is the target's when a direction of {contrast} at {site} is added, against the area "
        "under the curve when it reads {rows} held-out {images_are}, one mark a recipe ({subject}; found at σ = "
        "{found_at} on the other half; {n} samples, seeds {seeds}, {solver}, guidance weight 1; other scores: "
        "{others}; bars are 95 % intervals, bootstrap over images and over seeds, not corrected for the number of "
        "recipes). More than random directions and those of shuffled labels is moved by: {moving}.",
        "of independent factors the difference of means is the axis that moves one and nothing else",
        cites=("marks2024geometry",), calls={**MAPPED, "directions of several recipes": 1792},
        differs="the paper compares recipes in language models",
    ),
    Entry(
        "mixing-step", "where an attribute is read, states are as long as noise, and a direction moves, against σ",
        ("subject",), mixing_numbers, draw_mixing,
        "Against the noise level, from top: balanced accuracy of a probe of {contrast} in the noisy state x and at "
        "{site}, scored on validation {images_are}; squared norm a dimension of x / √(1 + σ²), its mean and the middle "
        "95 % of {images} images, beside the middle 95 % of pure noise (chi-square, {d} dimensions; nine in ten images "
        "lie there {inside}); effect of the direction, ±{dose:g} standard deviations added within a window, beyond its "
        "largest control ({subject}; {n} samples an arm, seeds {seeds}, {solver}, guidance weight 1; other bands are "
        "95 % intervals, over images and over seeds).",
        "pure noise lies inside the band at every level; of other images the mean is (E y² + σ²) / (1 + σ²)",
        cites=("zhu2023boundary",), calls={**MAPPED, "a direction by windows": 5500},
        differs="states are images with noise, where the paper inverts images, and no step is chosen by their norm",
    ),
    Entry(
        "causal-trace", "normalised recovery of an attribute when a site is patched, by site and noise levels",
        ("subject",), patch_numbers, draw_patches,
        "Median recovery of the log-odds of {high} ({contrast}) when the activation of a site is patched from a run "
        "under the other condition, by site and interval of noise levels: put in (sufficiency) and taken out "
        "(necessity) ({subject}; {n} samples, seeds {seeds}, of which at least {fewest} differ in effect, same start, "
        "{solver}, guidance weight 1). 95 % intervals of the medians, bootstrap over seeds, are in the table.",
        "a site through which all of the condition goes recovers 1, one that nothing reads 0",
        cites=("basu2024localizing",), calls={"patched runs": 2520}, refuses=needs("patching", untold),
        differs="conditions are switched, where the paper adds noise to the embedding of the subject, and the outcome "
        "is the judge's score",
    ),
    Entry(
        "fairness-balance", "shares of an attribute's values, and their distance from even, against a strength",
        ("subject",), balance_numbers, draw_balance,
        "Shares of samples that the judge finds nearer to either end of {contrast}, and the distance of these shares "
        "from even, against the strength of its direction at {site} ({subject}; difference of means at σ = {found_at}, "
        "the attribute left open; {n} samples an arm, seeds {seeds}, {solver}, guidance weight 1; bands are 95 % "
        "Wilson intervals). Without edit the distance is {bare:.2f} ({bare_low:.2f} to {bare_high:.2f}). Images stay "
        "within half the mean distance between samples of different seeds at strengths {kept}.",
        "even shares give 0, and samples of one value alone √(1 − 1/2)",
        cites=("shi2025dissecting",), calls=DOSED,
        differs="samples are counted, where the paper averages a classifier's probabilities, and a direction is added, "
        "where it changes features of a sparse autoencoder",
    ),
)  # fmt: skip
