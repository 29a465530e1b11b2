"""Whether two maps of an image rank its cells alike: by noise level, over samples, against maps of other samples."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy
import torch
from torch import Tensor
from torch.nn import functional

from scorescope.analysis.statistics.arrays import Floats, host_array
from scorescope.analysis.statistics.bootstrap import LEAST_SEEDS, TAILS
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.data.errors import InputError

FEW = f"fewer than {LEAST_SEEDS} samples: no interval"
UNDEFINED = "maps without any contrast: no ranks"

AGREEMENT = Schema(
    "map_agreement",
    (
        Column("compared", str, "", "what the attention was compared with"),
        Column("sigma", float, "data", "noise level of the attention; NaN where it is unknown"),
        Column("n", int, "", "samples whose maps both have contrast"),
        Column("cells", int, "", "of a map"),
        Column(
            "mean", float, "1", "mean over samples of Spearman's rank correlation over cells, of one sample's two maps"
        ),
        *ends("1", f"Student's t over samples; NaN for fewer than {LEAST_SEEDS}"),
        Column(
            "across",
            float,
            "1",
            "the same of maps of different samples, all pairs: what they share whatever is in them",
        ),
        Column("excess", float, "1", "mean less across"),
        *ends("1", "jackknife over samples, with Student's t", of="excess"),
        Column("reason", str, "", "why an interval, or all, is missing; empty where nothing is"),
    ),
)


@checked
def change_maps(first: Tensor, second: Tensor, *, size: tuple[int, int], grid: tuple[int, int] | None = None) -> Tensor:
    """Where two images, or predictions, differ.

    Parameters
    ----------
    first, second : Tensor, shape (..., channel, y, x), or (..., token, channel) with `grid`
        In the same units.
    size : (int, int)
        Cells of the maps, by means; those of the attention that they are held against.
    grid : (int, int), optional
        Height and width that packed tokens are, row after row.

    Returns
    -------
    Tensor, shape (..., *size), float64
        On the CPU. Squared difference, summed over channels, averaged over each cell.

    Raises
    ------
    InputError
        For different shapes, and tokens that are not the grid.
    """
    if first.shape != second.shape or first.ndim < (3 if grid is None else 2):
        found = f"shapes {tuple(first.shape)}, {tuple(second.shape)}"
        raise InputError("first, second", found=found, expected="one shape (..., channel, y, x), or tokens with grid=")
    squared = (first.detach().cpu().double() - second.detach().cpu().double()).square()
    if grid is not None and grid[0] * grid[1] != first.shape[-2]:
        raise InputError("grid", found=str(grid), expected=f"a height and a width of {first.shape[-2]} tokens")
    summed = squared.sum(-3) if grid is None else squared.sum(-1).unflatten(-1, grid)
    pooled = functional.adaptive_avg_pool2d(summed.reshape(1, -1, *summed.shape[-2:]), size)
    return pooled.reshape(*summed.shape[:-2], *size)


@checked
def map_agreement(
    attention: Tensor,
    change: Tensor,
    *,
    sigmas: Sequence[float] | Tensor,
    compared: str = "influence",
) -> pd.DataFrame:
    """Rank correlation of two maps of the same samples, by noise level.

    Parameters
    ----------
    attention : Tensor, shape (level, sample, y, x)
        Maps of one word.
    change : Tensor, shape (level, sample, y, x) or (sample, y, x)
        What they are held against: where the prediction at that level, or the image, changes without the word.
    sigmas : sequence of float, or Tensor, shape (level,)
        Noise levels.
    compared : str
        What `change` is, for the table.

    Returns
    -------
    DataFrame
        One row a level. Maps of trained networks share a great deal whatever is in them (a subject in the middle, a
        sky above): `across` says how much, and `excess` what a sample's own maps agree in beyond that.

    Raises
    ------
    InputError
        For shapes that do not fit.
    """
    levels = host_array(torch.as_tensor(sigmas, dtype=torch.float64))
    looks, moves = host_array(attention).astype(float), host_array(change).astype(float)
    moves = np.broadcast_to(moves, looks.shape) if moves.shape == looks.shape[1:] else moves
    if looks.ndim != 4 or moves.shape != looks.shape or levels.shape != looks.shape[:1]:
        found = f"shapes {looks.shape} and {tuple(change.shape)}, {levels.size} levels"
        expected = "(level, sample, y, x), the same or (sample, y, x), and a noise level for each"
        raise InputError("attention, change", found=found, expected=expected)
    rows = [_agreement(a, b) for a, b in zip(looks, moves, strict=True)]
    table = pd.DataFrame(rows).assign(compared=compared, sigma=levels, cells=looks[0, 0].size)
    return AGREEMENT.check(table)


def _agreement(looks: Floats, moves: Floats) -> dict[str, object]:
    """One level, (sample, y, x) each."""
    a, b = _ranks(looks), _ranks(moves)
    known = np.isfinite(a).all(1) & np.isfinite(b).all(1)
    count, table = int(known.sum()), a[known] @ b[known].T  # Spearman's correlation of every pair of samples
    own = np.diag(table)
    mean = own.mean() if count else np.nan
    across = (table.sum() - own.sum()) / (count * (count - 1)) if count > 1 else np.nan
    found = {"n": count, "mean": mean, "across": across, "excess": mean - across}
    ends = dict.fromkeys(("low", "high", "excess_low", "excess_high"), np.nan)
    if count < LEAST_SEEDS:
        return found | ends | {"reason": FEW if count else UNDEFINED}
    beside = (table.sum() - table.sum(0) - table.sum(1) - own.sum() + 2 * own) / ((count - 1) * (count - 2))
    left_out = (own.sum() - own) / (count - 1) - beside  # the excess without each sample
    low, high = _ends(mean, own)
    excess_low, excess_high = _ends(mean - across, count * (mean - across) - (count - 1) * left_out)
    ends = {"low": low, "high": high, "excess_low": excess_low, "excess_high": excess_high}
    return found | ends | {"reason": ""}


def _ends(value: float, each: Floats) -> tuple[float, float]:
    """A 95 % interval around a value that is the mean of numbers, or of the pseudo-values of a jackknife."""
    reach = scipy.special.stdtrit(len(each) - 1, TAILS[1]) * each.std(ddof=1) / len(each) ** 0.5
    return value - reach, value + reach


def _ranks(maps: Floats) -> Floats:
    """Ranks of the cells of each map, ties shared, centred and of length 1; NaN for a map without contrast."""
    flat = maps.reshape(len(maps), -1)
    ranks = scipy.stats.rankdata(flat, axis=1, nan_policy="propagate")
    ranks = ranks - ranks.mean(1, keepdims=True)
    norms = np.linalg.norm(ranks, axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norms > 0, ranks / norms, np.nan)
