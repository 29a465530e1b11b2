"""What work is cut into: a function by its name, what it is told in plain data, and a range of seeds.

    chunks = cut("my_package.my_module:measure", {"model": "digits"}, range(50_000), size=256)
    chunks[0].name                  # "00000000-00000256-" and a hash: the same wherever it is cut

The function is called as `measure(spec, seeds, folder)`. It writes files into an empty folder, may return a few plain
values, and depends on its arguments alone; then a chunk can be made anywhere, any number of times, in any order.
This module knows nothing of models.
"""

import hashlib
import importlib
import json
import os
import shutil
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from scorescope.data.checkpoints import sha256
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.threads import threads
from scorescope.data.written_files import check_seal, read_json, write_json

Function = Callable[[Mapping[str, Any], range, Path], Mapping[str, Any] | None]

CHUNKS, MADE = "chunks", "chunk.json"
"""Folder of all chunks, and the file in each that says what it is and has the hashes of the others."""


@displayed
@checked
@dataclass(frozen=True)
class Chunk:
    """A part of some work, small enough to be made again when it is lost.

    Attributes
    ----------
    function : str
        "package.module:function", called as (spec, seeds, folder).
    spec : mapping
        What it is told beside the seeds: JSON values.
    seeds : range
        Whole numbers one after the other: seeds, or places in a list.

    Raises
    ------
    InputError
        For a name without a colon, a spec that JSON cannot hold, and a range that is empty or has gaps.
    """

    function: str
    spec: Mapping[str, Any]
    seeds: range

    def __post_init__(self) -> None:
        if not all(self.function.partition(":")):
            raise InputError("function", found=repr(self.function), expected="package.module:function")
        if not self.seeds or self.seeds.step != 1:
            raise InputError("seeds", found=str(self.seeds), expected="whole numbers one after the other, at least one")
        try:
            plain = json.loads(json.dumps(self.spec))
        except (TypeError, ValueError) as error:
            raise InputError("spec", found=str(error), expected="what JSON can hold") from None
        object.__setattr__(self, "spec", plain)

    @property
    def told(self) -> dict[str, Any]:
        """What it is, as JSON holds it."""
        return {"function": self.function, "spec": self.spec, "seeds": [self.seeds.start, self.seeds.stop]}

    @property
    def name(self) -> str:
        """Of its folder: its seeds, and a hash of what it is."""
        digest = hashlib.sha256(json.dumps(self.told, sort_keys=True).encode()).hexdigest()
        return f"{self.seeds.start:08d}-{self.seeds.stop:08d}-{digest[:16]}"


@checked
def cut(function: str, spec: Mapping[str, Any], seeds: range, *, size: int) -> list[Chunk]:
    """Chunks of so many seeds each, the last one of what is left.

    Parameters
    ----------
    function, spec, seeds
        See `Chunk`.
    size : int
        Seeds a chunk. It is part of what is computed, as a batch is: numbers made with another size can differ in
        their rounding.

    Raises
    ------
    InputError
        For a size below 1, and as `Chunk` does.
    """
    if size < 1:
        raise InputError("size", found=str(size), expected="at least 1")
    return [Chunk(function, spec, seeds[first : first + size]) for first in range(0, len(seeds), size)]


@checked
def finished(chunks: Sequence[Chunk], folder: str | Path) -> Iterator[tuple[Chunk, Path, dict[str, Any]]]:
    """Those chunks that are complete, in the order given, whoever finished first; each is checked when it is its turn.

    Parameters
    ----------
    chunks : sequence of Chunk
        What to look for.
    folder : path
        That `execute` was given.

    Yields
    ------
    chunk : Chunk
    place : Path
        The folder with its files.
    returned : dict
        What the function returned.
    """
    for chunk in chunks:
        place = Path(folder) / CHUNKS / chunk.name
        if (said := _whole(chunk, place)) is not None:
            yield chunk, place, said["returned"]


