"""A denoiser and the laws that may explain it, asked the same questions: squared differences at every point.

    gaps = score_gaps(denoiser, [gaussian, per_class, exact], images, sigmas, query="held_out")
    gaps.errors["gaussian"]                       # |D - A|^2, (sigmas, points)

The answer at low noise differs by a factor of ten between data plus noise, noise alone, and the states that a sampler
visits, so every comparison names its query: see `QUERIES`. Everything is computed from D, never from a float32 score.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.analysis.gaussian.floors import fit_of, moment_floor
from scorescope.analysis.statistics.arrays import Floats, Integers
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.approximations import Approximation, Gaussian, TrainingSet
from scorescope.probes.models.conditions import select_rows
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate, sigma_range
from scorescope.probes.models.noise import SampleNoise, edm_sigmas
from scorescope.probes.sampling.paths import run_path

QUERIES = {
    "held_out": "held-out data + sigma n",
    "train": "training data + sigma n",
    "noise": "sigma n, no data in it",
    "path": "states on the sampler's path",
}


SCORE_METRICS = ("centred", "denoised", "score")


@displayed
@dataclass(frozen=True)
class ScoreGaps:
    """Squared norms at every point; what the tables are made from.

    Attributes
    ----------
    query : str
        One of `QUERIES`.
    sigmas : tuple of float
        Noise levels.
    unit : array of int, shape (points,)
        Image (or seed) of each point.
    errors : dict of str to array, shape (sigmas, points)
        |D - A|^2 of each approximation, in squared units of the data.
    totals : dict of str to array, shape (sigmas, points)
        The total of each metric.
    apart : dict of str to array, shape (sigmas, points)
        |A - G|^2 to the Gaussian, of each approximation that has its moments.
    notes : dict of str to str
        Each approximation's note.
    gaussian : str
        Name of the Gaussian.
    modes : int
        Along how many of its modes the variance is at least a hundredth of the largest.
    floor, floor_high : array, shape (sigmas,)
        Mean over points of the |D - A|^2 that a perfect network would have against the Gaussian, whose moments come
        from a finite number of samples: expected, and its 97.5 % quantile. Missing where not known.
    floor_note : str
        Why they are not known anywhere; empty where they are.
    exact : str
        Name of the `TrainingSet` among the laws, which has all moments of the data; empty without one.
    """

    query: str
    sigmas: tuple[float, ...]
    unit: Integers
    errors: Mapping[str, Floats]
    totals: Mapping[str, Floats]
    apart: Mapping[str, Floats]
    notes: Mapping[str, str]
    gaussian: str
    modes: int
    floor: Floats
    floor_high: Floats
    floor_note: str
    exact: str


@checked
@torch.no_grad()  # not inference_mode: what a module keeps from it could not enter a gradient afterwards
def score_gaps(
    denoiser: Denoiser,
    approximations: Sequence[Approximation],
    data: Tensor,
    sigmas: Sequence[float],
    *,
    query: str = "held_out",
    condition: Condition = None,
    draws: int = 1,
    seed: int = 0,
    samples: int | None = None,
    batch: int = 1024,
    progress: bool = False,
) -> ScoreGaps:
    """Ask a denoiser and its approximations the same questions.

    Parameters
    ----------
    denoiser : Denoiser
        The model, or a law taken as the truth.
    approximations : sequence
        Laws of different names. One must be a `Gaussian` of some rank: the reference of `regimes`, and the centre.
    data : Tensor, shape (images, *shape)
        What noise is added to. For the queries "noise" and "path" only its size and shape count.
    sigmas : sequence of float
        Positive noise levels.
    query : str
        One of `QUERIES`: the caller says what `data` are.
    condition : optional
        One row an image, passed to the denoiser and to every approximation that knows conditions.
    draws : int
        Noise draws an image.
    seed : int
        Draw j of image i has noise of its own, the same at every level.
    samples : int, optional
        How many samples the laws were fitted to, where the Gaussian does not know (one that was not fitted here).
    batch : int
        Points computed together.
    progress : bool
        Show a progress bar over noise levels.

    Returns
    -------
    ScoreGaps
        Squared norms at every point, for `score_table` and `regimes`.

    Raises
    ------
    InputError
        For an unknown query, no Gaussian, names used twice, levels that are not positive, predictions that are not
        finite, naming the law and the level.
    """
    gaussian = _check(approximations, query, sigmas, draws)
    count = len(data) * draws
    unit = np.repeat(np.arange(len(data)), draws)
    every = {a.name: np.empty((len(sigmas), count)) for a in approximations}
    apart = {
        a.name: np.empty((len(sigmas), count))
        for a in approximations
        if a is not gaussian and _has_moments(a, gaussian)
    }
    totals = {metric: np.empty((len(sigmas), count)) for metric in SCORE_METRICS}
    squares = np.zeros((len(sigmas), gaussian.rank + 1))  # of x - mean along each mode, and off their span
    rows = torch.from_numpy(unit)
    for start in range(0, count, batch):
        part = slice(start, min(start + batch, count))
        clean, labels = data[rows[part]], select_rows(condition, rows[part])
        noise = query_noise(range(start, part.stop), seed, data)
        states = query_states(denoiser, clean, noise, labels, query, sigmas)
        bar = tqdm(states, total=len(sigmas), desc="comparing scores", disable=not progress, leave=False)
        for level, x in enumerate(bar):
            squares[level] += _mode_squares(gaussian, x) / count
            sigma = torch.full((len(x),), float(sigmas[level]), dtype=x.dtype, device=x.device)
            denoised = evaluate(denoiser, x, sigma, labels, branch="denoiser")
            predictions = {a.name: evaluate(a, x, sigma, labels, branch=a.name) for a in approximations}
            for name, prediction in predictions.items():
                every[name][level, part] = _squared(denoised, prediction)
                if name in apart:
                    apart[name][level, part] = _squared(prediction, predictions[gaussian.name])
            for metric, zero in (("centred", gaussian.mean), ("denoised", torch.zeros(())), ("score", x)):
                totals[metric][level, part] = _squared(denoised, zero.to(x))
    _check_finite(every, sigmas)
    fit = fit_of(gaussian, samples)
    floors = np.array(
        [moment_floor(gaussian, fit, sigma, row[:-1], row[-1]) for sigma, row in zip(sigmas, squares, strict=True)]
        if fit is not None
        else [(np.nan, np.nan)] * len(sigmas)
    )
    largest = gaussian.eigenvalues.max()
    return ScoreGaps(
        query, tuple(map(float, sigmas)), unit, every, totals, apart, {a.name: a.note for a in approximations},
        gaussian.name, int((gaussian.eigenvalues >= 0.01 * largest).sum()), floors[:, 0], floors[:, 1],
        "" if fit is not None else f"{gaussian.name} does not know how many samples it was fitted to: give `samples`",
        next((a.name for a in approximations if isinstance(a, TrainingSet)), ""),
    )  # fmt: skip


def query_noise(points: range, seed: int, data: Tensor) -> Tensor:
    """Standard normal noise of some points, shape (points, *shape): that of a point depends on its number only."""
    seeds = [seed * 1_000_003 + point for point in points]
    return SampleNoise(seeds, tuple(data.shape[1:]), data.device, data.dtype).draw()


def query_states(
    denoiser: Denoiser, clean: Tensor, noise: Tensor, condition: Condition, query: str, sigmas: Sequence[float]
) -> Iterator[Tensor]:
    """The points asked about, one noise level after the other.

    Parameters
    ----------
    denoiser : Denoiser
        Whose path is followed, for the query "path".
    clean, noise : Tensor, shape (batch, *shape)
        Images, which only the queries on data use, and standard normal noise.
    condition : optional
        One row an image, for "path".
    query : str
        One of `QUERIES`.
    sigmas : sequence of float
        Noise levels; falling for "path".

    Yields
    ------
    Tensor, shape (batch, *shape)
        States, variance exploding.
    """
    if query != "path":
        base = torch.zeros_like(clean) if query == "noise" else clean
        yield from (base + sigma * noise for sigma in sigmas)
        return
    bottom, top = sigma_range(denoiser, low=min(0.002, sigmas[-1]), high=max(80.0, sigmas[0]))
    fine = sorted({*edm_sigmas(40, sigma_min=bottom, sigma_max=top)[:-1], *map(float, sigmas)}, reverse=True)
    path = run_path(denoiser, top * noise, fine, condition=condition)
    where = {sigma: index for index, sigma in enumerate(path.sigmas)}
    yield from (path.states[where[float(sigma)]] for sigma in sigmas)


def _check(approximations: Sequence[Approximation], query: str, sigmas: Sequence[float], draws: int) -> Gaussian:
    if query not in QUERIES:
        raise InputError("query", found=repr(query), expected=f"one of {', '.join(QUERIES)}")
    names = [a.name for a in approximations]
    gaussians = [a for a in approximations if isinstance(a, Gaussian) and a.rank > 0]
    if len(set(names)) != len(names) or not gaussians:
        raise InputError("approximations", found=str(names), expected="different names, and a Gaussian among them")
    if not sigmas or not all(0 < sigma < float("inf") for sigma in sigmas) or draws < 1:
        raise InputError(
            "sigmas, draws", found=f"{list(sigmas)}, {draws}", expected="positive levels, at least one draw"
        )
    if query == "path" and not all(a > b for a, b in pairwise(sigmas)):
        raise InputError("sigmas", found=str(list(sigmas)), expected="falling levels: a path is followed down")
    return max(gaussians, key=lambda g: g.rank)


def _has_moments(approximation: Approximation, gaussian: Gaussian) -> bool:
    """Whether mean and covariance are those of the data: a Gaussian of fewer modes has spread a part evenly."""
    return not isinstance(approximation, Gaussian) or bool(np.isclose(approximation.energy, gaussian.energy, rtol=1e-6))


def _mode_squares(gaussian: Gaussian, x: Tensor) -> Floats:
    """Sums over points of the squares of x - mean along each mode, and last off their span: shape (rank + 1,)."""
    along = gaussian.modes(x).double().square().sum(0)
    total = (x.to(gaussian.mean) - gaussian.mean).double().square().sum()
    return torch.cat([along, (total - along.sum()).clamp_min(0)[None]]).cpu().numpy()


def _squared(one: Tensor, other: Tensor) -> Floats:
    return (one.double() - other.double()).flatten(1).square().sum(1).cpu().numpy()


def _check_finite(every: Mapping[str, Floats], sigmas: Sequence[float]) -> None:
    for name, values in every.items():
        if len(bad := np.flatnonzero(~np.isfinite(values).all(1))):
            found = f"NaN or infinite values at sigma {sigmas[bad[0]]:g}"
            raise InputError(f"denoiser or {name}", found=found, expected="finite predictions")
