"""The section of the inside report on single channels: which fire where something is, and what these cause."""

from dataclasses import replace

import pandas as pd
import torch

from scorescope.reports.inside import figures, findings, readings
from scorescope.reports.inside.units_study import INTERVALS, SEEDS, SHOWN, WALK, UnitsStudy
from scorescope.reports.inside.workbench import Workbench
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section

PLAIN = "Not made: it takes images with masks of their regions (`masks` of a subject)."


def units_section(bench: Workbench) -> Section:
    """Channels of one site against regions of images, and what ablating and inserting the best ones changes."""
    if not bench.subject.masks:
        return Section(text=PLAIN)
    study = bench.units
    rows = study.overlap[(study.overlap["region"] == study.region) & study.overlap["unit"].isin(study.units)]
    rows = rows.set_index("unit").loc[study.units].reset_index()
    first = study.overlap.iloc[0]
    verdicts, arms = study.effects.verdicts, study.effects.arms
    random = int(verdicts["random"].iloc[0])
    where = "in a region of each sample that is unlike its background" if study.regional else "at all positions"
    section = Section(
        text=f"Channels of {study.site}, each one a unit. It fires where it is above the value that it reaches at the "
        f"top 0.5 % of positions of {first['fitted']} images; the other {first['n']} images are judged. The "
        f"{len(study.units)} units with the largest overlap with {study.region}, on average over noise levels, are "
        f"shown, and edited together {where}, over {SEEDS} seeds and at one of {INTERVALS} intervals of noise levels.",
        figures=[
            ReportFigure(
                "unit_overlap", figures.unit_overlap(rows, study.pictures, study.maps.maps, sigma=study.sigma),
                readings.read_overlap(study.overlap, study.region),
                f"Above: the images in which a unit is strongest at σ = {study.sigma:.2g}, where the first overlaps "
                f"most; dark where it does not fire. Below: overlap (intersection over union) with {study.region}; 95 "
                "% intervals over images. A unit that fires at few positions cannot overlap much with a large region.",
                wide=True,
            ),
            ReportFigure(
                "unit_effects", figures.unit_effects(verdicts, arms), readings.read_effects(verdicts),
                "Root mean square change of the pixels. Ablated: set to the mean over all images and positions at the "
                f"same noise level; inserted: to the mean over {study.region}. Each dash one of {random} sets of as "
                "many channels, like the chosen ones in spread; 95 % intervals of one row over seeds; filled: "
                "more than random sets do (p ≤ 0.05 by rank), corrected for all edits, levels and scores.", wide=True,
            ),
        ],
        tables=[
            ReportTable(
                "unit_overlap", study.overlap, "One row a (noise level, region, unit).",
                first=("sigma", "region", "unit", "p_adjusted", "value", "low", "high", "bound", "chance"), shown=False,
            ),
            ReportTable(
                "unit_effects", verdicts, "One row a (edit, interval of noise levels, score).",
                first=("edit", "sigma_low", "sigma_high", "score", "verdict", "value", "low", "high", "chance",
                       "p_adjusted"),
            ),
            ReportTable("unit_arms", arms, "The chosen and the random sets.", shown=False),
        ],
        findings=findings.units(study.overlap, study.region, verdicts),
    )  # fmt: skip
    return _with_ascent(section, bench, study)


def _with_ascent(section: Section, bench: Workbench, study: UnitsStudy) -> Section:
    """The section with what raises the first units under the prior, or why nothing does."""
    if not study.maximised:
        return replace(section, text=f"{section.text} No unit was raised by its gradient: {study.why_not}.")
    ascent = pd.concat([one.ascent for one in study.maximised], ignore_index=True)
    states = [study.maximised[0].control, *(one.images for one in study.maximised)]
    pictures = torch.stack([bench.subject.pictures(one[:SHOWN]).cpu() for one in states])
    levels, first = ascent["sigma"].nunique(), ascent.iloc[0]
    figure = ReportFigure(
        "units_maximised", figures.units_maximised(ascent, pictures), readings.read_ascent(ascent),
        f"Above: D of states that began with the same noise and were led through {levels} noise levels by the denoiser "
        "alone, and with the gradient of a unit's mean activation beside it. Below: that activation, from its mean "
        f"over {first['n']} noised images on, after {WALK} steps at each level; bands are 95 % intervals over states. "
        "So few steps do not reach all that a unit can be.", wide=True,
    )  # fmt: skip
    table = ReportTable("unit_ascent", ascent, "One row a (unit, noise level, step).", shown=False)
    return replace(section, figures=[*section.figures, figure], tables=[*section.tables, table])
