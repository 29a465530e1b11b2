"""Many settings of one model from the same seeds, each finished one kept on disk.

    runs = sweep(model.denoiser, rules, seeds=range(256), condition=labels, folder="runs/sweep")

A sweep that was cut off goes on with its first unfinished setting. What the settings mean is for
`analysis.sweeps` to say.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from scorescope.data.checkpoints import replace_file
from scorescope.data.errors import InputError
from scorescope.probes.denoiser import Condition, Denoiser
from scorescope.probes.guidance import Rule
from scorescope.probes.noise import edm_sigmas
from scorescope.probes.sampling import Run, parameters_of, sample
from scorescope.probes.solvers import Heun, Solver
from scorescope.probes.trace import Recording, Trace


@dataclass(frozen=True)
class Setting:
    """One setting of a sweep and its run."""

    name: str
    rule: Rule
    run: Run


def sweep(
    denoiser: Denoiser,
    rules: Mapping[str, Rule],
    *,
    seeds: Sequence[int],
    condition: Condition,
    shape: tuple[int, ...] | None = None,
    solver: Solver | None = None,
    sigmas: Sequence[float] | None = None,
    record: Recording | None = None,
    folder: str | Path | None = None,
    batch: int = 256,
    device: str = "cpu",
    progress: bool = True,
) -> list[Setting]:
    """Sample every rule from the same seeds and conditions.

    Parameters
    ----------
    denoiser : Denoiser
        The model.
    rules : mapping of str to Rule
        Settings by name; a weight sweep is one entry a weight.
    seeds, condition, shape, solver, sigmas, batch, device
        As for `sample`, the same for every setting.
    record : Recording, optional
        By default `Recording()`; `keep` is not written to disk.
    folder : path, optional
        Where finished settings are kept, and looked for first. None keeps them in memory alone.
    progress : bool
        Show a progress bar.

    Returns
    -------
    list of Setting
        In the order of `rules`.

    Raises
    ------
    InputError
        For repeated seeds, no rules, or a folder that holds another sweep.
    """
    seeds = [int(seed) for seed in seeds]
    if not rules or len(set(seeds)) < len(seeds):
        found = f"{len(rules)} rules, {len(seeds) - len(set(seeds))} repeated seeds"
        raise InputError("rules, seeds", found=found, expected="at least one rule, and every seed once")
    solver, record = solver or Heun(), record or Recording()
    sigmas = list(edm_sigmas() if sigmas is None else sigmas)
    store = None
    if folder is not None:
        fixed = [seeds, sigmas, parameters_of(solver), type(solver).__name__, _digest(condition), str(denoiser)[:2000]]
        store = _Store(Path(folder), hashlib.sha256(json.dumps(fixed, default=str).encode()).hexdigest())
    settings = []
    for name, rule in tqdm(rules.items(), desc="sweep", disable=not progress):
        run = store.read(name, rule) if store else None
        if run is None:
            run = sample(
                denoiser, seeds=seeds, condition=condition, shape=shape, rule=rule, solver=solver, sigmas=sigmas,
                record=record, batch=batch, device=device, progress=progress,
            )  # fmt: skip
            if store:
                store.write(name, rule, run)
        settings.append(Setting(name, rule, run))
    return settings


class _Store:
    """Finished settings of one sweep, three files each; the JSON file is written last."""

    def __init__(self, folder: Path, fixed: str) -> None:
        self.folder, self.fixed = folder, fixed
        folder.mkdir(parents=True, exist_ok=True)

    def read(self, name: str, rule: Rule) -> Run | None:
        """The finished run of a setting, or None."""
        path = self._path(name)
        if not path.with_suffix(".json").exists():
            return None
        try:
            said = json.loads(path.with_suffix(".json").read_text())
            if said["fixed"] != self.fixed or said["rule"] != _rule_text(rule):
                expected = "an empty folder, or one of the same sweep"
                raise InputError("folder", found=f"another sweep in {self.folder} ({name})", expected=expected)
            samples = load_file(path.with_suffix(".safetensors"))["samples"]
            scalars, rows = (pd.read_parquet(path.with_suffix(f".{kind}.parquet")) for kind in ("scalars", "samples"))
        except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
            expected = "a whole setting; remove its files to run it again"
            raise InputError("folder", found=f"damaged files of {name} ({error})", expected=expected) from None
        return Run(samples, Trace(scalars, rows, said["manifest"]))

    def write(self, name: str, rule: Rule, run: Run) -> None:
        """Write a finished run."""
        path = self._path(name)
        assert run.trace is not None  # sweep always records
        trace = run.trace
        samples = {"samples": run.samples.cpu().contiguous()}
        replace_file(path.with_suffix(".safetensors"), lambda temporary: save_file(samples, temporary))
        for kind, table in (("scalars", trace.scalars), ("samples", trace.samples)):
            replace_file(path.with_suffix(f".{kind}.parquet"), table.to_parquet)
        said = {"fixed": self.fixed, "rule": _rule_text(rule), "manifest": dict(trace.manifest)}
        text = json.dumps(said, default=str)
        replace_file(path.with_suffix(".json"), lambda temporary: temporary.write_text(text))

    def _path(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        plain = "".join(c if c.isalnum() else "-" for c in name)[:40]
        return self.folder / f"{plain}-{digest}.x"


def _rule_text(rule: Rule) -> str:
    return json.dumps([type(rule).__name__, parameters_of(rule)], default=str)


def _digest(condition: Any) -> str:
    """A short text that tells conditions apart."""
    if isinstance(condition, Tensor):
        data = condition.detach().cpu().contiguous()
        return hashlib.sha256(data.view(torch.uint8).numpy().tobytes() if data.ndim else b"").hexdigest()
    if isinstance(condition, Mapping):
        return json.dumps({key: _digest(value) for key, value in condition.items()})
    return str(condition)
