"""Recordings that go on, or do not: interrupted, resumed, refused; and those that never touch a disk."""

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
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
from scorescope.probes.recording.reading import read, verify
from scorescope.probes.recording.resuming import reopen
from tests.probes.recording.test_store import Damage


class Scheduler:
    """Given noise levels, whatever their order; the state moves a little."""

    fails = False

    def __init__(self, sigmas: list[float]) -> None:
        self.sigmas = torch.tensor([*sigmas, 0.0])
        self.timesteps, self.step_index = self.sigmas[:-1] * 1000, 0

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor) -> tuple[Tensor]:
        self.step_index += 1
        if self.fails:
            raise RuntimeError("no such step")
        return (sample - 0.1 * model_output,)


class Net(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x)


SIGMAS = [0.9, 0.6, 0.3]


def toy(sigmas: list[float] | None = None, net: nn.Module | None = None) -> Any:
    """Something with a denoiser and a scheduler."""
    return SimpleNamespace(net=net or Net(), scheduler=Scheduler(sigmas or SIGMAS))


def run(pipe: Any, seed: int = 0, steps: int | None = None) -> None:
    """One run of the toy, or its first steps."""
    pipe.scheduler.step_index = 0
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    for t in pipe.scheduler.timesteps[:steps]:
        x = pipe.scheduler.step(pipe.net(x), t, x)[0]


@pytest.mark.parametrize(
    ("sigmas", "every"),
    [
        ([0.9, 0.5, 0.9, 0.5, 0.9], (4.0, 20.0)),  # 9 and 1 variance exploding: left and entered again
        ([0.9] + 300 * [0.5], (4.0, 20.0)),  # many steps after the last that is kept
        ([0.5, 0.5, 0.9, 0.9, 0.5], (4.0, 20.0)),
    ],
)
def test_what_is_kept_in_memory_is_what_is_kept_on_disk(
    sigmas: list[float], every: tuple[float, float], tmp_path: Path
) -> None:
    traces = []
    for path in (None, tmp_path / "a"):
        pipe = toy(sigmas)
        with record(pipe, keep="latents", every=every, path=path, progress=False) as trace:
            run(pipe)
        traces.append(trace)
    pd.testing.assert_frame_equal(traces[0].scalars, traces[1].scalars)
    kept = [place for place, sigma in enumerate(sigmas) if sigma > 0.8]
    for trace in traces:
        assert [place for place, event in enumerate(trace.arrays.events) if event["arrays"]] == kept
    for place in kept:
        assert torch.equal(traces[0].load("x_prev", place), traces[1].load("x_prev", place))


SPECS = [{"seed": 0}, {"seed": 1}, {"seed": 2}]


