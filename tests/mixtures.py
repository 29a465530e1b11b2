"""Classes with known laws: exact conditional and unconditional denoisers, log-ratios and posterior."""

from dataclasses import dataclass

import torch
from torch import Tensor

from scorescope.probes.approximations import Gaussian, Mixture
from scorescope.probes.approximations.gaussian import isotropic

SMALL = 1e-6  # noise level that stands for none in closed forms


@dataclass(frozen=True)
class Labelled:
    """Draws of a mixture with the class each came from."""

    law: Mixture
    images: Tensor
    labels: Tensor

    def log_ratio(self) -> Tensor:
        """log p(x | own class) - log p(x), in nats."""
        return self.by_class()[torch.arange(len(self.labels)), self.labels] - self.law.log_density(self.images, SMALL)

    def by_class(self) -> Tensor:
        """log p(x | class), shape (n, classes)."""
        return torch.stack([part.log_density(self.images, SMALL) for part in self.law.components], 1)


def draw_labelled(
    count: int, *, classes: int = 3, shape: tuple[int, ...] = (8,), spread: float = 0.7, seed: int = 0
) -> Labelled:
    """A mixture of isotropic Gaussians of different widths, float64, and draws from it."""
    generator = torch.Generator().manual_seed(seed)
    means = spread * torch.randn(classes, *shape, generator=generator, dtype=torch.float64)
    parts = tuple(isotropic(mean, 0.25 + 0.05 * k) for k, mean in enumerate(means))
    weights = torch.full((classes,), 1 / classes, dtype=torch.float64)
    law = Mixture(parts, weights, labels=tuple(range(classes)))
    labels = torch.arange(count) % classes
    images = torch.cat([parts[k].sample(1, generator=generator) for k in labels.tolist()])
    return Labelled(law, images, labels)


def rotated_mixture(*, dimension: int = 16, seed: int = 0) -> Mixture:
    """Three Gaussians with means of unit variance and turned covariances, as many variances as elements, float64."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for _ in range(3):
        mean = torch.randn(dimension, generator=generator, dtype=torch.float64)
        basis = torch.linalg.qr(torch.randn(dimension, dimension, generator=generator, dtype=torch.float64)).Q
        logs = torch.rand(dimension, generator=generator, dtype=torch.float64)
        variances = (0.02 * 15**logs).sort(descending=True).values  # from 0.02 to 0.3
        parts.append(Gaussian(mean, basis, variances))
    return Mixture(tuple(parts), torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64))
