import json
import re
from dataclasses import replace

import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from scorescope.data import InputError
from scorescope.reports.page import rendered
from scorescope.reports.page.facts import plain
from scorescope.reports.page.files import make_folder
from scorescope.reports.page.findings import Finding
from scorescope.reports.page.index import write_index
from scorescope.reports.page.pages import ReportFigure, ReportTable, ReportWriter, Section
from scorescope.reports.page.tables import format_cell


def figure():
    made = Figure(figsize=(2, 1))
    made.subplots().plot([0, 1], [0, 1])
    return made


def section(name="one"):
    table = pd.DataFrame({"label": ["<b>&</b>", "b"], "value": [1.23456789, float("nan")]})
    return Section([ReportFigure(name, figure(), "It <rises> & rises.")], [ReportTable(name, table, "Rows.")], "Text.")


def writer(out):
    return ReportWriter(
        out, name="demo", title="A <title>", question="Why?", command="demo --now", manifest={"seed": 3}
    )


def test_page_is_self_contained_and_escaped(tmp_path):
    with writer(tmp_path) as report:
        report.section("one", "One", section)
    page = (tmp_path / "index.html").read_text()
    assert report.outcome.status == "complete" and report.outcome.readings == ["It <rises> & rises."]
    assert report.outcome.tables["one"].equals(section().tables[0].table)
    assert "<b>&</b>" not in page and "&lt;b&gt;&amp;&lt;/b&gt;" in page and "A &lt;title&gt;" in page
    assert not re.search(r"""(?:src|href)=["'](?!data:|#|tables/)""", page) and "@import" not in page
    assert 'src="data:image/' in page and "1.235" in page


def test_a_figure_is_laid_out_once_for_both_pictures_and_keeps_its_layout(tmp_path, monkeypatch):
    laid_out = []
    shown = Figure(figsize=(2, 1), layout="constrained")
    shown.subplots().plot([0, 1], [0, 1])
    engine, execute = shown.get_layout_engine(), ConstrainedLayoutEngine.execute
    monkeypatch.setattr(
        ConstrainedLayoutEngine, "execute", lambda self, figure: (laid_out.append(self), execute(self, figure))
    )
    monkeypatch.setattr(
        rendered, "render_figure", lambda figure, kind, **options: figure.draw_without_rendering() or b""
    )
    with writer(tmp_path) as report:
        report.section("one", "One", lambda: Section([ReportFigure("one", shown, "It rises.")], []))
    assert len(laid_out) == 1 and shown.get_layout_engine() is engine


def test_files_and_manifest(tmp_path):
    with writer(tmp_path) as report:
        report.section("one", "One", section)
    for file in ("tables/one.csv", "tables/one.parquet", "figures/one.svg", "figures/one.png"):
        assert (tmp_path / file).stat().st_size > 0, file
    manifest = json.loads((tmp_path / "manifest.json").read_text(), parse_constant=pytest.fail)
    assert manifest["seed"] == 3 and manifest["command"] == "demo --now" and manifest["status"] == "complete"
    assert set(manifest["files"]) == {"tables/one.csv", "tables/one.parquet", "figures/one.svg", "figures/one.png"}
    assert manifest["versions"]["torch"] and manifest["seconds"] > 0
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "tables/one.parquet"), section().tables[0].table)


def test_a_section_that_fails_leaves_the_others_and_is_named(tmp_path, capsys):
    def broken():
        raise InputError("x", found="nothing", expected="something")

    with writer(tmp_path) as report:
        report.section("one", "One", section)
        report.section("two", "Two", broken)
        report.section("three", "Three", lambda: section("three"))
    assert report.outcome.status == "incomplete" and list(report.outcome.failures) == ["Two"]
    page = (tmp_path / "index.html").read_text()
    assert "This report is incomplete." in page and "x: found nothing; expected something" in page
    assert (tmp_path / "figures/three.svg").exists() and "Two is missing" in capsys.readouterr().err


def test_an_interrupted_report_keeps_what_it_has(tmp_path):
    with pytest.raises(KeyboardInterrupt), writer(tmp_path) as report:
        report.section("one", "One", section)
        raise KeyboardInterrupt
    assert report.outcome.status == "interrupted"
    assert json.loads((tmp_path / "manifest.json").read_text())["status"] == "interrupted"
    assert "One" in (tmp_path / "index.html").read_text() and (tmp_path / "tables/one.csv").exists()


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a folder that can be written to"):
        make_folder(tmp_path / "file" / "report")
    with pytest.raises(InputError, match="^out: found"):  # noqa: RUF043
        writer(tmp_path / "file")


