"""Maps of single channels of a site, read from disk a batch at a time, and what they are on average in a region.

means = unit_means(stored, "network.up.1", masks)            # what to insert, and what to ablate to
shown = unit_maps(stored, "network.up.1", [3, 17], level=4)  # where they are strongest
masks = colour_regions(pictures)                             # of pictures that have none
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import scipy
import torch
from torch import Tensor

from scorescope.analysis.statistics.arrays import Bools
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.activations import Positions, StoredActivations
from scorescope.probes.sites.row_edits import HALF, covered

BATCH = 64
Which = Literal["inside", "everywhere", "spread"]


def map_shape(stored: StoredActivations, site: str, grid: tuple[int, int] | None) -> tuple[int, int]:
    """Rows and columns of a site's maps.

    Raises
    ------
    InputError
        For a site of which positions were drawn, and one without maps, unless `grid` lays out its tokens.
    """
    inner, count = stored.inner_shape(site), stored.positions(site)
    if isinstance(stored.how[site], Positions):
        raise InputError("stored", found=f"{site!r}, of which positions were drawn", expected="sites kept whole")
    found = grid if grid is not None else inner
    if len(found) != 2 or math.prod(found) != count:
        expected = f"maps (y, x), or grid=(rows, columns) of its {count} positions"
        raise InputError("site", found=f"{inner} at {site!r}, grid {grid}", expected=expected)
    return int(found[0]), int(found[1])


def maps_of(
    stored: StoredActivations, site: str, level: int, chosen: Bools, units: Sequence[int], shape: tuple[int, int],
    *, batch: int = BATCH,
) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """Numbers of images (batch,) with maps of units (batch, unit, y, x), of the chosen images at one noise level."""
    starts, index = stored.starts(), stored.index
    wanted = (index["step"].to_numpy() == level) & chosen[index["image"].to_numpy()]
    images = torch.from_numpy(index["image"].to_numpy().astype(np.int64))
    for number, (first, last) in enumerate(pairwise(starts)):
        rows = torch.from_numpy(np.flatnonzero(wanted[first:last]))
        if not len(rows):
            continue
        piece = stored.piece(site, number)
        for part in rows.split(batch):
            values = piece[part][:, :, list(units)].float()
            yield images[part + first], values.transpose(1, 2).unflatten(2, shape)


def checked_units(stored: StoredActivations, site: str, units: Sequence[int] | None) -> list[int]:
    """Channels of a site, all by default."""
    width = stored.width(site)
    found = list(range(width)) if units is None else numbers_of("units", units)
    if not found or len(set(found)) < len(found) or not all(0 <= unit < width for unit in found):
        raise InputError("units", found=str(found)[:60], expected=f"different channels from 0 to {width - 1}")
    return found


def numbers_of(argument: str, given: Sequence[int]) -> list[int]:
    """Numbers that are no marks: True and False would be 1 and 0."""
    found = np.asarray(given)
    if found.ndim != 1 or (len(found) and not np.issubdtype(found.dtype, np.integer)):
        raise InputError(argument, found=f"{found.dtype} of shape {found.shape}", expected="whole numbers, (n,)")
    return [int(one) for one in found]


def checked_mask(argument: str, mask: Tensor, count: int) -> Tensor:
    """A mask as shares, (image, y, x) float32."""
    if mask.ndim != 3 or len(mask) != count or not ((mask >= 0) & (mask <= 1)).all():
        found = f"{mask.dtype} of shape {tuple(mask.shape)}"
        raise InputError(argument, found=found, expected=f"({count}, y, x), from 0 to 1, a mask an image")
    return mask.detach().cpu().float()


def checked_levels(stored: StoredActivations, levels: Sequence[int] | None) -> list[int]:
    """Places of noise levels, all by default."""
    count = len(stored.sigmas)
    found = list(range(count)) if levels is None else [int(level) for level in levels]
    if not found or len(set(found)) < len(found) or not all(0 <= level < count for level in found):
        raise InputError("levels", found=str(found)[:60], expected=f"different places from 0 to {count - 1}")
    return found


@displayed
@checked
@dataclass(frozen=True, eq=False)
class UnitMeans:
    """What the channels of a site are on average, at each noise level.

    Attributes
    ----------
    site : str
        Which.
    sigmas : tuple of float
        Noise levels.
    inside : Tensor, shape (level, channel)
        Mean over the positions of a region.
    everywhere, spread : Tensor, shape (level, channel)
        Mean and standard deviation over all positions.
    """

    site: str
    sigmas: tuple[float, ...]
    inside: Tensor
    everywhere: Tensor
    spread: Tensor

    def __post_init__(self) -> None:
        parts = {name: getattr(self, name) for name in ("inside", "everywhere", "spread")}
        for name, part in parts.items():
            if part.ndim != 2 or part.shape != (len(self.sigmas), self.inside.shape[1]) or not part.isfinite().all():
                found, expected = f"shape {tuple(part.shape)}, or not finite", f"finite, ({len(self.sigmas)}, channels)"
                raise InputError(name, found=found, expected=expected)

    @checked
    def at(self, sigma: float, which: Which = "inside") -> Tensor:
        """One of them at a noise level, (channel,): linear in log sigma between the levels, and constant beyond."""
        if not 0 < sigma < math.inf:
            raise InputError("sigma", found=str(sigma), expected="a positive finite noise level")
        order = np.argsort(self.sigmas)
        levels, values = np.log(np.asarray(self.sigmas)[order]), getattr(self, which)[torch.from_numpy(order)]
        place = float(np.interp(math.log(sigma), levels, np.arange(len(levels))))
        below = min(int(place), len(levels) - 1)
        return torch.lerp(values[below], values[min(below + 1, len(levels) - 1)], place - below)


@checked
@torch.no_grad()
def unit_means(stored: StoredActivations, site: str, mask: Tensor, *, grid: tuple[int, int] | None = None) -> UnitMeans:
    """What every channel is on average where a region is, and everywhere, at each noise level.

    Parameters
    ----------
    stored : StoredActivations
        With the site kept whole, or as a grid.
    site : str
        Where.
    mask : Tensor, shape (image, y, x)
        The region in each image, bool or shares; a position counts of which it covers half or more.
    grid : tuple of int, optional
        Rows and columns in which tokens lie.

    Raises
    ------
    InputError
        For a mask of other images, and a region that covers no position.
    """
    shape, units = map_shape(stored, site, grid), checked_units(stored, site, None)
    mask = checked_mask("mask", mask, int(stored.manifest["images"]))
    inside = pooled(mask, shape)
    if not inside.any():
        raise InputError("mask", found="a region that covers half of no position", expected="a larger region")
    found = []
    for level in range(len(stored.sigmas)):
        total, square, within = (torch.zeros(len(units), dtype=torch.float64) for _ in range(3))
        count, covered = 0, 0
        for images, maps in maps_of(stored, site, level, np.ones(len(mask), bool), units, shape):
            values, here = maps.double(), inside[images][:, None]
            total, square = total + values.sum((0, 2, 3)), square + values.square().sum((0, 2, 3))
            within, covered = within + (values * here).sum((0, 2, 3)), covered + int(here.sum())
            count += len(images) * math.prod(shape)
        mean = total / count
        found.append([within / covered, mean, (square / count - mean**2).clamp(min=0).sqrt()])
    parts = [torch.stack(part).float() for part in zip(*found, strict=True)]
    return UnitMeans(site, stored.sigmas, *parts)


def pooled(mask: Tensor, shape: tuple[int, int]) -> Tensor:
    """Cells of a coarser or finer map of which a mask covers half or more, (image, y, x) bool."""
    return covered(mask, shape) >= HALF


@displayed
@checked
@dataclass(frozen=True, eq=False)
class UnitMaps:
    """Images in which units are strongest.

    Attributes
    ----------
    units : list of int
        Channels.
    images : Tensor, shape (unit, count), int64
        Which images, the strongest first.
    maps : Tensor, shape (unit, count, y, x)
        The unit there, at its own resolution, of the first noise draw.
    """

    units: list[int]
    images: Tensor
    maps: Tensor


@checked
@torch.no_grad()
def unit_maps(
    stored: StoredActivations, site: str, units: Sequence[int], *, level: int, count: int = 6,
    images: Sequence[int] | None = None, grid: tuple[int, int] | None = None,
) -> UnitMaps:  # fmt: skip
    """Where units are strongest: the images with the highest values at any position, and the maps in them.

    Parameters
    ----------
    stored, site, grid
        As in `unit_means`.
    units : sequence of int
        Channels.
    level : int
        Place in `stored.sigmas`.
    count : int
        Images a unit.
    images : sequence of int, optional
        Look at these only.
    """
    shape, units = map_shape(stored, site, grid), checked_units(stored, site, units)
    (level,) = checked_levels(stored, [level])
    total = int(stored.manifest["images"])
    asked = list(range(total)) if images is None else numbers_of("images", images)
    if count < 1 or not asked or not all(0 <= number < total for number in asked):
        found, expected = f"{asked[:8]}, {count}", f"images from 0 to {total - 1}, and at least 1 to show"
        raise InputError("images, count", found=found, expected=expected)
    chosen = np.isin(np.arange(total), asked)
    strongest = torch.full((len(units), total), -math.inf)
    for numbers, maps in maps_of(stored, site, level, chosen, units, shape):
        strongest[:, numbers] = torch.maximum(strongest[:, numbers], maps.amax((2, 3)).T)
    best = strongest.topk(min(count, int(chosen.sum())), dim=1).indices
    shown = torch.zeros(*best.shape, *shape)
    left = torch.ones_like(best, dtype=torch.bool)
    for numbers, maps in maps_of(stored, site, level, np.isin(np.arange(total), best.numpy()), units, shape):
        for number, found in zip(numbers.tolist(), maps, strict=True):
            here = (best == number) & left
            shown[here] = found[here.any(1)]
            left &= ~here
    return UnitMaps(units, best, shown)


@checked
def colour_regions(
    pictures: Tensor, *, colour: Sequence[float] | None = None, tolerance: float = 0.25, least: int = 4
) -> Tensor:
    """The largest connected region of each picture of one colour, or that is unlike the picture's background.

    A rule of thumb for simple scenes, samples above all, of which nobody has masks.

    Parameters
    ----------
    pictures : Tensor, shape (n, channel, y, x)
        Any units.
    colour : sequence of float, optional
        One number a channel; by default the region differs from the median of the picture, and touches no border.
    tolerance : float
        Root mean square difference over channels that still counts as the same colour, in units of the pictures.
    least : int
        Smaller regions, in pixels, are none.

    Returns
    -------
    Tensor of bool, shape (n, y, x)
        All False where there is no such region.

    Raises
    ------
    InputError
        For other shapes.
    """
    if pictures.ndim != 4 or (colour is not None and len(colour) != pictures.shape[1]):
        found = f"shape {tuple(pictures.shape)}, colour {colour}"
        raise InputError("pictures, colour", found=found, expected="(n, channel, y, x), and a number a channel")
    values = pictures.detach().cpu().double()
    near = values.flatten(2).median(dim=2).values if colour is None else torch.tensor([list(colour)]).double()
    same = (values - near[:, :, None, None]).square().mean(1).sqrt() <= tolerance
    wanted = (~same if colour is None else same).numpy()
    return torch.from_numpy(np.stack([_largest(one, least, inner=colour is None) for one in wanted]))


def _largest(wanted: Bools, least: int, *, inner: bool) -> Bools:
    """The largest connected region of a picture; with `inner`, of those that touch no border."""
    labels, count = scipy.ndimage.label(wanted)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    if inner:
        sizes[np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))] = 0
    best: Bools = (labels == sizes.argmax()) & (sizes.max() >= max(least, 1))
    return best
