"""Every writer under every fault: what lies at its place afterwards is whole or as it was, or is said to be damaged.

Faults strike at the n-th file operation of a writer, counted by an audit hook, so that no writer has to be patched.
"""

import errno
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from scorescope.data.errors import InputError
from scorescope.data.written_files import read_json, write_json
from scorescope.probes import Trace
from scorescope.probes.features import read_moments
from scorescope.probes.recording.reading import verify
from scorescope.probes.sparse import load_sparse
from scorescope.probes.work import plan_work, run_work
from scorescope.reports.cli import Study, run_study, study
from scorescope.reports.page import ReportTable, ReportWriter, Section, write_report
from scorescope.reports.page.requests import Request
from scorescope.reports.studies import read_made
from tests.fuzz import network_kinds, report_kinds
from tests.fuzz.image_kinds import PIXELS
from tests.fuzz.kind import Kind
from tests.fuzz.kinds import KINDS
from tests.fuzz.run_kinds import heard


def _json(folder: Path) -> Path:
    write_json(folder / "status.json", {"done": list(range(100))})
    return folder / "status.json"


def _report(folder: Path) -> Path:
    sections = [("part", "A part", lambda study: Section(text="Text."))]
    write_report(folder, sections, None, name="r", title="T", question="Q?", command="c", manifest={})
    return folder


def _trained(folder: Path) -> Path:
    network_kinds.train(folder / "s.safetensors")
    return folder / "s.safetensors"


@cache
def _images() -> tempfile.TemporaryDirectory[str]:
    """A set of six images, which lies elsewhere."""
    folder = tempfile.TemporaryDirectory()
    np.savez(Path(folder.name, "images.npz"), np.stack([PIXELS + shift for shift in range(6)]))
    return folder


def _moments(folder: Path) -> Path:
    spec = {"kind": "moments", "images": f"{_images().name}/images.npz", "features": "pixels", "size": 2}
    heard(run_work(plan_work(spec), folder, progress=False))
    return folder / "moments.npz"


def _made(request: Request, out: Path) -> None:
    """A report of one small table, in place of the one that is asked for."""
    how: dict[str, Any] = {"title": "T", "question": "?", "command": "c", "request": request, "manifest": {}}
    with ReportWriter(out, name="guidance", **how) as page:
        page.section("a", "A", lambda: Section(tables=[ReportTable("sweep", report_kinds.TABLE)]))


def _study(folder: Path) -> Path:
    with mock.patch.object(study, "run", _made):
        run_study(Study(folder / "s", {"a": "digits", "b": "digits_weak"}, {"guidance": {"count": 8}}))
    return folder / "s"


def _read_study(path: Path) -> None:
    for folder in (path, path / "a" / "guidance", path / "b" / "guidance"):
        made = read_made(folder)
        for name in made.tables:
            made.table(name)


WRITTEN = (
    "moments of ours", "direction", "Gaussian", "mixture", "training set", "denoiser and card", "classifier and card",
    "scorer and card", "trace", "sweep, read alone", "training state", "sparse autoencoder", "activations",
    "activations of samples", "activations of a trace", "numbers of the atlas", "recorded calls",
    "latents of a pipeline", "chunk of work",
)  # fmt: skip
WRITERS = {kind.name: kind for kind in KINDS if kind.name in WRITTEN} | {
    kind.name: kind
    for kind in (
        Kind("sealed JSON", _json, read_json),
        Kind("report", _report, lambda path: read_json(path / "manifest.json")),
        Kind("sparse training", _trained, load_sparse),
        Kind("moments in chunks", _moments, read_moments),
        Kind("study", _study, _read_study),
    )
}
BITS = {
    "sweep, read alone": ("*.safetensors", "*.parquet"), "sparse training": ("*.safetensors",),
    "activations": ("shards/*",), "activations of samples": ("shards/*",), "activations of a trace": ("shards/*",),
    "numbers of the atlas": ("*.parquet", "*.safetensors"), "recorded calls": ("decoded/*", "trace/scalars.parquet"),
    "latents of a pipeline": ("*.safetensors",), "chunk of work": ("*.npy",), "moments in chunks": ("moments.npz",),
    "study": ("tables/*.parquet",), "training state": ("state-*.safetensors",),
}  # fmt: skip
"""Those that go on where they were cut off, and their files that are then the same to the last bit."""
LONG = ("trace", "report", "sweep, read alone", "study", "recorded calls", "moments in chunks")


@dataclass
class Striking:
    """Strikes at the n-th operation on files of a folder; `all_after` goes on doing so."""

    folder: Path
    at: int
    strike: Callable[[], None]
    all_after: bool = False
    seen: int = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if not (writes or event in ("os.rename", "os.mkdir", "os.remove")):
            return
        if not isinstance(arguments[0], str | Path) or not str(arguments[0]).startswith(str(self.folder)):
            return
        self.seen += 1
        if self.seen == self.at or (self.all_after and self.seen > self.at and event != "os.remove"):
            self.strike()


_striking: list[Striking] = []  # an audit hook cannot be taken off: it looks here
sys.addaudithook(lambda event, arguments: _striking[-1](event, arguments) if _striking else None)


