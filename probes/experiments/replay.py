"""The one-step counterfactual: what a rule would have predicted at the states that a run visited.

    trace = sample(denoiser, ..., record=Recording(keep=True)).trace     # or a recorded pipeline, branches kept
    other = replay(trace, APG(8.0))
    guidance.decompose(other)                                            # the same tables as of a run

Exact, and no model is called. It is not a rollout: the states stay those of the recorded run.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.decomposition.products import (
    OUTPUT_PRODUCTS,
    branch_products,
    guided_products,
    squared_distance,
)
from scorescope.probes.experiments.recorded_visits import RecordedVisits
from scorescope.probes.guidance.base import (
    COND,
    UNCOND,
    GuidanceState,
    Products,
    RowRule,
    Rule,
    describe,
    row_weights,
)
from scorescope.probes.guidance.branch_makers import Maker, check_maker, maker_of
from scorescope.probes.guidance.combination import combination_of
from scorescope.probes.guidance.state_products import StateProducts
from scorescope.probes.recording.trace import Recording, ScalarRecorder, Trace, Visit
from scorescope.probes.sampling.sample import parameters_of

_FORGOTTEN = "the rule remembers earlier steps, of which one is missing"


@checked
def visits(trace: Trace) -> Iterator[Visit]:
    """The kept states and branches of any trace, in denoised space and the variance-exploding convention.

    Raises
    ------
    InputError
        Where states and branches were not kept, or the branches of a pipeline were not told apart.
    """
    yield from kept_visits(trace)


def kept_visits(trace: Trace) -> Sequence[Visit]:
    """The same by their places, in any order and more than once: those of a pipeline are read when they are asked for.

    Raises
    ------
    InputError
        As `visits` does.
    """
    if trace.kept:
        return trace.kept
    if not trace.of_pipeline:
        expected = "a run recorded with Recording(keep=True)"
        raise InputError("trace", found="a trace whose states and branches were not kept", expected=expected)
    return RecordedVisits(trace)


def path_applied(trace: Trace) -> float:
    """How far guidance moved the predictions that a path was made of; 0 for an unguided path.

    Infinite where the scheduler received other predictions than the recorded ones: those of a `guide` around it.

    Parameters
    ----------
    trace : Trace
        A run, or a replay: its states are those of the run that it replays, whatever its own rule predicts there.

    Returns
    -------
    float
        The largest |g - D_c| / sqrt(|D_c|^2 + |x - D_c|^2) of any row, denoised space: the second is what the network
        put out, so that rounding g to a type comes to about its eps. Where the noise is infinite |x - D_c|^2 is
        taken per unit of noise, as the number of elements. NaN where no prediction is known.
    """
    if "path_applied" in trace.manifest:
        return float(trace.manifest["path_applied"])
    scalars = trace.scalars
    needed = ("applied_sq", "cond_sq", "noise_sq")
    if missing := [name for name in needed if name not in scalars]:
        raise InputError("trace.scalars", found=f"no {missing[0]}", expected=f"the columns {', '.join(needed)}")
    if "replaced_by" in scalars and (scalars["replaced_by"] != "").any():
        return float("inf")
    noise = scalars["noise_sq"].where(np.isfinite(scalars["noise_sq"]), float(np.prod(trace.manifest["shape"])))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.sqrt(scalars["applied_sq"] / (scalars["cond_sq"] + noise)).max())


@dataclass
class _Replayed:
    """One rule on its way through a trace.

    `lost` are paths with a step that the rule could not be applied to: what it would remember of it is not known.
    """

    rule: Rule
    recorder: ScalarRecorder
    kept: list[Visit] = field(default_factory=list)
    memory: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    lost: set[tuple[int, int]] = field(default_factory=set)
    makers: dict[str, Maker | None] = field(default_factory=dict)
    refused: InputError | None = None
    applied: bool = False


@checked
def replay(trace: Trace, rule: Rule, *, keep: bool = False, progress: bool = False) -> Trace:
    """Apply one rule at the states of a recorded run; see `replay_all`."""
    return replay_all(trace, [rule], keep=keep, progress=progress)[0]


@checked
def replay_all(trace: Trace, rules: Sequence[Rule], *, keep: bool = False, progress: bool = False) -> list[Trace]:
    """Apply rules at the states of a recorded run. The trace is read once, however many rules there are.

    Parameters
    ----------
    trace : Trace
        A run of `sample` with `Recording(keep=True)`, or of a recorded pipeline with its branches and x kept.
    rules : sequence of Rule
        What to apply.
    keep : bool
        Keep the counterfactual predictions too, in `kept`.
    progress : bool
        Show a progress bar.

    Returns
    -------
    list of Trace
        One a rule. `scalars` are those of a run, with the rule's prediction as `guided`, `needed` the evaluations
        that the rule would have needed, and in addition `difference_sq`, |g_rule - g_recorded|^2, and `guided_sq`,
        |g_recorded|^2, both in denoised space. What the rule predicts is NaN at steps without a branch that it needs
        (guidance that ends half-way), and from there on for a rule that remembers; `missing` says so.

    Raises
    ------
    InputError
        Where states or branches were not kept or at no step told apart, or a rule needs a branch that was recorded at
        none, or one that another rule made: the random condition of `ICG` is no unconditional branch, and a network
        perturbed at other sites another one. A pipeline's perturbed branch is served to `PAG`, `SLG` and `SEG` alone.
    """
    if not rules:
        raise InputError("rules", found="none", expected="at least one rule")
    recording = {} if trace.of_pipeline else trace.manifest.get("recording", {})
    options = Recording(value_range=_pair(recording.get("value_range")))
    under_way = [_Replayed(rule, ScalarRecorder(options)) for rule in rules]
    seeds = trace.samples.set_index("sample")["seed"]
    shape: list[int] = []
    with _one_thread():
        for visit in tqdm(_ahead(visits(trace)), desc="replaying", disable=not progress):
            shape = list(visit.x.shape[1:])
            own = [int(seed) for seed in seeds.loc[visit.first : visit.first + len(visit.x) - 1].fillna(0)]
            shared = _shared(visit, own, options)
            for one in under_way:
                _apply(one, visit, shared, keep)
    return [_finished(trace, one, shape, options) for one in under_way]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread, as it was afterwards.

    Beside the thread that reads, thousands of small parallel operations would each wait for its core: three times
    the work itself. The number is that of the whole process: what other threads compute meanwhile has one thread too,
    and of replays that run at the same time the last to end decides which number stays.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _ahead(source: Iterator[Visit]) -> Iterator[Visit]:
    """The same visits, the next one being read while rules work on this one: reading and hashing hold no lock."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, source, None)
        while (visit := coming.result()) is not None:
            coming = reader.submit(next, source, None)
            yield visit


