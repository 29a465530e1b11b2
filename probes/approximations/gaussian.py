"""The Gaussian law of given mean and covariance, as a `Denoiser` with a closed form for everything.

    gaussian = fit_gaussian(images)                  # or fit_gaussian(images, rank=64)
    gaussian(x, sigma)                               # denoised prediction
    gaussian.flow(x, 80.0, 5.0)                      # probability-flow map between two noise levels

The covariance is kept as r eigenpairs and one variance for all other directions (PPCA), so that every
operation costs O(d r) a sample. r = d is the full covariance, r = 0 is isotropic, r = 0 with variance 0 is
a point at the mean. Wang & Vastola 2024 (arXiv 2412.09726) for the score and the flow; Tipping & Bishop 1999
for the residual variance. The state is variance exploding, x = x0 + sigma * n; `NoiseLevel.to_ve` brings
variance-preserving and flow-matching states there. A condition is accepted and ignored.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.approximations.layout import flatten, outside_inference, restore, variances, working
from scorescope.probes.models.denoiser import Condition


@checked
@dataclass(frozen=True)
class Fit:
    """What a law's mean and covariance were estimated from.

    Attributes
    ----------
    samples : int
        n. The squared error of the mean is trace(covariance) / n.
    covariance_error : float
        Expected squared Frobenius error of the covariance by sampling, (E|y|^4 - |C|^2) / n with y = x - mean, times
        1 - w after shrinkage of weight w. In data^4.
    shrinkage : float
        That w.
    """

    samples: int
    covariance_error: float
    shrinkage: float = 0.0


@displayed
@checked
@dataclass(frozen=True, eq=False)
class Gaussian:
    """N(mean, basis diag(eigenvalues) basis^T + residual (1 - basis basis^T)).

    Attributes
    ----------
    mean : Tensor, shape (*shape)
        In units of the data. Its dtype and device are those of all computations, which are float32 at least: half
        precision is widened. Results come back in the dtype and on the device of the argument.
    basis : Tensor, shape (d, r)
        Orthonormal columns.
    eigenvalues : Tensor, shape (r,)
        Variance along each column, in squared units of the data, falling.
    residual : float
        Variance along every direction off the span; 0 truncates.
    name : str
        What tables call it.
    note : str
        What the fit had to do (shrinkage, fallbacks); empty where nothing.
    units : str
        What one unit of the data is, for example "pixels in [-1, 1]".
    fit : Fit, optional
        What mean and covariance were estimated from; missing where they are given.
    """

    mean: Tensor
    basis: Tensor
    eigenvalues: Tensor
    residual: float = 0.0
    name: str = "gaussian"
    note: str = ""
    units: str = "data"
    fit: Fit | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "basis", "eigenvalues"):
            object.__setattr__(self, name, working(getattr(self, name)))
        d, r = self.mean.numel(), len(self.eigenvalues)
        if tuple(self.basis.shape) != (d, r) or r > d:
            raise InputError("basis", found=f"shape {tuple(self.basis.shape)}", expected=f"(d, r) = ({d}, {r}), r <= d")
        least = min([float(self.eigenvalues.min())] if r else [], default=0.0)
        if least < 0 or not 0 <= self.residual < math.inf:
            raise InputError("eigenvalues, residual", found=f"{least:g}, {self.residual:g}", expected="variances >= 0")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.mean.shape)

    @property
    def dimension(self) -> int:
        """d, the number of elements of one sample."""
        return self.mean.numel()

    @property
    def rank(self) -> int:
        """r, the number of eigenpairs kept."""
        return len(self.eigenvalues)

    @cached_property
    def variance(self) -> float:
        """Trace of the covariance, in squared units of the data."""
        return float(self.eigenvalues.sum(dtype=torch.float64)) + (self.dimension - self.rank) * self.residual

    @cached_property
    def energy(self) -> float:
        """Squared Frobenius norm of the covariance, in data^4."""
        return float(self.eigenvalues.double().square().sum()) + (self.dimension - self.rank) * self.residual**2

    def to(self, dtype: torch.dtype | None = None, device: str | torch.device | None = None) -> "Gaussian":
        """The same law, computed in another precision or elsewhere."""
        mean, basis, eigenvalues = (t.to(dtype=dtype, device=device) for t in (self.mean, self.basis, self.eigenvalues))
        return replace(self, mean=mean, basis=basis, eigenvalues=eigenvalues)

    def rescaled(self, scale: float, shift: float = 0.0, *, units: str) -> "Gaussian":
        """The law of scale * x0 + shift, for example from [0, 1] to [-1, 1] with (2, -1): eigenvalues times scale^2."""
        fit = self.fit and replace(self.fit, covariance_error=scale**4 * self.fit.covariance_error)
        return replace(
            self, mean=scale * self.mean + shift, eigenvalues=scale**2 * self.eigenvalues,
            residual=scale**2 * self.residual, units=units, fit=fit,
        )  # fmt: skip

    def with_note(self, note: str) -> "Gaussian":
        """The same law with another note."""
        return replace(self, note=note)

    def reshaped(self, shape: tuple[int, ...]) -> "Gaussian":
        """The same law over samples of another shape with as many elements."""
        return replace(self, mean=self.mean.reshape(shape))

    def covariance(self) -> Tensor:
        """The covariance matrix, shape (d, d), in squared units of the data."""
        identity = torch.eye(self.dimension, dtype=self.mean.dtype, device=self.mean.device)
        return (self.basis * (self.eigenvalues - self.residual)) @ self.basis.mT + self.residual * identity

    def __call__(self, x: Tensor, sigma: Tensor | float, condition: Condition = None) -> Tensor:
        """Posterior mean E[x0 | x].

        Parameters
        ----------
        x : Tensor, shape (batch, *shape)
            x0 + sigma * n.
        sigma : Tensor, shape (batch,), or float
            Noise level, same unit as x; positive.
        condition : optional
            Ignored.

        Returns
        -------
        Tensor, shape, dtype and device of x
            Prediction in `denoised` space.

        Raises
        ------
        InputError
            For another shape, or a level that is not positive.
        """
        s2 = variances(sigma, len(x), like=self.mean)
        return self._about_mean(x, self._shrink(self.eigenvalues, s2), self._shrink(self.residual, s2))

    def score(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Gradient of `log_density`, shape of x, in 1 / units of the data. Arguments as in calling."""
        s2 = variances(sigma, len(x), like=self.mean)
        return restore(-self._spectral(self._offset(x), (self.eigenvalues + s2) ** -1, (self.residual + s2) ** -1), x)

    def log_density(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Log density of the noised law N(mean, S + sigma^2), in nats.

        Returns
        -------
        Tensor, shape (batch,), dtype of the statistics
        """
        s2 = variances(sigma, len(x), like=self.mean)
        offset, on, off = self._offset(x), self.eigenvalues + s2, self.residual + s2
        coefficients = offset @ self.basis
        energy, logdet = (coefficients**2 / on).sum(1), on.log().sum(1)
        if left := self.dimension - self.rank:
            energy = energy + (offset.square().sum(1) - coefficients.square().sum(1)).clamp_min(0) / off[:, 0]
            logdet = logdet + left * off[:, 0].log()
        return -(energy + logdet + self.dimension * math.log(2 * math.pi)) / 2

    def flow(self, x: Tensor, sigma_from: Tensor | float, sigma_to: Tensor | float) -> Tensor:
        """Carry states along the probability flow dx/dsigma = (x - D) / sigma, exactly.

        Parameters
        ----------
        x : Tensor, shape (batch, *shape)
            States at sigma_from.
        sigma_from, sigma_to : Tensor, shape (batch,), or float
            Noise levels; sigma_from > 0, sigma_to >= 0, in either order.

        Returns
        -------
        Tensor, shape of x
            States at sigma_to: mode k scaled by sqrt((lambda_k + sigma_to^2) / (lambda_k + sigma_from^2)).
            This is also the optimal-transport map between the two noised laws.
        """
        before = variances(sigma_from, len(x), like=self.mean, argument="sigma_from")
        after = variances(sigma_to, len(x), like=self.mean, argument="sigma_to", zero=True)
        on = ((self.eigenvalues + after) / (self.eigenvalues + before)).sqrt()
        off = ((self.residual + after) / (self.residual + before)).sqrt()
        return self._about_mean(x, on, off)

    def denoised_on_path(self, x: Tensor, sigma_from: Tensor | float, sigma: Tensor | float) -> Tensor:
        """D at noise level sigma on the path that passes x at sigma_from, shape of x."""
        before = variances(sigma_from, len(x), like=self.mean, argument="sigma_from")
        s2 = variances(sigma, len(x), like=self.mean)
        on = self.eigenvalues / ((self.eigenvalues + s2) * (self.eigenvalues + before)).sqrt()
        off = self.residual / ((self.residual + s2) * (self.residual + before)).sqrt()
        return self._about_mean(x, on, off)

    def sample(self, count: int, *, generator: torch.Generator, sigma: float = 0.0) -> Tensor:
        """Draw from the law noised to sigma, shape (count, *shape), dtype of the statistics."""
        noise = torch.randn(count, self.dimension, generator=generator, dtype=self.mean.dtype).to(self.mean.device)
        s2 = variances(sigma, count, like=self.mean, zero=True)
        rows = self._spectral(noise, (self.eigenvalues + s2).sqrt(), (self.residual + s2).sqrt()) + self._centre
        return rows.reshape(count, *self.shape)

    def modes(self, x: Tensor) -> Tensor:
        """Coefficients of x - mean along the basis, shape (batch, r), in units of the data."""
        return self._offset(x) @ self.basis

    def jacobian_spectrum(self, sigma: Tensor) -> Tensor:
        """Eigenvalues lambda / (lambda + sigma^2) of dD/dx, the same everywhere: shape (len(sigma), d), falling."""
        s2 = variances(sigma, len(sigma), like=self.mean)
        off = self._shrink(self.residual, s2).expand(-1, self.dimension - self.rank)
        return torch.cat([self._shrink(self.eigenvalues, s2), off], dim=1).sort(dim=1, descending=True).values

    def jacobian_vector(self, x: Tensor, sigma: Tensor | float, vector: Tensor) -> Tensor:
        """(dD/dx) vector, shape of x. The matrix is symmetric, and is the posterior covariance over sigma^2."""
        s2 = variances(sigma, len(x), like=self.mean)
        rows = flatten(vector, self.shape, like=self.mean, argument="vector")
        return restore(self._spectral(rows, self._shrink(self.eigenvalues, s2), self._shrink(self.residual, s2)), x)

    def jacobian_trace(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """Trace of dD/dx, shape (batch,): posterior variance over sigma^2."""
        s2 = variances(sigma, len(x), like=self.mean)
        left = self.dimension - self.rank
        return self._shrink(self.eigenvalues, s2).sum(1) + left * self._shrink(self.residual, s2)[:, 0]

    @property
    def _centre(self) -> Tensor:
        return self.mean.reshape(-1)

    def _offset(self, x: Tensor) -> Tensor:
        return flatten(x, self.shape, like=self.mean) - self._centre

    @staticmethod
    def _shrink(variance: Tensor | float, s2: Tensor) -> Tensor:
        return variance / (variance + s2)

    @cached_property
    @outside_inference
    def _mean_modes(self) -> Tensor:
        return self._centre @ self.basis

    def _about_mean(self, x: Tensor, on: Tensor, off: Tensor) -> Tensor:
        """mean + M (x - mean), with the matrix M of `_spectral`, in as few passes over x as possible."""
        if self.rank == self.dimension:
            return restore(self._spectral(self._offset(x), on, off).add_(self._centre), x)
        rows = flatten(x, self.shape, like=self.mean)
        out = torch.lerp(self._centre, rows, off)
        if self.rank:
            out = out.addmm_((rows @ self.basis - self._mean_modes).mul_(on - off), self.basis.mT)
        return restore(out, x)

    def _spectral(self, rows: Tensor, on: Tensor, off: Tensor) -> Tensor:
        """Apply the matrix with eigenvalues `on` (batch, r) along the basis and `off` (batch, 1) elsewhere to rows."""
        if self.rank == self.dimension:
            return ((rows @ self.basis) * on) @ self.basis.mT
        if self.rank == 0:
            return off * rows
        return torch.addmm(off * rows, (rows @ self.basis) * (on - off), self.basis.mT)


@checked
def isotropic(mean: Tensor, variance: float, *, name: str | None = None, units: str = "data") -> Gaussian:
    """N(mean, variance): the same variance, in squared units of the data, along all d directions; 0 is a point.

    Parameters
    ----------
    mean : Tensor, shape (*shape)
        In units of the data.
    variance : float
        In squared units of the data.
    name, units : str
        As for `Gaussian`.
    """
    name = name or ("isotropic" if variance else "mean")
    return Gaussian(mean, mean.new_zeros(mean.numel(), 0), mean.new_zeros(0), float(variance), name=name, units=units)
