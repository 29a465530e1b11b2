"""A trace on disk: written one flushed line a step, readable after any crash.

    manifest.json              what was run; status recording, complete, incomplete, interrupted or failed
    steps.jsonl                one line a step: {"check": hash, "record": {...}}, with the shard's name and hash
    shards/00000000.safetensors  arrays of one step, in the type they were produced in
    scalars.parquet            the table, written at close; it follows from steps.jsonl

Shards are written under a temporary name, synced and renamed before their line is, several at once; lines
follow in the order of the steps, and reach the system one by
one, so a process that is killed loses none, and the disk at the end of each run. Every line is hashed together
with the id of its trace, so that lines of another trace are not taken for its own. Only JSON, safetensors and
Parquet are read; a shard's name must look like one, and nothing outside the folder is opened.
"""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.data.written_files import lock, unlock_and_close
from scorescope.probes.recording import shards
from scorescope.probes.recording.files import (
    holds_only,
    is_own_file,
    is_own_folder,
    open_own,
    sync_folder,
    write_whole,
)

FORMAT, VERSION = "scorescope-trace", 1
MANIFEST, STEPS, SHARDS, SCALARS = "manifest.json", "steps.jsonl", "shards", "scalars.parquet"

SHARD_NAME = re.compile(r"\d{8}\.safetensors")


class TraceError(InputError):
    """A trace folder that cannot be read or written."""


def text_of(value: Any) -> bytes:
    """JSON, always the same for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def check_of(identity: str, body: bytes) -> str:
    """Hash of a text together with the id of its trace."""
    return hashlib.sha256(identity.encode() + b"\0" + body).hexdigest()


def is_unbegun(path: Path) -> bool:
    """Whether there is no trace yet: no folder, an empty one, or what a crash leaves before there is a manifest."""
    return not os.path.lexists(path) or (path.is_dir() and holds_only(path, SHARDS, MANIFEST + ".partial"))


class Writer:
    """Appends to a trace folder; made by `create` or `resuming.reopen`."""

    def __init__(self, path: Path, manifest: dict[str, Any], file: int, *, lines: int, shards: int) -> None:
        self.path, self.manifest = path, manifest
        self._file, self._lines, self._shards = file, lines, shards

    @classmethod
    def create(cls, path: Path, manifest: Mapping[str, Any]) -> "Writer":
        """Start a new trace in a new or empty folder, or one where a crash left no more than empty names."""
        if not is_unbegun(path):
            raise TraceError(
                "path",
                found=f"{path}, which is there already",
                expected="a new or empty folder, resume=True to go on with a trace, or overwrite=True to replace it",
            )
        try:
            (path / SHARDS).mkdir(parents=True, exist_ok=True)
            _check_shards(path)
            whole = {"format": FORMAT, "version": VERSION, "id": uuid.uuid4().hex, "status": "recording", **manifest}
            write_manifest(path, whole)
            sync_folder(path.resolve().parent)
        except OSError as error:
            raise _cannot_write(path, error) from error
        writer = cls(path, whole, take_steps(path), lines=0, shards=0)
        sync_folder(path)
        return writer

    @classmethod
    def reopen(
        cls, path: Path, manifest: Mapping[str, Any], file: int, *, lines: Sequence[Mapping[str, Any]], length: int
    ) -> "Writer":
        """Continue a trace after its sound lines and their bytes; a torn last line goes, and what else a kill left:
        temporary files, and shards that no line tells of.

        Parameters
        ----------
        path : Path
            The folder.
        manifest : mapping
            As it was read.
        file : int
            From `take_steps`, before the lines were read.
        lines : sequence of mapping
            The sound step lines.
        length : int
            Their bytes.
        """
        closing = ("lines", "steps_sha256", "scalars_sha256", "error")
        kept = {name: value for name, value in manifest.items() if name not in closing} | {"status": "recording"}
        _check_shards(path)
        try:
            os.ftruncate(file, length)
            (path / SCALARS).unlink(missing_ok=True)
            write_manifest(path, kept)
            _remove_left_over(path, {line["shard"] for line in lines if "shard" in line})
            used = [int(p.name[:8]) for p in (path / SHARDS).iterdir() if SHARD_NAME.fullmatch(p.name)]
        except OSError as error:
            raise _cannot_write(path, error) from error
        return cls(path, kept, file, lines=len(lines), shards=max(used, default=-1) + 1)

    def reserve(self) -> str:
        """The name of the next shard."""
        name = f"{self._shards:08d}.safetensors"
        self._shards += 1
        return name

    def shard(self, name: str, arrays: Mapping[str, Tensor]) -> dict[str, Any]:
        """Write a shard of a reserved name; what its line has to say of it. Shards may be written side by side."""
        try:
            digest, size = shards.write(self.path / SHARDS / name, arrays)
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        return {"shard": name, "shard_sha256": digest, "shard_bytes": size}

    def append(self, record: Mapping[str, Any]) -> None:
        """Append the line of a step; in order, and after its shard."""
        try:
            self._append(record)
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def line(self, record: Mapping[str, Any]) -> None:
        """Append one line, flush it, and sync what was written so far."""
        try:
            self._append(record)
            self._sync()
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def _append(self, record: Mapping[str, Any]) -> None:
        body = text_of({**record, "line": self._lines})
        check = check_of(self.manifest["id"], body)
        data = b'{"check":"' + check.encode() + b'","record":' + body + b"}\n"
        written = os.write(self._file, data)
        if written != len(data):  # a full disk: take the half line back
            os.ftruncate(self._file, os.fstat(self._file).st_size - written)
            raise OSError(28, "no space left for a step line")
        self._lines += 1

    def _sync(self) -> None:
        """Bring the lines to the disk, after the names of the shards that they tell of."""
        sync_folder(self.path / SHARDS)
        os.fsync(self._file)

    def close(self, status: str, table: pd.DataFrame, **more: Any) -> None:
        """Write the table and the final manifest."""
        try:
            self._sync()  # before the manifest says what is in it
            self.abandon()
            scalars = table.to_parquet(None, index=False)
            write_whole(self.path / SCALARS, scalars)
            closing = {
                "status": status,
                "lines": self._lines,
                "steps_sha256": hashlib.sha256((self.path / STEPS).read_bytes()).hexdigest(),
                "scalars_sha256": hashlib.sha256(scalars).hexdigest(),
            }
            self.manifest = self.manifest | closing | more
            write_manifest(self.path, self.manifest)
            sync_folder(self.path)
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def abandon(self) -> None:
        """Close without a final manifest, as a crash would leave it."""
        if self._file >= 0:
            unlock_and_close(self._file)
            self._file = -1


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write `manifest.json` with a hash of itself."""
    body = {key: value for key, value in manifest.items() if key != "check"}
    check = check_of(str(body["id"]), text_of(body))
    write_whole(path / MANIFEST, json.dumps({**body, "check": check}, indent=1, sort_keys=True).encode())