@dataclass(frozen=True)
class _Shared:
    """What all rules have in common at one visit: the branch that D_c is compared with, and the inner products."""

    reference: str
    compared: Tensor | None
    products: dict[str, Tensor]
    seeds: list[int]
    of_branches: Products | None
    plain: StateProducts | None  # where pixels are not looked at one by one


def _shared(visit: Visit, seeds: list[int], options: Recording) -> _Shared:
    reference, compared = UNCOND, visit.uncond
    if UNCOND in visit.made_by:
        reference = visit.made_by[UNCOND].reference
    if compared is None and visit.others:
        reference, compared = next(iter(visit.others.items()))
    colour = visit.cond.ndim == 4 and visit.cond.shape[1] == 3
    plain = None if colour or options.value_range else StateProducts(visit.cond, compared, visit.x, visit.guided)
    if plain is not None:
        products = plain.products
    else:
        guided_sq = squared_distance(visit.guided, torch.zeros_like(visit.guided))
        products = {**branch_products(visit.cond, compared, visit.x), "guided_sq": guided_sq}
    of_branches = None if visit.uncond is None else Products(visit.cond, visit.uncond, visit.x, products)
    return _Shared(reference, compared, products, seeds, of_branches, plain)


def _apply(one: _Replayed, visit: Visit, shared: _Shared, keep: bool) -> None:
    path = visit.first, visit.stream
    memory = one.memory.setdefault(path, {})
    state = GuidanceState(
        visit.x, visit.sigma, visit.sigma_next, visit.step, visit.call, memory, shared.seeds, dict(visit.others),
        shared.of_branches,
    )  # fmt: skip
    needed = one.rule.branches(state)
    rows = one.rule.rows(state) if UNCOND in needed and isinstance(one.rule, RowRule) else None
    missing = _missing(one, needed, rows, visit, shared)
    products, guided = None, torch.full_like(visit.cond, torch.nan)
    if not all(missing):
        products = None if keep else _of_combination(one.rule, state, shared)
        if products is None:
            guided = one.rule(visit.cond, visit.uncond if UNCOND in needed else None, state)
    if path in one.lost and memory:
        missing = [why or _FORGOTTEN for why in missing]
    if products is None:
        products = _of_prediction(guided, visit, shared, one.recorder.recording)
    if any(missing):
        gone = torch.tensor([bool(why) for why in missing], device=guided.device)
        products = {name: value.masked_fill(gone, torch.nan) for name, value in products.items()}
        guided = torch.where(gone.reshape(-1, *(1,) * (guided.ndim - 1)), torch.nan, guided)
        one.lost.add(path)
    one.applied |= not all(missing)
    one.recorder.add(
        visit.x, visit.cond, shared.compared, guided, products=shared.products | products,
        first=visit.first, run=visit.run, stream=visit.stream, step=visit.step, call=visit.call,
        sigma=visit.sigma, sigma_next=visit.sigma_next, weight=row_weights(one.rule, state, rows),
        needed=len(needed) if rows is None else (rows.int() + len(needed) - 1).cpu().numpy(), observed=0,
        reference=shared.reference, missing=[_said(why, visit, shared) for why in missing],
    )  # fmt: skip
    if keep:
        one.kept.append(replace(visit, guided=guided))


