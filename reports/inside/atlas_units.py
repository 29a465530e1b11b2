"""Atlas: figures of single channels: whether they fire where something is, and what editing them changes."""

from dataclasses import replace
from typing import Any

from matplotlib.figure import Figure

from scorescope.reports.directions.atlas_bench import subject_of
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.inside import figures
from scorescope.reports.inside.atlas_bench import bench_of
from scorescope.reports.inside.units_study import INTERVALS, SEEDS, STEPS, UnitsStudy

# evaluations of the denoiser of the shipped shapes, in all
MEASURED = {"units of a site": 16_100}
OF = "{site}, chosen of {channels} by their overlap with {region} on average over noise levels"


def _study(material: Material) -> UnitsStudy:
    """Units of the last site, whose maps are finest, at the sizes of a quick report."""
    return material.once("units", lambda: replace(bench_of(material), named=()).units)


def _facts(material: Material, **more: Any) -> dict[str, Any]:
    study, subject = _study(material), subject_of(material)
    first = study.overlap.iloc[0]
    return {
        "subject": subject.name, "images_are": subject.images_are, "site": study.site, "region": study.region,
        "channels": study.overlap["unit"].nunique(), "chosen": len(study.units), "judged": int(first["n"]),
        "fitted": int(first["fitted"]), "permutations": int(first["permutations"]), "how": "", **more,
    }  # fmt: skip


def overlap_numbers(material: Material) -> Numbers:
    """IoU of the chosen units by noise level, the images in which they are strongest, and their maps there."""
    study = _study(material)
    rows = study.overlap[study.overlap["region"] == study.region].set_index("unit").loc[study.units].reset_index()
    beyond = int((study.overlap.loc[study.overlap["region"] == study.region, "p_adjusted"] <= 0.05).sum())
    pictures = {"images": study.pictures.flatten(0, 1), "maps": study.maps.maps.flatten(0, 1)[:, None]}
    told = _facts(material, shown_at=study.sigma, beyond=beyond, rows=len(study.overlap))
    return Numbers({"overlap": rows, "all_units": study.overlap}, pictures, told)


def draw_overlap(numbers: Numbers, **how: Any) -> Figure:
    """Images above, curves below."""
    units = numbers.facts["chosen"]
    pictures, maps = (numbers.pictures[name].unflatten(0, (units, -1)) for name in ("images", "maps"))
    return figures.unit_overlap(
        numbers.tables["overlap"], pictures, maps[:, :, 0], sigma=numbers.facts["shown_at"], **how
    )


def effect_numbers(material: Material) -> Numbers:
    """What ablating and inserting the chosen units changes, beside random sets."""
    study = _study(material)
    verdicts = study.effects.verdicts
    said = {
        "n": SEEDS, "steps": STEPS, "intervals": INTERVALS, "random": int(verdicts["random"].iloc[0]),
        "moves": int((verdicts["verdict"] == "moves").sum()), "rows": len(verdicts),
        "where": "in a region of each sample that is unlike its background" if study.regional else "at all positions",
    }  # fmt: skip
    return Numbers({"effects": verdicts, "arms": study.effects.arms}, facts=_facts(material, **said))


def draw_effects(numbers: Numbers, **how: Any) -> Figure:
    """A panel a score."""
    return figures.unit_effects(numbers.tables["effects"], numbers.tables["arms"], **how)


def _no_masks(material: Material) -> str:
    """Why there are no regions."""
    return "" if subject_of(material).masks else "the subject has no masks of regions of its images (`masks`)"


ENTRIES = (
    Entry(
        "units-overlap", "overlap of single channels with a region of the images, by noise level",
        ("subject",), overlap_numbers, draw_overlap,
        "Above: the images in which a channel is strongest at σ = {shown_at:.2g}, where the first of them overlaps "
        "most, dark where it does not fire. Below: its overlap (intersection over union) with {region} against the "
        "noise level, the largest possible one, and what masks of other images give in 95 % of permutations, each on "
        f"its own ({{subject}}; {{chosen}} channels of {OF}; a channel fires at and above the "
        "value that it reaches at the top 0.5 % of positions of {fitted} {images_are}; shown of {judged} others, "
        "{permutations} permutations; bars are 95 % intervals over images). {beyond} of {rows} overlaps are beyond "
        "chance at 5 % for all of them together.",
        "a channel that is the posterior mean of the region overlaps with it as a copy of it does that nothing reads",
        cites=("bau2017network", "bau2019gan"), calls=MEASURED, refuses=_no_masks,
        differs="channels are of a denoiser, at each noise level with a threshold of its own, and chance is that of "
        "masks of other images",
    ),
    Entry(
        "units-effects", "change of samples when chosen channels are ablated or inserted, beside random sets",
        ("subject",), effect_numbers, draw_effects,
        "Root mean square change of pixels when {chosen} channels are set to their mean (ablated) or to their mean "
        "over {region} (inserted) {where}, at one of {intervals} intervals of noise levels; dashes: {random} random "
        f"sets of as many channels, like them in spread ({{subject}}; {OF}; {{n}} seeds, Euler, {{steps}} steps; bars "
        "are 95 % intervals over seeds). In {moves} of {rows} rows they change more than random sets do (filled; "
        "p ≤ 0.05 of all rows together).",
        "where one channel alone makes the image, sets without it change nothing, and late on those with it change "
        "pixels of the region alone",
        cites=("bau2019gan",), calls=MEASURED, refuses=_no_masks,
        differs="samples of a diffusion model are edited at some noise levels, and compared with random sets of "
        "channels",
    ),
)  # fmt: skip
