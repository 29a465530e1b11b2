import pandas as pd
import pytest

from scorescope.analysis import Column, Schema
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
