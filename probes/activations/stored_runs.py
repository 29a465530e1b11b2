"""Activations of sampling runs and of recorded pipelines on disk, in the shards that `collect(..., path=)` writes.

    stored = store_samples(denoiser, {"network.middle1": Positions(16)}, seeds=range(10_000), path="sampled")
    stored = store_trace(trace, ["unet.mid_block"], path="of_the_pipeline", branch="cond")

Images are the samples, levels the steps. A killed run goes on with the samples, or steps, whose shards are not whole.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.activations.collect import StoredSites, capturing, check_called, kept_of
from scorescope.probes.activations.planned import Planned
from scorescope.probes.activations.positions import Kept
from scorescope.probes.activations.stored import StoredActivations
from scorescope.probes.activations.storing import Put, Where, described_sites
from scorescope.probes.guidance.base import COND, GuidanceState
from scorescope.probes.models.conditions import select_rows
from scorescope.probes.models.denoiser import Denoiser
from scorescope.probes.models.fingerprint import fingerprint
from scorescope.probes.recording.plan import Budget, budget_bytes
from scorescope.probes.recording.trace import Trace
from scorescope.probes.sampling.sample import sample
from scorescope.probes.sites.interventions import INPUT, OUTPUT
from scorescope.probes.sites.modules import Pool
from scorescope.probes.sites.outputs import Outputs, OutputsRead

Seen = Callable[[Tensor, GuidanceState, Mapping[str, Tensor]], None]
"""Samples, counted over a run, the state of a call, and what the sites put out in it."""


@checked
def store_samples(
    denoiser: Denoiser, sites: StoredSites, *, seeds: Sequence[int], path: str | Path, how: Kept = "mean",
    branch: str = COND, call: int = 0, output: Outputs = None, dtype: str = "float32", shard: int | str = "64 MB",
    budget: Budget = None, progress: bool = False, **options: Any,
) -> StoredActivations:  # fmt: skip
    """Sample as `sample` does, and write what the sites put out; the samples themselves are not kept.

    The same call with the same `path` goes on where a run ended. Memory holds a few shards, each of some samples at all
    steps, and no more samples are computed at once than fit into one.

    Parameters
    ----------
    denoiser, sites, how, output, dtype, shard, budget, progress
        As in `collect`, with `path`.
    seeds : sequence of int
        One a sample, all different.
    path : str or Path
        A new or empty folder, or one of the same samples to go on with.
    branch : str
        Which of the branches: "cond", "uncond" or another that a rule has.
    call : int
        Which of the denoiser calls of a step, where a solver makes several; steps without it are left out.
    **options
        Further arguments of `sample`, but for `watch` and `record`.

    Returns
    -------
    StoredActivations
        `image` is the sample, `step` the level.

    Raises
    ------
    InputError
        As `collect` and `sample` do; for a branch that is not computed at all, or not for all samples in every step.
    """
    planned = planned_samples(
        denoiser,
        sites,
        seeds=seeds,
        how=how,
        branch=branch,
        call=call,
        output=output,
        dtype=dtype,
        shard=shard,
        **options,
    )
    with planned as found:
        return found.store(Path(path), budget=budget, progress=progress)


@contextmanager
def planned_samples(
    denoiser: Denoiser, sites: StoredSites, *, seeds: Sequence[int], how: Kept = "mean", branch: str = COND,
    call: int = 0, output: Outputs = None, dtype: str = "float32", shard: int | str = "64 MB", **options: Any,
) -> Iterator[Planned]:  # fmt: skip
    """What `store_samples` writes, as it was planned; the sites are watched within the block.

    The first sample is drawn, which shows what there is to store.
    """
    numbers = [int(seed) for seed in seeds]
    if not numbers or len(set(numbers)) < len(numbers):
        found = f"{len(numbers)}, {len(set(numbers))} of them different"
        raise InputError("seeds", found=found, expected="at least one, all different: the index names samples by them")
    kept, outputs, given = kept_of(sites, how), OutputsRead(output), dict(options)
    rows = {name: given.pop(name, None) for name in ("condition", "start")}
    modules: dict[str, Pool] = dict.fromkeys(kept, "whole")
    with capturing(denoiser, modules, outputs) as taken:
        run = _Sampled(denoiser, numbers, rows, given, taken, branch, call)
        first = run.first()
        if not first:
            expected = "a branch and a call that sampling makes"
            raise InputError("branch, call", found=f"{branch!r}, {call}", expected=expected)
        values = first[0][1]
        check_called(kept, values)
        described, item = described_sites(lambda: values, kept, dtype)
        levels = [state.sigma for state, _ in first]
        together = max(1, budget_bytes(shard) // (item * len(levels)))
        parts = _Samples(run, [state.step for state, _ in first], together)
        facts = {"denoiser": denoiser, "options": given, "seeds": run.seeds, **rows}
        manifest = {
            "sites": described, "dtype": dtype, "sigmas": levels, "images": len(run.seeds), "draws": 1, "seed": 0,
            "together": together, "call": call, "update": False, "branches": [branch],
            "contents": list(range(len(run.seeds))),
            "outputs": {site: asdict(found) for site, found in outputs.found.items()},
            **{name: fingerprint(thing, argument=name) for name, thing in facts.items()},
        }  # fmt: skip
        yield Planned(parts, kept, manifest, len(run.seeds) * len(levels), item)


@dataclass(frozen=True, eq=False)
class _Sampled:
    """A run that is told of one branch of one call a step."""

    denoiser: Denoiser
    seeds: list[int]
    of_rows: Mapping[str, Any]  # condition and start, one row a sample
    options: Mapping[str, Any]
    taken: dict[str, Tensor]
    branch: str
    call: int

    def first(self) -> list[tuple[GuidanceState, dict[str, Tensor]]]:
        """Of the first sample alone: what is to come, and how much of it."""
        found: list[tuple[GuidanceState, dict[str, Tensor]]] = []
        self.over(torch.arange(1), lambda _, state, values: found.append((state, dict(values))))
        return found

    def over(self, chosen: Tensor, seen: Seen) -> None:
        """Sample some, and say what the sites put out."""

        def watch(branch: str, state: GuidanceState, rows: Tensor, prediction: Tensor) -> None:
            values = dict(self.taken) | {INPUT: state.x, OUTPUT: prediction}
            self.taken.clear()
            if branch == self.branch and state.call == self.call:
                seen(chosen[rows.cpu()], state, values)

        condition, start = self.of_rows["condition"], self.of_rows["start"]
        sample(
            self.denoiser, seeds=[self.seeds[place] for place in chosen.tolist()], watch=watch,
            condition=None if condition is None else select_rows(condition, chosen),
            start=None if start is None else start[chosen], **{"progress": False, **self.options},
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Samples:
    """So many samples a shard, at these steps."""

    run: _Sampled
    steps: list[int]
    together: int

    @property
    def shards(self) -> int:
        return math.ceil(len(self.run.seeds) / self.together)

    def rows(self, shard: int) -> int:
        return len(self._chosen(shard)) * len(self.steps)

    def each(self, shard: int, put: Put) -> None:
        seeds = torch.tensor(self.run.seeds)

        def seen(rows: Tensor, state: GuidanceState, values: Mapping[str, Tensor]) -> None:
            put(Where(rows, seeds[rows], self.steps.index(state.step), state.sigma, call=state.call), values)

        self.run.over(self._chosen(shard), seen)

    def _chosen(self, shard: int) -> Tensor:
        return torch.arange(len(self.run.seeds))[shard * self.together : (shard + 1) * self.together]


@checked
def store_trace(
    trace: Trace, sites: StoredSites, *, path: str | Path, branch: str = COND, how: Kept = "whole",
    dtype: str = "float32", shard: int | str = "64 MB", budget: Budget = None, progress: bool = False,
) -> StoredActivations:  # fmt: skip
    """Write activations that `record(pipe, sites=...)` kept into shards of their own, a few recorded steps at a time.

    Parameters
    ----------
    trace : Trace
        Of one or more runs of the same noise levels; their samples are the images, run by run.
    sites, how
        As in `collect`; what the recording reduced already stays so.
    path, dtype, shard, budget, progress
        As in `store_samples`.
    branch : str
        cond, uncond, or call0, call1, ... of the denoiser.

    Raises
    ------
    InputError
        For sites or branches that were not kept, runs of different noise levels, and as `store_samples`.
    """
    kept = kept_of(sites, how)
    levels = trace.scalars.groupby(["run", "event"], sort=True)["sigma"].first()
    places: dict[int, list[int]] = {}
    for place, event in enumerate(trace.arrays.events):
        places.setdefault(event["run"], []).append(place)
    schedules = {tuple(float(s) for s in levels.loc[run]) for run in places}
    if len(schedules) != 1:
        raise InputError("trace", found=f"runs of {len(schedules)} schedules", expected="runs of one")
    sigmas = schedules.pop()

    def values(place: int) -> dict[str, Tensor]:
        return {site: trace.arrays.site(site, place, branch) for site in kept}

    steps, images = list[_Step](), 0
    for run in places.values():
        count = len(trace.arrays.site(next(iter(kept)), run[0], branch))
        steps += [_Step(images, count, level, place) for level, place in enumerate(run)]
        images += count
    described, item = described_sites(lambda: values(0), kept, dtype)
    together = max(1, budget_bytes(shard) // (item * max(step.count for step in steps)))
    manifest = {
        "sites": described, "dtype": dtype, "sigmas": list(sigmas), "images": images, "draws": 1, "seed": 0,
        "together": together, "update": False, "branches": [branch], "contents": list(range(images)),
        "outputs": {site: asdict(output) for site, output in trace.site_outputs.items() if site in kept},
        "trace": fingerprint(trace.scalars, argument="trace"),
    }  # fmt: skip
    planned = Planned(_Steps(steps, values, sigmas, together), kept, manifest, images * len(sigmas), item)
    return planned.store(Path(path), budget=budget, progress=progress)


@dataclass(frozen=True)
class _Step:
    """One recorded step: the number of its first sample, how many it has, its level and its place in the trace."""

    first: int
    count: int
    level: int
    place: int


@dataclass(frozen=True, eq=False)
class _Steps:
    """So many recorded steps a shard."""

    steps: list[_Step]
    values: Callable[[int], dict[str, Tensor]]
    sigmas: Sequence[float]
    together: int

    @property
    def shards(self) -> int:
        return math.ceil(len(self.steps) / self.together)

    def rows(self, shard: int) -> int:
        return sum(step.count for step in self._of(shard))

    def each(self, shard: int, put: Put) -> None:
        for step in self._of(shard):
            rows = step.first + torch.arange(step.count)
            put(Where(rows, 0, step.level, self.sigmas[step.level]), self.values(step.place))

    def _of(self, shard: int) -> list[_Step]:
        return self.steps[shard * self.together : (shard + 1) * self.together]
