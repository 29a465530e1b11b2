"""The section of the inside report on groups: what guidance makes of an attribute that the condition does not name."""

import pandas as pd

from scorescope.reports.inside import figures, findings, readings
from scorescope.reports.inside.groups_study import (
    BARE,
    STEPS,
    STRONG,
    GroupStudy,
    named_contrast,
    open_attribute,
    steered_shares,
)
from scorescope.reports.inside.workbench import Workbench
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

ALL_NAMED = "Not made: the condition names every attribute that the judge knows; a group is one that it leaves open."
NONE_NAMED = "Not made: the condition names none of the contrasts, so that there are no classes to compare."
FIRST = (
    "class", "setting", "group", "difference", "difference_low", "difference_high", "share", "data_share", "change",
    "log_odds_ratio", "n",
)  # fmt: skip


def groups_section(bench: Workbench) -> Section:
    """Shares of groups that no condition names, along sampling and by guidance rule, against those of the images."""
    if open_attribute(bench.subject) is None:
        return Section(text=ALL_NAMED)
    if named_contrast(bench.subject) is None:
        return Section(text=NONE_NAMED)
    study = bench.groups
    group = study.groups[-1]
    label = f"share with {study.attribute}: {group}"
    seeds, known = study.amplification["n"].min(), study.amplification["data_n"].min()
    tables = [
        ReportTable("amplification", study.amplification, "One row a (rule, class, group).", first=FIRST),
        ReportTable("group_landmarks", study.landmarks, "Where shares depart and samples are decided.", shown=False),
        ReportTable("groups_along", study.along, "One row a (rule, class, noise level, group).", shown=False),
        ReportTable("group_readings", study.readings, "What is read, and decided, at each level.", shown=False),
    ]
    steered = _steered(bench, study)
    if steered is not None:
        tables.append(ReportTable("steered_shares", steered, "The feature of each site that reads the groups best."))
    said = "" if steered is None else f" {readings.read_steered(steered, group)}"
    return Section(
        text=f"The condition does not name {study.attribute}; the judge does. If sampling changed nothing, samples of "
        f"a class would have the shares that {bench.subject.images_are} of it have. All rules are of the same seeds, "
        f"{seeds} of each class, in {STEPS} first-order steps.{said}",
        figures=[
            ReportFigure(
                "amplification", figures.amplification(study.amplification, group, label=label),
                readings.read_amplification(study.amplification, study.attribute, group),
                f"Of {seeds} or more samples of each class, and {known} or more {bench.subject.images_are}, with exact "
                "95 % intervals of one row. Rules are compared seed by seed in the table.", wide=True,
            ),
            ReportFigure(
                "groups_along", figures.group_shares_along(study.along, group, landmarks=study.landmarks, label=label),
                readings.read_along(study.landmarks, study.along, group, BARE, STRONG),
                f"Of fewer samples than above: {bench.size(128, 48)} of each class, and at most {bench.size(400, 120)} "
                "images. What the judge says of the denoised prediction D at each noise level, and on the left of "
                "the samples themselves; shaded: where it reads fewer than 90 % of D of noised images, averaged over "
                "groups, as what they are. Data: of D of noised images of the class, in which as much is blurred away: "
                "where noise hides the group, D shows the likelier one. Bands: exact 95 % intervals over samples or "
                "images.",
                wide=True,
            ),
        ],
        tables=tables,
        findings=findings.amplified(study.amplification, study.attribute, group, BARE),
    )  # fmt: skip


def _steered(bench: Workbench, study: GroupStudy) -> pd.DataFrame | None:
    """Of two groups, what the features do that read them best on the held-out images."""
    if len(study.groups) != 2:
        return None
    return steered_shares(bench.subject, bench.sparse, study.attribute, seed=bench.seed)
