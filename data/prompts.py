"""Prompts from a file: one a line, or a table of them whose other columns are arguments of the pipeline's call.

read_prompts("prompts.txt")                    # [{"prompt": "a lighthouse"}, ...]
read_prompts("prompts.csv")                    # prompt,negative_prompt,seed
read_prompts("prompts.jsonl")                  # {"prompt": "a lighthouse", "height": 512}

Pairs of prompts are read by the same rules: see `prompt_pairs`.
"""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import ALWAYS, parse_json, read_text

EXPECTED = "prompts: one a line (.txt), or a table with a column prompt (.csv, .jsonl)"
LARGEST_SEED = 2**63 - 1
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # NUL ends a text elsewhere; halves of a surrogate pair JSON alone can write
_CALL_TEXTS = ("prompt", "negative_prompt", "prompt_2", "negative_prompt_2", "prompt_3", "negative_prompt_3")


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
    lines = lambda text: [{"prompt": line} for _, line in numbered_lines(text, path, "prompts")]  # noqa: E731
    rows = read_rows(path, "prompts", lines=lines, texts=_CALL_TEXTS, expected=EXPECTED)
    for number, row in enumerate(rows, 1):
        _check(row, f"{path}, row {number}")
    return rows


def read_rows(
    path: Path,
    argument: str,
    *,
    lines: Callable[[str], list[dict[str, Any]]],
    texts: Collection[str],
    expected: str,
) -> list[dict[str, Any]]:
    """Rows of a file of prompts, whatever their columns.

    Parameters
    ----------
    path : Path
        A .txt, .csv or .jsonl file.
    argument : str
        What errors name.
    lines : callable
        The text of a .txt file to its rows.
    texts : collection of str
        Columns of a CSV that are texts, whatever they read as.
    expected : str
        What errors expect of the file.

    Raises
    ------
    InputError
        See `read_prompts`; also for values that no call takes: numbers that are not finite and texts with NUL or half
        a surrogate pair, however deep in lists.
    """
    readers: Mapping[str, Callable[[str], list[dict[str, Any]]]] = {
        ".txt": lines,
        ".csv": lambda text: _table(text, path, argument, texts),
        ".jsonl": lambda text: _objects(text, path, argument),
    }
    if path.suffix.lower() not in readers:
        raise InputError(argument, found=str(path), expected="a .txt, .csv or .jsonl file")
    rows = readers[path.suffix.lower()](read_text(path, expected=expected, limit=ALWAYS))
    if not rows:
        raise InputError(argument, found=f"{path}, without a row", expected="at least one prompt")
    for number, row in enumerate(rows, 1):
        _check_values(row, f"{path}, row {number}", argument)
    return rows


def numbered_lines(text: str, path: Path, argument: str) -> list[tuple[int, str]]:
    """The lines and their numbers; empty ones at the end are none."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]  # other separators are a prompt's own
    while lines and not lines[-1].strip():
        lines.pop()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise InputError(argument, found=f"{path}, line {number}, which is empty", expected="no empty line")
    return list(enumerate(lines, 1))


def _objects(text: str, path: Path, argument: str) -> list[dict[str, Any]]:
    rows = []
    for number, line in numbered_lines(text, path, argument):
        row = parse_json(line, source=f"{path}, line {number}", expected="a JSON object a line")
        if not isinstance(row, dict):
            raise InputError(argument, found=f"{path}, line {number}, {line[:40]!r}", expected="a JSON object a line")
        rows.append(row)
    return rows


def _table(text: str, path: Path, argument: str, texts: Collection[str]) -> list[dict[str, Any]]:
    read = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        lines = [(read.line_num, line) for line in read]
    except csv.Error as error:
        raise InputError(argument, found=f"{path}, line {read.line_num} ({error})", expected="a CSV file") from None
    while lines and not any(lines[-1][1]):
        lines.pop()
    if not lines:
        return []
    names = [name.strip() for name in lines[0][1]]
    if len(set(names)) < len(names) or "" in names:
        raise InputError(argument, found=f"{path} with the columns {', '.join(names)}", expected="a name a column")
    rows = []
    for number, cells in lines[1:]:
        if len(cells) != len(names) or not any(cell.strip() for cell in cells):
            found = f"with {len(cells)} cells" if any(cells) else "which is empty"
            expected = f"{len(names)} cells a row: {', '.join(names)}"
            raise InputError(argument, found=f"{path}, line {number}, {found}", expected=expected)
        given = zip(names, cells, strict=True)
        rows.append({name: cell if name in texts else _value(cell) for name, cell in given if _given(cell, name)})
    return rows


def _given(cell: str, name: str) -> bool:
    return name in _CALL_TEXTS[:2] or bool(cell.strip())


def _value(cell: str) -> Any:
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


def _check_values(row: Mapping[str, Any], where: str, argument: str) -> None:
    """Refuse what no call takes, in the row's values, their lists and objects, and in all names."""
    for name, value in row.items():
        for part in (name, *_parts(value)):
            if isinstance(part, float) and not math.isfinite(part):
                raise InputError(argument, found=f"{where}, {name!r} with {part}", expected="a finite number")
            if isinstance(part, str) and (bad := _NO_TEXT.search(part)):
                raise InputError(argument, found=f"{where}, {name!r} with {bad[0]!a}", expected="text that UTF-8 holds")


def _parts(value: Any) -> Iterator[Any]:
    """A value and all that its lists and objects hold, names included."""
    yield value
    if isinstance(value, dict):
        yield from value
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _parts(part)
