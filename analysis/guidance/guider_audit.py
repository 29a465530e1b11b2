"""What a guider really does, from numbers alone.

    table = audit(ClassifierFreeGuidance(4.0), trace)        # a trace with states and branches kept
    table = audit(lambda cond, uncond: uncond + 3.0 * (cond - uncond), states, scale=3.0, paper=CFG(3.0))

A guider is a function g(c, u) of two predictions. Fed in several spaces at the same states, it shows where it works:
a formula of c and u alone gives g in their span in its own space, and in another space only with the state beside
them. There its update g - c splits into the direction of c and the rest, each with a weight of its own. Plain
guidance has the same weight for both, in every space; a projection shows as two weights; the weight less the
guider's scale is the offset of its convention. A guider with a perturbed branch beside the two has a third weight,
that of cond - perturbed. With the other samples of a batch exchanged it shows whether it looks at them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.analysis.guidance.decomposition import SAME
from scorescope.analysis.guidance.guider_answers import (
    Answer,
    answers,
    guider_couplings,
    level_of,
    predictions,
    steps_of,
)
from scorescope.analysis.guidance.paper_rules import PERTURBING, own_scale, paper_rule
from scorescope.analysis.statistics.tables import Column, Schema
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.experiments.batch_coupling import Coupling
from scorescope.probes.experiments.replay import visits
from scorescope.probes.guidance import GuidanceState, Rule
from scorescope.probes.guidance.base import PERTURBED
from scorescope.probes.guidance.scheduler_step import LEAST_ALPHA
from scorescope.probes.models.spaces import NoiseLevel, Space, from_denoised
from scorescope.probes.recording.trace import Trace, Visit

SPACES: tuple[Space, ...] = ("denoised", "eps", "v", "flow")

# Share of an update that may lie outside the span of the branches: several peers compute in float32 inside, which
# is 1e-7 of a prediction that may be a thousand times the update.
SPAN_TOLERANCE = 1e-4
ROUNDED = 1e-6  # what lies outside the span, in units of cond, that float32 inside a guider explains by itself
CONVERTED = 1e-12  # the same of converting to a space and back in double precision; branches so close are the same
NO_PART = 1e-6  # share of cond - uncond below which it has no part along cond, or none across

GUIDER_AUDIT = Schema(
    "guider_audit",
    (
        Column("fed", str, "", "space of the predictions that the guider was given"),
        Column("run", int, "", "run of the pipeline, from 0"),
        Column("sample", int, "", "sample, counted over all runs of the trace"),
        Column("step", int, "", "sampling step"),
        Column("call", int, "", "prediction within the step"),
        Column("sigma", float, "data", "noise level, variance exploding"),
        Column(
            "acts_in",
            str,
            "",
            "space in which the result is a combination of cond and uncond; any (linear); none; "
            "unknown where nothing can be told, see `missing`",
        ),
        Column("raw", bool, "", "it is found to act in whatever space it is fed, at this state (of at least two)"),
        Column("weight_orthogonal", float, "1", "w of the part of cond - uncond orthogonal to cond, in `acts_in`"),
        Column("weight_parallel", float, "1", "w of the part along cond, in `acts_in`; 1 leaves cond as it is"),
        Column("scale_perturbed", float, "1", "s of what cond - perturbed adds to the others' span; NaN without"),
        Column("offset", float, "1", "weight_orthogonal - scale: 0 where w = s, 1 where w = s + 1"),
        Column("projection", bool, "", "the two weights differ"),
        Column("residual", float, "1", "share of the update outside the span of the branches, in `acts_in`"),
        Column("difference", float, "1", "|D - D_paper| / |D_paper|, denoised space; NaN without a paper's formula"),
        Column("missing", str, "", "why `acts_in` or a weight is not known; empty where all are"),
        Column("couples_samples", bool, "", "it looks at other samples of the batch: coupling above 3 coupling_floor"),
        Column(
            "coupling",
            float,
            "1",
            "|D_other - D| / |D| of the sample, the others of the batch exchanged from the first "
            "step on, denoised space; NaN for a batch of one",
        ),
        Column(
            "coupling_floor",
            float,
            "1",
            "the same with none exchanged: run again, and with each sample twice in "
            "the batch, where no more than 1e-4 counts as rounding",
        ),
        Column("error", str, "", "what the guider raised; empty where it gave a finite prediction"),
    ),
)

GuiderFunction = Callable[[Tensor, Tensor], Tensor]


@checked
def audit(
    guider: Any,
    states: Trace | Iterable[Visit],
    *,
    spaces: Sequence[Space] = SPACES,
    scale: float | None = None,
    paper: Rule | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Run a guider at given states, in several prediction spaces, and tell what it did.

    Parameters
    ----------
    guider : object
        A diffusers guider, a function of (cond, uncond), or what `as_guider` returns. A guider is copied for each
        run, so its own state is left alone; what a function remembers goes on from run to run. There are 3 + 2 log2(n)
        runs a space for batches of n, see `batch_coupling` of `probes.experiments`. Guiders with a
        perturbed branch (PAG, SLG, SEG, and the spatio-temporal one of LTX-2) are given all three.
    states : Trace or iterable of Visit
        States and denoised predictions of both branches, in the order of the run: a trace recorded with
        keep="branches" (or of `sample` with `Recording(keep=True)`), or visits. The perturbed branch is that of
        `others`, where a guider needs it. States without data, with which a flow or zero terminal SNR starts (1e8
        in `visits`), are left out: there the spaces cannot be told apart.
    spaces : sequence of str
        Spaces to feed, of denoised, eps, v and flow.
    scale : float, optional
        The guider's own scale s; read from `guidance_scale` where it has one.
    paper : Rule, optional
        The paper's formula in denoised space, to compare with. By default that of `paper_rule`.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DataFrame
        Columns of `GUIDER_AUDIT`, one row a (fed space, run, step, call, sample). Where the branches are the same, or
        the guider fails, nothing tells where it acts: `acts_in` is then unknown and not none. `batch_coupling` of
        `probes.experiments` tells of a whole sampler or pipeline what `coupling` tells of a guider.

    Raises
    ------
    InputError
        For states without the branches that the guider combines, noise levels that are infinite or not positive, or
        unknown spaces.
    """
    if not spaces or not set(spaces) <= set(SPACES):
        raise InputError("spaces", found=str(tuple(spaces)), expected=f"some of {', '.join(SPACES)}")
    perturbed = type(guider).__name__ in PERTURBING
    chosen = list(_visits(states, (PERTURBED,) if perturbed else ()))
    if not chosen:
        raise InputError("states", found="none", expected="at least one, with both branches")
    scale, parts = own_scale(guider) if scale is None else scale, []
    for space in tqdm(spaces, desc="audit", disable=not progress, leave=False):
        for path in _paths(chosen):  # each begins afresh, with its own number of steps
            formula = paper_rule(guider, steps_of(path)) if paper is None else paper
            said, memory = answers(guider, path, space), dict[str, Any]()
            coupled = guider_couplings(guider, path, space, said)
            for visit, answer, coupling in zip(path, said, coupled, strict=True):
                parts.append(_audit_one(guider, visit, space, answer, formula, scale, memory, coupling))
    table = pd.concat(parts, ignore_index=True)
    keys = [table[name] for name in ("run", "step", "call", "sample")]
    same = (table["acts_in"] == table["fed"]).groupby(keys).transform("all")
    table["raw"] = same & (len(set(spaces)) > 1)
    return GUIDER_AUDIT.check(table)


