"""Foreign text: it breaks no page, no table and no terminal, and names no file outside the report."""

import io
import json
import re

import pandas as pd
import pytest
from matplotlib.figure import Figure

from scorescope.data import InputError
from scorescope.reports.page import ReportFigure, ReportTable, ReportWriter, Section, write_index
from scorescope.reports.page.texts import as_name, csv_bytes, parquet_bytes, say, say_table

FOREIGN = "a \udcff b \x1b[31m\x00 <i>"
SHOWN = "a \\udcff b \\x1b[31m\\x00 &lt;i&gt;"
FORMULAS = ["=1+1", "+1", "-2", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''=1", "a=1", "'a", "x\ry", "x\ny", 'x,"y"']


def report(folder, make, *, name="demo", title="Title"):
    with ReportWriter(
        folder, name=name, title=title, question="Why?", command="mine", manifest={FOREIGN: [FOREIGN]}
    ) as page:
        page.section("one", "One", make)
    return page


def picture():
    made = Figure(figsize=(2, 1))
    ax = made.subplots()
    ax.plot([0, 1], label=FOREIGN)
    ax.set(title=FOREIGN, xlabel=FOREIGN)
    ax.legend()
    return made


@pytest.mark.filterwarnings("ignore:Glyph")
def test_text_that_is_not_utf8_is_shown_by_its_escapes(tmp_path):
    table = pd.DataFrame({"text": [FOREIGN, "fine"], "n": [1, 2]}, dtype=object)
    table.columns = pd.Index([FOREIGN, "n"], dtype=object)
    parts = Section([ReportFigure("f", picture(), FOREIGN, FOREIGN)], [ReportTable("t", table, FOREIGN)], FOREIGN)
    page = report(tmp_path, lambda: parts, name=FOREIGN, title=FOREIGN)
    assert page.outcome.status == "complete", page.failures
    html = (tmp_path / "index.html").read_bytes().decode()
    assert html.count(SHOWN) >= 7 and "\x1b" not in html and "\x00" not in html
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["a \\udcff b \\x1b[31m\\x00 <i>"] == ["a \\udcff b \\x1b[31m\\x00 <i>"]
    read = pd.read_parquet(tmp_path / "tables/t.parquet")
    assert read.iloc[0, 0] == FOREIGN.replace("\udcff", "\\udcff") and read["n"].tolist() == [1, 2]
    svg = (tmp_path / "figures/f.svg").read_bytes().decode()
    assert "\x00" not in svg and "\x1b" not in svg


def test_a_failure_with_foreign_text_leaves_the_page_and_the_terminal_whole(tmp_path, capsys):
    def broken():
        raise InputError("prompt", found=FOREIGN, expected="text")

    page = report(tmp_path, broken)
    assert page.outcome.status == "incomplete" and SHOWN in (tmp_path / "index.html").read_text()
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "\x1b" not in error and "\\x1b[31m" in error


BAD_NAMES = ["../t", "a/b", "/tmp/t", "..", ".", ".hidden", "", "a\\b", "C:t", "a\nb", "\udcff", "x" * 300, "a?", " a"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_is_no_path(name):
    for make in (lambda: ReportTable(name, pd.DataFrame()), lambda: ReportFigure(name, Figure(), "")):
        with pytest.raises(InputError, match="expected a file name without folder"):
            make()
    ReportTable(as_name(name), pd.DataFrame())


@pytest.mark.parametrize("name", ["norms", "norms_0", "größe 2", "a.b-c", "100% (of #1)"])
def test_names_that_work_are_linked(name, tmp_path):
    page = report(tmp_path, lambda: Section(tables=[ReportTable(name, pd.DataFrame({"a": [1]}), shown=False)]))
    assert page.outcome.status == "complete" and (tmp_path / f"tables/{name}.csv").exists()
    link = re.search(r'href="(tables/[^"]*csv)"', (tmp_path / "index.html").read_text())[1]
    assert not set(link) & set(" #?()") or "%" in link


def test_two_tables_of_one_name_are_not_one(tmp_path):
    first, second = (ReportTable(name, pd.DataFrame({"a": [value]})) for name, value in (("steps", 1), ("Steps", 2)))
    page = report(tmp_path, lambda: Section(tables=[first, second]))
    assert "a second time" in page.failures["One"]
    assert pd.read_csv(tmp_path / "tables/steps.csv")["a"].tolist() == [1]


def test_the_index_links_only_what_lies_below_it(tmp_path):
    outcome = report(tmp_path / "a b#c", Section).outcome
    assert 'href="a%20b%23c/index.html"' in write_index(tmp_path, [outcome]).read_text()
    with pytest.raises(InputError, match="reports below"):
        write_index(tmp_path / "elsewhere", [outcome])


def test_no_text_of_a_csv_is_a_formula_and_each_can_be_read_back():
    table = pd.DataFrame({"=name": FORMULAS, "number": [-1.5 * n for n in range(len(FORMULAS))]})
    written = csv_bytes(table)
    read = pd.read_csv(io.BytesIO(written), keep_default_na=False)
    assert read["number"].tolist() == table["number"].tolist()  # no row was split, and -1.5 is a number
    texts = [read.columns[0], *read.iloc[:, 0]]
    assert not any(re.match(r"[=+\-@\t\r]", text) for text in texts)
    back = pd.Series(texts).str.replace(r"^'(?='*[=+\-@\t\r\n])", "", regex=True)
    assert back.tolist() == ["=name", *FORMULAS]
    assert pd.read_parquet(io.BytesIO(parquet_bytes(table)))["=name"].tolist() == FORMULAS


def test_columns_without_such_text_are_written_as_they_are():
    table = pd.DataFrame(
        {"kind": pd.Categorical(["a", "b"]), "some": [None, "c"], "mixed": [1, None], "when": pd.to_datetime([0, 1])}
    )
    plain = io.BytesIO()
    table.to_parquet(plain, index=False)
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(parquet_bytes(table))), pd.read_parquet(plain))
    assert csv_bytes(table) == table.to_csv(index=False, lineterminator="\r\n").encode()


def test_lines_of_the_terminal_do_nothing_but_stand_there(capsys):
    say("a\x1b[2Jb\nsound, complete", "\x9b31m\u202e\udcff", "σ = 0.5, größe")
    say_table(pd.DataFrame({"name\x1b": ["a\nb\x1b[31m"], "n": [1.5]}))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["a\\x1b[2Jb\\nsound, complete", "\\x9b31m\\u202e\\udcff", "σ = 0.5, größe"]
    assert len(lines) == 5 and "a\\nb\\x1b[31m" in lines[4]
