"""Tidy tables whose columns are declared once, beside the function that makes them.

    SCHEMA = Schema("decomposition", (Column("sigma", float, "data", "noise level"), ...))
    return SCHEMA.check(table)
    find_column("norm_floor")        # in which tables it is, its unit and its meaning

This module knows no table of its own.
"""

import pkgutil
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module

import pandas as pd

from scorescope.data.doors import checked
from scorescope.data.errors import InputError


@checked
@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    name : str
        Its name. One that ends in `*` declares every column that begins so, of which there may be none.
    kind : type
        `int`, `float`, `str` or `bool`, or `object` for numbers or texts. Only numbers of `float` may be missing (NaN).
    unit : str
        "data" (the unit of x), "data^2", "1" (dimensionless), "nats" and so on; "" for labels.
    meaning : str
        One line; names the prediction space where the column depends on it.
    """

    name: str
    kind: type
    unit: str
    meaning: str


@checked
@dataclass(frozen=True)
class Schema:
    """The columns of a table, in order.

    Attributes
    ----------
    name : str
        Of the table.
    columns : tuple of Column
        In order.
    """

    name: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        """Names of the columns that are always there, in order."""
        return [column.name for column in self.columns if not column.name.endswith("*")]

    def columns_of(self, table: pd.DataFrame) -> dict[str, Column]:
        """The declared columns by name, in order, with those of the table in place of what ends in `*`."""
        found: dict[str, Column] = {}
        for column in self.columns:
            several = column.name.endswith("*")
            names = [name for name in map(str, table) if fnmatchcase(name, column.name)] if several else [column.name]
            found |= {name: column for name in names if name not in self.names or not several}
        return found

    def check(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with its columns in order, after checking that they are those declared.

        Raises
        ------
        InputError
            If a column is missing, undeclared or of another kind.
        """
        found_names, declared = {str(name) for name in table}, self.columns_of(table)
        missing, extra = set(self.names) - found_names, found_names - set(declared)
        if missing or extra:
            found = f"missing {sorted(missing)}, undeclared {sorted(extra)}"
            raise InputError(f"table {self.name!r}", found=found, expected=f"the columns {self.names}")
        for name, column in declared.items():
            if not _is_kind(table[name], column.kind):
                found = f"dtype {table[name].dtype}"
                raise InputError(f"table {self.name!r}, column {name!r}", found=found, expected=column.kind.__name__)
        return table[list(declared)].reset_index(drop=True)

    def describe(self) -> pd.DataFrame:
        """The declaration itself as a table: column, kind, unit, meaning."""
        rows = [(c.name, c.kind.__name__, c.unit, c.meaning) for c in self.columns]
        return pd.DataFrame(rows, columns=["column", "kind", "unit", "meaning"])


def ends(unit: str, how: str = "", *, of: str = "") -> tuple[Column, Column]:
    """The columns `low` and `high` of a 95 % interval, or `<of>_low` and `<of>_high`, and how it was found."""
    low, high = (f"{of}_low", f"{of}_high") if of else ("low", "high")
    text = "end of its 95 % interval" + (f", {how}" if how else "")
    return Column(low, float, unit, f"lower {text}"), Column(high, float, unit, f"upper {text}")


def require_columns(argument: str, table: pd.DataFrame, names: list[str]) -> None:
    """Raise `InputError` unless `table` has all of `names`."""
    if absent := [name for name in names if name not in table]:
        raise InputError(argument, found=f"a table without {absent}", expected=f"columns {names}")


@checked
def find_column(name: str) -> pd.DataFrame:
    """What a column means, in every table of this room that has it.

    Parameters
    ----------
    name : str
        Of the column; `*` and `?` stand for any letters, as in "*_floor". "*" gives every column of every table.

    Returns
    -------
    DataFrame
        `table`, `column`, `unit` and `meaning`, one row a (table, column), tables by name; printed whole.

    Raises
    ------
    InputError
        If no table has such a column.
    """
    rows = [
        (schema.name, column.name, column.unit, column.meaning)
        for schema in sorted(_declared(), key=lambda schema: schema.name)
        for column in schema.columns
        if fnmatchcase(column.name, name) or (column.name.endswith("*") and fnmatchcase(name, column.name))
    ]
    if not rows:
        raise InputError("name", found=repr(name), expected='a column of some table; "*" lists them all')
    return _Meanings(rows, columns=["table", "column", "unit", "meaning"])


class _Meanings(pd.DataFrame):
    """A table that is shown with whole sentences, and so are rows and columns chosen of it."""

    @property
    def _constructor(self) -> "type[_Meanings]":
        return _Meanings

    def __repr__(self) -> str:
        return self.to_string()

    def _repr_html_(self) -> str:
        with pd.option_context("display.max_colwidth", None):
            return self.to_html(border=0)


def _declared() -> set[Schema]:
    """The tables that the modules of this room declare."""
    room = import_module("scorescope.analysis")
    modules = [import_module(found.name) for found in pkgutil.walk_packages(room.__path__, f"{room.__name__}.")]
    return {value for module in modules for value in vars(module).values() if isinstance(value, Schema)}


def _is_kind(values: pd.Series, kind: type) -> bool:
    if kind is object:
        return _is_kind(values, float) or _is_kind(values, str)
    if kind is str:
        return bool(values.map(lambda value: isinstance(value, str)).all())
    tests = {int: pd.api.types.is_integer_dtype, float: pd.api.types.is_float_dtype, bool: pd.api.types.is_bool_dtype}
    return bool(tests[kind](values))
