"""Ours beside the libraries that do the same, in one table: time, its ratio, and the difference of the numbers.

    OMP_NUM_THREADS=1 python -m tests.benchmarks peers              # every group, each in a process of its own
    OMP_NUM_THREADS=1 python -m tests.benchmarks peers fid rules

Medians of pairs run in turn; processor time where the line does not say wall time. A ratio below 1 is ours faster. The
difference is the largest over the largest number. What is not installed is in the table with the reason.
"""

import importlib.util
import itertools
import os
import platform
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from scorescope.data import load_denoiser
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import Heun, sample
from scorescope.probes.sparse import train_sparse
from tests.benchmarks import bench_directions_step, bench_fid_peers, bench_recording, bench_rules
from tests.benchmarks.bench_guidance import pair, streamed, usual_form
from tests.benchmarks.timing import HEADER, Row, compared, find, version


def formulas() -> Iterator[Row]:
    """Forms written out from papers."""
    denoiser, _ = load_denoiser("digits")
    sigmas, labels = edm_sigmas(18), torch.arange(64) % 10
    start = 80 * torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    def ours() -> Tensor:
        run = sample(denoiser, seeds=range(64), condition=labels, solver=Heun(), sigmas=sigmas, start=start,
                     progress=False)  # fmt: skip
        return run.samples

    @torch.no_grad()
    def by_hand() -> Tensor:
        """Karras et al. 2022, algorithm 1."""
        x = start
        for k, (t, after) in enumerate(itertools.pairwise(sigmas)):
            d = (x - denoiser(x, torch.full((64,), t), labels)) / t
            euler = x + (after - t) * d
            if k < len(sigmas) - 2:
                d_after = (euler - denoiser(euler, torch.full((64,), after), labels)) / after
                x = x + (after - t) * (d / 2 + d_after / 2)
            else:
                x = euler
        return x

    yield compared("EDM sampler of the digits' network, 64 samples, 18 steps", "written from its paper", ours, by_hand)
    cond, uncond = pair()
    yield compared(
        "decomposition of the update, (64, 4, 128, 128)", "written from the paper of APG, float64",
        lambda: streamed(cond, uncond), lambda: usual_form(cond, uncond),
    )  # fmt: skip


def sparse() -> Iterator[Row]:
    """Training of sparse autoencoders: a like step, not the same numbers."""
    peer, whole = version("overcomplete"), importlib.util.find_spec("overcomplete")
    if whole is not None:  # its autoencoders alone: its face imports torchvision, timm, OpenCV and an older matplotlib
        bench_fid_peers.stand_in("einops")
        sys.modules["overcomplete"] = package = types.ModuleType("overcomplete")
        package.__path__ = list(whole.submodule_search_locations or [])
    module = find("overcomplete.sae")
    what = "training a TopK autoencoder, 1024 features of width 64, 20 steps of 1024 rows"
    if isinstance(module, str):
        yield Row(what, peer, note=module)
        return
    torch.set_num_threads(1)
    rows = torch.randn(1024, 64, generator=torch.Generator().manual_seed(0))

    def theirs() -> None:
        model = module.TopKSAE(64, 1024, top_k=16)
        module.train_sae(
            model, [rows] * 20, lambda x, x_hat, *_: (x - x_hat).square().mean(),
            torch.optim.Adam(model.parameters(), lr=1e-3), nb_epochs=1, monitoring=0,
        )  # fmt: skip

    def ours() -> None:
        train_sparse(lambda epoch: iter([rows] * 20), features=1024, k=16, steps=20)

    yield compared(what, peer, ours, theirs, pairs=3, note="theirs normalises batches, ours watches silent features")


GROUPS: dict[str, Callable[[], Iterator[Row]]] = {
    "fid": bench_fid_peers.rows,
    "rules": bench_rules.guider_rows,
    "apg": bench_rules.apg_rows,
    "recording": bench_recording.peer_rows,
    "busy": bench_recording.busy_rows,
    "captum": bench_directions_step.captum_rows,
    "formulas": formulas,
    "sparse": sparse,
}


def main(*groups: Any) -> None:
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {version('torch')}")
    print(HEADER, flush=True)
    for group in groups or GROUPS:
        for threads in ("1", "2") if group == "busy" else ("1",):
            command = [sys.executable, "-W", "ignore", "-m", __name__, group]
            subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": threads})


if __name__ == "__main__":
    for row in GROUPS[sys.argv[1]]():
        print(row, flush=True)
