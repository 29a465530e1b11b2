"""Inputs of any size for cases of growth: numbers that are none's, in the form that the instruments are given."""

import functools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from scorescope.probes import CFG, Recording, Trace, sample
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import Euler, Path
from tests.benchmarks.bench_recording import _Pattern, _Scheduler


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed))


def rows(n: int, d: int, seed: int = 0) -> Any:
    """Features (n, d), float64."""
    return np.random.default_rng(seed).normal(size=(n, d))


def halved(x: Tensor, sigma: Tensor, condition: Any = None) -> Tensor:
    """The denoiser of N(0, sigma^2), which costs next to nothing; with a condition, a little more."""
    return x * (0.5 if condition is None else 0.6)


def run(samples: int, steps: int, dim: int, weight: float = 2.0, **more: Any) -> Trace:
    """A recorded run of that denoiser."""
    return sample(
        halved, seeds=range(samples), shape=(dim,), condition=torch.zeros(samples), rule=CFG(weight), solver=Euler(),
        sigmas=edm_sigmas(steps), record=Recording(value_range=(-1, 1), **more), progress=False,
    ).trace  # fmt: skip


@functools.cache
def _template(steps: int) -> Trace:
    return run(1, steps, 8)


def trace(samples: int, steps: int, seed: int = 0) -> Trace:
    """One sample's scalars, again and again, with inner products of its own for each."""
    one = _template(steps)
    scalars = pd.concat([one.scalars] * samples, ignore_index=True)
    scalars["sample"] = np.repeat(np.arange(samples), len(one.scalars))
    noise = np.random.default_rng(seed).uniform(0.5, 2.0, len(scalars))
    for name in scalars.select_dtypes("float64"):
        if name.endswith("_sq"):
            scalars[name] *= noise
    table = pd.concat([one.samples] * samples, ignore_index=True).assign(sample=range(samples), seed=range(samples))
    return Trace(scalars, table, one.manifest)


def path(samples: int, steps: int, dim: int) -> Path:
    """States and predictions of no sampler."""
    states, denoised = normal(steps, samples, dim), normal(steps, samples, dim, seed=1)
    return Path(tuple(edm_sigmas(steps)[:-1]), states, denoised, normal(samples, dim, seed=2), steps)


def pipeline(samples: int, steps: int, side: int = 8) -> SimpleNamespace:
    """What `record` listens to, with a network and a scheduler that compute nothing, and what it is called with."""
    pipe = SimpleNamespace(net=_Pattern((samples, 4, side, side)), scheduler=_Scheduler(steps))
    x = torch.randn(samples, 4, side, side)
    return SimpleNamespace(pipe=pipe, x=x, guided=torch.lerp(*pipe.net.pattern.chunk(2), 5.0))


def call(made: SimpleNamespace) -> None:
    """One run of that pipeline."""
    made.pipe.scheduler.step_index = 0
    with torch.no_grad():
        for t in made.pipe.scheduler.timesteps:
            made.pipe.net(made.x)
            made.pipe.scheduler.step(made.guided, t, made.x)


class Sites(nn.Module):
    """A denoiser of (4, 4, 4) with `count` sites of `channels` channels."""

    shape = (4, 4, 4)

    def __init__(self, count: int, channels: int) -> None:
        super().__init__()
        self.widen = nn.Identity()
        self.blocks = nn.ModuleList(nn.Identity() for _ in range(count))
        self.channels = channels

    def forward(self, x: Tensor, sigma: Tensor, condition: Any = None) -> Tensor:
        wide = x.repeat(1, self.channels // 4, 1, 1)
        for block in self.blocks:
            wide = block(wide)
        return wide[:, :4] * 0.5
