"""Rules: against diffusers' guiders, APG against its `normalized_guidance`, and the memory that each rule takes."""

import itertools
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorescope.probes import APG, CFG, Interval
from scorescope.probes.guidance import (
    CFGPP,
    AdaptiveGuidance,
    CFGZeroStar,
    DynamicThreshold,
    FrequencyDecoupled,
    GuidanceState,
    LinearWeight,
    MagnitudeAware,
    Rescaled,
    Rule,
    Scheduled,
    TangentialCFG,
)
from scorescope.probes.models.spaces import from_denoised, to_denoised
from tests.benchmarks.timing import Row, compared, seconds, show, version

SHAPE = (64, 4, 128, 128)
RULES: dict[str, Rule] = {
    "CFG": CFG(4.0),
    "CFGPP": CFGPP(0.6),
    "APG": APG(4.0, norm=15.0),
    "APG with momentum": APG(4.0, norm=15.0, momentum=-0.5),
    "Interval": Interval(APG(4.0, norm=15.0)),
    "Scheduled": Scheduled(CFG(4.0), LinearWeight(1.0, 4.0)),
    "Rescaled": Rescaled(CFG(4.0)),
    "DynamicThreshold": DynamicThreshold(CFG(4.0)),
    "AdaptiveGuidance": AdaptiveGuidance(CFG(4.0)),
    "TangentialCFG": TangentialCFG(4.0),
    "CFGZeroStar": CFGZeroStar(4.0),
    "MagnitudeAware": MagnitudeAware(4.0),
    "FrequencyDecoupled": FrequencyDecoupled((1.5, 4.0)),
}


def main() -> None:
    show(itertools.chain(guider_rows(), apg_rows()))
    rule_memory()


def states() -> tuple[Tensor, Tensor, GuidanceState]:
    """cond, uncond and the state that a rule is called with."""
    generator = torch.Generator().manual_seed(0)
    cond, noise, other = (torch.randn(SHAPE, generator=generator) for _ in range(3))
    x = cond.add(noise, alpha=2.0)
    return cond, other.mul_(0.1).add_(cond), GuidanceState(x, 2.0, 1.0, 3, 0)


def apg_rows() -> Iterator[Row]:
    """Each in processes of its own, in turn: large temporaries of one would change what memory costs the other."""
    for threads in sorted({1, torch.get_num_threads()}):
        for momentum in (0.0, -0.5):
            found = [[_timed(who, momentum, threads) for who in ("ours", "peer")] for _ in range(3)]
            ours, peer = (statistics.median(pair[k][0] for pair in found) / 1e3 for k in (0, 1))
            first = statistics.median(pair[0][1] / pair[1][1] for pair in found)
            ratio = statistics.median(pair[0][0] / pair[1][0] for pair in found)
            yield Row(
                f"APG on {SHAPE}, momentum {momentum:g}, threads {threads}, wall time", version("diffusers"), ours,
                peer, ratio, found[0][0][2], f"first calls {first:.2f}; theirs errs by {found[0][1][2]:.1e}",
            )  # fmt: skip


def guider_rows(pairs: int = 5) -> Iterator[Row]:
    """Each rule against the installed guider, in the space that it works in: numbers in float64, time in float32."""
    for name, rule, space, peer, flat in _guiders():
        rows = []
        for shape, dtype in (((4, 4, 32, 32), torch.float64), ((16, 4, 64, 64), torch.float32)):
            generator = torch.Generator().manual_seed(0)
            shape = (shape[0], shape[1] * shape[2], shape[3]) if flat else shape  # packed, as flow transformers have it
            cond, noise, other = (torch.randn(shape, generator=generator, dtype=dtype) for _ in range(3))
            uncond = cond + 0.1 * other
            state = GuidanceState(cond + 2 * noise, 2.0, 1.0, 3, 0)
            raw = [from_denoised(d, state.x, state.level, space=space) for d in (cond, uncond)]

            def ours(rule: Rule = rule, given: Any = (cond, uncond, state)) -> Tensor:
                given[2].memory.clear()
                return rule(*given)

            def back(pred: Tensor, x: Tensor = state.x, level: Any = state.level, space: Any = space) -> Tensor:
                return to_denoised(pred, x, level, space=space)

            what = f"{name}, on {space} predictions"
            rows.append(compared(what, version("diffusers"), ours, partial(peer, *raw), numbers=back, pairs=pairs))
        yield replace(rows[1], error=rows[0].error, note=f"float32, {shape}; error in float64")


