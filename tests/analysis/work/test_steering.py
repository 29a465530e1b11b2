"""Steering curves in chunks of seeds: the tables of one call, bit for bit, whoever makes them."""

import sys

import pandas as pd
import pytest
from tests.planted import Planted, scores, unit_direction

from scorescope.analysis import steer_curve
from scorescope.analysis.work import plan_steering, read_steering
from scorescope.analysis.work.steering import _scores
from scorescope.data import InputError
from scorescope.data.threads import threads
from scorescope.probes.models import edm_sigmas, load_model
from scorescope.probes.sampling import Euler, Sampling
from scorescope.probes.work import process_pool, run_work

QUIET = {"progress": False}
TABLES = ("curve", "arms", "verdicts", "samples")


class Labelled(Planted):
    """The planted model as `load_model` takes it."""

    classes = 2


def model():
    return Labelled(idle=13)


def judge():
    return scores


def doubled():
    return lambda images: {name: 2 * values for name, values in scores(images).items()}


def no_judge():
    return 3


def blind_judge():
    def judged(images):
        raise ValueError("dark")

    return judged


@pytest.fixture
def spec(tmp_path):
    unit_direction(0, idle=13).save(tmp_path / "gate.safetensors")
    unit_direction(1, idle=13).save(tmp_path / "decoy.safetensors")
    here = "tests.analysis.work.test_steering"
    return {
        "model": f"{here}:model", "scores": f"{here}:judge", "target": "attribute", "seeds": [5, 23], "size": 4,
        "direction": str(tmp_path / "gate.safetensors"), "shuffled": str(tmp_path / "decoy.safetensors"),
        "strengths": [-1, 2], "intervals": [[0.0, float("inf")], [0.5, 20.0]], "random": 2, "steps": 4, "batch": 60,
        "solver": {"class": "Euler"}, "natural": {"attribute": 2.0, "other": 0.5}, "resamples": 100,
    }  # fmt: skip


def in_one():
    """The same by `steer_curve`: batches of the same seeds, one thread."""
    denoiser = model()
    with threads(1):
        return steer_curve(
            denoiser, unit_direction(0, idle=13), scores, target="attribute", seeds=range(5, 23),
            condition=load_model("tests.analysis.work.test_steering:model").conditions(18), strengths=(-1, 2),
            intervals=((0.0, float("inf")), (0.5, 20.0)), random=2, shuffled=unit_direction(1, idle=13),
            sampling=Sampling(solver=Euler(), sigmas=edm_sigmas(4), batch=68), resamples=100, progress=False,
            natural={"attribute": 2.0, "other": 0.5},
        )  # fmt: skip


def assert_same(found, expected):
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(found, name), getattr(expected, name), check_exact=True)
    assert (found.budget, found.controls) == (expected.budget, expected.controls)


def test_a_curve_in_chunks_is_that_of_one_call(tmp_path, spec):
    plan = plan_steering(spec | {"batch": 68})  # 17 arms: batches of 4 seeds
    assert [len(chunk.seeds) for chunk in plan.chunks] == [4, 4, 4, 4, 2]
    run_work(plan, tmp_path / "here", **QUIET)
    with process_pool(2) as executor:
        run_work(plan_steering(spec | {"batch": 68}), tmp_path / "pool", executor, **QUIET)
    for rank in (1, 0):
        run_work(plan_steering(spec | {"batch": 68}), tmp_path / "ranks", share=(rank, 2), **QUIET)
    expected = in_one()
    assert expected.verdicts["random"].iloc[0] == 2 and len(expected.verdicts) == 2
    for name in ("here", "pool", "ranks"):
        assert_same(read_steering(tmp_path / name), expected)


def test_what_only_judges_needs_no_new_chunks_and_other_seeds_take_the_curve_away(tmp_path, spec):
    run_work(plan_steering(spec), tmp_path, **QUIET)
    first = read_steering(tmp_path)
    again = run_work(plan_steering(spec | {"relevant": 5.0, "budget": 3.0}), tmp_path, **QUIET)
    second = read_steering(tmp_path)
    assert (again.made, again.kept) == (0, 5) and second.budget == 3.0 != first.budget
    assert set(second.verdicts["verdict"]) == {"not steerable"}  # nothing moves by five natural standard deviations
    run_work(plan_steering(spec | {"seeds": [5, 24]}), tmp_path, share=(0, 2), **QUIET)
    with pytest.raises(InputError, match="complete"):
        read_steering(tmp_path)


def test_scores_that_changed_under_their_name_are_other_work(tmp_path, spec, monkeypatch):
    before = plan_steering(spec)
    monkeypatch.setattr(sys.modules[__name__], "judge", doubled)
    after = plan_steering(spec)
    assert not {chunk.name for chunk in before.chunks} & {chunk.name for chunk in after.chunks}
    _scores.cache_clear()  # as in a new process
    failed = run_work(before, tmp_path, **QUIET).failed
    assert len(failed) == 5 and all("scores: found" in error for error in failed.values())
    assert run_work(after, tmp_path, **QUIET).is_complete


def test_a_damaged_table_is_refused(tmp_path, spec):
    run_work(plan_steering(spec), tmp_path, **QUIET)
    (tmp_path / "arms.parquet").write_bytes((tmp_path / "curve.parquet").read_bytes())
    with pytest.raises(InputError, match="does not match its hash"):
        read_steering(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"direction": "nothing.safetensors"}, "nothing.safetensors"),
        ({"scores": "tests.analysis.work.test_steering:no_judge"}, "scores: found a int"),
        ({"seeds": 3}, "seeds"),
        ({"strengths": [0]}, "strengths: found"),
        ({"random": 0, "shuffled": None}, "random, shuffled"),
        ({"strength": [1]}, "steering, strength: found an entry of that name"),
        ({"target": "nope"}, "target: found 'nope'; expected one of attribute, other"),
        ({"target": 3}, "target: found 3"),
        ({"strengths": "12"}, "strengths: found '12'"),
        ({"strengths": [True]}, "strengths: found [True]"),
        ({"intervals": [[1]]}, "intervals: found [[1]]"),
        ({"intervals": [[5, 1]]}, "intervals: found (5.0, 1.0)"),
        ({"branch": "weak"}, "branch: found 'weak'"),
        ({"random": "2"}, "random: found '2'"),
        ({"seed": -1}, "seed: found -1"),
        ({"seed": "a"}, "seed: found 'a'"),
        ({"relevant": "x"}, "relevant: found 'x'"),
        ({"chosen_from": 1.5}, "chosen_from: found 1.5"),
        ({"natural": "x"}, "natural: found 'x'"),
        ({"natural": {"attribute": 1.0}}, "natural: found {'attribute': 1.0}; expected a positive number for each of"),
        ({"natural": {"attribute": -1.0, "other": 1.0}}, "natural: found"),
        ({"budget": -1}, "budget: found -1; expected a positive distance"),
        ({"budget": "x"}, "budget: found 'x'"),
        ({"resamples": 0}, "resamples: found 0"),
        ({"resamples": "100"}, "resamples: found '100'"),
        ({"scores": "tests.analysis.work.test_steering:blind_judge"}, "scores: found a function that failed (dark)"),
        ({"device": 0}, "device: found 0"),
    ],
)
def test_what_is_no_curve_is_refused_before_anything_is_sampled(spec, change, message):
    with pytest.raises(InputError) as error:
        plan_steering(spec | change)
    assert message in str(error.value)
