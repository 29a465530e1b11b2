"""The FID report: where a Frechet distance comes from, and how far it can be trusted.

build(Path("report/fid"), command="...")                       # shipped digits, and the planted fringe
study = folder_study(Path("real"), Path("fake"), extractor)
build(Path("report/fid"), study=study, command="...")
"""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from scorescope.data.doors import checked
from scorescope.reports.fid.comparisons import shipped_study
from scorescope.reports.fid.sections_choice import audit_section, choice_section, classes_section
from scorescope.reports.fid.sections_distances import distances_section, reading_section, spatial_section
from scorescope.reports.fid.sections_planted import planted_section
from scorescope.reports.fid.sections_regions import maps_section, masks_section, occlusion_section
from scorescope.reports.fid.sections_sources import features_section, images_section
from scorescope.reports.fid.study import Study, View
from scorescope.reports.page.methods import Keys, noting
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
    methods: list[str] = _of_networks(study)
    manifest = {
        **study.facts, "feature_space": study.extractor.name, "preprocessing": study.extractor.preprocessing,
        "second_space": study.spaces[1], "device": device, "methods": methods,
        "weights_sha256": {e.name: e.weights_sha256 for e in (study.extractor, study.second) if e and e.weights_sha256},
        "images": {item.name: len(item.first.features) for item in study.image_sets if item is not study.spare},
    }  # fmt: skip
    question = "Which features, classes, regions and images does this FID difference come from, and can it be trusted?"
    return write_report(
        out, noting(methods, sections, METHODS), view, name="fid", title=study.title, question=question,
        command=command, manifest=manifest, request=request,
    )  # fmt: skip


def _of_metrics(table: pd.DataFrame) -> list[str]:
    """Where the metrics come from that have a value."""
    measured = set(table.loc[table["value"].notna(), "metric"])
    return [key for metric, key in METRICS.items() if metric in measured]


def _of_networks(study: Study) -> list[str]:
    """Where the feature spaces come from, and the way of the images to them."""
    names = " ".join(one.name for one in (study.extractor, study.second) if one).lower()
    cleaned = ["parmar2022aliased"] if study.extractor.preprocessing == "clean_fid" else []
    return [*(key for network, key in NETWORKS.items() if network in names), *cleaned]


METRICS = {
    "FD": "heusel2017gans",
    "FID_infinity": "chong2020effectively",
    "KID x 1000": "binkowski2018demystifying",
    "CMMD": "jayasumana2024rethinking",
    "precision": "kynkaanniemi2019improved",
    "density": "naeem2020reliable",
    "Inception Score": "salimans2016improved",
}
NETWORKS = {
    "efficientnet": "tan2019efficientnet", "dinov2": "stein2023exposing", "clip": "radford2021learning",
}  # fmt: skip
METHODS: dict[str, Keys] = {
    "companions": _of_metrics,
    "sfid": ["nash2021generating"],
    "heatmaps": ["kynkaanniemi2023role"],
    "planted_maps": ["kynkaanniemi2023role"],
    "occlusion": ["kokhlikyan2020captum"],
    "class_shares": ["kynkaanniemi2023role"],
    "optimised_value": ["kynkaanniemi2023role"],
    "audit": ["kynkaanniemi2023role"],
}
"""Keys by the table, or the figure, that shows the method."""


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
