"""Atlas: how far a Frechet distance falls by choosing among images of which none is changed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scorescope.analysis.fid.gaming import GAMING_AUDIT, PLAIN, REAL, gaming_audit
from scorescope.analysis.fid.matching import match_histogram
from scorescope.data.errors import InputError
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.fid import figures
from scorescope.reports.fid.atlas_distances import looked_into, set_facts
from scorescope.reports.fid.sections_choice import OPTIMISED, Floats, arms_of, audit_rows
from scorescope.reports.fid.study import ImageSet, View

COUNTS = (1, 2, 3, 5, 10, 20, 50)  # of classes an image that are matched
EQUAL = "equal weights"
TOP, MIDDLE = "top", "middle"
NO_CLASSES = "the judged features are not a classifier's, and so there are no classes"


def audited(material: Material) -> tuple[pd.DataFrame, list[str]]:
    """All choices in draws of one size, and a sentence on each; or an empty table, and why."""
    return material.once("audit", lambda: _audited(looked_into(material)))


def _audited(view: View) -> tuple[pd.DataFrame, list[str]]:
    if view.study.no_images:
        return pd.DataFrame(columns=GAMING_AUDIT.names), [view.study.no_images]
    arms, notes = arms_of(view)
    return (audit_rows(view, arms) if arms else pd.DataFrame(columns=GAMING_AUDIT.names)), notes


def choice_numbers(material: Material, *, optimised: bool) -> Numbers:
    """The audit's rows of matched histograms, or of optimised weights."""
    table, notes = audited(material)
    study = looked_into(material).study
    said = [note for note in notes if ("ptimised" in note) == optimised]
    facts = set_facts(study) | {"spaces": list(study.spaces), "notes": " ".join(said)}
    chosen = [arm for arm in table["arm"].unique() if arm not in (PLAIN, REAL) and (arm == OPTIMISED) == optimised]
    if not chosen:
        return Numbers({}, facts=facts, why=(" ".join(said) or NO_CLASSES).rstrip("."))
    rows = table[table["arm"].isin([PLAIN, *chosen, REAL])].reset_index(drop=True)
    facts |= {"size": int(rows["n"].max()), "draws": int(rows["draws"].max())}
    return Numbers({"audit": rows}, facts=facts)


def matching_numbers(material: Material) -> Numbers:
    """Images chosen so that their classes are those of the real ones."""
    return choice_numbers(material, optimised=False)


def fringe_numbers(material: Material) -> Numbers:
    """Images chosen by weights that lower the distance most."""
    return choice_numbers(material, optimised=True)


def draw_audit(numbers: Numbers, **how: Any) -> Figure:
    """Arms of an audit in both spaces."""
    first, second = numbers.facts["spaces"]
    return figures.audit(numbers.tables["audit"], (first, second), **how)


def topn_numbers(material: Material) -> Numbers:
    """Distances in both spaces against how many classes an image are matched."""
    view = looked_into(material)
    study = view.study
    facts = set_facts(study) | {"spaces": list(study.spaces)}
    real, logits = study.real, view.fake.first.logits
    if study.no_images or logits is None or not isinstance(real, ImageSet) or real.first.logits is None:
        return Numbers({}, facts=facts, why=(study.no_images or NO_CLASSES).rstrip("."))
    arms = _matches(logits.astype(np.float64), real.first.logits.astype(np.float64))
    spare = None if study.spare is None else study.spare.pair
    equal = {EQUAL: np.ones(len(logits))}
    table = gaming_audit(view.fake.pair, real.pair, {**equal, **arms}, spare=spare, spaces=study.spaces)
    rows = table[table["metric"].isin(["FD", "second FD"]) & (table["arm"] != PLAIN)].reset_index(drop=True)
    parts = rows["arm"].str.split("-", expand=True).reindex(columns=[0, 1])
    matched = rows["arm"].isin(arms)
    rows = rows.assign(ranks=parts[0].where(matched, rows["arm"]), count=pd.to_numeric(parts[1].where(matched, "0")))
    facts |= {"size": int(rows["n"].max()), "draws": int(rows["draws"].max())}
    return Numbers({"audit": rows}, facts=facts)


def _matches(fake: Floats, real: Floats) -> Mapping[str, Floats]:
    """Weights that match the N highest classes an image, and the N of middle rank, where they can be matched."""
    orders = [np.argsort(-logits, axis=1, kind="stable") for logits in (fake, real)]
    classes = fake.shape[1]
    found = {}
    for count in (n for n in COUNTS if n < classes):
        for ranks, first in ((TOP, 0), (MIDDLE, (classes - count) // 2)):
            try:
                match = match_histogram(*(order[:, first : first + count] for order in orders))
            except InputError:  # of no class in common; the lines have a gap there
                continue
            found[f"{ranks}-{count}"] = match.weights
    return found


def draw_topn(numbers: Numbers, **how: Any) -> Figure:
    """Both distances against N."""
    first, second = numbers.facts["spaces"]
    return figures.matched_classes(numbers.tables["audit"], (first, second), **how)


AUDITED = (
    "Frechet distance to {real} of sets chosen from {fake}, in the space of {judged}, which is judged, and in that of "
    "{second}: "
)
DRAWN = (
    " Bars: mean and 95 % intervals over {draws} draws of {size} images; labels: change against the random choice; "
    "dotted: other real images. No image is changed."
)
ENTRIES = (
    Entry(
        "fid-histogram-matching", "Frechet distances of images chosen so that their classes are those of the real ones",
        ("images",), matching_numbers, draw_audit,
        AUDITED + "a random choice, choices with the real set's histogram of the top class and of the two top classes, "
        "and other real images. {notes}" + DRAWN,
        "where a set differs in its classes alone, the matched choice is as near as real images are",
        cites=("kynkaanniemi2023role",), place="Table 1",
        differs="intervals over draws, the same number of images in every arm, and real images beside them",
    ),
    Entry(
        "fid-fringe-audit", "Frechet distances of images chosen by weights that lower the judged distance most",
        ("images",), fringe_numbers, draw_audit,
        AUDITED + "a random choice, a choice by weights optimised on the judged features, drawn with "
        "replacement, and other real images. {notes}" + DRAWN,
        "the optimised loss is never above that of equal weights, and the judged distance falls",
        cites=("kynkaanniemi2023role",), place="Tables 1 and 2",
        differs="weights by L-BFGS on the closed-form gradient; the mean of the draws, not the least of three",
    ),
    Entry(
        "fid-topn-curve", "Frechet distances against how many classes an image are matched, highest and of middle rank",
        ("images",), topn_numbers, draw_topn,
        AUDITED + "choices whose classes are those of the real set, by the N highest classes of each image, and as a "
        "control by the N of middle rank, against N. Mean and 95 % intervals over {draws} draws of {size} images with "
        "replacement; dashed: equal weights, drawn so too; dotted: other real images, each once.",
        "N = 1 has the weights p/q of the shares of the classes; a set that differs in classes alone comes as near as "
        "equal weights of its own law",
        cites=("kynkaanniemi2023role",), place="section 3",
        differs="expected counts of classes are matched, not which occur together",
    ),
)  # fmt: skip
