"""Replaying ten rules over a recorded run: against loading the same trace once."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scorescope.probes import APG, CFG, Interval, Trace, record
from scorescope.probes.experiments import replay_all, visits
from scorescope.probes.guidance import AdaptiveGuidance, CFGZeroStar, MagnitudeAware, Rescaled, TangentialCFG
from tests.benchmarks.timing import seconds

STEPS, BATCH, SHAPE = 50, 64, (4, 64, 64)
RULES = [
    CFG(2.0),
    CFG(7.5),
    APG(7.5),
    APG(7.5, norm=15.0),
    Interval(CFG(7.5), low=0.3, high=5.0),
    AdaptiveGuidance(CFG(7.5)),
    Rescaled(CFG(7.5)),
    TangentialCFG(7.5),
    CFGZeroStar(7.5),
    MagnitudeAware(7.5),
]


class Branches(nn.Module):
    """A network that costs next to nothing: the benchmark is about its trace."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        cond, uncond = x.chunk(2)
        return torch.cat([0.9 * cond, 0.8 * uncond + 0.01])


class Pipeline:
    """A user's own loop: doubled batch, classifier-free guidance."""

    def __init__(self) -> None:
        from diffusers import DDIMScheduler

        self.unet, self.scheduler = Branches(), DDIMScheduler()

    @torch.no_grad()
    def __call__(self) -> Tensor:
        self.scheduler.set_timesteps(STEPS)
        x = torch.randn(BATCH, *SHAPE, generator=torch.Generator().manual_seed(0))
        for t in self.scheduler.timesteps:
            uncond, cond = self.unet(torch.cat([x, x]), t).chunk(2)
            x = self.scheduler.step(uncond + 7.5 * (cond - uncond), t, x, return_dict=False)[0]
        return x


def load(path: Path) -> Any:
    for visit in visits(Trace.open(path)):
        visit.x.sum()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, pipe = Path(folder) / "trace", Pipeline()
        with record(pipe, keep="all", path=path):
            pipe()
        load(path)
        reading = min(seconds(lambda: load(path)) for _ in range(3))
        replaying = min(seconds(lambda: replay_all(Trace.open(path), RULES)) for _ in range(2))
    print(
        f"replaying {len(RULES)} rules over {BATCH} x {STEPS} x {SHAPE}: {replaying:.1f} s, "
        f"loading alone {reading:.1f} s, ratio {replaying / reading:.2f} (bound 2)"
    )