def complete(chunks: Sequence[Chunk], folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Folder of each chunk and what its function returned, in the order given; none where one is missing or damaged."""
    if missing(chunks, folder):
        return []
    found = [(place, returned) for _, place, returned in finished(chunks, folder)]
    return found if len(found) == len(chunks) else []


def forget(chunks: Sequence[Chunk], folder: Path, *results: str) -> None:
    """Take away results of other chunks: while one is missing or damaged, they cannot be of all of these."""
    if not complete(chunks, folder):
        for name in results:
            (folder / name).unlink(missing_ok=True)


def missing(chunks: Sequence[Chunk], folder: Path) -> list[str]:
    """Names of the chunks that are not there; the others are not checked."""
    try:
        there = {entry.name for entry in os.scandir(folder / CHUNKS)}
    except FileNotFoundError:
        there = set()
    return [name for name in (chunk.name for chunk in chunks) if name not in there]


@dataclass(frozen=True)
class Told:
    """What became of a chunk, as a worker tells it: errors in words, since not every error can be sent.

    Attributes
    ----------
    made : bool
        It was made now, and not there before.
    error : str
        Why it is not there; empty where it is.
    again : bool
        Whether another attempt could end otherwise.
    trace : str
        Where in the code.
    """

    made: bool = False
    error: str = ""
    again: bool = True
    trace: str = ""


def check(place: Path) -> dict[str, Any]:
    """What the folder of a chunk says of itself, after every hash was checked.

    Raises
    ------
    InputError
        Naming the file that is missing or damaged.
    """
    path = place / MADE
    said = read_json(path) if check_seal(path) else {}
    if not isinstance(said.get("files"), dict) or not isinstance(said.get("returned"), dict):
        raise InputError(str(path), found="no files or no results in it", expected="a chunk")
    for name, digest in said["files"].items():
        if not (place / name).is_file() or sha256(place / name) != digest:
            raise InputError(str(place / name), found="no file of its hash", expected="an undamaged file")
    return said


def make(chunk: Chunk, folder: str, attempt: int = 0) -> Told:
    """Make a chunk, unless it is there whole: what a worker runs.

    It is written under another name and renamed when its hashes stand beside it, so that what has its name is whole. Of
    two workers that make one at once the second finds it done. `attempt` only tells one call from another.
    """
    place = Path(folder) / CHUNKS / chunk.name
    if _whole(chunk, place) is not None:
        return Told()
    temporary = place.with_name(f".{chunk.name}.{uuid.uuid4().hex[:12]}")
    try:
        temporary.mkdir(parents=True)
        with threads(1):
            returned = _function(chunk.function)(chunk.spec, chunk.seeds, temporary)
        _seal(chunk, temporary, dict(returned or {}))
        made = _publish(chunk, temporary, place)
    except Exception as error:
        if _whole(chunk, place) is not None:  # somebody else has made it, and cleared away what was left
            return Told()
        again = not isinstance(error, InputError)
        return Told(error=f"{type(error).__name__}: {error}", again=again, trace=traceback.format_exc())
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for left in place.parent.glob(f".{chunk.name}.*"):  # of workers that were killed
        shutil.rmtree(left, ignore_errors=True)
    return Told(made=made)


def _whole(chunk: Chunk, place: Path) -> dict[str, Any] | None:
    """What a complete chunk says of itself; None where a file of it is missing or damaged, or it is another one."""
    try:
        said = check(place)
    except (InputError, OSError):
        return None
    return said if {name: said.get(name) for name in chunk.told} == chunk.told else None


def _seal(chunk: Chunk, folder: Path, returned: dict[str, Any]) -> None:
    files = {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    versions = {name: metadata.version(name) for name in ("scorescope", "torch")}
    write_json(folder / MADE, {**chunk.told, "returned": returned, "files": files, "versions": versions})


def _publish(chunk: Chunk, temporary: Path, place: Path) -> bool:
    """Give a whole chunk its name; False where somebody else was first."""
    try:
        temporary.rename(place)
    except OSError:  # there is one
        if _whole(chunk, place) is not None:
            return False
        with suppress(FileNotFoundError):  # a damaged one, which goes with what is left of others
            place.rename(place.with_name(f".{chunk.name}.{uuid.uuid4().hex[:12]}"))
        temporary.rename(place)
    return True


def _function(name: str) -> Function:
    module, _, attribute = name.partition(":")
    try:
        found: Function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError("function", found=f"{name!r} ({error})", expected="package.module:function") from None
    return found
