"""Tables for papers: what is shown of a number is what its interval tells."""

import numpy as np
import pandas as pd
import pytest

from scorescope.analysis.statistics import find_column
from scorescope.data import InputError
from scorescope.reports import to_latex


def row(**cells):
    return pd.DataFrame({name: [cell] for name, cell in cells.items()})


def cells(table, **more):
    body = to_latex(table, **more).split("\\midrule\n")[1].split("\\bottomrule")[0]
    return [line.removesuffix(" \\\\").split(" & ") for line in body.strip().split("\n")]


@pytest.mark.parametrize(("value", "low", "high", "shown"), [
    (0.7431, 0.709, 0.7771, "0.743 (0.709, 0.777)"),
    (0.7431, 0.3, 1.2, "0.74 (0.30, 1.20)"),
    (12.34, -5.0, 30.0, "12 ($-$5, 30)"),
    (12346.0, 12001.0, 12700.0, "12350 (12000, 12700)"),
    (-3.2e-7, -5e-7, -1.1e-7, r"$-$3.2 ($-$5.0, $-$1.1) $\times 10^{-7}$"),
    (1.234e6, 1.2e6, 1.27e6, r"1.234 (1.200, 1.270) $\times 10^{6}$"),
    (0.0, -0.001, 0.001, "0.0000 ($-$0.0010, 0.0010)"),
    (0.5, np.nan, np.nan, "0.5"),
    (np.nan, np.nan, np.nan, "--"),
    (2.0, 2.0, 2.0, "2"),
    (1.0, 0.5, np.inf, "1"),
])  # fmt: skip
def test_digits_are_those_that_the_interval_decides(value, low, high, shown):
    assert cells(row(mean=value, low=low, high=high)) == [[shown]]
    assert cells(row(x=value, x_low=low, x_high=high)) == [[shown]]


def test_an_interval_that_is_of_something_else_stays_a_column():
    table = row(sigma=3.0, low=0.1, high=0.2)
    assert cells(table) == [["3", "0.1", "0.2"]]
    assert cells(row(name="a", low=0.1, high=0.2)) == [["a", "0.1", "0.2"]]


def test_columns_have_their_units_and_meanings():
    assert "sigma (units of data) & nats (nats) \\\\" in to_latex(row(sigma=80.0, nats=0.5))
    table = find_column("update_norm").iloc[0]
    text = to_latex(row(update_norm=1.0, mine=2), of=table["table"])
    assert text.startswith(f"% update_norm: {table['meaning']}\n") and "& mine \\\\" in text
    assert to_latex(row(update_norm=1.0), of="no such table").startswith("\\begin")
    with pytest.raises(InputError, match=r"^table: found a table without \['b'\]"):
        to_latex(row(a=1), ["b"])


def test_the_best_is_bold():
    table = pd.DataFrame({"set": ["a", "b"], "FD ↓": [1.0, 2.0], "FD ↓_low": [0.9, 1.9], "FD ↓_high": [1.1, 2.1]})
    bold = to_latex(table.assign(**{"FD ↓_best": [True, False]}))
    assert r"FD $\downarrow$ \\" in bold
    assert cells(table.assign(**{"FD ↓_best": [True, False]})) == [
        ["a", r"\textbf{1.00 (0.90, 1.10)}"],
        ["b", "2.00 (1.90, 2.10)"],
    ]
    assert cells(table) == [["a", "1.00 (0.90, 1.10)"], ["b", "2.00 (1.90, 2.10)"]]
    assert cells(row(set=1.0, set_best=0.5)) == [["1", "0.5"]]  # a number is no mark


def test_texts_are_shown_letter_by_letter():
    hostile = "a_b & 50 % $x$ #1 {y} ~^\\end{tabular}\n\x1b[31m"
    (line,) = cells(row(text=hostile, more=True, count=3))  # an escaped & parts no cells
    shown = r"a\_b \& 50 \% \$x\$ \#1 \{y\} \textasciitilde{}\textasciicircum{}\textbackslash{}end\{tabular\} "
    assert " & ".join(line).startswith(shown)
    assert "\x1b" not in " ".join(line) and line[-2:] == ["yes", "3"]


def test_a_table_has_the_rules_of_booktabs():
    lines = to_latex(pd.DataFrame({"mine": ["CFG", "APG"], "size": [9, 16]})).splitlines()
    rules = [r"\begin{tabular}{lr}", r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"]
    assert [line for line in lines if line.startswith("\\")] == rules
    assert [line for line in lines if not line.startswith(("\\", "%"))] == [
        r"mine & size \\",
        r"CFG & 9 \\",
        r"APG & 16 \\",
    ]
