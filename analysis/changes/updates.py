"""Whether two ways to guide say the same at the same states: cosine and ratio of norms of their updates.

table = update_agreement(of_cfg, of_icg)         # two runs through the same states, branches kept
"""

from collections.abc import Iterator
from itertools import zip_longest

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scorescope.analysis.guidance.decomposition import SAME
from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.tables import Column, Schema
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.experiments.replay import visits
from scorescope.probes.recording.trace import Trace, Visit

APART = 1e-4  # relative distance of two states that are taken for one

UPDATE_AGREEMENT = Schema(
    "update_agreement",
    (
        Column("run", int, "", "run of the pipeline, from 0"),
        Column("sample", int, "", "sample, counted over all runs"),
        Column("step", int, "", "sampling step"),
        Column("call", int, "", "prediction within the step"),
        Column("sigma", float, "data", "noise level"),
        Column("cosine", float, "1", "of the updates D_c - D_r of the two, denoised space"),
        Column("norm_ratio", float, "1", "L2 norm of the second's update over that of the first's"),
        Column("missing", str, "", "why there is none: an update that is zero, or a branch that was not recorded"),
    ),
)


@checked
def update_agreement(first: Trace, second: Trace) -> pd.DataFrame:
    """How alike two guidance updates are, one row a (sample, step, call).

    Parameters
    ----------
    first, second : Trace
        Runs or replays through the same states, with both branches kept. The update of each is D_c less its own
        reference: the unconditional branch, a weak model, a random condition (ICG).

    Returns
    -------
    DataFrame
        Columns declared in `UPDATE_AGREEMENT`.

    Raises
    ------
    InputError
        Where the states are not the same, and for traces without states and branches.
    """
    parts = [_agreement(one, other) for one, other in _pairs(first, second)]
    if not parts:
        raise _other_states()
    return UPDATE_AGREEMENT.check(pd.concat(parts, ignore_index=True))


def _pairs(first: Trace, second: Trace) -> Iterator[tuple[Visit, Visit]]:
    """A step of each is held at a time."""
    for one, other in zip_longest(visits(first), visits(second)):
        if one is None or other is None or not _same(one, other):
            raise _other_states()
        yield one, other


def _other_states() -> InputError:
    expected = "states of the first, as of a replay of it, or of a run that the same predictions lead on"
    return InputError("second", found="other states, steps or samples", expected=expected)


def _same(one: Visit, other: Visit) -> bool:
    places = [(v.run, v.stream, v.step, v.call, v.first, tuple(v.x.shape)) for v in (one, other)]
    return places[0] == places[1] and bool((one.x - other.x).norm() <= APART * one.x.norm())


def _agreement(one: Visit, other: Visit) -> pd.DataFrame:
    mine, its = _update(one), _update(other)
    inner, squares = (mine * its).sum(1), [(update**2).sum(1) for update in (mine, its)]
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = inner / np.sqrt(squares[0] * squares[1])
        ratio = np.where(squares[0] > 0, np.sqrt(squares[1] / squares[0]), np.nan)
    unknown = np.isnan(inner)
    why = np.where(unknown, "no branch to compare with", np.where(np.isnan(cosine), SAME, ""))
    return pd.DataFrame(
        {
            "run": one.run, "sample": one.first + np.arange(len(mine)), "step": one.step, "call": one.call,
            "sigma": one.sigma, "cosine": np.clip(cosine, -1, 1), "norm_ratio": ratio, "missing": why,
        }
    )  # fmt: skip


def _update(visit: Visit) -> Floats:
    """D_c less what it is compared with, one row a sample; NaN where that is not known."""
    reference: Tensor | None = visit.uncond
    if reference is None:
        reference = next(iter(visit.others.values()), torch.full_like(visit.cond, torch.nan))
    update: Floats = (visit.cond.double() - reference.double()).flatten(1).cpu().numpy()
    return update
