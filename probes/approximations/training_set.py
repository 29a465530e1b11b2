"""The exact denoiser of a finite training set: what a network that memorised would predict.

    exact = TrainingSet(images)
    exact(x, sigma)                          # softmax average of the training points
    exact.effective_samples(x, sigma)        # how many points share that average: near 1, a nearest neighbour

The law is a sum of delta functions at the training points, so the posterior mean is an average of all points
weighted by a softmax of -|x - y|^2 / (2 sigma^2). One pass over the points in chunks with a running maximum:
two matrix products a chunk, memory bounded by the chunk. Everything is computed in the dtype of the points, float32
at least; use float64 below sigma = 0.5 or so, where float32 distances are no longer fine enough.
"""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.approximations.layout import flatten, outside_inference, restore, variances, working
from scorescope.probes.models.denoiser import Condition


@displayed
@checked
@dataclass(frozen=True, eq=False)
class TrainingSet:
    """The uniform law on given points.

    Attributes
    ----------
    points : Tensor, shape (n, *shape)
        Training data. Used as they are, without a copy; half precision is widened a chunk at a time.
    labels : Tensor, shape (n,), optional
        Class of each point, for conditional predictions: a condition leaves only its own class.
    chunk : int
        Points handled at once; bounds the memory, does not change the result.
    name, note, units : str
        As for `Gaussian`.
    """

    points: Tensor
    labels: Tensor | None = None
    chunk: int = 4096
    name: str = "training set"
    note: str = ""
    units: str = "data"
    _half_norms: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.points.ndim < 2 or self.points.numel() == 0 or not self.points.is_floating_point():
            found = f"{self.points.dtype} of shape {tuple(self.points.shape)}"
            raise InputError("points", found=found, expected="floating point data of shape (n >= 1, *shape)")
        if self.chunk < 1:
            raise InputError("chunk", found=str(self.chunk), expected="at least 1")
        if self.labels is not None and tuple(self.labels.shape) != (len(self.points),):
            raise InputError("labels", found=f"shape {tuple(self.labels.shape)}", expected=f"({len(self.points)},)")
        centre = self._centre
        norms = torch.cat([(working(part) - centre).square().sum(1) / 2 for part in self._rows.split(self.chunk)])
        if not bool(torch.isfinite(norms).all()):
            raise InputError("points", found="NaN or infinite values", expected="finite data")
        object.__setattr__(self, "_half_norms", norms)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.points.shape[1:])

    @cached_property
    @outside_inference
    def mean(self) -> Tensor:
        """Mean of the points, shape (*shape)."""
        return self._centre.reshape(self.shape)

    def to(self, dtype: torch.dtype | None = None, device: str | torch.device | None = None) -> "TrainingSet":
        """The same law, computed in another precision or elsewhere."""
        labels = None if self.labels is None else self.labels.to(device=device)
        return replace(self, points=self.points.to(dtype=dtype, device=device), labels=labels)

    def __call__(self, x: Tensor, sigma: Tensor | float, condition: Condition = None) -> Tensor:
        """Posterior mean E[x0 | x], over the points of the class where labels are given.

        As `Gaussian` is called; `condition` is labels (batch,), ignored where the points carry none. `InputError` for
        a class without points.
        """
        return restore(self._average(x, sigma, condition).mean, x)

    def score(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Gradient of `log_density`, shape of x, in 1 / units of the data."""
        rows, s2 = self._enter(x, sigma)
        return restore((self._average(x, sigma).mean - rows) / s2, x)

    def log_density(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Log density of the noised points in nats, shape (batch,), dtype of the points."""
        rows, s2 = self._enter(x, sigma)
        average, level = self._average(x, sigma), s2[:, 0]
        exponent = average.log_total - (rows - self._centre).square().sum(1) / (2 * level)
        return exponent - math.log(len(self.points)) - rows.shape[1] / 2 * (2 * math.pi * level).log()

    def effective_samples(self, x: Tensor, sigma: Tensor | float, condition: Condition = None) -> Tensor:
        """1 / sum_i w_i^2 of the softmax weights, shape (batch,): from 1 to the number of points."""
        average = self._average(x, sigma, condition)
        return average.weight_sum**2 / average.weight_sq

    def weights(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """The softmax weights themselves, shape (batch, n): not chunked, for inspection."""
        rows, s2 = self._enter(x, sigma)
        return (((rows - self._centre) @ working(self._rows).mT - self._half_norms) / s2).softmax(1)

    def sample(self, count: int, *, generator: torch.Generator, sigma: float = 0.0) -> Tensor:
        """Draw points with replacement and noise them to sigma, shape (count, *shape), dtype of the points."""
        rows = torch.randint(len(self.points), (count,), generator=generator)
        noise = torch.randn(count, *self.shape, generator=generator, dtype=self._centre.dtype)
        return working(self.points[rows.to(self.points.device)]) + sigma * noise.to(self.points.device)

    def jacobian_vector(self, x: Tensor, sigma: Tensor | float, vector: Tensor) -> Tensor:
        """(dD/dx) vector = Cov[x0 | x] vector / sigma^2, shape of x."""
        _, s2 = self._enter(x, sigma)
        average = self._average(x, sigma, vector=flatten(vector, self.shape, like=self._centre, argument="vector"))
        assert average.vector_mean is not None and average.vector_total is not None
        return restore((average.vector_mean - average.vector_total * (average.mean - self._centre)) / s2, x)

    def jacobian_trace(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Trace of dD/dx, shape (batch,): posterior variance over sigma^2."""
        _, s2 = self._enter(x, sigma)
        average = self._average(x, sigma)
        spread = average.square - (average.mean - self._centre).square().sum(1)
        return spread.clamp_min(0) / s2[:, 0]

    @property
    def _rows(self) -> Tensor:
        return self.points.reshape(len(self.points), -1)

    @cached_property
    @outside_inference
    def _centre(self) -> Tensor:
        total = torch.zeros(self._rows.shape[1], dtype=torch.float64, device=self.points.device)
        for part in self._rows.split(self.chunk):  # a float64 sum of all at once would copy all
            total += part.sum(0, dtype=torch.float64)
        return (total / len(self.points)).to(working(self.points[:0]).dtype)

    def _enter(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor]:
        return flatten(x, self.shape, like=self._centre), variances(sigma, len(x), like=self._centre)

    def _average(
        self, x: Tensor, sigma: Tensor | float, condition: Condition = None, vector: Tensor | None = None
    ) -> "_Average":
        rows, s2 = self._enter(x, sigma)
        labels = self._labels(condition, len(rows))
        query = (rows - self._centre) / s2
        inverse = 1 / s2
        running = _Running(rows, vector)
        for start in range(0, len(self.points), self.chunk):
            part = slice(start, start + self.chunk)
            points, half_norms = working(self._rows[part]), self._half_norms[part]
            # -|x - y|^2 / (2 sigma^2) but for a constant of the row, counted from the centre
            logits = (query @ points.mT).addcmul_(inverse, half_norms, value=-1)
            if labels is not None:
                assert self.labels is not None
                logits.masked_fill_(labels[:, None] != self.labels[part], -math.inf)
            running.add(logits, points, half_norms, self._centre)
        return running.result(self._centre, query)

    def _labels(self, condition: Condition, batch: int) -> Tensor | None:
        if condition is None or self.labels is None:
            return None
        labels = torch.as_tensor(condition, device=self.points.device).reshape(-1)
        known = torch.isin(labels, self.labels)
        if len(labels) != batch or not bool(known.all()):
            found = f"{len(labels)} labels, without points: {sorted(set(labels[~known].tolist()))}"
            raise InputError("condition", found=found, expected=f"{batch} labels of classes that have points")
        return labels


@dataclass(frozen=True, eq=False)
class _Average:
    """Softmax averages over all points; weight_sum is in units of the largest weight."""

    mean: Tensor  # (batch, d)
    square: Tensor  # (batch,): of |y - centre|^2
    log_total: Tensor  # (batch,): log sum of exp(logits), centre subtracted
    weight_sum: Tensor  # (batch,)
    weight_sq: Tensor  # (batch,)
    vector_mean: Tensor | None  # (batch, d): of y <y - centre, v>, counted from the centre
    vector_total: Tensor | None  # (batch, 1): of <y - centre, v>


class _Running:
    """Sums of exp(logit - running maximum) times this and that, rescaled when the maximum rises."""

    def __init__(self, rows: Tensor, vector: Tensor | None) -> None:
        batch = len(rows)
        self.vector = vector
        # smaller weights are raised to e^least, which changes nothing: denormal numbers slow products down tenfold
        self.least = math.log(torch.finfo(rows.dtype).tiny) / 2
        self.top = rows.new_full((batch, 1), -math.inf)
        self.total, self.squares, self.norms, self.product = (rows.new_zeros(batch, 1) for _ in range(4))
        self.points = torch.zeros_like(rows)
        self.products = torch.zeros_like(rows) if vector is not None else None

    def add(self, logits: Tensor, points: Tensor, half_norms: Tensor, centre: Tensor) -> None:
        """Take in one chunk: logits (batch, chunk), points (chunk, d)."""
        # where the maximum lies does not change the averages, so no gradient goes through it
        top = torch.maximum(self.top, logits.detach().amax(1, keepdim=True))
        scale = torch.where(top > self.top, (self.top - top).clamp_min_(self.least).exp_(), 1.0)
        scale = scale.masked_fill(self.top == -math.inf, 0.0)
        self.top = top
        # a class absent from all chunks so far has no maximum yet; what it adds is wiped out by a scale of 0
        weights = logits.sub_(top.clamp_min(torch.finfo(top.dtype).min)).clamp_min_(self.least).exp_()
        self.total = self.total * scale + weights.sum(1, keepdim=True)
        self.squares = self.squares * scale**2 + weights.square().sum(1, keepdim=True)
        self.norms = self.norms * scale + (weights @ half_norms)[:, None] * 2
        self.points = self.points.mul_(scale).addmm_(weights, points)
        if self.vector is not None and self.products is not None:
            along = (self.vector @ points.mT - (self.vector @ centre)[:, None]) * weights
            self.product = self.product * scale + along.sum(1, keepdim=True)
            self.products = self.products.mul_(scale).addmm_(along, points)

    def result(self, centre: Tensor, query: Tensor) -> _Average:
        """The averages. `query` = (x - centre) / sigma^2 takes the centre out of the exponents."""
        product = self.product / self.total
        along = None if self.products is None else self.products / self.total - product * centre
        shift = (query * centre).sum(1)  # logits hold <x - centre, y>, not <x - centre, y - centre>
        return _Average(
            mean=self.points / self.total,
            square=(self.norms / self.total)[:, 0],
            log_total=self.total[:, 0].log() + self.top[:, 0] - shift,
            weight_sum=self.total[:, 0],
            weight_sq=self.squares[:, 0],
            vector_mean=along,
            vector_total=None if self.products is None else product,
        )
