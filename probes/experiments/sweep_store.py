"""The folder of a sweep: four files a finished setting, with their hashes in the one that is written last.

store = SweepStore(Path("runs/sweep"), digest)      # of what all settings have in common
store.write("APG, w = 4", rule, run, {"weight": 4.0})
store.read("APG, w = 4", rule)                      # the run; None where there is none
"""

import hashlib
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from scorescope.data.checkpoints import sha256
from scorescope.data.errors import InputError
from scorescope.data.untrusted import only_input_errors, read_parquet, read_tensors
from scorescope.data.written_files import IntegrityWarning, read_json, replace_file, write_json
from scorescope.probes.recording.trace import Trace
from scorescope.probes.sampling.sample import Run

WORK = "work.json"
"""Beside the settings, where they are made in chunks: what work they are of, before any is finished."""
PARTS = ("safetensors", "scalars.parquet", "samples.parquet")


class SweepStore:
    """Finished settings of one sweep.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    fixed : str
        A digest of what all settings have in common.
    work : str
        The same without seeds and conditions, for settings that are made in chunks; empty for others.
    """

    def __init__(self, folder: Path, fixed: str, work: str = "") -> None:
        self.folder, self.fixed, self.work = folder, fixed, work
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, name: str, rule: str) -> Run | None:
        """The finished run of a setting, or None, also where its files are damaged, which a warning says."""
        path = self._path(name).with_suffix(".json")
        if not path.exists():
            return None
        try:
            said = read_setting(path)
            if (said["fixed"], said["rule"]) == (self.fixed, rule):
                return read_parts(path, said["manifest"])
        except InputError as error:
            warnings.warn(f"{name!r} is made again: {error}", IntegrityWarning, stacklevel=3)
            return None
        raise self._another(name)

    def write(self, name: str, rule: str, run: Run, swept: Mapping[str, float | str]) -> None:
        """Write a finished run."""
        path = self._path(name)
        assert run.trace is not None  # sweep always records
        path.with_suffix(".json").unlink(missing_ok=True)  # of a damaged one, whose files are replaced one by one
        write_parts(path, run)
        files = {part: sha256(path.with_suffix(f".{part}")) for part in PARTS}
        said = {
            "name": name, "swept": dict(swept), "fixed": self.fixed, "rule": rule,
            "work": self.work, "manifest": dict(run.trace.manifest), "files": files,
        }  # fmt: skip
        write_json(path.with_suffix(".json"), said, default=str)

    def begin_work(self) -> None:
        """Claim the folder for this work. Settings of the same with other seeds go: their chunks stay.

        Raises
        ------
        InputError
            For a folder of other work, and one with a setting of another sweep.
        """
        claim = self.folder / WORK
        if claim.exists() and read_json(claim).get("work") != self.work:
            raise self._another(WORK)
        stale = []
        for path in filter(is_setting, sorted(self.folder.glob("*.json"))):
            with suppress(InputError):  # a damaged one is written again
                said = read_json(path)
                if said.get("fixed") != self.fixed:
                    stale.append((path, said))
        if foreign := [str(said.get("name")) for _, said in stale if said.get("work") != self.work]:
            raise self._another(foreign[0])
        for path, _ in stale:
            for suffix in ("json", *PARTS):
                path.with_suffix(f".{suffix}").unlink(missing_ok=True)
        write_json(claim, {"work": self.work})

    def _another(self, name: str) -> InputError:
        expected = "an empty folder, or one of the same sweep"
        return InputError("folder", found=f"another sweep in {self.folder} ({name})", expected=expected)

    def _path(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        plain = "".join(c if c.isalnum() else "-" for c in name)[:40]
        return self.folder / f"{plain}-{digest}.x"


def write_parts(path: Path, run: Run) -> None:
    """Write samples and tables of a recorded run; their suffixes take the place of that of `path`."""
    assert run.trace is not None
    samples = {"samples": run.samples.cpu().contiguous()}
    replace_file(path.with_suffix(".safetensors"), lambda temporary: save_file(samples, temporary))
    for kind, table in (("scalars", run.trace.scalars), ("samples", run.trace.samples)):
        replace_file(path.with_suffix(f".{kind}.parquet"), table.to_parquet)


def read_parts(path: Path, manifest: Mapping[str, Any]) -> Run:
    """What `write_parts` wrote."""
    expected = "a whole setting"
    with only_input_errors(path, expected=expected, found="damaged files"):
        samples = read_tensors(path.with_suffix(".safetensors"), expected=expected)[1]["samples"]
        scalars, rows = (read_parquet(path.with_suffix(f".{part}"), expected=expected) for part in PARTS[1:])
        return Run(samples, Trace(scalars, rows, manifest))


def is_setting(path: Path) -> bool:
    """Whether a JSON file has the tables of a setting beside it, or one of them."""
    return path.suffix == ".json" and any(path.with_suffix(f".{part}").is_file() for part in PARTS[1:])


def read_setting(path: Path) -> dict[str, Any]:
    """What a finished setting says of itself, after its hash and those of its files were checked.

    Raises
    ------
    InputError
        Naming the file that is damaged or missing.
    """
    said = read_json(path)
    files = said.get("files", dict.fromkeys(PARTS))  # an earlier version noted no hashes
    fits = isinstance(files, dict) and set(files) == set(PARTS) and isinstance(said.get("manifest"), dict)
    if not fits or not {"fixed", "rule"} <= set(said):
        raise InputError(str(path), found=f"the entries {sorted(said)[:9]}", expected="those of a setting")
    for part, expected in files.items():
        file = path.with_suffix(f".{part}")
        if not file.is_file():
            raise InputError(str(file), found="no such file", expected="a whole setting")
        if expected is not None and sha256(file) != expected:
            raise InputError(str(file), found="content that does not match its hash", expected="an undamaged file")
    return said
