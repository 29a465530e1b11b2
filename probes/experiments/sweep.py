"""Many settings of one model from the same seeds, each finished one kept on disk.

    runs = sweep(model.denoiser, rules, seeds=range(256), condition=labels, folder="runs/sweep")
    runs = sweep(pipe, {"CFG": CFG(1.0), "APG": APG(1.0)}, weights=(2.0, 4.0, 8.0), seeds=range(len(prompts)),
                 condition={"prompt": prompts}, arguments={"num_inference_steps": 30}, folder="runs/sweep")
    runs = sweep(model.denoiser, {"APG": APG(4.0)}, over={"eta": (0.0, 0.5, 1.0), "norm": (5.0, 15.0)}, ...)

A sweep that was cut off goes on with its first unfinished setting, and makes a damaged one again. What the settings
mean is for `analysis.guidance.measure_sweep` to say.
"""

import hashlib
import inspect
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from tqdm.auto import tqdm

from scorescope.data.checkpoints import sha256
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import only_input_errors, read_parquet, read_tensors
from scorescope.data.written_files import IntegrityWarning, read_json, replace_file, write_json
from scorescope.probes.experiments.pipeline_identity import pipeline_identity
from scorescope.probes.experiments.pipeline_runs import is_pipeline, sample_pipeline
from scorescope.probes.experiments.rule_fields import Grid, Points, varied_rules
from scorescope.probes.guidance.base import Rule
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.models.fingerprint import fingerprint
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.pipelines import find
from scorescope.probes.recording.trace import Recording, Trace
from scorescope.probes.sampling.sample import Run, parameters_of, sample
from scorescope.probes.sampling.solvers import Heun


@displayed
@checked
@dataclass(frozen=True)
class Setting:
    """One setting of a sweep and its run.

    Attributes
    ----------
    name : str
        Its name.
    rule : Rule
        With the values of this setting.
    run : Run
        Its samples and their trace.
    swept : mapping of str to float or str
        The fields of the rule that the sweep varied, with their values here: numbers, or what texts call others.
    """

    name: str
    rule: Rule
    run: Run
    swept: Mapping[str, float | str] = field(default_factory=dict)


@checked
def sweep(
    model: Denoiser | Any,
    rules: Mapping[str, Rule],
    *,
    seeds: Sequence[int],
    condition: Condition,
    weights: Sequence[float] | None = None,
    over: Grid | Points | None = None,
    record: Recording | None = None,
    folder: str | Path | None = None,
    batch: int | None = None,
    progress: bool = True,
    **how: Any,
) -> list[Setting]:
    """Sample every rule from the same seeds and conditions.

    Parameters
    ----------
    model : Denoiser or object
        A denoiser, or an unmodified diffusers pipeline (anything with a scheduler among its parts).
    rules : mapping of str to Rule
        Settings by name.
    seeds, condition
        As for `sample` and `sample_pipeline`, the same for every setting: for a pipeline the condition is a mapping
        of arguments with one row a sample, for instance {"prompt": [...]} or {"class_labels": [...]}.
    weights : sequence of float, optional
        Every rule at each of these weights, as settings "name, w = 4"; see `with_weight`. None leaves the rules' own.
    over : mapping of str to sequence, or sequence of mappings, optional
        Every rule at all combinations of these values of its fields, or at these points alone: {"eta": (0.0, 1.0),
        "norm": (5.0, 15.0)} or [{"low": 0.1, "high": 2.0}, {"low": 0.3, "high": 5.0}], as settings "name, eta = 0";
        see `with_fields`. With `weights`, at each of them. The tables of `analysis.guidance` have a column for each
        field, `rule_eta`.
    record : Recording, optional
        By default `Recording()`; `keep` is not written to disk.
    folder : path, optional
        Where finished settings are kept, and looked for first. None keeps them in memory alone. A folder belongs to
        one model, compared by all that it holds (see `fingerprint`), also inside wrappers and closures; one that
        counts or remembers its calls in attributes is another one after them.
    batch : int, optional
        Samples computed together; by default 256 for denoisers and 4 for pipelines.
    progress : bool
        Show a progress bar.
    **how
        Further arguments of `sample` (shape, solver, sigmas, device, ...) or of `sample_pipeline` (arguments, call,
        options), the same for every setting.

    Returns
    -------
    list of Setting
        In the order of `rules`, for each rule in the order of `weights` and then of `over`.

    Raises
    ------
    InputError
        For settings or samples that are repeated, no rules, fields that a rule has not and values that it refuses, a
        folder that holds another sweep, and with a folder for a model or rule that cannot be told from others.
    """
    seeds = [int(seed) for seed in seeds]
    varied = varied_rules(rules, weights, over)
    repeated = _repeated(seeds, condition)
    if not rules or repeated:
        found = f"{len(rules)} rules, {repeated} repeated seeds"
        expected = "at least one rule, and every seed once, or once with each row of arguments"
        raise InputError("rules, seeds", found=found, expected=expected)
    pipeline = is_pipeline(model)
    run_one, batch = (sample_pipeline, batch or 4) if pipeline else (sample, batch or 256)
    how = _checked(how, run_one) if pipeline else _checked({"sigmas": edm_sigmas(), "solver": Heun()} | how, run_one)
    store, texts, record = None, dict[str, str](), record or Recording()
    if folder is not None:
        given = {"condition": condition, "arguments": how, "record": replace(record, keep=False)}
        fixed = [seeds, *(fingerprint(one, argument=name) for name, one in given.items()), *_identity(model)]
        texts = {name: _rule_text(rule) for name, (rule, _) in varied.items()}  # before anything runs
        store = _Store(Path(folder), hashlib.sha256(json.dumps(fixed).encode()).hexdigest())
    common = {"seeds": seeds, "condition": condition, "record": record, "batch": batch} | how
    settings = []
    for name, (rule, swept) in tqdm(varied.items(), desc="sweep", disable=not progress):
        run = store.read(name, texts[name]) if store else None
        if run is None:
            run = run_one(model, rule=rule, progress=progress, **common)
            if store:
                store.write(name, texts[name], run, swept)
        settings.append(Setting(name, rule, _told(run, swept), swept))
    return settings


