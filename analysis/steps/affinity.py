"""Whether two noise levels want the same of a network: the cosine of the gradients of their losses.

    table = gradient_affinity(denoiser, images, [0.05, 0.2, 1.0, 5.0, 20.0], condition=labels)

Gradients of few images are mostly noise, which pulls every cosine towards 0; so the inner products of gradients of
different images stand beside it, in which that noise is not.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pandas as pd
import scipy
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.intervals import LEVEL
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.bank import Bank
from scorescope.probes.models.conditions import row_count, select_rows
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate

LEAST_GROUPS = 4
RELIABLE = 0.2  # cosine of two halves below which a ratio to it says nothing

GRADIENT_AFFINITY = Schema(
    "gradient_affinity",
    (
        Column("sigma", float, "data", "noise level of the first loss, E|D - x0|^2"),
        Column("sigma_other", float, "data", "noise level of the second"),
        Column("n", int, "", "images, one noise draw each a level, of its own"),
        Column("cosine", float, "1", "of the gradients of all images over all parameters: their noise draws it to 0"),
        Column("agreement", float, "1", "the same of expected gradients: from inner products between different groups "
               f"of images; missing where the reliability is below {RELIABLE:g}"),
        *ends("1", "of the agreement, jackknife over groups; of a level with itself it is 1 by definition"),
        Column("reliability", float, "1", "expected cosine of a level's gradients of two halves of the images, the "
               "lesser of the two levels': near 0 the gradient is noise"),
    ),
)  # fmt: skip


@checked
def gradient_affinity(
    denoiser: Denoiser,
    images: Tensor,
    sigmas: Sequence[float],
    *,
    condition: Condition = None,
    groups: int = 8,
    seed: int = 0,
    batch: int = 64,
    most: int = 2**31,
    progress: bool = True,
) -> pd.DataFrame:
    """Cosines of training gradients between noise levels, over all parameters of a network.

    Parameters
    ----------
    denoiser : Denoiser
        A `torch.nn.Module`, of whose parameters those are taken that require gradients, or all if none does. Its own
        gradients are left as they were.
    images : Tensor, shape (n, *shape)
        Clean data, at least one a group.
    sigmas : sequence of float
        Positive noise levels.
    condition : optional
        One row an image.
    groups : int
        Parts of the images whose gradients are kept apart, at least 4.
    seed : int
        Of the noise.
    batch : int
        Images computed together.
    most : int
        Bytes that the gradients of all groups and levels may take.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DataFrame
        `GRADIENT_AFFINITY`: one row a pair of levels, each pair once, with itself too. Weights of the loss that depend
        on the level alone change none of it.

    Raises
    ------
    InputError
        For a denoiser without parameters to train, too few groups or images, and gradients that take too much room.

    Notes
    -----
    Go et al. 2023 (arXiv 2306.00354), who average over training; here it is one checkpoint. Gradients are kept in
    their own type, their inner products summed in float64. On a linear denoiser the interval covered
    88 % of 400 draws of 32 images, 92 % of 64, 93 % of 128; of 256 it covered 96 % of 200.
    """
    if not LEAST_GROUPS <= groups <= len(images) or (condition is not None and row_count(condition) != len(images)):
        found = f"{groups} groups of {len(images)} images"
        raise InputError("groups", found=found, expected=f"{LEAST_GROUPS} or more, no more than images, a row an image")
    bank = Bank(images, [float(sigma) for sigma in sigmas], seed=seed)
    jobs = [(level, rows) for level in range(len(sigmas)) for rows in torch.arange(len(images)).tensor_split(groups)]
    with _trained(denoiser) as parameters:
        count = sum(one.numel() * one.element_size() for one in parameters)
        if count * len(jobs) > most:
            found = f"{groups} groups of {len(sigmas)} levels of {count / 1e6:.3g} MB"
            raise InputError("sigmas, groups", found=found, expected=f"at most {most / 1e6:.3g} MB in all (most=)")
        kept = [
            _gradient(denoiser, parameters, bank, level, rows, condition, batch)
            for level, rows in tqdm(jobs, desc="gradients", disable=not progress, leave=False)
        ]
    size = np.array([len(rows) for _, rows in jobs], dtype=np.float64) / len(images) * groups
    products = _products(kept) * np.outer(size, size)  # so that groups of one level add up to groups x its gradient
    table = products.reshape(len(sigmas), groups, len(sigmas), groups)
    rows = [_row(table, pair, [float(sigma) for sigma in sigmas]) for pair in
            combinations_with_replacement(range(len(sigmas)), 2)]  # fmt: skip
    return GRADIENT_AFFINITY.check(pd.DataFrame(rows).assign(n=len(images)))


@contextmanager
def _trained(denoiser: Denoiser) -> Iterator[list[nn.Parameter]]:
    """The parameters that require gradients; where none does, all of them, which do so inside the block."""
    every = list(denoiser.parameters()) if isinstance(denoiser, nn.Module) else []
    found = [one for one in every if one.requires_grad] or [one for one in every if one.is_floating_point()]
    if not found:
        expected = "a torch.nn.Module with parameters"
        raise InputError("denoiser", found=f"a {type(denoiser).__name__} without parameters", expected=expected)
    frozen = [one for one in found if not one.requires_grad]
    try:
        for one in frozen:
            one.requires_grad_(True)
        yield found
    finally:
        for one in frozen:
            one.requires_grad_(False)


def _gradient(
    denoiser: Denoiser, parameters: Sequence[nn.Parameter], bank: Bank, level: int, rows: Tensor, condition: Condition,
    batch: int,
) -> Tensor:  # fmt: skip
    """Of the mean loss of some images, all parameters in one vector."""
    total: Tensor | None = None
    for part in rows.split(batch):
        point = bank.point(part, level)
        with torch.enable_grad():
            given = select_rows(condition, part)
            loss = (evaluate(denoiser, point.x, point.sigma, given, branch="cond") - point.x0).square().sum()
            found = torch.autograd.grad(loss / (len(rows) * point.x0[0].numel()), parameters, allow_unused=True)
        whole = zip(found, parameters, strict=True)
        flat = torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in whole])
        total = flat if total is None else total + flat
    assert total is not None  # no group is empty
    return total


def _products(vectors: Sequence[Tensor]) -> Floats:
    """Inner products of all pairs, in float64, a block of elements at a time."""
    found = torch.zeros(len(vectors), len(vectors), dtype=torch.float64)
    for parts in zip(*(vector.split(2**20) for vector in vectors), strict=True):
        block = torch.stack(parts).double()
        found += (block @ block.mT).cpu()
    return found.numpy()


def _row(table: Floats, pair: tuple[int, int], sigmas: Sequence[float]) -> dict[str, Any]:
    first, second = pair
    blocks = [table[one, :, other] for one, other in ((first, first), (second, second), (first, second))]
    reliability = min(map(_reliability, blocks[:2]))
    row = {"sigma": sigmas[first], "sigma_other": sigmas[second], "reliability": reliability}
    if first == second:
        return row | dict.fromkeys(("cosine", "agreement", "low", "high"), 1.0)
    value, (low, high) = np.nan, (np.nan, np.nan)
    if reliability >= RELIABLE:
        value = _agreement(*blocks)
        low, high = _jackknife(blocks, value)
    own, other, both = (float(block.sum()) for block in blocks)
    return row | {"cosine": both / np.sqrt(own * other), "agreement": value, "low": low, "high": high}


def _between(block: Floats) -> float:
    """Mean inner product of gradients of different groups."""
    count = len(block)
    return float(block.sum() - np.trace(block)) / (count * (count - 1))


def _agreement(own: Floats, other: Floats, both: Floats) -> float:
    squares = _between(own), _between(other)
    return _between(both) / float(np.sqrt(squares[0] * squares[1])) if min(squares) > 0 else np.nan


def _reliability(own: Floats) -> float:
    """Expected cosine of the gradients of two halves: shared part over shared part and what is left of the noise."""
    shared, groups = _between(own), len(own)
    noise = (np.trace(own) / groups - shared) / (groups / 2)
    return float(shared / (shared + noise))


def _jackknife(blocks: Sequence[Floats], value: float) -> tuple[float, float]:
    groups = len(blocks[0])
    left = np.array([
        _agreement(*(np.delete(np.delete(block, one, 0), one, 1) for block in blocks)) for one in range(groups)
    ])  # fmt: skip
    pseudo = groups * value - (groups - 1) * left
    half = scipy.stats.t.ppf((1 + LEVEL) / 2, groups - 1) * pseudo.std(ddof=1) / np.sqrt(groups)
    return value - float(half), value + float(half)
