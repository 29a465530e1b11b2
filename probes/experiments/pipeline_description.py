"""What there is in a pipeline, as far as a run of two steps shows: denoisers, scheduler, branches, sites, memory.

found = describe_pipeline(pipe, {"prompt": "a lighthouse"})
found.branches                                 # which prediction is cond, which uncond, and by what evidence
found.sites                                    # blocks, their shapes, which output is the image
print(found)
"""

import contextlib
import itertools
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.experiments.pipeline_calls import STEPS, call_arguments, call_told, check_arguments, takes
from scorescope.probes.pipelines import find
from scorescope.probes.pipelines.call import leaves
from scorescope.probes.pipelines.level_reader import LevelFunction
from scorescope.probes.recording.estimate import in_words
from scorescope.probes.recording.session import record
from scorescope.probes.recording.trace import Trace
from scorescope.probes.sites.outputs import ModuleCall

LEAST_STEPS = 2  # of the run: the least that has one step after another
OF_STATE = ("x", "x_prev", "x0", "guided")  # arrays that are no branch


@displayed
@checked
@dataclass(frozen=True, eq=False)
class PipelineDescription:
    """What a run of two steps shows of a pipeline.

    Attributes
    ----------
    pipeline : str
        Its class.
    denoisers : DataFrame
        One row a denoiser: name, class, parameters, dtype, bytes of its weights, and calls in a step.
    schedulers : DataFrame
        One row a scheduler: name, class, prediction type, noise levels of the run (variance exploding), and `note`,
        why a level is unknown.
    branches : DataFrame
        One row a step: the branches that were proved, the rule, its weight, the evidence, and `missing`, why a branch
        is.
    sites : DataFrame
        One row a block: site, class, shape of its image, which output that is, and `note`, why none is known.
    memory : DataFrame
        One row a value of `keep=`: arrays, and their bytes a step and sample.
    seconds : float
        Wall time of the denoiser's calls in one step, the last.
    problems : list of str
        What a reader of its records should know.
    """

    pipeline: str
    denoisers: pd.DataFrame
    schedulers: pd.DataFrame
    branches: pd.DataFrame
    sites: pd.DataFrame
    memory: pd.DataFrame
    seconds: float
    problems: list[str]

    def __str__(self) -> str:
        tables = {"denoisers": self.denoisers, "schedulers": self.schedulers, "branches": self.branches,
                  "sites": self.sites, "memory a step and sample": self.memory.assign(
                      bytes=[in_words(size) for size in self.memory["bytes"]])}  # fmt: skip
        parts = [f"{name}\n{table.to_string(index=False)}" for name, table in tables.items()]
        said = [f"problem: {problem}" for problem in self.problems]
        return "\n\n".join([f"{self.pipeline}, {self.seconds:.2g} s a step", *parts, *said])


@checked
def describe_pipeline(
    pipe: Any,
    call: Mapping[str, Any],
    *,
    arguments: Mapping[str, Any] | None = None,
    modules: find.Modules = None,
    level: LevelFunction | None = None,
) -> PipelineDescription:
    """Run a pipeline for two steps and say what there is.

    Parameters
    ----------
    pipe : object
        A diffusers pipeline; it is as it was afterwards.
    call : mapping
        Arguments of one call, as {"prompt": "a lighthouse"} or {"class_labels": [0]}; `seed` is that of the noise.
    arguments : mapping, optional
        Further ones, as {"guidance_scale": 5.0}.
    modules, level
        See `record`.

    Raises
    ------
    InputError
        For arguments that the pipeline does not take, and what `record` refuses.
    """
    shared = dict(arguments or {})
    check_arguments(pipe, {**shared, **call}, argument="call", more=("seed",))
    if takes(pipe, STEPS):
        shared[STEPS] = LEAST_STEPS
    denoisers = find.denoisers(pipe, modules)
    clock = _Clock()
    given = {"seed": 0, **{name: value for name, value in call.items() if name != STEPS}}
    recording = record(pipe, keep="all", modules=modules, level=level, progress=False)
    with recording as trace, call_told(pipe), _watched(denoisers) as sites, clock.on(denoisers):
        pipe(**call_arguments(pipe, given, shared))
    return PipelineDescription(
        type(pipe).__name__, _denoisers(denoisers, clock, trace), _schedulers(trace), _branches(trace),
        pd.DataFrame(sites, columns=["site", "class", "shape", "output", "note"]), _memory(trace),
        clock.seconds(_steps(trace)), trace.problems,
    )  # fmt: skip


class _Clock:
    """How long each call of a denoiser took."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, float]] = []
        self._began = 0.0

    @contextmanager
    def on(self, denoisers: Mapping[str, nn.Module]) -> Iterator[None]:
        """Time every call, for the length of a with block."""
        hooks = []
        try:
            for name, module in denoisers.items():
                hooks.append(module.register_forward_pre_hook(lambda *_: self._begin()))
                hooks.append(module.register_forward_hook(lambda *_, name=name: self._end(name)))
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _begin(self) -> None:
        _wait()
        self._began = time.perf_counter()

    def _end(self, name: str) -> None:
        _wait()
        self.calls.append((name, time.perf_counter() - self._began))

    def seconds(self, steps: int) -> float:
        """Of all calls of the last step: the first one warms up."""
        last = len(self.calls) // max(1, steps)
        return sum(seconds for _, seconds in self.calls[-last:])


def _wait() -> None:
    """An accelerator computes on after a call has returned."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def _steps(trace: Trace) -> int:
    return int(trace.scalars.groupby(["run", "event"]).ngroups)


