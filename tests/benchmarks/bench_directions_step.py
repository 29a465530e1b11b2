"""Captum on a step within a memory budget, and Jacobian directions against their count of forward passes."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from scorescope.data.unet import EDMDenoiser, UNetConfig
from scorescope.probes.gradients.heads import projection
from scorescope.probes.gradients.jacobian import jacobian_directions
from scorescope.probes.gradients.step import Step, make_step
from scorescope.probes.gradients.step_attribution import attribute_step
from tests.benchmarks.timing import Row, compared, show, side_by_side, version

CONFIG = UNetConfig(shape=(3, 32, 32), channels=(32, 64, 96), attributes=(3, 6, 3, 3, 4, 4), patch=2)
SAMPLES, STEPS, SITE = 8, 20, "network.middle1"
MIB = 2**20


def build(samples: int) -> Step:
    torch.manual_seed(0)
    denoiser = EDMDenoiser(CONFIG, 0.5).eval()
    for parameter in denoiser.parameters():
        parameter.data = torch.randn_like(parameter) / (parameter[0].numel() if parameter.ndim > 1 else 100) ** 0.5
    x = torch.randn(samples, 3, 32, 32)
    labels = torch.zeros(samples, 6, dtype=torch.int64)
    return make_step(denoiser, x, 1.0, labels, head=projection(torch.randn(3, 32, 32)), weight=3.0)


def peak(memory: int, method: str, to: str) -> tuple[float, int]:
    """MiB that one attribution takes beyond what was resident before, in a process of its own, and its rows."""
    code = f"from tests.benchmarks.bench_directions_step import measure; measure({memory}, {method!r}, {to!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    used, rows = done.stdout.split()
    return float(used), int(rows)


def measure(memory: int, method: str, to: str) -> None:
    """Print the peak of resident memory of one attribution, in MiB, and the samples that passed at once."""
    step = build(SAMPLES)
    attribute_step(build(1), method, to=to, n_steps=2, memory=memory)  # captum, kernels and hooks are loaded
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # resets the high-water mark
    before = _status("VmRSS")
    found = attribute_step(step, method, to=to, n_steps=STEPS, memory=memory)
    print((_status("VmHWM") - before) / 1024, found.internal_batch_size)


def _status(field: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field))


UNBOUNDED = 2**34


def memory() -> None:
    for method, to in (
        ("IntegratedGradients", "tokens"),
        ("LayerIntegratedGradients", SITE),
        ("FeatureAblation", "tokens"),
    ):
        for budget in (24 * MIB, 64 * MIB):
            used, rows = peak(budget, method, to)
            print(f"{method} to {to}: budget {budget // MIB} MiB, measured {used:.0f} MiB, {rows} samples at once")
        used, rows = peak(UNBOUNDED, method, to)
        print(f"{method} to {to}: unbounded, measured {used:.0f} MiB")


def timing() -> None:
    step = build(SAMPLES)
    run = partial(attribute_step, step, "IntegratedGradients", n_steps=STEPS)
    ours, peer, ratio = side_by_side(lambda: run(memory=24 * MIB), lambda: run(memory=UNBOUNDED), pairs=3)
    print(f"IntegratedGradients: {ours:.2f} s in 24 MiB, {peer:.2f} s unbounded, median ratio {ratio:.2f}")


def captum_rows() -> Iterator[Row]:
    """Ours beside captum called plainly on the same function, with its defaults: all points of a path at once."""
    from captum.attr import FeatureAblation, IntegratedGradients

    step = build(SAMPLES)
    rest = (step.x, step.uncond, step.null, *step.constants)
    frame = {"inputs": step.tokens, "baselines": step.null, "additional_forward_args": rest}
    groups = torch.arange(step.tokens.shape[1])[None, :, None].expand_as(step.tokens)
    width = step.tokens.shape[2]

    def integrated() -> Tensor:
        return IntegratedGradients(step.value).attribute(**frame, n_steps=STEPS, method="gausslegendre")

    def ablated() -> Tensor:
        with torch.no_grad():
            return FeatureAblation(step.value).attribute(**frame, feature_mask=groups) / width  # of a group, spread

    for name, theirs in (("IntegratedGradients", integrated), ("FeatureAblation", ablated)):
        ours = partial(attribute_step, step, name, n_steps=STEPS, memory=64 * MIB)
        yield compared(
            f"{name} to tokens, {SAMPLES} samples", version("captum"), lambda ours=ours: ours().values, theirs, pairs=3,
            note="ours in 64 MiB, with the completeness of its sums",
        )  # fmt: skip


def jacobian() -> None:
    step = build(4)
    count, iterations, spare = 5, 2, 2
    rows = step.x.repeat_interleave(count + spare, 0), step.tokens.repeat_interleave(count + spare, 0)

    def directions(of: str, to: str) -> None:
        jacobian_directions(
            step.denoiser, step.x, 1.0, step.tokens, of=of, to=to, count=count, iterations=iterations, tolerance=0.0
        )

    def forwards() -> None:
        with torch.no_grad():
            for _ in range(iterations):
                step.denoise(*rows)

    for of, to in ((SITE, "x"), ("denoised", "tokens"), ("denoised", "x")):
        ours, _, ratio = side_by_side(partial(directions, of, to), forwards, pairs=3)
        print(f"d({of})/d({to}): {ours:.2f} s, {ratio:.2f} forwards a vector and iteration, bound 5")


def main() -> None:
    memory()
    timing()
    show(captum_rows())
    jacobian()


if __name__ == "__main__":
    main()
