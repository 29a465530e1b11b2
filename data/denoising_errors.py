"""Fixed points (x0, sigma, noise) at which denoising errors are compared.

    bank = error_bank(images, labels, sigmas=torch.logspace(-2, 1, 4))
    denoising_errors(denoiser, bank)           # one number a row

Every denoiser, and every step of a training run, meets the same noise.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scorescope.data.display import displayed

CHUNK = 1024  # rows in one call of a denoiser


@displayed
@dataclass(frozen=True)
class ErrorBank:
    """Clean images with the label, noise level and noise of each, one row a point."""

    images: Tensor
    labels: Tensor
    sigma: Tensor
    noise: Tensor


def error_bank(images: Tensor, labels: Tensor, *, sigmas: Tensor, seed: int = 1) -> ErrorBank:
    """Pair every image with every noise level, one noise draw each.

    Returns a bank of len(images) * len(sigmas) rows, noise level varying slowest.
    """
    generator = torch.Generator().manual_seed(seed)
    count = len(sigmas)
    noise = torch.randn(count * len(images), *images.shape[1:], generator=generator)
    return ErrorBank(
        images.repeat(count, 1, 1, 1),
        labels.repeat(count, *(1,) * (labels.ndim - 1)),
        sigmas.repeat_interleave(len(images)),
        noise,
    )


@torch.no_grad()
def denoising_errors(denoiser: Callable[[Tensor, Tensor, Tensor], Tensor], bank: ErrorBank) -> Tensor:
    """Squared error per element of each row, |D(x0 + sigma n, sigma, label) - x0|^2 / N.

    Returns
    -------
    Tensor, shape (rows,)
        In squared units of the data.
    """
    parts = []
    for rows in torch.arange(len(bank.images)).split(CHUNK):
        clean, sigma = bank.images[rows], bank.sigma[rows]
        x = clean + sigma.reshape(-1, *(1,) * (clean.ndim - 1)) * bank.noise[rows]
        parts.append((denoiser(x, sigma, bank.labels[rows]) - clean).square().flatten(1).mean(1))
    return torch.cat(parts)
