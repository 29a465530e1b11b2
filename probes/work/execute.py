"""Chunks made by whoever there is to make them, each once: here, in processes, on a cluster, by the ranks of a job.

    done = execute(chunks, "runs/a")                            # in this process
    with process_pool(8) as executor:
        done = execute(chunks, "runs/a", executor)              # goes on with what is missing
    done = execute(chunks, "runs/a", share=(rank, world))       # ranks that share nothing but the folder
    done.failed, done.missing

`status.json` in the folder has counts while it runs, `failed/` why a chunk failed.
"""

import json
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from scorescope.data.display import displayed
from scorescope.data.doors import checked, require_some
from scorescope.data.errors import InputError
from scorescope.data.untrusted import parse_json, read_text
from scorescope.data.written_files import replace_file
from scorescope.probes.work.chunks import Chunk, Told, make, missing
from scorescope.probes.work.executors import as_they_end, lost

STATUS, FAILED = "status.json", "failed"
EVERY = 2.0  # seconds between two writings of the status


@displayed
@checked
@dataclass(frozen=True)
class Done:
    """What is there after an `execute`.

    Attributes
    ----------
    folder : Path
        Holds `chunks/`.
    count : int
        Chunks of the whole work.
    made, kept : int
        Of this call's share: made now, and found complete.
    failed : mapping of str to str
        Chunks of this share that this call could not make, by name, and why. Where several work in one folder, another
        may have made one since: `missing` says what is not there.
    missing : tuple of str
        Chunks of the whole work that are not there, those of other ranks too.
    """

    folder: Path
    count: int
    made: int
    kept: int
    failed: Mapping[str, str]
    missing: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every chunk of the whole work is there."""
        return not self.missing


@checked
def execute(
    chunks: Sequence[Chunk],
    folder: str | Path,
    executor: Executor | None = None,
    *,
    share: tuple[int, int] = (0, 1),
    attempts: int = 3,
    progress: bool = True,
) -> Done:
    """Make every chunk that is not there yet.

    Parameters
    ----------
    chunks : sequence of Chunk
        The whole work.
    folder : path
        Where chunks are kept; workers see it under the same name.
    executor : Executor, optional
        Whoever makes them: anything with the interface of `concurrent.futures`, such as `process_pool(8)` or
        that of `dask_executor`. None makes them here. A chunk is computed with one thread wherever it is.
    share : (int, int)
        Rank and number of ranks: of the chunks, every so-many-th.
    attempts : int
        How often a chunk is tried whose worker is lost or which fails; an `InputError` is not tried again.
    progress : bool
        Show a progress bar, one for all.

    Returns
    -------
    Done
        A chunk that could not be made is in `failed`; the others are made all the same.

    Raises
    ------
    InputError
        For no chunks, two of one name, a rank outside its number of ranks, and a folder that cannot be written.
    """
    folder = writable(Path(folder))
    _check(chunks, share, attempts)
    own = list(chunks)[share[0] :: share[1]]
    state = _State(folder, chunks)
    calls = deque[tuple[Any, ...]]((make, chunk, str(folder), 0) for chunk in own)
    bar = tqdm(total=len(own), desc="chunks", unit="chunk", disable=not progress)
    try:
        for (_, chunk, _, tried), future in as_they_end(executor or _Here(), calls):
            told = _told(future)
            if told.error and told.again and tried + 1 < attempts:
                calls.append((make, chunk, str(folder), tried + 1))
                continue
            state.note(chunk, told)
            bar.update()
        state.write("ended")
    except BaseException:
        state.write("cut off")
        raise
    finally:
        bar.close()
    return Done(folder, len(chunks), state.made, state.kept, state.failed, tuple(missing(chunks, folder)))


@checked
def read_status(folder: str | Path) -> dict[str, Any]:
    """How far the work in a folder is: how many `chunks`, how many `complete`, names of those that `failed`, `state`.

    The state is complete, or what the process that wrote last was at: running, ended, or cut off.

    Parameters
    ----------
    folder : path
        That `execute` was given, in this process or another.

    Raises
    ------
    InputError
        Where nothing was begun.
    """
    path, expected = Path(folder) / STATUS, "the status of some work"
    found = parse_json(read_text(path, expected=expected), source=path, expected=expected)
    if not isinstance(found, dict):
        raise InputError(str(path), found=f"a {type(found).__name__}", expected=expected)
    return found


class _State:
    """What has become of the chunks so far."""

    def __init__(self, folder: Path, chunks: Sequence[Chunk]) -> None:
        self.folder, self.chunks, self.made, self.kept = folder, chunks, 0, 0
        self.failed: dict[str, str] = {}
        self._next = 0.0

    def note(self, chunk: Chunk, told: Told) -> None:
        """Take in what became of a chunk."""
        path = self.folder / FAILED / f"{chunk.name}.json"
        with suppress(OSError):  # of a full disk: it is in `failed` all the same
            if told.error:
                self.failed[chunk.name] = told.error
                path.parent.mkdir(exist_ok=True)
                _write(path, {**chunk.told, "error": told.error, "trace": told.trace})
            else:
                path.unlink(missing_ok=True)
        self.made += told.made
        self.kept += not told.made and not told.error
        if time.monotonic() >= self._next:
            self.write("running")

    def write(self, state: str) -> None:
        """Write the status, counted from what is in the folder: ranks need not know of each other."""
        began = time.monotonic()
        with suppress(OSError):
            left = missing(self.chunks, self.folder)
            failed = [name for name in left if (self.folder / FAILED / f"{name}.json").exists()]
            counts = {"chunks": len(self.chunks), "complete": len(self.chunks) - len(left), "failed": failed}
            _write(self.folder / STATUS, {**counts, "state": state if left else "complete"})
        self._next = time.monotonic() + max(EVERY, 20 * (time.monotonic() - began))


class _Here(Executor):
    """This process, at once."""

    _max_workers = 1

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*args, **kwargs))
        return future


def _told(future: Future[Told]) -> Told:
    try:
        return future.result()
    except Exception as error:  # of the executor: `make` itself raises nothing
        return Told(error=lost(error))


def _write(path: Path, value: Mapping[str, Any]) -> None:
    text = json.dumps(value, indent=1)
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def writable(folder: Path) -> Path:
    """A folder, absolute, made if it is not there; one that cannot be written raises `InputError`."""
    folder = folder.absolute()  # workers may be in other folders
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("folder", found=f"{folder} ({error.strerror})", expected="a folder to write to") from None
    if not os.access(folder, os.W_OK):
        raise InputError("folder", found=f"{folder}, which cannot be written", expected="a folder to write to")
    return folder


def _check(chunks: Sequence[Chunk], share: tuple[int, int], attempts: int) -> None:
    require_some("chunks", chunks)
    if len({chunk.name for chunk in chunks}) < len(chunks):
        raise InputError("chunks", found="the same one twice", expected="each once")
    rank, world = share
    if not 0 <= rank < world or attempts < 1:
        found = f"{rank} of {world}, {attempts} attempts"
        raise InputError("share, attempts", found=found, expected="a rank from 0, below the number of ranks; 1 or more")
