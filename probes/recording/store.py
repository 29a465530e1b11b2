"""A trace on disk: written one flushed line a step, readable after any crash.

    manifest.json              what was run; status recording, complete, interrupted or failed
    steps.jsonl                one line a step: {"check": hash, "record": {...}}, with the shard's name and hash
    shards/00000000.safetensors  arrays of one step, in the type they were produced in
    scalars.parquet            the table, written at close; it follows from steps.jsonl

Shards are written under a temporary name, synced and renamed before their line is. Every line is hashed together
with the id of its trace, so that lines of another trace are not taken for its own. Only JSON, safetensors and
Parquet are read; a shard's name must look like one, and nothing outside the folder is opened.
"""

import hashlib
import json
import os
import re
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from scorescope.data.errors import InputError

FORMAT, VERSION = "scorescope-trace", 1
MANIFEST, STEPS, SHARDS, SCALARS = "manifest.json", "steps.jsonl", "shards", "scalars.parquet"
CLOSED = ("complete", "interrupted", "failed")

_SHARD = re.compile(r"\d{8}\.safetensors")
_LINE = re.compile(rb'\{"check":"([0-9a-f]{64})","record":(.*)\}\n', re.DOTALL)
_MANIFEST_BYTES = 64 * 2**20


class TraceError(InputError):
    """A trace folder that cannot be read or written."""


