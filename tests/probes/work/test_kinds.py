"""The kinds of work: the same tables, bit for bit, as in one process without chunks, whoever makes them."""

import functools
import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from scorescope.data import InputError, load_digits
from scorescope.data.threads import threads
from scorescope.probes import APG, CFG, Recording, Trace, load_model, open_images, sweep
from scorescope.probes.experiments import plan_calls, read_sweep, record_calls, sweep_models
from scorescope.probes.features import pixel_extractor, read_moments, stream_moments
from scorescope.probes.guidance import PAG, CosineWeight, FrequencyDecoupled, Interval, Scheduled
from scorescope.probes.models import edm_sigmas, load_pipeline
from scorescope.probes.sampling import DPMSolverPP2M, Euler, Heun, sample
from scorescope.probes.work import execute, plan_work, process_pool, read_spec, run_work
from scorescope.probes.work.made_of import RULES, SOLVERS, made_of, plain_of
from scorescope.probes.work.named_models import worker_model
from tests.saved_pipelines import saved

QUIET = {"progress": False}
SWEEP = {
    "kind": "sweep", "model": "digits", "seeds": [10, 21], "size": 4, "steps": 3, "weights": [1, 3.0],
    "rules": {"CFG": {"class": "CFG", "weight": 1}, "APG": {"class": "APG", "weight": 1.0, "norm": 2}},
    "record": {"all_branches": True, "value_range": [-1, 1]}, "solver": {"class": "Euler"},
}  # fmt: skip


@pytest.fixture(scope="module")
def pool():
    with process_pool(2) as executor:
        yield executor


def in_one(folder=None, model="digits"):
    """The same by `sweep`, with the batch of the chunks and their one thread."""
    loaded = load_model(model)
    with threads(1):
        return sweep(
            loaded.denoiser, {"CFG": CFG(1.0), "APG": APG(1.0, norm=2.0)}, weights=(1.0, 3.0), seeds=range(10, 21),
            condition=loaded.conditions(11), record=Recording(all_branches=True, value_range=(-1, 1)), batch=4,
            sigmas=edm_sigmas(3), solver=Euler(), folder=folder, progress=False,
        )  # fmt: skip


def assert_same(found, expected):
    """Runs by name, equal but for the seconds that they took."""
    assert set(found) == set(expected)
    for name, run in expected.items():
        assert torch.equal(found[name].samples, run.samples)
        for table in ("scalars", "samples"):
            pd.testing.assert_frame_equal(
                getattr(found[name].trace, table), getattr(run.trace, table), check_exact=True
            )
        both = [json.loads(json.dumps({**one.trace.manifest, "seconds": 0}, default=str)) for one in (found[name], run)]
        assert both[0] == both[1]


# sweeps


def test_a_sweep_in_chunks_is_the_folder_that_sweep_writes(tmp_path, monkeypatch):
    plan = plan_work(SWEEP)
    assert len(plan.chunks) == 4 * 3
    done = run_work(plan, tmp_path, **QUIET)
    assert done.is_complete and plan.join(tmp_path) == [tmp_path] * 4
    expected = {setting.name: setting.run for setting in in_one()}
    assert_same(read_sweep(tmp_path), expected)

    @functools.wraps(sample)
    def again(*_, **__):
        raise AssertionError("sampled again")

    monkeypatch.setattr(sys.modules["scorescope.probes.experiments.sweep"], "sample", again)
    assert [setting.name for setting in in_one(tmp_path)] == list(expected)  # it finds its settings finished


def test_the_same_bits_in_two_processes_and_by_two_ranks(tmp_path, pool):
    run_work(plan_work(SWEEP), tmp_path / "pool", pool, **QUIET)
    for rank in (1, 0):
        run_work(plan_work(SWEEP), tmp_path / "ranks", share=(rank, 2), **QUIET)
    run_work(plan_work(SWEEP), tmp_path / "here", **QUIET)
    expected = read_sweep(tmp_path / "here")
    for name in ("pool", "ranks"):
        found = read_sweep(tmp_path / name)
        assert_same(found, expected)


