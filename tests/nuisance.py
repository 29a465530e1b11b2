"""Activations in which an attribute varies beside a nuisance, at known angles."""

import torch

from scorescope.analysis.directions.finding import find_direction

WIDTH, METHODS = 64, ("difference", "lda", "logistic", "svm")
V, U = torch.zeros(WIDTH), torch.zeros(WIDTH)
V[0], U[0], U[1] = 1.0, 0.6, 0.8  # unit vectors, cosine 0.6


def nuisance_model(n, seed, same=None):
    """h = 0.7 y v + 3 z u + 0.5 noise, y = -1 or 1, z standard normal; or a sign too, y with probability `same`."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 2, (n,), generator=g)
    sign = 2.0 * y - 1
    z = torch.randn(n, generator=g) if same is None else torch.where(torch.rand(n, generator=g) < same, sign, -sign)
    h = 0.7 * sign[:, None] * V + 3 * z[:, None] * U + 0.5 * torch.randn(n, WIDTH, generator=g)
    return h, y.numpy(), z.numpy()


def found(values, labels, method="difference", **options):
    return find_direction(values, labels, method=method, site="h", attribute="y", **options)
