"""Prompts from a file: one a line, or a table of them whose other columns are arguments of the pipeline's call.

read_prompts("prompts.txt")                    # [{"prompt": "a lighthouse"}, ...]
read_prompts("prompts.csv")                    # prompt,negative_prompt,seed
read_prompts("prompts.jsonl")                  # {"prompt": "a lighthouse", "height": 512}
"""

import csv
import io
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import ALWAYS, parse_json, read_text

EXPECTED = "prompts: one a line (.txt), or a table with a column prompt (.csv, .jsonl)"
LARGEST_SEED = 2**63 - 1


@checked
def read_prompts(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a file of prompts, as arguments of a pipeline's call.

    Parameters
    ----------
    path : path
        UTF-8 text: `.txt` with a prompt a line, `.csv` with a line of names, or `.jsonl` with an object a line. In the
        last two every row has a `prompt`; any other column is an argument of the call (`negative_prompt`, `height`),
        and `seed` that of the sample's noise. A cell of a CSV that is empty is not given to the call, but for the
        texts `prompt` and `negative_prompt`, and one that reads as a number or as true, false is one.

    Returns
    -------
    list of dict

    Raises
    ------
    InputError
        For an empty line, a missing or repeated column, a row of another length, text that is not UTF-8, and a seed
        that is no whole number from 0.
    """
    path = Path(path)
    readers: Mapping[str, Callable[[str, Path], list[dict[str, Any]]]] = {
        ".txt": _lines, ".csv": _table, ".jsonl": _objects,
    }  # fmt: skip
    if path.suffix.lower() not in readers:
        raise InputError("prompts", found=str(path), expected="a .txt, .csv or .jsonl file")
    text = read_text(path, expected=EXPECTED, limit=ALWAYS)
    rows = readers[path.suffix.lower()](text, path)
    if not rows:
        raise InputError("prompts", found=f"{path}, without a row", expected="at least one prompt")
    for number, row in enumerate(rows, 1):
        _check(row, f"{path}, row {number}")
    return rows


def _lines(text: str, path: Path) -> list[dict[str, Any]]:
    return [{"prompt": line} for _, line in _numbered(text, path)]


def _numbered(text: str, path: Path) -> list[tuple[int, str]]:
    """The lines and their numbers; empty ones at the end are none."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]  # other separators are a prompt's own
    while lines and not lines[-1].strip():
        lines.pop()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise InputError("prompts", found=f"{path}, line {number}, which is empty", expected="a prompt a line")
    return list(enumerate(lines, 1))


def _objects(text: str, path: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in _numbered(text, path):
        row = parse_json(line, source=f"{path}, line {number}", expected="a JSON object a line")
        if not isinstance(row, dict):
            raise InputError("prompts", found=f"{path}, line {number}, {line[:40]!r}", expected="a JSON object a line")
        rows.append(row)
    return rows


def _table(text: str, path: Path) -> list[dict[str, Any]]:
    read = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = [(read.line_num, line) for line in read]
    except csv.Error as error:
        raise InputError("prompts", found=f"{path}, line {read.line_num} ({error})", expected="a CSV file") from None
    while lines and not any(lines[-1][1]):
        lines.pop()
    if not lines:
        return []
    names = [name.strip() for name in lines[0][1]]
    if len(set(names)) < len(names) or "" in names:
        raise InputError("prompts", found=f"{path} with the columns {', '.join(names)}", expected="a name a column")
    rows = []
    for number, cells in lines[1:]:
        if len(cells) != len(names) or not any(cell.strip() for cell in cells):
            found = f"with {len(cells)} cells" if any(cells) else "which is empty"
            expected = f"{len(names)} cells a row: {', '.join(names)}"
            raise InputError("prompts", found=f"{path}, line {number}, {found}", expected=expected)
        rows.append({name: _value(cell, name) for name, cell in zip(names, cells, strict=True) if _given(cell, name)})
    return rows


_TEXTS = ("prompt", "negative_prompt", "prompt_2", "negative_prompt_2", "prompt_3", "negative_prompt_3")


def _given(cell: str, name: str) -> bool:
    return name in _TEXTS[:2] or bool(cell.strip())


def _value(cell: str, name: str) -> Any:
    if name in _TEXTS:
        return cell
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        return cell
    return value if isinstance(value, int | float | bool) else cell


def _check(row: Mapping[str, Any], where: str) -> None:
    if "prompt" not in row:
        raise InputError("prompts", found=f"{where}, with {', '.join(row) or 'nothing'}", expected="a column prompt")
    if not isinstance(row["prompt"], str):
        raise InputError("prompts", found=f"{where}, prompt {row['prompt']!r:.40}", expected="a text")
    seed = row.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
        raise InputError("prompts", found=f"{where}, seed {seed!r:.40}", expected="a whole number from 0")
    if bad := [name for name, value in row.items() if isinstance(value, float) and not math.isfinite(value)]:
        raise InputError("prompts", found=f"{where}, {bad[0]} {row[bad[0]]}", expected="a finite number")
