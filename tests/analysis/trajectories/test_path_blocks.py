"""Traces that are read some samples at a time: the tables of the path in memory, whatever fits at once."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from tests.looped_pipeline import Pipeline

from scorescope.analysis.changes import update_agreement
from scorescope.analysis.trajectories import (
    decision_levels,
    decisions,
    moment_bias,
    path_blocks,
    path_geometry,
    path_shape,
    products_along,
    recorded_path,
    step_noise,
)
from scorescope.data.errors import InputError
from scorescope.probes.approximations import fit_gaussian
from scorescope.probes.experiments import visits
from scorescope.probes.recording import Trace, record

SHAPE, STEPS = (2, 4, 4), 7


def recorded(folder, **how):
    """Three runs of 3, 1 and 4 samples."""
    pipe = Pipeline(SHAPE, STEPS, **how)
    with record(pipe, keep="branches", path=folder, progress=False):
        for seed, batch in enumerate((3, 1, 4)):
            pipe(batch, seed)
    return Trace.open(folder)


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("trace") / "run")


@pytest.fixture(scope="module")
def cut_short(tmp_path_factory):
    """The last prediction of the second run is not finite."""
    return recorded(tmp_path_factory.mktemp("trace") / "run", lost=2 * STEPS - 1)


@pytest.fixture
def law():
    return fit_gaussian(torch.randn(200, *SHAPE, generator=torch.Generator().manual_seed(0)))


def samples_at_once(monkeypatch, count):
    monkeypatch.setattr(path_blocks, "AT_ONCE", count * 2 * STEPS * int(np.prod(SHAPE)))


def assert_same(found, expected):
    # products of other batches of matrices differ in the last digit of float64, and roots of what should be 0, such as
    # the distance of an end from the line to it, by the root of that
    pd.testing.assert_frame_equal(found, expected, check_exact=False, rtol=1e-8, atol=1e-7)


@pytest.mark.parametrize(("count", "sizes"), [(1, [1] * 8), (2, [2, 2, 2, 2]), (3, [3, 1, 3, 1]), (100, [8])])
def test_blocks_hold_parts_of_runs_and_several_runs_in_their_order(trace, monkeypatch, count, sizes):
    samples_at_once(monkeypatch, count)
    blocks, whole = path_blocks.blocks_of(trace), recorded_path(trace)
    parts = list(blocks)
    assert [part.states.shape[1] for part in parts] == sizes and blocks.count == 8 and blocks.shape == SHAPE
    assert torch.equal(torch.cat([part.states for part in parts], 1), whole.states)
    assert torch.equal(torch.cat([part.denoised for part in parts], 1), whole.denoised)
    assert torch.equal(torch.cat([part.end for part in parts]), whole.end)
    assert {(part.sigmas, part.missing, part.calls, part.resolution) for part in parts} == {
        (whole.sigmas, whole.missing, whole.calls, whole.resolution)
    }


@pytest.mark.parametrize("count", [1, 3, 100])
@pytest.mark.parametrize("which", ["trace", "cut_short"])
def test_every_table_is_that_of_the_path_in_memory(which, count, law, monkeypatch, request):
    trace = request.getfixturevalue(which)
    path = recorded_path(trace)
    assert any(path.missing) == (which == "cut_short")
    samples_at_once(monkeypatch, count)
    tables = {
        "geometry": path_geometry, "shape": lambda one: path_shape(one, law), "decisions": decisions,
        "bands": lambda one: decisions(one, edges=(0.2,)), "levels": decision_levels,
        "moments": lambda one: moment_bias(one, law),
    }  # fmt: skip
    for table in tables.values():
        assert_same(table(trace), table(path))
    products = products_along(trace)
    assert_same(path_geometry(trace, products=products), path_geometry(path))
    assert_same(path_shape(trace, law, products=products), path_shape(path, law))


def test_a_missing_level_says_why(cut_short):
    table = path_geometry(cut_short)
    gone = table[table["sigma"] == table["sigma"].min()]
    assert set(gone["missing"]) == {"predictions are not finite"} and gone["mean"].isna().all()


def test_runs_through_other_levels_are_refused_and_products_of_another_trace(trace, tmp_path):
    pipe = Pipeline(SHAPE, STEPS)
    with record(pipe, keep="branches", path=tmp_path / "run", progress=False):
        pipe(2)
        pipe.steps = 5
        pipe(2)
    with pytest.raises(InputError, match="2 lists of noise levels"):
        path_geometry(Trace.open(tmp_path / "run"))
    with pytest.raises(InputError, match="products_along of this path, of 8 samples"):
        path_geometry(trace, products=products_along(recorded_path(trace, run=0)))


@pytest.mark.parametrize("which", ["trace", "cut_short"])
def test_products_of_a_trace_of_other_seeds_are_refused(which, tmp_path, request):
    """As many samples through the same levels; of the one cut short the last level that is known is compared."""
    trace, pipe = request.getfixturevalue(which), Pipeline(SHAPE, STEPS)
    with record(pipe, keep="branches", path=tmp_path / "run", progress=False):
        for seed, batch in enumerate((3, 1, 4)):
            pipe(batch, seed + 7)
    other = Trace.open(tmp_path / "run")
    for table in (path_geometry, path_shape):
        with pytest.raises(InputError, match=r"those of other predictions|at other levels"):
            table(trace, products=products_along(other))
        table(trace, products=products_along(trace))
        table(trace, products=products_along(recorded_path(trace)))


def test_runs_of_other_shapes_are_refused(tmp_path):
    pipe = Pipeline(SHAPE, STEPS)
    with record(pipe, keep="branches", path=tmp_path / "run", progress=False):
        pipe(2)
        pipe.shape = (2, 8, 8)
        pipe(2)
    trace = Trace.open(tmp_path / "run")
    for asked in (path_geometry, recorded_path):
        with pytest.raises(InputError, match="samples of 2 shapes"):
            asked(trace)
    assert recorded_path(trace, run=1).states.shape[2:] == (2, 8, 8)


def test_noise_of_steps_and_agreement_hold_a_run_or_a_step(trace):
    table = step_noise(trace)
    assert table["run"].tolist() == sorted(table["run"]) and len(table) == 3 * STEPS
    alone = step_noise(trace).query("run == 1").reset_index(drop=True)
    assert len(alone) == STEPS and (alone["added"].dropna() < 1e-3).all()  # DDIM adds none
    same = update_agreement(trace, trace)
    assert len(same) == 8 * STEPS and np.allclose(same["cosine"], 1)
    assert len(list(visits(trace))) == 3 * STEPS


MEMORY = """
import resource, sys
from scorescope.analysis.guidance import decompose, summarise
from scorescope.analysis.trajectories import decisions, path_geometry, path_shape, recorded_path, step_noise
from scorescope.probes.recording import Trace

