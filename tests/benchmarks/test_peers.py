"""Rows of the table of peers."""

import math

import numpy as np
import pytest
import torch

from tests.benchmarks import bench_peers, bench_rules
from tests.benchmarks.timing import Row, compared, difference, find


def test_a_row_says_what_was_measured_and_what_was_not():
    row = compared("sum", "by hand 1.0", lambda: 2.0, lambda: [1.0], numbers=lambda found: found[0] + 1.5, pairs=1)
    assert row.error == pytest.approx(0.2) and row.ratio > 0 and row.ours > 0
    assert str(row).startswith("| sum | ") and "by hand 1.0: " in str(row) and "2.0e-01" in str(row)
    assert str(Row("sum", "peer", note="not installed")) == "| sum | - | peer: - | - | - | not installed |"


def test_differences_are_relative_to_the_largest_number():
    assert difference(torch.tensor([1.0, 4.0]), np.array([1.5, 5.0])) == pytest.approx(0.2)
    assert math.isnan(difference(None, 1.0))


def test_what_is_not_installed_has_a_reason():
    assert "no_such_peer" in find("no_such_peer") and find("math") is math


@pytest.mark.filterwarnings("ignore")
def test_rules_are_those_of_the_guiders():
    pytest.importorskip("diffusers")
    rows = {row.what: row for row in bench_rules.guider_rows(pairs=1)}
    assert len(rows) == 7
    single = ("CFG-Zero*", "tangential")  # theirs compute in float32 there
    for what, row in rows.items():
        assert row.error < (1e-4 if what.startswith(single) else 1e-12), row


@pytest.mark.slow
def test_forms_written_from_papers_are_ours():
    assert all(row.error < 1e-12 for row in bench_peers.formulas())
