"""The FID report: where a Frechet distance comes from, and how far it can be trusted.

build(Path("report/fid"), command="...")                       # shipped digits, and the planted fringe
study = folder_study(Path("real"), Path("fake"), extractor)
build(Path("report/fid"), study=study, command="...")
"""

from collections.abc import Callable
from pathlib import Path

from scorescope.data.doors import checked
from scorescope.reports.fid.comparisons import shipped_study
from scorescope.reports.fid.sections_choice import audit_section, choice_section, classes_section
from scorescope.reports.fid.sections_distances import distances_section, reading_section, spatial_section
from scorescope.reports.fid.sections_planted import planted_section
from scorescope.reports.fid.sections_regions import maps_section, masks_section, occlusion_section
from scorescope.reports.fid.sections_sources import features_section, images_section
from scorescope.reports.fid.study import Study, View
from scorescope.reports.page.pages import Outcome, Section, write_report
from scorescope.reports.page.requests import Request, by_call

FULL, QUICK = 800, 340  # samples a weight: more than ten for each of the 32 features
PLANTED_FULL, PLANTED_QUICK = 3000, 1200
Make = Callable[[View], Section]


@checked
def build(
    out: Path | str,
    *,
    command: str,
    study: Study | None = None,
    quick: bool = False,
    count: int | None = None,
    sfid: bool | None = None,
    occlusion: bool | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Outcome:
    """Compare, take apart, audit and write the FID report.

    Parameters
    ----------
    out : Path or str
        Folder of the report.
    command : str
        What the manifest says made it.
    study : Study, optional
        What to compare; by default the shipped digits at several guidance weights, with the planted demonstration.
    quick : bool
        340 samples a weight in place of 800, and fewer planted scenes: wider intervals, and more bias in what is
        measured.
    count : int, optional
        Samples a weight, in place of both.
    sfid : bool, optional
        Add sFID by every reading of the network, at one more pass over the images; by default for the shipped digits.
    occlusion : bool, optional
        Add occlusion maps, at about 60 passes over the images shown; by default for the shipped digits.
    device : str
        Where the shipped model samples.
    progress : bool
        Show progress bars.

    Returns
    -------
    Outcome
        Its status says whether a part is missing.
    """
    shipped = study is None
    request: Request | str = "it was made in Python of sets of images, and no command names those"
    if shipped:
        request = by_call("report fid", quick=quick, count=count, sfid=sfid, occlusion=occlusion, device=device)
    sfid, occlusion = (shipped if asked is None else asked for asked in (sfid, occlusion))
    study = study or shipped_study(count or (QUICK if quick else FULL), device=device, progress=progress)
    view = View(study, progress)
    sections = _sections(view, sfid=sfid, occlusion=occlusion)
    scenes = PLANTED_QUICK if quick else PLANTED_FULL
    make: Make | str = "This self-test is part of the report on the shipped digits."
    if shipped:
        make = lambda view: planted_section(scenes, progress=progress)  # noqa: E731
    sections = [*sections, ("planted", "A planted fringe: the answer is known", make)]
    manifest = {
        **study.facts, "feature_space": study.extractor.name, "preprocessing": study.extractor.preprocessing,
        "second_space": study.spaces[1], "device": device,
        "weights_sha256": {e.name: e.weights_sha256 for e in (study.extractor, study.second) if e and e.weights_sha256},
        "images": {item.name: len(item.first.features) for item in study.image_sets if item is not study.spare},
    }  # fmt: skip
    question = "Which features, classes, regions and images does this FID difference come from, and can it be trusted?"
    return write_report(
        out, sections, view, name="fid", title=study.title, question=question, command=command, manifest=manifest,
        request=request,
    )  # fmt: skip


def _sections(view: View, *, sfid: bool, occlusion: bool) -> list[tuple[str, str, Make | str]]:
    """What a comparison is asked, in order; of what it is not asked, why."""
    return [
        ("distances", "Distances, companions, floors", distances_section),
        ("sfid", "sFID: where things are", spatial_section if sfid else "Not asked for (--sfid)."),
        ("features", f"Where the distance comes from: {view.name}", features_section),
        ("images", f"Images, groups and classes: {view.name}", images_section),
        ("maps", f"Regions: {view.name}", maps_section),
        ("masks", f"Masks: {view.name}", masks_section if view.study.masks else "No masks were given (--masks)."),
        ("occlusion", f"Occlusion: {view.name}", occlusion_section if occlusion else "Not asked for (--occlusion)."),
        ("classes", f"Classes before and after choosing: {view.name}", classes_section),
        ("choice", f"Chosen and dropped images: {view.name}", choice_section),
        ("audit", f"Gaming audit: {view.name}", audit_section),
        ("reading", "What was read", reading_section),
    ]
