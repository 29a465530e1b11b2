"""Carrying a direction from one noise level to the others, judged by what it does there.

    carried = {how: carry_direction(direction, found, how=how, labels=labels) for how in ("same", "refit")}
    judge_transport(carried, effect=steer)         # steer: directions by level -> one number a seed
    level_intervals(carried["same"])               # (direction, low, high): where each of them is added

A cosine does not say whether a carried direction still moves the image, so the judge is a measured effect.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from scorescope.analysis.directions.finding import as_direction, check_averaged, cosine, find_direction
from scorescope.analysis.statistics.arrays import host_array
from scorescope.analysis.statistics.intervals import skewed_mean_interval, skewed_ratio_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.activations.activations import Activations
from scorescope.probes.bank.points import Bank
from scorescope.probes.gradients.jacobian_products import pull_back, push_forward
from scorescope.probes.models.conditions import select_rows, to_device
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.sites.direction import Direction

How = Literal["same", "refit", "procrustes", "least_squares", "given"]
HOWS: tuple[How, ...] = ("same", "refit", "procrustes", "least_squares", "given")
Carry = Callable[[Direction, float], Tensor]
"""(direction, goal sigma) -> the vector there: for instance `jacobian_carry`."""
LevelEffect = Callable[[Sequence[Direction]], Tensor]
"""Directions by noise level -> the effect of adding each at its own level, one number a seed."""

TRANSPORT = Schema(
    "transport",
    (
        Column("transport", str, "", "how the direction was carried"),
        Column("attribute", str, "", "attribute"),
        Column("site", str, "", "site"),
        Column("n", int, "", "seeds"),
        Column("effect", float, "1", "mean change of the target's score"),
        *ends("1", "over seeds, corrected for skewness"),
        Column("share", float, "1", "effect / that of the reference transport"),
        *ends("1", "over seeds, paired, corrected for skewness", of="share"),
        Column("cosine", float, "1", "mean over levels of the cosine to the reference transport's direction"),
    ),
)


@checked
def carry_direction(
    direction: Direction,
    activations: Activations,
    *,
    how: How,
    labels: ArrayLike | None = None,
    carry: Carry | None = None,
    ridge: float = 1e-2,
) -> list[Direction]:
    """The direction at every noise level of the activations.

    Parameters
    ----------
    direction : Direction
        Found at a noise level (its `sigma`).
    activations : Activations
        Of the direction's site, averaged; rows are paired over levels, being the same images.
    how : {"same", "refit", "procrustes", "least_squares", "given"}
        `same`: the vector itself. `refit`: found anew at each level, by the direction's own method with its default
        options and `labels`; a method that needs pairs is refused.
        `procrustes`: the rotation that best maps centred activations of its level to those of the other.
        `least_squares`: the linear map that does, with a ridge. `given`: by `carry`.
    labels : array, shape (images,), optional
        For `refit` alone. No carried vector is turned to the side on which they grow: a map between paired rows has
        a sign of its own, and one that reverses the direction is to be seen in its effect.
    carry : callable, optional
        For `given`: (direction, sigma) -> vector.
    ridge : float
        For `least_squares`: share of the mean variance that is added to each.

    Returns
    -------
    list of Direction
        One a level, in order, each with its own scale and sigma; the method says how it was carried.

    Raises
    ------
    InputError
        For a direction without a noise level, of another size or another output of the site, an unknown way, or one
        whose argument is missing.
    """
    _check(direction, activations, how, labels, carry)
    values = activations.site(direction.site)
    output = direction.same_output(activations.output_of(direction.site))
    source = values[activations.nearest_level(direction.sigma or 1.0)].double()
    rows = None if labels is None else host_array(labels)[activations.images.numpy()]
    found = []
    for level, sigma in enumerate(activations.sigmas):
        goal = values[level].double()
        where = {"site": direction.site, "attribute": direction.attribute, "sigma": sigma, "output": output}
        if how == "refit":
            method = direction.method.split(", ")[0]
            found.append(find_direction(goal, rows, method=method, **where))  # type: ignore[arg-type]
            continue
        if how == "given":
            assert carry is not None  # checked above
            vector = carry(direction, sigma)
        else:
            vector = _mapped(direction.vector.double().to(source), source, goal, how, ridge)
        method = f"{direction.method}, {how}"
        found.append(as_direction(vector, goal, method=method, **where))  # type: ignore[arg-type]
    return found


@checked
def jacobian_carry(
    denoiser: Denoiser, images: Tensor, condition: Condition = None, *, seed: int = 0, batch: int = 32
) -> Carry:
    """A way to carry by the network's own Jacobians, after Park et al. 2023 (arXiv 2307.12868).

    At the direction's own noise level it is pulled back to the noisy image, u = J^T v, and at the goal pushed forward
    again, J' u, on the same images with the same noise; the mean over images, at the length of the vector itself.

    Parameters
    ----------
    denoiser : Denoiser
        A `torch.nn.Module`; the site is averaged over space or tokens, as `collect` does. For the unconditional
        branch it needs `embed(None, batch=n)`.
    images : Tensor, shape (n, *shape)
        Clean images, in units of the data.
    condition : optional
        One row an image; None is the unconditional branch.
    seed : int
        Of the noise.
    batch : int
        Images differentiated together.

    Returns
    -------
    callable
        For `carry_direction(..., how="given", carry=...)`.
    """
    noise = Bank(images, [1.0], seed=seed).point(torch.arange(len(images)), 0).noise

    def carry(direction: Direction, sigma: float) -> Tensor:
        found = []
        for rows in torch.arange(len(images)).split(batch):
            clean, part = images[rows], noise[rows]
            given = to_device(select_rows(condition, rows), clean.device)
            source = float(direction.sigma or 1.0)
            options = {"of": direction.site, "to": "x", "mean": True}
            unit = direction.unit.to(clean)
            pulled = pull_back(denoiser, clean + source * part, source, given, unit, **options)  # type: ignore[arg-type]
            found.append(push_forward(denoiser, clean + sigma * part, sigma, given, pulled, **options))  # type: ignore[arg-type]
        mean = torch.cat(found).double().mean(0)
        vector: Tensor = mean / mean.norm() * float(direction.vector.norm())
        return vector

    return carry


def _check(
    direction: Direction, activations: Activations, how: str, labels: ArrayLike | None, carry: Carry | None
) -> None:
    check_averaged(activations, direction.site)
    direction.check_width(activations.site(direction.site).shape[2])
    if how not in HOWS:
        raise InputError("how", found=repr(how), expected=f"one of {', '.join(HOWS)}")
    if direction.sigma is None:
        raise InputError("direction", found="no noise level", expected="one: it says where to carry it from")
    if how == "refit" and labels is None:
        raise InputError("labels", found="None", expected="labels, to refit")
    if (how == "given") != (carry is not None):
        raise InputError("carry", found=f"{carry!r} with how={how!r}", expected="a callable, for how='given' alone")


def _mapped(vector: Tensor, source: Tensor, goal: Tensor, how: str, ridge: float) -> Tensor:
    if how == "same":
        return vector
    x, y = source - source.mean(0), goal - goal.mean(0)
    if how == "procrustes":
        left, _, right = torch.linalg.svd(x.mT @ y)
        rotated: Tensor = vector @ left @ right
        return rotated
    gram = x.mT @ x
    gram = gram + ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    mapped: Tensor = vector @ torch.linalg.solve(gram, x.mT @ y)
    return mapped


@checked
def level_intervals(directions: Sequence[Direction]) -> list[tuple[Direction, float, float]]:
    """Where each of some directions by level is to be added: (direction, low, high), low < sigma <= high.

    Bounds are midway in log-SNR; the outermost reach to 0 and to infinity.

    Parameters
    ----------
    directions : sequence of Direction
        Each of a noise level of its own.

    Returns
    -------
    list of (Direction, float, float)
        By rising noise level.

    Raises
    ------
    InputError
        For directions without noise levels, or two of one level.
    """
    sigmas = [direction.sigma for direction in directions]
    known = [sigma for sigma in sigmas if sigma is not None]
    if not known or len(set(known)) != len(directions):
        raise InputError("directions", found=f"noise levels {sigmas}", expected="a different one for each direction")
    order = sorted(directions, key=lambda direction: direction.sigma or 0.0)
    levels = np.sort(np.asarray(known))
    bounds = [0.0, *np.sqrt(levels[:-1] * levels[1:]).tolist(), float("inf")]
    return list(zip(order, bounds[:-1], bounds[1:], strict=True))


@checked
def judge_transport(
    carried: Mapping[str, Sequence[Direction]],
    *,
    effect: LevelEffect,
    reference: str = "refit",
) -> pd.DataFrame:
    """Effect of each way to carry a direction, and its share of that of the reference.

    Parameters
    ----------
    carried : mapping of str to sequence of Direction
        From `carry_direction`, the same levels in all.
    effect : callable
        Directions by level to one number a seed, the same seeds for all; measured by steering.
    reference : str
        Transport that others are compared with.

    Returns
    -------
    DataFrame
        Columns declared in `TRANSPORT`. The share is missing where the reference's own interval holds zero.

    Raises
    ------
    InputError
        If the reference is not among them, or effects are not one finite number a seed.
    """
    if reference not in carried:
        raise InputError("reference", found=repr(reference), expected=f"one of {', '.join(carried)}")
    effects = {name: effect(directions).detach().double().cpu().numpy() for name, directions in carried.items()}
    count = len(effects[reference])
    if any(values.shape != (count,) or not np.isfinite(values).all() for values in effects.values()):
        found = f"shapes {[values.shape for values in effects.values()]}"
        raise InputError("effect", found=found, expected="one finite number a seed, as many for each")
    base = effects[reference]
    low, high = skewed_mean_interval(base)
    known = bool(low > 0 or high < 0)
    rows = []
    for name, directions in carried.items():
        low, high = skewed_mean_interval(effects[name])
        shares = skewed_ratio_interval(effects[name], base) if known else (np.nan, np.nan)
        cosines = [cosine(a, b) for a, b in zip(directions, carried[reference], strict=True)]
        rows.append({
            "transport": name, "attribute": directions[0].attribute, "site": directions[0].site, "n": count,
            "effect": effects[name].mean(), "low": float(low), "high": float(high),
            "share": effects[name].mean() / base.mean() if known else np.nan,
            "share_low": float(shares[0]), "share_high": float(shares[1]), "cosine": float(np.mean(cosines)),
        })  # fmt: skip
    return TRANSPORT.check(pd.DataFrame(rows))
