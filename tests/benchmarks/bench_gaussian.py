"""The Gaussian instrument: low rank against full, the streaming fit, the exact denoiser against GEMM, the report."""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from torch import Tensor

from scorescope.probes.approximations import Gaussian, TrainingSet, fit_gaussian
from tests.benchmarks.timing import seconds, side_by_side

IMAGE = 64 * 64 * 3


def main() -> None:
    low_rank()
    exact_denoiser()
    exact_against_broadcast()
    exact_memory()
    # apart, so that its peak memory is its own
    subprocess.run([sys.executable, "-c", "from tests.benchmarks import bench_gaussian as b; b.fit()"], check=True)
    report_time()


def random_gaussian(dimension: int, rank: int) -> Gaussian:
    """Not orthonormal: the cost of the products does not depend on it, and 12 288 columns take long to make so."""
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(dimension, rank, generator=generator) / dimension**0.5
    return Gaussian(torch.zeros(dimension), basis, torch.rand(rank, generator=generator), 0.1)


def low_rank() -> None:
    x, sigma = torch.randn(256, IMAGE), torch.full((256,), 2.0)
    ppca, full = random_gaussian(IMAGE, 512), random_gaussian(IMAGE, IMAGE)
    ours, peer, ratio = side_by_side(lambda: ppca(x, sigma), lambda: full(x, sigma), pairs=5)
    print(f"PPCA 512 of 12 288, batch 256: {ours:.3f} s against {peer:.3f} s full, ratio {ratio:.4f} (bound 0.06)")


def processor_seconds(work: Callable[[], object]) -> float:
    """Processor time of all threads: what others do on the machine meanwhile counts for little."""
    start = time.process_time()
    work()
    return time.process_time() - start


def exact_denoiser() -> None:
    exact = TrainingSet(torch.rand(50_000, 3, 32, 32))
    x, sigma = torch.rand(256, 3, 32, 32) + torch.randn(256, 3, 32, 32), torch.full((256,), 1.0)
    a, b = torch.randn(4096, 4096), torch.randn(4096, 4096)
    exact(x, sigma), a @ b
    shares = []
    for _ in range(5):
        rate = 2 * 4096**3 / processor_seconds(lambda: a @ b)
        taken = processor_seconds(lambda: exact(x, sigma))
        shares.append(4 * 256 * 50_000 * 3072 / taken / rate)
    print(
        f"exact denoiser, 50 000 x 3072, batch 256: {taken:.2f} processor seconds, {sorted(shares)[2]:.2f} of the rate "
        f"of a square GEMM, {rate / 1e9:.0f} GFLOP a processor second (bound 0.60)"
    )


def broadcast(x: Tensor, points: Tensor, sigma: float) -> Tensor:
    """The direct form: all differences, squared and summed; 32 points at once."""
    distances = [(x[:, None] - part[None]).square().sum(2) for part in points.split(32)]
    return (-torch.cat(distances, 1) / (2 * sigma**2)).softmax(1) @ points


def exact_against_broadcast() -> None:
    points, x = torch.rand(4000, 3072), torch.rand(256, 3072) + torch.randn(256, 3072)
    exact = TrainingSet(points)
    ours, peer, ratio = side_by_side(lambda: exact(x, 1.0), lambda: broadcast(x, points, 1.0), pairs=3)
    print(
        f"exact denoiser, 4000 x 3072, batch 256: {ours:.3f} s against {peer:.3f} s broadcast, "
        f"{1 / ratio:.1f} times faster (bound 3)"
    )


def exact_memory() -> None:
    """Most memory above the points themselves, building the law and calling it."""
    code = (
        "import pathlib, torch\n"
        "from scorescope.probes.approximations import TrainingSet\n"
        "status = pathlib.Path('/proc/self/status')\n"
        "read = lambda name: next(int(l.split()[1]) for l in status.read_text().splitlines() if l.startswith(name))\n"
        "points, x = torch.rand(50_000, 3072), torch.rand(256, 3072)\n"
        "x[:8] @ points[:8].mT\n"
        "pathlib.Path('/proc/self/clear_refs').write_text('5')  # the peak starts from here\n"
        "before = read('VmRSS')\n"
        "exact = TrainingSet(points, chunk={chunk})\n"
        "exact(x, 1.0)\n"
        "print((read('VmHWM') - before) / 1024)\n"
    )
    for chunk in (1024, 4096, 16384):
        found = subprocess.run([sys.executable, "-c", code.format(chunk=chunk)], check=True, capture_output=True)
        bound = (2 * chunk * 3072 + 6 * 256 * chunk + 8 * 256 * 3072) * 4 / 1e6
        print(
            f"exact denoiser, chunk {chunk}: {float(found.stdout):.0f} MB more than the 614 MB of points "
            f"(two chunks and the batch: {bound:.0f} MB)"
        )


def fit() -> None:
    """Data with known eigenvalues: orthonormal factors, variance 1 / k along mode k, 2048 modes."""
    generator, n, modes, rank = torch.Generator().manual_seed(0), 10_000, 2048, 512
    left = torch.randn(n, modes + 1, generator=generator)
    left[:, 0] = 1  # the others end up orthogonal to it: centred
    left = torch.linalg.qr(left)[0][:, 1:]
    right = torch.linalg.qr(torch.randn(IMAGE, modes, generator=generator))[0]
    exact = 1 / torch.arange(1, modes + 1, dtype=torch.float64)
    data = (left * (exact * n).sqrt().float()) @ right.mT
    del left, right
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    held: list[Gaussian] = []
    taken = seconds(lambda: held.append(fit_gaussian(data, rank=rank)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    error = (held[0].eigenvalues.double() / exact[:rank] - 1).abs()
    print(
        f"fit, n = 10 000, d = 12 288, r = 512: {taken:.0f} s (bound 120), peak {max(peak, start):.1f} GB with the "
        f"data (bound 4), eigenvalue error {error[: rank // 2].max():.1e} in the first half (bound 1e-3), "
        f"{error.max():.1e} in all"
    )


def report_time() -> None:
    for size, bound in (("--quick", 60), ("", 180)):
        with tempfile.TemporaryDirectory() as out:
            command = [sys.executable, "-m", "scorescope.reports", "report", "gaussian", "--out", out, *size.split()]
            took = seconds(lambda command=command: subprocess.run(command, check=True, capture_output=True))
        print(f"scorescope report gaussian {size or '(full size)'}: {took:.1f} s (bound {bound})")
