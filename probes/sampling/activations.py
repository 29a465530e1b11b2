"""Activations at named sites, reduced on the device: over a bank of noisy images, along sampling, of a recording.

    bank = Bank(images, sigmas=log_snr_grid(-6, 6, 10))
    found = collect(denoiser, bank, ["network.middle1", "network.up.0"], condition=labels)
    found.at("network.middle1", level=3)                      # (n, channels) float32

    run, taps = sample_with_sites(denoiser, ["network.middle1"], seeds=range(64), condition=labels)
    taps.at("network.middle1", step=5, call=0, branch="cond") # one row a sample
    taps.activations()                                        # the same container as of a bank

Two names are no modules: "x" is the noisy input, "denoised" the estimate that came out.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.bank.points import Bank, Point
from scorescope.probes.guidance.base import COND, UNCOND, GuidanceState
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate, select_rows, to_device
from scorescope.probes.recording.trace import Trace
from scorescope.probes.sampling.sample import Run, sample
from scorescope.probes.sites.modules import Pool, capture, pool

Sites = Sequence[str] | Mapping[str, Pool]
"""Names of sites, or how each of them is reduced."""

INPUT, DENOISED = "x", "denoised"


@dataclass(frozen=True, eq=False)
class Activations:
    """Activations of images by site and noise level.

    Attributes
    ----------
    values : mapping of str to Tensor, each of shape (level, row, d), float32
        By site, on the CPU.
    sigmas : tuple of float
        Noise level of each level, in the order that they were visited.
    images : Tensor, shape (row,), int64
        Image of each row; one image has several rows where noise draws are kept apart.
    how : mapping of str to Pool
        How each site was reduced: "mean", "whole" (flattened), or cells of a grid.
    branch : str
        "cond" or "uncond"; another name for branches of guidance rules.

    Raises
    ------
    InputError
        For shapes that do not fit together, and values that are not finite, naming site and noise level.
    """

    values: Mapping[str, Tensor]
    sigmas: tuple[float, ...]
    images: Tensor
    how: Mapping[str, Pool]
    branch: str = COND

    def __post_init__(self) -> None:
        if not self.values:
            raise InputError("sites", found="none", expected="at least one")
        for site, value in self.values.items():
            if value.ndim != 3 or value.shape[:2] != (len(self.sigmas), len(self.images)):
                expected = f"({len(self.sigmas)} levels, {len(self.images)} rows, d)"
                raise InputError(f"activations of {site!r}", found=f"shape {tuple(value.shape)}", expected=expected)
            finite = torch.isfinite(value).flatten(1).all(1)
            if not finite.all():
                level = int((~finite).nonzero()[0])
                found = f"NaN or infinite values at sigma {self.sigmas[level]:.4g}"
                raise InputError(f"activations of {site!r}", found=found, expected="finite activations")

    @property
    def sites(self) -> list[str]:
        """Names, in the order of collection."""
        return list(self.values)

    @property
    def log_snr(self) -> list[float]:
        """-2 ln sigma of each level."""
        return [-2 * math.log(sigma) for sigma in self.sigmas]

    def site(self, name: str) -> Tensor:
        """All levels of a site, (level, row, d).

        Raises
        ------
        InputError
            If it was not collected; the nearest names are suggested.
        """
        if name not in self.values:
            near = difflib.get_close_matches(name, self.sites, n=3, cutoff=0.3) or self.sites[:5]
            raise InputError("site", found=repr(name), expected=f"one that was collected, such as {', '.join(near)}")
        return self.values[name]

    def at(self, site: str, level: int) -> Tensor:
        """One site at one level, (row, d)."""
        if not 0 <= level < len(self.sigmas):
            raise InputError("level", found=str(level), expected=f"0 to {len(self.sigmas) - 1}")
        return self.site(site)[level]

    def nearest_level(self, sigma: float) -> int:
        """The level next to a noise level, by log-SNR."""
        return min(range(len(self.sigmas)), key=lambda i: abs(math.log(self.sigmas[i] / sigma)))


@torch.no_grad()
def collect(
    denoiser: Denoiser,
    bank: Bank,
    sites: Sites,
    *,
    condition: Condition = None,
    how: Pool = "mean",
    draws: str = "apart",
    batch: int = 256,
    progress: bool = False,
) -> Activations:
    """Activations over all points of a bank, one forward pass a point.

    Parameters
    ----------
    denoiser : Denoiser
        A `torch.nn.Module`, unless all sites are "x" and "denoised".
    bank : Bank
        Images, noise levels and noise.
    sites : sequence of str, or mapping of str to Pool
        Module paths, "x" and "denoised"; a mapping says how each is reduced.
    condition : optional
        One row an image of the bank; None is the unconditional branch.
    how : {"mean", "whole"} or int
        Reduction of sites that do not say their own: "mean" over space or tokens, k for a k x k grid of a map,
        "whole" keeps all values, flattened.
    draws : {"apart", "mean"}
        One row a noise draw, draw varying slowest; or the mean over draws.
    batch : int
        Images computed together; changes the result by rounding at most.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Activations
        On the CPU.

    Raises
    ------
    InputError
        For unknown sites (the nearest are suggested), sites called twice in a forward pass, reductions that do not
        fit, predictions of another shape than x, and values that are not finite.
    """
    if draws not in ("apart", "mean"):
        raise InputError("draws", found=repr(draws), expected="'apart' or 'mean'")
    pools = _pools(sites, how)
    condition = to_device(condition, bank.x0.device)
    stored: dict[str, Tensor] = {}
    with _capturing(denoiser, pools) as taken:
        for point in bank.points(batch=batch, progress=progress):
            found = _visit(denoiser, point, condition, pools, taken)
            for site, value in found.items():
                if site not in stored:
                    size = (len(bank.sigmas), bank.draws, len(bank), value.shape[1])
                    stored[site] = torch.empty(size, device=value.device)
                stored[site][point.level, point.draw, point.rows.to(value.device)] = value
    apart = draws == "apart"
    values = {site: (stored[site].flatten(1, 2) if apart else stored[site].mean(1)).cpu() for site in pools}
    images = torch.arange(len(bank)).repeat(bank.draws if apart else 1)
    branch = UNCOND if condition is None else COND
    return Activations(values, tuple(float(s) for s in bank.sigmas), images, pools, branch)


def _visit(
    denoiser: Denoiser, point: Point, condition: Condition, pools: Mapping[str, Pool], taken: dict[str, Tensor]
) -> dict[str, Tensor]:
    if set(pools) == {INPUT}:
        return {INPUT: _flat(point.x, pools[INPUT])}
    rows = None if condition is None else select_rows(condition, point.rows)
    prediction = evaluate(denoiser, point.x, point.sigma, rows, branch=UNCOND if condition is None else COND)
    return _reduced(pools, taken, point.x, prediction)


def _pools(sites: Sites, how: Pool) -> dict[str, Pool]:
    pools = dict(sites) if isinstance(sites, Mapping) else dict.fromkeys(sites, how)
    if isinstance(sites, str) or not pools:
        raise InputError("sites", found=repr(sites), expected="a list of at least one name")
    for site, value in pools.items():
        if value not in ("mean", "whole") and (isinstance(value, str) or value < 1):
            raise InputError(f"how of {site!r}", found=repr(value), expected="'mean', 'whole' or cells of a grid")
    return pools


def _capturing(denoiser: object, pools: Mapping[str, Pool]) -> AbstractContextManager[dict[str, Tensor]]:
    """A capture of the sites that are modules, each reduced in its own way."""
    modules = {site: how for site, how in pools.items() if site not in (INPUT, DENOISED)}
    return capture(denoiser, list(modules), how=modules) if modules else nullcontext({})


def _reduced(
    pools: Mapping[str, Pool], taken: Mapping[str, Tensor], x: Tensor, prediction: Tensor
) -> dict[str, Tensor]:
    """What was captured in one call, as (batch, d) float32; sites that were not called are left out."""
    found = {site: value.float().flatten(1) for site, value in taken.items()}
    extra = {INPUT: x, DENOISED: prediction}
    return found | {site: _flat(value, pools[site]) for site, value in extra.items() if site in pools}


def _flat(value: Tensor, how: Pool) -> Tensor:
    return pool(value, how).float().flatten(1)


Key = tuple[str, int, int, str]


@dataclass(frozen=True, eq=False)
class SampleTaps:
    """Activations along sampling.

    Attributes
    ----------
    values : dict of (site, step, call, branch) to Tensor, each of shape (sample, d), float32
        On the CPU; NaN in samples whose branch was not computed. "denoised" also has the branch "guided".
    sigmas : dict of (step, call) to float
        Noise level of each evaluation.
    how : mapping of str to Pool
        How each site was reduced.
    """

    values: dict[Key, Tensor]
    sigmas: dict[tuple[int, int], float]
    how: Mapping[str, Pool]

    def at(self, site: str, *, step: int, call: int = 0, branch: str = COND) -> Tensor:
        """One site in one evaluation, (sample, d).

        Raises
        ------
        InputError
            If it was not computed, naming what was.
        """
        key = (site, step, call, branch)
        if key not in self.values:
            sites, _, _, branches = (sorted(set(part), key=str) for part in zip(*self.values, strict=True))
            steps = 1 + max(s for s, _ in self.sigmas)
            expected = f"one of the sites {sites}, branches {branches} and steps 0 to {steps - 1}, where computed"
            raise InputError("site, step, call, branch", found=str(key), expected=expected)
        return self.values[key]

    def activations(self, *, branch: str = COND, call: int = 0) -> Activations:
        """One level an evaluation, of those that are the `call`-th of their step; images are the samples.

        Raises
        ------
        InputError
            For a branch that was not computed in all of them, for all samples.
        """
        places = [(step, number) for step, number in self.sigmas if number == call]
        values = {
            site: torch.stack([self.at(site, step=step, call=call, branch=branch) for step, _ in places])
            for site in self.how
        }
        count = len(next(iter(values.values()))[0])
        sigmas = tuple(self.sigmas[place] for place in places)
        return Activations(values, sigmas, torch.arange(count), self.how, branch)


@dataclass
class _Taps:
    """Keeps, when told of a prediction, what the sites put out on the way to it."""

    pools: Mapping[str, Pool]
    taken: dict[str, Tensor]
    count: int
    values: dict[Key, Tensor] = field(default_factory=dict)
    sigmas: dict[tuple[int, int], float] = field(default_factory=dict)

    def __call__(self, branch: str, state: GuidanceState, rows: Tensor, prediction: Tensor) -> None:
        self.sigmas[state.step, state.call] = state.sigma
        for site, value in _reduced(self.pools, self.taken, state.x, prediction).items():
            key = (site, state.step, state.call, branch)
            if key not in self.values:
                self.values[key] = torch.full((self.count, value.shape[1]), torch.nan, device=value.device)
            self.values[key][rows.to(value.device)] = value
        # a branch that is predicted by another network has no activations here
        self.taken.clear()


def sample_with_sites(
    denoiser: Denoiser, sites: Sites, *, seeds: Sequence[int], how: Pool = "mean", **options: Any
) -> tuple[Run, SampleTaps]:
    """Sample as `sample` does, keeping activations by (sample, step, call, branch); the samples are the same.

    Parameters
    ----------
    denoiser : Denoiser
        The model, a `torch.nn.Module` where a site is a module.
    sites, how
        As in `collect`.
    seeds : sequence of int
        One a sample.
    **options
        Further arguments of `sample`, but for `watch`.

    Returns
    -------
    run : Run
        What `sample` gives.
    taps : SampleTaps
        The activations, on the CPU.

    Raises
    ------
    InputError
        As `collect` and `sample` do.
    """
    pools, seeds = _pools(sites, how), list(seeds)
    with _capturing(denoiser, pools) as taken:
        taps = _Taps(pools, taken, len(seeds))
        run = sample(denoiser, seeds=seeds, watch=taps, **options)
    values = {key: value.cpu() for key, value in taps.values.items()}
    return run, SampleTaps(values, taps.sigmas, pools)


def trace_activations(trace: Trace, sites: Sites, *, branch: str = COND, how: Pool = "mean") -> Activations:
    """Activations that `record(pipe, sites=...)` kept, one level a recorded step.

    Parameters
    ----------
    trace : Trace
        Of one or more runs of the same noise levels; their samples are the rows, run by run.
    sites, how
        As in `collect`; what the recording reduced already stays so.
    branch : str
        cond, uncond, or call0, call1, ... of the denoiser.

    Raises
    ------
    InputError
        For sites or branches that were not kept, and runs of different noise levels.
    """
    pools = _pools(sites, how)
    places: dict[int, list[int]] = {}
    for place, event in enumerate(trace.arrays.events):
        places.setdefault(event["run"], []).append(place)
    levels = trace.scalars.groupby(["run", "event"], sort=True)["sigma"].first()
    sigmas = {run: tuple(float(s) for s in levels.loc[run]) for run in places}
    if len(set(sigmas.values())) != 1:
        raise InputError("trace", found=f"runs of {len(set(sigmas.values()))} schedules", expected="runs of one")

    def steps(site: str, run: list[int]) -> Tensor:
        return torch.stack([_flat(trace.arrays.site(site, place, branch), pools[site]) for place in run])

    values = {site: torch.cat([steps(site, run) for run in places.values()], dim=1) for site in pools}
    rows = next(iter(values.values())).shape[1]
    return Activations(values, next(iter(sigmas.values())), torch.arange(rows), pools, branch)
