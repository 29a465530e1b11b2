"""The same manifest gives the same tables: with other hash seeds, threads and batch sizes, and after a resumed run."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from scorescope.analysis import decompose
from scorescope.data import load_denoiser
from scorescope.probes import APG, CFG, Recording, Trace, record, sample, sweep
from scorescope.probes.features import Moments
from tests.pipelines import generator, sd15

ROOT = Path(__file__).parents[1]
STEPS = [10.0, 2.0, 0.5, 0.1, 0.0]


def tables(batch: int = 64, seeds: int = 64) -> dict[str, pd.DataFrame]:
    """Tables of a sampled run of the shipped digits: scalars, decomposition, moments of what it drew."""
    denoiser = load_denoiser("digits")[0]
    run = sample(
        denoiser, seeds=range(seeds), condition=torch.arange(seeds) % 10, rule=APG(3.0, eta=0.5), sigmas=STEPS,
        batch=batch, record=Recording(), progress=False,
    )  # fmt: skip
    drawn = Moments.of(run.samples.flatten(1).numpy())
    numbers = {"mean": drawn.mean.mean(), "trace": np.trace(drawn.covariance)}
    return {"scalars": run.trace.scalars, "decomposed": decompose(run.trace), "moments": pd.DataFrame([numbers])}


def apart(one: dict[str, pd.DataFrame], other: dict[str, pd.DataFrame]) -> float:
    """The largest difference of two sets of tables, over the largest number of a column; texts have to be equal."""
    worst = 0.0
    for name, table in one.items():
        assert list(table.columns) == list(other[name].columns) and len(table) == len(other[name])
        first, second = (_in_order(found) for found in (table, other[name]))
        for column in table:
            a, b = first[column], second[column]
            if not pd.api.types.is_float_dtype(a):
                assert a.equals(b), (name, column)
            elif np.isfinite(a).any():
                assert a.isna().equals(b.isna()), (name, column)
                with np.errstate(invalid="ignore"):
                    worst = max(worst, float((a - b).abs().max() / max(a[np.isfinite(a)].abs().max(), 1e-300)))
    return worst


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Rows by sample and step: a run goes batch by batch."""
    keys = [name for name in ("sample", "step", "call") if name in table]
    return table.sort_values(keys, ignore_index=True) if keys else table


BATCHES = 1e-4  # of the largest of a column: float32 convolutions over other batches sum in another order


@pytest.mark.parametrize("batch", [1, 7])
def test_batches_of_another_size_differ_by_rounding(batch):
    assert apart(tables(), tables(batch)) < BATCHES


def test_the_same_again_is_the_same_to_the_last_bit():
    assert apart(tables(), tables()) == 0


def test_two_threads_differ_by_rounding_at_most():
    before = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(tables())
    finally:
        torch.set_num_threads(before)
    assert apart(*found) < BATCHES


@pytest.mark.slow
def test_other_hash_seeds_give_the_same_bits():
    program = (
        "import sys; from tests.test_determinism import tables\n"
        "for table in tables(seeds=8).values(): print(table.to_csv(float_format='%.17g'))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program], check=True, capture_output=True, text=True, cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
        ).stdout
        for seed in ("0", "1")
    }  # fmt: skip
    assert len(said) == 1 and len(said.pop()) > 10_000


class Cut(Exception):
    """The run ends here."""


def recorded(folder: Path, *, cut: int | None = None, resume: bool = False) -> Trace:
    """Three seeded runs of a tiny pipeline; the one numbered `cut` ends in its second step."""
    pipe, arguments = sd15(steps=3)

    def fail(run, pipe, step, t, given):
        if run == cut and step == 1:
            raise Cut
        return given

    with record(pipe, path=folder, keep="latents", resume=resume, progress=False) as trace:
        for run, spec in enumerate(trace.runs([{"seed": seed} for seed in range(3)], progress=False)):
            arguments["callback_on_step_end"] = functools.partial(fail, run)
            pipe(**arguments | {"generator": generator(spec["seed"])})
    return trace


def test_a_resumed_recording_is_the_whole_one_to_the_last_bit(tmp_path):
    whole = recorded(tmp_path / "whole")
    with pytest.raises(Cut):
        recorded(tmp_path / "cut", cut=1)
    resumed = recorded(tmp_path / "cut", resume=True)
    assert resumed.scalars.equals(whole.scalars) and resumed.samples.equals(whole.samples)
    assert all(torch.equal(resumed.load("x_prev", place), whole.load("x_prev", place)) for place in range(9))


def test_a_resumed_sweep_is_the_whole_one_to_the_last_bit(tmp_path):
    denoiser, rules = load_denoiser("digits")[0], {"CFG": CFG(1.0), "APG": APG(1.0)}

    def swept(folder):
        options = {"sigmas": STEPS, "weights": (2.0, 3.0), "folder": folder, "progress": False}
        return sweep(denoiser, rules, seeds=range(4), condition=torch.arange(4), **options)

    whole = swept(tmp_path / "whole")
    swept(tmp_path / "cut")
    kept = sorted(path for path in (tmp_path / "cut").rglob("*.json"))
    for path in kept[len(kept) // 2 :]:
        path.unlink()
    for one, other in zip(whole, swept(tmp_path / "cut"), strict=True):
        assert torch.equal(one.run.samples, other.run.samples)
        assert one.run.trace.scalars.equals(other.run.trace.scalars)