def tables(folder):
    trace = Trace.open(folder)
    one = recorded_path(trace) if sys.argv[1] == "memory" else trace
    yield summarise(decompose(trace))
    for measure in (path_geometry, path_shape, decisions):
        yield measure(one)
    yield step_noise(trace)

peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
list(tables(sys.argv[2]))  # a small one: what is loaded when it is first used is no part of a trace
before = peak()
for number, table in enumerate(tables(sys.argv[3])):
    table.to_parquet(f"{sys.argv[4]}{number}")
print(peak() - before)
"""


@pytest.mark.slow
def test_a_large_trace_is_read_in_a_small_part_of_the_memory_that_it_takes(tmp_path):
    """Of 316 MB. It was read in 140: a block, its products and the bundle of `path_shape`; in memory it takes 570."""
    for folder, runs, steps in (("small", 1, 4), ("run", 10, 40)):
        pipe = Pipeline((4, 32, 32), steps)
        with record(pipe, keep="branches", path=tmp_path / folder, progress=False):
            for seed in range(runs):
                pipe(12, seed)
    size = sum(file.stat().st_size for file in (tmp_path / "run/shards").iterdir())
    grown = {}
    for how in ("blocks", "memory"):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, how, *(str(tmp_path / name) for name in ("small", "run", how))], text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}, capture_output=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        grown[how] = int(done.stdout)
    for number in range(5):
        found, expected = (pd.read_parquet(f"{tmp_path / how}{number}") for how in ("blocks", "memory"))
        assert_same(found, expected)
    assert size > 280e6 and grown["blocks"] < 0.6 * size < grown["memory"], grown
