"""Atlas: figures of sparse features: what they keep of a site, how often they fire, what they read and move."""

from typing import Any

from matplotlib.figure import Figure

from scorescope.reports.directions.atlas_bench import subject_of
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.inside import figures
from scorescope.reports.inside.atlas_bench import bench_of
from scorescope.reports.inside.report import LEAST
from scorescope.reports.inside.sparse_study import ACTIVE, DOSE, FEATURES, JUDGED, SCREENED
from scorescope.reports.inside.workbench import Workbench

# evaluations of the denoiser of the shipped shapes, in all
MEASURED = {"sparse features of two sites": 26_000}
SAID = (
    "one autoencoder a site for all noise levels, {features} features a channel, {active} active at a position, "
    "trained on {trained} {images_are}"
)


def _facts(bench: Workbench, **more: Any) -> dict[str, Any]:
    """What captions say of a subject and its autoencoders; they say how themselves."""
    study = bench.sparse
    return {
        "subject": bench.subject.name, "images_are": bench.subject.images_are, "held_out": len(study.images),
        "trained": len(bench.subject.images) - len(study.images), "features": FEATURES, "active": ACTIVE,
        "sites": " and ".join(bench.sites), "how": "", **more,
    }  # fmt: skip


def sheet_numbers(material: Material) -> Numbers:
    """The metric sheet of two sites."""
    bench = bench_of(material)
    return Numbers({"sheet": bench.sparse.sheet}, facts=_facts(bench))


def draw_sheet(numbers: Numbers, **how: Any) -> Figure:
    """Unexplained variance, silent features, and the loss, by noise level."""
    return figures.sparse_sheet(numbers.tables["sheet"], **how)


def density_numbers(material: Material) -> Numbers:
    """How often every feature fires."""
    bench = bench_of(material)
    table = bench.sparse.density
    return Numbers({"density": table}, facts=_facts(bench, rows=int(table["rows"].min())))


def draw_density(numbers: Numbers, **how: Any) -> Figure:
    """Histograms by site and noise level."""
    return figures.density_histogram(numbers.tables["density"], **how)


def judged_numbers(material: Material) -> Numbers:
    """What chosen features read on other images, and move on other seeds."""
    bench = bench_of(material)
    judged = bench.sparse.judged
    steers = (judged["verdict"] == "steerable") & judged["within_budget"]
    said = {
        "n": len(JUDGED), "screened": len(SCREENED), "dose": DOSE, "judged": len(judged), "steers": int(steers.sum()),
    }  # fmt: skip
    return Numbers({"judged": judged}, facts=_facts(bench, **said))


def draw_judged(numbers: Numbers, **how: Any) -> Figure:
    """Reading beside moving."""
    return figures.read_and_move(numbers.tables["judged"], **how)


def _few(material: Material) -> str:
    """Why there are no autoencoders."""
    count = len(subject_of(material).images)
    return "" if count >= LEAST else f"the subject has {count} images, fewer than {LEAST}"


ENTRIES = (
    Entry(
        "sae-sheet", "unexplained variance, silent features and the loss of a site's reconstruction, by noise level",
        ("subject",), sheet_numbers, draw_sheet,
        "Against the noise level, from top: share of the variance that sparse features leave unexplained, share of "
        "them that never fire, and rise of the denoising loss when {sites} are replaced by their reconstruction, over "
        f"the rise without the site ({{subject}}; {SAID}; shown of {{held_out}} others; bars are 95 % intervals over "
        "images).",
        "a site that nothing reads raises no loss, whatever is put in its place",
        cites=("gao2024scaling",), calls=MEASURED, refuses=_few,
        differs="by noise level, where papers train and measure at one or over all, and the loss is the denoiser's",
    ),
    Entry(
        "sae-density", "how many features fire at which share of positions, by noise level",
        ("subject",), density_numbers, draw_density,
        "Features of {sites} by the share of {rows} positions at which they fire, a shade a noise level "
        f"({{subject}}; {SAID}; shown of {{held_out}} others).",
        "shares of positions add up to the mean number of active features at each level",
        cites=("gao2024scaling",), calls=MEASURED, refuses=_few,
    ),
    Entry(
        "sae-read-vs-move", "what chosen sparse features read on held-out images against what they move",
        ("subject",), judged_numbers, draw_judged,
        "Left: area under the curve when a feature's mean code tells the two ends of an attribute apart on {held_out} "
        "held-out {images_are}. Right: change of the judge's score when it is added, ±{dose:g} standard deviations of "
        "its projection at all noise levels; grey, the root mean square effect of random directions of its norm "
        f"({{subject}}, {{sites}}; {SAID}; each feature is the one that moved its attribute most on {{screened}} other "
        "seeds, of those that read it best; {n} seeds, bars are 95 % intervals). {steers} of {judged} are judged "
        "steerable (filled).",
        "a site that nothing reads moves nothing, however well its features read",
        cites=("shi2025dissecting",), calls=MEASURED, refuses=_few,
        differs="features are judged against random directions, on images and seeds that had no part in choosing them",
    ),
)  # fmt: skip