def _told(run: Run, swept: Mapping[str, float | str]) -> Run:
    """The run, whose trace says what the sweep varied, for tables of traces."""
    trace = run.trace
    if trace is None or not swept:
        return run
    return replace(run, trace=Trace(trace.scalars, trace.samples, {**trace.manifest, "swept": dict(swept)}, trace.kept))


def _repeated(seeds: Sequence[int], condition: Condition) -> int:
    """How many samples would be made twice: of one seed, and one row of texts or labels where those are lists."""
    lists = [rows for rows in condition.values() if isinstance(rows, list)] if isinstance(condition, Mapping) else []
    if any(len(rows) != len(seeds) for rows in lists):
        return 0  # which is refused by its own name
    return len(seeds) - len({(seed, *(str(rows[place]) for rows in lists)) for place, seed in enumerate(seeds)})


def _checked(how: dict[str, Any], run_one: Callable[..., Run]) -> dict[str, Any]:
    known = inspect.signature(run_one).parameters
    if unknown := [name for name in how if name not in known or name == "rule"]:
        expected = f"arguments of {run_one.__name__}"
        raise InputError("arguments", found=", ".join(unknown), expected=expected)
    return how


def _identity(model: Any) -> list[str]:
    """What tells models apart; of a pipeline its type, the code of its denoisers, all weights and schedulers."""
    if not is_pipeline(model):
        return [fingerprint(model, argument="model")]
    parts = {**find.denoisers(model, None)}
    return [fingerprint(parts, argument="model"), json.dumps(pipeline_identity(model), sort_keys=True)]


_PARTS = ("safetensors", "scalars.parquet", "samples.parquet")


