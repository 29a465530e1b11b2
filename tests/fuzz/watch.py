"""What reading a file does beside reading it: programs started, code of pickles, files written, time, memory."""

import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 60  # of the clock: machines that test are busy
FORBIDDEN = (
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class", "socket.connect",
)  # fmt: skip
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "os.symlink", "shutil.rmtree")
_watched: list[tuple[Path, list[str]]] = []  # an audit hook cannot be taken off: it looks here


class TooLong(BaseException):
    """Reading took more than `SECONDS`; no `Exception`, so that no reader takes it for damage."""


def peak_memory() -> int:
    """Largest memory of this process so far, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextmanager
def watching(folder: Path) -> Iterator[list[str]]:
    """The list fills with what was done outside `folder`, or should not be done at all."""
    found: list[str] = []

    def too_long(_number: int, _frame: Any) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    _watched.append((folder, found))
    try:
        yield found
    finally:
        _watched.pop()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watched:
        return
    folder, found = _watched[-1]
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if event in FORBIDDEN:
        found.append(f"{event} {arguments[:2]}")
    elif (writes or event in CHANGES) and not _inside(folder, arguments[0]):
        found.append(f"{event} {arguments[0]!r}")


def _inside(folder: Path, path: Any) -> bool:
    """Whether a path is in a folder; a number is a file that is open already."""
    return not isinstance(path, str | bytes | Path) or os.fsdecode(path).startswith(str(folder))


sys.addaudithook(_audit)