def _visits(states: Trace | Iterable[Visit], others: Sequence[str]) -> Iterator[Visit]:
    for visit in visits(states) if isinstance(states, Trace) else states:
        if 1 / LEAST_ALPHA <= visit.sigma < float("inf"):
            continue  # what `visits` makes of a state without data, at which a flow starts: no space is told there
        if visit.uncond is None or not torch.isfinite(visit.uncond).all():
            found = f"step {visit.step} without the unconditional branch of every sample"
            found += f" ({visit.why})" if visit.why else ""
            raise InputError("states", found=found, expected="states with both branches (all_branches=True)")
        if lacking := [name for name in others if name not in visit.others]:
            found = f"step {visit.step} without the {lacking[0]} branch"
            raise InputError("states", found=found, expected="a run that computed it, its branches kept")
        if not 0 < visit.sigma < float("inf"):
            raise InputError("states", found=f"sigma {visit.sigma}", expected="a finite noise level above 0")
        yield visit


def _paths(chosen: Iterable[Visit]) -> list[list[Visit]]:
    """The visits of each run and batch, in their order."""
    paths: dict[tuple[int, int, int], list[Visit]] = {}
    for visit in chosen:
        paths.setdefault((visit.run, visit.first, visit.stream), []).append(visit)
    return list(paths.values())


def _audit_one(
    guider: Any, visit: Visit, space: Space, answer: Answer, paper: Rule | None, scale: float | None,
    memory: dict[str, Any], coupling: Coupling,
) -> pd.DataFrame:  # fmt: skip
    """One state, fed in one space: a row a sample."""
    x, branches = predictions(guider, visit)
    cond, uncond = branches[:2]
    guided, error = answer
    keys = {
        "fed": space, "run": visit.run, "sample": visit.first + np.arange(len(x)), "step": visit.step,
        "call": visit.call, "sigma": float(visit.sigma), "error": error, "coupling": coupling.change,
        "coupling_floor": coupling.floor, "couples_samples": coupling.couples,
    }  # fmt: skip
    found = _act(guided, branches, x, level_of(x, visit), space, None if error else scale)
    reference = None
    if paper is not None:
        state = GuidanceState(x, visit.sigma, visit.sigma_next, visit.step, visit.call, memory)
        state.others.update(zip((PERTURBED,), branches[2:], strict=False))
        reference = paper(cond, uncond, state)
    absent = np.full(len(x), np.nan)
    found["difference"] = absent if reference is None else (_norm(guided - reference) / _norm(reference)).cpu().numpy()
    return pd.DataFrame(keys | found)


