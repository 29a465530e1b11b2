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
def shuffled_direction(
    direction: Direction, activations: Tensor, labels: Tensor, *, find: Finder = difference_of_means, seed: int = 0
) -> Direction:
    """The direction that the same recipe finds for labels in random order, at the scale of `direction`.

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
    if activations.ndim != 2 or activations.shape[1] != len(direction) or len(labels) != len(activations):
        found = f"{tuple(activations.shape)} activations, {tuple(labels.shape)} labels"
        raise InputError("activations, labels", found=found, expected=f"(n, {len(direction)}) and (n,)")
    values = set(labels.unique().tolist())
    if values != {0, 1}:
        raise InputError("labels", found=f"values {sorted(values)[:5]}", expected="both 0 and 1")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    vector = find(activations, labels[order.to(labels.device)])
    return replace(direction, vector=vector.to(direction.vector), method=f"{direction.method}, shuffled labels")
