"""Recordings that go on, or do not: interrupted, resumed, refused; and those that never touch a disk."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from scorescope.probes import Trace, record


class Scheduler:
    """Given noise levels, whatever their order; the state moves a little."""

    def __init__(self, sigmas: list[float]) -> None:
        self.sigmas = torch.tensor([*sigmas, 0.0])
        self.timesteps, self.step_index = self.sigmas[:-1] * 1000, 0

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor) -> tuple[Tensor]:
        self.step_index += 1
        return (sample - 0.1 * model_output,)


class Net(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x)


SIGMAS = [0.9, 0.6, 0.3]


def toy(sigmas: list[float] | None = None, net: nn.Module | None = None) -> Any:
    """Something with a denoiser and a scheduler."""
    return SimpleNamespace(net=net or Net(), scheduler=Scheduler(sigmas or SIGMAS))


def run(pipe: Any, seed: int = 0, steps: int | None = None) -> None:
    """One run of the toy, or its first steps."""
    pipe.scheduler.step_index = 0
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    for t in pipe.scheduler.timesteps[:steps]:
        x = pipe.scheduler.step(pipe.net(x), t, x)[0]


@pytest.mark.parametrize(
    ("sigmas", "every"),
    [
        ([0.9, 0.5, 0.9, 0.5, 0.9], (4.0, 20.0)),  # 9 and 1 variance exploding: left and entered again
        ([0.9] + 300 * [0.5], (4.0, 20.0)),  # many steps after the last that is kept
        ([0.5, 0.5, 0.9, 0.9, 0.5], (4.0, 20.0)),
    ],
)
def test_what_is_kept_in_memory_is_what_is_kept_on_disk(
    sigmas: list[float], every: tuple[float, float], tmp_path: Path
) -> None:
    traces = []
    for path in (None, tmp_path / "a"):
        pipe = toy(sigmas)
        with record(pipe, keep="latents", every=every, path=path, progress=False) as trace:
            run(pipe)
        traces.append(trace)
    pd.testing.assert_frame_equal(traces[0].scalars, traces[1].scalars)
    kept = [place for place, sigma in enumerate(sigmas) if sigma > 0.8]
    for trace in traces:
        assert [place for place, event in enumerate(trace.arrays.events) if event["arrays"]] == kept
    for place in kept:
        assert torch.equal(traces[0].load("x_prev", place), traces[1].load("x_prev", place))
