"""Methods of papers that a report used, noted as its sections are made: keys of `reports/studies/references.bib`.

    used: list[str] = []
    sections = noting(used, sections, {"ends": ["wang2024unreasonable"], "companions": keys_of_table})
    write_report(out, sections, study, manifest={"methods": used, ...}, ...)

The manifest holds the list as it is when the report ends: what was not made used no method.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import pandas as pd

from scorescope.reports.page.pages import Section

T = TypeVar("T")
Keys = Sequence[str] | Callable[[pd.DataFrame], Sequence[str]]
"""Of the methods that a table or a figure shows; or a function that reads them from the table."""


def noting(
    used: list[str], sections: Sequence[tuple[str, str, Callable[[T], Section] | str]], methods: Mapping[str, Keys]
) -> list[tuple[str, str, Callable[[T], Section] | str]]:
    """The sections (name, heading, function), of which each adds to `used` what it used, once it is made.

    `methods` has keys by the name of a table, or of a figure without a table of its own. A section that only says
    why it is not made uses none.
    """
    return [
        (name, heading, make if isinstance(make, str) else _noting(used, make, methods))
        for name, heading, make in sections
    ]


def _noting(used: list[str], make: Callable[[T], Section], methods: Mapping[str, Keys]) -> Callable[[T], Section]:
    def made(study: T) -> Section:
        section = make(study)
        parts = {item.name: item.table for item in section.tables}
        for name in dict.fromkeys([*parts, *(item.name for item in section.figures)]):
            keys = methods.get(name, ())
            found = keys(parts[name]) if callable(keys) else keys
            used.extend(key for key in found if key not in used)
        return section

    return made
