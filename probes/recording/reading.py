"""Reading a trace folder: nothing that fails its hash is taken for data, and nothing outside it is opened."""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import SafetensorError, safe_open
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.data.untrusted import only_input_errors, read_parquet
from scorescope.probes.recording.fields import wrong_in_line, wrong_in_manifest
from scorescope.probes.recording.store import (
    FORMAT,
    MANIFEST,
    SCALARS,
    SHARD_NAME,
    SHARDS,
    STEPS,
    VERSION,
    TraceError,
    check_of,
    text_of,
)

CLOSED = ("complete", "incomplete", "interrupted", "failed")

_LINE = re.compile(rb'\{"check":"([0-9a-f]{64})","record":(.*)\}\n', re.DOTALL)
_MANIFEST_BYTES = 64 * 2**20


@displayed
@dataclass
class Contents:
    """What could be read of a trace folder.

    Attributes
    ----------
    path : Path
        The folder.
    manifest : dict
        Its manifest.
    lines : list of dict
        Records of the lines that pass their hash, up to the first that does not.
    problems : list of str
        What is wrong; empty for a sound trace.
    torn : bool
        The last line was not written to its end (a crash).
    damaged : bool
        Something else than a torn last line is wrong.
    valid_bytes : int
        Length of the sound part of the step lines.
    """

    path: Path
    manifest: dict[str, Any]
    lines: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    torn: bool = False
    damaged: bool = False
    valid_bytes: int = 0

    @property
    def status(self) -> str:
        """complete, incomplete (a run was cut off, its error caught), interrupted, failed, or damaged."""
        if self.damaged:
            return "damaged"
        status = str(self.manifest["status"])
        return status if status in CLOSED else "interrupted"

    def events(self) -> list[dict[str, Any]]:
        """The steps that count: of each run, those of its latest attempt; run by run, also where one was made later."""
        steps = [line for line in self.lines if line["kind"] == "step"]
        latest: dict[int, int] = {}
        for line in self.lines:
            if "run" in line:
                latest[line["run"]] = max(latest.get(line["run"], 0), line["attempt"])
        found = [step for step in steps if step["attempt"] == latest[step["run"]]]
        return sorted(found, key=lambda step: int(step["run"]))

    def unfinished(self) -> list[str]:
        """Runs that did not come to their end, in words."""
        steps = Counter(step["run"] for step in self.events())
        ends = self.finished_runs()
        return [f"run {run} unfinished after {n} steps" for run, n in sorted(steps.items()) if run not in ends]

    def finished_runs(self) -> dict[int, dict[str, Any]]:
        """Runs that came to their end, with the line that says so."""
        return {line["run"]: line for line in self.lines if line["kind"] == "end"}


def read(path: Path, *, form: str = FORMAT, wrong: Callable[[Any], str] = wrong_in_line) -> Contents:
    """Read manifest and step lines.

    Parameters
    ----------
    path : Path
        The folder.
    form : str
        What it is a folder of: traces are not the only ones that are written line by line.
    wrong : callable
        What is wrong with the fields of a line, empty for nothing.

    Raises
    ------
    TraceError
        Where there is no manifest of ours that passes its hash.
    """
    contents = Contents(path, read_manifest(path, form=form))
    steps = path / STEPS
    if not _inside(path, steps) or not steps.is_file():
        there = os.path.lexists(steps)
        contents.damaged = there or contents.manifest["status"] in CLOSED
        contents.problems.append(f"{STEPS} is {'not a file of the folder' if there else 'missing'}")
        return contents
    data = steps.read_bytes()
    _read_lines(contents, data, wrong)
    _compare_with_manifest(contents, data)
    return contents


def read_manifest(path: Path, *, form: str = FORMAT) -> dict[str, Any]:
    """The manifest alone; raises as `read` does."""
    file = path / MANIFEST
    what = "a trace" if form == FORMAT else form.removeprefix("scorescope-")
    expected = f"the manifest of {what} that Scorescope wrote"
    if not path.is_dir() or not file.is_file() or not _inside(path, file):
        raise TraceError(
            str(path), found=f"no {MANIFEST}", expected="a trace folder" if form == FORMAT else f"a folder of {what}"
        )
    if file.stat().st_size > _MANIFEST_BYTES:
        raise TraceError(str(file), found="a file too large for a manifest", expected=expected)
    try:
        manifest = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise TraceError(str(file), found=f"no readable JSON ({error})", expected=expected) from error
    if not isinstance(manifest, dict) or manifest.get("format") != form:
        raise TraceError(str(file), found="a foreign file", expected=expected)
    if manifest.get("version") != VERSION:
        raise TraceError(str(file), found=f"version {manifest.get('version')}", expected=f"version {VERSION}")
    body = {key: value for key, value in manifest.items() if key != "check"}
    if manifest.get("check") != check_of(str(body.get("id")), text_of(body)):
        raise TraceError(str(file), found="content that does not match its hash", expected=expected)
    if wrong := wrong_in_manifest(manifest, closed=manifest.get("status") in CLOSED):
        raise TraceError(str(file), found=f"no {wrong} of the right type", expected=expected)
    return manifest


