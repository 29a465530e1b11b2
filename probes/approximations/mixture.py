"""A mixture of Gaussians as a `Denoiser`: per-class fits, k-means fits.

    mixture = fit_per_class(images, labels)
    mixture(x, sigma)                       # E[x0 | x] under the mixture
    mixture(x, sigma, labels)               # E[x0 | x, class]: each sample under its own component
    mixture.responsibilities(x, sigma)      # which component, (batch, components)

The bases of all components stand side by side in one matrix, so a prediction is a few matrix products however
many components there are. There is no closed form for the probability flow of a mixture.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.approximations.gaussian import Gaussian
from scorescope.probes.approximations.layout import flatten, outside_inference, restore, variances, working
from scorescope.probes.models.denoiser import Condition

_CHUNK_ELEMENTS = 2**23  # coefficients held at once: 64 MB of float64


@displayed
@checked
@dataclass(frozen=True, eq=False)
class Mixture:
    """sum_k weights_k N_k.

    Attributes
    ----------
    components : tuple of Gaussian
        All of one shape, dtype and device.
    weights : Tensor, shape (components,)
        Positive, sum to 1.
    labels : tuple of int, optional
        The class of each component, for conditional predictions.
    name, note, units : str
        As for `Gaussian`.
    """

    components: tuple[Gaussian, ...]
    weights: Tensor
    labels: tuple[int, ...] | None = None
    name: str = "mixture"
    note: str = ""
    units: str = "data"

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", working(self.weights))
        if len({(g.shape, g.mean.dtype, g.mean.device) for g in self.components}) != 1:
            raise InputError("components", found="different shapes, dtypes or devices, or none", expected="one of each")
        fits = tuple(self.weights.shape) == (len(self.components),) and bool((self.weights > 0).all())
        if not fits or abs(float(self.weights.sum()) - 1) > 1e-6:
            raise InputError(
                "weights", found=str(self.weights.tolist()), expected="one positive share a component, sum 1"
            )
        if self.labels is not None and len(set(self.labels)) != len(self.components):
            raise InputError("labels", found=str(self.labels), expected="one distinct label a component")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.components[0].shape

    @property
    def dimension(self) -> int:
        """d, the number of elements of one sample."""
        return self.components[0].dimension

    @cached_property
    @outside_inference
    def mean(self) -> Tensor:
        """Mean of the whole law, shape (*shape)."""
        return sum((w * g.mean for w, g in self._weighted()), torch.zeros_like(self.components[0].mean))

    def to(self, dtype: torch.dtype | None = None, device: str | torch.device | None = None) -> "Mixture":
        """The same law, computed in another precision or elsewhere."""
        moved = tuple(g.to(dtype, device) for g in self.components)
        dtype = None if dtype is None else moved[0].mean.dtype  # never half precision
        return replace(self, components=moved, weights=self.weights.to(dtype=dtype, device=device))

    def __call__(self, x: Tensor, sigma: Tensor | float, condition: Condition = None) -> Tensor:
        """Posterior mean E[x0 | x], or E[x0 | x, class] where labels are given and the components have them.

        As `Gaussian` is called; `condition` is labels (batch,), ignored where the components carry none. `InputError`
        for a label without a component.
        """
        rows, s2 = self._enter(x, sigma)
        if condition is not None and self.labels is not None:
            levels = s2[:, 0].sqrt()
            return self._by_class(x, condition, lambda law, part, rows: law(part, levels[rows]))
        step = max(1, _CHUNK_ELEMENTS // max(1, len(self._stack.owner) + self.dimension))
        pieces = zip(rows.split(step), s2.split(step), strict=True)
        return restore(torch.cat([self._denoise(part, level) for part, level in pieces]), x)

    def score(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Gradient of `log_density`, shape of x, in 1 / units of the data."""
        rows, s2 = self._enter(x, sigma)
        denoised = flatten(self(x.to(rows.dtype), s2[:, 0].sqrt()), self.shape, like=rows)
        return restore((denoised - rows) / s2, x)

    def log_density(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Log density of the noised mixture in nats, shape (batch,), dtype of the statistics."""
        rows, s2 = self._enter(x, sigma)
        return self._log_joint(rows, s2, self._coefficients(rows)).logsumexp(1)

    def responsibilities(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Posterior probability of each component, shape (batch, components); rows sum to 1."""
        rows, s2 = self._enter(x, sigma)
        return self._log_joint(rows, s2, self._coefficients(rows)).softmax(1)

    def flow(self, x: Tensor, sigma_from: float, sigma_to: float, condition: Condition) -> Tensor:
        """Carry each state along the probability flow of its class; see `Gaussian.flow`.

        The mixture as a whole has no closed form, so labels are needed.
        """
        if self.labels is None or condition is None:
            found = "no condition" if condition is None else "components without labels"
            raise InputError("condition", found=found, expected="a label a sample: a mixture's own flow is not closed")
        return self._by_class(x, condition, lambda law, part, rows: law.flow(part, sigma_from, sigma_to))

    def sample(self, count: int, *, generator: torch.Generator, sigma: float = 0.0) -> Tensor:
        """Draw from the law noised to sigma, shape (count, *shape), dtype of the statistics."""
        chosen = torch.multinomial(self.weights.cpu().double(), count, replacement=True, generator=generator)
        out = self.components[0].mean.new_empty(count, *self.shape)
        for k, gaussian in enumerate(self.components):
            where = (chosen == k).nonzero()[:, 0].to(out.device)
            out[where] = gaussian.sample(len(where), generator=generator, sigma=sigma)
        return out

    def jacobian_vector(self, x: Tensor, sigma: Tensor | float, vector: Tensor) -> Tensor:
        """(dD/dx) vector, shape of x: within plus between, sum_k w_k (J_k v + D_k <D_k - D, v> / sigma^2)."""
        rows, s2 = self._enter(x, sigma)
        levels = s2[:, 0].sqrt()
        shape, flat = (len(rows), *self.shape), flatten(vector, self.shape, like=rows, argument="vector")
        share, whole = self.responsibilities(x, levels), self._denoise(rows, s2)
        out = torch.zeros_like(rows)
        for k, gaussian in enumerate(self.components):
            denoised = gaussian(rows.reshape(shape), levels).reshape(len(rows), -1)
            within = gaussian.jacobian_vector(rows.reshape(shape), levels, flat.reshape(shape)).reshape(len(rows), -1)
            apart = denoised - whole
            out += share[:, k : k + 1] * (within + apart * (apart * flat).sum(1, keepdim=True) / s2)
        return restore(out, x)

    def jacobian_trace(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Trace of dD/dx, shape (batch,): posterior variance over sigma^2."""
        rows, s2 = self._enter(x, sigma)
        levels = s2[:, 0].sqrt()
        state = rows.reshape(len(rows), *self.shape)
        share, whole = self.responsibilities(x, levels), self._denoise(rows, s2)
        out = torch.zeros_like(levels)
        for k, gaussian in enumerate(self.components):
            apart = gaussian(state, levels).reshape(len(rows), -1) - whole
            out += share[:, k] * (gaussian.jacobian_trace(state, levels) + apart.square().sum(1) / s2[:, 0])
        return out

    def _weighted(self) -> Sequence[tuple[Tensor, Gaussian]]:
        return list(zip(self.weights, self.components, strict=True))

    @cached_property
    @outside_inference
    def _stack(self) -> "_Stack":
        return _Stack.of(self.components)

    def _enter(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor]:
        like = self.components[0].mean
        return flatten(x, self.shape, like=like), variances(sigma, len(x), like=like)

    def _coefficients(self, rows: Tensor) -> Tensor:
        return (rows - self._stack.origin) @ self._stack.basis - self._stack.offsets

    def _log_joint(self, rows: Tensor, s2: Tensor, coefficients: Tensor) -> Tensor:
        """log weights_k + log N_k(x; S_k + sigma^2), shape (batch, components)."""
        stack = self._stack
        on, off = stack.eigenvalues + s2, stack.residuals + s2
        squared = coefficients.square()
        energy, logdet = stack.total(squared / on), stack.total(on.log()) + stack.left * off.log()
        if stack.left.any():
            centred = rows - stack.origin
            distance = (
                centred.square().sum(1, keepdim=True) - 2 * centred @ stack.means.mT + stack.means.square().sum(1)
            )
            energy = energy + (distance - stack.total(squared)).clamp_min(0) * (stack.left > 0) / off
        return self.weights.log() - (energy + logdet + self.dimension * math.log(2 * math.pi)) / 2

    def _denoise(self, rows: Tensor, s2: Tensor) -> Tensor:
        stack, coefficients = self._stack, self._coefficients(rows)
        share = self._log_joint(rows, s2, coefficients).softmax(1)
        on, off = stack.eigenvalues / (stack.eigenvalues + s2), stack.residuals / (stack.residuals + s2)
        gain = share[:, stack.owner] * (on - off[:, stack.owner])
        # sum_k share_k [mu_k + off_k (x - mu_k) + U_k (on_k - off_k) c_k], with mu_k and x counted from the origin
        moved = share * off
        denoised = (share - moved) @ stack.means + moved.sum(1, keepdim=True) * (rows - stack.origin)
        return denoised + (gain * coefficients) @ stack.basis.mT + stack.origin

    def _by_class(self, x: Tensor, condition: Condition, apply: Callable[[Gaussian, Tensor, Tensor], Tensor]) -> Tensor:
        """apply(component, its states, their rows), for the samples of each class."""
        assert self.labels is not None  # the caller has seen to it
        labels = torch.as_tensor(condition).reshape(-1).cpu()
        found = sorted(set(labels.tolist()))
        if len(labels) != len(x) or not set(found) <= set(self.labels):
            expected = f"one of {list(self.labels)} for each sample"
            raise InputError("condition", found=f"labels {found} for {len(x)} samples", expected=expected)
        out = torch.empty_like(x)
        for label, gaussian in zip(self.labels, self.components, strict=True):
            where = (labels == label).nonzero()[:, 0].to(x.device)
            if len(where):
                out[where] = apply(gaussian, x[where], where)
        return out


@dataclass(frozen=True, eq=False)
class _Stack:
    """The components side by side; `owner[j]` is the component that column j belongs to."""

    origin: Tensor  # (d,): taken off first, so that far from 0 nothing cancels
    means: Tensor  # (K, d), counted from the origin
    basis: Tensor  # (d, R)
    eigenvalues: Tensor  # (R,)
    offsets: Tensor  # (R,): basis^T mean of the owner
    residuals: Tensor  # (K,)
    owner: Tensor  # (R,)
    left: Tensor  # (K,): d - rank

    @classmethod
    def of(cls, components: Sequence[Gaussian]) -> "_Stack":
        first = components[0].mean
        means = torch.stack([g.mean.reshape(-1) for g in components])
        origin = means.mean(0)
        means = means - origin
        ranks = torch.tensor([g.rank for g in components], device=first.device)
        owner = torch.arange(len(components), device=first.device).repeat_interleave(ranks)
        basis = torch.cat([g.basis for g in components], dim=1)
        return cls(
            origin=origin, means=means, basis=basis, owner=owner, left=first.numel() - ranks,
            eigenvalues=torch.cat([g.eigenvalues for g in components]),
            offsets=torch.cat([mean @ g.basis for mean, g in zip(means, components, strict=True)]),
            residuals=torch.tensor([g.residual for g in components], dtype=first.dtype, device=first.device),
        )  # fmt: skip

    def total(self, columns: Tensor) -> Tensor:
        """Sum of each component's columns, (batch, R) to (batch, K)."""
        out = columns.new_zeros(len(columns), len(self.means))
        return out.index_add(1, self.owner, columns)
