"""Sweeps in chunks of seeds: many rules of one or many models, each sample of which depends on its seed alone.

    kind = "sweep"
    model = "digits"                    # what load_model takes; or a table of several by name, [model]
    seeds = 50_000                      # how many, or [first, one past the last]
    weights = [1.0, 2.0, 4.0]           # and `over`, as of sweep
    size = 256                          # seeds a chunk, computed together
    steps = 18                          # of edm_sigmas, or `sigmas`
    device = "cuda"

    [rules]
    CFG = { class = "CFG", weight = 1.0 }
    APG = { class = "APG", weight = 1.0, norm = 15.0 }

    [solver]                            # by default Heun
    class = "Euler"

    [record]                            # fields of Recording
    all_branches = true

What is joined is the folder that `sweep` writes, with the conditions of `Model.conditions`: `read_sweep` reads it, and
`sweep` finds its settings finished. The numbers are those of `sweep` with `batch` equal to `size` and one thread.
A folder is of one work: more rules, weights or seeds go on in it; another solver, noise levels, record or model under
the same name are refused.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from scorescope.data.errors import InputError
from scorescope.probes.experiments.rule_fields import varied_rules
from scorescope.probes.experiments.sweep import rule_text, sweep_digests
from scorescope.probes.experiments.sweep_models import folder_name
from scorescope.probes.experiments.sweep_store import SweepStore, read_parts, write_parts
from scorescope.probes.models.conditions import select_rows
from scorescope.probes.models.model import load_model
from scorescope.probes.recording.trace import Recording, Trace
from scorescope.probes.sampling.sample import Run, sample
from scorescope.probes.sampling.solvers import Heun
from scorescope.probes.work.chunks import Chunk, cut, finished, missing
from scorescope.probes.work.executors import worker_device
from scorescope.probes.work.made_of import RULES, SOLVERS, made_of, plain_of
from scorescope.probes.work.named_models import levels_of, told_model, worker_model
from scorescope.probes.work.plans import Plan, known_entries, seed_range, whole_number

NEEDED = ("model", "rules", "seeds")
OTHERS = ("factory", "weights", "over", "size", "steps", "sigmas", "device", "solver", "record")
_RUN = "run.x"  # its suffix is replaced


def plan(spec: Mapping[str, Any]) -> Plan:
    """The chunks of every setting of every model, and their join into folders of `sweep`.

    Parameters
    ----------
    spec : mapping
        See above.

    Raises
    ------
    InputError
        Naming the entry that is wrong.
    """
    known_entries(spec, "sweep", NEEDED, OTHERS)
    named = spec["model"] if isinstance(spec["model"], dict) else {"": spec["model"]}
    if not named or not all(isinstance(name, str) for name in named.values()) or not isinstance(spec["rules"], dict):
        found = f"{spec['model']!r}, {spec['rules']!r}"
        raise InputError("model, rules", found=found, expected="a name, or a table of names; a table of rules")
    rules = {name: made_of(rule, RULES, f"rules.{name}") for name, rule in spec["rules"].items()}
    varied = varied_rules(rules, spec.get("weights"), spec.get("over"))
    shared = {folder_name(name) if name else "": _shared(spec, source) for name, source in named.items()}
    settings = [
        _Setting(folder, name, *setting, *both) for folder, both in shared.items() for name, setting in varied.items()
    ]
    parts = {setting: setting.chunks() for setting in settings}

    def join(folder: Path) -> list[Path]:
        return [path for setting, chunks in parts.items() if (path := setting.join(folder, chunks))]

    def begin(folder: Path) -> None:
        for name, (told, work) in shared.items():
            SweepStore(folder / name, told["digest"], work).begin_work()

    return Plan(tuple(chunk for chunks in parts.values() for chunk in chunks), join, begin)


class _Setting:
    """One rule of one model, its chunks, and its place in the folder of a sweep."""

    def __init__(
        self, folder: str, name: str, rule: Any, swept: Mapping[str, Any], shared: dict[str, Any], work: str
    ) -> None:
        self.folder, self.name, self.rule, self.swept, self.shared, self.work = folder, name, rule, swept, shared, work

    def chunks(self) -> list[Chunk]:
        """In the order of their seeds."""
        spec = {**self.shared, "rule": plain_of(self.rule, f"rules, {self.name}")}
        return cut(f"{__name__}:sample_chunk", spec, range(*spec["seeds"]), size=spec["size"])

    def join(self, folder: Path, chunks: list[Chunk]) -> Path | None:
        """Write the setting where all its chunks are there."""
        if missing(chunks, folder):
            return None
        runs = [_read(path, said) for _, path, said in finished(chunks, folder)]
        if len(runs) < len(chunks):  # one is damaged
            return None
        store = SweepStore(folder / self.folder, self.shared["digest"], self.work)
        store.write(self.name, rule_text(self.rule), _joined(runs), self.swept)
        return store.folder


def _shared(spec: Mapping[str, Any], source: str) -> tuple[dict[str, Any], str]:
    """What the chunks of one model are told, and a digest of the work without its seeds.

    They are told what the model is, so that another of the same name has other chunks.
    """
    model, seeds = load_model(source, factory=spec.get("factory")), seed_range(spec["seeds"])
    solver = made_of(spec["solver"], SOLVERS, "solver") if "solver" in spec else Heun()
    sigmas = levels_of(spec)
    record = _recording(spec.get("record", {}))
    how = {"sigmas": sigmas, "solver": solver}
    condition = model.conditions(len(seeds))
    digest, work = sweep_digests(model.denoiser, seeds=list(seeds), condition=condition, record=record, how=how)
    told = {
        "model": told_model(model, source, spec.get("factory")), "digest": digest,
        "seeds": [seeds.start, seeds.stop], "size": whole_number(spec, "size", 256), "sigmas": sigmas,
        "solver": plain_of(solver, "solver"), "record": spec.get("record", {}), "device": spec.get("device", "cpu"),
    }  # fmt: skip
    return told, work


def sample_chunk(spec: Mapping[str, Any], seeds: range, folder: Path) -> dict[str, Any]:
    """The samples of some seeds under one rule, and their trace."""
    model, every = worker_model(spec["model"], worker_device(spec["device"])), range(*spec["seeds"])
    rows = slice(seeds.start - every.start, seeds.stop - every.start)
    run = sample(
        model.denoiser, seeds=seeds, condition=select_rows(model.conditions(len(every)), rows), shape=model.shape,
        rule=made_of(spec["rule"], RULES, "rule"), solver=made_of(spec["solver"], SOLVERS, "solver"),
        sigmas=spec["sigmas"], record=_recording(spec["record"]), batch=spec["size"],
        device=worker_device(spec["device"]), progress=False,
    )  # fmt: skip
    assert run.trace is not None  # it was asked for
    write_parts(folder / _RUN, run)
    return {"first": rows.start, "manifest": json.loads(json.dumps(dict(run.trace.manifest), default=str))}


def _recording(fields: Mapping[str, Any]) -> Recording:
    given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
    try:
        return Recording(**given)
    except TypeError as error:
        raise InputError("record", found=str(error), expected="fields of Recording") from None


def _read(place: Path, said: Mapping[str, Any]) -> tuple[int, Run]:
    return said["first"], read_parts(place / _RUN, said["manifest"])


def _joined(runs: list[tuple[int, Run]]) -> Run:
    """One run of all seeds, with its samples counted through."""
    traces = [run.trace for _, run in runs if run.trace is not None]
    scalars, samples = (
        pd.concat(
            [table.assign(sample=table["sample"] + first) for (first, _), table in zip(runs, tables, strict=True)],
            ignore_index=True,
        )
        for tables in ([trace.scalars for trace in traces], [trace.samples for trace in traces])
    )
    manifest = {**traces[0].manifest, "seconds": sum(trace.manifest["seconds"] for trace in traces)}
    return Run(torch.cat([run.samples for _, run in runs]), Trace(scalars, samples, manifest))
