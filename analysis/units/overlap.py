"""Whether single channels of a site fire where something is: overlap of their maps with regions, by noise level.

    table = unit_overlap(stored, "network.up.1", {"shape": masks})
    table[table["p_adjusted"] <= 0.05].nlargest(5, "value")

Network dissection (Bau et al. 2017, CVPR; 2020, PNAS 117, 30071) at each noise level of a denoiser: a channel's map is
brought to the masks' size and cut at its top quantile. Activations change scale along the noise, and so do the cuts. A
channel that fires where a region is need not cause it: `unit_effects` is the judge.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.analysis.statistics.arrays import Bools, Floats
from scorescope.analysis.statistics.exchangeable import share_as_large, standardised
from scorescope.analysis.statistics.intervals import skewed_ratio_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.analysis.units.channel_maps import (
    checked_levels,
    checked_mask,
    checked_units,
    map_shape,
    maps_of,
    numbers_of,
    pooled,
)
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.activations import StoredActivations

Resolution = Literal["mask", "map"]

UNIT_OVERLAP = Schema(
    "unit_overlap",
    (
        Column("site", str, "", "where"),
        Column("sigma", float, "data", "noise level"),
        Column("log_snr", float, "1", "-2 ln sigma"),
        Column("unit", int, "", "channel of the site"),
        Column("region", str, "", "name of the masks"),
        Column("n", int, "", "images that are judged"),
        Column("fitted", int, "", "other images, that the threshold is from"),
        Column("threshold", float, "activation", "the unit fires at this value and above"),
        Column("area", float, "1", "share of the judged positions at which it fires"),
        Column("region_area", float, "1", "share of them in the region"),
        Column("value", float, "1", "IoU: positions in both over positions in either, summed over the judged images"),
        *ends("1", "over images, of a ratio of sums, with the threshold as it is; missing where the unit never fires"),
        Column("bound", float, "1", "largest IoU of any map with these two areas: the smaller over the larger"),
        Column("share_of_bound", float, "1", "value over bound"),
        Column("chance", float, "1", "mean IoU with the masks of other images, over the permutations"),
        Column("chance_q95", float, "1", "their 95 % quantile"),
        Column("permutations", int, "", "of the masks over the judged images, the same for all rows"),
        Column("p", float, "1", "share of the permutations, this order among them, with as large an IoU"),
        Column("family", int, "", "rows of this table"),
        Column(
            "p_adjusted", float, "1",
            "the same of the largest standardised IoU of the family in each permutation: the chance of any p_adjusted "
            "at or below 0.05 where nothing overlaps is at most 5 %",
        ),
    ),
)  # fmt: skip

POSITIONS = 2**22  # at which thresholds are found; of more, so many are drawn, the same in all draws of an image
ROOM = 2**25  # numbers of permuted masks in memory


@checked
@torch.no_grad()
def unit_overlap(
    stored: StoredActivations, site: str, masks: Mapping[str, Tensor], *, units: Sequence[int] | None = None,
    levels: Sequence[int] | None = None, top: float = 0.005, fit: Sequence[int] | None = None,
    resolution: Resolution = "mask", grid: tuple[int, int] | None = None, permutations: int = 199, seed: int = 0,
    progress: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Overlap of channels with regions at each noise level, against masks of other images.

    Each activation is read once. Memory holds one batch of maps, the masks, one number an (image, region, unit) and one
    a (permutation, region, unit).

    Parameters
    ----------
    stored : StoredActivations
        With the site kept whole, or as a grid.
    site : str
        Where.
    masks : mapping of str to Tensor, each of shape (image, y, x)
        Regions of the images, bool or shares of pixels: half or more is inside. All of one size.
    units, levels : sequence of int, optional
        Channels, and places in `stored.sigmas`; all by default. All that are looked at belong in one call: they are one
        family.
    top : float
        Share of positions at which a unit fires, over the images that thresholds are from. A unit whose threshold is
        its lowest value fires above it.
    fit : sequence of int, optional
        Images that thresholds are from; by default half of them, drawn by `seed`. The others are judged.
    resolution : {"mask", "map"}
        Maps are brought to the size of the masks (bilinear), or masks are averaged over the cells of the maps.
    grid : tuple of int, optional
        Rows and columns in which tokens lie.
    permutations, seed : int
        Of the null, and of the halves.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DataFrame
        `UNIT_OVERLAP`, one row a (level, region, unit).

    Raises
    ------
    InputError
        For masks of other images or sizes, a region that is nowhere, and fewer than two images on either side.
    """
    if resolution not in get_args(Resolution) or not 0 < top < 1 or permutations < 19:
        found = f"{resolution!r}, {top}, {permutations}"
        expected = "mask or map, between 0 and 1, and at least 19"
        raise InputError("resolution, top, permutations", found=found, expected=expected)
    shape = map_shape(stored, site, grid)
    regions = _regions(masks, int(stored.manifest["images"]), shape if resolution == "map" else None)
    rng = np.random.default_rng(seed)
    judged = _judged(regions.shape[1], fit, rng)
    if unseen := [name for name, mask in zip(masks, regions, strict=True) if not mask[judged].any()]:
        expected = "a region of some image that is judged, not of those alone that thresholds are from"
        raise InputError(f"masks[{unseen[0]!r}]", found="none", expected=expected)
    orders = _orders(judged, permutations, rng)
    work = _Work(
        stored, site, checked_units(stored, site, units), shape, regions, judged, orders, top,
        seed,
    )  # fmt: skip
    parts, scaled, highest = [], [], np.full(1 + permutations, -math.inf)
    for level in tqdm(checked_levels(stored, levels), desc="overlap", disable=not progress, leave=False):
        rows, spread = work.level(level, list(masks))
        parts.append(rows)
        scaled.append(spread[:1])
        highest = np.maximum(highest, spread.max(1))
    table = pd.concat(parts, ignore_index=True)
    adjusted = share_as_large(np.concatenate(scaled, axis=1), highest)
    return UNIT_OVERLAP.check(table.assign(site=site, family=len(table), p_adjusted=adjusted))