def test_several_models_have_folders_as_of_sweep_models(tmp_path):
    few = SWEEP | {"model": {"strong": "digits", "weak": "digits_weak"}, "seeds": 3, "weights": [2.0]}
    run_work(plan_work(few), tmp_path / "work", **QUIET)
    models = {"strong": load_model("digits").denoiser, "weak": load_model("digits_weak").denoiser}
    sweep_models(
        models, {"CFG": CFG(2.0)}, seeds=range(3), condition=torch.arange(3), sigmas=[1.0, 0.0], progress=False,
        folder=tmp_path / "plain",
    )  # fmt: skip
    folders = {path.name for path in (tmp_path / "plain").iterdir()}
    assert folders == {path.name for path in (tmp_path / "work").iterdir()} - {"chunks", "status.json"}
    assert all(set(read_sweep(tmp_path / "work" / name)) == {"CFG, w = 2", "APG, w = 2"} for name in folders)


def test_finished_settings_of_a_half_finished_sweep_are_there(tmp_path):
    plan = plan_work(SWEEP)
    execute(plan.chunks[:4], tmp_path, **QUIET)
    assert plan.join(tmp_path) == [tmp_path] and set(read_sweep(tmp_path)) == {"CFG, w = 1"}


@pytest.mark.parametrize("share", [(0, 1), (0, 2)], ids=["finished", "half"])
def test_another_sweep_in_the_folder_is_refused_before_its_first_chunk(tmp_path, share):
    run_work(plan_work(SWEEP), tmp_path, share=share, **QUIET)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="another sweep in"):
        run_work(plan_work(SWEEP | {"steps": 4, "rules": {"third": {"class": "CFG", "weight": 1}}}), tmp_path, **QUIET)
    assert sorted(tmp_path.rglob("*")) == before


def test_work_in_the_folder_of_a_plain_sweep(tmp_path):
    in_one(tmp_path)
    with pytest.raises(InputError, match="another sweep in"):  # its settings have no chunks to be made from again
        run_work(plan_work(SWEEP | {"seeds": 3}), tmp_path, **QUIET)
    assert len(read_sweep(tmp_path)) == 4
    assert run_work(plan_work(SWEEP), tmp_path, **QUIET).is_complete


def test_more_rules_and_more_seeds_go_on_in_a_folder_and_never_mix(tmp_path):
    few = SWEEP | {"seeds": 3, "weights": [2.0]}
    only = few | {"rules": {"CFG": {"class": "CFG", "weight": 1}}}
    run_work(plan_work(only), tmp_path, **QUIET)
    assert run_work(plan_work(few), tmp_path, **QUIET).kept == 1
    assert set(read_sweep(tmp_path)) == {"CFG, w = 2", "APG, w = 2"}
    run_work(plan_work(only | {"seeds": 5}), tmp_path, **QUIET)
    assert {name: len(run.samples) for name, run in read_sweep(tmp_path).items()} == {"CFG, w = 2": 5}
    assert run_work(plan_work(few), tmp_path, **QUIET).made == 0  # chunks stay
    assert {name: len(run.samples) for name, run in read_sweep(tmp_path).items()} == {"CFG, w = 2": 3, "APG, w = 2": 3}


