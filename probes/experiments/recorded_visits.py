"""The states and branches that a recorded pipeline visited, as visits: denoised space, variance-exploding convention.

What is not known at a step, its level or a branch, is missing there with the reason; the other steps are as they are.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.guidance.base import PERTURBED
from scorescope.probes.guidance.branch_makers import PIPELINE
from scorescope.probes.guidance.scheduler_step import LEAST_ALPHA
from scorescope.probes.pipelines.proof import Proved
from scorescope.probes.recording.arrays import Arrays
from scorescope.probes.recording.table import at
from scorescope.probes.recording.trace import Trace, Visit


class RecordedVisits(Sequence[Visit]):
    """States and branches of a recorded pipeline, step by step: each is read when it is asked for.

    Raises
    ------
    InputError
        Where levels differ inside a step, or nothing is known at any step; on reading, where states or branches were
        not kept.
    """

    def __init__(self, trace: Trace) -> None:
        self._arrays = trace.arrays
        steps = list(zip(self._arrays.events, self._arrays.proved, strict=True))
        self._why = [_level_unknown(event, step) or _unnamed(step, "cond") for event, step in steps]
        if self._why and all(self._why):
            expected = "at least one step whose noise level and branches are known"
            raise InputError("trace", found=self._why[0], expected=expected)
        self._rows = trace.scalars.groupby(["run", "event"], sort=False).first()

    def __len__(self) -> int:
        return len(self._why)

    def __getitem__(self, place: Any) -> Any:
        if not 0 <= place < len(self):  # what ends an iteration
            raise IndexError(place)
        event, step = self._arrays.events[place], self._arrays.proved[place]
        row = self._rows.loc[(event["run"], event["event"])]
        return _visit(self._arrays, place, row, self._why[place] or _unnamed(step, "uncond"))


def _visit(arrays: Arrays, place: int, row: pd.Series, why: str) -> Visit:
    """One step; what is not known there is NaN, or None for a branch beside cond."""
    event, step = arrays.events[place], arrays.proved[place]
    known = not _level_unknown(event, step)
    named = known and not _unnamed(step, "cond")
    # a state without data (flow at time 1, zero terminal SNR) has no finite x / alpha: rules see it as if it held
    # this share of data
    alpha = max(at(event["level"]["alpha"], 0), LEAST_ALPHA)
    x = arrays.load("x", place).double() / alpha

    def load(name: str) -> Tensor:
        return arrays.load(name, place, space="denoised")

    guided = load("guided") if known else torch.full_like(x, torch.nan)
    cond = load("cond") if named else torch.full_like(x, torch.nan)
    uncond = load("uncond") if named and not _unnamed(step, "uncond") else None
    others = {PERTURBED: load("perturbed")} if named and step.perturbed is not None else {}
    return Visit(
        int(row["step"]), int(row["call"]), min(float(row["sigma"]), 1 / LEAST_ALPHA), float(row["sigma_next"]),
        x[: len(cond)], cond, uncond, guided[: len(cond)], others, first=int(row["sample"]),
        made_by=dict.fromkeys(others, PIPELINE), run=int(event["run"]), stream=int(event["stream"]), why=why,
    )  # fmt: skip


def _level_unknown(event: Mapping[str, Any], step: Proved) -> str:
    """Why nothing is known in denoised space at a step; empty where the level is known.

    Raises
    ------
    InputError
        Where it differs between samples or inside one: a rule is called at one level.
    """
    level = event["level"]
    values = {name: level[name] for name in ("sigma", "sigma_next", "alpha", "skip", "out")}
    differs = any(len(set(value)) > 1 for value in values.values() if isinstance(value, list) and None not in value)
    if differs or "denoised_gram" in (step.hypothesis or {}):
        found = f"noise levels that differ by sample, or inside one, at step {event['step']}"
        raise InputError("trace", found=found, expected="one noise level for all samples of a step")
    if level["note"] or any(math.isnan(at(values[name], 0)) for name in ("sigma", "alpha", "skip", "out")):
        return f"the noise level is unknown at step {event['step']}: {level['note'] or 'the scheduler tells none'}"
    return ""


def _unnamed(step: Proved, branch: str) -> str:
    """Why a branch is not known at a step; empty where it is."""
    places = {getattr(verdict, branch) for verdict in step.verdicts}
    if step.hypothesis is not None and len(places) == 1 and None not in places:
        return ""
    return next((v.reason for v in step.verdicts if v.reason), "the branches differ between samples of this step")