def take_steps(path: Path) -> int:
    """The steps file, to append to, for this process alone; a descriptor.

    Raises
    ------
    TraceError
        Where somebody writes to this trace, or the file is a link out of it.
    """
    try:
        file = open_own(path / STEPS)
    except OSError as error:
        raise _cannot_write(path, error) from error
    if not lock(file):
        os.close(file)
        raise TraceError(str(path), found="another recording that writes to it", expected="one at a time")
    return file


def remove_trace(path: Path) -> None:
    """Remove a trace, its manifest last, and leave the folder; nothing that is not a trace's goes.

    Raises
    ------
    TraceError
        For a folder that holds anything else, or a trace that is being written.
    """
    if not path.is_dir():
        raise TraceError("path", found=f"{path}, which is no folder", expected="the folder of a trace")
    shards, files = path / SHARDS, {MANIFEST, STEPS, SCALARS}
    partial = {f"{name}.partial" for name in files}
    strange = [entry.name for entry in path.iterdir() if entry.name not in {*files, *partial, SHARDS}]
    if shards.is_symlink():
        strange.append(SHARDS)
    elif shards.is_dir():
        strange += [entry.name for entry in shards.iterdir() if not SHARD_NAME.fullmatch(_whole_name(entry))]
    if strange or not is_own_file(path / MANIFEST) or FORMAT.encode() not in _beginning(path / MANIFEST):
        found = f"{path}, which holds {', '.join(sorted(strange)[:4]) or 'no manifest of a trace'}"
        raise TraceError("path", found=found, expected="a trace to replace and nothing else, or a new folder")
    file = take_steps(path)
    try:
        entries = list(shards.iterdir()) if shards.is_dir() else []
        names = (*partial, SCALARS, STEPS, MANIFEST)
        for entry in (*entries, *(path / name for name in names)):
            entry.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        unlock_and_close(file)


def _beginning(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(2**20)


def _whole_name(file: Path) -> str:
    return file.name.removesuffix(".partial")


def _remove_left_over(path: Path, named: Collection[str]) -> None:
    """Remove what was being written when the process ended, and shards that no line tells of: nothing reads them."""
    for file in (*path.iterdir(), *(path / SHARDS).iterdir()):
        whole = _whole_name(file)
        ours = whole in (MANIFEST, SCALARS) or SHARD_NAME.fullmatch(whole)
        unnamed = SHARD_NAME.fullmatch(file.name) and file.parent.name == SHARDS and file.name not in named
        if (unnamed or (ours and file.name != whole)) and is_own_file(file):
            file.unlink()


def _check_shards(path: Path) -> None:
    if not is_own_folder(path / SHARDS):
        raise TraceError(str(path), found=f"a {SHARDS} that is a link, or no folder", expected="a folder of its own")


def _cannot_write(path: Path, error: OSError) -> TraceError:
    return TraceError(str(path), found=f"{error.strerror or error}", expected="a folder with room that can be written")
