"""Text that others wrote, in files, on pages and on terminals: names, prompts, messages.

encoded("a \\udcff b")                     # b"a \\\\udcff b": what UTF-8 cannot hold is written as its escape
say(*problems)                            # each is one line of the terminal, whatever it holds
csv_bytes(table), parquet_bytes(table)    # no text of a table is a formula, and no row is split
"""

import io
import re
from collections.abc import Callable
from typing import Any

import pandas as pd
import typer
from matplotlib.figure import Figure
from matplotlib.text import Text

from scorescope.data.errors import InputError

LONGEST = 200  # bytes of a file name, without what is added to it
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")  # neither on a page nor in an SVG
_FORMULA = re.compile(r"^'*[=+\-@\t\r\n]")
_UNSAFE = re.compile(r'[/\\<>:"|?*]')


def writable(text: str) -> str:
    """Text that UTF-8 and HTML can hold: lone surrogates and control characters become their escapes."""
    return _CONTROL.sub(_escape, text)


def encoded(text: str) -> bytes:
    """UTF-8 of any text."""
    return writable(text).encode()


def visible(text: str) -> str:
    """One line that does nothing to a terminal: what is not printed, line ends too, becomes its escape."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def say(*lines: str, err: bool = False) -> None:
    """Print lines on standard output, or on standard error."""
    for line in lines:
        typer.echo(visible(line), err=err)


def say_table(table: pd.DataFrame) -> None:
    """Print a table; a cell that holds line ends stays in its row."""
    typer.echo(_each_text(table, visible).to_string(index=False))


def check_name(argument: str, name: str) -> None:
    """Refuse a name of a file that is a path, or that some system cannot hold."""
    whole = name.isprintable() and name.strip(" .") == name and not _UNSAFE.search(name)
    if not name or not whole or len(name.encode()) > LONGEST:
        expected = f'a file name without folder and suffix: no /, \\, <, >, :, ", |, ?, *, at most {LONGEST} bytes'
        raise InputError(argument, found=ascii(name), expected=expected)


def as_name(text: str) -> str:
    """A file name made of any text."""
    return re.sub(r"[^\w-]+", "_", text)[:50].strip("_") or "unnamed"


def csv_bytes(table: pd.DataFrame) -> bytes:
    """CSV of a table; a text that a spreadsheet would take for a formula begins with one apostrophe more.

    Lines end as RFC 4180 has it, so that a text with a carriage return is quoted and stays in its row.
    """
    text: str = _each_text(table, _no_formula).to_csv(index=False, lineterminator="\r\n")
    return text.encode("utf-8", "backslashreplace")


def parquet_bytes(table: pd.DataFrame) -> bytes:
    """Parquet of a table, every text as it is but for what UTF-8 cannot hold."""
    buffer = io.BytesIO()
    _each_text(table, _surrogates_escaped).to_parquet(buffer, index=False)
    return buffer.getvalue()


def clean_texts(figure: Figure) -> None:
    """Escape what cannot be drawn, or would break an SVG, in every text of a figure."""
    for text in figure.findobj(Text):
        if _CONTROL.search(text.get_text()):
            text.set_text(writable(text.get_text()))


def _each_text(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """A table with every text changed, column names too; columns in which nothing changes are as they were."""
    columns = [_changed(column, change) for _, column in table.items()]
    names = [change(name) if isinstance(name, str) else name for name in table]
    whole = pd.concat(columns, axis=1, keys=range(len(columns))) if columns else table
    return whole.set_axis(pd.Index(names, dtype=object), axis=1)


def _changed(column: "pd.Series[Any]", change: Callable[[str], str]) -> "pd.Series[Any]":
    if column.dtype.kind in "biufc":  # numbers
        return column
    cells = column.unique() if isinstance(column.dtype, pd.StringDtype) else column
    new = {cell: change(cell) for cell in cells if isinstance(cell, str)}
    if all(text == cell for cell, text in new.items()):
        return column
    return pd.Series([new[cell] if isinstance(cell, str) else cell for cell in column], column.index, dtype=object)


def _no_formula(text: str) -> str:
    return f"'{text}" if _FORMULA.match(text) else text


def _surrogates_escaped(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _escape(found: "re.Match[str]") -> str:
    return found[0].encode("unicode_escape").decode()