def _guiders() -> Iterator[tuple[str, Rule, Any, Callable[..., Tensor], bool]]:
    import diffusers
    from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance
    from diffusers.guiders.magnitude_aware_guidance import mambo_guidance
    from diffusers.guiders.tangential_classifier_free_guidance import normalized_guidance as tangential

    def through(guider: Any) -> Callable[..., Tensor]:
        guider.set_state(3, 10, torch.tensor(0))
        return lambda cond, uncond: guider.forward(cond, uncond).pred

    def apg(momentum: float) -> Callable[..., Tensor]:
        def call(cond: Tensor, uncond: Tensor) -> Tensor:
            buffer = MomentumBuffer(momentum) if momentum else None
            return normalized_guidance(cond, uncond, 3.0, buffer, 0.0, 15.0, use_original_formulation=True)

        return call

    yield "CFG", CFG(4.0), "denoised", through(diffusers.ClassifierFreeGuidance(4.0)), False
    yield "APG", APG(4.0, norm=15.0), "denoised", apg(0.0), False
    yield "APG with momentum", APG(4.0, norm=15.0, momentum=-0.5), "denoised", apg(-0.5), False
    rescaled = through(diffusers.ClassifierFreeGuidance(4.0, guidance_rescale=0.7))
    yield "rescaled CFG", Rescaled(CFG(4.0), phi=0.7, space="v"), "v", rescaled, False
    yield "CFG-Zero*", CFGZeroStar(4.0), "flow", through(diffusers.ClassifierFreeZeroStarGuidance(4.0)), False
    yield "magnitude-aware", MagnitudeAware(4.0, alpha=8.0), "flow", lambda c, u: mambo_guidance(c, u, 4.0, 8.0), True
    yield "tangential", TangentialCFG(4.0), "eps", lambda c, u: tangential(c, u, 4.0), False


def _timed(who: str, momentum: float, threads: int) -> list[float]:
    code = f"from tests.benchmarks.bench_rules import *; apg_times({who!r}, {momentum}, {threads})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return [float(word) for word in done.stdout.split()]


def apg_times(who: str, momentum: float, threads: int) -> None:
    """Print the median of 15 calls after 5, the mean of the first 3 (milliseconds), and the error of one."""
    from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance

    torch.set_num_threads(threads)
    cond, uncond, state = states()
    rule = APG(4.0, norm=15.0, momentum=momentum)

    def ours() -> Tensor:
        state.memory.clear()
        return rule(cond, uncond, state)

    def peer() -> Tensor:
        buffer = MomentumBuffer(momentum) if momentum else None
        return normalized_guidance(cond, uncond, 3.0, buffer, 0.0, 15.0, use_original_formulation=True)

    call = {"ours": ours, "peer": peer}[who]
    took = [1e3 * seconds(call) for _ in range(20)]
    exact = normalized_guidance(cond.double(), uncond.double(), 3.0, None, 0.0, 15.0, True)
    error = (call() - exact).abs().max() / exact.abs().max()
    print(statistics.median(took[5:]), statistics.mean(took[:3]), float(error))


def rule_memory() -> None:
    """Peak memory of each rule in a process of its own, above its inputs and its result, in branches."""
    branch = torch.Size(SHAPE).numel() * 4 / 1024
    # every tensor in a mapping of its own, so that what is freed is gone and the peak is what was held at once
    settings = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_MMAP_MAX_": "1000000"}
    for name in RULES:
        code = f"from tests.benchmarks.bench_rules import *; memory_of({name!r})"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=settings)
        print(f"{name}: {int(done.stdout) / branch - 1:.2f} temporaries of one branch's size (bound 2)")


def memory_of(name: str) -> None:
    cond, uncond, state = states()
    first = GuidanceState(state.x[:1], state.sigma, state.sigma_next, state.step, state.call)
    RULES[name](cond[:1], uncond[:1], first)
    Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak so far
    before = peak_kilobytes()
    RULES[name](cond, uncond, state)
    print(peak_kilobytes() - before)


def peak_kilobytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
