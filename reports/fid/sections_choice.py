"""Sections of the FID report on choosing among the generated images, none of which is changed.

What it does to the histogram of classes, to the distance in draws of one size (the audit), and which images it takes.
"""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scorescope.analysis.fid.companion_rows import enough, reference_floor
from scorescope.analysis.fid.gaming import FEWEST_KEPT, GAMING_AUDIT, gaming_audit
from scorescope.analysis.fid.matching import CLASS_SHARES, HistogramMatch, class_shares, match_histogram
from scorescope.analysis.fid.split_floors import RealFloor, other_real_floor, real_floor
from scorescope.analysis.fid.verdicts import Verdict, verdict
from scorescope.analysis.statistics.tables import Column, Schema
from scorescope.data.errors import InputError
from scorescope.probes.features.moments import Moments
from scorescope.reports.fid import figures, findings, readings
from scorescope.reports.fid.study import ImageSet, Reference, View, pictures
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

SHOWN = 10  # images at each end
OPTIMISED = "weights optimised"
Floats = NDArray[np.float64]
Arms = dict[str, Floats | HistogramMatch]

CHOICE = Schema(
    "choice",
    (
        Column("image", int, "", "row of the generated set"),
        Column("name", str, "", "its name"),
        Column("weight", float, "", "its optimised weight; 1 is an equal share"),
        Column("class_name", str, "", "its top-1 class; empty where the feature network has none"),
    ),
)
OPTIMISED_VALUE = Schema(
    "optimised_value",
    (
        Column("images", int, "", "generated images to choose from"),
        Column("start", float, "", "FD at equal weights"),
        Column("value", float, "", "FD at the optimised weights"),
        Column("effective_size", float, "", "images that the weights are worth, (sum w)^2 / sum w^2"),
        Column("largest", float, "", "largest weight; 1 is an equal share"),
        Column("floor", float, "", "what so many real images would score"),
        Column("floor_kind", str, "", "how it was found; or why there is none"),
        Column("floor_effective", float, "", "what as many real images as the effective size would score"),
        Column("floor_effective_kind", str, "", "how that was found; or why there is none"),
        Column("status", str, "", "why the search ended"),
    ),
)


def classes_section(view: View) -> Section:
    """Histograms of the top-1 classes: real, generated, and generated once images are chosen."""
    real, fake = view.study.real, view.fake.first
    if fake.top1 is None:
        return Section(text=f"No classes: {view.study.extractor.name} is no classifier.")
    if not isinstance(real, ImageSet) or real.first.top1 is None:
        return Section(text=f"No histograms: {view.study.no_images}")
    arms, notes = arms_of(view)
    weights = {name: how.weights if isinstance(how, HistogramMatch) else how for name, how in arms.items()}
    table = class_shares(fake.top1, real.first.top1, weights, names=view.study.extractor.classes)
    how = "The classes with the largest share in either set. Bars: 95 % intervals (Wilson), of unweighted images."
    return Section(
        text=" ".join(notes),
        figures=[
            ReportFigure("class_shares", figures.class_shares(table), readings.read_class_shares(table), how, wide=True)
        ],
        tables=[
            ReportTable(
                "class_shares", table, "; ".join(f"{c.name}: {c.meaning}" for c in CLASS_SHARES.columns), shown=False
            )
        ],
    )


