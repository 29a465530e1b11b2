"""What a page shows of a table: which columns first, how many rows, and the data for its script."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from scorescope.data import InputError
from scorescope.reports.page.pages import ReportTable
from scorescope.reports.page.tables import MOST_COLUMNS, first_columns, shown_table


def names(table, **options):
    return [table.columns[place] for place in first_columns(table, **options)]


def wide():
    numbers = {f"part{k}": [0.5 * k, 1.0] for k in range(9)}
    interval = {"effect": [1.0, 2.0], "effect_low": [0.0, 1.0], "effect_high": [2.0, 3.0]}
    return pd.DataFrame({"site": ["a", "b"], "method": ["m", "m"], **numbers, **interval, "verdict": ["yes", "no"]})


def test_a_narrow_table_shows_all_in_its_own_order():
    table = pd.DataFrame({"value": [1.0], "verdict": ["yes"], "site": ["a"]})
    assert names(table) == ["value", "verdict", "site"]


def test_what_tells_rows_apart_and_the_verdict_come_first_and_an_interval_stays_whole():
    shown = names(wide())
    assert shown[:2] == ["site", "verdict"] and len(shown) == MOST_COLUMNS
    assert {"effect", "effect_low", "effect_high"} < set(shown) and "method" not in shown  # the same in all rows
    for low in ("a_low", "b_low"):  # no end without the other
        table = wide().rename(columns={"part0": low, "part1": low.replace("low", "high"), "part2": low[0]})
        assert len(set(names(table)) & {low, low.replace("low", "high"), low[0]}) in (0, 3)


def test_an_empty_verdict_and_long_texts_do_not_lead():
    table = wide().assign(verdict="", site=["x" * 100, "y" * 100])
    assert "verdict" not in names(table)
    assert names(wide()[["part0", *wide().columns.drop("part0")]])[0] == "verdict"  # texts behind numbers are no keys


def test_columns_that_are_asked_for_are_shown_in_that_order():
    assert names(wide(), asked=("verdict", "part3")) == ["verdict", "part3"]
    with pytest.raises(InputError, match=r"ReportTable\.first: found \['nothing'\]"):
        ReportTable("wide", wide(), first=("verdict", "nothing"))


def test_data_hold_all_digits_and_what_json_cannot_hold_is_text():
    table = pd.DataFrame(
        {
            "float": [1 / 3, math.nan, -math.inf],
            "single": np.asarray([0.5, 1.5, np.nan], np.float32),
            "whole": [2**60, 1, -(2**53)],
            "bool": [True, False, True],
            "any": [None, (1, 2), "\ud800 </script>"],
        }
    )
    shown = shown_table(table, room=10_000)
    data = json.loads(shown.data, parse_constant=pytest.fail)
    assert [column["kind"] for column in data["columns"]] == ["float", "float", "whole", "text", "text"]
    assert data["rows"][0] == [1 / 3, 0.5, str(2**60), "True", None]
    assert data["rows"][1] == [None, 1.5, 1, "False", "(1, 2)"]
    assert data["rows"][2] == ["-inf", None, -(2**53), "True", "\\ud800 </script>"]
    assert "<" not in shown.data and shown.rows[0][0] == "0.3333"


def test_a_table_without_room_keeps_its_first_rows():
    table = pd.DataFrame({"place": range(1000)})
    whole, cut = shown_table(table, room=100_000), shown_table(table, room=100)
    assert (whole.kept, cut.kept, cut.count) == (1000, 40, 1000)
    assert len(json.loads(cut.data)["rows"]) == len(cut.rows) == 40
    assert shown_table(pd.DataFrame({"a": []}), room=100).rows == []
