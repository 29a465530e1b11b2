"""A table as LaTeX, for a paper: booktabs, values with their intervals, units as they are declared.

to_latex(steps, ["sigma", "update_norm"])      # ... 0.743 (0.709, 0.777) ...
"""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from matplotlib.mathtext import MathTextParser

from scorescope.analysis.statistics.tables import find_column, require_columns
from scorescope.data.doors import checked, require_some
from scorescope.data.errors import InputError
from scorescope.reports.page.numbers import plain
from scorescope.reports.page.texts import writable

MISSING, BEST = "--", "_best"
NO_UNIT = ("", "1")
PLAIN = (1e-3, 1e5)  # numbers in this range have no power of ten
_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi . pi rho . sigma tau upsilon phi chi psi "
    "omega"
)
_CAPITALS = {"Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Φ": "Phi",
             "Ψ": "Psi", "Ω": "Omega"}  # fmt: skip
MATHS = {
    **{chr(ord("α") + place): rf"\{name}" for place, name in enumerate(_GREEK.split()) if name != "."},
    **{letter: rf"\{name}" for letter, name in _CAPITALS.items()},
    "−": "-", "±": r"\pm", "×": r"\times", "·": r"\cdot", "√": r"\surd", "∞": r"\infty", "≤": r"\leq", "≥": r"\geq",
    "≈": r"\approx", "‖": r"\Vert", "′": r"{}^\prime", "½": r"\frac{1}{2}", "⟨": r"\langle", "⟩": r"\rangle",
    "→": r"\to", "←": r"\leftarrow", "↓": r"\downarrow", "↑": r"\uparrow", "⁻": "^-",
    **{power: f"^{digit}" for digit, power in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **{index: f"_{digit}" for digit, index in enumerate("₀₁₂₃₄₅₆₇₈₉")},
}  # fmt: skip
"""Signs of formulas in the texts of tables and figures, as LaTeX has them in its formulas."""
_LETTERS = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''", **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "–": "--", **{sign: f"${written}$" for sign, written in MATHS.items()},
}  # fmt: skip

_LATIN = re.compile("[\u00a0-\u017f\u2010-\u2026]")  # letters, dashes, quotation marks


