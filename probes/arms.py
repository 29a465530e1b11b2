"""Many interventions in one batched run: every arm starts each seed from the same state, with the same noise.

    arms = [Arm("none"), Arm("more", (Intervention.along(direction, 2.0),)), Arm("off", (Intervention("zero", site),))]
    samples = sample_arms(denoiser, arms, seeds=range(32), condition=labels)
    samples["more"] - samples["none"]                        # (32, *shape), paired by seed

An arm may patch from another arm (`source`): the two run side by side in one batch, and at every call the activation
goes from one row to the other. No activation is stored, and any solver will do.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from scorescope.data.errors import InputError
from scorescope.probes.denoiser import Condition, Denoiser, select_rows
from scorescope.probes.guidance import Rule
from scorescope.probes.intervened import intervened
from scorescope.probes.interventions import Intervention
from scorescope.probes.sampling import sample
from scorescope.probes.solvers import Solver


@dataclass(frozen=True, eq=False)
class Arm:
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
        Name of the arm that its `patch` interventions without a cache take activations from.
    """

    name: str
    interventions: tuple[Intervention, ...] = ()
    condition: Condition = None
    source: str = ""


@dataclass(frozen=True)
class Sampling:
    """How to sample; the arguments of `sample` of the same names.

    Attributes
    ----------
    batch : int
        Rows (arm and seed) that are computed together.
    """

    rule: Rule | None = None
    solver: Solver | None = None
    sigmas: Sequence[float] | None = None
    shape: tuple[int, ...] | None = None
    batch: int = 256
    device: str | torch.device = "cpu"
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True, eq=False)
class ArmBatch:
    """Samples of some arms for some seeds.

    Attributes
    ----------
    names : list of str
        Arms, in order.
    seeds : list of int
        Positions among the seeds.
    samples : Tensor, shape (len(names), len(seeds), *shape)
        The samples.
    """

    names: list[str]
    seeds: list[int]
    samples: Tensor


def sample_arms(
    denoiser: Denoiser,
    arms: Sequence[Arm],
    *,
    seeds: Sequence[int],
    condition: Condition = None,
    start: Tensor | None = None,
    sampling: Sampling | None = None,
    progress: bool = True,
) -> dict[str, Tensor]:
    """Sample every arm from the same seeds.

    Parameters
    ----------
    denoiser : Denoiser
        The model.
    arms : sequence of Arm
        Variants of the run.
    seeds : sequence of int
        One a sample of each arm.
    condition : optional
        Of the arms that have none of their own, one row a seed.
    start : Tensor, shape (len(seeds), *shape), optional
        States at the first noise level, for instance inverted images; by default each seed's first noise.
    sampling : Sampling, optional
        How.
    progress : bool
        Show a progress bar.

    Returns
    -------
    dict of str to Tensor
        Samples by arm, (len(seeds), *shape), in the order of the seeds.

    Raises
    ------
    InputError
        For arms of the same name, a source that is no arm, and whatever `sample` and `intervened` refuse.
    """
    found: dict[str, list[Tensor]] = {arm.name: [] for arm in arms}
    for part in run_arms(
        denoiser, arms, seeds=seeds, condition=condition, start=start, sampling=sampling, progress=progress
    ):
        for name, samples in zip(part.names, part.samples, strict=True):
            found[name].append(samples)
    return {name: torch.cat(parts) for name, parts in found.items()}