def choice_section(view: View) -> Section:
    """Which images the optimised weights take and which they drop, how many that leaves, and the floor beside it."""
    n, d = view.size
    if n <= d:
        return Section(text=f"No optimised weights: {n} images of {d} features; it takes more images than features.")
    found = view.optimised
    order = np.argsort(-found.weights, kind="stable")
    half = min(SHOWN, n // 2)
    chosen = np.r_[order[:half], order[-half:][::-1]]
    shown = pictures(view.fake.source, chosen)
    weights = found.weights[chosen].tolist()
    figure = figures.extremes(
        shown[:half], shown[half:], weights[:half], weights[half:], rows=("chosen", "dropped"),
        names=view.labels(chosen), form=".3g",
    )  # fmt: skip
    value = _optimised_value(view)
    names = view.labels(order) or [""] * n
    table = pd.DataFrame(
        {"image": order, "name": [view.fake.first.names[row] for row in order], "weight": found.weights[order]}
    ).assign(class_name=names)
    meaning = "; ".join(f"{c.name}: {c.meaning}" for c in OPTIMISED_VALUE.columns)
    reading = readings.read_optimisation(value.iloc[0])
    return Section(
        figures=[ReportFigure("choice", figure, reading, "Numbers: the weights; 1 is an equal share.", wide=True)],
        tables=[
            ReportTable("optimised_value", value, meaning),
            ReportTable("choice", CHOICE.check(table), "Optimised weight of every image, largest first."),
            ReportTable("optimisation", found.history, "Loss at each evaluation.", shown=False),
        ],
    )


def _optimised_value(view: View) -> pd.DataFrame:
    found, n = view.optimised, view.size[0]
    floors = [_floor(view, size) for size in (n, round(found.effective_size))]
    row = (n, found.start, found.value, found.effective_size, found.largest)
    told = [part for floor in floors for part in (floor.value, floor.kind)]
    return OPTIMISED_VALUE.check(pd.DataFrame([(*row, *told, found.status)], columns=OPTIMISED_VALUE.names))


def _floor(view: View, size: int) -> RealFloor:
    """What so many real images would score."""
    real, spare = view.study.real, view.study.spare
    others = None if spare is None else spare.first.features.astype(np.float64)
    if enough(others, size):
        return other_real_floor(others, _doubles(real), size)
    if isinstance(real, ImageSet):
        return real_floor(real.first.features, size, len(real.first.features), repeats=4)
    return reference_floor(real.moments, size)


def _doubles(real: ImageSet | Reference) -> Floats | Moments:
    return real.first.features.astype(np.float64) if isinstance(real, ImageSet) else real.moments


def audit_section(view: View) -> Section:
    """How far the distance falls by choosing, in draws of one size, and what a second space says of it."""
    study = view.study
    if study.no_images:
        return Section(text=f"No audit: {study.no_images}")
    arms, notes = arms_of(view)
    if not arms:
        return Section(text=" ".join(["No audit.", *notes]))
    table = audit_rows(view, arms)
    said = _verdicts(view, table, arms)
    caption = (
        "Labels: change against the random choice. Below each arm its number of images and that of the reference, and "
        "how many images its weights are worth. Dotted: other real images. Matched draws by rejection where it keeps "
        "enough, others with replacement; 95 % intervals over draws."
    )
    meaning = "; ".join(f"{c.name}: {c.meaning}" for c in GAMING_AUDIT.columns[6:])
    return Section(
        text=" ".join([*notes, *(v.text for v in said[:-1])]),
        figures=[ReportFigure("audit", figures.audit(table, study.spaces), said[-1].text, caption, wide=True)],
        tables=[ReportTable("audit", table, "Every arm and metric: " + meaning)],
        findings=findings.by_choice(table),
    )


def audit_rows(view: View, arms: Mapping[str, Floats | HistogramMatch]) -> pd.DataFrame:
    """`GAMING_AUDIT` of choices among the generated images, beside other real ones; needs real images."""
    study = view.study
    assert isinstance(study.real, ImageSet)
    spare = None if study.spare is None else study.spare.pair
    return gaming_audit(view.fake.pair, study.real.pair, arms, spare=spare, spaces=study.spaces)


def arms_of(view: View) -> tuple[Arms, list[str]]:
    """How images are chosen, and a sentence on each choice: what it keeps, or why it is not there."""
    n, d = view.size
    arms, notes = _matches(view)
    if n > d:
        arms[OPTIMISED] = view.optimised.weights
        notes.append(f"Optimised weights are worth {view.optimised.effective_size:.0f} of {n} images.")
    else:
        notes.append(f"No optimised weights: {n} images of {d} features; it takes more images than features.")
    return arms, notes


def _matches(view: View) -> tuple[Arms, list[str]]:
    """Choices of images with the real set's histogram of top-1 and of top-2 classes, where there are classes."""
    fake, real = view.fake.first.logits, view.study.real
    arms: Arms = {}
    notes: list[str] = []
    if fake is None or not isinstance(real, ImageSet) or real.first.logits is None:
        return arms, notes
    for size in (1, 2):
        tops = [np.argsort(-logits, axis=1)[:, :size] for logits in (fake, real.first.logits)]
        try:
            match = match_histogram(*tops)
        except InputError as error:
            notes.append(f"No top-{size} match: {error.found} among the generated images.")
            continue
        kept = f"Top-{size}: rejection keeps {match.rate:.1%}, {match.unreachable:.1%} out of reach"
        if match.rate * len(fake) >= FEWEST_KEPT:
            arms[f"top-{size} matched"] = match
            notes.append(f"{kept}.")
        else:
            arms[f"top-{size} matched"] = match.weights
            notes.append(f"{kept}: too few, so images are drawn by weight, with replacement.")
    return arms, notes


def _verdicts(view: View, table: pd.DataFrame, arms: Mapping[str, Floats | HistogramMatch]) -> list[Verdict]:
    """What each arm says, against the best of the other sets at the same number of images."""
    study, at_size, name = view.study, math.nan, ""
    others = [item for item in study.fakes if item is not view.fake]
    if others and isinstance(study.real, ImageSet):
        best = min(others, key=view.distance)
        plain = gaming_audit(best.pair, study.real.pair, {}, spaces=study.spaces, size=int(table["n"].max()))
        row = plain[plain["metric"] == "FD"].iloc[0]
        if row["n"] == table["n"].max():  # another number of images has another bias
            at_size, name = float(row["value"]), best.name
    causes = {arm: "weights on all features" if arm == OPTIMISED else "class statistics alone" for arm in arms}
    return [verdict(table, arm, other_value=at_size, other_name=name, cause=cause) for arm, cause in causes.items()]
