"""What single channels of a site cause: ablated and inserted in a region, against as many random ones.

    found = unit_effects(denoiser, "network.up.1", [3, 17], scores, seeds=range(16), means=means, intervals=intervals)
    found.verdicts                  # moves, still or undecided: one row an edit, interval of noise levels and score
    found.arms                      # mean change by each set, chosen or random

A channel that fires where something is (`unit_overlap`) may only follow it. Dissection of a generator ablates such
units and inserts them elsewhere (Bau et al. 2019, ICLR). In a diffusion model both can be done at some noise levels
only, and what one step takes away later steps may put back.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from torch import Tensor

from scorescope.analysis.directions.noise_intervals import EVERYWHERE, check_branch_is_called, spans_of
from scorescope.analysis.directions.steering_arms import Scores
from scorescope.analysis.statistics.arrays import Floats, scores_of
from scorescope.analysis.statistics.bootstrap import LEAST_SEEDS, check_seeds
from scorescope.analysis.statistics.exchangeable import share_as_large, standardised
from scorescope.analysis.statistics.intervals import skewed_mean_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.analysis.units.channel_maps import UnitMeans, Which
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError, renamed
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.sampling import ArmBatch, RunArm, Sampling, run_arms
from scorescope.probes.sites import Intervention
from scorescope.probes.sites.interventions import Branch

Edit = Literal["zero", "mean", "insert"]
NONE, UNITS, PIXELS = "none", "units", "pixels"
INSIDE, OUTSIDE = f"{PIXELS} inside", f"{PIXELS} outside"
LIKE, LEAST_SETS = 8, 40  # nearest channels of which one is drawn; at least so many sets there must be to draw from
ERROR = 0.05

_WHERE = (
    Column("site", str, "", "where"),
    Column("units", str, "", "the chosen channels"),
    Column("edit", str, "", "zero, mean: ablated to 0, to the mean everywhere; insert: set to the mean in a region"),
    Column("sigma_low", float, "data", "it acts at noise levels above this one"),
    Column("sigma_high", float, "data", "and up to this one (at most the first level of the sampler)"),
    Column("log_snr", float, "1", "-2 ln sigma_high: where it begins to act"),
)
_SCORE = Column(
    "score",
    str,
    "",
    "name of the score; pixels: root mean square change, inside and outside of the region",
)

UNIT_ARMS = Schema(
    "unit_arms",
    (
        *_WHERE,
        Column("arm", str, "", "units, random 1 and so on"),
        Column("channels", str, "", "which channels it edits"),
        _SCORE,
        Column("n", int, "", "seeds"),
        Column("value", float, "score", "mean change from the sample without edit"),
        *ends("score", "over seeds, corrected for skewness"),
    ),
)

UNIT_EFFECTS = Schema(
    "unit_effects",
    (
        *_WHERE,
        _SCORE,
        Column("n", int, "", "seeds"),
        Column("value", float, "score", "mean change from the sample without edit"),
        *ends("score", "over seeds, corrected for skewness"),
        Column("relevant", float, "score", "smallest |change| that counts"),
        Column("random", int, "", "random sets of as many channels"),
        Column("chance", float, "score", "root mean square of their mean changes"),
        Column("p", float, "1", "share of all sets, the chosen one among them, whose |mean change| is as large"),
        Column("family", int, "", "rows of this table"),
        Column(
            "p_adjusted", float, "1",
            "the same of the largest |mean change| of the family by each set, each over its root mean square over sets",
        ),
        Column(
            "verdict", str, "",
            "moves: p_adjusted <= 0.05 and the interval lies beyond `relevant`; still: it lies within (relevant > 0); "
            "undecided: neither is shown",
        ),
    ),
)  # fmt: skip


@displayed
@checked
@dataclass(frozen=True, eq=False)
class UnitEffects:
    """What `unit_effects` found.

    Attributes
    ----------
    verdicts, arms : DataFrame
        Columns declared in `UNIT_EFFECTS` and `UNIT_ARMS`.
    """

    verdicts: pd.DataFrame
    arms: pd.DataFrame


@checked
def unit_effects(
    denoiser: Denoiser, site: str, units: Sequence[int], scores: Scores | None = None, *, seeds: Sequence[int],
    width: int | None = None, means: UnitMeans | None = None, edits: Sequence[Edit] = ("mean", "insert"),
    region: Tensor | None = None, condition: Condition = None, intervals: Sequence[tuple[float, float]] = EVERYWHERE,
    branch: Branch = "both", random: int = 19, relevant: float = 0.0, sampling: Sampling | None = None,
    start: Tensor | None = None, output: int | None = None, seed: int = 0, progress: bool = True,
) -> UnitEffects:  # fmt: skip
    """What changes in samples when units are ablated or inserted, from the same start and sampler noise.

    Parameters
    ----------
    denoiser : Denoiser
        A `torch.nn.Module`.
    site : str
        Where.
    units : sequence of int
        Channels that are edited together; chosen without these seeds.
    scores : callable, optional
        Images (n, *shape) -> {name: (n,)}. How far pixels change is always measured.
    seeds : sequence of int
        At least 8, all different; intervals are over them.
    width : int, optional
        Channels of the site; those of `means` by default.
    means : UnitMeans, optional
        What to ablate to and to insert, by noise level (`unit_means`). With it, each channel of a random set is one of
        the 8 (of a single unit 40) that are left nearest in spread to the one it stands for; without it, any.
    edits : sequence of {"zero", "mean", "insert"}
        Set the units to 0, to their mean over all positions, or to their mean in the region of `means`.
    region : Tensor, shape (y, x) or (seed, y, x), optional
        Where in the picture, from 0 to 1; the whole map by default.
    condition : optional
        One row a seed, for all arms; None samples unconditionally.
    intervals : sequence of (low, high)
        Noise levels between which the edit acts, low < sigma <= high; see `windows` of `analysis.directions`.
    branch : {"cond", "uncond", "both"}
        Calls in which it acts.
    random : int
        Random sets, at least 19, drawn from all channels, the chosen ones too: p is never below 1 / (1 + random), and
        of few channels not below one over the number of sets that there are.
    relevant : float
        Smallest |change| that counts, in units of all scores and pixels alike.
    sampling : Sampling, optional
        Rule, solver, noise levels, batch and device.
    start : Tensor, shape (len(seeds), *shape), optional
        States at the first noise level.
    output : int, optional
        Which of the tensors of the site's module.
    seed : int
        Of the random sets.
    progress : bool
        Show a progress bar.

    Returns
    -------
    UnitEffects
        Verdicts on all edits, intervals and scores are one family.

    Raises
    ------
    InputError
        For channels that the site does not have, more than half of the channels, edits whose means are not given, a
        region that does not fit the samples, scores that are not finite, and as `steer_curve` for seeds and intervals.
    """
    sampling, numbers = sampling or Sampling(), check_seeds(seeds, LEAST_SEEDS)
    spans = spans_of(intervals, sampling.sigmas)
    sets = _sets(list(units), _width(width, means, site, edits), random, means, seed)
    _check_region(region, len(numbers))
    if not spans or not 0 <= relevant < math.inf:
        found = f"{len(spans)} intervals, relevant {relevant}"
        raise InputError("intervals, relevant", found=found, expected="an interval, and a size that is not negative")
    check_branch_is_called(denoiser, branch, spans, seeds=numbers, condition=condition, start=start, sampling=sampling)
    tests = [(edit, low, high) for edit in edits for low, high in spans]
    common = {"where": region, "branch": branch, "output": output}
    arms = [RunArm(NONE)] + [
        RunArm(f"{place}, {name}", (_intervention(edit, site, members, means, low=low, high=high, **common),))
        for place, (edit, low, high) in enumerate(tests) for name, members in sets.items()
    ]  # fmt: skip
    places = {arm.name: place for place, arm in enumerate(arms[1:])}
    with renamed({"where": "region", "function": "means", "channels": "width" if means is None else "means"}):
        batches = run_arms(
            denoiser, arms, seeds=numbers, condition=condition, start=start, sampling=sampling, progress=progress
        )
        names, changes = _changes(batches, places, len(numbers), scores, region)
    shaped = changes.reshape(len(numbers), len(tests), len(sets), len(names))
    where = [
        {"site": site, "units": _text(sets[UNITS]), "edit": edit, "sigma_low": low, "sigma_high": high,
         "log_snr": -2 * math.log(high)} for edit, low, high in tests
    ]  # fmt: skip
    return UnitEffects(_verdicts(shaped, where, names, relevant), _arms(shaped, where, names, sets))


def _check_region(region: Tensor | None, count: int) -> None:
    if region is None:
        return
    shaped = region.ndim == 2 or (region.ndim == 3 and len(region) == count)
    if not shaped or not ((region >= 0) & (region <= 1)).all():
        found = f"{region.dtype} of shape {tuple(region.shape)}"
        raise InputError("region", found=found, expected=f"(y, x) or ({count}, y, x), one a seed, from 0 to 1")


def _width(width: int | None, means: UnitMeans | None, site: str, edits: Sequence[str]) -> int:
    """Channels of the site, once edits and means are known to go together."""
    if not edits or len(set(edits)) < len(edits) or not set(edits) <= set(get_args(Edit)):
        raise InputError("edits", found=str(list(edits)), expected=f"different ones of {', '.join(get_args(Edit))}")
    if means is None and (width is None or set(edits) != {"zero"}):
        found = f"none, with width {width} and {', '.join(edits)}"
        raise InputError("means", found=found, expected="unit_means(...); or width= and edits=('zero',)")
    if means is not None and (means.site != site or width not in (None, means.inside.shape[1])):
        found = f"those of {means.inside.shape[1]} channels at {means.site!r}"
        raise InputError("means", found=found, expected=f"those of {site!r}, of {width or 'any number of'} channels")
    return int(width or 0) if means is None else means.inside.shape[1]


def _sets(units: list[int], width: int, random: int, means: UnitMeans | None, seed: int) -> dict[str, list[int]]:
    """The chosen channels, and random sets of as many, each drawn from all channels, as the chosen may have been.

    Drawn from the others alone they would be more alike than the chosen set is like them, where there are few.
    """
    known = set(units) <= set(range(width))
    if not units or len(set(units)) < len(units) or not known or 2 * len(units) > width:
        found = f"{units[:8]} of {width}"
        raise InputError("units", found=found, expected="different channels of the site, at most half of them")
    if random < 19:
        raise InputError("random", found=str(random), expected="at least 19: fewer cannot reach 5 %")
    rng = np.random.default_rng(seed)
    spread = None if means is None else means.spread.double().log().clamp(min=-30).mean(0).numpy()
    return {UNITS: units} | {f"random {k + 1}": _set_like(units, width, spread, rng) for k in range(random)}


def _set_like(units: list[int], width: int, spread: Floats | None, rng: np.random.Generator) -> list[int]:
    """As many channels, each among those that are left nearest in log spread to the one it stands for, itself too."""
    if spread is None:
        return sorted(int(one) for one in rng.choice(width, len(units), replace=False))
    left, found = list(range(width)), list[int]()
    like = max(LIKE, math.ceil(LEAST_SETS ** (1 / len(units))))
    for unit in rng.permutation(units):
        nearest = sorted(left, key=lambda other: (abs(spread[other] - spread[unit]), other != unit))[:like]
        found.append(int(rng.choice(nearest)))
        left.remove(found[-1])
    return sorted(found)


def _intervention(edit: str, site: str, members: Sequence[int], means: UnitMeans | None, **more: Any) -> Intervention:
    if edit == "zero":
        return Intervention("zero", site, channels=tuple(members), **more)
    which: Which = "inside" if edit == "insert" else "everywhere"

    def constant(values: Tensor, sigma: float) -> Tensor:
        assert means is not None  # or the edit was refused
        return means.at(sigma, which).to(values).expand(len(values), -1)

    return Intervention("map", site, function=constant, channels=tuple(members), **more)


def _changes(
    batches: Iterable[ArmBatch], places: Mapping[str, int], seeds: int, scores: Scores | None, region: Tensor | None
) -> tuple[list[str], Floats]:
    """Names of scores, and their changes (seed, arm, score) from the arm without edit, batch by batch."""
    names, changes = list[str](), np.zeros(0)
    for part in batches:
        rows = part.seeds
        if part.names[0] == NONE:
            bare = part.samples[0]
            before = _scored(scores, bare)
        here = region if region is None or region.ndim == 2 else region[rows]
        for name, samples in zip(part.names, part.samples, strict=True):
            if name == NONE:
                continue
            found = {key: value - before[key] for key, value in _scored(scores, samples).items()}
            found |= _pixels(samples - bare, here)
            if not names:
                names = list(found)
                changes = np.zeros((seeds, len(places), len(names)))
            changes[rows, places[name]] = np.stack([found[key] for key in names], axis=1)
    return names, changes


def _scored(scores: Scores | None, images: Tensor) -> dict[str, Floats]:
    found = {} if scores is None else scores_of(scores, images)
    if clash := {PIXELS, INSIDE, OUTSIDE} & set(found):
        raise InputError("scores", found=f"one named {min(clash)!r}", expected="another name: pixels have this one")
    return found


def _pixels(difference: Tensor, region: Tensor | None) -> dict[str, Floats]:
    """Root mean square change of the pixels of each image, inside and outside of a region of all or one an image."""
    square = difference.double().square()
    square = square.flatten(1, -3).mean(1) if square.ndim > 3 else square
    if region is None:
        return {PIXELS: square.flatten(1).mean(1).sqrt().cpu().numpy()}
    if region.shape[-2:] != square.shape[-2:]:
        found = f"{tuple(region.shape)} for samples of {tuple(difference.shape[1:])}"
        raise InputError("region", found=found, expected="the size of the pictures")
    inside = (region.to(square.device) >= 0.5).expand(square.shape).flatten(1)
    parts, flat = {INSIDE: inside, OUTSIDE: ~inside}, square.flatten(1)
    if not all(part.any(1).all() for part in parts.values()):
        expected = "some pixels inside and some outside, for every seed"
        raise InputError("region", found="all or none of a picture", expected=expected)
    return {name: ((flat * part).sum(1) / part.sum(1)).sqrt().cpu().numpy() for name, part in parts.items()}


def _verdicts(
    changes: Floats, where: Sequence[Mapping[str, Any]], names: Sequence[str], relevant: float
) -> pd.DataFrame:
    """One row a (test, score), of changes (seed, test, set, score) with the chosen set first."""
    means = changes.mean(0).swapaxes(0, 1).reshape(changes.shape[2], -1)  # (set, test * score)
    own = changes[:, :, 0].reshape(len(changes), -1)
    low, high = skewed_mean_interval(own)
    sizes = np.abs(standardised(means, centred=False))
    p, adjusted = share_as_large(np.abs(means)), share_as_large(sizes, sizes.max(1))
    beyond, within = (low > relevant) | (high < -relevant), (low > -relevant) & (high < relevant)
    verdict = np.where((adjusted <= ERROR) & beyond, "moves", np.where(within & (relevant > 0), "still", "undecided"))
    table = pd.DataFrame([{**row, "score": name} for row in where for name in names])
    return UNIT_EFFECTS.check(table.assign(
        n=len(changes), value=own.mean(0), low=low, high=high, relevant=float(relevant), random=len(means) - 1,
        chance=np.sqrt((means[1:] ** 2).mean(0)), p=p, family=len(table), p_adjusted=adjusted, verdict=verdict,
    ))  # fmt: skip


def _arms(
    changes: Floats, where: Sequence[Mapping[str, Any]], names: Sequence[str], sets: Mapping[str, Sequence[int]]
) -> pd.DataFrame:
    low, high = skewed_mean_interval(changes)
    rows = [
        {**row, "arm": arm, "channels": _text(members), "score": name} for row in where
        for arm, members in sets.items() for name in names
    ]  # fmt: skip
    values = {"value": changes.mean(0), "low": low, "high": high}
    flat = {name: part.ravel() for name, part in values.items()}
    return UNIT_ARMS.check(pd.DataFrame(rows).assign(n=len(changes), **flat))


def _text(members: Sequence[int]) -> str:
    return ", ".join(map(str, members))
