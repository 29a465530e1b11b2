"""The stored table: read, written, compared."""

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from tests.upstream.rows import STATES, Row

TABLE = Path(__file__).parent / "pipelines.tsv"
_COLUMNS = [field.name for field in fields(Row)]


def read(path: Path) -> dict[str, Row]:
    """The rows of a table by class; none where there is no table."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row["pipeline"]: Row(**row) for row in csv.DictReader(file, delimiter="\t")}


def write(path: Path, rows: Mapping[str, Row]) -> None:
    """Write a table, one class a line."""
    lines = ["\t".join(_COLUMNS), *(rows[name].line() for name in sorted(rows))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def changes(stored: Mapping[str, Row], found: Mapping[str, Row]) -> list[str]:
    """What is not as stored, a line each."""
    told = [f"{name}: gone" for name in sorted(stored.keys() - found.keys())]
    told += [f"{name}: new, {found[name].state}" for name in sorted(found.keys() - stored.keys())]
    for name in sorted(stored.keys() & found.keys()):
        before, after = (
            dict(zip(_COLUMNS, row.line().split("\t"), strict=True)) for row in (stored[name], found[name])
        )
        told += [f"{name}: {key} {before[key]!r} -> {after[key]!r}" for key in _COLUMNS if before[key] != after[key]]
    return told


def counts(rows: Mapping[str, Row]) -> str:
    """How many classes are in which state."""
    number = Counter(row.state for row in rows.values())
    return f"{len(rows)} pipeline classes: " + ", ".join(f"{number[state]} {state}" for state in STATES)
