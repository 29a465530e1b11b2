"""Inner products of all states and predictions along each path: everything about the shape of a path follows from them.

    for products in products_along(path):           # some samples at a time
        steps = np.diff(products.denoised, axis=0)  # rows are combinations of the points of a path
        products.norms(steps)                       # (samples, levels - 1): how far D goes in each step

One product of matrices reads the states once, on their device, with sums in float64.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from scorescope.analysis.statistics.arrays import Floats, Integers
from scorescope.analysis.trajectories.path_blocks import PathBlocks, blocks_of
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.approximations import Gaussian
from scorescope.probes.models.denoiser import working_dtype
from scorescope.probes.recording import Trace
from scorescope.probes.sampling import Path

BLOCK = 2**23  # numbers in float64 at once, points of some samples or their products: larger ones are slower to get


@displayed
@dataclass(frozen=True, eq=False)
class PathProducts:
    """Points of each path by their inner products, about a centre near its end, so that small steps there stay exact.

    Attributes
    ----------
    sigmas : array, shape (levels,)
        Noise levels.
    gram : array, shape (samples, 2 levels + 1, 2 levels + 1)
        Inner products of the states, then the predictions, less the centre, and of the centre, of each sample.
    elements : int
        Of one sample.
    resolution : float
        Relative rounding of the points.
    """

    sigmas: Floats
    gram: Floats
    elements: int
    resolution: float

    @classmethod
    def of(cls, path: Path) -> "PathProducts":
        """Of a path all of whose levels are known; the centre is the last prediction."""
        levels, count = path.states.shape[:2]
        like, elements = path.denoised, path.denoised[0, 0].numel()
        points = torch.empty(count, 2 * levels + 1, elements, dtype=working_dtype(like), device=like.device)
        centre = points[:, -1:] = like[-1].flatten(1)[:, None].to(points)
        for first, values in ((0, path.states), (levels, like)):
            torch.sub(values.flatten(2).transpose(0, 1), centre, out=points[:, first : first + levels])
        resolution = max(path.resolution, torch.finfo(path.states.dtype).eps, torch.finfo(like.dtype).eps)
        return cls(_levels(path.sigmas), inner_products(points).double().numpy(), elements, resolution)

    @classmethod
    def blocks(cls, path: Path) -> Iterator["PathProducts"]:
        """The same, some samples at a time."""
        for rows in _rows(path):
            yield cls.of(replace(path, states=path.states[:, rows], denoised=path.denoised[:, rows]))

    @classmethod
    def of_gaussian(cls, law: Gaussian, start: Tensor, sigmas: Floats) -> "PathProducts":
        """Of the exact paths of a Gaussian from states at sigmas[0], in its modes; the centre is its mean.

        Along mode k the state is the mean plus c_k g_k(sigma), and off the modes e g(sigma); see `Gaussian.flow`.
        """
        offset = (start.to(law.mean) - law.mean).flatten(1).double()
        basis, mean = law.basis.double(), law.mean.double().flatten()
        modes = offset @ basis
        off = (offset.square().sum(1) - modes.square().sum(1)).clamp_min(0)
        along, inside = _factors(law.eigenvalues.double().cpu().numpy(), sigmas), modes.cpu().numpy()
        beside = _factors(np.array([law.residual]), sigmas)[:, 0]
        mean_modes = mean @ basis
        mean_off = (offset @ mean - modes @ mean_modes).cpu().numpy()
        points = len(along)
        gram = np.empty((len(modes), points + 1, points + 1))
        gram[:, :-1, :-1] = (along * inside[:, None] ** 2) @ along.T
        gram[:, :-1, :-1] += off.cpu().numpy()[:, None, None] * np.outer(beside, beside)
        with_mean = (inside * mean_modes.cpu().numpy()) @ along.T + mean_off[:, None] * beside
        gram[:, :-1, -1] = gram[:, -1, :-1] = with_mean
        gram[:, -1, -1] = float(mean @ mean)
        return cls(sigmas, gram, offset.shape[1], torch.finfo(torch.float64).eps)

    @classmethod
    def blocks_of_gaussian(cls, law: Gaussian, path: Path) -> Iterator["PathProducts"]:
        """Of a Gaussian's paths from the starts of a path, some samples at a time."""
        for rows in _rows(path):
            yield cls.of_gaussian(law, path.states[0, rows], _levels(path.sigmas))

    @property
    def states(self) -> Floats:
        """The states as combinations of the points, a row a level."""
        return self._points(0)

    @property
    def denoised(self) -> Floats:
        """The predictions."""
        return self._points(len(self.sigmas))

    @property
    def flow_states(self) -> Floats:
        """The states of a linear flow, x / (1 + sigma)."""
        return self.states / (1 + self.sigmas[:, None])

    @property
    def slopes(self) -> Floats:
        """dx / dsigma = (x - D) / sigma, which is the predicted noise."""
        return (self.states - self.denoised) / self.sigmas[:, None]

    def _points(self, first: int) -> Floats:
        found = np.eye(2 * len(self.sigmas) + 1)[first : first + len(self.sigmas)]
        found[:, -1] = 1  # the centre
        return found

    @property
    def curves(self) -> dict[str, Floats]:
        """What has a shape: the state, the state of a flow, the prediction."""
        return {"state": self.states, "flow_state": self.flow_states, "denoised": self.denoised}

    def derivative(self, rows: Floats, along: Floats) -> Floats:
        """Second-order differences of a row a level, along a coordinate of the levels."""
        found: Floats = np.gradient(rows, along, axis=0, edge_order=2)
        return found

    def dots(self, first: Floats, second: Floats) -> Floats:
        """Inner products of rows with rows, (samples, rows)."""
        (places, weights), (others, more) = _held(first), _held(second)
        found: Floats = np.einsum(
            "ra,nrab,rb->nr", weights, self.gram[:, places[:, :, None], others[:, None]], more, optimize=True
        )
        return found

    def norms(self, rows: Floats) -> Floats:
        """Norms of rows, (samples, rows)."""
        found: Floats = np.sqrt(np.maximum(self.dots(rows, rows), 0))
        return found

    def clearness(self, rows: Floats) -> Floats:
        """Norms of rows over what the rounding of their points comes to in them, (samples, rows)."""
        sizes = self.norms(np.concatenate([self.states, self.denoised]))
        rounding = self.resolution * np.sqrt(sizes**2 @ rows[:, :-1].T ** 2)
        return self.norms(rows) / rounding

    def spectra(self, rows: Floats) -> Floats:
        """Squared singular values of each sample's rows about their mean, falling, (samples, rows)."""
        centred = rows - rows.mean(0)
        within = centred @ self.gram @ centred.T
        return np.maximum(np.linalg.eigvalsh(within)[:, ::-1], 0)