def _regions(masks: Mapping[str, Tensor], count: int, shape: tuple[int, int] | None) -> Tensor:
    """All masks, (region, image, y, x) bool."""
    found = {name: checked_mask(f"masks[{name!r}]", mask, count) for name, mask in masks.items()}
    if len({mask.shape for mask in found.values()}) != 1:
        sizes = sorted({tuple(mask.shape) for mask in found.values()})
        raise InputError("masks", found=str(sizes), expected="at least one region, and masks of one size")
    cut = {name: mask >= 0.5 if shape is None else pooled(mask, shape) for name, mask in found.items()}
    if nowhere := [name for name, mask in cut.items() if not mask.any()]:
        raise InputError(f"masks[{nowhere[0]!r}]", found="a region that is nowhere", expected="a region of some image")
    return torch.stack(list(cut.values()))


def _judged(count: int, fit: Sequence[int] | None, rng: np.random.Generator) -> Bools:
    """Images that are judged: those that thresholds are not from."""
    fitted = rng.permutation(count)[: count // 2] if fit is None else np.array(numbers_of("fit", fit), dtype=np.int64)
    found = np.ones(count, dtype=bool)
    if len(fitted) and not (fitted.min() >= 0 and fitted.max() < count):
        raise InputError("fit", found=str(fitted[:8]), expected=f"images from 0 to {count - 1}")
    found[fitted] = False
    if found.sum() < 2 or found.sum() > count - 2:
        expected = "at least two images for thresholds, and two others"
        raise InputError("fit", found=f"{count - int(found.sum())} of {count} images", expected=expected)
    return found


def _orders(judged: Bools, permutations: int, rng: np.random.Generator) -> Tensor:
    """Whose mask each image has, (1 + permutations, image): its own first, then that of another judged one."""
    places = np.flatnonzero(judged)
    orders = np.tile(np.arange(len(judged)), (1 + permutations, 1))
    for order in orders[1:]:
        order[places] = rng.permutation(places)
    return torch.from_numpy(orders)


@dataclass(frozen=True, eq=False)
class _Work:
    """What the noise levels share."""

    stored: StoredActivations
    site: str
    units: list[int]
    shape: tuple[int, int]
    regions: Tensor
    judged: Bools
    orders: Tensor
    top: float
    seed: int

    def resized(self, maps: Tensor) -> Tensor:
        """Maps at the size of the regions, (batch, unit, position)."""
        size = tuple(self.regions.shape[2:])
        if size != tuple(maps.shape[2:]):
            maps = torch.nn.functional.interpolate(maps, size=size, mode="bilinear")
        return maps.flatten(2)

    def thresholds(self, level: int) -> Tensor:
        """Values that units reach at the top share of positions of the images that are not judged, (unit,)."""
        count = int((~self.judged).sum()) * int(self.stored.manifest["draws"])
        positions = self.regions.shape[2] * self.regions.shape[3]
        kept = max(1, min(positions, POSITIONS // count))
        wanted = max(1, round(self.top * kept * count))
        highest, least = torch.empty(len(self.units), 0), torch.full((len(self.units),), math.inf)
        for rows, maps in maps_of(self.stored, self.site, level, ~self.judged, self.units, self.shape):
            values = self.resized(maps)
            if kept < positions:  # drawn for each image, so that shards do not show
                generators = [np.random.default_rng([self.seed, level, row]) for row in rows.tolist()]
                places = torch.from_numpy(np.stack([rng.permutation(positions)[:kept] for rng in generators]))
                values = values.gather(2, places[:, None].expand(-1, len(self.units), -1))
            values = values.transpose(0, 1).flatten(1)
            least = torch.minimum(least, values.amin(1))
            highest = torch.cat([highest, values], dim=1)
            highest = highest.topk(min(wanted, highest.shape[1]), dim=1).values
        found = highest[:, -1]
        return torch.where(found > least, found, torch.nextafter(found, torch.tensor(math.inf)))

    def level(self, level: int, names: Sequence[str]) -> tuple[pd.DataFrame, Floats]:
        """Rows of one noise level, and standardised IoU (1 + permutations, region * unit)."""
        threshold = self.thresholds(level)
        both, fires = self.counts(level, threshold)
        draws = int(self.stored.manifest["draws"])
        inside = self.regions.flatten(2).sum(2).T.double().numpy()[self.judged] * draws  # (image, region)
        own = both.own[self.judged]  # (image, region, unit)
        fires = fires[self.judged][:, None]  # (image, 1, unit)
        either = fires + inside[:, :, None] - own
        areas = np.broadcast_arrays(fires.sum(0), inside.sum(0)[:, None])
        with np.errstate(invalid="ignore", divide="ignore"):
            overlap = both.permuted / (areas[0] + areas[1] - both.permuted)
            low, high = skewed_ratio_interval(own, either)
            bound = np.minimum(*areas) / np.maximum(*areas)
            share = overlap[0] / bound
        silent = areas[0] == 0
        flat = np.nan_to_num(overlap.reshape(len(overlap), -1))  # of nothing with nothing
        scaled = standardised(flat)
        total = len(own) * draws * self.regions.shape[2] * self.regions.shape[3]
        sigma = self.stored.sigmas[level]
        columns = {
            "region": np.repeat(names, len(self.units)), "unit": np.tile(self.units, len(names)),
            "threshold": np.tile(threshold.double().numpy(), len(names)),
            "area": areas[0] / total, "region_area": areas[1] / total, "value": overlap[0],
            "low": np.where(silent, np.nan, low.clip(0, 1)), "high": np.where(silent, np.nan, high.clip(0, 1)),
            "bound": bound, "share_of_bound": share, "chance": overlap[1:].mean(0),
            "chance_q95": np.quantile(overlap[1:], 0.95, axis=0), "p": share_as_large(flat),
        }  # fmt: skip
        table = pd.DataFrame({name: np.ravel(values) for name, values in columns.items()})
        counts = {"n": len(own), "fitted": int((~self.judged).sum()), "permutations": len(self.orders) - 1}
        return table.assign(sigma=sigma, log_snr=-2 * math.log(sigma), **counts), scaled

    def counts(self, level: int, threshold: Tensor) -> tuple["_Both", Floats]:
        """Positions in both for every order of the masks, and positions at which each unit fires in each image."""
        regions, images = self.regions.shape[:2]
        own = np.zeros((images, regions, len(self.units)))
        permuted = np.zeros((len(self.orders), regions, len(self.units)))
        fires = np.zeros((images, len(self.units)))
        positions = self.regions.shape[2] * self.regions.shape[3]
        batch = int(np.clip(ROOM // (positions * max(len(self.orders), len(self.units))), 1, 64))
        for rows, maps in maps_of(self.stored, self.site, level, self.judged, self.units, self.shape, batch=batch):
            active = (self.resized(maps) >= threshold[:, None]).float()
            np.add.at(fires, rows.numpy(), active.sum(2).double().numpy())
            for place, mask in enumerate(self.regions.flatten(2)):
                chosen = mask[self.orders[:, rows]].float()  # (order, image, position)
                found = torch.einsum("bup,kbp->kbu", active, chosen).double()
                permuted[:, place] += found.sum(1).numpy()
                np.add.at(own[:, place], rows.numpy(), found[0].numpy())
        return _Both(own, permuted), fires


@dataclass(frozen=True, eq=False)
class _Both:
    """Positions that fire and are in a region: `own` by image (image, region, unit), `permuted` summed (order, ...)."""

    own: Floats
    permuted: Floats