def _act(
    guided: Tensor, branches: Sequence[Tensor], x: Tensor, level: NoiseLevel, space: Space, scale: float | None
) -> dict[str, Any]:
    """Where the guider acted, and with which weights, for each sample."""
    found = {space: _weights(guided, branches, x, level, space) for space in SPACES}
    residuals, left = (torch.stack([found[space][k] for space in SPACES]) for k in (3, 4))
    inside = ((residuals <= SPAN_TOLERANCE) | (left <= CONVERTED)).cpu().numpy()
    best = residuals.nan_to_num(torch.inf).argmin(0).cpu().numpy()
    fed = SPACES.index(space)
    best = np.where(inside[fed], fed, best)  # at sigma 1 v and flow are the same but for a factor
    linear, failed = inside.all(0), ~inside.any(0)
    names = np.where(linear, "any", np.where(failed, "none", np.array(SPACES)[best]))
    chosen = np.where(linear | failed, 0, best)  # denoised where the space is no matter, or none fits
    orthogonal, parallel, third, residual = (
        torch.stack([found[space][k] for space in SPACES]).cpu().numpy()[chosen, np.arange(len(x))] for k in range(4)
    )
    reasons = {
        "no finite prediction": ~torch.isfinite(residuals).any(0).cpu().numpy(),
        SAME: linear & (_norm(branches[0] - branches[1]) <= CONVERTED * _norm(branches[0])).cpu().numpy(),
        "within rounding of cond": failed & (left <= ROUNDED).any(0).cpu().numpy(),
    }
    unknown = np.any(list(reasons.values()), axis=0)
    reasons |= {"cond and uncond are parallel": np.isnan(orthogonal), "no part along cond": np.isnan(parallel)}
    apart = np.abs(parallel - orthogonal) > 1e-3 * np.maximum(1, np.abs(orthogonal))
    return {
        "acts_in": np.where(unknown, "unknown", names), "raw": False, "weight_orthogonal": orthogonal,
        "weight_parallel": parallel, "scale_perturbed": third,
        "offset": orthogonal - (np.nan if scale is None else scale), "projection": apart, "residual": residual,
        "missing": np.select(list(reasons.values()), list(reasons), ""),
    }  # fmt: skip


def _weights(
    guided: Tensor, branches: Sequence[Tensor], x: Tensor, level: NoiseLevel, space: Space
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Orthogonal, parallel and third weight in one space, NaN where there is no such part, and what is in no direction:
    as a share of the update, and in units of cond."""
    g, c, u, *perturbed = (from_denoised(tensor, x, level, space=space).flatten(1) for tensor in (guided, *branches))
    update, applied = c - u, g - c
    unit = c / _divisor(_norm(c))[:, None]
    across = update - _dot(update, unit)[:, None] * unit
    least = torch.maximum(NO_PART * _norm(update), CONVERTED * _norm(c))  # less is no part of an update
    across = across * (_norm(across) > least)[:, None]
    width, size, third = _dot(across, across), _norm(applied), torch.full_like(_norm(applied), torch.nan)
    left = applied
    if perturbed:  # first what only cond - perturbed explains, then the rest as without it
        away = c - perturbed[0]
        own = away - _dot(away, unit)[:, None] * unit
        own = own - (_dot(own, across) / _divisor(width))[:, None] * across
        third = torch.where(_norm(own) > SPAN_TOLERANCE * _norm(away), _dot(applied, own) / _dot(own, own), torch.nan)
        left = applied - third.nan_to_num(0.0)[:, None] * away
    along, rest = _dot(left, unit), _dot(left, across) / _divisor(width)
    outside = _norm(left - along[:, None] * unit - rest[:, None] * across)
    parallel = torch.where(_dot(update, unit).abs() > least, 1 + along / _dot(update, unit), torch.nan)
    orthogonal = torch.where(width > 0, 1 + rest, torch.nan)
    return orthogonal, parallel, third, outside / _divisor(size), outside / _divisor(_norm(c))


def _divisor(lengths: Tensor) -> Tensor:
    """Lengths to divide nothing by: 1 in place of 0."""
    return torch.where(lengths == 0, 1.0, lengths)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(1)


def _norm(t: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(t.flatten(1), dim=1)
    return norms
