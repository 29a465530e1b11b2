"""What single features are: which attributes they read, in which images they are strongest, and whether two fits agree.

reads = feature_reads(autoencoder, held_out, "network.middle1", {"size": is_large}, features=[17, 40])
top = top_images(autoencoder, held_out, "network.middle1", 17, level=4)
matched_cosines(autoencoder.decoder, other.decoder)             # of two seeds, say: do they find the same features?
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy
import torch
from torch import Tensor

from scorescope.analysis.statistics.arrays import Floats, Integers
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.activations import StoredActivations
from scorescope.probes.sparse import Bands, Codec, codec_at

FEATURE_READS = Schema(
    "feature_reads",
    (
        Column("site", str, "", "where"),
        Column("sigma", float, "data", "noise level"),
        Column("log_snr", float, "1", "-2 ln sigma"),
        Column("feature", int, "", "number of the feature"),
        Column("attribute", str, "", "what the images are labelled by"),
        Column("n", int, "", "images with a label"),
        Column("with_it", int, "", "of which are labelled 1"),
        Column("value", float, "1", "chance that its mean code is higher in an image labelled 1; ties count half"),
        *ends("1", "DeLong's, on the logit scale; missing where one order holds for all pairs"),
        Column("p", float, "1", "of no difference, from the same standard error; missing where the interval is"),
        Column("family", int, "", "rows of this table"),
        Column("p_adjusted", float, "1", "p times their number, at most 1 (Bonferroni)"),
    ),
)


@checked
@torch.no_grad()
def feature_means(codec: Codec | Bands, stored: StoredActivations, site: str, level: int) -> Tensor:
    """Mean code of every feature in each image at one noise level, over positions and draws, (image, feature).

    Parameters
    ----------
    codec, stored, site
        As in `sparse_sheet`.
    level : int
        Place in `stored.sigmas`.

    Raises
    ------
    InputError
        For another level.
    """
    if isinstance(level, bool) or not 0 <= level < len(stored.sigmas):
        raise InputError("level", found=str(level), expected=f"0 to {len(stored.sigmas) - 1}")
    codec = codec_at(codec, stored.sigmas[level])
    chosen = stored.index["step"].to_numpy() == level
    image = torch.tensor(stored.index["image"].to_numpy()[chosen]).long()
    values = stored.at(site, level)
    means = torch.cat(
        [codec.encode(part.flatten(0, 1)).unflatten(0, part.shape[:2]).mean(1) for part in values.split(64)]
    )
    count = int(stored.manifest["images"])
    found = torch.zeros(count, means.shape[1]).index_add_(0, image, means)
    return found / torch.bincount(image, minlength=count)[:, None]


@checked
def feature_reads(
    codec: Codec | Bands, stored: StoredActivations, site: str, labels: Mapping[str, Tensor], *,
    features: Sequence[int] | None = None, levels: Sequence[int] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Which attributes features tell apart: the area under the curve of their mean code in an image.

    Parameters
    ----------
    codec, stored, site
        As in `sparse_sheet`; the images should have had no part in a choice of features.
    labels : mapping of str to Tensor, each of shape (image,)
        By attribute 0 or 1, -1 where it is not known.
    features, levels : sequence of int, optional
        Which; all by default.

    Returns
    -------
    DataFrame
        `FEATURE_READS`, one row a (level, attribute, feature).

    Raises
    ------
    InputError
        For labels of another number, of other values or without two of each, and features or levels that are not there.

    Notes
    -----
    Standard errors as DeLong et al. 1988 (Biometrics 44, 837).
    """
    images, parts = int(stored.manifest["images"]), []
    for attribute, values in labels.items():
        known = torch.as_tensor(values).cpu().numpy()
        others = known[~np.isin(known, (-1, 0, 1))]
        if known.shape != (images,) or min((known == 0).sum(), (known == 1).sum()) < 2 or len(others):
            found = f"shape {known.shape}, {int((known == 1).sum())} of 1, {len(others)} of other values {others[:3]}"
            expected = f"({images},), two or more of 0 and of 1, the rest -1"
            raise InputError(f"labels[{attribute!r}]", found=found, expected=expected)
    if not labels or (levels is not None and not len(levels)):
        found = f"{len(labels)} attributes, levels {levels}"
        raise InputError("labels, levels", found=found, expected="at least one of each")
    for level in range(len(stored.sigmas)) if levels is None else levels:
        means = feature_means(codec, stored, site, level).double().numpy()
        which = np.arange(means.shape[1]) if features is None else _chosen(features, means.shape[1])
        for attribute, values in labels.items():
            known = torch.as_tensor(values).cpu().numpy()
            value, error = _auc(means[known == 1][:, which], means[known == 0][:, which])
            sigma = stored.sigmas[level]
            columns = {"feature": which, "n": int((known >= 0).sum()), "with_it": int((known == 1).sum())}
            where = {"site": site, "sigma": sigma, "log_snr": -2 * math.log(sigma), "attribute": attribute}
            parts.append(pd.DataFrame({**where, **columns, **_ends(value, error)}))
    table = pd.concat(parts, ignore_index=True)
    adjusted = np.minimum(1.0, table["p"] * len(table))
    return FEATURE_READS.check(table.assign(family=len(table), p_adjusted=adjusted))