def _text(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _check_of(identity: str, body: bytes) -> str:
    return hashlib.sha256(identity.encode() + b"\0" + body).hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, sync it, and rename it."""
    partial = path.with_name(path.name + ".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(partial, path)


class Writer:
    """Appends to a trace folder; made by `create` or `reopen`."""

    def __init__(self, path: Path, manifest: dict[str, Any], lines: int, shards: int) -> None:
        self.path, self.manifest = path, manifest
        self._lines, self._shards = lines, shards
        self._file = open(path / STEPS, "ab", buffering=0)  # noqa: SIM115 (kept open until close)

    @classmethod
    def create(cls, path: Path, manifest: Mapping[str, Any]) -> "Writer":
        """Start a new trace in a new or empty folder."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise TraceError(
                "path", found=f"{path}, which is there already", expected="a new or empty folder, or resume=True"
            )
        try:
            (path / SHARDS).mkdir(parents=True, exist_ok=True)
            whole = {"format": FORMAT, "version": VERSION, "id": uuid.uuid4().hex, "status": "recording", **manifest}
            write_manifest(path, whole)
            return cls(path, whole, 0, 0)
        except OSError as error:
            raise _cannot_write(path, error) from error

    @classmethod
    def reopen(cls, path: Path) -> "tuple[Writer, Contents]":
        """Continue a trace: what was flushed stays, a torn last line goes."""
        contents = read(path)
        if contents.problems and contents.damaged:
            raise TraceError(str(path), found=contents.problems[0], expected="an undamaged trace to continue")
        try:
            if contents.torn:
                os.truncate(path / STEPS, contents.valid_bytes)
            (path / SCALARS).unlink(missing_ok=True)
            manifest = {
                k: v
                for k, v in contents.manifest.items()
                if k not in ("lines", "steps_sha256", "scalars_sha256", "error")
            }
            manifest["status"] = "recording"
            write_manifest(path, manifest)
            used = [int(p.name[:8]) for p in (path / SHARDS).iterdir() if _SHARD.fullmatch(p.name)]
            return cls(path, manifest, len(contents.lines), max(used, default=-1) + 1), contents
        except OSError as error:
            raise _cannot_write(path, error) from error

    def step(self, record: dict[str, Any], arrays: Mapping[str, Tensor]) -> None:
        """Write one step: its shard, then its line."""
        try:
            if arrays:
                record |= self._shard(arrays)
            self._append(record)
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def _shard(self, arrays: Mapping[str, Tensor]) -> dict[str, Any]:
        name = f"{self._shards:08d}.safetensors"
        self._shards += 1
        data = save({key: tensor.contiguous() for key, tensor in arrays.items()})
        digest: list[str] = []
        hashing = threading.Thread(target=lambda: digest.append(hashlib.sha256(data).hexdigest()))
        hashing.start()  # hashing releases the interpreter and runs beside the write
        try:
            write_whole(self.path / SHARDS / name, data)
        finally:
            hashing.join()
        return {"shard": name, "shard_sha256": digest[0], "shard_bytes": len(data)}

    def line(self, record: Mapping[str, Any]) -> None:
        """Append one line and flush it."""
        try:
            self._append(record)
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def _append(self, record: Mapping[str, Any]) -> None:
        body = _text({**record, "line": self._lines})
        check = _check_of(self.manifest["id"], body)
        data = b'{"check":"' + check.encode() + b'","record":' + body + b"}\n"
        written = os.write(self._file.fileno(), data)
        if written != len(data):  # a full disk: take the half line back
            os.truncate(self.path / STEPS, os.fstat(self._file.fileno()).st_size - written)
            raise OSError(28, "no space left for a step line")
        os.fsync(self._file.fileno())
        self._lines += 1

    def close(self, status: str, table: pd.DataFrame, **more: Any) -> None:
        """Write the table and the final manifest."""
        self._file.close()
        try:
            digest = hashlib.sha256((self.path / STEPS).read_bytes()).hexdigest()
            partial = self.path / (SCALARS + ".partial")
            table.to_parquet(partial, index=False)
            os.replace(partial, self.path / SCALARS)
            closing = {
                "status": status,
                "lines": self._lines,
                "steps_sha256": digest,
                "scalars_sha256": hashlib.sha256((self.path / SCALARS).read_bytes()).hexdigest(),
            }
            self.manifest = self.manifest | closing | more
            write_manifest(self.path, self.manifest)
        except OSError as error:
            raise _cannot_write(self.path, error) from error

    def abandon(self) -> None:
        """Close without a final manifest, as a crash would leave it."""
        self._file.close()


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write `manifest.json` with a hash of itself."""
    body = {key: value for key, value in manifest.items() if key != "check"}
    check = _check_of(str(body["id"]), _text(body))
    write_whole(path / MANIFEST, json.dumps({**body, "check": check}, indent=1, sort_keys=True).encode())


def _cannot_write(path: Path, error: OSError) -> TraceError:
    return TraceError(str(path), found=f"{error.strerror or error}", expected="a folder with room that can be written")


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
        """complete, interrupted, failed, or damaged."""
        if self.damaged:
            return "damaged"
        status = str(self.manifest["status"])
        return status if status in CLOSED else "interrupted"

    def events(self) -> list[dict[str, Any]]:
        """The steps that count: of each run, those of its latest attempt."""
        steps = [line for line in self.lines if line["kind"] == "step"]
        latest: dict[int, int] = {}
        for line in self.lines:
            if "run" in line:
                latest[line["run"]] = max(latest.get(line["run"], 0), line["attempt"])
        return [step for step in steps if step["attempt"] == latest[step["run"]]]

    def finished_runs(self) -> dict[int, dict[str, Any]]:
        """Runs that came to their end, with the line that says so."""
        return {line["run"]: line for line in self.lines if line["kind"] == "end"}


def read(path: Path) -> Contents:
    """Read manifest and step lines.

    Raises
    ------
    TraceError
        Where there is no manifest of ours that passes its hash.
    """
    contents = Contents(path, _read_manifest(path))
    steps = path / STEPS
    if not _inside(path, steps) or not steps.is_file():
        contents.damaged = contents.manifest["status"] in CLOSED
        contents.problems.append(f"{STEPS} is missing")
        return contents
    data = steps.read_bytes()
    _read_lines(contents, data)
    _compare_with_manifest(contents, data)
    return contents


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    expected = "the manifest of a trace that Scorescope wrote"
    if not path.is_dir() or not file.is_file() or not _inside(path, file):
        raise TraceError(str(path), found=f"no {MANIFEST}", expected="a trace folder")
    if file.stat().st_size > _MANIFEST_BYTES:
        raise TraceError(str(file), found="a file too large for a manifest", expected=expected)
    try:
        manifest = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise TraceError(str(file), found=f"no readable JSON ({error})", expected=expected) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise TraceError(str(file), found="a foreign file", expected=expected)
    if manifest.get("version") != VERSION:
        raise TraceError(str(file), found=f"version {manifest.get('version')}", expected=f"version {VERSION}")
    body = {key: value for key, value in manifest.items() if key != "check"}
    if manifest.get("check") != _check_of(str(body.get("id")), _text(body)):
        raise TraceError(str(file), found="content that does not match its hash", expected=expected)
    return manifest


def _read_lines(contents: Contents, data: bytes) -> None:
    identity = str(contents.manifest["id"])
    for number, line in enumerate(data.splitlines(keepends=True)):
        match = _LINE.fullmatch(line)
        sound = match is not None and match[1].decode() == _check_of(identity, match[2])
        record = json.loads(match[2]) if match is not None and sound else None
        if record is None or record.get("line") != number:
            last = contents.valid_bytes + len(line) == len(data)
            contents.torn = last and not line.endswith(b"\n")
            contents.damaged = not contents.torn
            what = (
                "was not written to its end" if contents.torn else "does not match its hash; later steps are left out"
            )
            contents.problems.append(f"{STEPS} line {number + 1} {what}")
            return
        contents.lines.append(record)
        contents.valid_bytes += len(line)


def _compare_with_manifest(contents: Contents, data: bytes) -> None:
    manifest = contents.manifest
    if manifest["status"] not in CLOSED or "lines" not in manifest:
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
        if not isinstance(name, str) or not _SHARD.fullmatch(name):
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
    return pd.read_parquet(file)


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


def torch_dtype(name: str) -> torch.dtype:
    """A torch type by its name."""
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise TraceError("dtype", found=repr(name), expected="the name of a torch type")
    return found
