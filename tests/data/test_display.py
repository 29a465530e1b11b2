"""What objects of ours print, and what a notebook shows of them."""

import ast
import re
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from tests.house import read_house

from scorescope.analysis import find_column
from scorescope.data.display import displayed
from scorescope.probes import CFG, Bank, Interval, Recording, Trace, load_model, sample
from scorescope.probes.features import Moments
from scorescope.probes.guidance import Autoguidance
from scorescope.reports.page import Outcome

LARGE = re.compile(r"\b(Array|Tensor|DataFrame|NDArray|ndarray|Denoiser|Module|Trace|Run|Moments)\b")


@displayed
@dataclass(frozen=True)
class Case:
    value: object


def large_fields(node: ast.ClassDef) -> list[str]:
    return [
        part.target.id
        for part in node.body
        if isinstance(part, ast.AnnAssign) and LARGE.search(ast.unparse(part.annotation))
    ]


def test_every_dataclass_that_holds_arrays_tables_or_networks_prints_one_line():
    dumping = [
        f"{file.name}.{name}"
        for file in read_house().files.values()
        for name, node in file.defined.items()
        if isinstance(node, ast.ClassDef) and not name.startswith("_")
        if any("dataclass" in ast.unparse(part) for part in node.decorator_list) and large_fields(node)
        if "displayed" not in map(ast.unparse, node.decorator_list)
    ]
    assert not dumping


@pytest.fixture(scope="module")
def run():
    model = load_model("digits")
    return sample(
        model.denoiser, seeds=range(2), sigmas=(1.0, 0.5, 0.0), condition=model.conditions(2), progress=False,
        record=Recording(),
    )  # fmt: skip


def test_large_objects_print_one_line_with_their_sizes(run):
    moments = Moments.of(np.random.default_rng(0).normal(size=(50, 12)))
    assert (
        repr(run)
        == f"Run(samples=Tensor[2, 1, 8, 8], trace=Trace(status='complete', samples=2, rows={len(run.trace.scalars)}))"
    )
    assert repr(moments) == "Moments(mean=ndarray[12], covariance=ndarray[12, 12], n=50)"
    bank = Bank(torch.zeros(300, 1, 8, 8), [2.0, 1.0])
    for line in map(repr, (bank, bank.point(torch.arange(8), 0), Autoguidance(2.0, load_model("digits").denoiser))):
        assert "\n" not in line and len(line) < 300


def test_a_small_object_prints_what_makes_it_again():
    rule = Interval(CFG(4.0), low=0.5, high=2.0)
    assert repr(rule) == "Interval(rule=CFG(weight=4.0), low=0.5, high=2.0)" and eval(repr(rule)) == rule


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.tensor(1.5), "tensor(1.5000)"),
        ({"a": torch.zeros(3, 2)}, "{'a': Tensor[3, 2]}"),
        ([np.zeros((1, 2))] * 40, "<list of 40>"),
        ((pd.DataFrame({"x": [1]}),), "(DataFrame[1 x 1],)"),
        ("x" * 500, "'" + "x" * 55 + "...'"),
        ("two\nlines", r"'two\nlines'"),
        (torch.nn.Linear(2, 2), "Linear"),
        (len, "len"),
    ],
)
def test_values_in_few_words(value, text):
    assert repr(Case(value)) == f"Case(value={text})"


HOSTILE = "<script>alert(1)</script>"


@pytest.mark.parametrize(
    "value",
    [HOSTILE, [HOSTILE], {HOSTILE: HOSTILE}, pd.DataFrame({HOSTILE: [HOSTILE]}), Case(HOSTILE), Case([Case(HOSTILE)])],
)
def test_foreign_text_is_shown_as_text(value):
    shown = Case(value)._repr_html_()
    assert "<script" not in shown and "&lt;script" in shown and "mathjax_ignore" in shown


def test_a_notebook_shows_runs_traces_rules_and_tables_in_its_own_colours(run):
    for value in (run, run.trace, CFG(4.0), Moments.of(np.eye(3)), Case(pd.DataFrame({"column": range(100)}))):
        shown = value._repr_html_()
        assert f"<strong>{type(value).__name__}</strong>" in shown
        assert not re.search(r"#[0-9a-f]{3,6}\b|rgb\(", shown), "a colour that is wrong in the other theme"
    assert "<details><summary>DataFrame[100 x 1]</summary>" in shown and shown.count("<tr") == 12
    assert "_repr_html_" in vars(Outcome) and "_repr_html_" in vars(Trace)


def test_meanings_of_columns_are_printed_whole():
    found = find_column("*_floor")
    for shown in (repr(found), repr(found.head(40)), found._repr_html_()):
        assert "..." not in shown and "…" not in shown
    assert all(meaning in repr(found) for meaning in found["meaning"])


def test_showing_loads_no_notebook_machinery():
    code = "import sys, scorescope.data.display; assert not {'IPython', 'ipywidgets', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
