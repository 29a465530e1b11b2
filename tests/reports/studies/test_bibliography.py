"""BibTeX of a report: the methods that its manifest names, each once, and no entry that is not there."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from scorescope.data.errors import InputError
from scorescope.probes.guidance import APG, CFG, Interval, MagnitudeAware
from scorescope.reports.atlas import catalogue
from scorescope.reports.changes.report import CORRECTED
from scorescope.reports.directions import report as directions
from scorescope.reports.fid import report as fid
from scorescope.reports.gaussian import report as gaussian
from scorescope.reports.guidance.methods import OF_RULES, SPLIT, methods_of
from scorescope.reports.inside import report as inside
from scorescope.reports.page.methods import noting
from scorescope.reports.page.pages import Outcome, ReportTable, Section, write_report
from scorescope.reports.studies import bibtex
from scorescope.reports.studies.bibliography import entries
from scorescope.reports.trajectories import report as trajectories

NOTED = {
    "ends": ["wang2024unreasonable"],
    "gains": ["pierret2025diffusion", "wang2024unreasonable"],
    "lost": ["hewitt2019designing"],
}


def written(folder: Path, made: dict[str, Section | None]) -> Outcome:
    """A report of sections by name; None fails."""

    def section(name: str) -> Section:
        found = made[name]
        if found is None:
            raise ValueError("no")
        return found

    used: list[str] = []
    sections = noting(used, [(name, name, lambda _, name=name: section(name)) for name in made], NOTED)
    how = {"title": "t", "question": "q", "command": "c", "manifest": {"methods": used}}
    return write_report(folder, sections, None, name="mine", **how)


def table(name: str) -> Section:
    return Section(tables=[ReportTable(name, pd.DataFrame({"a": [1]}))])


def keys(text: str) -> list[str]:
    return re.findall(r"^@\w+\{(\w+),", text, re.MULTILINE)


def test_what_was_made_is_cited_once_and_what_failed_or_was_left_out_is_not(tmp_path: Path) -> None:
    outcome = written(
        tmp_path, {"a": table("ends"), "b": table("gains"), "lost": None, "d": Section(text="No tokens.")}
    )
    assert outcome.status == "incomplete"
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    for report in (outcome, tmp_path, str(tmp_path / "manifest.json"), manifest):
        assert keys(bibtex(report)) == ["wang2024unreasonable", "pierret2025diffusion"]


def test_a_report_without_methods_has_no_entries_and_one_that_does_not_say_is_refused(tmp_path: Path) -> None:
    assert bibtex({"methods": []}) == ""
    with pytest.raises(InputError, match="names no methods"):
        bibtex({"report": "guidance"})
    with pytest.raises(InputError, match="nobody2030"):
        bibtex({"methods": ["nobody2030"]})
    with pytest.raises(InputError):
        bibtex(tmp_path / "nothing")


def test_every_method_that_reports_note_has_an_entry_and_every_entry_is_noted_somewhere() -> None:
    static = [gaussian.METHODS, fid.METHODS, directions.METHODS, trajectories.METHODS, inside.METHODS]
    noted = {key for methods in static for found in methods.values() if not callable(found) for key in found}
    noted |= {*fid.METRICS.values(), *fid.NETWORKS.values(), *OF_RULES.values(), *SPLIT, *CORRECTED}
    noted |= {key for entry in catalogue().values() for key in entry.cites}
    noted |= {"karras2022elucidating", "karras2024analyzing", "ledoit2004well", "parmar2022aliased"}
    assert noted | {"park2023understanding"} == set(entries())


def test_rules_are_cited_with_those_that_they_are_around() -> None:
    found = methods_of([CFG(4.0), Interval(APG(8.0), low=0.1, high=2.0), MagnitudeAware(2.0)])
    assert found == ["sadat2025eliminating", "ho2022classifier", "kynkaanniemi2024applying"]


def test_what_has_no_value_and_what_a_fit_did_not_do_is_not_cited() -> None:
    metrics = pd.DataFrame({"metric": ["FD", "KID x 1000", "precision"], "value": [1.0, float("nan"), 0.9]})
    assert fid.METHODS["companions"](metrics) == ["heusel2017gans", "kynkaanniemi2019improved"]
    notes = pd.DataFrame({"note": ["", "Ledoit-Wolf shrinkage 0.120 (n = 60, d = 64)"]})
    assert "ledoit2004well" in gaussian.METHODS["scores"](notes)
    assert "ledoit2004well" not in gaussian.METHODS["scores"](notes.head(1))


def test_entries_are_whole() -> None:
    for key, entry in entries().items():
        assert entry.count("{") == entry.count("}"), key
        assert {"title", "author", "year"} <= set(re.findall(r"^  (\w+) = \{", entry, re.MULTILINE)), key
        year = re.search(r"year = \{(\d{4})\}", entry)
        assert year and year[1] in key, key