class _Store:
    """Finished settings of one sweep, four files each; the JSON file is written last and has the others' hashes."""

    def __init__(self, folder: Path, fixed: str) -> None:
        self.folder, self.fixed = folder, fixed
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, name: str, rule: str) -> Run | None:
        """The finished run of a setting, or None, also where its files are damaged, which a warning says."""
        path = self._path(name).with_suffix(".json")
        if not path.exists():
            return None
        try:
            said = read_setting(path)
            if (said["fixed"], said["rule"]) == (self.fixed, rule):
                return _run(path, said)
        except InputError as error:
            warnings.warn(f"{name!r} is made again: {error}", IntegrityWarning, stacklevel=3)
            return None
        expected = "an empty folder, or one of the same sweep"
        raise InputError("folder", found=f"another sweep in {self.folder} ({name})", expected=expected)

    def write(self, name: str, rule: str, run: Run, swept: Mapping[str, float | str]) -> None:
        """Write a finished run."""
        path = self._path(name)
        assert run.trace is not None  # sweep always records
        trace = run.trace
        samples = {"samples": run.samples.cpu().contiguous()}
        path.with_suffix(".json").unlink(missing_ok=True)  # of a damaged one, whose files are replaced one by one
        replace_file(path.with_suffix(".safetensors"), lambda temporary: save_file(samples, temporary))
        for kind, table in (("scalars", trace.scalars), ("samples", trace.samples)):
            replace_file(path.with_suffix(f".{kind}.parquet"), table.to_parquet)
        files = {part: sha256(path.with_suffix(f".{part}")) for part in _PARTS}
        said = {
            "name": name, "swept": dict(swept), "fixed": self.fixed, "rule": rule, "manifest": dict(trace.manifest),
            "files": files,
        }  # fmt: skip
        write_json(path.with_suffix(".json"), said, default=str)

    def _path(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        plain = "".join(c if c.isalnum() else "-" for c in name)[:40]
        return self.folder / f"{plain}-{digest}.x"


@checked
def read_sweep(folder: str | Path) -> dict[str, Run]:
    """The finished settings of a sweep's folder by name, in the order of the names of their files.

    Parameters
    ----------
    folder : path
        That `sweep` was given, or the JSON file of one setting in it.

    Returns
    -------
    dict of str to Run
        Samples and traces. A setting that an earlier version wrote has the name of its file.

    Raises
    ------
    InputError
        For a folder without settings, and damaged ones.
    """
    path = Path(folder)
    files = [path] if path.is_file() else [one for one in sorted(path.glob("*.json")) if is_setting(one)]
    if not files:
        raise InputError("folder", found=f"{path}, which has none", expected="finished settings of a sweep")
    found = {}
    for file in files:
        said = read_setting(file)
        swept = said.get("swept", {})
        with only_input_errors(file, expected="a whole setting", found="damaged entries"):
            found[str(said.get("name", file.stem))] = _told(_run(file, said), dict(swept))
    return found


def is_setting(path: Path) -> bool:
    """Whether a JSON file has the tables of a setting beside it, or one of them."""
    return path.suffix == ".json" and any(path.with_suffix(f".{part}").is_file() for part in _PARTS[1:])


def read_setting(path: Path) -> dict[str, Any]:
    """What a finished setting says of itself, after its hash and those of its files were checked.

    Raises
    ------
    InputError
        Naming the file that is damaged or missing.
    """
    said = read_json(path)
    files = said.get("files", dict.fromkeys(_PARTS))  # an earlier version noted no hashes
    fits = isinstance(files, dict) and set(files) == set(_PARTS) and isinstance(said.get("manifest"), dict)
    if not fits or not {"fixed", "rule"} <= set(said):
        raise InputError(str(path), found=f"the entries {sorted(said)[:9]}", expected="those of a setting")
    for part, expected in files.items():
        file = path.with_suffix(f".{part}")
        if not file.is_file():
            raise InputError(str(file), found="no such file", expected="a whole setting")
        if expected is not None and sha256(file) != expected:
            raise InputError(str(file), found="content that does not match its hash", expected="an undamaged file")
    return said


def _run(path: Path, said: Mapping[str, Any]) -> Run:
    expected = "a whole setting"
    with only_input_errors(path, expected=expected, found="damaged files"):
        samples = read_tensors(path.with_suffix(".safetensors"), expected=expected)[1]["samples"]
        scalars, rows = (read_parquet(path.with_suffix(f".{part}"), expected=expected) for part in _PARTS[1:])
        return Run(samples, Trace(scalars, rows, said["manifest"]))


def _rule_text(rule: Rule) -> str:
    described = [type(rule).__name__, parameters_of(rule), fingerprint(rule, argument="rules")]
    return json.dumps(described, default=str)