def test_a_model_that_changed_under_its_name_has_other_chunks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_net.py").write_text(
        "class Net:\n    shape, classes, shift = (1, 2, 2), 2, 0.1\n"
        "    def __call__(self, x, sigma, condition):\n        return x / (1 + sigma[:, None, None, None] ** 2)\n"
        "def make():\n    return Net()\n"
    )
    spec = SWEEP | {"model": "own_net:make", "weights": [2.0]}
    before = plan_work(spec)
    assert run_work(before, "out", **QUIET).is_complete
    import own_net

    monkeypatch.setattr(own_net.Net, "shift", 0.2)
    after = plan_work(spec)
    assert not {chunk.name for chunk in before.chunks} & {chunk.name for chunk in after.chunks}
    told = [plan.chunks[0].spec["model"] for plan in (before, after)]
    assert worker_model(told[1], "cpu").denoiser.shift == 0.2
    with pytest.raises(InputError, match="model: found own_net:make that gives another model"):
        worker_model(told[0], "cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "else"}, "kind: found 'else'; expected one of sweep, moments, recording, activations, bank, or"),
        ({"modle": "digits"}, "sweep, modle: found an entry of that name"),
        ({"seeds": [5, 5]}, "seeds: found"),
        ({"seeds": True}, "seeds: found"),
        ({"size": 0}, "size: found 0"),
        ({"rules": {"a": {"class": "CGF"}}}, "rules.a: found 'CGF'; expected one of APG"),
        ({"rules": {"a": {"class": "CFG", "wieght": 3}}}, "rules.a: found"),
        ({"rules": {"a": {"class": "APG", "weight": 3, "norm": -1}}}, "rules.a.norm: found -1"),
        ({"rules": {"a": 3}}, "rules.a: found 3"),
        ({"record": {"kepe": True}}, "record: found"),
        ({"model": "nothing"}, "denoiser: found 'nothing'"),
        ({"model": []}, "model, rules: found"),
        ({"sigmas": [1.0, 2.0]}, "sigmas: found"),
        ({"sigmas": "x"}, "sigmas: found 'x'"),
        ({"steps": "x"}, "steps: found 'x'"),
        ({"record": 3}, "spec, kind sweep: found an entry of another type ('int' object has no attribute 'items')"),
    ],
)
def test_what_is_no_sweep_is_refused_before_anything_runs(change, message):
    with pytest.raises(InputError) as error:
        plan_work(SWEEP | change)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "rule",
    [
        CFG(3.0), Interval(APG(4.0, norm=2.5, eta=0.5), low=0.3, high=5.0), FrequencyDecoupled((1.0, 4.0)),
        Scheduled(CFG(4.0), CosineWeight(4.0, 1.0)), PAG(3.0), Heun(churn=10.0), DPMSolverPP2M(),
    ],
    ids=lambda rule: type(rule).__name__,
)  # fmt: skip
def test_rules_and_solvers_are_plain_data_and_back(rule):
    home = SOLVERS if isinstance(rule, Heun | DPMSolverPP2M) else RULES
    assert made_of(json.loads(json.dumps(plain_of(rule, "rule"))), home, "rule") == rule


# moments


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number, image in enumerate(load_digits().held_out.images[:41]):
        pixels = ((image[0].numpy() + 1) * 127.5).round().astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    return folder


def test_moments_in_chunks(images, tmp_path, pool):
    spec = {"kind": "moments", "images": str(images), "features": "pixels", "size": 10, "batch": 4}
    plan = plan_work(spec)
    assert [len(chunk.seeds) for chunk in plan.chunks] == [10, 10, 10, 11]  # one image has no covariance
    run_work(plan, tmp_path / "pool", pool, **QUIET)
    run_work(plan, tmp_path / "here", **QUIET)
    here, there = (read_moments(tmp_path / name / "moments.npz") for name in ("here", "pool"))
    whole = stream_moments(open_images(images), pixel_extractor(8), progress=False)
    assert here.n == there.n == whole.n == 41
    for name in ("mean", "covariance"):
        assert np.array_equal(getattr(here, name), getattr(there, name))
        largest = np.abs(getattr(whole, name)).max()
        # four merges of float64, each rounding a few times
        np.testing.assert_allclose(getattr(here, name), getattr(whole, name), rtol=0, atol=1e-14 * largest)


def test_images_that_changed_are_other_work(images, tmp_path):
    copied = tmp_path / "images"
    copied.mkdir()
    for path in images.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    spec = {"kind": "moments", "images": str(copied), "features": "pixels", "size": 30}
    before = plan_work(spec)
    (copied / "000.png").write_bytes((copied / "001.png").read_bytes())
    done = run_work(before, tmp_path / "out", **QUIET)
    assert len(done.failed) == 2 and all("changed since" in error for error in done.failed.values())
    assert not (tmp_path / "out/moments.npz").exists()
    assert {one.name for one in plan_work(spec).chunks} & {one.name for one in before.chunks} == set()


