"""Traces on disk: what was flushed can be read, what is damaged is never taken for data."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from scorescope.data.errors import InputError
from scorescope.probes import Trace, record
from scorescope.probes.recording import TraceError, reading, store
from scorescope.probes.recording.estimate import in_words
from scorescope.probes.recording.reading import verify
from scorescope.probes.recording.resuming import reopen
from tests.pipelines import ODD, PIPELINES, generator, sd15, wan

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

NAMES = ("x", "cond", "uncond", "guided", "x_prev")


def recorded(path: Path | None, **options: Any) -> Trace:
    """A short guided run."""
    pipe, arguments = sd15(steps=4)
    with record(pipe, path=path, **{"keep": "all"} | options) as trace:
        pipe(**arguments)
    return trace


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("trace") / "a"
    recorded(path)
    return path


@pytest.fixture(scope="module")
def memory() -> Trace:
    return recorded(None)


def test_a_trace_on_disk_equals_one_in_memory(folder: Path, memory: Trace) -> None:
    trace = Trace.open(folder)
    assert trace.status == "complete"
    assert trace.problems == []
    pd.testing.assert_frame_equal(trace.scalars, memory.scalars)
    pd.testing.assert_frame_equal(trace.proof, memory.proof)
    pd.testing.assert_frame_equal(trace.samples, memory.samples)
    for place in range(4):
        for name in NAMES:
            assert torch.equal(trace.load(name, place), memory.load(name, place))


def test_the_folder_is_what_the_manual_says(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "scalars.parquet", "shards", "steps.jsonl"]
    assert len(list((folder / "shards").glob("*.safetensors"))) == 4
    assert not list(folder.rglob("*.partial"))
    assert json.loads((folder / "manifest.json").read_text())["pipeline"] == "StableDiffusionPipeline"
    assert list(verify(folder)) == []
    line = json.loads((folder / "steps.jsonl").read_text().splitlines()[1])["record"]
    assert (line["step"], line["rule"], line["shard"]) == (1, ["cfg"], "00000001.safetensors")
    assert line["weight"][0] == pytest.approx(5.0, rel=1e-5) and line["residual"][0] < 1e-6


def test_half_precision_is_stored_as_it_is(tmp_path: Path) -> None:
    pipe, arguments = sd15(steps=2)
    pipe.to(torch.bfloat16)
    arguments |= {k: v.bfloat16() for k, v in arguments.items() if isinstance(v, Tensor)}
    with record(pipe, path=tmp_path / "a", keep="all") as trace:
        pipe(**arguments)
    assert Trace.open(tmp_path / "a").load("cond", 0).dtype == torch.bfloat16
    data = trace.to_xarray()
    assert data["cond"].dtype == np.float32
    assert data["cond"].attrs["dtype_recorded"] == "bfloat16"


def test_arrays_are_read_when_they_are_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = Trace.open(folder)
    reads: list[str] = []
    inner = reading.ShardReader.load

    def load(self: Any, event: Any, name: str) -> Tensor:
        reads.append(name)
        return inner(self, event, name)

    monkeypatch.setattr(reading.ShardReader, "load", load)
    data = trace.to_xarray()
    assert dict(data.sizes) == {"step": 4, "sample": 1, "channel": 4, "y": 8, "x": 8}
    reads.clear()
    part = data["x"].isel(step=2, channel=1)
    assert reads == []
    np.testing.assert_array_equal(part.values, trace.load("x", 2)[:, 1].numpy())
    assert reads.count("x") == 2  # one for each side of the comparison


def test_a_dataset_has_the_noise_level_as_a_coordinate(folder: Path) -> None:
    data = Trace.open(folder).to_xarray()
    np.testing.assert_array_equal(data["sigma"], Trace.open(folder).scalars["sigma"])
    chosen = data["guided"].where(data["sigma"] > 1, drop=True)
    assert chosen.sizes["step"] == 2
    np.testing.assert_array_equal(data["cond"].isel(step=slice(1, 3)).values.shape, (2, 1, 4, 8, 8))


def test_video_keeps_its_layout(tmp_path: Path) -> None:
    pipe, arguments = wan()
    with record(pipe, path=tmp_path / "a", keep="all") as trace:
        pipe(**arguments)
    assert trace.to_xarray()["cond"].dims == ("step", "sample", "channel", "frame", "y", "x")


def test_export_to_zarr(folder: Path, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    trace = Trace.open(folder)
    trace.to_zarr(tmp_path / "z")
    group = zarr.open_group(tmp_path / "z", mode="r")
    np.testing.assert_array_equal(group["cond"][1], trace.load("cond", 1).numpy())
    lazy = trace.to_xarray()
    for name in ("x", "cond", "sigma"):
        np.testing.assert_array_equal(group[name][:], lazy[name].values)


@pytest.mark.parametrize("where", ["disk", "memory"])
@pytest.mark.parametrize("every", [2, (0.9, 10.0)])
def test_arrays_may_be_kept_in_some_steps(every: Any, where: str, tmp_path: Path) -> None:
    trace = recorded(tmp_path / "a" if where == "disk" else None, every=every)
    kept = [place for place, event in enumerate(trace.arrays.events) if event["arrays"]]
    sigma = trace.scalars["sigma"]
    assert kept == ([0, 2] if every == 2 else [p for p in range(4) if 0.9 <= sigma[p] <= 10.0])
    assert len(trace.scalars) == 4
    with pytest.raises(InputError, match="not kept"):
        trace.load("x", 3)
    data = trace.to_xarray()
    assert np.isnan(data["x"].isel(step=3)).all()


@pytest.mark.parametrize(
    ("keep", "names"),
    [
        ("scalars", []),
        ("latents", ["x", "x_prev"]),
        ("branches", ["cond", "guided", "uncond", "x"]),
        ("all", ["cond", "guided", "uncond", "x", "x0", "x_prev"]),
        (["x_prev"], ["x_prev"]),
        (["cond"], ["cond", "guided", "uncond"]),
    ],
)
def test_what_is_kept(keep: Any, names: list[str], tmp_path: Path) -> None:
    trace = recorded(tmp_path / "a", keep=keep)
    assert [name for name in trace.arrays.names() if not name.startswith("call")] == names


def test_a_budget_that_would_be_exceeded_is_an_error_before_the_run(tmp_path: Path) -> None:
    pipe, arguments = sd15(steps=4)
    calls: list[int] = []
    handle = pipe.unet.conv_in.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(InputError, match="budget"), record(pipe, keep="all", budget="5 kB") as trace:
        pipe(**arguments)
    assert calls == []  # the network had not been asked yet
    assert trace.status == "failed"
    handle.remove()
    step = 1024 * 7  # x, x_prev, guided, x0, two branches of (1, 4, 8, 8) floats, rounded up
    with record(pipe, keep="all", budget=4 * step) as trace:
        pipe(**arguments)
    assert len(trace.scalars) == 4
    kept = [trace.load(name, p) for p in range(4) for name in ("x", "x_prev", "guided", "x0", "cond", "uncond")]
    assert trace.manifest["estimated_bytes"] == sum(tensor.nbytes for tensor in kept)


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd3", "pixart", "ip2p", "pag", "inpaint", "ddpm", "wan21", "ltx"])
@pytest.mark.parametrize("keep", ["branches", "latents"])
def test_the_size_is_told_before_the_first_call(name: str, keep: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed before the network was asked is what the run then takes."""
    pipe, arguments = (PIPELINES | ODD)[name]()
    network = getattr(pipe, "unet", None) or pipe.transformer
    told: list[str] = []
    handle = network.register_forward_pre_hook(lambda *_: told.append(capsys.readouterr().err))
    with record(pipe, keep=keep) as trace:
        handle_after = network.register_forward_pre_hook(lambda *_: told.append(capsys.readouterr().err))
        pipe(**arguments)
    handle.remove()
    handle_after.remove()
    lines = [line for line in "".join(told[:2]).splitlines() if "recording arrays" in line]
    assert lines == [f"recording arrays: about {in_words(trace.manifest['estimated_bytes'])} in {_grid(trace)} steps"]
    assert "recording arrays" not in "".join(told[2:]) + capsys.readouterr().err  # said once


