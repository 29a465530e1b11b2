"""The metric sheet of sparse features, by noise level: what a codec leaves out, and what that does to the network.

sheet = sparse_sheet(autoencoder, held_out, "network.middle1", denoiser=denoiser, bank=bank, condition=labels)
densities = feature_density(autoencoder, held_out, "network.middle1")

Definitions differ between papers; these are written in `SHEET_QUANTITIES`.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from scorescope.analysis.inside.reconstruction import LevelSums, level_sums
from scorescope.analysis.inside.replacing import ARMS, replaced
from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.bootstrap import interval, sample_and_draws
from scorescope.analysis.statistics.intervals import skewed_mean_interval, skewed_ratio_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.activations import StoredActivations
from scorescope.probes.bank import Bank
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.models.fingerprint import fingerprint
from scorescope.probes.sparse import Bands, Codec

_WHERE = (
    Column("site", str, "", "where"),
    Column("sigma", float, "data", "noise level"),
    Column("log_snr", float, "1", "-2 ln sigma"),
)

SPARSE_SHEET = Schema(
    "sparse_sheet",
    (
        *_WHERE,
        Column("quantity", str, "", "see SHEET_QUANTITIES"),
        Column("n", int, "", "images"),
        Column("rows", int, "", "positions of images; of what the network does its noisy points"),
        Column("value", float, "", "unit as in SHEET_QUANTITIES"),
        *ends("", "bootstrap over images, in at most 256 groups; of means over images corrected for skewness"),
        Column("missing", str, "", "why the value or its interval is missing; empty where neither is"),
    ),
)

SHEET_QUANTITIES = {
    "fvu": "squared error of all rows over their squared distance from the mean of this level, over the whole set",
    "explained_variance": "mean over channels of 1 - variance of the error / variance; not 1 - fvu",
    "l0": "codes that are not 0 in a row, after the sparsity",
    "dead": "share of features that are active in no row of this level",
    "loss": "mean square of D - x0, squared units of data, of the network as it is",
    "rise_reconstruction": "what the loss rises by when the site is replaced by its reconstruction",
    "rise_zero": "what it rises by when the site puts out 0",
    "rise_mean": "what it rises by when the site puts out its mean over images and positions of this level",
    "share_of_zero": "rise_reconstruction over rise_zero; 0 loses nothing, 1 as much as without the site",
    "share_of_mean": "rise_reconstruction over rise_mean",
    "change_reconstruction": "mean square change of D, squared units of data, by the reconstruction",
    "change_zero": "the same by 0",
    "change_mean": "the same by the mean",
}

SPARSE_DENSITY = Schema(
    "sparse_density",
    (
        *_WHERE,
        Column("feature", int, "", "number of the feature"),
        Column("rows", int, "", "positions of images"),
        Column("density", float, "1", "share of the rows in which it is active"),
        Column("mean_code", float, "activation", "mean code where it is active; missing where it never is"),
    ),
)


@checked
def sparse_sheet(
    codec: Codec | Bands, stored: StoredActivations, site: str, *, denoiser: Denoiser | None = None,
    bank: Bank | None = None, condition: Condition = None, resamples: int = 1000, seed: int = 0, batch: int = 256,
    progress: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """How good sparse features are at each noise level.

    Parameters
    ----------
    codec : Codec or Bands
        What is judged, on activations that it was not trained on.
    stored : StoredActivations
        The evaluation set.
    site : str
        Where.
    denoiser : Denoiser, optional
        With it, also what the network does with the reconstruction.
    bank : Bank, optional
        Noisy images at the levels of `stored`, for the denoiser; the images may be fewer.
    condition : optional
        One row an image of the bank.
    resamples, seed : int
        Of the bootstrap.
    batch, progress
        Of the denoiser's calls.

    Returns
    -------
    DataFrame
        `SPARSE_SHEET`, one row a (level, quantity).

    Raises
    ------
    InputError
        For a denoiser without a bank or a bank of other noise levels, activations that are a block's update where the
        site itself would be replaced, a site that was not stored, a codec of another width, and another denoiser than
        that of the stored activations.
    """
    if batch < 1:
        raise InputError("batch", found=str(batch), expected="1 or more")
    found = level_sums(codec, stored, site)
    rows = [
        {**_where(stored, site, level), "n": int(stored.manifest["images"]), "rows": int(part.count.sum()), **row}
        for level, part in enumerate(found)
        for row in _reconstruction(part, resamples, seed)
    ]
    if denoiser is not None or bank is not None:
        calls = {"condition": condition, "batch": batch, "progress": progress}
        rows += _functional(codec, stored, site, found, denoiser, bank, calls)
    table = pd.DataFrame(rows)
    order = table["log_snr"].rank(method="dense").to_numpy()
    return SPARSE_SHEET.check(table.iloc[np.argsort(order, kind="stable")])


@checked
def feature_density(codec: Codec | Bands, stored: StoredActivations, site: str) -> pd.DataFrame:
    """How often each feature is active at each noise level.

    Parameters
    ----------
    codec, stored, site
        As in `sparse_sheet`.

    Returns
    -------
    DataFrame
        `SPARSE_DENSITY`, one row a (level, feature).
    """
    parts = []
    for level, part in enumerate(level_sums(codec, stored, site)):
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(part.fires > 0, part.codes / part.fires, np.nan)
        rows = int(part.count.sum())
        columns = {"feature": np.arange(len(mean)), "rows": rows, "density": part.fires / rows, "mean_code": mean}
        parts.append(pd.DataFrame({**_where(stored, site, level), **columns}))
    return SPARSE_DENSITY.check(pd.concat(parts, ignore_index=True))


def _where(stored: StoredActivations, site: str, level: int) -> dict[str, Any]:
    sigma = stored.sigmas[level]
    return {"site": site, "sigma": sigma, "log_snr": -2 * math.log(sigma)}


def _reconstruction(part: LevelSums, resamples: int, seed: int) -> list[dict[str, Any]]:
    """Of one level, with intervals over groups of images."""
    filled = part.count > 0
    draws = sample_and_draws(int(filled.sum()), resamples=resamples, seed=seed)
    count = draws @ part.count[filled]

    def variance(sums: Floats, squares: Floats) -> Floats:
        mean = draws @ sums[filled] / count[:, None]
        spread: Floats = draws @ squares[filled] / count[:, None] - mean**2
        return spread

    with np.errstate(invalid="ignore", divide="ignore"):
        kept = 1 - variance(part.residual, part.residual_square) / variance(part.value, part.value_square)
        statistics = {
            "fvu": (draws @ part.error[filled]) / (draws @ part.total[filled]),
            "explained_variance": np.nanmean(np.where(np.isfinite(kept), kept, np.nan), axis=1),
            "l0": (draws @ part.active[filled]) / count,
        }
    found = [_row(name, *interval(values, int(filled.sum()))) for name, values in statistics.items()]
    dead = float((part.fires == 0).mean())
    return [*found, _row("dead", dead, math.nan, math.nan, "no interval: a count over these rows, less over more")]


def _row(quantity: str, value: Any, low: Any, high: Any, missing: str = "") -> dict[str, Any]:
    if not missing and not (np.isfinite(low) and np.isfinite(high)):
        missing = "too few images for an interval"
    return {"quantity": quantity, "value": float(value), "low": float(low), "high": float(high), "missing": missing}


def _functional(
    codec: Codec | Bands, stored: StoredActivations, site: str, found: Sequence[LevelSums], denoiser: Denoiser | None,
    bank: Bank | None, calls: dict[str, Any],
) -> list[dict[str, Any]]:  # fmt: skip
    if denoiser is None or bank is None:
        raise InputError("denoiser, bank", found="one of them", expected="both, or neither")
    if [float(sigma) for sigma in bank.sigmas] != list(stored.sigmas):
        found_levels = f"{len(bank.sigmas)} levels from {bank.sigmas[0]:.4g}"
        raise InputError("bank", found=found_levels, expected="the noise levels of the stored activations")
    if stored.manifest["update"]:
        expected = "what the module puts out, to be replaced; its update is stored here"
        raise InputError("stored", found="updates", expected=expected)
    of = stored.manifest.get("denoiser")  # of a trace that is not known
    if of is not None and fingerprint(denoiser, argument="denoiser") != of:
        expected = "the one they were stored of"
        raise InputError("denoiser", found="another than that of the activations", expected=expected)
    output = stored.manifest["outputs"].get(site, {}).get("place")
    means = [part.mean for part in found]
    losses, changes = replaced(denoiser, codec, bank, site, means, output=output, **calls)
    rows = []
    for level in range(len(bank.sigmas)):
        where = {**_where(stored, site, level), "n": len(bank), "rows": len(bank) * bank.draws}
        rows += [{**where, **row} for row in _effects(losses[:, level], changes[:, level])]
    return rows


def _effects(losses: Floats, changes: Floats) -> list[dict[str, Any]]:
    """Of one level, (arm, image) each."""
    rises = losses - losses[0]
    means = {"loss": losses[0], **{f"rise_{arm}": rises[place] for place, arm in enumerate(ARMS) if place}}
    means |= {f"change_{arm}": changes[place] for place, arm in enumerate(ARMS) if place}
    found = [_row(name, values.mean(), *skewed_mean_interval(values)) for name, values in means.items()]
    for arm in ("zero", "mean"):
        below = rises[ARMS.index(arm)]
        low, _ = skewed_mean_interval(below)
        if not low > 0:
            reason = f"rise_{arm} is not shown to be above 0: nothing to be a share of"
            found.append(_row(f"share_of_{arm}", math.nan, math.nan, math.nan, reason))
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            share, ends = rises[1].sum() / below.sum(), skewed_ratio_interval(rises[1], below)
        found.append(_row(f"share_of_{arm}", share, *ends))
    return found
