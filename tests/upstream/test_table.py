"""The stored table is of the pinned diffusers, the README says its counts, and a handful of rows come out again."""

import re
from collections import Counter
from pathlib import Path

import diffusers
import pytest

from tests.upstream.fixtures import pipeline_classes
from tests.upstream.rows import SHOWN, STATES, Row, examine
from tests.upstream.table import TABLE, changes, counts, read, write
from tests.upstream.trying import OWN

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def pinned() -> str:
    found = re.search(r"^diffusers==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_table_is_of_the_pinned_diffusers(pinned: str) -> None:
    if diffusers.__version__ != pinned:
        pytest.skip(f"the table is of diffusers {pinned}")
    rows = read(TABLE)
    assert sorted(rows) == sorted(pipeline_classes()), "run `python -m tests.upstream --write SOURCES`"
    assert {row.state for row in rows.values()} <= set(STATES)
    assert all(bool(row.reason) == (row.state != SHOWN) for row in rows.values())


def test_the_readme_says_the_counts_of_the_table(pinned: str) -> None:
    number = Counter(row.state for row in read(TABLE).values())
    said = re.search(
        r"Of the (\d+) pipeline classes of diffusers ([\d.]+)\s.*?shown for (\d+).*?for\s(\d+)\s.*?refused for\s(\d+)"
        r".*?(\d+)\scould\snot\sbe\sbuilt",
        (ROOT / "README.md").read_text(), re.DOTALL,
    )  # fmt: skip
    assert said is not None
    assert said.groups() == (str(number.total()), pinned, *(str(number[state]) for state in STATES))


@pytest.mark.slow
@pytest.mark.parametrize("key", ["sd15", "sdxl", "flux_true", "wan21", "pixart", "ddpm", "skyreels"])
def test_a_row_comes_out_again(key: str) -> None:
    pipe, _ = OWN[key]()
    name = type(pipe).__name__
    stored = read(TABLE)[name]
    found = examine(name, pipe, lambda: OWN[key]()[1], f"tests/pipelines.py: {key}")
    if stored.built_by == found.built_by:
        assert changes({name: stored}, {name: found}) == []
    else:  # another tiny pipeline of the same class
        assert (found.state, found.denoisers, found.axes) == (stored.state, stored.denoisers, stored.axes)


def test_changes_are_told(tmp_path: Path) -> None:
    rows = {"A": Row("A", SHOWN, rule="cfg"), "B": Row("B", "refused", "a\nreason\twith spaces")}
    write(tmp_path / "t.tsv", rows)
    stored = read(tmp_path / "t.tsv")
    assert changes(stored, rows) == []
    later = {"A": Row("A", SHOWN, rule="none"), "C": Row("C", SHOWN)}
    assert changes(stored, later) == ["B: gone", "C: new, shown", "A: rule 'cfg' -> 'none'"]
    assert counts(rows) == "2 pipeline classes: 1 shown, 0 in part, 1 refused, 0 not built"
