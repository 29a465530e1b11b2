"""What the attribute figures of the atlas share: one workbench, its sizes, and what a subject may lack.

Sizes are those of a quick report, but for the seeds of arms, of which there are a sixth of the samples asked for.
"""

from collections.abc import Callable
from typing import Any

from scorescope.analysis.directions.steered import SteerCurve
from scorescope.reports.directions.study import Contrast, Subject, site_name
from scorescope.reports.directions.workbench import FOUND_AT, Workbench
from scorescope.reports.entries import Material

LEAST_SEEDS, SHARE = 8, 6
STRENGTHS = (-6.0, -2.0, 2.0, 6.0)  # standard deviations of the projection

# evaluations of the denoiser of the shipped shapes, in all, where 96 samples are asked for
READ = {"activations of labelled images": 4500}
MAPPED = {**READ, "the steering map, every third site": 7616}
DOSED = {**MAPPED, "dose and response": 3696}


def subject_of(material: Material) -> Subject:
    """The subject, made once."""
    assert material.subject is not None  # among the needs of whoever asks
    found: Subject = material.once("subject", material.subject)
    return found


def bench_of(material: Material) -> Workbench:
    """Its workbench, made once."""
    return material.once("workbench", lambda: Workbench(subject_of(material), True, False, seed=material.seed))


def arm_seeds(material: Material) -> range:
    """Seeds of every arm, which had no part in the choice of a site or a contrast."""
    return bench_of(material).fresh(max(LEAST_SEEDS, material.count // SHARE))


def steered(material: Material) -> SteerCurve:
    """Dose and response of the contrast that moves most, at the site where it does."""
    return material.once("dose and response", lambda: _steered(material))


def _steered(material: Material) -> SteerCurve:
    bench = bench_of(material)
    contrast = bench.strongest
    direction = bench.direction(contrast, bench.best_site(contrast), sigma=FOUND_AT)
    return bench.steer(contrast, direction, strengths=STRENGTHS, seeds=arm_seeds(material))


def facts_of(bench: Workbench, contrast: Contrast | None = None, site: str = "", **more: Any) -> dict[str, Any]:
    """What captions say of a subject and, where one was chosen, of a contrast and a site; they say how themselves."""
    steps = sum(sigma > 0 for sigma in bench.sampling.sigmas or ())
    if site:
        level = bench.activations.nearest_level(FOUND_AT)
        more["found_at"] = f"{bench.activations.sigmas[level]:.2g}"
    return {
        "subject": bench.subject.name, "images": len(bench.images), "images_are": bench.subject.images_are,
        "contrast": "" if contrast is None else str(contrast), "site": site_name(site),
        "solver": f"Euler, {steps} steps", "how": "", **more,
    }  # fmt: skip


def spread_of(seeds: range) -> str:
    """Seeds as captions name them."""
    return f"{seeds.start} to {seeds.stop - 1}"


def needs(section: str, lack: Callable[[Workbench], str]) -> Callable[[Material], str]:
    """Why a subject cannot have a figure: its own reason to leave out that section of the report, or what it lacks."""

    def refuses(material: Material) -> str:
        bench = bench_of(material)
        return bench.subject.left_out.get(section, "").rstrip(".") or lack(bench)

    return refuses


def untold(bench: Workbench) -> str:
    """No condition can be switched where it names no attribute."""
    return "" if bench.told else "the condition of the subject names none of its attributes"


def no_tokens(bench: Workbench) -> str:
    """Tokens are what `embed` makes of labels."""
    if not hasattr(bench.subject.denoiser, "embed"):
        return "the subject's denoiser has no `embed`, so that its condition has no tokens to look at"
    return untold(bench)


def no_pairs(bench: Workbench) -> str:
    """Pairs of images that differ in one attribute are given with the subject."""
    return "" if bench.subject.pairs is not None else "no counterfactual pairs (`pairs`) were given with the subject"
