"""Fixed points (x0, sigma, noise) at which denoisers or conditions are compared.

    bank = Bank(images, sigmas=log_snr_grid(-6, 6, 25), draws=2)
    for point in bank.points(batch=256):
        a = denoiser(point.x, point.sigma, labels[point.rows])
        b = denoiser(point.x, point.sigma, None)          # the same x, so the same noise

The noise of a point is a function of (seed, image, level, draw) alone: not of batches, of what was computed
before, or of global state.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError


@displayed
@checked
@dataclass(frozen=True)
class Point:
    """Noisy images at one noise level.

    Attributes
    ----------
    x : Tensor, shape (batch, *shape)
        x0 + sigma * noise.
    sigma : Tensor, shape (batch,)
        The noise level, once an image.
    noise, x0 : Tensor, shape of x
        What x is made of.
    rows : Tensor, shape (batch,), int64
        Images of the bank, on the CPU.
    level, draw : int
        Index of the noise level and of the draw.
    """

    x: Tensor
    sigma: Tensor
    noise: Tensor
    x0: Tensor
    rows: Tensor
    level: int
    draw: int


@displayed
@checked
@dataclass(frozen=True)
class Bank:
    """Images, noise levels and a seed: every point follows from them.

    Attributes
    ----------
    x0 : Tensor, shape (n, *shape)
        Clean data; its device and dtype are those of the points.
    sigmas : sequence of float
        Noise levels, in units of the data; positive and finite.
    draws : int
        Independent noises for each image and level.
    seed : int
        Seed of all noise.
    """

    x0: Tensor
    sigmas: Sequence[float]
    draws: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.x0.ndim < 2 or len(self.x0) == 0 or not self.x0.is_floating_point():
            found = f"{self.x0.dtype} of shape {tuple(self.x0.shape)}"
            raise InputError("x0", found=found, expected="floating point images, (n >= 1, *shape)")
        if self.draws < 1 or not len(self.sigmas) or not all(0 < s < float("inf") for s in self.sigmas):
            found = f"{list(self.sigmas)[:5]}, {self.draws}"
            raise InputError("sigmas, draws", found=found, expected="positive finite noise levels and draws >= 1")

    def __len__(self) -> int:
        return len(self.x0)

    def contents(self) -> Tensor:
        """The same number for images with the same pixels: the first of them, (n,), int64."""
        seen: dict[bytes, int] = {}
        digests = (blake2b(image.tobytes()).digest() for image in (self.x0.float().cpu() + 0.0).numpy())  # -0 is 0
        return torch.tensor([seen.setdefault(digest, row) for row, digest in enumerate(digests)])

    def point(self, rows: Tensor, level: int, draw: int = 0) -> Point:
        """The points of some images at one noise level and draw."""
        x0 = self.x0[rows.to(self.x0.device)]
        noise = torch.stack([self._noise(int(row), level, draw) for row in rows]).to(x0)
        sigma = torch.full((len(rows),), float(self.sigmas[level]), dtype=x0.dtype, device=x0.device)
        x = x0 + float(self.sigmas[level]) * noise
        return Point(x, sigma, noise, x0, rows, level, draw)

    def points(self, *, rows: Tensor | None = None, batch: int = 256, progress: bool = False) -> Iterator[Point]:
        """All points, or those of some images (`rows`), noise level varying slowest, `batch` images at a time."""
        if batch < 1:
            raise InputError("batch", found=str(batch), expected="at least 1")
        chunks = (torch.arange(len(self)) if rows is None else rows).split(batch)
        total = len(self.sigmas) * self.draws * len(chunks)
        with tqdm(total=total, desc="bank", disable=not progress, leave=False) as bar:
            for level in range(len(self.sigmas)):
                for draw in range(self.draws):
                    for chunk in chunks:
                        yield self.point(chunk, level, draw)
                        bar.update()

    def _noise(self, row: int, level: int, draw: int) -> Tensor:
        # a counter-based key: neighbouring keys give independent streams
        key = np.random.SeedSequence([self.seed, row, level, draw]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(key[0]) >> 1)
        return torch.randn(self.x0.shape[1:], generator=generator)


@checked
def log_snr_grid(low: float, high: float, count: int) -> list[float]:
    """Noise levels evenly spaced in log-SNR = -2 ln sigma, falling from `low` log-SNR to `high`.

    Parameters
    ----------
    low, high : float
        Log-SNR of the first and the last level.
    count : int
        Number of levels.

    Raises
    ------
    InputError
        For fewer than two levels or an empty range.
    """
    if count < 2 or not low < high:
        raise InputError("low, high, count", found=f"{low}, {high}, {count}", expected="low < high and count >= 2")
    return [float(sigma) for sigma in np.exp(-np.linspace(low, high, count) / 2)]