def record_runs(path: Path, *, resume: bool = False, overwrite: bool = False, stop_after: int | None = None) -> Trace:
    """Runs of the toy; interrupted, as by Ctrl-C, after so many of its steps."""
    pipe, left = toy(), iter(range(10**6 if stop_after is None else stop_after))

    def count(*_: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    pipe.net.register_forward_pre_hook(count)
    with record(pipe, keep="latents", path=path, resume=resume, overwrite=overwrite, progress=False) as trace:
        for spec in trace.runs(SPECS, progress=False):
            run(pipe, spec["seed"])
    return trace


@pytest.fixture(scope="module")
def broken_off(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace whose process was killed in its second run, after five steps."""
    path: Path = tmp_path_factory.mktemp("trace") / "a"
    with pytest.raises(KeyboardInterrupt):
        record_runs(path, stop_after=5)
    manifest = json.loads((path / "manifest.json").read_text())
    for name in ("lines", "steps_sha256", "scalars_sha256"):
        del manifest[name]
    store.write_manifest(path, manifest | {"status": "recording"})
    (path / "scalars.parquet").unlink()
    return path


@pytest.mark.parametrize(
    "name",
    [
        "manifest.json.partial",
        "scalars.parquet.partial",
        "scalars.parquet",
        "shards/00000005.safetensors.partial",
        "shards/00000005.safetensors",
        "manifest.json",
        "steps.jsonl",
        "shards",
    ],
)
@pytest.mark.parametrize("to", ["file", "folder", "nothing"])
def test_nothing_is_written_through_a_link_out_of_the_folder(
    name: str, to: str, broken_off: Path, tmp_path: Path
) -> None:
    path, outside = tmp_path / "a", tmp_path / "outside"
    shutil.copytree(broken_off, path)
    outside.mkdir()
    (outside / "file").write_text("mine")
    (outside / "folder").mkdir()
    link = path / name
    shutil.rmtree(link) if link.is_dir() else link.unlink(missing_ok=True)
    link.symlink_to(outside / to)
    try:
        assert record_runs(path, resume=True).status == "complete"
        assert link.is_symlink() == (name == "shards/00000005.safetensors")  # a number that is taken is not used
    except TraceError:
        assert link.is_symlink() and name in ("manifest.json", "steps.jsonl", "shards")
    assert sorted(outside.rglob("*")) == [outside / "file", outside / "folder"]
    assert (outside / "file").read_text() == "mine"


@pytest.mark.parametrize("state", ["new", "complete", "cut off", "half removed"])
def test_a_cell_that_is_run_again_replaces_its_trace(state: str, broken_off: Path, tmp_path: Path) -> None:
    if state != "new":
        shutil.copytree(broken_off, tmp_path / "a")
    if state == "complete":
        record_runs(tmp_path / "a", resume=True)
    if state == "half removed":
        (tmp_path / "a/steps.jsonl").unlink()
        (tmp_path / "a/shards/00000000.safetensors").unlink()
    made = record_runs(tmp_path / "a", overwrite=True)
    assert made.status == "complete" and list(verify(tmp_path / "a")) == []
    pd.testing.assert_frame_equal(made.scalars, record_runs(tmp_path / "whole").scalars)
    assert len(list((tmp_path / "a/shards").iterdir())) == len(list((tmp_path / "whole/shards").iterdir()))


@pytest.mark.parametrize("strange", ["a", "a/notes.txt", "a/shards/mine", "a/manifest.json", "a/shards"])
def test_nothing_but_a_trace_is_replaced(strange: str, broken_off: Path, tmp_path: Path) -> None:
    path, outside = tmp_path / strange, tmp_path / "outside"
    outside.mkdir()
    if strange != "a":
        shutil.copytree(broken_off, tmp_path / "a")
    if strange == "a/shards":
        shutil.rmtree(path)
        path.symlink_to(outside)
    else:
        path.write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(TraceError, match="path"):
        record_runs(tmp_path / "a", overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_to_overwrite_and_to_resume_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="overwrite"):
        record_runs(tmp_path / "a", overwrite=True, resume=True)
    with pytest.raises(InputError, match="overwrite"):
        record(toy(), overwrite=True)


def test_a_new_trace_is_not_made_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "a/shards").symlink_to(tmp_path / "outside")
    for resume in (False, True):
        with pytest.raises(TraceError):
            record_runs(tmp_path / "a", resume=resume)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_damaged_copy_is_refused_or_continued_and_nothing_else_is_touched(broken_off: Path, tmp_path: Path) -> None:
    whole = record_runs(tmp_path / "whole")
    outcomes = set()
    for seed in range(100):
        at = tmp_path / str(seed)
        shutil.copytree(broken_off, at / "a")
        kind = Damage(seed).apply(at / "a")
        beside = {file: file.read_bytes() for file in at.glob("outside*")}
        try:
            resumed = record_runs(at / "a", resume=True)
            assert resumed.status == "complete"
            pd.testing.assert_frame_equal(resumed.scalars, whole.scalars)
            outcomes.add(f"{kind}: continued")
        except TraceError:
            outcomes.add(f"{kind}: refused")
        assert {file: file.read_bytes() for file in at.glob("outside*")} == beside
    assert {"flip: refused", "swap: refused", "link: refused", "flip: continued"} <= outcomes


class Disk:
    """Notes what is synced and renamed, in order: (what, name, size)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[tuple[str, str, int]] = []
        self._fsync, self._replace = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "replace", self.replace)

    def fsync(self, descriptor: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        self.log.append(("sync", name, os.fstat(descriptor).st_size))
        self._fsync(descriptor)

    def replace(self, source: Path, to: Path) -> None:
        self.log.append(("rename", to.name, 0))
        self._replace(source, to)

    def last(self, what: str, name: str) -> int:
        return max(place for place, entry in enumerate(self.log) if entry[:2] == (what, name))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs the names of open files")
@pytest.mark.parametrize("stop_after", [5, None])
def test_what_the_manifest_says_is_on_the_disk_before_it(
    stop_after: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed or interrupted run too: a power cut leaves no manifest that tells of lines which are not there."""
    disk = Disk(monkeypatch)
    try:
        record_runs(tmp_path / "a", stop_after=stop_after)
    except KeyboardInterrupt:
        assert stop_after is not None
    steps, manifest = disk.last("sync", "steps.jsonl"), disk.last("rename", "manifest.json")
    assert disk.log[steps][2] == (tmp_path / "a/steps.jsonl").stat().st_size
    last_shard = f"{(stop_after or 9) - 1:08d}.safetensors"
    assert disk.last("rename", last_shard) < disk.last("sync", "shards") < steps < manifest < disk.last("sync", "a")
    syncs = [name for what, name, _ in disk.log if what == "sync" and "safetensors" not in name]
    assert len(syncs) <= 12 + 2 * len(SPECS)  # of shards one a step; the rest does not grow with the steps


def states(trace: Trace) -> dict[tuple[int, int], Tensor]:
    """The state of each (run, step)."""
    return {(e["run"], e["step"]): trace.load("x", place) for place, e in enumerate(trace.arrays.events)}


def _killed_at(call: int, work: Any, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run `work` in a process of its own, killed just before so many system calls; whether it came to its end."""
    child = os.fork()
    if child == 0:
        left = iter(range(call))

        def dying(inner: Any) -> Any:
            def outer(*args: Any, **options: Any) -> Any:
                if next(left, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                return inner(*args, **options)

            return outer

        for name in ("mkdir", "open", "write", "fsync", "replace", "close"):
            monkeypatch.setattr(os, name, dying(getattr(os, name)))
        try:
            work()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that share what was imported")
def test_killed_while_the_folder_is_made_and_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every system call until the first step is there; for real, resumed for real."""
    whole = record_runs(tmp_path / "whole")
    first = read(tmp_path / "whole").lines[0]

    def work(path: Path) -> None:
        writer = store.Writer.create(path, whole_manifest)
        shard = writer.shard(writer.reserve(), {"x": torch.zeros(2)})
        writer.append(first | shard)

    closing = ("lines", "steps_sha256", "scalars_sha256", "check", "id", "status")
    written = json.loads((tmp_path / "whole/manifest.json").read_text())
    whole_manifest = {name: value for name, value in written.items() if name not in closing}
    for call in range(100):
        path = tmp_path / str(call)
        ended = _killed_at(call, lambda at=path: work(at), monkeypatch)
        resumed = record_runs(path, resume=True)
        assert resumed.status == "complete"
        assert len(Trace.open(path).scalars) == len(whole.scalars)
        pd.testing.assert_frame_equal(resumed.scalars, whole.scalars)
        if ended:
            break
    assert call > 15


@pytest.mark.parametrize("fails", ["net", "scheduler", "before", "hook"])
def test_a_run_whose_error_was_caught_is_made_again(fails: str, tmp_path: Path) -> None:
    """In its second step, or before its first; the loop goes on all the same."""

    def attempt(*, failing: bool, resume: bool) -> tuple[Trace, list[int]]:
        pipe, seen = toy(net=Failing() if fails == "net" else None), []
        with record(pipe, keep="latents", path=tmp_path / "a", resume=resume, progress=False) as trace:
            for spec in trace.runs(SPECS, progress=False):
                seen.append(spec["seed"])
                broken = failing and spec["seed"] == 1
                with contextlib.suppress(RuntimeError):
                    if broken and fails == "before":
                        raise RuntimeError("no prompt")
                    with _failing(pipe, fails) if broken else contextlib.nullcontext():
                        run(pipe, spec["seed"])
        return trace, seen

    partial, seen = attempt(failing=True, resume=False)
    assert seen == [0, 1, 2]
    steps = partial.scalars.groupby("run").size().to_dict()
    assert steps == ({0: 3, 2: 3} if fails == "before" else {0: 3, 1: 1, 2: 3})
    resumed, seen = attempt(failing=False, resume=True)
    assert seen == [1]
    whole = record_runs(tmp_path / "whole")
    assert len(resumed.scalars) == len(whole.scalars) == 9
    expected = states(whole)
    for place, x in states(resumed).items():
        assert torch.equal(x, expected[place])
    assert attempt(failing=False, resume=True)[1] == []


class Failing(Net):
    fails = False

    def forward(self, x: Tensor) -> Tensor:
        if self.fails:
            raise RuntimeError("out of memory")
        return super().forward(x)


@contextlib.contextmanager
def _failing(pipe: Any, what: str) -> Iterator[None]:
    """The second step of a run fails, inside the network, in a hook on it, or in the scheduler."""
    calls = iter(range(10))

    def fail(*_: Any) -> None:
        place = next(calls)
        pipe.net.fails = what == "net" and place == 1
        if what == "hook" and place == 1:
            raise RuntimeError("in a hook")
        if what == "scheduler" and place == 1:
            pipe.scheduler.fails = True

    handle = pipe.net.register_forward_pre_hook(fail)
    try:
        yield
    finally:
        handle.remove()
        pipe.net.fails = pipe.scheduler.fails = False


def test_specs_are_what_json_makes_of_them(tmp_path: Path) -> None:
    """Numbers of numpy, tuples and NaN come back from the disk as other values, of the same meaning."""
    given = [
        {"seed": seed, "size": (64, np.int32(64)), "scale": np.float32(0.5), "cut": float("nan"), "on": np.bool_(True)}
        for seed in np.arange(2)
    ]
    yielded = []
    for resume in (False, True):
        pipe = toy()
        with record(pipe, path=tmp_path / "a", resume=resume) as trace:
            for spec in trace.runs(given, progress=False):
                yielded.append(spec)
                run(pipe, int(spec["seed"]))
        assert trace.samples["seed"].tolist() == [0, 1]
    assert len(yielded) == 2 and all(spec is one for spec, one in zip(yielded, given, strict=True))
    end = [line for line in read(tmp_path / "a").lines if line["kind"] == "end"][1]
    assert end["spec"]["seed"] == 1 and end["spec"]["size"] == [64, 64] and end["spec"]["scale"] == 0.5
    assert end["spec"]["on"] is True


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"seed": 1, "image": torch.zeros(2)}, r"specs\[1\]\['image'\]"),
        ({"seed": {1, 2}}, "seed"),
        ({1: 2}, "key 1"),
        ("a cat", "mapping"),
    ],
)
def test_a_spec_that_json_does_not_know_is_refused_before_the_first_run(spec: Any, named: str, tmp_path: Path) -> None:
    pipe, calls = toy(), []
    pipe.net.register_forward_pre_hook(lambda *_: calls.append(1))
    with pytest.raises(InputError, match=named), record(pipe, path=tmp_path / "a") as trace:
        for _ in trace.runs([{"seed": 0}, spec], progress=False):
            run(pipe)
    assert calls == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"keep": "scalars"}, "recording"),
        ({"every": 2}, "recording"),
        ({"value_range": (0, 1)}, "recording"),
        ({"sites": ["net"]}, "sites"),
        ({"net": nn.Identity()}, "modules"),
        ({"scheduler": type("Other", (Scheduler,), {})}, "schedulers"),
        ({"pipeline": type("Pipeline", (SimpleNamespace,), {})}, "pipeline"),
    ],
)
def test_a_trace_is_continued_only_with_what_it_is_of(
    change: dict[str, Any], named: str, broken_off: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    shutil.copytree(broken_off, path)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    options = {"keep": "latents"} | change
    make = options.pop("pipeline", SimpleNamespace)
    pipe = make(net=options.pop("net", Net()), scheduler=options.pop("scheduler", Scheduler)(SIGMAS))
    with pytest.raises(TraceError, match=named), record(pipe, path=path, resume=True, **options):
        pass
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    assert "step" not in vars(pipe.scheduler)


def test_a_budget_may_be_another_when_a_trace_is_continued(broken_off: Path, tmp_path: Path) -> None:
    shutil.copytree(broken_off, tmp_path / "a")
    with record(toy(), keep="latents", budget="1 GB", path=tmp_path / "a", resume=True) as trace:
        pass
    assert (trace.status, trace.unfinished) == ("incomplete", ["run 1 unfinished after 2 steps"])


def test_two_recordings_do_not_write_to_one_folder(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    pipe, other = toy(), toy()
    with record(pipe, path=tmp_path / "a") as trace:
        run(pipe)
        with pytest.raises(TraceError, match="one at a time"), record(other, path=tmp_path / "a", resume=True):
            run(other)
        assert "step" not in vars(other.scheduler)
    assert len(trace.scalars) == 3
    with record(other, path=tmp_path / "a", resume=True) as trace:
        run(other)
    assert len(trace.scalars) == 6
    assert list(verify(tmp_path / "a")) == []


def test_what_a_step_costs_does_not_grow_with_the_lines_before(broken_off: Path, tmp_path: Path) -> None:
    """Lines of earlier recordings are looked at once, when the trace is opened."""

    class Line(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            looks.append(name)
            return super().__getitem__(name)

    looks: list[str] = []
    shutil.copytree(broken_off, tmp_path / "a")
    pipe = toy()
    with pytest.MonkeyPatch.context() as patch:
        inner = reading._read_lines

        def read_lines(contents: Any, *rest: Any) -> None:
            inner(contents, *rest)
            contents.lines[:] = map(Line, contents.lines)

        patch.setattr(reading, "_read_lines", read_lines)
        with record(pipe, keep="latents", path=tmp_path / "a", resume=True) as trace:
            looks.clear()
            for spec in trace.runs(SPECS, progress=False):
                run(pipe, spec["seed"])
            assert looks.count("attempt") == 0


WRONG: list[Any] = [None, True, 7, "x", ["x"], {"x": 1}, 0.5]


def _rewritten(data: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A record without each of its fields, and with a value of another type in each."""
    for name, value in data.items():
        yield f"no {name}", {key: other for key, other in data.items() if key != name}
        for wrong in WRONG:
            if type(wrong) is not type(value):
                yield f"{name} = {wrong!r}", data | {name: wrong}


def _read_all(path: Path) -> str:
    """Everything that is read without arrays, as long as it raises nothing but our own error."""
    try:
        trace = Trace.open(path)
        trace.manifest, trace.samples, trace.proof, list(verify(path)), repr(trace)
        with contextlib.suppress(TraceError):
            trace.load("x", 0)
    except TraceError:
        return "refused"
    return trace.status


@pytest.mark.parametrize("place", ["step", "end", "level", "hypotheses"])
def test_a_line_with_a_good_hash_and_other_fields_is_damage(place: str, broken_off: Path, tmp_path: Path) -> None:
    path = tmp_path / "a"
    shutil.copytree(broken_off, path)
    identity = json.loads((path / "manifest.json").read_text())["id"]
    lines = (path / "steps.jsonl").read_bytes().splitlines(keepends=True)
    number = 3 if place == "end" else 1
    whole = json.loads(lines[number])["record"]
    part = whole if place in ("step", "end") else whole["level"] if place == "level" else whole["hypotheses"][0]
    outcomes = set()
    for _, changed in [*_rewritten(part), ("a list", [part]), ("a number", 3)]:
        record = {"level": whole | {"level": changed}, "hypotheses": whole | {"hypotheses": [changed]}}
        body = store.text_of(record.get(place, changed))
        lines[number] = b'{"check":"' + store.check_of(identity, body).encode() + b'","record":' + body + b"}\n"
        (path / "steps.jsonl").write_bytes(b"".join(lines))
        outcomes.add(_read_all(path))
        with contextlib.suppress(TraceError):
            reopen(path)[0].abandon()
            shutil.rmtree(path)
            shutil.copytree(broken_off, path)
    assert "damaged" in outcomes


def test_a_manifest_with_a_good_hash_and_other_fields_is_refused(broken_off: Path, tmp_path: Path) -> None:
    path = tmp_path / "a"
    shutil.copytree(broken_off, path)
    whole = json.loads((path / "manifest.json").read_text())
    needed = {"id", "status", "schedulers", "format", "version"}
    for what, changed in _rewritten({key: value for key, value in whole.items() if key != "check"}):
        body = store.text_of(changed)
        check = store.check_of(str(changed.get("id")), body)
        (path / "manifest.json").write_bytes(store.text_of(changed | {"check": check}))
        outcome = _read_all(path)
        if set(what.split()) & needed - {"schedulers"}:
            assert outcome in ("refused", "interrupted", "damaged")
        with contextlib.suppress(TraceError), record(toy(), keep="latents", path=path, resume=True):
            pass
    for status in ("complete", "failed"):
        store.write_manifest(path, whole | {"status": status})
        assert _read_all(path) == "refused"
