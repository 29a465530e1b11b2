"""Atlas: a page of one comparison of image sets: distances, classes, regions, choices."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.fid import figures
from scorescope.reports.fid.atlas_choice import audited
from scorescope.reports.fid.atlas_distances import distance_numbers, looked_into, set_facts
from scorescope.reports.fid.atlas_sources import gap_numbers, region_numbers
from scorescope.reports.fid.sections_distances import MARKS
from scorescope.reports.fid.sections_regions import as_bars


def page_numbers(material: Material) -> Numbers:
    """Tables of four figures, and why one of them is missing."""
    study = looked_into(material).study
    parts = {"classes": gap_numbers(material), "regions": region_numbers(material)}
    missing = {name: part.why for name, part in parts.items() if part.why}
    tables: dict[str, pd.DataFrame] = dict(distance_numbers(material).tables)
    tables |= {name: part.tables[name] for name, part in parts.items() if not part.why}
    audit, notes = audited(material)
    if audit.empty:
        missing["audit"] = " ".join(notes)
    else:
        tables["audit"] = audit
    return Numbers(tables, facts=set_facts(study) | {"spaces": list(study.spaces), "missing": missing})


def draw_page(numbers: Numbers, **how: Any) -> Figure:
    """Four panels."""
    tables, (first, second) = dict(numbers.tables), numbers.facts["spaces"]
    if "regions" in tables:
        tables["regions"] = as_bars(tables["regions"])
    return figures.overview(tables, (first, second), numbers.facts["missing"], **how)


ENTRIES = (
    Entry(
        "fid-page", "a comparison of image sets in four panels: distances, classes, regions, choices",
        ("images",), page_numbers, draw_page,
        f"{{sets}} against {{real}}, in the space of {{judged}}. (a) Frechet distances. {MARKS} Of {{fake}}: (b) the "
        "largest gaps of the shares of top classes; (c) share of the distance's sensitivity inside masks, dotted the "
        "share of the area; (d) Frechet distance of images chosen among them, with the change against a random choice; "
        "dotted: other real images; (b) to (d) with 95 % intervals.",
        "those of its panels, which are drawn from the same tables as the figures of one panel",
    ),
)  # fmt: skip
