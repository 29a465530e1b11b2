"""Activations over a bank of noisy images, and of a recording.

    bank = Bank(images, sigmas=log_snr_grid(-6, 6, 10))
    found = collect(denoiser, bank, ["network.middle1", "network.up.0"], condition=labels)
    found.at("network.middle1", level=3)                      # (n, channels) float32
    trace_activations(trace, ["unet.mid_block"])              # of record(pipe, sites=...)
    collect(denoiser, bank, {"network.middle1": Positions(16)}, path="activations")        # on disk, however many

Two names are no modules: "x" is the noisy input, "denoised" the estimate that came out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.activations.activations import Activations
from scorescope.probes.activations.planned import Planned, plan_activations
from scorescope.probes.activations.positions import Kept, Positions
from scorescope.probes.activations.stored import StoredActivations
from scorescope.probes.bank.points import Bank, Point
from scorescope.probes.guidance.base import COND, UNCOND
from scorescope.probes.models.conditions import select_rows, to_device
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate
from scorescope.probes.models.fingerprint import fingerprint
from scorescope.probes.recording.plan import Budget
from scorescope.probes.recording.trace import Trace
from scorescope.probes.sites.interventions import INPUT, OUTPUT
from scorescope.probes.sites.modules import Pool, capture, pool
from scorescope.probes.sites.once_a_pass import never_called
from scorescope.probes.sites.outputs import Outputs, OutputsRead

Sites = Sequence[str] | Mapping[str, Pool]
"""Names of sites, or how each of them is reduced."""
StoredSites = Sequence[str] | Mapping[str, Kept]
"""The same, where positions may be drawn."""


@overload
def collect(
    denoiser: Denoiser, bank: Bank, sites: Sites, *, condition: Condition = None, how: Pool = "mean",
    output: Outputs = None, update: bool = False, draws: str = "apart", batch: int = 256, path: None = None,
    progress: bool = False,
) -> Activations: ...  # fmt: skip


@overload
def collect(
    denoiser: Denoiser, bank: Bank, sites: StoredSites, *, condition: Condition = None, how: Kept = "mean",
    output: Outputs = None, update: bool = False, draws: str = "apart", batch: int = 256, path: str | Path,
    dtype: str = "float32", shard: int | str = "64 MB", budget: Budget = None, progress: bool = False,
) -> StoredActivations: ...  # fmt: skip


@checked
@torch.no_grad()
def collect(
    denoiser: Denoiser,
    bank: Bank,
    sites: StoredSites,
    *,
    condition: Condition = None,
    how: Kept = "mean",
    output: Outputs = None,
    update: bool = False,
    draws: str = "apart",
    batch: int = 256,
    path: str | Path | None = None,
    dtype: str = "float32",
    shard: int | str = "64 MB",
    budget: Budget = None,
    progress: bool = False,
) -> Activations | StoredActivations:
    """Activations over all points of a bank, one forward pass a point; in memory, or on disk in a folder.

    A folder is written in shards that are whole or not there. The same call with the same `path` goes on where a run
    ended, killed or not, and makes damaged shards again; its bytes are those of one run. Memory holds a few shards.

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
        "whole" keeps all values, flattened. On disk also `Positions(count, seed)`: some positions of each evaluation.
    output : int or mapping of str to int, optional
        Which of the tensors that modules put out, for all sites or by site; by default that of the image, where a
        block returns text beside it. `Activations.describe()` says which it was.
    update : bool
        Keep what each module adds: what it puts out less what it was given.
    draws : {"apart", "mean"}
        One row a noise draw, draw varying slowest; or the mean over draws, in memory only.
    batch : int
        Images computed together; changes the result by rounding at most.
    path : str or Path, optional
        A new or empty folder to write to, or one of the same activations to go on with.
    dtype : {"float32", "float16", "bfloat16"}
        What values are stored as on disk.
    shard : int or str
        About how large a file is, in bytes or as "64 MB"; the images of one call stay together.
    budget : int or str, optional
        Room on disk that may be taken, in bytes or as "20 GB".
    progress : bool
        Show a progress bar, and first the size on disk.

    Returns
    -------
    Activations, or StoredActivations with `path`
        On the CPU; on disk, read as it is needed.

    Raises
    ------
    InputError
        For unknown sites (the nearest are suggested), sites called twice in a forward pass or never, several outputs
        of which none is known to be the image's, reductions that do not fit, predictions of another shape than x,
        values that are not finite, and with `update` a module that puts out another shape than it was given. With
        `path`, for a folder of other activations, and a size above the budget (`BudgetError`), told from one call with
        one image before anything is written.
    """
    if draws not in ("apart", "mean") or (path is not None and draws == "mean"):
        expected = "'apart' or 'mean'" if path is None else "'apart' on disk, where draws are not averaged"
        raise InputError("draws", found=repr(draws), expected=expected)
    if path is not None:
        planned = planned_bank(
            denoiser, bank, sites, condition=condition, how=how, output=output, update=update, dtype=dtype, shard=shard,
            batch=batch,
        )  # fmt: skip
        with planned as parts:
            return parts.store(Path(path), budget=budget, progress=progress)
    pools, condition = pools_of(sites, how), to_device(condition, bank.x0.device)
    stored: dict[str, Tensor] = {}
    outputs = OutputsRead(output)
    with capturing(denoiser, pools, outputs, update=update) as taken:
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


@contextmanager
def planned_bank(
    denoiser: Denoiser, bank: Bank, sites: StoredSites, *, condition: Condition = None, how: Kept = "mean",
    output: Outputs = None, update: bool = False, dtype: str = "float32", shard: int | str = "64 MB", batch: int = 256,
) -> Iterator[Planned]:  # fmt: skip
    """What `collect` writes to disk, as it was planned; the sites are watched within the block.

    One image is computed, which shows what there is to store. Positions are told apart when they are stored.
    """
    kept, outputs = kept_of(sites, how), OutputsRead(output)
    condition = to_device(condition, bank.x0.device)
    raw: dict[str, Pool] = dict.fromkeys(kept, "whole")
    facts = {
        "denoiser": fingerprint(denoiser, argument="denoiser"), "data": fingerprint(bank.x0, argument="bank"),
        "condition": fingerprint(condition, argument="condition"), "update": update,
        "branches": [UNCOND if condition is None else COND], "contents": bank.contents().tolist(),
    }  # fmt: skip
    with torch.no_grad(), capturing(denoiser, raw, outputs, update=update) as taken:

        def visit(point: Point) -> dict[str, Tensor]:
            prediction = _predicted(denoiser, point, condition, kept)
            found = dict(taken) | {INPUT: point.x, OUTPUT: point.x if prediction is None else prediction}
            check_called(kept, found)
            return found

        visit(bank.point(torch.arange(1), 0))
        facts["outputs"] = {site: asdict(found) for site, found in outputs.found.items()}
        yield plan_activations(visit, bank, kept, dtype=dtype, shard=shard, batch=batch, facts=facts)


def _visit(
    denoiser: Denoiser, point: Point, condition: Condition, pools: Mapping[str, Pool], taken: dict[str, Tensor]
) -> dict[str, Tensor]:
    prediction = _predicted(denoiser, point, condition, pools)
    if prediction is None:
        return {INPUT: _flat(point.x, pools[INPUT])}
    return reduced(pools, taken, point.x, prediction)


def _predicted(denoiser: Denoiser, point: Point, condition: Condition, sites: Iterable[str]) -> Tensor | None:
    """The prediction at a point; None where only the input is asked for, and nothing has to be computed."""
    if set(sites) == {INPUT}:
        return None
    rows = None if condition is None else select_rows(condition, point.rows)
    return evaluate(denoiser, point.x, point.sigma, rows, branch=UNCOND if condition is None else COND)


def pools_of(sites: StoredSites, how: Kept) -> dict[str, Pool]:
    """How each site is reduced, `how` where it does not say; `InputError` for no sites or another reduction."""
    kept = kept_of(sites, how)
    pools = {site: value for site, value in kept.items() if not isinstance(value, Positions)}
    if drawn := [site for site in kept if site not in pools]:
        expected = "path=, where positions are drawn: in memory there are 'mean', 'whole' and cells of a grid"
        raise InputError(f"how of {drawn[0]!r}", found=repr(kept[drawn[0]]), expected=expected)
    return pools


def kept_of(sites: StoredSites, how: Kept) -> dict[str, Kept]:
    """The same, where positions may be drawn."""
    kept = dict(sites) if isinstance(sites, Mapping) else dict.fromkeys(sites, how)
    if isinstance(sites, str) or not kept:
        raise InputError("sites", found=repr(sites), expected="a list of at least one name")
    for site, value in kept.items():
        if (
            not isinstance(value, Positions)
            and value not in ("mean", "whole")
            and (isinstance(value, str) or value < 1)
        ):
            raise InputError(f"how of {site!r}", found=repr(value), expected="'mean', 'whole' or cells of a grid")
    return kept


def check_called(pools: Iterable[str], called: Iterable[str]) -> None:
    """Raise `InputError` for a site that was never called."""
    heard = set(called)
    if silent := [site for site in pools if site not in heard]:
        raise never_called(silent[0])


def capturing(
    denoiser: object, pools: Mapping[str, Pool], outputs: OutputsRead, *, update: bool = False
) -> AbstractContextManager[dict[str, Tensor]]:
    """A capture of the sites that are modules, each reduced in its own way."""
    modules = {site: how for site, how in pools.items() if site not in (INPUT, OUTPUT)}
    return capture(denoiser, list(modules), how=modules, outputs=outputs, update=update)


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
