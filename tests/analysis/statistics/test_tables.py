import pandas as pd
import pytest

from scorescope.analysis import Column, Schema, find_column
from scorescope.analysis.guidance import DECOMPOSITION
from scorescope.data import InputError

SCHEMA = Schema(
    "demo", (Column("name", str, "", "a label"), Column("n", int, "", "a count"), Column("x", float, "data", "a value"))
)


def test_columns_are_put_in_order():
    table = pd.DataFrame({"x": [1.0, None], "n": [1, 2], "name": ["a", "b"]}, index=[5, 6])
    checked = SCHEMA.check(table)
    assert list(checked) == ["name", "n", "x"] and list(checked.index) == [0, 1]
    assert list(SCHEMA.describe()["column"]) == SCHEMA.names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": [1, 2]}, "undeclared \\['extra'\\]"),
        ({"n": [1.5, 2.0]}, "column 'n'"),
        ({"name": [1, 2]}, "column 'name'"),
        ({"x": ["a", "b"]}, "column 'x'"),
    ],
)
def test_other_columns_are_refused(change, message):
    table = pd.DataFrame({"name": ["a", "b"], "n": [1, 2], "x": [0.5, 1.0]} | change)
    with pytest.raises(InputError, match=message):
        SCHEMA.check(table)


def test_missing_columns_are_named():
    with pytest.raises(InputError, match="missing \\['n', 'x'\\]"):
        SCHEMA.check(pd.DataFrame({"name": ["a"]}))


def test_a_column_is_found_by_its_name():
    (row,) = find_column("norm_floor").to_dict("records")
    declared = next(column for column in DECOMPOSITION.columns if column.name == "norm_floor")
    assert row == {"table": "decomposition", "column": "norm_floor", "unit": "data", "meaning": declared.meaning}
    found = find_column("*_floor").itertuples(index=False)
    assert {("decomposition", "norm_floor"), ("skips", "frechet_floor")} <= {(row.table, row.column) for row in found}
    with pytest.raises(InputError, match="'norm_flor'"):
        find_column("norm_flor")


def test_every_column_is_found_once():
    every = find_column("*")
    assert not every.duplicated(["table", "column"]).any()  # no two tables have one name
    assert every.table.is_monotonic_increasing and every.table.nunique() > 70 and every.meaning.str.len().gt(0).all()
