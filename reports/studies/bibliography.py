"""BibTeX entries of the methods that a report used, as its manifest names them; the entries are in `references.bib`."""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.reports.page.pages import Outcome
from scorescope.reports.studies.made import read_made


@checked
def bibtex(report: Path | str | Mapping[str, Any] | Outcome) -> str:
    """BibTeX entries of the methods that a report used, each once.

    Parameters
    ----------
    report : Path, str, mapping or Outcome
        A report's folder or `manifest.json`, its manifest as it was read, or what a report's `build` returned.

    Returns
    -------
    str
        Entries in the order in which the report used them; "" where it used no method of a paper. A field that is not
        known for certain is left out. A rule or a metric without an entry has none of whose facts we are certain.

    Raises
    ------
    InputError
        For a manifest that does not say which methods were used (of a version before that, or of a page that links to
        reports), or names one of which there is no entry.
    """
    facts = _manifest(report)
    keys = facts.get("methods")
    if not isinstance(keys, list):
        expected = "a report of this version on a model, a pipeline, images or runs"
        raise InputError("report", found="a manifest that names no methods", expected=expected)
    if unknown := [key for key in keys if key not in entries()]:
        raise InputError("report", found=f"methods {', '.join(map(str, unknown))}", expected="keys of references.bib")
    return "\n\n".join(entries()[key] for key in dict.fromkeys(keys)) + "\n" * bool(keys)


@cache
def entries() -> dict[str, str]:
    """Every entry by its key."""
    text = files("scorescope.reports.studies").joinpath("references.bib").read_text(encoding="utf-8")
    return {key: entry.strip() for entry, key in re.findall(r"(@\w+\{(\w+),.*?^\})", text, re.MULTILINE | re.DOTALL)}


def _manifest(report: Path | str | Mapping[str, Any] | Outcome) -> Mapping[str, Any]:
    if isinstance(report, Mapping):
        return report
    return read_made(report.path.parent if isinstance(report, Outcome) else report).facts