def _of_combination(rule: Rule, state: GuidanceState, shared: _Shared) -> dict[str, Tensor] | None:
    """What the rule's scalars are, where they follow from inner products alone."""
    if shared.plain is None or shared.of_branches is None:
        return None
    factors = combination_of(rule, shared.of_branches, state)
    return None if factors is None else shared.plain.of_combination(factors)


def _of_prediction(guided: Tensor, visit: Visit, shared: _Shared, options: Recording) -> dict[str, Tensor]:
    if shared.plain is not None:
        return shared.plain.of_prediction(guided)
    difference = {"difference_sq": squared_distance(guided, visit.guided)}
    return difference | guided_products(guided, visit.cond, options.value_range)


def _missing(one: _Replayed, needed: Sequence[str], rows: Tensor | None, visit: Visit, shared: _Shared) -> list[str]:
    """Why the rule cannot be applied to each sample at this state; empty where it can."""
    reasons = [""] * len(visit.x)
    for branch in needed:
        lacking = _lacking(branch, rows, visit, shared)
        if lacking.any() and one.refused is None:
            where = f"step {visit.step}, sigma {visit.sigma:.4g}"
            expected = f"a trace with it: record with Recording(all_branches=True), or sample with {describe(one.rule)}"
            one.refused = InputError("trace", found=f"no {branch} branch at {where}", expected=expected)
        if not lacking.all() and branch != COND:
            if branch not in one.makers:
                one.makers[branch] = maker_of(one.rule, branch)
            check_maker(one.rule, branch, one.makers[branch], visit.made_by.get(branch), step=visit.step)
        why = f"no {branch} branch was recorded" + (f": {visit.why}" if visit.why else "")
        reasons = [reason or (why if absent else "") for reason, absent in zip(reasons, lacking.tolist(), strict=True)]
    return reasons


def _lacking(branch: str, rows: Tensor | None, visit: Visit, shared: _Shared) -> Tensor:
    """Which samples have not the branch that the rule needs of them, bool, shape (batch,)."""
    if branch == COND:
        return shared.products["cond_sq"].isnan()
    if branch == UNCOND and visit.uncond is not None:
        # a sample that did not need the branch when it was recorded has NaN there
        unknown = shared.products["uncond_sq"].isnan()
        return unknown if rows is None else unknown & rows
    absent = branch not in visit.others
    return torch.full_like(shared.products["cond_sq"], absent, dtype=torch.bool)


def _said(why: str, visit: Visit, shared: _Shared) -> str:
    """What a row's `missing` says: of the rule's prediction, else of the branch that it is compared with."""
    return why or ("" if shared.compared is not None else visit.why or "not recorded")


def _finished(trace: Trace, one: _Replayed, shape: list[int], options: Recording) -> Trace:
    if one.refused is not None and not one.applied:
        raise one.refused
    table = one.recorder.table()
    table["sample"] += table.pop("first")
    known = [name for name in (*OUTPUT_PRODUCTS, "precision") if name in trace.scalars]  # of the same branches
    keys = [name for name in ("run", "stream", "sample", "step", "call") if name in trace.scalars]
    table = table.merge(trace.scalars[[*keys, *known]], on=keys, how="left") if known else table
    manifest: dict[str, Any] = {
        **trace.manifest,
        "rule": describe(one.rule),
        "rule_parameters": parameters_of(one.rule),
        "weight": one.rule.weight,
        "shape": shape,
        "replayed_from": trace.manifest.get("replayed_from", trace.manifest.get("rule", "a recorded pipeline")),
        "path_applied": path_applied(trace),
        "recording": {"value_range": options.value_range, "band_edges": ()},
    }
    return Trace(table, trace.samples, manifest, kept=one.kept)


def _pair(value: Any) -> tuple[float, float] | None:
    return None if value is None else (float(value[0]), float(value[1]))