def run_arms(
    denoiser: Denoiser,
    arms: Sequence[Arm],
    *,
    seeds: Sequence[int],
    condition: Condition = None,
    start: Tensor | None = None,
    sampling: Sampling | None = None,
    progress: bool = True,
) -> Iterator[ArmBatch]:
    """Like `sample_arms`, batch by batch as they are done; of each arm the seeds come in order.

    A batch holds whole seeds with all arms, as many as fit. Where the arms of one seed do not fit, they are spread
    over several batches, each with the arms that it patches from.
    """
    sampling = sampling or Sampling()
    _check_arms(arms, seeds, sampling)
    groups = _groups(arms, sampling.batch)
    per = max(1, sampling.batch // max(len(group.arms) for group in groups))
    chunks = [range(first, min(first + per, len(seeds))) for first in range(0, len(seeds), per)]
    with tqdm(total=len(seeds) * len(arms), desc="arms", disable=not progress, leave=False) as bar:
        for chunk in chunks:
            for group in groups:
                rows = _Rows(group.arms, list(chunk))
                samples = _sample(denoiser, rows, seeds, condition, start, sampling)
                kept = samples.unflatten(0, (len(group.arms), len(chunk)))[group.sources :]
                names = [arm.name for arm in group.arms[group.sources :]]
                yield ArmBatch(names, list(chunk), kept)
                bar.update(len(names) * len(chunk))


def _sample(
    denoiser: Denoiser, rows: "_Rows", seeds: Sequence[int], condition: Condition, start: Tensor | None, how: Sampling
) -> Tensor:
    return sample(
        intervened(denoiser, rows.interventions()),
        seeds=[seeds[i] for i in rows.seed.tolist()],
        condition=rows.condition(condition),
        start=None if start is None else start[rows.seed.to(start.device)],
        shape=how.shape, rule=how.rule, solver=how.solver, sigmas=how.sigmas,
        batch=len(rows.seed), device=how.device, dtype=how.dtype, progress=False,
    ).samples  # fmt: skip


def _check_arms(arms: Sequence[Arm], seeds: Sequence[int], sampling: Sampling) -> None:
    names = [arm.name for arm in arms]
    if not arms or not len(seeds) or sampling.batch < 1 or len(set(names)) < len(names):
        found = f"{names[:8]}, {len(seeds)} seeds, batch {sampling.batch}"
        raise InputError("arms, seeds, batch", found=found, expected="at least one of each, arms of different names")
    for arm in arms:
        if arm.source and (arm.source not in names or arm.source == arm.name):
            raise InputError("source", found=f"{arm.source!r} of {arm.name!r}", expected=f"another of {names[:8]}")


@dataclass(frozen=True, eq=False)
class _Group:
    """Arms that are run together; the first `sources` of them only to be patched from."""

    arms: list[Arm]
    sources: int = 0


def _groups(arms: Sequence[Arm], batch: int) -> list[_Group]:
    if len(arms) <= batch:
        return [_Group(list(arms))]
    by_name = {arm.name: arm for arm in arms}
    sources = {arm.source for arm in arms if arm.source}
    size = max(1, batch - len(sources))
    found = []
    for first in range(0, len(arms), size):
        members = list(arms[first : first + size])
        present = {arm.name for arm in members}
        absent = [by_name[name] for name in sorted({arm.source for arm in members if arm.source} - present)]
        found.append(_Group([*absent, *members], len(absent)))
    return found


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of one batch: all seeds of the first arm, then all of the second, and so on."""

    arms: Sequence[Arm]
    chunk: list[int]
    seed: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", torch.tensor(self.chunk).repeat(len(self.arms)))

    def condition(self, common: Condition) -> Condition:
        """The conditions of all rows."""
        index = torch.tensor(self.chunk)
        parts = [common if arm.condition is None else arm.condition for arm in self.arms]
        return _join([select_rows(part, index) for part in parts])

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
        patch = first.how == "patch"
        return replace(first, strength=strength, low=low, high=high, value=value, rows=origin if patch else None)

    def _by_seed(self, value: float | Tensor) -> float | Tensor:
        return value[self.chunk] if isinstance(value, Tensor) and value.ndim else value

    def _origin(self, given: Intervention, arm: Arm, names: list[str]) -> Tensor:
        if given.source is not None:
            rows = torch.tensor(self.chunk)
            return rows if given.rows is None else given.rows[rows]
        if not arm.source:
            raise InputError("source", found=f"none, in arm {arm.name!r}", expected="a cache, or the name of an arm")
        return names.index(arm.source) * len(self.chunk) + torch.arange(len(self.chunk))


def _key(order: int, given: Intervention) -> tuple[Any, ...]:
    width = None if given.value is None else given.value.shape[-1]
    return (
        order, given.how, given.site, given.branch, given.channels, given.output, width, id(given.source),
    )  # fmt: skip


def _join(parts: Sequence[Condition]) -> Condition:
    """Conditions of several arms, one after the other.

    Raises
    ------
    InputError
        If they are of different kinds.
    """
    first = parts[0]
    if all(part is None for part in parts):
        return None
    if all(isinstance(part, dict) for part in parts):
        return {key: _join([part[key] for part in parts]) for key in first}
    if all(
        isinstance(part, Tensor) and part.dtype == first.dtype and part[0].shape == first[0].shape for part in parts
    ):
        return torch.cat(list(parts))
    if all(isinstance(part, list) for part in parts):
        return [row for part in parts for row in part]
    found = ", ".join(sorted({_kind(part) for part in parts}))
    raise InputError("condition", found=found, expected="conditions of all arms of one kind (labels, or tokens)")


def _kind(part: Condition) -> str:
    return f"{part.dtype} {tuple(part.shape[1:])}" if isinstance(part, Tensor) else type(part).__name__