@checked
def to_latex(table: pd.DataFrame, columns: Sequence[str] = (), *, of: str = "", digits: int = 3) -> str:
    """A table as a `tabular` of booktabs, each value with its interval: 0.743 (0.709, 0.777).

    Parameters
    ----------
    table : DataFrame
        Any table of this package. The interval of `x` is in `x_low` and `x_high`; one in `low` and `high` is that of
        the column before `low`. A column `x_best` of truth values says where `x` is bold.
    columns : sequence of str
        Those that are shown, in this order, without the ends of their intervals and what is best; all if empty.
    of : str
        Name of the table as `find_column` has it, where columns of this name have different units in several tables.
    digits : int
        Significant digits of numbers that have no interval. Of the others as many are shown as their interval decides:
        two of its half width.

    Returns
    -------
    str
        What columns mean stands above the table as comments. Needs the package booktabs.

    Raises
    ------
    InputError
        For a column that the table does not have, or a table without columns.

    Notes
    -----
    A missing number is an en dash. A value that lies outside of its own interval is no estimate of what the interval is
    about, and then the ends stay columns of their own. Names and texts are shown letter by letter.
    """
    require_columns("table", table, list(columns))
    require_some("table", table.columns)
    ends = _intervals(table)
    inside = {name for pair in ends.values() for name in pair} | set(_marks(table).values())
    shown = list(columns) or [str(name) for name in table if name not in inside]
    declared = {name: _declared(name, of) for name in shown}
    head = " & ".join(_head(name, unit) for name, (unit, _) in declared.items())
    cells = [_marked(table, name, _cells(table, name, ends.get(name), digits)) for name in shown]
    rows = [" & ".join(row) + r" \\" for row in zip(*cells, strict=True)]
    kinds = "".join("r" if pd.api.types.is_numeric_dtype(table[name]) else "l" for name in shown)
    notes = [f"% {name}: {meaning}" for name, (_, meaning) in declared.items() if meaning]
    lines = [rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", rf"{head} \\", r"\midrule", *rows]
    return "\n".join([*notes, *lines, r"\bottomrule", r"\end{tabular}", ""])


def _intervals(table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """The ends of each column that has an interval around it."""
    names = [str(name) for name in table]
    pairs = {name: (f"{name}_low", f"{name}_high") for name in names if {f"{name}_low", f"{name}_high"} <= set(names)}
    if {"low", "high"} <= set(names) and names.index("low"):
        pairs.setdefault(names[names.index("low") - 1], ("low", "high"))
    return {name: ends for name, ends in pairs.items() if _holds(table, name, ends)}


def _holds(table: pd.DataFrame, name: str, ends: tuple[str, str]) -> bool:
    if not all(pd.api.types.is_numeric_dtype(table[column]) for column in (name, *ends)):
        return False
    low, high = (table[end] for end in ends)
    slack = 1e-9 * (low.abs() + high.abs())
    return not ((table[name] < low - slack) | (table[name] > high + slack)).any()


def _declared(name: str, of: str) -> tuple[str, str]:
    """Unit and meaning of a column, each where all tables that may be meant agree on it."""
    try:
        found = find_column(re.sub(r"[*?\[\]]", "?", name))
    except InputError:
        return "", ""
    found = found[found["table"] == of] if of else found
    unit, meaning = (set(found[column]) for column in ("unit", "meaning"))
    return unit.pop() if len(unit) == 1 else "", meaning.pop() if len(meaning) == 1 else ""


def _head(name: str, unit: str) -> str:
    shown, unit = escaped(name.replace("_", " ")), unit.replace("data", "units of data").replace("^2", "²")
    return shown if unit in NO_UNIT else f"{shown} ({escaped(unit)})"


def _cells(table: pd.DataFrame, name: str, ends: tuple[str, str] | None, digits: int) -> Iterator[str]:
    if ends is None:
        yield from (_cell(value, digits) for value in table[name])
    else:
        for values in zip(table[name], *(table[end] for end in ends), strict=True):
            value, low, high = map(float, values)
            yield _with_interval(value, low, high, digits)


def _marks(table: pd.DataFrame) -> dict[str, str]:
    """The column that says where another is best, of each that has one."""
    found = {str(name): f"{name}{BEST}" for name in table if f"{name}{BEST}" in table}
    return {name: best for name, best in found.items() if pd.api.types.is_bool_dtype(table[best])}


def _marked(table: pd.DataFrame, name: str, cells: Iterator[str]) -> Iterator[str]:
    """The same, bold where the table says that it is best."""
    marks = _marks(table)
    best = table[marks[name]] if name in marks else [False] * len(table)
    yield from (rf"\textbf{{{cell}}}" if bold else cell for cell, bold in zip(cells, best, strict=True))


def _cell(value: Any, digits: int) -> str:
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else "no"
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    return _number(value, digits) if isinstance(value, float) else escaped(str(value))


def _with_interval(value: float, low: float, high: float, digits: int) -> str:
    """A value and its interval, all to the decimals that the interval decides, and with one power of ten."""
    if not all(map(math.isfinite, (value, low, high))) or low == high:
        return _cell(value, digits)
    exponent = _exponent(max(abs(value), abs(low), abs(high)))
    decimals = 1 - math.floor(math.log10((high - low) / 2)) + exponent
    texts = [_signed(number / 10.0**exponent, decimals) for number in (value, low, high)]
    return f"{texts[0]} ({texts[1]}, {texts[2]})" + _times(exponent)


def _number(value: float, digits: int) -> str:
    if math.isinf(value):
        return r"$-\infty$" if value < 0 else r"$\infty$"
    exponent = _exponent(abs(value))
    text = plain(value / 10.0**exponent, digits)
    return (f"$-${text[1:]}" if text.startswith("-") else text) + _times(exponent)


def _exponent(size: float) -> int:
    return 0 if size == 0 or PLAIN[0] <= size < PLAIN[1] else math.floor(math.log10(size))


def _times(exponent: int) -> str:
    return rf" $\times 10^{{{exponent}}}$" if exponent else ""


def _signed(value: float, decimals: int) -> str:
    """A number to so many decimals; negative ones are tens, hundreds."""
    text = f"{round(value, decimals) + 0.0:.{max(decimals, 0)}f}"
    return f"$-${text[1:]}" if text.startswith("-") else text


def escaped(text: str) -> str:
    """Text as LaTeX shows it letter by letter, in one line."""
    line = " ".join(writable(text).split())
    return "".join(_LETTERS.get(letter, letter) for letter in line)


def figure_text(text: str) -> str:
    """Text of a figure as LaTeX shows it: letter by letter, and formulas between dollars as they are.

    Raises
    ------
    InputError
        For letters that LaTeX's own fonts do not have, and for a formula that is none of matplotlib's.
    """
    foreign = [letter for letter in text if not letter.isascii() and letter not in MATHS and not _LATIN.match(letter)]
    if foreign:
        raise InputError(
            "figure", found=f"{foreign[0]!r} in {text!r}", expected="letters of LaTeX's own fonts, or a .pdf"
        )
    parts = re.split(r"(?<!\\)\$", text)
    if len(parts) % 2 == 0:  # dollars and no formula
        return _shown(text)
    return "".join(_formula(part) if place % 2 else _shown(part) for place, part in enumerate(parts))


def _shown(text: str) -> str:
    written = "".join(_LETTERS.get(letter, letter) for letter in text.replace(r"\$", "$"))
    return written.replace("\u00a0", "~").replace("-", "{-}").replace("`", "{`}")


def _formula(code: str) -> str:
    """A formula between dollars, once matplotlib has read it: nothing else is run by LaTeX."""
    try:
        MathTextParser("path").parse(f"${code}$")
    except ValueError as error:
        raise InputError("figure", found=f"${code}$", expected="a formula that matplotlib draws") from error
    return f"${code.translate({ord(sign): f'{written} ' for sign, written in MATHS.items()})}$"