def _grid(trace: Trace) -> int:
    return len(trace.arrays.events)


def test_a_size_that_only_the_first_step_can_tell_is_checked_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second call that the pipeline does not tell of: the error comes at the first step, and nothing is written."""
    pipe, arguments = PIPELINES["flux_true"]()
    with record(pipe, keep="branches") as trace:
        pipe(**arguments)
    size = trace.manifest["estimated_bytes"]
    assert "recording arrays" in capsys.readouterr().err
    arguments["generator"] = generator()
    with pytest.raises(InputError, match="budget"), record(pipe, keep="branches", budget=size - 1, path=tmp_path / "a"):
        pipe(**arguments)
    assert len(Trace.open(tmp_path / "a").scalars) == 0
    assert list((tmp_path / "a/shards").iterdir()) == []


def test_scalars_and_quiet_recordings_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for options in ({}, {"keep": "branches", "progress": False}):
        pipe, arguments = sd15(steps=2)
        with record(pipe, **options):
            pipe(**arguments)
    assert "recording" not in capsys.readouterr().err


def test_a_second_run_of_another_size_is_estimated_too(capsys: pytest.CaptureFixture[str]) -> None:
    pipe, arguments = sd15(steps=2)
    with record(pipe, keep="latents"):
        pipe(**arguments)
        pipe(**arguments | {"num_inference_steps": 3})
        pipe(**arguments | {"num_inference_steps": 3})
    lines = [line for line in capsys.readouterr().err.splitlines() if "recording arrays" in line]
    assert lines == [
        "recording arrays: about 4.1 kB in 2 steps",
        "recording arrays: about 6.14 kB in 3 steps",
    ]


def test_bad_arguments() -> None:
    pipe, _ = sd15()
    for options in (
        {"keep": "everything"},
        {"keep": ["x", "y"]},
        {"every": 0},
        {"every": (2.0, 1.0)},
        {"budget": "much"},
    ):
        with pytest.raises(InputError):
            record(pipe, **options)
    with pytest.raises(InputError, match="resume"):
        record(pipe, resume=True)
    with pytest.raises(InputError, match="branches"):
        record(pipe, branches=("cond", "weak"))


def test_a_folder_that_is_there_is_not_written_over(folder: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    with pytest.raises(InputError, match="resume"):
        recorded(folder)
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before


@pytest.mark.parametrize("call", ["mkdir", "open"])
def test_a_read_only_folder(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by the system, as root is not by a folder's mode."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path if call == "mkdir" else os, call, refuse)
    pipe, _ = sd15()
    with pytest.raises(TraceError, match="Read-only"), record(pipe, path=tmp_path / "a"):
        pass
    monkeypatch.undo()
    assert "step" not in vars(pipe.scheduler)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TraceError):
        recorded(tmp_path / "file" / "a")


@pytest.mark.parametrize("place", ["shards", "lines"])
@pytest.mark.parametrize("failing", range(1, 4))
def test_a_disk_that_fills_up(failing: int, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failing-th shard, or line, finds no room half-way; other shards are being written meanwhile."""
    lines, inner = iter(range(1000)), os.write

    def write(descriptor: int, data: Any) -> int:
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        if place == "lines" and name == "steps.jsonl" and next(lines) == failing:
            return inner(descriptor, bytes(data)[: len(data) // 2])
        if place == "shards" and name == f"{failing:08d}.safetensors.partial":
            inner(descriptor, bytes(data)[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return inner(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(TraceError, match=r"(?i)no space"):
        recorded(tmp_path / "a")
    monkeypatch.undo()
    trace = Trace.open(tmp_path / "a")
    assert trace.status in ("failed", "interrupted")
    assert len(trace.scalars) == failing
    assert not list((tmp_path / "a").rglob("*.partial"))
    check_flushed(trace)


def check_flushed(trace: Trace) -> None:
    """Every step that is there can be read and is right: the branches give the guided prediction."""
    for place in range(len(trace.arrays.events)):
        cond, uncond, guided = (trace.load(name, place) for name in ("cond", "uncond", "guided"))
        assert torch.equal(uncond + 5.0 * (cond - uncond), guided)


_ENDLESS = """
import sys, torch
from types import SimpleNamespace
from scorescope.probes import record

class Scheduler:
    def __init__(self):
        self.sigmas = torch.linspace(0.99, 0.0, 100_001)
        self.timesteps, self.step_index = self.sigmas[:-1] * 1000, 0
    def step(self, model_output, timestep, sample):
        self.step_index += 1
        return (sample - 1e-5 * model_output,)

class Net(torch.nn.Module):
    def forward(self, x):
        return torch.tanh(x) + self.pattern
torch.manual_seed(0)
net = Net()
net.pattern = torch.randn(2, 4, 16, 16)
pipe = SimpleNamespace(net=net, scheduler=Scheduler())
x = torch.randn(1, 4, 16, 16)
with record(pipe, keep="branches", path=sys.argv[1]):
    for t in pipe.scheduler.timesteps:
        uncond, cond = net(torch.cat([x, x])).chunk(2)
        x = pipe.scheduler.step(uncond + 5.0 * (cond - uncond), t, x)[0]
        if pipe.scheduler.step_index == 3:
            print("running", flush=True)
"""


def _killed(path: Path, delay: float) -> Trace:
    """A trace whose process was killed so long after its third step."""
    process = subprocess.Popen([sys.executable, "-c", _ENDLESS, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"running\n"
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    return Trace.open(path)


def _check_killed(path: Path, delay: float) -> int:
    trace = _killed(path, delay)
    assert trace.status == "interrupted"
    flushed = (path / "steps.jsonl").read_bytes().count(b"\n")
    assert len(trace.scalars) == flushed
    assert [p for p in verify(path) if "written to its end" not in p] == []
    check_flushed(trace)
    return flushed


def test_killed_at_random_moments(tmp_path: Path) -> None:
    delays = np.random.default_rng(0).uniform(0, 0.3, 3)
    assert sum(_check_killed(tmp_path / str(n), delay) for n, delay in enumerate(delays)) > 3


@pytest.mark.slow
def test_killed_fifty_times_at_random_moments(tmp_path: Path) -> None:
    delays = np.random.default_rng(1).uniform(0, 0.5, 50)
    assert sum(_check_killed(tmp_path / str(n), delay) for n, delay in enumerate(delays)) > 50


@pytest.mark.parametrize("cut", range(1, 400, 7))
def test_a_torn_last_line_is_left_out(cut: int, folder: Path, tmp_path: Path) -> None:
    """As a crash leaves it: the manifest still says recording."""
    path = _unfinished(folder, tmp_path / "a")
    lines = (path / "steps.jsonl").read_bytes()
    (path / "steps.jsonl").write_bytes(lines[:-cut])
    trace = Trace.open(path)
    assert trace.status == "interrupted"
    assert len(trace.scalars) == 3
    check_flushed(trace)


def _unfinished(folder: Path, to: Path) -> Path:
    """A copy of a trace as it was before its run had ended."""
    shutil.copytree(folder, to)
    manifest = json.loads((to / "manifest.json").read_text())
    for name in ("lines", "steps_sha256", "scalars_sha256"):
        del manifest[name]
    store.write_manifest(to, manifest | {"status": "recording"})
    lines = (to / "steps.jsonl").read_bytes().splitlines(keepends=True)
    (to / "steps.jsonl").write_bytes(b"".join(lines[:4]))
    (to / "scalars.parquet").unlink()
    return to


class Damage:
    """Ways to corrupt a copy of a trace, drawn at random."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def apply(self, path: Path) -> str:
        kinds = [self.truncate, self.flip, self.remove, self.foreign, self.escape, self.link, self.swap, self.garbage]
        kind = kinds[self.random.integers(len(kinds))]
        kind(path)
        return kind.__name__

    def _file(self, path: Path) -> Path:
        files = sorted(p for p in path.rglob("*") if p.is_file())
        return files[self.random.integers(len(files))]

    def truncate(self, path: Path) -> None:
        file = self._file(path)
        data = file.read_bytes()
        file.write_bytes(data[: self.random.integers(len(data))])

    def flip(self, path: Path) -> None:
        file = self._file(path)
        data = bytearray(file.read_bytes())
        for _ in range(self.random.integers(1, 4)):
            data[self.random.integers(len(data))] ^= 1 << int(self.random.integers(8))
        file.write_bytes(data)

    def remove(self, path: Path) -> None:
        self._file(path).unlink()

    def foreign(self, path: Path) -> None:
        """The manifest of another trace."""
        manifest = json.loads((path / "manifest.json").read_text())
        store.write_manifest(path, manifest | {"id": "0" * 32})

    def escape(self, path: Path) -> None:
        """A line, with a good hash, that names a shard outside the folder."""
        identity = json.loads((path / "manifest.json").read_text())["id"]
        lines = (path / "steps.jsonl").read_bytes().splitlines(keepends=True)
        number = int(self.random.integers(4))
        line = json.loads(lines[number])["record"]
        line["shard"] = ["../secret.safetensors", "/etc/passwd", "..", "0000000a.safetensors", 7][
            self.random.integers(5)
        ]
        body = store.text_of(line)
        lines[number] = b'{"check":"' + store.check_of(identity, body).encode() + b'","record":' + body + b"}\n"
        (path / "steps.jsonl").write_bytes(b"".join(lines))

    def link(self, path: Path) -> None:
        """A file replaced by a link out of the folder."""
        file = self._file(path)
        outside = path.parent / "outside"
        shutil.copy(file, outside)
        file.unlink()
        file.symlink_to(outside)

    def swap(self, path: Path) -> None:
        """Two shards, or two lines, exchanged."""
        if self.random.integers(2):
            a, b = path / "shards/00000000.safetensors", path / "shards/00000001.safetensors"
            first = a.read_bytes()
            a.write_bytes(b.read_bytes())
            b.write_bytes(first)
        else:
            lines = (path / "steps.jsonl").read_bytes().splitlines(keepends=True)
            lines[0], lines[1] = lines[1], lines[0]
            (path / "steps.jsonl").write_bytes(b"".join(lines))

    def garbage(self, path: Path) -> None:
        self._file(path).write_bytes(self.random.bytes(200))


def _tree(path: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


def _check_damaged(folder: Path, at: Path, seed: int, sound: Trace, arrays: list[dict[str, Tensor]]) -> str:
    """Open a damaged copy: an error of ours, or the sound numbers, or a part of them."""
    copy = at / "a"
    shutil.copytree(folder, copy)
    kind = Damage(seed).apply(copy)
    before = _tree(at)
    try:
        trace = Trace.open(copy)
        found = trace.scalars
        pd.testing.assert_frame_equal(found, sound.scalars.iloc[: len(found)].reset_index(drop=True))
        assert len(found) == len(sound.scalars) or trace.status == "damaged"
        for place in range(len(trace.arrays.events)):
            for name in NAMES:
                assert torch.equal(trace.load(name, place), arrays[place][name])
        outcome = trace.status
    except TraceError:
        outcome = "refused"
    assert _tree(at) == before, "reading wrote something"
    assert outcome == "refused" or list(verify(copy))
    shutil.rmtree(at)
    return f"{kind}: {outcome}"


def _check_many(folder: Path, tmp_path: Path, seeds: range) -> set[str]:
    sound = Trace.open(folder)
    arrays = [{name: sound.load(name, place) for name in NAMES} for place in range(4)]
    outcomes = set()
    for seed in seeds:
        at = tmp_path / "copy"
        at.mkdir()
        outcomes.add(_check_damaged(folder, at, seed, sound, arrays))
    return outcomes


def test_damaged_copies_never_give_wrong_numbers(folder: Path, tmp_path: Path) -> None:
    outcomes = _check_many(folder, tmp_path, range(200))
    assert len({outcome.split(":")[0] for outcome in outcomes}) == 8


@pytest.mark.slow
def test_a_thousand_damaged_copies_never_give_wrong_numbers(folder: Path, tmp_path: Path) -> None:
    _check_many(folder, tmp_path, range(200, 1200))


@pytest.mark.parametrize("name", ["manifest.json", "steps.jsonl", "scalars.parquet", "shards/00000002.safetensors"])
def test_verify_names_what_is_damaged(name: str, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "a"
    shutil.copytree(folder, copy)
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 4
    (copy / name).write_bytes(data)
    try:
        problems = list(verify(copy))
    except TraceError as error:
        problems = [str(error)]
    assert any(name.split("/")[-1] in problem for problem in problems)


def test_no_pickle_is_written_or_read() -> None:
    from scorescope.probes import recording

    sources = "".join(file.read_text() for file in Path(recording.__file__).parent.glob("*.py"))
    for word in ("pickle", "torch.load", "torch.save", "allow_pickle=True", "eval(", "exec("):
        assert word not in sources


SPECS = [{"prompt": f"p{n}", "seed": n} for n in range(4)]


def _record_runs(path: Path, *, resume: bool = False, fail: tuple[int, int] | None = None) -> Trace:
    """Four runs of three steps; fails at (run, denoiser call)."""
    pipe, arguments = sd15(steps=3)
    calls = iter(range(1000))

    def failing(*_: Any) -> None:
        if fail is not None and next(calls) == fail[0] * 3 + fail[1]:
            raise RuntimeError("cut off")

    handle = pipe.unet.mid_block.register_forward_pre_hook(failing)
    with record(pipe, path=path, keep="branches", resume=resume) as trace:
        for spec in trace.runs(SPECS, progress=False):
            pipe(**arguments | {"generator": generator(spec["seed"])})
    handle.remove()
    return trace


@pytest.mark.parametrize("fail", [(0, 1), (1, 0), (2, 2), (3, 1)])
def test_a_recording_that_was_cut_off_goes_on_with_its_first_unfinished_run(
    fail: tuple[int, int], tmp_path: Path
) -> None:
    unbroken = _record_runs(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="cut off"):
        _record_runs(tmp_path / "parts", fail=fail)
    partial = Trace.open(tmp_path / "parts")
    assert partial.status == "failed"
    assert len(partial.scalars) == 3 * fail[0] + fail[1]
    resumed = _record_runs(tmp_path / "parts", resume=True)
    assert resumed.status == "complete"
    pd.testing.assert_frame_equal(resumed.scalars, unbroken.scalars)
    pd.testing.assert_frame_equal(resumed.samples, unbroken.samples)
    assert unbroken.samples["condition"].tolist() == ["p0", "p1", "p2", "p3"]
    for place in range(12):
        assert torch.equal(resumed.load("cond", place), unbroken.load("cond", place))
    assert list(verify(tmp_path / "parts")) == []


def test_a_finished_recording_has_nothing_left_to_do(tmp_path: Path) -> None:
    first = _record_runs(tmp_path / "a")
    again = _record_runs(tmp_path / "a", resume=True)
    pd.testing.assert_frame_equal(first.scalars, again.scalars)


def test_other_runs_than_before_are_refused(tmp_path: Path) -> None:
    _record_runs(tmp_path / "a")
    pipe, _ = sd15()
    with (
        pytest.raises(InputError, match="specs"),
        record(pipe, path=tmp_path / "a", keep="branches", resume=True) as trace,
    ):
        for _ in trace.runs([{"prompt": "other", "seed": 9}], progress=False):
            pass


def test_a_killed_recording_goes_on_after_its_torn_line(folder: Path, tmp_path: Path) -> None:
    path = _unfinished(folder, tmp_path / "a")
    lines = (path / "steps.jsonl").read_bytes()
    (path / "steps.jsonl").write_bytes(lines[:-50])
    writer, contents = reopen(path)
    assert len(contents.lines) == 3
    shard = writer.shard(writer.reserve(), {"x": torch.zeros(2)})
    writer.append(contents.lines[-1] | {"event": 3} | shard)
    writer.abandon()
    assert len(reading.read(path).lines) == 4
    assert list(verify(path)) == []


def test_a_damaged_trace_is_not_continued(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "a")
    lines = (tmp_path / "a/steps.jsonl").read_bytes()
    (tmp_path / "a/steps.jsonl").write_bytes(lines[:300] + b"x" + lines[301:])
    with pytest.raises(TraceError, match="continue"):
        recorded(tmp_path / "a", resume=True)


def test_sites_are_kept_by_branch(tmp_path: Path) -> None:
    from scorescope.probes import Site

    pipe, arguments = sd15(steps=2)
    seen: list[Tensor] = []
    handle = pipe.unet.mid_block.register_forward_hook(lambda m, i, out: seen.append(out.clone()))
    projection = torch.randn(16, 3)
    sites = [
        "unet.mid_block",
        Site("unet.conv_in", reduce="space"),
        Site("unet.down_blocks.0.resnets.0", projection=None),
    ]
    sites.append(Site("unet.conv_norm_out", reduce="space", projection=torch.randn(8, 3)))
    with record(pipe, path=tmp_path / "a", sites=sites) as trace:
        pipe(**arguments)
    handle.remove()
    arrays = Trace.open(tmp_path / "a").arrays
    for place in range(2):
        uncond, cond = seen[place].chunk(2)
        assert torch.equal(arrays.site("unet.mid_block", place, "cond"), cond)
        assert torch.equal(arrays.site("unet.mid_block", place, "uncond"), uncond)
        assert arrays.site("unet.conv_in", place, "cond").shape == (1, 8)
        assert arrays.site("unet.conv_norm_out", place, "cond").shape == (1, 3)
    assert len(projection) == 16
    with pytest.raises(InputError, match="site"):
        arrays.site("unet.other", 0, "cond")
    assert len(trace.scalars) == 2


def test_sites_of_two_calls(tmp_path: Path) -> None:
    pipe, arguments = wan()
    seen: list[Tensor] = []
    handle = pipe.transformer.blocks[1].register_forward_hook(lambda m, i, out: seen.append(out.mean(1)))
    from scorescope.probes import Site

    with record(pipe, sites=[Site("transformer.blocks.1", reduce="tokens")]) as trace:
        pipe(**arguments)
    handle.remove()
    for place in range(4):
        torch.testing.assert_close(trace.arrays.site("transformer.blocks.1", place, "cond"), seen[2 * place])
        torch.testing.assert_close(trace.arrays.site("transformer.blocks.1", place, "uncond"), seen[2 * place + 1])


class Inner(nn.Module):
    """A branch by number, with a module inside."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor, branch: int, channels: int = 4) -> Tensor:
        pattern = torch.randn(x.shape, generator=torch.Generator().manual_seed(branch))
        return (self.inner(x) + pattern)[:, :channels]


def _with_a_further_call(channels: int, **options: Any) -> Trace:
    """Guidance of two calls, after a call whose output is none of the branches."""
    pipe = SimpleNamespace(net=Inner(), scheduler=Still())
    x = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    with record(pipe, progress=False, **options) as trace, torch.no_grad():
        for t in range(2):
            pipe.net(x + 1, 3, channels)
            cond, uncond = pipe.net(x, 1), pipe.net(x, 2)
            x = pipe.scheduler.step(uncond + 5.0 * (cond - uncond), t, x)[0]
    return trace


@pytest.mark.parametrize("keep", ["scalars", "all"])
def test_sites_beside_a_call_that_is_no_branch(keep: str) -> None:
    trace = _with_a_further_call(3, sites=["net.inner"], keep=keep)
    assert set(trace.scalars["rule"]) == {"cfg"}
    for place in range(2):
        cond, uncond = (trace.arrays.site("net.inner", place, name) for name in ("cond", "uncond"))
        assert torch.equal(cond, uncond)  # of the same state; the further call was made at another one
        if keep == "all":
            pattern = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(1))
            torch.testing.assert_close(trace.load("cond", place) - pattern, cond)


def test_sites_that_only_some_calls_have() -> None:
    class Skips(Inner):
        def forward(self, x: Tensor, branch: int, channels: int = 4) -> Tensor:
            return super().forward(x, branch) if branch == 1 else x * 1.0

    pipe = SimpleNamespace(net=Skips(), scheduler=Still())
    x = torch.randn(1, 4, 6, 6)
    with record(pipe, sites=["net.inner"], progress=False) as trace, torch.no_grad():
        cond, uncond = pipe.net(x, 1), pipe.net(x, 2)
        pipe.scheduler.step(uncond + 5.0 * (cond - uncond), 1, x)
    with pytest.raises(InputError, match="1 calls for 2"):
        trace.arrays.site("net.inner", 0, "cond")


def test_projections_are_float32_under_autocast() -> None:
    from scorescope.probes import Site

    pipe = SimpleNamespace(net=Inner(), scheduler=Still())
    x, projection = torch.randn(1, 4, 6, 6), torch.randn(4, 3)
    seen: list[Tensor] = []
    pipe.net.inner.register_forward_hook(lambda m, i, out: seen.append(out.detach().clone()))
    site = Site("net.inner", projection=projection)
    with record(pipe, sites=[site], progress=False) as trace, torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        pipe.scheduler.step(pipe.net(x, 1), 1, x)
    found = trace.arrays.site("net.inner", 0, "cond")
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.einsum("bcyx,cd->bdyx", seen[0].float(), projection))


def test_arrays_of_a_trace_in_memory_are_copies(memory: Trace) -> None:
    for name in NAMES:
        before = memory.load(name, 1).clone()
        for other in NAMES:
            for place in (0, 1):
                memory.load(other, place).zero_()
        assert torch.equal(memory.load(name, 1), before)
        assert before.any()


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 4, 5)])
def test_states_are_compared_sample_by_sample(shape: tuple[int, ...]) -> None:
    """On a device, where the host is not asked."""
    from scorescope.probes.recording.steps import _same_bits

    a = torch.randn(shape)
    b = a.clone()
    b[1] += 1
    assert _same_bits(a, b).tolist() == [True, False, True]


def test_an_empty_recording() -> None:
    with record(SimpleNamespace(unet=nn.Identity(), scheduler=sd15()[0].scheduler)) as trace:
        pass
    assert trace.status == "complete"
    assert len(trace.scalars) == 0


class Still:
    """A scheduler of a user's own without a grid of timesteps."""

    config = SimpleNamespace(prediction_type="epsilon")

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor) -> tuple[Tensor]:
        return (sample - 0.1 * model_output,)


class Gridded(Still):
    timesteps = torch.tensor([900, 100])
    alphas_cumprod = torch.linspace(0.999, 0.01, 1000)


@pytest.mark.parametrize(("kind", "steps"), [(Still, 3), (Gridded, 3)])
def test_a_budget_holds_where_the_number_of_steps_is_not_known(kind: Any, steps: int, tmp_path: Path) -> None:
    """No grid, or more steps than it has points."""
    pipe = SimpleNamespace(net=nn.Conv2d(4, 4, 3, padding=1), scheduler=kind())
    size = 4 * 1 * 4 * 8 * 8 * 4  # x, x_prev, guided and one branch in float32
    x = torch.randn(1, 4, 8, 8)
    for budget, enough in ((steps * size, True), (steps * size - 1, False)):
        path = tmp_path / str(enough)
        with suppress(InputError), record(pipe, keep="all", budget=budget, path=path, progress=False) as trace:
            for t in range(steps):
                with torch.no_grad():
                    x = pipe.scheduler.step(pipe.net(x), 100 * t, x)[0]
        assert (trace.status == "complete") == enough
        kept = trace.arrays.events if enough else Trace.open(path).arrays.events
        assert len(kept) == (steps if enough else steps - 1)
        assert "budget" in trace.manifest.get("error", "budget" if enough else "")


def test_a_budget_is_that_of_each_run() -> None:
    pipe = SimpleNamespace(net=nn.Conv2d(4, 4, 3, padding=1), scheduler=Still())
    x = torch.randn(1, 4, 8, 8)
    with record(pipe, keep="all", budget=2 * 4096, progress=False) as trace, torch.no_grad():
        for _ in trace.runs([{"seed": 0}, {"seed": 1}], progress=False):
            for t in range(2):
                pipe.scheduler.step(pipe.net(x), t, x)
    assert trace.status == "complete"