def _denoisers(denoisers: Mapping[str, nn.Module], clock: _Clock, trace: Trace) -> pd.DataFrame:
    rows = []
    for name, module in denoisers.items():
        weights = list(module.parameters())
        kinds = sorted({str(one.dtype).removeprefix("torch.") for one in weights})
        calls = sum(called == name for called, _ in clock.calls) / max(1, _steps(trace))
        size = sum(one.nbytes for one in weights)
        rows.append((name, type(module).__name__, sum(one.numel() for one in weights), ", ".join(kinds), size, calls))
    return pd.DataFrame(rows, columns=["denoiser", "class", "parameters", "dtype", "bytes", "calls_a_step"])


def _schedulers(trace: Trace) -> pd.DataFrame:
    rows = []
    for place, (name, about) in enumerate(trace.manifest["schedulers"].items()):
        steps = trace.scalars[trace.scalars["stream"] == place]
        levels = ", ".join(f"{value:.4g}" for value in steps["sigma"].drop_duplicates())
        notes = "; ".join(sorted(set(steps["note"]) - {""}))
        rows.append((name, about["class"], about["config"].get("prediction_type", ""), levels, notes))
    return pd.DataFrame(rows, columns=["scheduler", "class", "prediction_type", "sigma", "note"])


def _branches(trace: Trace) -> pd.DataFrame:
    table = trace.scalars.drop_duplicates(["run", "event"])
    rows = []
    for known in table[["cond_sq", "uncond_sq"]].notna().to_numpy():
        rows.append(", ".join(itertools.compress(("cond", "uncond"), known)) or "none")
    found = table[["step", "rule", "weight", "evidence", "missing"]].reset_index(drop=True)
    found.insert(1, "branches", rows)
    return found


def _memory(trace: Trace) -> pd.DataFrame:
    """Bytes of the first step's arrays, by what would be kept."""
    arrays = trace.arrays
    samples = max(1, len(trace.samples))
    sizes = {}
    for name in arrays.names():
        with contextlib.suppress(InputError):  # a branch that is missing in this step
            sizes[name] = arrays.load(name, 0).nbytes / samples
    rows = [("scalars", "none", 0)]
    branches = [name for name in sizes if name not in OF_STATE]
    kept = {"latents": ["x", "x_prev"], "branches": ["x", "guided", *branches], "all": list(sizes)}
    for keep, names in kept.items():
        held = [name for name in sizes if name in names]
        rows.append((keep, ", ".join(held), int(sum(sizes[name] for name in held))))
    return pd.DataFrame(rows, columns=["keep", "arrays", "bytes"])


@contextmanager
def _watched(denoisers: Mapping[str, nn.Module]) -> Iterator[list[tuple[str, str, str, str, str]]]:
    """One row a block, filled when it is called for the first time; one that is never called says so at the end."""
    found: dict[str, tuple[str, str, str, str, str]] = {}
    blocks = {f"{name}.{path}": block for name, module in denoisers.items() for path, block in _blocks(module)}
    hooks = []

    def see(site: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if site not in found:
            found[site] = (site, type(module).__name__, *_output(site, ModuleCall(module, args, kwargs, output)))

    rows: list[tuple[str, str, str, str, str]] = []
    try:
        for site, block in blocks.items():
            hooks.append(block.register_forward_hook(lambda *call, site=site: see(site, *call), with_kwargs=True))
        yield rows
    finally:
        for hook in hooks:
            hook.remove()
    never = "not called by its denoiser (or compiled)"
    rows += [found.get(site, (site, type(block).__name__, "", "", never)) for site, block in blocks.items()]


def _blocks(denoiser: nn.Module) -> list[tuple[str, nn.Module]]:
    """What a denoiser is a row of: members of its lists, and parts that are called blocks; else its parts."""
    found: list[tuple[str, nn.Module]] = []
    for name, part in denoiser.named_children():
        if isinstance(part, nn.ModuleList) and "block" in name:
            found += [(f"{name}.{place}", block) for place, block in enumerate(part)]
        elif "block" in name:
            found.append((name, part))
    return found or [(name, part) for name, part in denoiser.named_children() if not isinstance(part, nn.ModuleList)]


def _output(site: str, call: ModuleCall) -> tuple[str, str, str]:
    """Shape of its image, which output that is, and why none is known."""
    try:
        output = call.output_of(site)
    except InputError as error:
        shapes = ", ".join(str(tuple(one.shape)) for one in leaves(call.output) if isinstance(one, Tensor))
        return shapes, "", f"{error.found}: {error.expected}"
    return str(tuple(call.tensor_of(output).shape)), str(output), ""
