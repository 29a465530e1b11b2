"""Randomness that belongs to a sample, and the noise levels a sampler visits.

Each sample draws from its own generator, made from its seed on the CPU, so that a sample does not depend on
the batch it was drawn in or on the device.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError


@checked
class SampleNoise:
    """Standard normal noise, one generator a sample.

    Parameters
    ----------
    seeds : sequence of int
        One seed a sample.
    shape : tuple of int
        Shape of one sample.
    device, dtype
        Of the noise that is returned; it is drawn as float32 on the CPU in any case.
    """

    def __init__(self, seeds: Sequence[int], shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._shape, self._device, self._dtype = shape, device, dtype

    def draw(self) -> Tensor:
        """The next noise of every sample, shape (batch, *shape)."""
        noise = torch.stack([torch.randn(self._shape, generator=generator) for generator in self._generators])
        return noise.to(device=self._device, dtype=self._dtype)


@checked
def edm_sigmas(steps: int = 18, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> list[float]:
    """Noise levels of Karras et al. 2022 (arXiv 2206.00364), eq. 5, with a final 0.

    Parameters
    ----------
    steps : int
        Number of steps; the result has steps + 1 levels.
    sigma_min, sigma_max : float
        Ends of the grid, in units of the data.
    rho : float
        Larger values place more of the steps at low noise.

    Returns
    -------
    list of float
        Falling from sigma_max to sigma_min, then 0.
    """
    if steps < 1:
        raise InputError("steps", found=str(steps), expected="at least 1")
    if not 0 < rho < float("inf"):
        raise InputError("rho", found=str(rho), expected="a positive number")
    if not 0 < sigma_min < sigma_max < float("inf"):
        raise InputError(
            "sigma_min, sigma_max", found=f"{sigma_min}, {sigma_max}", expected="0 < sigma_min < sigma_max"
        )
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    ramp = [i / (steps - 1) if steps > 1 else 0.0 for i in range(steps)]
    return [(high + t * (low - high)) ** rho for t in ramp] + [0.0]


def check_sigmas(sigmas: Sequence[float]) -> None:
    """Raise `InputError` unless the levels fall, are positive, and end at a last level >= 0."""
    falling = all(a > b for a, b in itertools.pairwise(sigmas))
    if len(sigmas) < 2 or not falling or not sigmas[-1] >= 0 or not sigmas[0] < float("inf"):
        raise InputError(
            "sigmas", found=str(list(sigmas)), expected="at least two finite levels, falling, positive but for a last 0"
        )