@checked
def products_along(path: Path | Trace) -> tuple[PathProducts, ...]:
    """Inner products along each path, some samples at a time: made once for `path_geometry` and `path_shape`.

    Parameters
    ----------
    path : Path or Trace
        From `run_path` or `recorded_path`, or a trace, read some samples at a time; levels that are missing are left
        out.

    Raises
    ------
    InputError
        For fewer than two known levels.
    """
    return tuple(products_of(blocks_of(path).known(least=2)[0], None))


def products_of(blocks: PathBlocks, given: Sequence[PathProducts] | None) -> Iterable[PathProducts]:
    """Those that were given, or those of a path all of whose levels are known.

    Raises
    ------
    InputError
        For products of another path: of other levels, or of another number of samples.
    """
    if given is None:
        return (products for part in blocks for products in PathProducts.blocks(part))
    others = [one for one in given if not np.array_equal(one.sigmas, _levels(blocks.sigmas))]
    if others or sum(len(one.gram) for one in given) != blocks.count:
        found = f"of {sum(len(one.gram) for one in given)} samples{', at other levels' * bool(others)}"
        raise InputError("products", found=found, expected=f"products_along of this path, of {blocks.count} samples")
    made = np.concatenate([one.gram[:, -1, -1] for one in given])
    if given[0].elements != math.prod(blocks.shape) or not np.allclose(made, _centres(blocks), rtol=1e-3):
        raise InputError("products", found="those of other predictions", expected="products_along of this path")
    return given


def inner_products(points: Tensor) -> Tensor:
    """Of the rows of each matrix with each other, (*, rows, rows), on the CPU, where numpy computes a half of them."""
    if points.device.type != "cpu":
        return (points @ points.mT).cpu()
    matrices = points.reshape(-1, *points.shape[-2:]).numpy()
    products = torch.from_numpy(np.stack([matrix @ matrix.T for matrix in matrices]))
    return products.reshape(*points.shape[:-1], points.shape[-2])


def _centres(blocks: PathBlocks) -> Floats:
    """Squared norms of the last predictions; of a trace these alone are read for it."""
    parts = [ends.flatten(1).to(working_dtype(ends)).square().sum(1) for ends in blocks.predicted(-1)]
    return np.concatenate([part.cpu().double().numpy() for part in parts])


def _held(rows: Floats) -> tuple[Integers, Floats]:
    """The few points that each row is made of, and how much of each."""
    most = max(1, int((rows != 0).sum(1).max()))
    places = np.argsort(rows == 0, axis=1, kind="stable")[:, :most]
    return places, np.take_along_axis(rows, places, 1)


def known_levels(path: Path, *, least: int) -> tuple[Path, list[int]]:
    """A path without the levels that are missing, and the places of those that are left; see `PathBlocks.known`."""
    blocks, kept = blocks_of(path).known(least=least)
    (known,) = blocks
    return known, kept


def _levels(sigmas: Sequence[float]) -> Floats:
    return np.asarray(sigmas, np.float64)


def _rows(path: Path) -> list[slice]:
    """Samples that are computed together."""
    points, count = 2 * len(path.sigmas) + 1, path.states.shape[1]
    size = max(1, BLOCK // (points * max(points, path.states[0, 0].numel())))
    return [slice(first, first + size) for first in range(0, count, size)]


def _factors(variances: Floats, sigmas: Floats) -> Floats:
    """What states, then predictions, have of each mode of the start, (2 levels, modes)."""
    level = sigmas[:, None] ** 2
    gains = np.sqrt((variances + level) / (variances + level[0]))
    return np.concatenate([gains, gains * variances / (variances + level)])
