"""Variants of a run as rows of one batch: their conditions, and their interventions merged to one a site."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.models.conditions import select_rows, stack_conditions
from scorescope.probes.models.denoiser import Condition
from scorescope.probes.sites.interventions import Intervention


@checked
@dataclass(frozen=True, eq=False)
class RunArm:
    """One variant of a run.

    Attributes
    ----------
    name : str
        Its name, unique among the arms.
    interventions : tuple of Intervention
        What is changed. Tensors by row have one row a seed.
    condition : optional
        Its own condition, one row a seed; by default the common one.
    source : str
        Name of the arm that its `patch` interventions without a cache take activations from, seed by seed.
    """

    name: str
    interventions: tuple[Intervention, ...] = ()
    condition: Condition = None
    source: str = ""


@displayed
@dataclass(frozen=True, eq=False)
class ArmRows:
    """The rows of one batch: all samples of the first arm, then all of the second, and so on.

    Attributes
    ----------
    arms : sequence of RunArm
        Arms.
    chunk : list of int
        Positions of the samples among all of them: rows of conditions and of tensors by row.
    """

    arms: Sequence[RunArm]
    chunk: list[int]
    seed: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", torch.tensor(self.chunk).repeat(len(self.arms)))

    def condition(self, common: Condition) -> Condition:
        """The conditions of all rows."""
        index = torch.tensor(self.chunk)
        parts = [common if arm.condition is None else arm.condition for arm in self.arms]
        return stack_conditions([select_rows(part, index) for part in parts])

    def interventions(self) -> list[Intervention]:
        """Those of all arms, merged: one with values by row stands for the same change in many arms."""
        merged: dict[tuple[Any, ...], dict[int, Intervention]] = {}
        for place, arm in enumerate(self.arms):
            for order, given in enumerate(arm.interventions):
                merged.setdefault(_key(order, given), {})[place] = given
        return [self._merge(found) for _, found in sorted(merged.items(), key=lambda item: item[0][0])]

    def _merge(self, found: Mapping[int, Intervention]) -> Intervention:
        """One intervention by row out of those of some arms, which agree in site, form and branch."""
        first = next(iter(found.values()))
        size = len(self.chunk)
        count = size * len(self.arms)
        strength, low = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
        high = torch.full((count,), torch.inf, dtype=torch.float64)
        value = None if first.value is None else first.value.new_zeros(count, first.value.shape[-1])
        origin = self.seed.clone() if first.source is not None else torch.arange(count)
        names = [arm.name for arm in self.arms]
        for place, given in found.items():
            rows = slice(place * size, (place + 1) * size)
            strength[rows], low[rows] = self._by_seed(given.strength), self._by_seed(given.low)
            high[rows] = self._by_seed(given.high)
            if value is not None and given.value is not None:
                value[rows] = given.value if given.value.ndim == 1 else given.value[self.chunk]
            if given.how == "patch":
                origin[rows] = self._origin(given, self.arms[place], names)
        patch, where = first.how == "patch", first.where
        if where is not None and where.ndim == 3:
            where = where[self.seed]
        taken = origin if patch else None
        return replace(first, strength=strength, low=low, high=high, value=value, rows=taken, where=where)

    def _by_seed(self, value: float | Tensor) -> float | Tensor:
        return value[self.chunk] if isinstance(value, Tensor) and value.ndim else value

    def _origin(self, given: Intervention, arm: RunArm, names: list[str]) -> Tensor:
        if given.source is not None:
            rows = torch.tensor(self.chunk)
            return rows if given.rows is None else given.rows[rows]
        if not arm.source:
            raise InputError("source", found=f"none, in arm {arm.name!r}", expected="a cache, or the name of an arm")
        if given.rows is not None:
            found = f"rows= in arm {arm.name!r} with a source"
            raise InputError("rows", found=found, expected="none: each seed is patched from the same seed")
        return names.index(arm.source) * len(self.chunk) + torch.arange(len(self.chunk))


def _key(order: int, given: Intervention) -> tuple[Any, ...]:
    width = None if given.value is None else given.value.shape[-1]
    return (
        order, given.how, given.site, given.branch, given.channels, given.output, width, id(given.source),
        id(given.where), id(given.function),
    )  # fmt: skip
