"""Per-sample inner products of the two branches: one pass, on the device, float64 accumulators.

    sums = branch_products(cond, uncond, x)
    sums["update_cond"] / sums["cond_sq"]        # signed parallel coefficient, one number a sample

Everything the guidance instrument says about parallel and orthogonal parts follows from these few sums, so
neither part is ever formed. The branches are subtracted before anything is squared, block by block; a block
is small enough to stay in a processor's cache. This module knows nothing of steps, rules or tables.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.models.model import check_value_range

Array = NDArray[np.floating[Any]]

BRANCH_PRODUCTS = ("cond_sq", "uncond_sq", "update_sq", "update_cond", "noise_sq", "update_noise")
PAIRS = {  # of c = D_c, u = D_u, d = c - u and e = x - c
    **dict(zip(BRANCH_PRODUCTS, ("cc", "uu", "dd", "dc", "ee", "de"), strict=True)),
    "cond_noise": "ce",
    **{"cond_sum": "c1", "update_sum": "d1", "noise_sum": "e1"},
}
IMAGE_STATISTICS = ("overshoot_share", "overshoot_mean", "contrast", "saturation")
GUIDED_PRODUCTS = ("applied_sq", "applied_cond", *IMAGE_STATISTICS)

OUTPUT_PRODUCTS = ("cond_output_sq", "uncond_output_sq")  # what the network rounds, of each branch

_CACHE_ELEMENTS = 2**16  # 512 kB of float64: three such blocks fit a level-two cache
_HOST_ELEMENTS = 2048  # from here on a sample is worth a loop of its own, and a row a BLAS dot
_HOST_COLUMNS = 8192  # 64 kB of float64; BLAS does not share so short a product among threads
_NUMPY_TYPES = (torch.float32, torch.float64)
_DEVICE_ELEMENTS = 2**23  # accelerators want few, large kernels: 64 MB of float64 a block
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601 weights of R, G, B


@checked
def branch_products(cond: Tensor, uncond: Tensor | None, x: Tensor | None = None) -> dict[str, Tensor]:
    """Inner products of c = D_c, u = D_u, d = c - u and e = x - c, for each sample.

    Parameters
    ----------
    cond, uncond : Tensor, shape (batch, *shape)
        Denoised predictions, any floating dtype; uncond None where that branch was not computed.
    x : Tensor, shape (batch, *shape), optional
        The state, variance-exploding convention; without it the products with e are missing.

    Returns
    -------
    dict of Tensor, shape (batch,), float64
        `cond_sq` <c,c>, `uncond_sq` <u,u>, `update_sq` <d,d>, `update_cond` <d,c>, `noise_sq` <e,e> and
        `update_noise` <d,e>, in squared units of the data. NaN where a branch is missing.
        eps_c = e / sigma, so the last two give the cosine in eps space.

    Raises
    ------
    InputError
        If the shapes differ or the batch is empty.
    """
    _check_same("uncond", uncond, cond)
    _check_same("x", x, cond)
    absent = {"u", "d"} if uncond is None else set()
    absent |= {"e"} if x is None else set()
    known = [name for name in BRANCH_PRODUCTS if not absent & set(PAIRS[name])]
    found = chosen_products(known, cond, uncond, x)
    missing = torch.full_like(found["cond_sq"], torch.nan)
    return {name: found.get(name, missing) for name in BRANCH_PRODUCTS}


def chosen_products(names: Sequence[str], cond: Tensor, uncond: Tensor | None, x: Tensor | None) -> dict[str, Tensor]:
    """Some products of the vectors of `branch_products`; each is the same to the bit whatever else is asked.

    Parameters
    ----------
    names : sequence of str
        Which: those of `branch_products`, `cond_noise` <c,e>, and `cond_sum`, `update_sum`, `noise_sum`, the sums of
        the elements of c, d and e.
    cond, uncond, x : Tensor, shape (batch, *shape)
        As for `branch_products`; uncond and x may be None where no name needs them.

    Returns
    -------
    dict of Tensor, shape (batch,), float64
    """
    needed = {letter for name in names for letter in PAIRS[name]}
    given = {"c": cond}
    if uncond is not None and needed & {"u", "d"}:
        given["u"] = uncond
    if x is not None and "e" in needed:
        given["x"] = x

    def products(*blocks: Any) -> list[Any]:
        v = dict(zip(given, blocks, strict=True))
        if "d" in needed:
            v["d"] = v["c"] - v["u"]
        if "e" in needed:
            v["e"] = v["x"] - v["c"]
        pairs = [(v[PAIRS[name][0]], v.get(PAIRS[name][1])) for name in names]
        return [_sum(one) if two is None else dot(one, two) for one, two in pairs]

    return dict(zip(names, _accumulate(products, *given.values()), strict=True))


@checked
def projection_products(update: Tensor, cond: Tensor, *, exact: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """<d,d>, <d,c> and <c,c> of each sample for a given update d.

    Parameters
    ----------
    update, cond : Tensor, shape (batch, *shape)
        d and c, any floating dtype.
    exact : bool
        False multiplies on the CPU in float32 where that is the type of both, and sums up stretches in float64: right
        to 1e-6 of |d| |c|, enough for factors of a prediction of that type, in a third of the time.

    Returns
    -------
    tuple of three Tensors, shape (batch,), float64
    """
    _check_same("update", update, cond)
    if not exact and update.dtype == cond.dtype == torch.float32 and update.device.type == "cpu":
        d, c = (tensor.flatten(1).numpy() for tensor in (update.detach(), cond.detach()))
        return _stretched(d, d), _stretched(d, c), _stretched(c, c)
    update_sq, update_cond, cond_sq = _accumulate(lambda d, c: [_square(d), dot(d, c), _square(c)], update, cond)
    return update_sq, update_cond, cond_sq


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """|a - b|^2 of each sample, shape (batch,), float64."""
    _check_same("b", b, a)

    return _accumulate(lambda p, q: [_square(p - q)], a, b)[0]


@checked
def centred_products(cond: Tensor, uncond: Tensor) -> dict[str, Tensor]:
    """The same after removing each channel's mean: `centred_cond_sq`, `_update_sq`, `_update_cond`.

    A denoised prediction has a mean per channel (brightness, colour); what is left of the parallel part
    without it is structure. The first data axis is the channel; one-dimensional data have one channel.

    Parameters
    ----------
    cond, uncond : Tensor, shape (batch, channel, *space) or (batch, space)
        Denoised predictions.

    Returns
    -------
    dict of Tensor, shape (batch,), float64
        In squared units of the data.
    """
    _check_same("uncond", uncond, cond)
    names = ("centred_cond_sq", "centred_update_sq", "centred_update_cond")
    parts = []
    for c, u in zip(*(t.split(rows_a_block(cond)) for t in (cond, uncond)), strict=True):
        c = _centre(c.double())
        d = c - _centre(u.double())
        parts.append(torch.stack([_square(c), _square(d), dot(d, c)]))
    return dict(zip(names, torch.cat(parts, dim=1), strict=True))


@checked
def band_products(cond: Tensor, uncond: Tensor, edges: Sequence[float]) -> dict[str, Tensor]:
    """Energy of the update and of D_c in radial frequency bands.

    Parameters
    ----------
    cond, uncond : Tensor, shape (batch, channel, *space) or (batch, space)
        Denoised predictions.
    edges : sequence of float
        Inner band edges in cycles per sample, increasing, in (0, 0.5]; k edges make k + 1 bands. Band 0 holds
        the mean; the last one holds the corners beyond 0.5.

    Returns
    -------
    dict of Tensor, shape (batch,), float64
        `update_sq_band0` ... and `cond_sq_band0` ...; the bands of each sum to the whole (Parseval).
    """
    _check_same("uncond", uncond, cond)
    blocks = zip(*(t.split(rows_a_block(cond)) for t in (cond, uncond)), strict=True)
    update = torch.cat([band_energies(c.double() - u.double(), edges) for c, u in blocks])
    parts = torch.cat([update, band_energies(cond, edges)], dim=1)
    bands = range(len(edges) + 1)
    names = [f"update_sq_band{k}" for k in bands] + [f"cond_sq_band{k}" for k in bands]
    return dict(zip(names, parts.unbind(1), strict=True))


@checked
def band_energies(values: Tensor, edges: Sequence[float]) -> Tensor:
    """Energy of each sample in radial frequency bands; see `band_products`.

    Parameters
    ----------
    values : Tensor, shape (batch, channel, *space) or (batch, space)
        Anything: a prediction, or a difference of two.
    edges : sequence of float
        Inner band edges in cycles per sample, increasing, in (0, 0.5].

    Returns
    -------
    Tensor, shape (batch, len(edges) + 1), float64
        Sums of squares of the orthonormal transform, whose bands add up to the sum of squares (Parseval).
    """
    if list(edges) != sorted(set(edges)) or not all(0 < edge <= 0.5 for edge in edges):
        raise InputError(
            "edges", found=str(tuple(edges)), expected="increasing frequencies in (0, 0.5] cycles per sample"
        )
    axes = tuple(range(min(2, values.ndim - 1), values.ndim))
    frequencies = torch.meshgrid(
        *(torch.fft.fftfreq(values.shape[axis], device=values.device, dtype=torch.float64) for axis in axes),
        indexing="ij",
    )
    radius = torch.stack(frequencies).square().sum(0).sqrt()
    band = torch.bucketize(radius, torch.tensor(edges, dtype=torch.float64, device=values.device), right=True)
    masks = functional.one_hot(band.flatten(), len(edges) + 1).double()  # (frequency, band)
    parts = [_band_energy(part.double(), axes, masks) for part in values.split(rows_a_block(values))]
    return torch.cat(parts)


@checked
def guided_products(guided: Tensor, cond: Tensor, value_range: tuple[float, float] | None) -> dict[str, Tensor]:
    """What a rule's prediction g looks like: the update it applied, and its pixel statistics.

    Parameters
    ----------
    guided, cond : Tensor, shape (batch, *shape)
        Denoised predictions.
    value_range : (float, float) or None
        Range of the data; None for latents and other unbounded data.

    Returns
    -------
    dict of Tensor, shape (batch,), float64
        `applied_sq` <g-c,g-c> and `applied_cond` <g-c,c>, plus `image_statistics` of g.
    """
    _check_same("guided", guided, cond)
    applied = dict(zip(("applied_sq", "applied_cond"), _accumulate(_applied_products, guided, cond), strict=True))
    return applied | image_statistics(guided, value_range)


@checked
def image_statistics(images: Tensor, value_range: tuple[float, float] | None) -> dict[str, Tensor]:
    """Range overshoot, contrast and colour saturation of each sample.

    Parameters
    ----------
    images : Tensor, shape (batch, *shape)
        Data or denoised predictions; (batch, 3, y, x) is taken as sRGB.
    value_range : (float, float) or None
        Range of the data.

    Returns
    -------
    dict of Tensor, shape (batch,), float64
        `overshoot_share`: share of elements outside the range by more than half an 8-bit level, (high - low) /
        510, which is what rounding to a picture cannot undo. `overshoot_mean`: mean distance by which
        elements lie outside, zero for those inside, in units of the data. `contrast`: standard deviation over
        the sample, of BT.601 luma for colour, in units of the data. `saturation`: mean over pixels of HSV
        saturation (max - min) / max after clipping to the range, 0 where max is 0, without linearisation.
        NaN where a quantity does not apply.
    """
    check_value_range(value_range)
    parts = []
    for block in images.split(rows_a_block(images)):
        g = block.double()
        flat = g.flatten(1)
        missing = torch.full((len(g),), torch.nan, dtype=torch.float64, device=g.device)
        share, excess, saturation = missing, missing, missing
        colour = images.ndim == 4 and images.shape[1] == 3
        if value_range is not None:
            low, high = value_range
            beyond = (flat - flat.clamp(low, high)).abs_()
            share, excess = (beyond > (high - low) / 510).double().mean(1), beyond.mean(1)
            if colour:
                saturation = _saturation(((g - low) / (high - low)).clamp_(0, 1))
        luma = torch.tensordot(g, g.new_tensor(_LUMA), dims=([1], [0])).flatten(1) if colour else flat
        spread = luma - luma.mean(1, keepdim=True)
        contrast = (_square(spread) / spread.shape[1]).sqrt()
        parts.append(torch.stack([share, excess, contrast, saturation]))
    return dict(zip(IMAGE_STATISTICS, torch.cat(parts, dim=1), strict=True))


def _saturation(rgb: Tensor) -> Tensor:
    high, low = rgb.amax(1), rgb.amin(1)
    return torch.where(high > 0, (high - low) / high.clamp_min(torch.finfo(high.dtype).tiny), 0.0).flatten(1).mean(1)


def _applied_products(g: Any, c: Any) -> list[Any]:
    d = g - c
    return [_square(d), dot(d, c)]


def _accumulate(products: Callable[..., list[Any]], *tensors: Tensor) -> Tensor:
    """Sum `products` over blocks, each upcast to float64; shape (products, batch).

    `products` gets blocks of rows and columns as tensors, or stretches of one sample as numpy arrays.
    """
    flat = [tensor.flatten(1) for tensor in tensors]
    batch, size = flat[0].shape
    if _on_host_by_rows(flat[0]):
        found = [_accumulate_row(products, [_as_array(tensor[row]) for tensor in flat]) for row in range(batch)]
        return torch.from_numpy(np.stack(found, axis=1))
    rows, columns = rows_a_block(tensors[0]), min(size, elements_a_block(tensors[0]))
    parts = []
    for row in range(0, batch, rows):
        total: Tensor | None = None
        for column in range(0, size, columns):
            blocks = [tensor[row : row + rows, column : column + columns].double() for tensor in flat]
            part = torch.stack(products(*blocks))
            total = part if total is None else total.add_(part)
        assert total is not None  # _check_same refuses empty samples
        parts.append(total)
    return torch.cat(parts, dim=1)


def _accumulate_row(products: Callable[..., list[Any]], row: Sequence[Array]) -> Array:
    """One sample, in this thread alone."""
    found = []
    for start in range(0, len(row[0]), _HOST_COLUMNS):
        stretch = [array[start : start + _HOST_COLUMNS].astype(np.float64, copy=False) for array in row]
        found.append(products(*stretch))
    total: Array = np.array(found, dtype=np.float64).sum(0)
    return total


def _stretched(a: Array, b: Array) -> Tensor:
    """Inner product of each row, by stretches in the type of the rows, float64."""
    whole = a.shape[1] - a.shape[1] % _HOST_COLUMNS
    stretches = (len(a), whole // _HOST_COLUMNS)
    parts = a[:, :whole].reshape(*stretches, 1, _HOST_COLUMNS) @ b[:, :whole].reshape(*stretches, _HOST_COLUMNS, 1)
    rest = (a[:, whole:] * b[:, whole:]).sum(1, dtype=np.float64)
    return torch.from_numpy(parts.sum((1, 2, 3), dtype=np.float64) + rest)


def _on_host_by_rows(first: Tensor) -> bool:
    """Whether to work on one sample after another in numpy: faster than torch where torch has one thread.

    With more, torch shares each small operation among them, which wins on a machine that is idle. Where others keep
    its cores busy every one of those operations waits for them, a hundred times the work itself: give torch one thread.
    """
    return first.device.type == "cpu" and first[0].numel() >= _HOST_ELEMENTS and torch.get_num_threads() == 1


def _as_array(tensor: Tensor) -> Array:
    """One sample as a numpy array; types that numpy does not have become float32, exactly."""
    tensor = tensor.detach()
    array: Array = (tensor if tensor.dtype in _NUMPY_TYPES else tensor.float()).numpy()
    return array


def dot(a: Any, b: Any) -> Any:
    """Inner product of each row of two tensors, or of two arrays."""
    if isinstance(a, np.ndarray):
        return a @ b
    a, b = a.flatten(1), b.flatten(1)
    if a.device.type == "cpu" and a.shape[1] >= _HOST_ELEMENTS:
        return torch.stack([torch.dot(p, q) for p, q in zip(a, b, strict=True)])
    return (a * b).sum(1)


def _sum(a: Any) -> Any:
    """Sum of each row of a tensor, or of an array."""
    return a.sum() if isinstance(a, np.ndarray) else a.flatten(1).sum(1)


def _square(a: Any) -> Any:
    """Squared norm of each row, or of an array."""
    return dot(a, a)


def _centre(t: Tensor) -> Tensor:
    axes = tuple(range(min(2, t.ndim - 1), t.ndim))
    return t - t.mean(axes, keepdim=True)


def _band_energy(t: Tensor, axes: tuple[int, ...], masks: Tensor) -> Tensor:
    power = torch.fft.fftn(t, dim=axes, norm="ortho").abs().square()
    space = len(axes)
    power = power.reshape(len(t), -1, *power.shape[power.ndim - space :]).sum(1)  # channels together
    energy: Tensor = power.flatten(1) @ masks
    return energy


def elements_a_block(like: Tensor) -> int:
    """How many elements to work on at once."""
    return _CACHE_ELEMENTS if like.device.type == "cpu" else _DEVICE_ELEMENTS


def rows_a_block(like: Tensor) -> int:
    """How many samples to work on at once, so that a block stays in a processor's cache."""
    return max(1, elements_a_block(like) // max(1, like[0].numel()))


def _check_same(argument: str, tensor: Tensor | None, cond: Tensor) -> None:
    if cond.numel() == 0 or cond.ndim < 2:
        raise InputError(
            "cond", found=f"shape {tuple(cond.shape)}", expected="(batch >= 1, *shape) with at least one element"
        )
    if tensor is not None and tensor.shape != cond.shape:
        raise InputError(
            argument, found=f"shape {tuple(tensor.shape)}", expected=f"{tuple(cond.shape)}, the shape of cond"
        )
