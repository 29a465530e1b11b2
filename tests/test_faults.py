"""Every writer under every fault: what lies at its place afterwards is whole or as it was, or is said to be damaged.

Faults strike at the n-th file operation of a writer, counted by an audit hook, so that no writer has to be patched.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scorescope.data.errors import InputError
from scorescope.data.written_files import read_json, write_json
from scorescope.probes import Trace
from scorescope.probes.recording.reading import verify
from scorescope.reports.page import Section, write_report
from tests.fuzz.kinds import KINDS, Kind


def _json(folder: Path) -> Path:
    write_json(folder / "status.json", {"done": list(range(100))})
    return folder / "status.json"


def _report(folder: Path) -> Path:
    sections = [("part", "A part", lambda study: Section(text="Text."))]
    write_report(folder, sections, None, name="r", title="T", question="Q?", command="c", manifest={})
    return folder


WRITTEN = (
    "moments of ours", "direction", "Gaussian", "mixture", "training set", "denoiser and card", "classifier and card",
    "scorer and card", "trace", "sweep, read alone",
)  # fmt: skip
WRITERS = {kind.name: kind for kind in KINDS if kind.name in WRITTEN} | {
    "sealed JSON": Kind("sealed JSON", _json, read_json),
    "report": Kind("report", _report, lambda path: read_json(path / "manifest.json")),
}


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


def operations(kind: Kind, folder: Path) -> int:
    """How many operations a writer does."""
    folder.mkdir()
    with striking(Striking(folder, 0, lambda: None)) as counted:
        kind.make(folder)
    return counted.seen


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def check_left(kind: Kind, folder: Path, *, temporaries: bool) -> None:
    """What lies there is read whole, or an error of ours says what it is; a trace is read as far as it came."""
    names = [file.name for file in folder.rglob("*") if file.is_file()]
    assert temporaries or not [name for name in names if name.endswith((".tmp", ".partial"))]
    for place in [folder / "t"] if kind.name == "trace" else _places(kind, folder):
        if kind.name == "trace":
            with suppress(InputError):
                assert Trace.open(place).status in ("complete", "interrupted", "failed")
                assert not [said for said in verify(place) if "written to its end" not in said]
        else:
            with suppress(InputError, FileNotFoundError):
                kind.read(place)


def _places(kind: Kind, folder: Path) -> list[Path]:
    if kind.name in ("sweep, read alone", "report"):
        return [folder]
    return [
        file for file in folder.iterdir() if file.suffix in (".npz", ".safetensors", ".json") and not _is_card(file)
    ]


def _is_card(file: Path) -> bool:
    return file.suffix == ".json" and file.with_suffix(".safetensors").exists()


def strikes(total: int, *, every: bool) -> list[int]:
    return list(range(1, total + 1)) if every else sorted({1, (total + 1) // 2, total})


def run_raised(kind: Kind, fault: str, tmp_path: Path, *, every: bool) -> None:
    error, strike, all_after = RAISED[fault]
    for at in strikes(operations(kind, tmp_path / "sound"), every=every):
        folder = tmp_path / str(at)
        folder.mkdir()
        raised = False
        try:
            with striking(Striking(folder, at, strike, all_after)):
                kind.make(folder)
        except (error, InputError):
            raised = True
        assert raised or fault in ("exception", "interrupt"), f"nobody heard of a {fault} at operation {at}"
        check_left(kind, folder, temporaries=False)


def run_ended(kind: Kind, fault: str, tmp_path: Path, *, every: bool) -> None:
    for at in strikes(operations(kind, tmp_path / "sound"), every=every):
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
        check_left(kind, folder, temporaries=True)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [*RAISED, *ENDED])
@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_under_a_fault(name, fault, tmp_path):
    run = run_raised if fault in RAISED else run_ended
    run(WRITERS[name], fault, tmp_path, every=name not in ("trace", "report", "sweep, read alone"))


@pytest.mark.parametrize("fault", ["disk full", "kill"])
@pytest.mark.parametrize("name", ["moments of ours", "denoiser and card", "sealed JSON"])
def test_a_quick_writer_under_a_fault(name, fault, tmp_path):
    (run_raised if fault in RAISED else run_ended)(WRITERS[name], fault, tmp_path, every=False)


@pytest.mark.parametrize("name", ["moments of ours", "direction", "training set", "sealed JSON"])
def test_a_file_that_was_there_is_there_until_the_new_one_is_whole(name, tmp_path):
    kind, folder = WRITERS[name], tmp_path / "a"
    total = operations(kind, folder)
    before = content(folder)
    for at in range(1, total + 1):
        with suppress(RuntimeError), striking(Striking(folder, at, _raising(lambda: RuntimeError("injected")))):
            kind.make(folder)
        assert content(folder) == before