def test_figures_are_reproducible(tmp_path):
    for name in ("a", "b"):
        with writer(tmp_path / name) as report:
            report.section("one", "One", section)
    assert (tmp_path / "a/figures/one.svg").read_bytes() == (tmp_path / "b/figures/one.svg").read_bytes()


def test_long_tables_are_cut_on_the_page_but_not_on_disk(tmp_path):
    table = pd.DataFrame({"value": range(100)})
    with writer(tmp_path) as report:
        report.section("long", "Long", lambda: Section(tables=[ReportTable("long", table, "Numbers.")]))
    assert "First 40 of 100 rows." in (tmp_path / "index.html").read_text()
    assert len(pd.read_csv(tmp_path / "tables/long.csv")) == 100


def test_index_links_to_reports_and_says_what_they_found(tmp_path):
    with writer(tmp_path / "demo") as report:
        report.section("one", "One", lambda: replace(section(), findings=[Finding("It <rises> & rises.", 2.0)]))
    page = write_index(tmp_path, [report.outcome]).read_text()
    assert 'href="demo/index.html"' in page and "It &lt;rises&gt; &amp; rises." in page


def test_the_first_screen_links_to_its_figures(tmp_path):
    found = [
        Finding("Twice as <large>.", 3.0, "one"),
        Finding("Perhaps.", 0.5, "one", n=10, unit="images"),
        Finding("Elsewhere.", 2.0, "none"),
    ]
    with writer(tmp_path) as report:
        report.section("one", "One", lambda: replace(section(), findings=found))
    page = (tmp_path / "index.html").read_text()
    first = re.search(r'<section id="findings".*?</section>', page, re.DOTALL)[0]
    assert [one.text for one in report.outcome.first.shown] == ["Twice as <large>.", "Elsewhere."]
    assert "Twice as &lt;large&gt;." in first and first.count('href="#figure-one"') == 3 and 'id="figure-one"' in page
    assert "about 40 images would show it, not 10" in first and "<img" in first and 'href="#figure-none"' not in first


def test_cells_and_plain_values():
    assert [format_cell(v) for v in (1.0, 123456.0, float("nan"), None, "a", 3)] == [
        "1",
        "1.235e+05",
        "–",
        "–",
        "a",
        "3",
    ]
    assert plain({"a": (1, float("inf")), "b": None}) == {"a": [1, "inf"], "b": None}


def test_two_reports_into_one_folder_are_not_mixed(tmp_path):
    """By another process as by this one; the folder is free when the first has ended, and no lock stays in it."""
    pytest.importorskip("fcntl")
    with writer(tmp_path) as first:
        with pytest.raises(InputError, match="being written"), writer(tmp_path):
            pass
        first.section("one", "One", section)
    assert first.outcome.status == "complete"
    with writer(tmp_path) as second:
        pass
    assert second.outcome.status == "complete" and {file.name for file in tmp_path.iterdir() if file.is_file()} == {
        "index.html",
        "manifest.json",
    }


def test_a_section_that_is_not_there_is_a_line_in_its_place(tmp_path):
    with writer(tmp_path) as report:
        report.section("one", "One", section)
        report.absent("two", "Two", "Not asked for (--two).")
        report.section("three", "Three", lambda: section("three"))
    page = (tmp_path / "index.html").read_text()
    assert report.outcome.status == "complete"
    assert page.index('id="one"') < page.index('<section id="two" class="bare">') < page.index('id="three"')
    assert "<p>Not asked for (--two).</p>" in page


def test_frames_are_files_and_the_figure_stands_without_them(tmp_path):
    frames = {"σ = 2": figure(), "σ = 1": figure()}
    with writer(tmp_path) as report:
        report.section("one", "One", lambda: Section([ReportFigure("one", figure(), "It rises.", frames=frames)]))
    files = json.loads((tmp_path / "manifest.json").read_text())["files"]
    assert set(files) == {"figures/one.svg", "figures/one.png", "figures/one.0.png", "figures/one.1.png"}
    page = (tmp_path / "index.html").read_text()
    assert page.count("<img src=") == 1 and '"label":"σ = 2"' in page


def test_pages_below_an_index_link_to_it_and_to_each_other_however_often_it_is_written(tmp_path):
    outcomes = []
    for name in ("a b", "c"):
        with writer(tmp_path / name) as report:
            report.section("one", "One", section)
        outcomes.append(report.outcome)
        assert "../index.html" not in report.outcome.path.read_text()  # by itself it has no index
        write_index(tmp_path, outcomes)
    first, second = (outcome.path.read_text() for outcome in outcomes)
    assert first.count('href="../index.html"') == 1 and first.count('href="../c/index.html"') == 1
    assert second.count('href="../index.html"') == 1 and second.count('href="../a%20b/index.html"') == 1