def test_moments_of_other_images_go_when_work_on_new_ones_begins(images, tmp_path):
    copied = tmp_path / "images"
    copied.mkdir()
    for path in images.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    spec = {"kind": "moments", "images": str(copied), "features": "pixels", "size": 15}
    before = plan_work(spec)
    run_work(before, tmp_path / "out", **QUIET)
    run_work(before, tmp_path / "out", share=(0, 2), **QUIET)  # a rank that comes late takes nothing away
    old = read_moments(tmp_path / "out/moments.npz")
    for path in copied.iterdir():
        path.write_bytes((images / "000.png").read_bytes())
    after = plan_work(spec)
    assert not run_work(after, tmp_path / "out", share=(0, 2), **QUIET).is_complete
    assert not (tmp_path / "out/moments.npz").exists()
    run_work(after, tmp_path / "out", share=(1, 2), **QUIET)
    new = read_moments(tmp_path / "out/moments.npz")
    # 41 equal images: nothing varies, to the rounding of float64
    assert np.abs(old.covariance).max() > 1e-3 and np.abs(new.covariance).max() < 1e-12


@pytest.mark.parametrize(
    ("change", "message"),
    [({"features": "none"}, "features: found 'none'"), ({"images": 3}, "moments, images: found 3")],
)
def test_what_is_no_work_on_images_is_refused(images, tmp_path, change, message):
    spec = {"kind": "moments", "images": str(images), "features": "pixels"} | change
    with pytest.raises(InputError, match=message):
        done = run_work(plan_work(spec), tmp_path, **QUIET)
        raise InputError("chunk", found=str(done.failed), expected=f"{next(iter(done.failed.values()))}")


# recordings


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_recordings_in_chunks_are_the_runs_of_one_recording(tmp_path):
    folder = saved("sd15", tmp_path)[0]
    (tmp_path / "prompts.txt").write_text("a\nb\nc\n")
    shared = {"height": 16, "width": 16, "guidance_scale": 5.0, "num_inference_steps": 2}
    spec = {
        "kind": "recording", "pipeline": str(folder), "prompts": str(tmp_path / "prompts.txt"), "size": 2,
        "arguments": shared,
    }  # fmt: skip
    plan = plan_work(spec)
    done = run_work(plan, tmp_path / "work", **QUIET)
    assert done.is_complete and done.count == 2
    found = [Trace.open(path) for path in plan.join(tmp_path / "work")]
    assert [list(trace.samples["seed"]) for trace in found] == [[0, 1], [2]]
    pipe = load_pipeline(folder)
    rows = [{"prompt": one} for one in "abc"]
    with threads(1):
        whole = record_calls(pipe, plan_calls(pipe, rows), folder=tmp_path / "whole", arguments=shared, progress=False)
    own = ["run", "sample"]  # counted from 0 in each trace
    together = pd.concat([trace.scalars for trace in found], ignore_index=True)
    assert together["update_sq"].notna().all()
    pd.testing.assert_frame_equal(
        together.drop(columns=own), whole.trace.scalars.drop(columns=own).reset_index(drop=True), check_exact=True
    )


# files


def test_specs_are_read_from_toml_and_json(tmp_path):
    (tmp_path / "a.toml").write_text('kind = "sweep"\n[rules]\nCFG = { class = "CFG", weight = 1 }\n')
    (tmp_path / "a.json").write_text('{"kind": "sweep", "rules": {"CFG": {"class": "CFG", "weight": 1}}}')
    assert read_spec(tmp_path / "a.toml") == read_spec(tmp_path / "a.json")
    (tmp_path / "b.toml").write_text("kind = \n")
    with pytest.raises(InputError, match="no TOML"):
        read_spec(tmp_path / "b.toml")
