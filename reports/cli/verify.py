"""What `scorescope verify` says of a path: whatever we wrote, of any kind, checked against its hashes."""

import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from scorescope.data.checkpoints import read_weights, sha256
from scorescope.data.errors import InputError
from scorescope.data.untrusted import parse_json, read_bytes
from scorescope.data.written_files import IntegrityWarning, check_seal, read_json
from scorescope.probes.activations import StoredActivations
from scorescope.probes.activations.stored import FORMAT as ACTIVATIONS
from scorescope.probes.approximations.storage import FORMAT as APPROXIMATION
from scorescope.probes.approximations.storage import load_approximation
from scorescope.probes.bank.comparison import FORMAT as COMPARISON
from scorescope.probes.bank.comparison import Comparison
from scorescope.probes.experiments.sweep_store import is_setting, read_setting
from scorescope.probes.features.moments import read_moments
from scorescope.probes.recording.reading import read
from scorescope.probes.recording.reading import verify as verify_trace
from scorescope.probes.recording.store import FORMAT, MANIFEST, STEPS
from scorescope.probes.sites.direction import Direction
from scorescope.probes.sparse import SparseAutoencoder
from scorescope.probes.sparse.autoencoder import FORMAT as SPARSE
from scorescope.probes.work.chunks import MADE, check

_READERS: dict[str, Callable[[Path], Any]] = {
    "setting of a sweep": read_setting,
    "training state": read_json,
    "approximation": load_approximation,
    "comparison": Comparison.load,
    "direction": Direction.load,
    "sparse autoencoder": SparseAutoencoder.load,
    "moments": read_moments,
    "weights": read_weights,
}


@dataclass(frozen=True)
class Finding:
    """What was found of one file or folder.

    Attributes
    ----------
    path : Path
        Where.
    words : str
        Its kind, and that it is sound or what is the matter.
    is_sound : bool
        Whether there is nothing wrong with it. A file without a hash counts as sound if it can be read.
    """

    path: Path
    words: str
    is_sound: bool = True


def look_at(path: Path) -> list[Finding]:
    """What is to be said of a file, a folder of ours, or everything of ours in another folder."""
    found = list(_folder(path) if path.is_dir() else _file(path))
    return found or [Finding(path, "nothing that Scorescope writes", is_sound=False)]


def _folder(path: Path) -> Iterator[Finding]:
    if (path / STEPS).is_file():
        yield from _activations(path) if _says(path / MANIFEST, ACTIVATIONS) else _trace(path)
        return
    if (path / MADE).is_file():
        yield from _chunk(path)
        return
    facts: dict[str, Any] = {}
    if (path / MANIFEST).is_file():
        try:
            facts = _quietly(read_json, path / MANIFEST)
        except InputError as error:
            yield Finding(path, f"trace or report, {error}", is_sound=False)
    if facts.get("format") == FORMAT:
        yield from _trace(path)
    elif "report" in facts and isinstance(facts.get("files"), dict):
        yield from _report(path, facts)
    else:
        for inner in sorted(path.iterdir()):
            if not inner.is_symlink():
                yield from _folder(inner) if inner.is_dir() else _file(inner)


def _says(manifest: Path, form: str) -> bool:
    """Whether a manifest names a format: what it is read as; whether it is sound its reader says."""
    try:
        facts = parse_json(read_bytes(manifest, expected="a manifest"), source=manifest, expected="a manifest")
    except InputError:
        return False
    return isinstance(facts, dict) and facts.get("format") == form


def _activations(path: Path) -> Iterator[Finding]:
    try:
        stored = StoredActivations(path)
        problems = stored.verify()
    except InputError as error:
        yield Finding(path, f"activations, {error}", is_sound=False)
        return
    yield from (Finding(path, f"activations, {problem}", is_sound=False) for problem in problems)
    if not problems:
        yield Finding(path, f"activations, sound, {'complete' if stored.is_complete else 'interrupted'}")


def _trace(path: Path) -> Iterator[Finding]:
    try:
        problems, contents = list(verify_trace(path)), read(path)
    except InputError as error:
        yield Finding(path, f"trace, {error}", is_sound=False)
        return
    yield from (Finding(path, f"trace, {problem}", is_sound=False) for problem in problems)
    if not problems:
        yield Finding(path, ", ".join(["trace", "sound", contents.status, *contents.unfinished()]))


def _chunk(path: Path) -> Iterator[Finding]:
    try:
        _quietly(check, path)
        yield Finding(path, "chunk of work, sound")
    except InputError as error:
        yield Finding(path, f"chunk of work, {error}", is_sound=False)


def _report(path: Path, facts: Mapping[str, Any]) -> Iterator[Finding]:
    bad = [path / name for name, digest in facts["files"].items() if not _has_hash(path / name, digest)]
    yield from (Finding(file, "of a report, missing or not what was written", is_sound=False) for file in bad)
    if not bad:
        yield Finding(path, f"report, sound, {facts.get('status')}")


def _quietly(read_one: Callable[[Path], Any], path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IntegrityWarning)  # it is said in the finding
        return read_one(path)


def _has_hash(file: Path, digest: str) -> bool:
    return file.is_file() and sha256(file) == digest


def _file(path: Path) -> Iterator[Finding]:
    setting = path.with_name(path.name.split(".")[0] + ".json")
    if path != setting and is_setting(setting):
        return  # said of the setting
    kind = ""
    try:
        sealed = check_seal(path)
        kind = _kind(path)
        if not kind:
            return
        _quietly(_READERS[kind], path)
    except InputError as error:
        yield Finding(path, f"{kind or 'file'}, {error}", is_sound=False)
        return
    sealed = sealed or (kind == "weights" and path.with_suffix(".json").is_file())
    unsealed = "can be read; it carries no hash, so that damage to its numbers cannot be told"
    yield Finding(path, f"{kind}, {'sound' if sealed else unsealed}")


def _kind(path: Path) -> str:
    """By what is in it; empty for what is not ours."""
    if path.suffix == ".json":
        return "setting of a sweep" if is_setting(path) else "training state" if path.name == "state.json" else ""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return "moments" if {"mu.npy", "sigma.npy"} <= set(archive.namelist()) else ""
    try:
        with safe_open(path, framework="pt") as file:
            metadata, names = file.metadata() or {}, set(file.keys())
    except (SafetensorError, OSError) as error:
        if path.suffix != ".safetensors":
            return ""
        raise InputError(str(path), found=f"a damaged file ({error})", expected="a safetensors file") from None
    if "site" in metadata and "vector" in names:
        return "direction"
    kind = metadata.get("format", "")
    kinds = {APPROXIMATION: "approximation", COMPARISON: "comparison", SPARSE: "sparse autoencoder"}
    return kinds.get(kind, "weights" if kind.startswith("scorescope") else "")
