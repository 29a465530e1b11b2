"""Many settings of one model from the same seeds, each finished one kept on disk.

    runs = sweep(model.denoiser, rules, seeds=range(256), condition=labels, folder="runs/sweep")
    runs = sweep(pipe, {"CFG": CFG(1.0), "APG": APG(1.0)}, weights=(2.0, 4.0, 8.0), seeds=range(len(prompts)),
                 condition={"prompt": prompts}, arguments={"num_inference_steps": 30}, folder="runs/sweep")

A sweep that was cut off goes on with its first unfinished setting. What the settings mean is for
`analysis.guidance.measure_sweep` to say.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pandas as pd
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from scorescope.data.checkpoints import replace_file
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.experiments.pipeline_runs import is_pipeline, sample_pipeline
from scorescope.probes.guidance.base import Rule, describe
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.models.fingerprint import fingerprint
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.pipelines import find
from scorescope.probes.recording.trace import Recording, Trace
from scorescope.probes.sampling.sample import Run, parameters_of, sample
from scorescope.probes.sampling.solvers import Heun


@checked
@dataclass(frozen=True)
class Setting:
    """One setting of a sweep and its run."""

    name: str
    rule: Rule
    run: Run


@checked
def sweep(
    model: Denoiser | Any,
    rules: Mapping[str, Rule],
    *,
    seeds: Sequence[int],
    condition: Condition,
    weights: Sequence[float] | None = None,
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
        In the order of `rules`, for each rule in the order of `weights`.

    Raises
    ------
    InputError
        For repeated seeds or settings, no rules, a folder that holds another sweep, and with a folder for a model
        or rule that cannot be told from others.
    """
    seeds = [int(seed) for seed in seeds]
    if weights is not None:
        rules = _weighted(rules, weights)
    if not rules or len(set(seeds)) < len(seeds):
        found = f"{len(rules)} rules, {len(seeds) - len(set(seeds))} repeated seeds"
        raise InputError("rules, seeds", found=found, expected="at least one rule, and every seed once")
    pipeline = is_pipeline(model)
    run_one, batch = (sample_pipeline, batch or 4) if pipeline else (sample, batch or 256)
    how = _checked(how, run_one) if pipeline else _checked({"sigmas": edm_sigmas(), "solver": Heun()} | how, run_one)
    store, texts, record = None, dict[str, str](), record or Recording()
    if folder is not None:
        given = {"condition": condition, "arguments": how, "record": replace(record, keep=False)}
        fixed = [seeds, *(fingerprint(one, argument=name) for name, one in given.items()), *_identity(model)]
        texts = {name: _rule_text(rule) for name, rule in rules.items()}  # before anything runs
        store = _Store(Path(folder), hashlib.sha256(json.dumps(fixed).encode()).hexdigest())
    common = {"seeds": seeds, "condition": condition, "record": record, "batch": batch} | how
    settings = []
    for name, rule in tqdm(rules.items(), desc="sweep", disable=not progress):
        run = store.read(name, texts[name]) if store else None
        if run is None:
            run = run_one(model, rule=rule, progress=progress, **common)
            if store:
                store.write(name, texts[name], run)
        settings.append(Setting(name, rule, run))
    return settings


@checked
def with_weight(rule: Rule, weight: float) -> Rule:
    """The same rule with another guidance weight, that of the rule inside for a rule around a rule.

    Raises
    ------
    InputError
        For rules without one weight: schedules, weights by band, CFG++.
    """
    fields = getattr(rule, "__dataclass_fields__", {})
    if "weight" in fields:
        changed: Rule = replace(cast(Any, rule), weight=float(weight))
        return changed
    if "rule" in fields and "schedule" not in fields:
        wrapper: Any = rule
        changed = replace(wrapper, rule=with_weight(wrapper.rule, weight))
        return changed
    raise InputError("weights", found=f"{describe(rule)}, which has no single weight", expected="rules that have one")


def _weighted(rules: Mapping[str, Rule], weights: Sequence[float]) -> dict[str, Rule]:
    if not weights or len(set(weights)) < len(weights):
        raise InputError("weights", found=str(list(weights)), expected="at least one, and each once")
    return {f"{name}, w = {w:g}": with_weight(rule, w) for name, rule in rules.items() for w in weights}


def _checked(how: dict[str, Any], run_one: Callable[..., Run]) -> dict[str, Any]:
    known = inspect.signature(run_one).parameters
    if unknown := [name for name in how if name not in known or name == "rule"]:
        expected = f"arguments of {run_one.__name__}"
        raise InputError("arguments", found=", ".join(unknown), expected=expected)
    return how


def _identity(model: Any) -> list[str]:
    """What tells models apart; of a pipeline its type, denoisers and schedulers."""
    if not is_pipeline(model):
        return [fingerprint(model, argument="model")]
    parts = {**find.denoisers(model, None)}
    configs = [sorted(dict(getattr(part, "config", {})).items()) for part in find.schedulers(model).values()]
    return [type(model).__qualname__, fingerprint(parts, argument="model"), str(configs)]


class _Store:
    """Finished settings of one sweep, three files each; the JSON file is written last."""

    def __init__(self, folder: Path, fixed: str) -> None:
        self.folder, self.fixed = folder, fixed
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, name: str, rule: str) -> Run | None:
        """The finished run of a setting, or None."""
        path = self._path(name)
        if not path.with_suffix(".json").exists():
            return None
        try:
            said = json.loads(path.with_suffix(".json").read_text())
            if said["fixed"] != self.fixed or said["rule"] != rule:
                expected = "an empty folder, or one of the same sweep"
                raise InputError("folder", found=f"another sweep in {self.folder} ({name})", expected=expected)
            samples = load_file(path.with_suffix(".safetensors"))["samples"]
            scalars, rows = (pd.read_parquet(path.with_suffix(f".{kind}.parquet")) for kind in ("scalars", "samples"))
        except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
            expected = "a whole setting; remove its files to run it again"
            raise InputError("folder", found=f"damaged files of {name} ({error})", expected=expected) from None
        return Run(samples, Trace(scalars, rows, said["manifest"]))

    def write(self, name: str, rule: str, run: Run) -> None:
        """Write a finished run."""
        path = self._path(name)
        assert run.trace is not None  # sweep always records
        trace = run.trace
        samples = {"samples": run.samples.cpu().contiguous()}
        replace_file(path.with_suffix(".safetensors"), lambda temporary: save_file(samples, temporary))
        for kind, table in (("scalars", trace.scalars), ("samples", trace.samples)):
            replace_file(path.with_suffix(f".{kind}.parquet"), table.to_parquet)
        said = {"fixed": self.fixed, "rule": rule, "manifest": dict(trace.manifest)}
        text = json.dumps(said, default=str)
        replace_file(path.with_suffix(".json"), lambda temporary: temporary.write_text(text))

    def _path(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        plain = "".join(c if c.isalnum() else "-" for c in name)[:40]
        return self.folder / f"{plain}-{digest}.x"


def _rule_text(rule: Rule) -> str:
    described = [type(rule).__name__, parameters_of(rule), fingerprint(rule, argument="rules")]
    return json.dumps(described, default=str)
