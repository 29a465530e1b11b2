"""Equal Gaussians on a circle, with exact conditional and unconditional denoisers, and unguided runs of them."""

import torch
from torch import Tensor

from scorescope.probes import Recording, sample
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import Euler


class Mixture:
    """Exact conditional and unconditional denoisers of K equal Gaussians N(m_k, s^2 I)."""

    shape = (2,)

    def __init__(self, count=5, spread=1.5, std=0.3):
        angles = torch.arange(count) * 2 * torch.pi / count
        self.means = spread * torch.stack([angles.cos(), angles.sin()], dim=1).double()
        self.variance, self.count = std**2, count

    def posterior(self, x: Tensor, sigma: float) -> Tensor:
        distance = (x[:, None] - self.means).square().sum(2)
        return torch.softmax(-distance / (2 * (self.variance + sigma**2)), dim=1)

    def __call__(self, x: Tensor, sigma: Tensor, condition: Tensor | None) -> Tensor:
        share = self.variance / (self.variance + sigma[0] ** 2)
        if condition is not None:
            return self.means[condition] + share * (x - self.means[condition])
        weights = self.posterior(x, float(sigma[0]))
        return weights @ self.means + share * (x - weights @ self.means)


def of_mixture(mixture, samples, first=0):
    """Euler: half the evaluations, and the ends are those of the same path."""
    options = {"sigmas": edm_sigmas(60), "solver": Euler(), "dtype": torch.float64, "batch": samples}
    labels, recording = torch.arange(samples) % mixture.count, Recording(all_branches=True)
    seeds = range(first, first + samples)
    return sample(mixture, seeds=seeds, condition=labels, record=recording, progress=False, **options).trace
