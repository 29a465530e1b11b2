"""Activations and comparisons on a bank in chunks: the bytes and numbers of one call, whoever makes them."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch

from scorescope.data import InputError, load_digits
from scorescope.data.threads import threads
from scorescope.probes import CFG, load_model
from scorescope.probes.activations import Positions, StoredActivations, collect, store_samples
from scorescope.probes.bank import Arm, Bank, Comparison, compare_arms, log_snr_grid
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import Euler
from scorescope.probes.work import execute, plan_work, process_pool, run_work
from scorescope.reports.cli.verify import look_at
from tests.probes.work.jobs import few_digits

QUIET = {"progress": False}


@pytest.fixture(scope="module")
def pool():
    with process_pool(2) as executor:
        yield executor


# activations

SAMPLED = {
    "kind": "activations", "model": "digits", "seeds": [3, 14], "sites": {"network.middle1": "mean", "x": {"count": 4}},
    "steps": 3, "solver": {"class": "Euler"}, "shard": "1600 B", "rule": {"class": "CFG", "weight": 2.0},
}  # fmt: skip
NOISED = {
    "kind": "activations", "model": "digits", "images": "tests.probes.work.jobs:few_digits", "sigmas": [4.0, 0.5],
    "draws": 2, "noise_seed": 1, "sites": ["network.middle1"], "batch": 4, "shard": "1600 B",
}  # fmt: skip


def stored_in_one(spec, folder):
    """The same by the calls that store activations, with one thread."""
    denoiser, positions = load_model("digits").denoiser, {"network.middle1": "mean", "x": Positions(4)}
    with threads(1):
        if spec is NOISED:
            images, labels = few_digits()
            return collect(
                denoiser, Bank(images, [4.0, 0.5], draws=2, seed=1), ["network.middle1"], condition=labels, batch=4,
                shard="1600 B", path=folder,
            )  # fmt: skip
        return store_samples(
            denoiser, positions, seeds=range(3, 14), condition=torch.arange(11) % 10, sigmas=edm_sigmas(3),
            solver=Euler(), rule=CFG(2.0), shard="1600 B", path=folder,
        )  # fmt: skip


def shards_of(folder):
    return {path.name: path.read_bytes() for path in (folder / "shards").iterdir()}


@pytest.mark.parametrize("spec", [SAMPLED, NOISED], ids=["sampled", "bank"])
def test_activations_in_chunks_are_the_shards_of_one_call(tmp_path, pool, spec):
    whole = stored_in_one(spec, tmp_path / "one")
    expected, plan = shards_of(whole.path), plan_work(spec)
    assert len(plan.chunks) == len(expected) > 3
    run_work(plan, tmp_path / "here", **QUIET)
    run_work(plan_work(spec | {"size": 2}), tmp_path / "pool", pool, **QUIET)
    for rank in (1, 0):
        done = run_work(plan_work(spec), tmp_path / "ranks", share=(rank, 2), **QUIET)
        assert done.is_complete == (rank == 0) == (tmp_path / "ranks/activations").exists()
    for name in ("here", "pool", "ranks"):
        found = StoredActivations(tmp_path / name / "activations")
        assert shards_of(found.path) == expected and found.is_complete and found.verify() == []
        pd.testing.assert_frame_equal(found.index, whole.index, check_exact=True)
        assert torch.equal(found.at("network.middle1", 1), whole.at("network.middle1", 1))
    assert plan.join(tmp_path / "here") == [tmp_path / "here/activations"]  # again: the same
    assert shards_of(tmp_path / "here/activations") == expected


def test_two_joins_of_one_folder_at_once_both_end(tmp_path):
    plan = plan_work(NOISED | {"shard": "400 B"})
    execute(plan.chunks, tmp_path, **QUIET)
    with ThreadPoolExecutor(4) as threads_of_joins:
        found = list(threads_of_joins.map(plan.join, [tmp_path] * 4))
    assert found == [[tmp_path / "activations"]] * 4
    assert StoredActivations(tmp_path / "activations").verify() == []


def test_other_activations_in_the_folder_are_refused_before_the_first_chunk(tmp_path):
    run_work(plan_work(NOISED), tmp_path, **QUIET)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="to be continued"):
        run_work(plan_work(NOISED | {"noise_seed": 2}), tmp_path, **QUIET)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": None}, "seeds: found None"),
        ({"log_snr": [-1, 1, 3]}, "activations, log_snr: found an entry of a bank beside seeds"),
        ({"sites": ["network.nothing"]}, "nothing"),
        ({"branch": "weak"}, "branch, call: found 'weak', 0"),
    ],
)
def test_what_is_no_work_on_activations_is_refused(change, message):
    with pytest.raises(InputError) as error:
        plan_work(SAMPLED | change)
    assert message in str(error.value)


# a bank

COMPARED = {
    "kind": "bank", "model": {"strong": "digits", "weak": "digits_weak"}, "images": "tests.probes.work.jobs:few_digits",
    "log_snr": [-3, 3, 3], "draws": 2, "noise_seed": 4, "size": 4, "batch": 12, "map_weights": [1.0, 2.0, 0.5],
    "arms": {"uncond": {}, "true": {"condition": "rows"}, "three": {"model": "weak", "condition": 3}},
    "pairs": [["true", "uncond"], ["three", "true"]],
}  # fmt: skip


def compared_in_one():
    """The same by `compare_arms`, with the batches of the chunks and their one thread."""
    strong, weak, (images, labels) = load_model("digits").denoiser, load_model("digits_weak").denoiser, few_digits()
    arms = [Arm("uncond", strong), Arm("true", strong, labels), Arm("three", weak, torch.tensor([3]))]
    with threads(1):
        return compare_arms(
            Bank(images, log_snr_grid(-3, 3, 3), draws=2, seed=4), arms, batch=12, map_weights=[1.0, 2.0, 0.5],
            pairs=[("true", "uncond"), ("three", "true")],
        )  # fmt: skip


def assert_same_comparison(found, expected):
    for field in dataclasses.fields(expected):
        one, other = (getattr(each, field.name) for each in (found, expected))
        assert np.array_equal(one, other) if hasattr(other, "shape") else one == other, field.name


def test_a_bank_in_chunks_is_one_comparison(tmp_path, pool):
    expected = compared_in_one()
    run_work(plan_work(COMPARED), tmp_path / "here", **QUIET)
    run_work(plan_work(COMPARED), tmp_path / "pool", pool, **QUIET)
    for rank in (1, 0):
        run_work(plan_work(COMPARED), tmp_path / "ranks", share=(rank, 2), **QUIET)
    for name in ("here", "pool", "ranks"):
        assert_same_comparison(Comparison.load(tmp_path / name / "comparison.safetensors"), expected)
    assert look_at(tmp_path / "here/comparison.safetensors")[0].words == "comparison, sound"


def test_a_bank_without_arms_has_the_usual_ones(tmp_path):
    spec = {"kind": "bank", "model": "digits", "log_snr": [-1, 1, 2], "size": 200}
    plan = plan_work(spec)
    assert len(plan.chunks) == 2 and plan.chunks[-1].seeds.stop == len(load_digits().held_out.images)
    assert list(plan.chunks[0].spec["arms"]) == ["uncond", "cond"]
    assert not run_work(plan, tmp_path, share=(1, 2), **QUIET).is_complete and plan.join(tmp_path) == []


def test_a_damaged_chunk_of_another_rank_is_named_and_leaves_no_result_of_other_work(tmp_path):
    spec = {
        "kind": "bank", "model": "digits", "images": "tests.probes.work.jobs:few_digits", "sigmas": [1.0], "size": 5,
    }  # fmt: skip
    plan = plan_work(spec)
    run_work(plan, tmp_path, **QUIET)
    run_work(plan_work(spec | {"sigmas": [5.0]}), tmp_path, **QUIET)
    (tmp_path / "chunks" / plan.chunks[1].name / "comparison.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match=f"chunks: found {plan.chunks[1].name}"):
        run_work(plan, tmp_path, share=(0, 2), **QUIET)
    assert not (tmp_path / "comparison.safetensors").exists()
    run_work(plan, tmp_path, share=(1, 2), **QUIET)
    assert Comparison.load(tmp_path / "comparison.safetensors").sigmas.tolist() == [1.0]


def test_parts_of_other_comparisons_are_not_joined(tmp_path):
    found = compared_in_one()
    with pytest.raises(InputError, match="parts: found arms"):
        Comparison.join([found, dataclasses.replace(found, draws=3)])
    path = found.save(tmp_path / "a.safetensors")
    assert_same_comparison(Comparison.load(path), found)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(InputError, match="hash"):
        Comparison.load(path)
    assert not look_at(path)[0].is_sound


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": {"a": {"condition": "rowz"}}}, "arms.a.condition: found 'rowz'"),
        ({"arms": {"a": {"model": "other"}}}, "arms.a.model: found 'other'; expected one of strong, weak"),
        ({"sigmas": [1.0]}, "log_snr, sigmas: found both"),
        ({"log_snr": [1, 2]}, "log_snr: found [1, 2]"),
        ({"images": "tests.probes.work.jobs:numbers"}, "images: found"),
        ({"noise_seed": -1}, "noise_seed: found -1"),
        (
            {"log_snr": [-1, 1, 2.9]},
            "log_snr: found [-1, 1, 2.9] (list); expected a tuple",
        ),
        ({"log_snr": "123"}, "log_snr: found '123'"),
        ({"map_weights": [1.0]}, "map_weights: found 1 weights; expected 3"),
        ({"map_weights": "111"}, "map_weights: found '111'"),
        ({"pairs": [["true", "uncond", "three"]]}, "pairs: found [['true', 'uncond', 'three']]"),
        ({"pairs": [["true", "two"]]}, "pairs: found arms ['two']"),
        ({"arms": {"a": {"condition": 10}}}, "arms.a.condition: found [10]; expected a class from 0 to 9"),
        ({"arms": [1]}, "arms: found [1]"),
        ({"model": {"a": "digits", "b": "shapes"}}, "model: found shape (3, 32, 32) of 'b'; expected models of one"),
        ({"model": ["digits"]}, "model: found ['digits']"),
        ({"device": 0}, "device: found 0"),
    ],
)
def test_what_is_no_work_on_a_bank_is_refused(change, message):
    with pytest.raises(InputError) as error:
        plan_work(COMPARED | change)
    assert message in str(error.value)


@pytest.mark.parametrize("sigmas", ["321", [True], ["1"], [], [1.0, -1.0], [float("nan")], 3, [10**30]])
def test_noise_levels_of_a_bank_are_numbers(sigmas):
    spec = {name: value for name, value in COMPARED.items() if name not in ("log_snr", "map_weights")}
    with pytest.raises(InputError, match=r"(spec, kind bank, )?sigmas"):
        plan_work(spec | {"sigmas": sigmas})
    told = plan_work(spec | {"sigmas": [3, 2.5]}).chunks[0].spec["points"]["sigmas"]
    assert told == [3.0, 2.5]


@pytest.mark.parametrize(
    ("condition", "fits"), [([3, 4, 1, 1, 2, 0], True), ([0, 0, 0, 0, 0, 3], False), ([0], False), (3, False)]
)
def test_attribute_values_are_those_of_the_model(condition, fits):
    spec = {
        "kind": "bank", "model": "shapes", "images": "tests.probes.work.jobs:few_pictures", "sigmas": [1.0],
        "arms": {"a": {"condition": condition}},
    }  # fmt: skip
    if fits:
        assert plan_work(spec).chunks
    else:
        with pytest.raises(InputError, match=r"arms.a.condition: found .*; expected at most"):
            plan_work(spec)


# kinds of one's own


def test_a_kind_may_be_a_function(tmp_path):
    found = plan_work({"kind": "tests.probes.work.jobs:plan_numbers", "stream": 3})
    assert [chunk.spec for chunk in found.chunks] == [{"stream": 3}] * 2
    with pytest.raises(InputError, match="which gives a tuple; expected one that gives a Plan"):
        plan_work({"kind": "tests.probes.work.jobs:few_digits"})
