"""Damaged files of every kind: only our errors, in bounded time and memory, no code run, nothing written elsewhere."""

import ast
import inspect
from pathlib import Path

import pytest

from tests.fuzz.harness import run
from tests.fuzz.kinds import KINDS
from tests.house import read_house

FEW, MANY = 15, 10_000

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries about damaged files


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_damaged_file_is_an_error_of_ours_and_nothing_else(kind, tmp_path):
    assert not run(kind, tmp_path, FEW).faults


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_many_damaged_files(kind, tmp_path):
    assert not run(kind, tmp_path, MANY).faults
