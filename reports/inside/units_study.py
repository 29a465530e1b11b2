"""Single channels of a site, from masked images to effects: what a report on them shows.

    study = study_units(subject, masks, "network.up.2", folder="units")
    study.overlap, study.effects.verdicts

Units are chosen by one rule, `chosen_units`: those that are shown, written of and edited are the same. What they do is
measured on samples, in regions of each sample's own.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from scorescope.analysis.directions import windows
from scorescope.analysis.units import (
    MaximisedUnit,
    UnitEffects,
    UnitMaps,
    colour_regions,
    maximise_unit,
    unit_effects,
    unit_maps,
    unit_means,
    unit_overlap,
)
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.activations import collect
from scorescope.probes.bank import Bank, log_snr_grid
from scorescope.probes.models.denoiser import sigma_range
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.sampling import Euler, Sampling, sample
from scorescope.reports.directions import Subject

CHOSEN, SHOWN = 4, 5  # units; images of each
TRIED = range(7000, 7032)  # seeds, of which those with a region are kept
SEEDS, INTERVALS, STEPS = 12, 3, 8
LEAST = 20  # pixels of a region
RAISED, WALKED, LEVELS, WALK = 2, 8, 8, 3  # units that are maximised; images from which, noise levels, steps at each
RAISED_AT = 0.3  # the last of these levels


@displayed
@checked
@dataclass(frozen=True, eq=False)
class UnitsStudy:
    """Single channels of a site and what was found of them.

    Attributes
    ----------
    site, region : str
        Where, and by which masks units were chosen.
    overlap : DataFrame
        `UNIT_OVERLAP` of all units, regions and noise levels.
    units : list of int
        Those of `chosen_units`.
    sigma : float
        Noise level of the maps: that at which the first of them overlaps most.
    maps : UnitMaps
        Where the chosen units are strongest.
    pictures : Tensor, shape (unit, count, channel, y, x)
        The images in question, in [-1, 1].
    effects : UnitEffects
        What ablating and inserting them changes.
    regional : bool
        Whether they were edited in a region of each sample, or everywhere as too few samples have one.
    maximised : list of MaximisedUnit
        The first of the chosen units, raised under the prior from high noise on.
    why_not : str
        Why none is, where none is.
    """

    site: str
    region: str
    overlap: pd.DataFrame
    units: list[int]
    sigma: float
    maps: UnitMaps
    pictures: Tensor
    effects: UnitEffects
    regional: bool
    maximised: list[MaximisedUnit]
    why_not: str


@checked
def study_units(
    subject: Subject, masks: Mapping[str, Tensor], site: str, *, folder: str | Path, levels: int = 5, random: int = 39,
    seed: int = 0, progress: bool = True,
) -> UnitsStudy:  # fmt: skip
    """Dissect a site: which channels fire where the masks are, and what those do in samples.

    Parameters
    ----------
    subject : Subject
        Model and images.
    masks : mapping of str to Tensor, each of shape (image, y, x)
        Regions of the images; units are chosen by the first.
    site : str
        An inner module that puts out maps.
    folder : str or Path
        Where activations go.
    levels : int
        Noise levels.
    random : int
        Random sets that the effects of the chosen units are compared with.
    seed : int
        Of noise, halves and random sets.
    progress : bool
        Show progress bars.

    Raises
    ------
    InputError
        Without masks, and as `unit_overlap` and `unit_effects` do.
    """
    if not masks:
        raise InputError("masks", found="none", expected="at least one region")
    region, denoiser = next(iter(masks)), subject.denoiser
    least, largest = sigma_range(denoiser, low=0.1, high=10.0)
    sigmas = log_snr_grid(-2 * math.log(largest), -2 * math.log(least), levels)
    stored = collect(
        denoiser, Bank(subject.images, sigmas, seed=seed), [site], how="whole", path=Path(folder) / "units",
        batch=subject.batch, progress=progress,
    )  # fmt: skip
    overlap = unit_overlap(stored, site, masks, seed=seed, progress=progress)
    units = chosen_units(overlap, region)
    level = stored.sigmas.index(float(first_unit(overlap, region)["sigma"]))
    maps = unit_maps(stored, site, units, level=level, count=SHOWN)
    pictures = torch.stack([subject.pictures(subject.images[rows]).cpu() for rows in maps.images])
    sampling = Sampling(
        solver=Euler(), sigmas=_steps(subject), shape=tuple(subject.images.shape[1:]), batch=4 * subject.batch,
        device=subject.images.device,
    )  # fmt: skip
    seeds, where = _regions(subject, sampling)
    effects = unit_effects(
        denoiser, site, units, seeds=seeds, means=unit_means(stored, site, masks[region]), region=where,
        intervals=windows(_steps(subject), INTERVALS), random=random, sampling=sampling, seed=seed, progress=progress,
        output=stored.manifest["outputs"].get(site, {}).get("place"),
    )  # fmt: skip
    return UnitsStudy(
        site, region, overlap, units, stored.sigmas[level], maps, pictures, effects, where is not None,
        *_maximised(subject, site, units[:RAISED], seed),
    )  # fmt: skip


def _maximised(subject: Subject, site: str, units: list[int], seed: int) -> tuple[list[MaximisedUnit], str]:
    """Units raised under the prior; or none, and why."""
    least, largest = sigma_range(subject.denoiser, low=RAISED_AT, high=10.0)
    levels = log_snr_grid(-2 * math.log(largest), -2 * math.log(least), LEVELS)
    images = subject.images[:WALKED]
    try:
        return [
            maximise_unit(subject.denoiser, site, unit, images, sigmas=levels, steps=WALK, seed=seed) for unit in units
        ], ""
    except InputError as error:  # no gradient passes through a pipeline, say
        return [], str(error)


def chosen_units(overlap: pd.DataFrame, region: str, count: int = CHOSEN) -> list[int]:
    """The rule by which units are chosen: the largest overlap with a region, on average over noise levels."""
    values = overlap[overlap["region"] == region].groupby("unit")["value"].mean()
    return [int(unit) for unit in values.nlargest(count).index]


def first_unit(overlap: pd.DataFrame, region: str) -> "pd.Series[Any]":
    """The row of the first of them at the noise level at which it overlaps most."""
    (unit,) = chosen_units(overlap, region, 1)
    rows = overlap[(overlap["region"] == region) & (overlap["unit"] == unit)]
    return rows.iloc[int(rows["value"].argmax())]


def _steps(subject: Subject) -> list[float]:
    least, largest = sigma_range(subject.denoiser, low=0.002, high=80.0)
    return list(edm_sigmas(STEPS, sigma_min=least, sigma_max=largest))


def _regions(subject: Subject, how: Sampling) -> tuple[list[int], Tensor | None]:
    """Seeds whose samples have a region unlike their background, and these; or seeds and none, where they are few."""
    found = sample(
        subject.denoiser, seeds=TRIED, shape=how.shape, solver=how.solver, sigmas=how.sigmas, batch=how.batch,
        device=how.device, progress=False,
    ).samples  # fmt: skip
    regions = colour_regions(subject.pictures(found), least=LEAST)
    kept = regions.flatten(1).any(1).nonzero()[:, 0][:SEEDS]
    if len(kept) < SEEDS or regions.shape[1:] != found.shape[2:]:
        return list(TRIED)[:SEEDS], None
    return [TRIED[place] for place in kept.tolist()], regions[kept]
