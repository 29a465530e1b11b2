"""Activations over a bank of noisy images, and of a recording.

    bank = Bank(images, sigmas=log_snr_grid(-6, 6, 10))
    found = collect(denoiser, bank, ["network.middle1", "network.up.0"], condition=labels)
    found.at("network.middle1", level=3)                      # (n, channels) float32
    trace_activations(trace, ["unet.mid_block"])              # of record(pipe, sites=...)

Two names are no modules: "x" is the noisy input, "denoised" the estimate that came out.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.activations.activations import Activations
from scorescope.probes.bank.points import Bank, Point
from scorescope.probes.guidance.base import COND, UNCOND
from scorescope.probes.models.conditions import select_rows, to_device
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate
from scorescope.probes.recording.trace import Trace
from scorescope.probes.sites.interventions import INPUT, OUTPUT
from scorescope.probes.sites.modules import Pool, capture, pool
from scorescope.probes.sites.once_a_pass import never_called
from scorescope.probes.sites.outputs import Outputs, OutputsRead

Sites = Sequence[str] | Mapping[str, Pool]
"""Names of sites, or how each of them is reduced."""


@checked
@torch.no_grad()
def collect(
    denoiser: Denoiser,
    bank: Bank,
    sites: Sites,
    *,
    condition: Condition = None,
    how: Pool = "mean",
    output: Outputs = None,
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
    output : int or mapping of str to int, optional
        Which of the tensors that modules put out, for all sites or by site; by default that of the image, where a
        block returns text beside it. `Activations.describe()` says which it was.
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
        For unknown sites (the nearest are suggested), sites called twice in a forward pass or never, several outputs
        of which none is known to be the image's, reductions that do not fit, predictions of another shape than x, and
        values that are not finite.
    """
    if draws not in ("apart", "mean"):
        raise InputError("draws", found=repr(draws), expected="'apart' or 'mean'")
    pools = pools_of(sites, how)
    condition = to_device(condition, bank.x0.device)
    stored: dict[str, Tensor] = {}
    outputs = OutputsRead(output)
    with capturing(denoiser, pools, outputs) as taken:
        for point in bank.points(batch=batch, progress=progress):
            found = _visit(denoiser, point, condition, pools, taken)
            for site, value in found.items():
                if site not in stored:
                    size = (len(bank.sigmas), bank.draws, len(bank), value.shape[1])
                    stored[site] = torch.empty(size, device=value.device)
                stored[site][point.level, point.draw, point.rows.to(value.device)] = value
    check_called(pools, stored)
    apart = draws == "apart"
    values = {site: (stored[site].flatten(1, 2) if apart else stored[site].mean(1)).cpu() for site in pools}
    images = torch.arange(len(bank)).repeat(bank.draws if apart else 1)
    branch = UNCOND if condition is None else COND
    return Activations(
        values, tuple(float(s) for s in bank.sigmas), images, pools, branch, outputs.found, bank.contents()[images]
    )


def _visit(
    denoiser: Denoiser, point: Point, condition: Condition, pools: Mapping[str, Pool], taken: dict[str, Tensor]
) -> dict[str, Tensor]:
    if set(pools) == {INPUT}:
        return {INPUT: _flat(point.x, pools[INPUT])}
    rows = None if condition is None else select_rows(condition, point.rows)
    prediction = evaluate(denoiser, point.x, point.sigma, rows, branch=UNCOND if condition is None else COND)
    return reduced(pools, taken, point.x, prediction)


def pools_of(sites: Sites, how: Pool) -> dict[str, Pool]:
    """How each site is reduced, `how` where it does not say; `InputError` for no sites or another reduction."""
    pools = dict(sites) if isinstance(sites, Mapping) else dict.fromkeys(sites, how)
    if isinstance(sites, str) or not pools:
        raise InputError("sites", found=repr(sites), expected="a list of at least one name")
    for site, value in pools.items():
        if value not in ("mean", "whole") and (isinstance(value, str) or value < 1):
            raise InputError(f"how of {site!r}", found=repr(value), expected="'mean', 'whole' or cells of a grid")
    return pools


def check_called(pools: Mapping[str, Pool], called: Iterable[str]) -> None:
    """Raise `InputError` for a site that was never called."""
    heard = set(called)
    if silent := [site for site in pools if site not in heard]:
        raise never_called(silent[0])


def capturing(
    denoiser: object, pools: Mapping[str, Pool], outputs: OutputsRead
) -> AbstractContextManager[dict[str, Tensor]]:
    """A capture of the sites that are modules, each reduced in its own way."""
    modules = {site: how for site, how in pools.items() if site not in (INPUT, OUTPUT)}
    return capture(denoiser, list(modules), how=modules, outputs=outputs)


def reduced(pools: Mapping[str, Pool], taken: Mapping[str, Tensor], x: Tensor, prediction: Tensor) -> dict[str, Tensor]:
    """What was captured in one call, as (batch, d) float32; sites that were not called are left out."""
    found = {site: value.float().flatten(1) for site, value in taken.items()}
    extra = {INPUT: x, OUTPUT: prediction}
    return found | {site: _flat(value, pools[site]) for site, value in extra.items() if site in pools}


def _flat(value: Tensor, how: Pool) -> Tensor:
    return pool(value, how).float().flatten(1)


@checked
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
    pools = pools_of(sites, how)
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
    outputs = {site: output for site, output in trace.site_outputs.items() if site in pools}
    return Activations(values, next(iter(sigmas.values())), torch.arange(rows), pools, branch, outputs)
