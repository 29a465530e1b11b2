"""Control directions: what an intervention of the same size does that has nothing to do with the attribute."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.sites.direction import Direction

Finder = Callable[[Tensor, Tensor], Tensor]
"""(activations (n, d), labels (n,) of 0 and 1) -> vector (d,)."""


@checked
def random_directions(
    direction: Direction, count: int, *, seed: int = 0, within: Tensor | None = None
) -> list[Direction]:
    """Directions of the same length at every strength, drawn uniformly.

    Parameters
    ----------
    direction : Direction
        What they are matched to: site, size and scale.
    count : int
        How many.
    seed : int
        Seed of the draws.
    within : Tensor, shape (k, d), optional
        Draw from the span of these rows (leading principal components, for instance) and not from the whole space.

    Raises
    ------
    InputError
        For a basis of another size.
    """
    generator = torch.Generator().manual_seed(seed)
    if within is not None and (within.ndim != 2 or within.shape[1] != len(direction)):
        raise InputError("within", found=f"shape {tuple(within.shape)}", expected=f"(k, {len(direction)})")
    width = len(direction) if within is None else len(within)
    draws = torch.randn(count, width, generator=generator, dtype=torch.float64)
    if within is not None:
        draws = draws @ torch.linalg.qr(within.detach().cpu().double().T)[0].T
    return [replace(direction, vector=draw.to(direction.vector), method="random") for draw in draws]


def difference_of_means(activations: Tensor, labels: Tensor) -> Tensor:
    """Mean of the rows with label 1 less that of those with label 0, float64 inside."""
    rows = activations.double()
    chosen = labels.bool()
    return (rows[chosen].mean(0) - rows[~chosen].mean(0)).to(activations)


@checked
def shuffled_directions(
    direction: Direction,
    activations: Tensor,
    labels: Tensor,
    *,
    count: int = 8,
    find: Finder = difference_of_means,
    groups: Tensor | None = None,
    seed: int = 0,
) -> list[Direction]:
    """Directions that the same recipe finds for labels in random order, each as long as it was found.

    Where the labels mean nothing, the direction and these are draws of one law, lengths included: to first order, their
    effects are draws of one normal law with mean 0. That is the null of a direction that was found from labels, and
    random directions are not: a network that reads what varies most moves by whatever labels find there.

    Parameters
    ----------
    direction : Direction
        What was found.
    activations : Tensor, shape (n, d)
        What it was found on.
    labels : Tensor, shape (n,)
        What it was found from; 0 and 1 for the default recipe.
    count : int
        How many. Their law is Student's t with so many degrees of freedom.
    find : callable
        (activations, labels) -> vector: how the direction was found, with its length.
    groups : Tensor, shape (n,), optional
        Rows with one label in common, for instance the noise draws of one image: labels are permuted over groups.
    seed : int
        Of the orders.

    Raises
    ------
    InputError
        For activations of another size, labels of one value, rows that do not match, groups of several labels, and a
        recipe that does not find the direction from the labels as they are.
    """
    _check_rows(direction, activations, labels)
    if len(labels.unique()) < 2 or (find is difference_of_means and set(labels.unique().tolist()) != {0, 1}):
        found = f"values {labels.unique().tolist()[:5]}"
        raise InputError("labels", found=found, expected="both 0 and 1, or another recipe in find=")
    if count < 1:
        raise InputError("count", found=str(count), expected="at least one")
    own = find(activations, labels).double().flatten().cpu()
    cosine = float(own @ direction.unit.double().cpu() / own.norm())
    if not abs(cosine) > 0.999:
        found = f"a recipe whose direction has the cosine {cosine:.3f} with the one given"
        raise InputError("find", found=found, expected="how the direction was found, on these rows and labels")
    generator = torch.Generator().manual_seed(seed)
    method = f"{direction.method}, shuffled labels"
    ways = []
    for _ in range(count):
        vector = find(activations, _permuted(labels, groups, generator))
        scale = direction.scale * float(vector.double().norm() / own.norm())
        ways.append(replace(direction, vector=vector.to(direction.vector), scale=scale, method=method))
    return ways


def _permuted(labels: Tensor, groups: Tensor | None, generator: torch.Generator) -> Tensor:
    """Labels in random order, those of a group together."""
    if groups is None:
        return labels[torch.randperm(len(labels), generator=generator).to(labels.device)]
    if len(groups) != len(labels):
        raise InputError("groups", found=f"{len(groups)} for {len(labels)} rows", expected="one a row")
    code = groups.unique(return_inverse=True)[1].to(labels.device)
    own = labels.new_zeros(int(code.max()) + 1).scatter_(0, code, labels)
    if not torch.equal(own[code], labels):
        raise InputError("groups", found="a group of several labels", expected="one label a group")
    return own[torch.randperm(len(own), generator=generator).to(labels.device)][code]


def _check_rows(direction: Direction, activations: Tensor, labels: Tensor) -> None:
    if activations.ndim != 2 or activations.shape[1] != len(direction) or len(labels) != len(activations):
        found = f"{tuple(activations.shape)} activations, {tuple(labels.shape)} labels"
        raise InputError("activations, labels", found=found, expected=f"(n, {len(direction)}) and (n,)")


@checked
def shuffled_direction(
    direction: Direction, activations: Tensor, labels: Tensor, *, find: Finder = difference_of_means, seed: int = 0
) -> Direction:
    """The direction that the same recipe finds for labels in random order, at the scale of `direction`.

    One is a control to look at, and no law to test by: see `shuffled_directions`.

    Parameters
    ----------
    direction : Direction
        What it is matched to.
    activations : Tensor, shape (n, d)
        What the direction was found on, one row an image.
    labels : Tensor, shape (n,)
        0 and 1, or bool.
    find : callable
        (activations, labels) -> vector: how the direction was found.
    seed : int
        Seed of the order.

    Raises
    ------
    InputError
        For activations of another size, labels of one class, or rows that do not match.
    """
    _check_rows(direction, activations, labels)
    values = set(labels.unique().tolist())
    if values != {0, 1}:
        raise InputError("labels", found=f"values {sorted(values)[:5]}", expected="both 0 and 1")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    vector = find(activations, labels[order.to(labels.device)])
    return replace(direction, vector=vector.to(direction.vector), method=f"{direction.method}, shuffled labels")