def _read_lines(contents: Contents, data: bytes, wrong_in: Callable[[Any], str]) -> None:
    identity = str(contents.manifest["id"])
    for number, line in enumerate(data.splitlines(keepends=True)):
        record, wrong = _read_line(identity, line, number, wrong_in)
        if wrong:
            last = contents.valid_bytes + len(line) == len(data)
            contents.torn = last and not line.endswith(b"\n")
            contents.damaged = not contents.torn
            wrong = "was not written to its end" if contents.torn else f"{wrong}; later steps are left out"
            contents.problems.append(f"{STEPS} line {number + 1} {wrong}")
            return
        contents.lines.append(record)
        contents.valid_bytes += len(line)


def _read_line(identity: str, line: bytes, number: int, wrong_in: Callable[[Any], str]) -> tuple[dict[str, Any], str]:
    """A record, or what is wrong with it."""
    match = _LINE.fullmatch(line)
    if match is None or match[1].decode() != check_of(identity, match[2]):
        return {}, "does not match its hash"
    try:
        record = json.loads(match[2])
    except (ValueError, RecursionError):
        return {}, "is no readable JSON"
    if wrong := wrong_in(record):
        return {}, f"has no {wrong} of the right type"
    return record, "" if record["line"] == number else "is not in its place"


def _compare_with_manifest(contents: Contents, data: bytes) -> None:
    manifest = contents.manifest
    if manifest["status"] not in CLOSED:
        return
    if len(contents.lines) != manifest["lines"] or hashlib.sha256(data).hexdigest() != manifest["steps_sha256"]:
        contents.damaged, contents.torn = True, False
        contents.problems.append(
            f"{STEPS} has {len(contents.lines)} sound lines; the manifest says {manifest['lines']}"
        )


def _inside(folder: Path, file: Path) -> bool:
    """Whether a file is really in the folder: no links out of it."""
    return file.resolve().parent in (folder.resolve(), (folder / SHARDS).resolve()) and not file.is_symlink()


class ShardReader:
    """Opens shards of one trace; each is checked against its hash once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._checked: set[str] = set()

    def load(self, record: Mapping[str, Any], name: str) -> Tensor:
        """One array of one step.

        Raises
        ------
        TraceError
            For a shard that is missing, of a wrong name, or does not pass its hash.
        """
        file = self.check(record)
        try:
            with safe_open(file, framework="pt") as shard:
                tensor: Tensor = shard.get_tensor(name)
                return tensor
        except (SafetensorError, OSError) as error:
            raise TraceError(str(file), found=str(error), expected=f"a shard with the array {name}") from error

    def check(self, record: Mapping[str, Any]) -> Path:
        """The file of a step's shard, after its hash was checked."""
        name = record.get("shard")
        if not isinstance(name, str) or not SHARD_NAME.fullmatch(name):
            raise TraceError("shard", found=repr(name), expected="a name like 00000000.safetensors")
        file = self._path / SHARDS / name
        if name in self._checked:
            return file
        if (self._path / SHARDS).is_symlink() or not file.is_file() or file.is_symlink():
            raise TraceError(str(file), found="no such file", expected="the shard that the step line names")
        if file.stat().st_size != record["shard_bytes"] or _hash_file(file) != record["shard_sha256"]:
            raise TraceError(str(file), found="content that does not match its hash", expected="an undamaged shard")
        self._checked.add(name)
        return file


def _hash_file(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_table(contents: Contents) -> pd.DataFrame | None:
    """`scalars.parquet`, where it is there and passes its hash."""
    file = contents.path / SCALARS
    expected = contents.manifest.get("scalars_sha256")
    if contents.damaged or expected is None or not file.is_file() or not _inside(contents.path, file):
        return None
    if _hash_file(file) != expected:
        contents.problems.append(f"{SCALARS} does not match its hash; the table was made again from {STEPS}")
        return None
    try:
        table = read_parquet(file, expected="the table of the steps")
        return table.sort_values("run", kind="stable", ignore_index=True)  # as events are
    except (InputError, KeyError) as error:
        contents.problems.append(f"{error}; the table was made again from {STEPS}")
        return None


def verify(path: Path) -> Iterator[str]:
    """Every problem of a trace, one sentence each; nothing for a sound one."""
    contents = read(path)
    yield from contents.problems
    before = len(contents.problems)
    table = read_table(contents)
    yield from contents.problems[before:]
    closed = contents.manifest["status"] in CLOSED and not contents.damaged
    if table is None and closed and len(contents.problems) == before:
        yield f"{SCALARS} is missing"
    shards = ShardReader(path)
    for record in contents.lines:
        if record.get("shard") is not None:
            try:
                shards.check(record)
            except TraceError as error:
                yield str(error)


def making_sense(path: Path) -> AbstractContextManager[None]:
    """Around what is made of a trace's lines: a good hash says who wrote one, not that it fits the others."""
    expected = "a trace whose steps make sense together"
    return only_input_errors(path, expected=expected, found="steps that do not")
