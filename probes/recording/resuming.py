"""Going on with a trace that is there: it has to be sound, of the same thing, and nobody else's."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scorescope.data.written_files import unlock_and_close
from scorescope.probes.recording.reading import CLOSED, Contents, read, read_manifest
from scorescope.probes.recording.store import TraceError, Writer, take_steps, text_of


def reopen(path: Path, manifest: Mapping[str, Any] | None = None) -> tuple[Writer, Contents]:
    """Continue a trace: what was flushed stays.

    Parameters
    ----------
    path : Path
        The folder.
    manifest : mapping, optional
        What is going to be recorded, which has to be what the trace says.

    Raises
    ------
    TraceError
        For a damaged trace, one that is being written, or one of something else.
    """
    stored = read_manifest(path)
    if manifest is not None:
        _check_same(path, stored, manifest)
    if stored["status"] in CLOSED:
        _undamaged(path)  # before a steps file is made that was not there
    file = take_steps(path)
    try:
        contents = _undamaged(path)  # by whoever had it until now
        lines, length = contents.lines, contents.valid_bytes
        return Writer.reopen(path, contents.manifest, file, lines=lines, length=length), contents
    except BaseException:
        unlock_and_close(file)
        raise


def _undamaged(path: Path) -> Contents:
    contents = read(path)
    if contents.damaged:
        raise TraceError(str(path), found=contents.problems[0], expected="an undamaged trace to continue")
    return contents


def _check_same(path: Path, stored: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    """Refuse to continue a trace with something else than it is of."""
    before, now = _identity(stored), _identity(json.loads(text_of(manifest)))
    for name, value in now.items():
        if before[name] != value:
            expected = f"{json.dumps(before[name])}, as in the trace that is to be continued"
            raise TraceError(f"{path}, {name}", found=json.dumps(value), expected=expected)


def _identity(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What has to stay the same while a trace grows; a budget, noise levels and versions need not."""
    schedulers = manifest.get("schedulers") or {}
    return {
        "pipeline": manifest.get("pipeline"),
        "modules": manifest.get("modules"),
        "schedulers": {name: part.get("class") for name, part in schedulers.items()},
        "sites": manifest.get("sites"),
        "outputs_asked": manifest.get("outputs_asked"),
        "recording": {k: v for k, v in (manifest.get("recording") or {}).items() if k != "budget"},
    }
