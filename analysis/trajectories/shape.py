"""The shape of whole paths in a few numbers, each beside that of a Gaussian of equal covariance.

    table = path_shape(path, fit_gaussian(images))
    table[["quantity", "curve", "mean", "gaussian"]]

Two or three directions hold nearly all of any path, a Gaussian's too: only a difference from it says something.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scorescope.analysis.statistics.arrays import Floats
from scorescope.analysis.statistics.intervals import skewed_mean_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.analysis.trajectories.path_blocks import blocks_of
from scorescope.analysis.trajectories.path_products import PathProducts, inner_products, products_of
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.approximations import Gaussian
from scorescope.probes.recording import Trace
from scorescope.probes.sampling import Path

HELD = 0.99  # share of the squared distance from the mean that `directions` hold
PATHS, LEVELS = 64, 8  # of a bundle, at most: its points are compared pair by pair
LEAST = 1e-10  # relative variance of a direction below which it is rounding

PATH_SHAPE = Schema(
    "path_shape",
    (
        Column(
            "quantity", str, "", "arc: length of a path over that of its chord; rank: stable rank of its points about "
            f"their mean; directions: fewest that hold {HELD:.0%} of their squares; straightness: of the flow, 0 for a "
            "straight path at constant speed, in squared data an element; relative_straightness: over the mean square "
            "of the chord; bundle_rank, bundle_directions: of the points of several paths together",
        ),
        Column("curve", str, "", "what has the shape: state, flow_state x / (1 + sigma), denoised; flow_state for both "
               "straightnesses"),
        Column("n", int, "", "paths"),
        Column("mean", float, "", "mean over paths; of a bundle its one number"),
        Column("median", float, "", "median over paths; of a bundle its one number"),
        *ends("", "of the mean over paths, corrected for skewness; missing for a bundle"),
        Column("gaussian", float, "", "mean over the exact paths of the Gaussian from the same starts"),
        *ends("", "of that, corrected for skewness; missing for a bundle", of="gaussian"),
    ),
)  # fmt: skip


@checked
def path_shape(
    path: Path | Trace, law: Gaussian | None = None, *, products: Sequence[PathProducts] | None = None
) -> pd.DataFrame:
    """Length, ranks and straightness of paths, and the same of a Gaussian from the same starts at the same levels.

    Parameters
    ----------
    path : Path or Trace
        From `run_path` or `recorded_path`, or a trace that kept "branches" or "all", which is read some samples at a
        time; of at least three known levels and three samples.
    law : Gaussian, optional
        What is beside it, for instance `fit_gaussian` of the data; without one its numbers are missing. Not that of
        the ends of the same paths: it is nearer to their starts than a law is, and its paths look straighter or more
        bent for that alone.
    products : sequence of PathProducts, optional
        Those that `products_along` made of this path, where `path_geometry` needs them too.

    Returns
    -------
    DataFrame
        `PATH_SHAPE`: one row a (quantity, curve).

    Raises
    ------
    InputError
        For fewer than three levels or samples, a law of another shape, and products of another path.

    Notes
    -----
    Stable rank: sum of squared singular values over the largest of them. All ranks weigh the levels as they are spaced,
    so they compare on one grid only. Straightness is S = E int |v_t - (z_1 - z_0)|^2 dt (Liu et al. 2022, arXiv
    2209.03003), t = sigma / (1 + sigma), z = x / (1 + sigma), v = (x - D) / sigma - D, by the trapezoidal rule between
    the ends of the path; the table has it per element. Of a Gaussian with eigenvalues l_k it is (2 - pi / 2) sum_k
    sqrt(l_k) in all.
    """
    blocks, _ = blocks_of(path).known(least=3)
    if blocks.count < 3:
        raise InputError("path", found=f"{blocks.count} samples", expected="at least 3")
    if law is not None and law.shape != blocks.shape:
        raise InputError("law", found=f"samples of shape {law.shape}", expected=f"{blocks.shape}")
    numbers = [] if products is None else [_of_paths(one) for one in products_of(blocks, products)]
    exact, some = list[dict[tuple[str, str], Floats]](), list[Path]()
    for part in blocks:
        if products is None:
            numbers += [_of_paths(one) for one in PathProducts.blocks(part)]
        if law is not None:
            exact += [_of_paths(one) for one in PathProducts.blocks_of_gaussian(law, part)]
        if (left := PATHS - sum(one.states.shape[1] for one in some)) > 0:
            some.append(_thinned(part, left))
    own, bundle = _joined(numbers), _side_by_side(some)
    theirs = _joined(exact) if exact else dict.fromkeys(own, np.full(blocks.count, np.nan))
    rows = [_row(*key, values, theirs[key]) for key, values in own.items()]
    drawn = {} if law is None else _of_bundle(gaussian_path(law, bundle))
    count = bundle.states.shape[1]
    for key, value in _of_bundle(bundle).items():
        one = {
            "quantity": key[0],
            "curve": key[1],
            "n": count,
            "mean": value,
            "median": value,
            "gaussian": drawn.get(key, np.nan),
        }
        rows.append(one | dict.fromkeys(("low", "high", "gaussian_low", "gaussian_high"), np.nan))
    return PATH_SHAPE.check(pd.DataFrame(rows))


@checked
def gaussian_path(law: Gaussian, path: Path) -> Path:
    """Exact paths of a Gaussian from the same starts, at the same levels.

    Parameters
    ----------
    law : Gaussian
        Of samples of the same shape.
    path : Path
        Whose starts and levels they are.

    Returns
    -------
    Path
        In float64, on the device of the law, ended at noise level 0.
    """
    start, top = path.states[0].to(law.mean.device).double(), path.sigmas[0]
    exact = law.to(torch.float64)
    states = torch.stack([exact.flow(start, top, sigma) for sigma in path.sigmas])
    denoised = torch.stack([exact.denoised_on_path(start, top, sigma) for sigma in path.sigmas])
    return Path(path.sigmas, states, denoised, exact.flow(start, top, 0.0), 0)


def _joined(parts: Sequence[dict[tuple[str, str], Floats]]) -> dict[tuple[str, str], Floats]:
    """Numbers of all paths by quantity and curve."""
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


@np.errstate(invalid="ignore", divide="ignore")  # a path that stands still has no shape: NaN
def _of_paths(products: PathProducts) -> dict[tuple[str, str], Floats]:
    """Numbers of each path by quantity and curve, (samples,)."""
    found: dict[tuple[str, str], Floats] = {}
    for name, curve in products.curves.items():
        chord = products.norms(curve[-1:] - curve[:1])[:, 0]
        found["arc", name] = products.norms(np.diff(curve, axis=0)).sum(1) / chord
        spectra = products.spectra(curve)
        found["rank", name] = spectra.sum(1) / spectra[:, 0]
        found["directions", name] = _directions(spectra)
    bent, chord_sq = _straightness(products)
    found["straightness", "flow_state"] = bent / products.elements
    found["relative_straightness", "flow_state"] = bent / chord_sq
    return found


def _straightness(products: PathProducts) -> tuple[Floats, Floats]:
    """Integral of the squared difference of a flow's velocity from that of its chord, and the chord's square."""
    times = products.sigmas / (1 + products.sigmas)
    velocity = products.slopes - products.denoised
    mean = (products.flow_states[:1] - products.flow_states[-1:]) / (times[0] - times[-1])
    off = velocity - mean
    found: Floats = -np.trapezoid(products.dots(off, off), times, axis=1)  # type: ignore[assignment]
    return found, products.dots(mean, mean)[:, 0]


def _directions(spectra: Floats) -> Floats:
    """Fewest that hold `HELD` of the sum, over the last axis."""
    shares = np.cumsum(spectra, axis=-1) / spectra.sum(-1, keepdims=True)
    found: Floats = (shares < HELD).sum(-1) + 1.0
    return found


def _thinned(path: Path, most: int) -> Path:
    """A few of the paths at a few of their levels, from the first to the last."""
    places = np.unique(np.linspace(0, len(path.sigmas) - 1, LEVELS).round().astype(int)).tolist()
    sigmas = tuple(path.sigmas[place] for place in places)
    return replace(path, sigmas=sigmas, states=path.states[places, :most], denoised=path.denoised[places, :most])


def _side_by_side(parts: Sequence[Path]) -> Path:
    states, denoised = (
        torch.cat(values, 1) for values in zip(*((one.states, one.denoised) for one in parts), strict=True)
    )
    return replace(parts[0], states=states, denoised=denoised)


def _of_bundle(path: Path) -> dict[tuple[str, str], float]:
    """Rank and directions of all points together."""
    scale = 1 + torch.tensor(path.sigmas, dtype=torch.float64).to(path.states)
    curves = {"flow_state": path.states.flatten(2) / scale[:, None, None], "denoised": path.denoised.flatten(2)}
    found: dict[tuple[str, str], float] = {}
    for name, curve in curves.items():
        spectrum = _spectrum(curve.flatten(0, 1))
        found["bundle_rank", name] = float(spectrum.sum() / spectrum[0])
        found["bundle_directions", name] = float(_directions(spectrum))
    return found


def _spectrum(points: Tensor) -> Floats:
    """Squared singular values about the mean, falling, by way of the smaller of the two products.

    In float32 they are exact to its rounding of the largest, which is more than ranks and `HELD` can tell.
    """
    rows = points.float() if points.dtype.itemsize < 4 else points
    rows = rows - rows.mean(0)
    square = inner_products(rows if len(rows) <= rows.shape[1] else rows.mT)
    found: Floats = torch.linalg.eigvalsh(square.double()).flip(0).clamp_min(0).numpy()
    return found


def _row(quantity: str, curve: str, values: Floats, gaussian: Floats) -> dict[str, Any]:
    values, gaussian = _known(values), _known(gaussian)
    low, high = skewed_mean_interval(values)
    beside_low, beside_high = skewed_mean_interval(gaussian)
    return {
        "quantity": quantity, "curve": curve, "n": int(np.isfinite(values).sum()), "mean": values.mean(),
        "median": np.median(values), "low": float(low), "high": float(high), "gaussian": gaussian.mean(),
        "gaussian_low": float(beside_low), "gaussian_high": float(beside_high),
    }  # fmt: skip


def _known(values: Floats) -> Floats:
    """Finite numbers; one that is missing where none is."""
    finite = values[np.isfinite(values)]
    return finite if len(finite) else np.full(1, np.nan)
