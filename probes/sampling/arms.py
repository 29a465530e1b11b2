"""Many interventions in one batched run: every arm starts each seed from the same state, with the same noise.

    more = (Intervention.along(direction, 2.0),)
    arms = [RunArm("none"), RunArm("more", more), RunArm("off", (Intervention("zero", site),))]
    samples = sample_arms(denoiser, arms, seeds=range(32), condition=labels)
    samples["more"] - samples["none"]                        # (32, *shape), paired by seed

An arm may patch from another arm (`source`): the two run side by side in one batch, and at every call the activation
goes from one row to the other. No activation is stored, and any solver will do.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.guidance.base import Rule
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.sampling.arm_rows import ArmRows, RunArm
from scorescope.probes.sampling.sample import sample
from scorescope.probes.sampling.solvers import Solver
from scorescope.probes.sites.on_denoiser import intervened


@displayed
@checked
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


@displayed
@checked
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


@checked
def sample_arms(
    denoiser: Denoiser,
    arms: Sequence[RunArm],
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
    arms : sequence of RunArm
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


@checked
def run_arms(
    denoiser: Denoiser,
    arms: Sequence[RunArm],
    *,
    seeds: Sequence[int],
    condition: Condition = None,
    start: Tensor | None = None,
    sampling: Sampling | None = None,
    progress: bool = True,
) -> Iterator[ArmBatch]:
    """Like `sample_arms`, batch by batch as they are done; of each arm the seeds come in order.

    A batch holds whole seeds with all arms, as many as fit. Where the arms of one seed do not fit, they are spread
    over several batches, each with the arms that it patches from, and those that these patch from.
    """
    sampling = sampling or Sampling()
    _check_arms(arms, seeds, sampling)
    groups = _groups(arms, sampling.batch)
    per = max(1, sampling.batch // max(len(group.arms) for group in groups))
    chunks = [range(first, min(first + per, len(seeds))) for first in range(0, len(seeds), per)]
    with tqdm(total=len(seeds) * len(arms), desc="arms", disable=not progress, leave=False) as bar:
        for chunk in chunks:
            for group in groups:
                rows = ArmRows(group.arms, list(chunk))
                samples = _sample(denoiser, rows, seeds, condition, start, sampling)
                kept = samples.unflatten(0, (len(group.arms), len(chunk)))[group.sources :]
                names = [arm.name for arm in group.arms[group.sources :]]
                yield ArmBatch(names, list(chunk), kept)
                bar.update(len(names) * len(chunk))


def _sample(
    denoiser: Denoiser, rows: ArmRows, seeds: Sequence[int], condition: Condition, start: Tensor | None, how: Sampling
) -> Tensor:
    return sample(
        intervened(denoiser, rows.interventions()),
        seeds=[seeds[i] for i in rows.seed.tolist()],
        condition=rows.condition(condition),
        start=None if start is None else start[rows.seed.to(start.device)],
        shape=how.shape, rule=how.rule, solver=how.solver, sigmas=how.sigmas,
        batch=len(rows.seed), device=how.device, dtype=how.dtype, progress=False,
    ).samples  # fmt: skip


def _check_arms(arms: Sequence[RunArm], seeds: Sequence[int], sampling: Sampling) -> None:
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

    arms: list[RunArm]
    sources: int = 0


def _groups(arms: Sequence[RunArm], batch: int) -> list[_Group]:
    if len(arms) <= batch:
        return [_Group(list(arms))]
    by_name = {arm.name: arm for arm in arms}
    sources = {arm.source for arm in arms if arm.source}
    size = max(1, batch - len(sources))
    found = []
    for first in range(0, len(arms), size):
        members = list(arms[first : first + size])
        needed = {name for arm in members for name in _ancestors(arm, by_name)} - {arm.name for arm in members}
        absent = [by_name[name] for name in sorted(needed)]
        found.append(_Group([*absent, *members], len(absent)))
    return found


def _ancestors(arm: RunArm, by_name: Mapping[str, RunArm]) -> set[str]:
    """The arm that one patches from, the one that this patches from, and so on."""
    found: set[str] = set()
    while arm.source and arm.source not in found:
        found.add(arm.source)
        arm = by_name[arm.source]
    return found
