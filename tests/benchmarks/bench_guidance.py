"""The main job: cost of recording, of the decomposition, of the report; memory of both."""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from scorescope.data import load_denoiser
from scorescope.probes import CFG, Recording, sample
from scorescope.probes.decomposition import branch_products
from tests.benchmarks.timing import seconds, side_by_side


def main() -> None:
    recording_cost()
    recording_memory()
    decomposition_cost()
    decomposition_memory()
    report_time()


def recording_cost() -> None:
    denoiser, _ = load_denoiser("digits")
    labels = torch.arange(256) % 10

    def run(record: Recording | None) -> None:
        sample(denoiser, seeds=range(256), condition=labels, rule=CFG(4.0), record=record, progress=False)

    ours, bare, ratio = side_by_side(lambda: run(Recording(value_range=(-1, 1))), lambda: run(None))
    print(
        f"recording all scalars, batch 256, 18 Heun steps: {ours:.3f} s against {bare:.3f} s, "
        f"median ratio of 7 pairs {ratio:.3f} (bound 1.03)"
    )


def recording_memory() -> None:
    trace = sample(
        lambda x, sigma, condition: x / 2, seeds=range(100), shape=(8,), condition=torch.zeros(100), rule=CFG(2.0),
        record=Recording(value_range=(-1, 1)), progress=False,
    ).trace  # fmt: skip
    megabytes = trace.scalars.memory_usage(deep=True).sum() / 1e6
    print(f"trace: {1000 * megabytes / len(trace.scalars):.3f} MB per 1000 sample-calls (bound 1)")


def usual_form(cond: Tensor, uncond: Tensor) -> Tensor:
    """Upcast both, normalise, project, subtract: norms of update, parallel and orthogonal part."""
    cond, uncond = cond.double(), uncond.double()
    update = cond - uncond
    axes = tuple(range(1, cond.ndim))
    unit = torch.nn.functional.normalize(cond, dim=axes)
    parallel = (update * unit).sum(axes, keepdim=True) * unit
    orthogonal = update - parallel
    return torch.stack([part.square().sum(axes).sqrt() for part in (update, parallel, orthogonal)])


def streamed(cond: Tensor, uncond: Tensor) -> Tensor:
    sums = branch_products(cond, uncond)
    parallel = sums["update_cond"] ** 2 / sums["cond_sq"]
    return torch.stack([sums["update_sq"], parallel, sums["update_sq"] - parallel]).sqrt()


def pair(device: str = "cpu") -> tuple[Tensor, Tensor]:
    cond = torch.randn(64, 4, 128, 128, generator=torch.Generator().manual_seed(0))
    return cond.to(device), (cond + 0.1 * torch.randn(cond.shape)).to(device)


def decomposition_cost() -> None:
    cond, uncond = pair()
    error = (streamed(cond, uncond) / usual_form(cond, uncond) - 1).abs().max().item()
    ours, usual, ratio = side_by_side(lambda: streamed(cond, uncond), lambda: usual_form(cond, uncond))
    print(
        f"decomposition of (64, 4, 128, 128) float32: {1e3 * ours:.1f} ms against {1e3 * usual:.1f} ms, "
        f"{1 / ratio:.1f} times faster (bound 10), largest relative difference {error:.1e}"
    )


def decomposition_memory() -> None:
    """Peak resident memory of each form in a process of its own, above that of the inputs."""
    grown = {name: int(_in_process(f"memory_of('{name}')")) for name in ("streamed", "usual_form")}
    print(
        f"extra memory: {grown['streamed'] / 1024:.1f} MB against {grown['usual_form'] / 1024:.1f} MB, "
        f"ratio {grown['streamed'] / grown['usual_form']:.3f} (bound 0.1)"
    )


def memory_of(name: str) -> None:
    cond, uncond = pair()
    work = {"streamed": streamed, "usual_form": usual_form}[name]
    work(cond[:1], uncond[:1])
    Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak so far
    before = peak_kilobytes()
    work(cond, uncond)
    print(peak_kilobytes() - before)


def peak_kilobytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def report_time() -> None:
    for size, bound in (("--quick", 45), ("", 120)):
        with tempfile.TemporaryDirectory() as out:
            command = [sys.executable, "-m", "scorescope.reports", "report", "guidance", "--out", out, *size.split()]
            took = seconds(lambda command=command: subprocess.run(command, check=True, capture_output=True))
        print(f"scorescope report guidance {size or '(full size)'}: {took:.1f} s (bound {bound})")


def _in_process(call: str) -> str:
    code = f"from tests.benchmarks.bench_guidance import *; {call}"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
