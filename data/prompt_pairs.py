"""Pairs of prompts from a file: the two ends of a contrast, which directions are looked for between.

read_pairs("pairs.txt")                        # a red car | a blue car
read_pairs("pairs.csv")                        # attribute,low,high,low_name,high_name,open,negative_prompt
read_pairs("pairs.jsonl")                      # {"low": "a red car", "high": "a blue car", "open": "a car"}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.prompts import numbered_lines, read_rows

EXPECTED = "pairs of prompts: low | high a line (.txt), or a table with the columns low and high (.csv, .jsonl)"
_TEXTS = ("attribute", "low", "high", "low_name", "high_name", "open")
_OURS = ("prompt", "seed")  # what is set for each image


@displayed
@checked
@dataclass(frozen=True)
class PromptPair:
    """Two prompts that differ in one attribute.

    Attributes
    ----------
    attribute : str
        Its name; pairs of the same attribute are contexts of one contrast.
    low, high : str
        The prompts of its two ends.
    low_name, high_name : str
        What these ends are called.
    open : str or None
        A prompt that names neither end.
    arguments : mapping
        Further arguments of the pipeline's call, the same for all prompts of the pair.
    """

    attribute: str
    low: str
    high: str
    low_name: str
    high_name: str
    open: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def call(self, prompt: str) -> dict[str, Any]:
        """Arguments of the call for one of its prompts."""
        return {**self.arguments, "prompt": prompt}

    def __str__(self) -> str:
        return f"{self.low} | {self.high}"


@checked
def read_pairs(path: str | Path) -> list[PromptPair]:
    """Pairs of prompts of a file.

    Parameters
    ----------
    path : path
        UTF-8 text. `.txt`: `low | high` a line. `.csv` with a line of names, or `.jsonl` with an object a line: every
        row has the prompts `low` and `high`, and perhaps `attribute`, `low_name`, `high_name` and `open`, a prompt
        that names neither end; any other column is an argument of the call, as in `read_prompts`. Without names the
        ends are called by the words in which the prompts differ ("red", "blue"), and the attribute by both
        ("red/blue"). Rows of the same attribute are several contexts of one contrast.

    Returns
    -------
    list of PromptPair

    Raises
    ------
    InputError
        For an empty line, a missing column, equal prompts, a pair that comes twice, ends of one attribute under
        several names, `open` for some pairs alone, a column `prompt` or `seed`, and what `read_prompts` refuses.
    """
    path = Path(path)
    rows = read_rows(path, "pairs", lines=lambda text: _lines(text, path), texts=_TEXTS, expected=EXPECTED)
    pairs = [_pair(row, f"{path}, row {number}") for number, row in enumerate(rows, 1)]
    given = [pair.attribute for pair, row in zip(pairs, rows, strict=True) if {"low_name", "high_name"} & set(row)]
    pairs = [pair if pair.attribute in given else _common_names(pair, pairs) for pair in pairs]
    check_pairs(pairs)
    return pairs


def check_pairs(pairs: Sequence[PromptPair]) -> None:
    """Raise `InputError` where pairs do not make contrasts; see `read_pairs`."""
    if not pairs:
        raise InputError("pairs", found="none", expected="at least one pair of prompts")
    for pair in pairs:
        if pair.low.split() == pair.high.split() or pair.low_name == pair.high_name:
            raise InputError("pairs", found=f"{str(pair)!r:.80}", expected="two different prompts, of different names")
        ends = {(one.low_name, one.high_name) for one in pairs if one.attribute == pair.attribute}
        if len(ends) > 1:
            found = f"{pair.attribute} from {' and from '.join(' to '.join(names) for names in sorted(ends))}"
            raise InputError("pairs", found=found, expected="one name for each end of an attribute")
    texts = [f"{pair.attribute}: {pair}" for pair in pairs]
    if twice := [text for text in texts if texts.count(text) > 1]:
        raise InputError("pairs", found=f"{twice[0]!r:.80} more than once", expected="each pair once")
    if len({pair.open is None for pair in pairs}) > 1:
        raise InputError("pairs", found="open for some of them alone", expected="it for all pairs, or for none")


def _lines(text: str, path: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in numbered_lines(text, path, "pairs"):
        low, bar, high = line.partition("|")
        if not bar or "|" in high:
            found = f"{path}, line {number}, {line!r:.60}"
            raise InputError("pairs", found=found, expected="low | high, with one bar")
        rows.append({"low": low.strip(), "high": high.strip()})
    return rows


def _pair(row: Mapping[str, Any], where: str) -> PromptPair:
    if missing := [name for name in ("low", "high") if name not in row]:
        found = f"{where}, with {', '.join(row) or 'nothing'}"
        raise InputError("pairs", found=found, expected=f"a column {missing[0]}")
    for name in _TEXTS:
        if name in row and (not isinstance(row[name], str) or not row[name].strip()):
            raise InputError("pairs", found=f"{where}, {name} {row[name]!r:.40}", expected="a text")
    if ours := [name for name in _OURS if name in row]:
        raise InputError("pairs", found=f"{where}, with {ours[0]}", expected="none: it is set for each image")
    low_name, high_name = differing_words(row["low"], row["high"])
    low_name, high_name = row.get("low_name", low_name), row.get("high_name", high_name)
    more = {name: value for name, value in row.items() if name not in _TEXTS}
    attribute = row.get("attribute", f"{low_name}/{high_name}")
    return PromptPair(attribute, row["low"], row["high"], low_name, high_name, row.get("open"), more)


def differing_words(low: str, high: str) -> tuple[str, str]:
    """The words between the common beginning and the common end of two prompts; "without ..." where there are none."""
    first, second = low.split(), high.split()
    common = min(len(first), len(second))
    start = next((k for k in range(common) if first[k] != second[k]), common)
    most = common - start
    end = next((k for k in range(most) if first[-1 - k] != second[-1 - k]), most)
    a, b = (" ".join(words[start : len(words) - end]) for words in (first, second))
    return a or f"without {b}", b or f"without {a}"


def _common_names(pair: PromptPair, pairs: Sequence[PromptPair]) -> PromptPair:
    """One pair of names for all contexts of an attribute: low and high, where the words differ from one to the next."""
    names = {(one.low_name, one.high_name) for one in pairs if one.attribute == pair.attribute}
    return pair if len(names) == 1 else replace(pair, low_name="low", high_name="high")