def _chosen(features: Sequence[int], count: int) -> Integers:
    """Numbers of features, as they were asked for."""
    found = np.asarray(features)
    if found.ndim != 1 or found.dtype.kind not in "iu" or ((found < 0) | (found >= count)).any():
        raise InputError("features", found=str(list(features))[:60], expected=f"whole numbers, 0 to {count - 1}")
    return found


def _auc(high: Floats, low: Floats) -> tuple[Floats, Floats]:
    """Area under the curve of each column, and its standard error."""
    both = scipy.stats.rankdata(np.concatenate([high, low]), axis=0)
    n, m = len(high), len(low)
    above = (both[:n] - scipy.stats.rankdata(high, axis=0)) / m  # of each high row, share of low rows below it
    below = 1 - (both[n:] - scipy.stats.rankdata(low, axis=0)) / n
    error: Floats = np.sqrt(above.var(0, ddof=1) / n + below.var(0, ddof=1) / m)
    return above.mean(0), error


def _ends(value: Floats, error: Floats) -> dict[str, Floats]:
    """Interval and p-value on the logit scale, which stays between 0 and 1."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logit, spread = scipy.special.logit(value), error / (value * (1 - value))
        sound = np.isfinite(logit) & np.isfinite(spread) & (spread > 0)
        z = scipy.special.ndtri(0.975)
        low, high = scipy.special.expit(logit - z * spread), scipy.special.expit(logit + z * spread)
        p = 2 * scipy.special.ndtr(-np.abs(logit) / spread)
    return {
        "value": value,
        **{name: np.where(sound, what, np.nan) for name, what in (("low", low), ("high", high), ("p", p))},
    }


@displayed
@checked
@dataclass(frozen=True, eq=False)
class TopImages:
    """Images in which a feature is strongest.

    Attributes
    ----------
    images : Tensor, shape (count,), int64
        Which, the strongest first.
    means : Tensor, shape (count,)
        Mean code over positions.
    maps : Tensor, shape (count, y, x) or (count, position)
        Codes at each position, of the first draw.
    """

    images: Tensor
    means: Tensor
    maps: Tensor


@checked
@torch.no_grad()
def top_images(
    codec: Codec | Bands, stored: StoredActivations, site: str, feature: int, *, level: int, count: int = 8
) -> TopImages:
    """Images in which the mean code of a feature is largest at one noise level, with where it is active.

    Parameters
    ----------
    codec, stored, site
        As in `sparse_sheet`.
    feature, level : int
        Which feature, and place of the level in `stored.sigmas`.
    count : int
        Images.

    Raises
    ------
    InputError
        For a feature or level that is not there, and no images.
    """
    if count < 1:
        raise InputError("count", found=str(count), expected="1 or more")
    means = feature_means(codec, stored, site, level)
    if not 0 <= feature < means.shape[1]:
        raise InputError("feature", found=str(feature), expected=f"0 to {means.shape[1] - 1}")
    best = means[:, feature].topk(min(count, len(means)))
    chosen = stored.index["step"].to_numpy() == level
    image = torch.tensor(stored.index["image"].to_numpy()[chosen])
    rows = torch.stack([(image == one).nonzero()[0, 0] for one in best.indices])
    values = stored.at(site, level)[rows]
    own = codec_at(codec, stored.sigmas[level])
    codes = own.encode(values.flatten(0, 1))[:, feature].unflatten(0, values.shape[:2])
    inner = stored.inner_shape(site)
    return TopImages(
        best.indices, best.values, codes.unflatten(1, inner) if math.prod(inner) == codes.shape[1] and inner else codes
    )


@checked
def matched_cosines(first: Tensor, second: Tensor) -> Tensor:
    """Cosines of features that are matched one to one so that their sum is largest, in the order of `first`.

    Parameters
    ----------
    first, second : Tensor, shape (feature, width)
        Directions of features; `second` has as many or more.

    Returns
    -------
    Tensor, shape (features of first,)

    Raises
    ------
    InputError
        For other shapes.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or len(first) > len(second):
        found = f"{tuple(first.shape)}, {tuple(second.shape)}"
        raise InputError("first, second", found=found, expected="(feature, width), and as many or more in second")
    rows = [part.detach().double() / part.detach().double().norm(dim=1, keepdim=True) for part in (first, second)]
    cosines = (rows[0] @ rows[1].T).cpu().numpy()
    return torch.from_numpy(cosines[scipy.optimize.linear_sum_assignment(-cosines)])