@contextmanager
def striking(found: Striking) -> Iterator[Striking]:
    _striking.append(found)
    try:
        yield found
    finally:
        _striking.pop()


def _raising(make: Callable[[], BaseException]) -> Callable[[], None]:
    def strike() -> None:
        raise make()

    return strike


RAISED = {
    "exception": (RuntimeError, _raising(lambda: RuntimeError("injected")), False),
    "interrupt": (KeyboardInterrupt, _raising(lambda: KeyboardInterrupt()), False),
    "disk full": (OSError, _raising(lambda: OSError(errno.ENOSPC, "No space left on device")), True),
    "read-only": (OSError, _raising(lambda: OSError(errno.EROFS, "Read-only file system")), True),
}
ENDED = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM}


@dataclass(frozen=True)
class Sound:
    """What a writer leaves without a fault, and how many operations it takes."""

    operations: int
    place: Path
    bits: dict[str, bytes]


def sound(kind: Kind, folder: Path) -> Sound:
    """One run of a writer; `place` is what it gives to be read, from the folder."""
    folder.mkdir()
    with striking(Striking(folder, 0, lambda: None)) as counted:
        path = kind.make(folder)
    return Sound(counted.seen, path.relative_to(folder), bits(kind, folder))


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def bits(kind: Kind, folder: Path) -> dict[str, bytes]:
    """What has to be the same: all of a file, but for the order of what safetensors say of themselves."""
    patterns = BITS.get(kind.name, ())
    chosen = {name: data for name, data in content(folder).items() if any(Path(name).match(one) for one in patterns)}
    return {name: _in_order(data) if name.endswith(".safetensors") else data for name, data in chosen.items()}


def _in_order(data: bytes) -> bytes:
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header.get("__metadata__", {}).pop("seal", None)  # the hash of that order
    return json.dumps(header, sort_keys=True).encode() + data[end:]


def check_left(kind: Kind, folder: Path, expected: Sound, *, temporaries: bool) -> None:
    """What lies there is read whole, or an error of ours says what it is; a trace is read as far as it came.

    A writer that goes on then ends with the bits of a run that nothing happened to.
    """
    names = [file.name for file in folder.rglob("*") if file.is_file()]
    assert temporaries or not [name for name in names if name.endswith((".tmp", ".partial"))]
    place = folder / expected.place
    if kind.name == "trace":
        with suppress(InputError):
            assert Trace.open(place).status in ("complete", "interrupted", "failed")
            assert not [said for said in verify(place) if "written to its end" not in said]
    elif place.exists():
        with suppress(InputError):
            kind.read(place)
    if kind.name in BITS:
        kind.make(folder)
        kind.read(place)
        assert bits(kind, folder) == expected.bits and expected.bits


def strikes(total: int, *, every: bool) -> list[int]:
    return list(range(1, total + 1)) if every else sorted({1, (total + 1) // 2, total})


def run_raised(kind: Kind, fault: str, tmp_path: Path, *, every: bool) -> None:
    error, strike, all_after = RAISED[fault]
    expected = sound(kind, tmp_path / "sound")
    for at in strikes(expected.operations, every=every):
        folder = tmp_path / str(at)
        folder.mkdir()
        raised = False
        try:
            with striking(Striking(folder, at, strike, all_after)):
                kind.make(folder)
        except (error, InputError):
            raised = True
        is_whole = kind.name in BITS and bits(kind, folder) == expected.bits  # what was not written matters to nobody
        assert raised or is_whole or fault in ("exception", "interrupt"), f"nobody heard of a {fault} at operation {at}"
        check_left(kind, folder, expected, temporaries=False)


def run_ended(kind: Kind, fault: str, tmp_path: Path, *, every: bool) -> None:
    expected = sound(kind, tmp_path / "sound")
    for at in strikes(expected.operations, every=every):
        folder = tmp_path / str(at)
        folder.mkdir()
        child = os.fork()
        if not child:
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                _striking.append(Striking(folder, at, lambda: os.kill(os.getpid(), ENDED[fault])))
                kind.make(folder)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == ENDED[fault]
        check_left(kind, folder, expected, temporaries=True)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [*RAISED, *ENDED])
@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_under_a_fault(name, fault, tmp_path):
    run = run_raised if fault in RAISED else run_ended
    run(WRITERS[name], fault, tmp_path, every=name not in LONG)


@pytest.mark.parametrize("fault", ["disk full", "kill"])
@pytest.mark.parametrize("name", ["moments of ours", "denoiser and card", "sealed JSON"])
def test_a_quick_writer_under_a_fault(name, fault, tmp_path):
    (run_raised if fault in RAISED else run_ended)(WRITERS[name], fault, tmp_path, every=False)


@pytest.mark.parametrize("name", ["moments of ours", "direction", "training set", "sealed JSON"])
def test_a_file_that_was_there_is_there_until_the_new_one_is_whole(name, tmp_path):
    kind, folder = WRITERS[name], tmp_path / "a"
    total = sound(kind, folder).operations
    before = content(folder)
    for at in range(1, total + 1):
        with suppress(RuntimeError), striking(Striking(folder, at, _raising(lambda: RuntimeError("injected")))):
            kind.make(folder)
        assert content(folder) == before
