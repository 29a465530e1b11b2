"""Denoisers with closed forms, for tests."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GaussianDenoiser:
    """Exact denoiser of data N(mean, covariance), one law with a condition and one without.

    D = mean + S (S + sigma^2 I)^-1 (x - mean). Flat data of shape (d,), float64.
    """

    mean_cond: Tensor
    covariance_cond: Tensor
    mean_uncond: Tensor
    covariance_uncond: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.mean_cond.shape)

    def __call__(self, x: Tensor, sigma: Tensor, condition: Tensor | None) -> Tensor:
        mean = self.mean_uncond if condition is None else self.mean_cond
        covariance = self.covariance_uncond if condition is None else self.covariance_cond
        noisy = covariance + sigma[0].double() ** 2 * torch.eye(len(mean), dtype=torch.float64)
        gain = torch.linalg.solve(noisy, covariance)  # (S + s^2)^-1 S, symmetric up to order since both commute
        return (mean + (x.double() - mean) @ gain).to(x.dtype)


def diagonal_pair(
    variances_cond: list[float], variances_uncond: list[float], mean: list[float] | None = None
) -> GaussianDenoiser:
    """Equal means and commuting covariances: the CFG-guided path has a closed form."""
    common = torch.zeros(len(variances_cond), dtype=torch.float64) if mean is None else torch.tensor(mean).double()
    return GaussianDenoiser(
        common, torch.tensor(variances_cond).double().diag(), common, torch.tensor(variances_uncond).double().diag()
    )


def random_pair(size: int = 6, seed: int = 0) -> GaussianDenoiser:
    """Two Gaussians with different means and covariances that do not commute."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    factors = [draw(size, size) for _ in range(2)]
    covariances = [factor @ factor.T / size + 0.05 * torch.eye(size, dtype=torch.float64) for factor in factors]
    return GaussianDenoiser(draw(size), covariances[0], draw(size), covariances[1])
