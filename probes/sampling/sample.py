"""Sampling from a plain `Denoiser`, with a guidance rule, recording as it goes.

    run = sample(denoiser, seeds=range(64), condition=labels, rule=CFG(4.0))
    run.samples                    # (64, *shape)
    run.trace.scalars              # one row a (sample, step, call)

Sample i depends on its seed and condition only; how samples are batched shows in the rounding at most.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.guidance.base import Rule, describe
from scorescope.probes.guidance.linear import CFG
from scorescope.probes.guidance.scheduler_step import depends_on_step_size
from scorescope.probes.models.conditions import row_count, select_rows, to_device
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.models.noise import SampleNoise, check_sigmas, edm_sigmas
from scorescope.probes.recording.trace import Recording, Trace, Visit
from scorescope.probes.sampling.guided_denoiser import GuidedDenoiser, Watch
from scorescope.probes.sampling.solvers import Heun, Solver


@displayed
@checked
@dataclass(frozen=True)
class Run:
    """Samples, and the trace of how they came about (None where nothing was recorded).

    Attributes
    ----------
    samples : Tensor, shape (n, *shape)
        One a seed.
    trace : Trace or None
        What was recorded.
    """

    samples: Tensor
    trace: Trace | None


@checked
@torch.no_grad()
def sample(
    denoiser: Denoiser,
    *,
    seeds: Sequence[int],
    condition: Condition = None,
    shape: tuple[int, ...] | None = None,
    rule: Rule | None = None,
    solver: Solver | None = None,
    sigmas: Sequence[float] | None = None,
    start: Tensor | None = None,
    record: Recording | None = None,
    watch: Watch | None = None,
    batch: int = 256,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: bool = True,
) -> Run:
    """Draw one sample for each seed.

    Parameters
    ----------
    denoiser : Denoiser
        The model.
    seeds : sequence of int
        One a sample; everything random about sample i comes from seeds[i].
    condition : optional
        One row a sample; None samples unconditionally.
    shape : tuple of int, optional
        Shape of one sample; by default `denoiser.shape`.
    rule : Rule, optional
        Guidance rule; by default none, `CFG(1.0)`, the only one that goes without a condition.
    solver : Solver, optional
        By default `Heun()`.
    sigmas : sequence of float, optional
        Falling noise levels; by default `edm_sigmas(18)`.
    start : Tensor, shape (len(seeds), *shape), optional
        States at sigmas[0]; by default sigmas[0] times each seed's first noise. Later noise is the same either way.
    record : Recording, optional
        Scalars to record; None records nothing.
    watch : callable, optional
        Called as (branch, state, rows, prediction) after every denoiser call, and with the branch "guided" after the
        rule was applied; `rows` are the samples, counted over the whole run. What it is given it must not change.
    batch : int
        Samples computed together. Bounds the memory; changes the result by rounding at most.
    device, dtype
        Where and in which precision the state is kept.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Run
        Samples on `device`, shape (len(seeds), *shape), and the trace.

    Raises
    ------
    InputError
        For arguments that do not fit together, a prediction of another shape or dtype, and predictions
        that are not finite, naming the first step and branch where that happened.
    """
    shape = _shape(denoiser, shape)
    rule, solver = rule or CFG(1.0), solver or Heun()
    sigmas = [float(sigma) for sigma in (edm_sigmas() if sigmas is None else sigmas)]
    check_sigmas(sigmas)
    seeds = [int(seed) for seed in seeds]
    if not seeds or batch < 1:
        raise InputError("seeds, batch", found=f"{len(seeds)} seeds, batch {batch}", expected="at least one of each")
    _check_condition(denoiser, condition, rule, len(seeds))
    _check_solver(rule, solver)
    _check_start(start, (len(seeds), *shape))
    record = None if record is None else record.of(denoiser)
    started = time.perf_counter()
    samples, tables = [], []
    visits: list[Visit] = []
    reference = bool(getattr(solver, "needs_reference", False))
    for first in tqdm(range(0, len(seeds), batch), desc="sampling", disable=not progress, leave=False):
        rows = slice(first, min(first + batch, len(seeds)))
        noise = SampleNoise(seeds[rows], shape, torch.device(device), dtype)
        part = to_device(select_rows(condition, rows), torch.device(device))
        guided = GuidedDenoiser(
            denoiser, part, rule, seeds[rows], record, needs_reference=reference, watch=_from_row(watch, first)
        )
        state = sigmas[0] * noise.draw()
        if start is not None:
            state = start[rows].to(state)
        samples.append(solver.run(guided, state, sigmas, noise.draw))
        guided.check_finite()
        if record is not None:
            tables.append(guided.table(first=first))
            visits += guided.visits(first=first)
    result = torch.cat(samples)
    if record is None:
        return Run(result, None)
    manifest = {
        **_described(denoiser, rule, solver),
        "sigmas": sigmas,
        "start": "noise" if start is None else "given states",
        "shape": list(shape),
        "dtype": str(dtype).removeprefix("torch."),
        "device": str(device),
        "recording": asdict(record),
        "seconds": time.perf_counter() - started,
    }
    rows_table = pd.DataFrame({"sample": range(len(seeds)), "seed": seeds, "condition": _labels(condition, len(seeds))})
    return Run(result, Trace(pd.concat(tables, ignore_index=True), rows_table, manifest, kept=visits))


def _from_row(watch: Watch | None, first: int) -> Watch | None:
    """A watcher that is told of a batch's rows as rows of the whole run."""
    if watch is None:
        return None
    return lambda branch, state, rows, prediction: watch(branch, state, rows + first, prediction)


