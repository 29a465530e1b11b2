"""The documentation: what is public or declared has an entry, links lead somewhere, and it builds without a warning."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from scorescope.analysis import find_column
from tests.docs_gallery import DRAWN_BY, members
from tests.docs_pages import INSTRUMENTS, pages, schemas
from tests.docs_texts import escape, plain
from tests.house import ROOT, read_house

DOCS = ROOT / "docs"
WRITTEN = [page for page in sorted(DOCS.rglob("*.md")) if "generated" not in page.parts]


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return pages()


def listed_on(text: str) -> set[str]:
    """What an index page lists."""
    return set(re.findall(r"^- `([^`]+)` in ", text, re.MULTILINE))


def test_every_public_name_has_an_entry_and_a_docstring_page(generated: dict[str, str]) -> None:
    listed = listed_on(generated["names.md"])
    for wing in read_house().in_order():
        page = generated[f"api/{wing.name}.rst"]
        for name in wing.face.public:
            assert name in listed, f"{wing.name}.{name}"
            assert re.search(rf"(^|[ .]){name}$", page, re.MULTILINE), f"{wing.name}.{name}"


def test_functions_of_a_listed_module_have_entries(generated: dict[str, str]) -> None:
    house, listed = read_house(), listed_on(generated["names.md"])
    for instrument in INSTRUMENTS:
        assert set(members(house.files[f"reports.{instrument}.figures"])) <= listed


def test_every_declared_column_has_an_entry_with_its_meaning(generated: dict[str, str]) -> None:
    listed = listed_on(generated["columns.md"])
    parts = "".join(generated[f"parts/columns_{name}.md"] for name in INSTRUMENTS)
    for row in find_column("*").itertuples():
        assert row.column in listed
        assert f"(table-{row.table})=" in parts
        assert f"| `{row.column}` | {escape(row.meaning)} | {escape(row.unit) or '–'} |" in parts


def test_every_declared_table_stands_on_an_instruments_page() -> None:
    placed = {wing for wings in INSTRUMENTS.values() for wing in wings}
    assert set(schemas()) <= placed
    for name in INSTRUMENTS:
        assert f"generated/parts/columns_{name}.md" in (DOCS / f"instruments/{name}.md").read_text()


def test_a_column_of_the_columns_page_leads_to_a_table_that_is_there(generated: dict[str, str]) -> None:
    links = set(re.findall(r"\(#(table-[\w-]+)\)", generated["columns.md"]))
    parts = "".join(generated[f"parts/columns_{name}.md"] for name in INSTRUMENTS)
    assert links == set(re.findall(r"^\((table-[\w-]+)\)=", parts, re.MULTILINE))


@pytest.mark.parametrize("page", [*WRITTEN, ROOT / "README.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path, generated: dict[str, str]) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        found = (page.parent / target).resolve()
        made = found.is_relative_to(DOCS / "generated") and str(found.relative_to(DOCS / "generated")) in generated
        assert made or found.exists(), target


def test_every_page_is_in_the_contents() -> None:
    listed = set(re.findall(r"^[\w/]+$", (DOCS / "index.md").read_text(), re.MULTILINE))
    assert {str(page.relative_to(DOCS).with_suffix("")) for page in WRITTEN} - {"index"} <= listed


def test_foreign_signs_of_docstrings_and_columns_stand_as_they_are() -> None:
    assert escape("|D|^2 of `a_b*`, a_b*") == r"\|D\|\^2 of `a_b*`, a\_b\*"
    assert (
        plain("`(n, *shape)` and (n, *shape), D_ of `Denoiser`s")
        == r"`(n, *shape)` and (n, \*shape), D\_ of `Denoiser`\ s"
    )


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.stem)
def test_formulas_can_be_written(page: Path) -> None:
    latex2mathml = pytest.importorskip("docutils.utils.math.latex2mathml", reason="needs the extra docs")
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    for block, inline in re.findall(r"\$\$(.*?)\$\$|\$([^$]+)\$", text, flags=re.DOTALL):
        latex2mathml.tex2mathml(block or inline, as_block=bool(block))


def python_of(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def test_the_example_of_the_first_page_runs() -> None:
    (code,) = python_of("start.md")
    names: dict[str, object] = {}
    exec(code, names)
    assert len(names["table"]) and len(names["table"]["sample"].unique()) == 8


def test_pictures_of_the_gallery_name_functions_that_are_there() -> None:
    for instrument in INSTRUMENTS:
        figures = import_module(f"scorescope.reports.{instrument}.figures")
        for picture in (DOCS / "gallery" / instrument).glob("*.png"):
            name = picture.stem.partition("-")[2]
            assert hasattr(figures, DRAWN_BY.get(f"{instrument}/{name}", name)), picture.name


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning_and_needs_no_network(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="needs the extra docs")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        str(DOCS),
        str(tmp_path / "html"),
    ]
    done = subprocess.run([*command, "-d", str(tmp_path / "trees")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page in (tmp_path / "html").rglob("*.html"):
        fetched = re.findall(r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=\"(https?:)?//", page.read_text())
        assert not fetched, page
    names = re.findall(r"<li><p><code.*?</li>", (tmp_path / "html/generated/names.html").read_text(), re.DOTALL)
    assert len(names) > 400 and all("href=" in entry for entry in names)
    assert "norm_floor" in (tmp_path / "html/searchindex.js").read_text()
