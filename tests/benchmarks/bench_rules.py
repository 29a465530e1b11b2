"""Rules: APG against diffusers' `normalized_guidance`, and the memory that each rule takes."""

import os
import statistics
import subprocess
import sys
from pathlib import Path

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
from tests.benchmarks.timing import seconds

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
    apg_cost()
    rule_memory()


def states() -> tuple[Tensor, Tensor, GuidanceState]:
    """cond, uncond and the state that a rule is called with."""
    generator = torch.Generator().manual_seed(0)
    cond, noise, other = (torch.randn(SHAPE, generator=generator) for _ in range(3))
    x = cond.add(noise, alpha=2.0)
    return cond, other.mul_(0.1).add_(cond), GuidanceState(x, 2.0, 1.0, 3, 0)


def apg_cost() -> None:
    """Each in processes of its own, in turn: large temporaries of one would change what memory costs the other."""
    for threads in (torch.get_num_threads(), 1):
        for momentum in (0.0, -0.5):
            found = [[_timed(who, momentum, threads) for who in ("ours", "peer")] for _ in range(5)]
            ours, peer = (statistics.median(pair[k][0] for pair in found) for k in (0, 1))
            first = statistics.median(pair[1][1] / pair[0][1] for pair in found)
            ratio = statistics.median(pair[1][0] / pair[0][0] for pair in found)
            print(
                f"APG on {SHAPE} float32, momentum {momentum}, {threads} threads: {ours:.1f} ms against {peer:.1f} ms, "
                f"{ratio:.1f} times faster (bound 6), first calls {first:.1f} times; "
                f"error against float64 {found[0][0][2]:.1e}, theirs {found[0][1][2]:.1e} (bound 1e-6)"
            )


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
