"""Several denoisers or conditions on the same noisy points: losses, distances, paired differences.

    arms = [Arm("uncond", denoiser), Arm("cond", denoiser, labels)]
    found = compare_arms(Bank(images, sigmas), arms)
    found.difference("uncond", "cond")            # (images, levels): loss of the first less loss of the second
    found.distance("uncond", "cond")              # |eps_uncond - eps_cond|^2

What is found is a `Comparison`, declared beside its sums in `comparison`.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.bank.comparison import Comparison, Sums
from scorescope.probes.bank.points import Bank, Point
from scorescope.probes.models.conditions import ConditionRows, kind_of, to_device
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate


@displayed
@checked
@dataclass(frozen=True)
class Arm:
    """One side of a comparison.

    Attributes
    ----------
    name : str
        Its name; no two arms share one.
    denoiser : Denoiser
        The model.
    condition : Condition
        One row an image of the bank, or a single row for all; None is the unconditional branch.
    """

    name: str
    denoiser: Denoiser
    condition: Condition = None


@checked
def compare_arms(
    bank: Bank,
    arms: Sequence[Arm],
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    rows: Tensor | None = None,
    map_weights: Sequence[float] | None = None,
    batch: int = 256,
    progress: bool = False,
) -> Comparison:
    """Evaluate every arm at every point of a bank.

    Arms of one denoiser whose conditions are of one kind go through it together, on the same x. Results do not
    depend on `batch`, but for what rounding the denoiser itself has in batches of different sizes; sums are float64.

    Parameters
    ----------
    bank : Bank
        Images, noise levels, draws, seed.
    arms : sequence of Arm
        What is compared; different names.
    pairs : sequence of (str, str), optional
        Pairs whose predictions are compared; by default the first arm with every other.
    rows : Tensor, shape (images,), int64, optional
        Images of the bank to use, all by default. An image keeps its noise and its condition's row.
    map_weights : sequence of float, one a level, optional
        Also keep maps over pixels, summed over levels with these weights in eps space. They take 16 bytes a pixel,
        image and pair.
    batch : int
        Samples in one call of a denoiser. Memory is that of one call and a few float64 copies of
        max(batch, arms) predictions.
    progress : bool
        Show a progress bar.

    Raises
    ------
    InputError
        For no arms, names given twice, unknown pairs, conditions or rows that do not fit the bank, and predictions
        of another shape or not finite.
    """
    names = tuple(arm.name for arm in arms)
    if not arms or len(set(names)) != len(names) or batch < 1:
        raise InputError("arms, batch", found=f"{list(names)}, {batch}", expected="arms of different names, batch >= 1")
    check_pairs(names, pairs)
    check_map_weights(map_weights, len(bank.sigmas))
    chosen = tuple((names[0], name) for name in names[1:]) if pairs is None else tuple(pairs)
    used = checked_rows(rows, len(bank))
    sums = Sums(bank, names, chosen, used, map_weights)
    groups = _groups(arms, len(bank))
    size = max(1, batch // len(arms))
    positions = itertools.cycle(torch.arange(len(used)).split(size))
    with torch.no_grad():
        for point, place in zip(bank.points(rows=used, batch=size, progress=progress), positions, strict=False):
            sums.add(place, point, _predict(groups, point, names, batch))
    return sums.result()


def check_pairs(names: Sequence[str], pairs: Sequence[tuple[str, str]] | None) -> None:
    """Raise `InputError` for pairs of arms that there are not."""
    if unknown := {name for pair in pairs or () for name in pair} - set(names):
        raise InputError("pairs", found=f"arms {sorted(unknown)}", expected=f"names among {list(names)}")


def check_map_weights(weights: Sequence[float] | None, levels: int) -> None:
    """Raise `InputError` unless there is a weight a noise level."""
    if weights is not None and len(weights) != levels:
        raise InputError("map_weights", found=f"{len(weights)} weights", expected=f"{levels}, one a noise level")


def checked_rows(rows: Tensor | None, count: int) -> Tensor:
    """Rows of a bank as int64 on the CPU, all if None.

    Raises
    ------
    InputError
        For none, rows that are not there, or rows named twice.
    """
    if rows is None:
        return torch.arange(count)
    rows = torch.as_tensor(rows).reshape(-1).cpu()
    bad = len(rows) == 0 or rows.is_floating_point() or rows.dtype == torch.bool
    if bad or int(rows.min()) < 0 or int(rows.max()) >= count or len(rows.unique()) < len(rows):
        found = f"{rows.dtype} {rows.tolist()[:5]}"
        raise InputError("rows", found=found, expected=f"at least one, different integers from 0 to {count - 1}")
    return rows.long()


@dataclass(frozen=True)
class _Group:
    """Arms that go through a denoiser together."""

    denoiser: Denoiser
    members: list[int]
    conditions: ConditionRows | None  # None: unconditional, so that all members are the same


def _groups(arms: Sequence[Arm], count: int) -> list[_Group]:
    found: dict[Any, list[int]] = {}
    for number, arm in enumerate(arms):
        kind = None if arm.condition is None else kind_of(arm.condition)
        found.setdefault((id(arm.denoiser), kind), []).append(number)
    groups = []
    for (_, kind), members in found.items():
        conditions = [arms[member].condition for member in members]
        joined = None if kind is None else ConditionRows.join(conditions, count=count)
        groups.append(_Group(arms[members[0]].denoiser, members, joined))
    return groups


def _predict(groups: Sequence[_Group], point: Point, names: tuple[str, ...], batch: int) -> dict[int, Tensor]:
    """Denoised prediction of every arm, by its number."""
    out: dict[int, Tensor] = {}
    for group in groups:
        if group.conditions is None:
            prediction = evaluate(group.denoiser, point.x, point.sigma, None, branch=names[group.members[0]])
            out |= dict.fromkeys(group.members, prediction)
            continue
        step = max(1, batch // len(point.rows))
        for start in range(0, len(group.members), step):
            members = group.members[start : start + step]
            count, local = len(members), torch.arange(start, start + len(members))
            condition = group.conditions.take(local.repeat_interleave(len(point.rows)), point.rows.repeat(count))
            x = point.x.repeat(count, *(1,) * (point.x.ndim - 1))
            prediction = evaluate(
                group.denoiser, x, point.sigma.repeat(count), to_device(condition, x.device), branch=names[members[0]]
            )
            out |= dict(zip(members, prediction.split(len(point.rows)), strict=True))
    return out
