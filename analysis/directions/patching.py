"""Causal mediation: which site, at which noise levels, carries the difference between two conditions.

    trace = patch_trace(
        denoiser, clean=labels, corrupted=swapped, sites=["network.middle1", "network.up.0"], metric=score,
        seeds=range(24), intervals=windows(sigmas, 4),
    )
    trace.recovery                                   # (patched - corrupted) / (clean - corrupted), with intervals

    patch_trace(..., sites=[feature_direction(autoencoder, 17, site="network.middle1", values=rows)])

A direction patches what lies along it, and leaves the rest of the activation. Clean, corrupted and patched runs are
rows of one batch: they have the same start and the same sampler noise, and the patched rows receive the activation that
the other run has in the very same call.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scorescope.analysis.directions.noise_intervals import EVERYWHERE, check_branch_is_called, spans_of
from scorescope.analysis.directions.recovery import (
    NECESSITY,
    PATCH_SAMPLES,
    RECOVERY,
    SUFFICIENCY,
    PatchTrace,
    default_floor,
    recovery_rows,
)
from scorescope.analysis.statistics.arrays import Floats, finite_numbers
from scorescope.analysis.statistics.bootstrap import check_seeds
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.bank.points import Bank
from scorescope.probes.models.conditions import to_device
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate
from scorescope.probes.sampling.arm_rows import ArmRows, RunArm
from scorescope.probes.sampling.arms import Sampling, run_arms
from scorescope.probes.sites.direction import Direction
from scorescope.probes.sites.interventions import Branch, Intervention
from scorescope.probes.sites.on_denoiser import embedded, intervened

Metric = Callable[[Tensor], Tensor]
"""Images (n, *shape) -> (n,) numbers, for instance the log-odds of an attribute."""

CLEAN, CORRUPTED = "clean", "corrupted"
FEWEST_SEEDS = 20


@checked
def patch_trace(
    denoiser: Denoiser,
    *,
    clean: Condition,
    corrupted: Condition,
    sites: Sequence[str | Direction],
    metric: Metric,
    seeds: Sequence[int],
    intervals: Sequence[tuple[float, float]] = EVERYWHERE,
    branch: Branch = "both",
    floor: float | None = None,
    sampling: Sampling | None = None,
    start: Tensor | None = None,
    resamples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> PatchTrace:
    """Normalised recovery by site and interval of noise levels, over full sampling runs.

    Parameters
    ----------
    denoiser : Denoiser
        A `torch.nn.Module` where sites are modules.
    clean, corrupted : Condition
        One row a seed: another label or prompt (swap), or `noisy_condition`. Labels beside tokens are embedded.
    sites : sequence of str or Direction
        As in `Intervention`; "path[3]" or "path[3,5]" patches these channels only, and a direction what lies along it
        at every position. It is called "path along" and what it is a direction of.
    metric : callable
        Samples to one number each.
    seeds : sequence of int
        At least 20, all different.
    intervals : sequence of (low, high)
        Noise levels at which activations are patched, low < sigma <= high.
    branch : {"cond", "uncond", "both"}
        Calls in which they are.
    floor : float, optional
        Seeds with |clean - corrupted| up to this are dropped, and counted. By default a tenth of its median, but at
        least a hundredth of the metric's standard deviation over seeds.
    sampling : Sampling, optional
        Rule, solver, noise levels, batch and device.
    start : Tensor, shape (len(seeds), *shape), optional
        States at the first noise level.
    resamples, seed : int
        Of the bootstrap.
    progress : bool
        Show a progress bar.

    Returns
    -------
    PatchTrace
        Sufficiency: (patched - corrupted) / (clean - corrupted) where the corrupted run receives clean activations.
        Necessity: (clean - patched) / (clean - corrupted) where the clean run receives corrupted ones.

    Raises
    ------
    InputError
        For too few seeds, no site, sites that are not there, intervals without a noise level, a metric that does
        not give one finite number a sample, and a branch that the rule never calls for within an interval.
    """
    sampling = sampling or Sampling()
    numbers = check_seeds(seeds, FEWEST_SEEDS)
    clean, corrupted = _alike(denoiser, clean, corrupted, len(numbers))
    spans = spans_of(intervals, sampling.sigmas)
    check_branch_is_called(denoiser, branch, spans, seeds=numbers, condition=clean, start=start, sampling=sampling)
    named = _named(sites)
    arms = _arms(named, list(intervals), branch, clean, corrupted)
    values = np.zeros((len(arms), len(numbers)))
    places = {arm.name: place for place, arm in enumerate(arms)}
    for part in run_arms(denoiser, arms, seeds=numbers, start=start, sampling=sampling, progress=progress):
        found = finite_numbers("metric", metric(images := part.samples.flatten(0, 1)), len(images)).reshape(
            len(part.names), -1
        )
        values[np.ix_([places[name] for name in part.names], part.seeds)] = found
    return _trace(values, list(named), spans, numbers, floor, resamples, seed)


@checked
def patch_once(
    denoiser: Denoiser,
    bank: Bank,
    *,
    clean: Condition,
    corrupted: Condition,
    sites: Sequence[str | Direction],
    metric: Metric,
    floor: float | None = None,
    batch: int = 256,
    resamples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> PatchTrace:
    """The same for single calls of the denoiser: the metric is taken of the denoised estimate at a noise level.

    Parameters
    ----------
    bank : Bank
        Noisy images, at least 20; every noise level is a row of the result. Draws of one image are averaged.
    clean, corrupted : Condition
        One row an image of the bank.
    batch : int
        Rows (arm and image) in one call, or all arms of one image if these are more.
    others
        See `patch_trace`.

    Returns
    -------
    PatchTrace
        With sigma_low equal to sigma_high, and images of the bank in the place of seeds.

    Raises
    ------
    InputError
        As `patch_trace`.
    """
    images = check_seeds(range(len(bank)), FEWEST_SEEDS)
    clean, corrupted = _alike(denoiser, clean, corrupted, len(images))
    named = _named(sites)
    arms = _arms(named, [(0.0, math.inf)], "both", clean, corrupted)
    values = np.zeros((len(bank.sigmas), len(arms), len(images)))
    for point in bank.points(batch=max(1, batch // len(arms)), progress=progress):
        rows = ArmRows(arms, point.rows.tolist())
        x = point.x.repeat(len(arms), *(1,) * (point.x.ndim - 1))
        condition = to_device(rows.condition(None), x.device)
        changed = intervened(denoiser, rows.interventions())
        with torch.no_grad():
            prediction = evaluate(changed, x, point.sigma.repeat(len(arms)), condition, branch="cond")
        found = finite_numbers("metric", metric(prediction), len(prediction)).reshape(len(arms), -1)
        values[point.level][:, rows.chunk] += found / bank.draws
    traces = [
        _trace(values[level], list(named), [(float(sigma), float(sigma))], images, floor, resamples, seed)
        for level, sigma in enumerate(bank.sigmas)
    ]
    return PatchTrace(
        recovery=pd.concat([trace.recovery for trace in traces], ignore_index=True),
        samples=pd.concat([trace.samples for trace in traces], ignore_index=True),
        floors={key: value for trace in traces for key, value in trace.floors.items()},
    )


def _named(sites: Sequence[str | Direction]) -> dict[str, str | Direction]:
    """Sites by what the tables call them."""
    named = {site if isinstance(site, str) else f"{site.site} along {site.attribute}": site for site in sites}
    if not sites or len(named) < len(sites):
        found = f"{len(sites)}: {list(named)}"
        raise InputError("sites, intervals", found=found, expected="at least one of each, each site once")
    return named


def _arms(
    sites: Mapping[str, str | Direction], intervals: Sequence[tuple[float, float]], branch: Branch, clean: Condition,
    corrupted: Any,
) -> list[RunArm]:  # fmt: skip
    if not intervals:
        raise InputError("sites, intervals", found="no intervals", expected="at least one of each, each site once")
    arms = [RunArm(CLEAN, condition=clean), RunArm(CORRUPTED, condition=corrupted)]
    for name, site in sites.items():
        what = _patch(site)
        for number, (low, high) in enumerate(intervals):
            patch = (replace(what, low=low, high=high, branch=branch),)
            for form, condition, source in ((SUFFICIENCY, corrupted, CLEAN), (NECESSITY, clean, CORRUPTED)):
                arms.append(RunArm(f"{form} {number} {name}", patch, condition, source))
    return arms


def _patch(site: str | Direction) -> Intervention:
    """What is patched, at all noise levels."""
    if isinstance(site, Direction):
        return Intervention("patch", site.site, site.vector, output=site.output)
    path, channels = _parse(site)
    return Intervention("patch", path, channels=channels)


def _parse(site: str) -> tuple[str, tuple[int, ...]]:
    """A site and the channels in brackets behind it."""
    found = re.fullmatch(r"([^\[\]]+)(?:\[(\d+(?:\s*,\s*\d+)*)\])?", site)
    if found is None:
        raise InputError("sites", found=repr(site), expected="a path, or 'path[3,5]' for some of its channels")
    return found[1], tuple(int(number) for number in (found[2] or "").split(",") if number)


def _alike(denoiser: Denoiser, clean: Condition, corrupted: Condition, count: int) -> tuple[Condition, Condition]:
    """Both conditions as tokens if one of them is."""
    if clean is None or corrupted is None:
        raise InputError("clean, corrupted", found="None", expected="two conditions, one row a seed")
    tokens = [isinstance(part, Tensor) and part.is_floating_point() and part.ndim == 3 for part in (clean, corrupted)]
    if any(tokens) and not all(tokens):
        rows = torch.empty(count)
        return embedded(denoiser, clean, rows).detach(), embedded(denoiser, corrupted, rows).detach()
    return clean, corrupted


def _trace(
    values: Floats, sites: Sequence[str], spans: Sequence[tuple[float, float]], seeds: list[int],
    floor: float | None, resamples: int, seed: int,
) -> PatchTrace:  # fmt: skip
    """Tables from metrics by arm and seed, the arms in the order of `_arms`."""
    clean, corrupted, *patched = values
    least = default_floor(clean, corrupted) if floor is None else float(floor)
    rest = iter(patched)
    rows, samples = [], []
    for site in sites:
        for low, high in spans:
            for form in (SUFFICIENCY, NECESSITY):
                where = {"site": site, "sigma_low": low, "sigma_high": high, "log_snr": -2 * math.log(high)}
                metrics = (clean, corrupted, next(rest))
                row, table = recovery_rows(where | {"form": form}, metrics, seeds, least, resamples, seed)
                rows.append(row)
                samples.append(table)
    recovery, every = RECOVERY.check(pd.DataFrame(rows)), PATCH_SAMPLES.check(pd.concat(samples, ignore_index=True))
    return PatchTrace(recovery, every, dict.fromkeys(spans, least))
