"""The weight of CFG that a rule comes to in each first-order step of a grid: of CFG++, of intervals, of schedules.

effective_weights(CFGPP(0.6), edm_sigmas(50))
"""

import itertools
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from scorescope.analysis.statistics.tables import Column, Schema
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.guidance import GuidanceState, Rule, describe
from scorescope.probes.models.noise import check_sigmas

PAIRS, ELEMENTS = 6, 32  # of made-up predictions that the rule is asked with
EXACT = 1e-9

EFFECTIVE_WEIGHTS = Schema(
    "effective_weights",
    (
        Column("step", int, "", "first-order step of the grid"),
        Column("sigma", float, "data", "noise level that it starts from"),
        Column("sigma_next", float, "data", "noise level that it goes to"),
        Column("weight", float, "1", "w of the CFG that predicts what the rule does, D_r + w (D_c - D_r)"),
    ),
)


@checked
def effective_weights(rule: Rule, sigmas: Sequence[float]) -> pd.DataFrame:
    """The weight that a rule has in each step; CFG++ has lambda sigma / (sigma - sigma').

    The rule is asked at made-up predictions: no model is called.

    Parameters
    ----------
    rule : Rule
        One that is CFG at a weight that depends on the step alone, with whatever branch as its reference.
    sigmas : sequence of float
        Falling noise levels; the last may be 0.

    Returns
    -------
    DataFrame
        Columns declared in `EFFECTIVE_WEIGHTS`.

    Raises
    ------
    InputError
        For a rule that is no CFG at some step, or whose weight there depends on the predictions.
    """
    check_sigmas(sigmas)
    generator = torch.Generator().manual_seed(0)
    cond, x, apart = (torch.randn(PAIRS, ELEMENTS, generator=generator, dtype=torch.float64) for _ in range(3))
    apart *= torch.logspace(-4, 1, PAIRS, dtype=torch.float64)[:, None]  # from branches that agree to those that do not
    memory: dict[str, object] = {}
    rows = []
    for step, (sigma, after) in enumerate(itertools.pairwise(sigmas)):
        state = GuidanceState(cond + sigma * x, sigma, after, step, 0, memory, range(PAIRS))
        weight = _weight(rule, cond, apart, state)
        rows.append({"step": step, "sigma": sigma, "sigma_next": after, "weight": weight})
    return EFFECTIVE_WEIGHTS.check(pd.DataFrame(rows))


def _weight(rule: Rule, cond: Tensor, apart: Tensor, state: GuidanceState) -> float:
    """What the rule multiplies the difference of branches by."""
    reference = cond - apart
    branches = rule.branches(state)
    state.others.update({branch: reference for branch in branches if branch not in ("cond", "uncond")})
    moved = rule(cond, reference if "uncond" in branches else None, state) - cond
    size = apart.square().sum(1)
    more = (moved * apart).sum(1) / size
    rest = (moved - more[:, None] * apart).norm(dim=1) / (cond.norm(dim=1) + moved.norm(dim=1))
    if bool((rest > EXACT).any()):
        _refuse(rule, state, "which is no CFG")
    if float(more.max() - more.min()) > 1e-6 * (1 + float(more.abs().max())):
        _refuse(rule, state, f"with weights from {1 + float(more.min()):.3g} to {1 + float(more.max()):.3g}")
    return 1 + float(more[-1])


def _refuse(rule: Rule, state: GuidanceState, why: str) -> None:
    expected = "a rule that is CFG at a weight which depends on the step alone"
    raise InputError("rule", found=f"{describe(rule)} at sigma {state.sigma:.4g}, {why}", expected=expected)
