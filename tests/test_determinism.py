"""The same manifest gives the same tables: with other hash seeds, threads and batch sizes, and after a resumed run."""

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch

from scorescope.analysis import decompose
from scorescope.analysis.gaussian import flipd, memorisation, score_gaps, score_table
from scorescope.analysis.information import paired_classify
from scorescope.analysis.inside import feature_density, sparse_sheet
from scorescope.analysis.steps import consistency_errors, gradient_affinity
from scorescope.analysis.trajectories import effective_noise, site_magnitudes, solver_errors, weighted_losses
from scorescope.data import load_denoiser, load_digits
from scorescope.probes import APG, CFG, Bank, Recording, Trace, collect, record, sample, sweep
from scorescope.probes.approximations import fit_gaussian
from scorescope.probes.features import Moments
from scorescope.probes.sampling import Heun, run_path
from scorescope.probes.sparse import SparseAutoencoder
from scorescope.reports import inside, trajectories
from scorescope.reports.inside import sparse_study
from tests.atlas_material import law, model_of
from tests.pipelines import generator, sd15
from tests.planted_subject import planted_subject

Tables = dict[str, pd.DataFrame]

ROOT = Path(__file__).parents[1]
STEPS = [10.0, 2.0, 0.5, 0.1, 0.0]


def tables(batch: int = 64, seeds: int = 64) -> Tables:
    """Tables of a sampled run of the shipped digits: scalars, decomposition, moments of what it drew."""
    denoiser = load_denoiser("digits")[0]
    run = sample(
        denoiser, seeds=range(seeds), condition=torch.arange(seeds) % 10, rule=APG(3.0, eta=0.5), sigmas=STEPS,
        batch=batch, record=Recording(), progress=False,
    )  # fmt: skip
    drawn = Moments.of(run.samples.flatten(1).numpy())
    numbers = {"mean": drawn.mean.mean(), "trace": np.trace(drawn.covariance)}
    return {"scalars": run.trace.scalars, "decomposed": decompose(run.trace), "moments": pd.DataFrame([numbers])}


def instruments(folder: Path, batch: int = 64) -> Tables:
    """Tables of instruments that look at a shipped network, which is given so many rows at once."""
    denoiser, digits, sigmas, site = load_denoiser("digits_weak")[0], load_digits(), STEPS[:-1], "network.middle1"
    images, labels = digits.held_out.images[:12], digits.held_out.labels[:12]
    start = STEPS[0] * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    path, bank = run_path(denoiser, start, STEPS, condition=labels), Bank(images, [2.0, 0.5])
    how = {"condition": labels, "batch": batch}
    errors = solver_errors(denoiser, start, STEPS, Heun(), **how)
    names = {"3": torch.full((12,), 3), "8": torch.full((12,), 8)}
    stored = collect(denoiser, bank, {site: "whole"}, path=folder / str(batch), **how)
    codec = SparseAutoencoder(stored.width(site), 2 * stored.width(site), 4)
    gaps = score_gaps(denoiser, [fit_gaussian(digits.train.images.double())], images, sigmas, **how)
    losses = weighted_losses(
        {"weak": denoiser}, {"set": images}, sigmas, sigma_data=0.5, conditions={"set": labels}, batch=batch
    )
    return {
        "errors": pd.DataFrame({name: getattr(errors, name).ravel() for name in ("local", "at_end", "share")}),
        "noise": effective_noise(denoiser, path, **how), "losses": losses,
        "magnitudes": site_magnitudes(denoiser, [site], images, sigmas, **how),
        "consistency": consistency_errors(denoiser, path, **how),
        "affinity": gradient_affinity(denoiser, images, sigmas, groups=4, progress=False, **how),
        "classes": paired_classify(denoiser, bank, names, [0, 1] * 6, error=None, batch=batch).predictions,
        "dimension": flipd(denoiser, {"a": images}, [1.0], probes=2, batch=batch),
        "memory": memorisation(denoiser, {"a": images, "b": images[:5]}, [1.0], probes=2, batch=batch),
        "gaps": score_table(gaps), "density": feature_density(codec, stored, site),
        "sheet": sparse_sheet(codec, stored, site, denoiser=denoiser, bank=bank, **how),
    }  # fmt: skip


def apart(one: Tables, other: Tables) -> float:
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


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    return instruments(tmp_path_factory.mktemp("measured"))


@pytest.mark.parametrize("batch", [1, 7])
def test_instruments_on_batches_of_another_size_differ_by_rounding(batch, measured, tmp_path):
    """Measured: 8e-6 of the largest of a column at most, of the noise of states, whose level is a fixed point."""
    assert apart(measured, instruments(tmp_path, batch)) < BATCHES


def test_the_same_again_is_the_same_to_the_last_bit():
    assert apart(tables(), tables()) == 0


def with_threads(count: int, make: Callable[[], Tables]) -> Tables:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count)
        return make()
    finally:
        torch.set_num_threads(before)


def test_two_threads_differ_by_rounding_at_most():
    assert apart(*(with_threads(count, tables) for count in (1, 2))) < BATCHES


@pytest.mark.slow
def test_instruments_with_two_threads_differ_by_rounding_at_most(measured, tmp_path):
    assert apart(measured, with_threads(2, lambda: instruments(tmp_path))) < BATCHES


def newer_reports(folder: Path) -> Tables:
    """Tables of the reports on trajectories and on the inside, small, of models with known laws."""
    small = {"STEPS": 100, "SHEET_IMAGES": 20, "FEATURES": 1, "BATCH": 256, "JUDGED": range(5000, 5010)}
    how = {"command": "test", "quick": True, "progress": False}
    paths = trajectories.build(folder / "trajectories", model_of(law(0.1, spread=1.0)), count=8, **how)
    with mock.patch.multiple(sparse_study, **small):
        features = inside.build(folder / "inside", planted_subject(240), sites=["means"], count=240, **how)
    assert paths.status == features.status == "complete"
    return {**paths.tables, **{f"inside {name}": table for name, table in features.tables.items()}}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_newer_reports_are_the_same_with_two_threads_and_when_they_go_on(tmp_path):
    """A folder that holds the autoencoders of a report goes on from them; networks this small use one thread."""
    first = with_threads(1, lambda: newer_reports(tmp_path))
    assert apart(first, with_threads(2, lambda: newer_reports(tmp_path / "other"))) < BATCHES
    assert apart(first, newer_reports(tmp_path)) == 0


PROGRAMS = {
    "run": "tables(seeds=8)", "instruments": "instruments(Path(sys.argv[1]))",
    "reports": "newer_reports(Path(sys.argv[1]))",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("what", PROGRAMS)
def test_other_hash_seeds_give_the_same_bits(what, tmp_path):
    program = (
        "import sys; from pathlib import Path; from tests.test_determinism import *\n"
        f"for table in {PROGRAMS[what]}.values(): print(table.to_csv(float_format='%.17g'))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program, str(tmp_path / seed)], check=True, capture_output=True,
            text=True, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
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
