"""Classes with known laws: exact conditional and unconditional denoisers, log-ratios and posterior."""

from dataclasses import dataclass

import torch
from torch import Tensor

from scorescope.probes.approximations import Mixture
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
