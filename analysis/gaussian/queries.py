"""Where a denoiser is asked: data plus noise, noise alone, or the states that a sampler visits.

The answer at low noise differs by a factor of ten between these, so every comparison names its query.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.models.noise import SampleNoise, edm_sigmas
from scorescope.probes.sampling.paths import run_path

QUERIES = {
    "held_out": "held-out data + sigma n",
    "train": "training data + sigma n",
    "noise": "sigma n, no data in it",
    "path": "states on the sampler's path",
}


def query_noise(points: range, seed: int, data: Tensor) -> Tensor:
    """Standard normal noise of some points, shape (points, *shape): that of a point depends on its number only."""
    seeds = [seed * 1_000_003 + point for point in points]
    return SampleNoise(seeds, tuple(data.shape[1:]), data.device, data.dtype).draw()


def query_states(
    denoiser: Denoiser, clean: Tensor, noise: Tensor, condition: Condition, query: str, sigmas: Sequence[float]
) -> Iterator[Tensor]:
    """The points asked about, one noise level after the other.

    Parameters
    ----------
    denoiser : Denoiser
        Whose path is followed, for the query "path".
    clean, noise : Tensor, shape (batch, *shape)
        Images, which only the queries on data use, and standard normal noise.
    condition : optional
        One row an image, for "path".
    query : str
        One of `QUERIES`.
    sigmas : sequence of float
        Noise levels; falling for "path".

    Yields
    ------
    Tensor, shape (batch, *shape)
        States, variance exploding.
    """
    if query != "path":
        base = torch.zeros_like(clean) if query == "noise" else clean
        yield from (base + sigma * noise for sigma in sigmas)
        return
    top, bottom = max(80.0, sigmas[0]), min(0.002, sigmas[-1])
    fine = sorted({*edm_sigmas(40, sigma_min=bottom, sigma_max=top)[:-1], *map(float, sigmas)}, reverse=True)
    path = run_path(denoiser, top * noise, fine, condition=condition)
    where = {sigma: index for index, sigma in enumerate(path.sigmas)}
    yield from (path.states[where[float(sigma)]] for sigma in sigmas)
