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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import only_input_errors
from scorescope.probes.experiments.pipeline_identity import pipeline_identity
from scorescope.probes.experiments.pipeline_runs import is_pipeline, sample_pipeline
from scorescope.probes.experiments.rule_fields import Grid, Points, varied_rules
from scorescope.probes.experiments.sweep_store import SweepStore, is_setting, read_parts, read_setting
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
        digest, _ = sweep_digests(model, seeds=seeds, condition=condition, record=record, how=how)
        texts = {name: rule_text(rule) for name, (rule, _) in varied.items()}  # before anything runs
        store = SweepStore(Path(folder), digest)
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
            found[str(said.get("name", file.stem))] = _told(read_parts(file, said["manifest"]), dict(swept))
    return found


def sweep_digests(
    model: Any, *, seeds: Sequence[int], condition: Condition, record: Recording, how: Mapping[str, Any]
) -> tuple[str, str]:
    """What all settings of a sweep have in common: seeds, conditions, further arguments of sampling, the model.

    The second digest is without seeds and conditions.
    """
    given = {"condition": condition, "arguments": how, "record": replace(record, keep=False)}
    fixed = [list(seeds), *(fingerprint(one, argument=name) for name, one in given.items()), *_identity(model)]
    whole, work = (hashlib.sha256(json.dumps(part).encode()).hexdigest() for part in (fixed, fixed[2:]))
    return whole, work


def rule_text(rule: Rule) -> str:
    """What tells a rule from others."""
    described = [type(rule).__name__, parameters_of(rule), fingerprint(rule, argument="rules")]
    return json.dumps(described, default=str)