def _described(denoiser: Denoiser, rule: Rule, solver: Solver) -> dict[str, Any]:
    """What was run, for the manifest."""
    return {
        "status": "complete",
        "denoiser": _name(denoiser),
        "rule": describe(rule),
        "rule_parameters": parameters_of(rule),
        "weight": rule.weight,
        "solver": type(solver).__name__,
        "solver_parameters": parameters_of(solver),
        "torch": torch.__version__,
    }


def _check_solver(rule: Rule, solver: Solver) -> None:
    inner = getattr(solver, "solver", solver)
    if getattr(inner, "uses_history", False) and depends_on_step_size(rule):
        found = f"{describe(rule)} with {type(inner).__name__}, whose steps also use the step before"
        expected = (
            "Euler: CFG++ is a weight of CFG in first-order steps only, and its two published DPM++ 2M codes differ"
        )
        raise InputError("solver", found=found, expected=expected)


def _check_start(start: Tensor | None, expected: tuple[int, ...]) -> None:
    if start is not None and tuple(start.shape) != expected:
        raise InputError("start", found=f"shape {tuple(start.shape)}", expected=f"{expected}, one row a seed")


def _shape(denoiser: Denoiser, shape: tuple[int, ...] | None) -> tuple[int, ...]:
    found = shape if shape is not None else getattr(denoiser, "shape", None)
    if not found or any(size < 1 for size in found):
        raise InputError(
            "shape", found=str(found), expected="the shape of one sample, as argument or as denoiser.shape"
        )
    return tuple(found)


def _check_condition(denoiser: Denoiser, condition: Condition, rule: Rule, count: int) -> None:
    if condition is None:
        if rule != CFG(1.0):
            expected = f"one row a sample: {describe(rule)} needs a conditional branch"
            raise InputError("condition", found="None", expected=expected)
        return
    if (rows := row_count(condition)) != count:
        raise InputError("condition", found=f"{rows} rows", expected=f"{count}, one for each seed")
    if check := getattr(denoiser, "check_condition", None):
        check(condition, count)


def _labels(condition: Condition, count: int) -> list[Any]:
    """What the sample table says of the condition: the label where it is one, else nothing."""
    if isinstance(condition, Tensor) and condition.ndim == 1:
        return list(condition.tolist())
    return [None] * count


def _name(denoiser: Any) -> str:
    return getattr(denoiser, "__qualname__", type(denoiser).__qualname__)


def parameters_of(thing: Any) -> dict[str, Any]:
    """Parameters of a rule or solver for the manifest; models and functions by their name."""
    if not is_dataclass(thing) or isinstance(thing, type):
        return {}
    found = {item.name: getattr(thing, item.name) for item in fields(thing)}
    return {name: _plain(value) for name, value in found.items()}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {"class": type(value).__name__, **parameters_of(value)}
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value if isinstance(value, str | int | float | bool | tuple | None) else _name(value)
