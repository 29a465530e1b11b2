"""Atlas: figures of groups that no condition names: along sampling, beside data judged alike, and by guidance."""

from typing import Any

from matplotlib.figure import Figure

from scorescope.reports.directions.atlas_bench import subject_of
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.inside import figures
from scorescope.reports.inside.atlas_bench import bench_of
from scorescope.reports.inside.groups_study import STEPS, named_contrast, open_attribute

# evaluations of the denoiser of the shipped shapes, in all
MEASURED = {"groups along sampling and under guidance": 18_300}


def _facts(material: Material, **more: Any) -> dict[str, Any]:
    subject, study = subject_of(material), bench_of(material).groups
    return {
        "subject": subject.name, "images_are": subject.images_are, "attribute": study.attribute,
        "group": study.groups[-1], "classes": " and ".join(study.classes), "steps": STEPS, "how": "", **more,
    }  # fmt: skip


def along_numbers(material: Material) -> Numbers:
    """Shares of D at every noise level, of samples and of noised images, and where the first depart."""
    study = bench_of(material).groups
    sources = study.along.groupby("source")["n"].min()
    said = {"n": int(sources["samples"]), "control": int(sources["data"])}
    tables = {"along": study.along, "landmarks": study.landmarks, "readings": study.readings}
    return Numbers(tables, facts=_facts(material, **said))


def draw_along(numbers: Numbers, **how: Any) -> Figure:
    """A panel a class."""
    group = numbers.facts["group"]
    label = f"share with {numbers.facts['attribute']}: {group}"
    tables = numbers.tables
    return figures.group_shares_along(tables["along"], group, landmarks=tables["landmarks"], label=label, **how)


def amplification_numbers(material: Material) -> Numbers:
    """Shares under each rule and weight, and among images of the class."""
    table = bench_of(material).groups.amplification
    said = {"n": int(table["n"].min()), "images": int(table["data_n"].min())}
    return Numbers({"amplification": table}, facts=_facts(material, **said))


def draw_amplification(numbers: Numbers, **how: Any) -> Figure:
    """A panel a class."""
    group = numbers.facts["group"]
    label = f"share with {numbers.facts['attribute']}: {group}"
    return figures.amplification(numbers.tables["amplification"], group, label=label, **how)


def _no_groups(material: Material) -> str:
    """Why there are no groups, or no classes."""
    subject = subject_of(material)
    if open_attribute(subject) is None:
        return "the condition of the subject names every attribute that its judge knows"
    return "" if named_contrast(subject) else "the condition of the subject names none of its contrasts"


ENTRIES = (
    Entry(
        "groups-along", "share of a group that no condition names at each noise level of sampling, beside the data's",
        ("subject",), along_numbers, draw_along,
        "Share of images with {attribute} '{group}', of which the condition says nothing, as the judge sees it in the "
        "denoised prediction D at each noise level, a panel a class, without guidance and with; points: of the samples "
        "themselves. Dotted: of D of noised {images_are} of the class, which are as blurred; shaded: levels at which "
        "the judge tells these apart too rarely ({subject}; classes {classes}; {n} or more samples and {control} or "
        "more images of each, Euler, {steps} steps; bands are exact 95 % intervals).",
        "where the attribute is independent of the class and of what guidance moves, shares with and without guidance "
        "are the same at every level",
        cites=("shi2025dissecting",), calls=MEASURED, refuses=_no_groups,
        differs="shares are followed through sampling and held against those of data judged alike",
    ),
    Entry(
        "groups-amplification", "share of a group that no condition names under guidance, class by class",
        ("subject",), amplification_numbers, draw_amplification,
        "Share of samples with {attribute} '{group}', of which the condition says nothing, by guidance rule and "
        "weight, a panel a class; dotted, with its 95 % interval: of {images_are} of the class ({subject}; classes "
        "{classes}; {n} or more seeds and {images} or more images of each, the same seeds under all rules, Euler, "
        "{steps} steps; bars are exact 95 % intervals).",
        "of a law of two points every sample's group follows from its start, by the flow of the guided law",
        calls=MEASURED, refuses=_no_groups,
    ),
)  # fmt: skip
