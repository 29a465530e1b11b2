"""Recording pipelines: cost of scalars, of writing branches, and the memory it takes.

Beside ours stand a naive hook that moves every branch to the host and nnsight's diffusion wrapper (where it is
installed), and for writing plain safetensors files of the same bytes, synced one by one.
"""

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from scorescope.probes import CFG, guide, record
from scorescope.probes.sites import ActivationCache, cache_activations
from tests.benchmarks.timing import Row, compared, find, seconds, show, side_by_side, version
from tests.pipelines import sd15

SITE = "mid_block"
STEPS = 20  # of the pipeline whose scalars are recorded; entering and leaving cost a few milliseconds a run


def main() -> None:
    scalars_cost()
    show(itertools.chain(peer_rows(), busy_rows()))
    step_cost()
    table_cost()
    writing_cost(steps=48)
    writing_cost(steps=16)  # short enough to stay in what a disk takes at once, where only processor time counts
    resident_memory()


def _heavy_unet() -> Any:
    """A random network of at least 50 ms a doubled call on two cores, at 64 x 64 latents."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    return UNet2DConditionModel(
        block_out_channels=(32, 64), layers_per_block=1, sample_size=64, in_channels=4, out_channels=4,
        cross_attention_dim=64, norm_num_groups=8, attention_head_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    ).eval()  # fmt: skip


def _pipeline(steps: int = STEPS) -> tuple[Any, dict[str, Any]]:
    pipe, arguments = sd15(unet=_heavy_unet(), steps=steps)
    generator = torch.Generator()
    return pipe, arguments | {
        "prompt_embeds": torch.randn(1, 77, 64), "negative_prompt_embeds": torch.randn(1, 77, 64),
        "height": 128, "width": 128, "generator": generator,
    }  # fmt: skip


def naive(pipe: Any, run: Callable[[], object]) -> list[tuple[Tensor, ...]]:
    """What one writes by hand: every branch to the host, norms there."""
    kept: list[tuple[Tensor, ...]] = []

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        uncond, cond = (part.float().cpu().clone() for part in output[0].chunk(2))
        kept.append((cond, uncond, (cond - uncond).norm(), cond.norm()))

    handle = pipe.unet.register_forward_hook(hook)
    try:
        run()
    finally:
        handle.remove()
    return kept


def scalars_cost() -> None:
    pipe, arguments = _pipeline()

    def run() -> None:
        pipe(**arguments)

    def ours() -> None:
        with record(pipe):
            run()

    call = statistics.median(seconds(run) for _ in range(3)) / STEPS
    print(f"a denoiser call: {1000 * call:.0f} ms (at least 50 asked for)")
    recorded, bare, ratio = side_by_side(ours, run)
    print(f"scalars: {recorded:.3f} s against {bare:.3f} s bare, median ratio of 7 pairs {ratio:.4f} (bound 1.02)")
    *_, ratio = side_by_side(ours, run, clock=time.process_time)
    print(f"  processor time, all threads: ratio {ratio:.4f}, steadier on a busy machine")
    by_hand, bare, ratio = side_by_side(lambda: naive(pipe, run), run)
    print(f"naive hook, branches to the host: {by_hand:.3f} s against {bare:.3f} s bare, ratio {ratio:.4f}")


def step_cost() -> None:
    """What a step of a recorded and of a guided pipeline costs beyond a bare one, on a network that costs little."""
    pipe, arguments = sd15(steps=50)

    def run() -> None:
        pipe(**arguments)

    def recorded() -> None:
        with record(pipe):
            run()

    def guided() -> None:
        with guide(pipe, CFG(5.0)):
            run()

    def both() -> None:
        with record(pipe), guide(pipe, CFG(5.0)):
            run()

    for name, ours in {"recorded": recorded, "guided": guided, "recorded and guided": both}.items():
        with_ours, bare, ratio = side_by_side(ours, run)
        print(f"a step {name}: {20 * (with_ours - bare):.2f} ms beyond {20 * bare:.2f} ms bare, ratio {ratio:.3f}")


def table_cost(samples: int = 64, steps: int = 1000) -> None:
    """Making the table of scalars, once the run is over, as a share of the run."""
    pipe = SimpleNamespace(net=_Pattern((samples, 4, 16, 16)), scheduler=_Scheduler(steps))
    x = torch.randn(samples, 4, 16, 16)
    guided = torch.lerp(*pipe.net.pattern.chunk(2), 5.0)
    start = time.process_time()
    with torch.no_grad(), record(pipe, progress=False) as trace:
        for t in pipe.scheduler.timesteps:
            pipe.net(x)
            pipe.scheduler.step(guided, t, x)
    ran = time.process_time()
    rows = len(trace.scalars)
    made = time.process_time()
    print(
        f"table of scalars, {samples} samples x {steps} steps, {rows} rows, processor time: {made - ran:.1f} s "
        f"after a run of {ran - start:.1f} s, {(made - ran) / (ran - start):.2f} of it (bound 0.10)"
    )


def peer_rows() -> Iterator[Row]:
    """Recording beside the bare pipeline and a hook by hand; what nnsight saves of the same calls. Processor time."""
    pipe, arguments = _pipeline(steps=8)

    def run() -> None:
        pipe(**arguments)

    def scalars() -> None:
        with record(pipe):
            run()

    def branches() -> None:
        with record(pipe, keep="branches", progress=False):
            run()

    def activations() -> Tensor:
        kept, site = ActivationCache(), f"unet.{SITE}"
        with cache_activations(pipe, [site], kept):
            arguments["generator"].manual_seed(0)
            run()
        return kept.at(site, torch.tensor(kept.sigmas()[-1:], dtype=torch.float64), "all")

    bare = version("diffusers") + ", not recorded"
    yield compared("pipeline with all scalars recorded, 8 steps", bare, scalars, run)
    yield compared("pipeline with branches kept, 8 steps", "a hook that moves them by hand", branches,
                   lambda: naive(pipe, run) and None)  # fmt: skip
    nnsight = find("nnsight")
    if isinstance(nnsight, str):
        yield Row("branches kept; a site's activations kept", version("nnsight"), note=nnsight)
        return
    other, given = _pipeline(steps=8)  # of the same weights: nnsight leaves its stand-ins on a network
    saved = Traced(nnsight, other.unet)
    other.__dict__["unet"] = saved

    def traced() -> None:
        saved.seen.clear()
        other(**given)

    def at_site() -> Tensor:
        given["generator"].manual_seed(0)
        saved.site = SITE
        traced()
        saved.site = None
        return saved.seen[-1]

    yield compared("pipeline with branches kept, 8 steps", version("nnsight"), branches, traced)
    yield compared(f"pipeline with activations of {SITE} kept, 8 steps", version("nnsight"), activations, at_site)


class Traced:
    """Stands in for the network: each call is one trace of nnsight that saves its output, and a site's where named."""

    def __init__(self, nnsight: Any, inner: nn.Module) -> None:
        self.model, self.inner = nnsight.NNsight(inner), inner
        self.site: str | None = None
        self.seen: list[Tensor] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        model = self.model
        if self.site is None:
            with model.trace(*args, **kwargs):
                saved = model.output.save()
            return saved
        module = getattr(model, self.site)
        with model.trace(*args, **kwargs):
            inside = module.output.save()
            saved = model.output.save()
        self.seen.append(inside)
        return saved


def busy_rows() -> Iterator[Row]:
    """Recording while another process a core computes, with as many threads as this process was given."""
    pipe, arguments = _pipeline(steps=1)  # threads that wait for each other take thirty times as long

    def run() -> None:
        pipe(**arguments)

    def ours() -> None:
        with record(pipe):
            run()

    what = f"scalars recorded on a busy machine, threads {torch.get_num_threads()}"
    burning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        for name, clock in (("wall", time.perf_counter), ("processor", time.process_time)):
            taken, bare, ratio = side_by_side(ours, run, pairs=3, clock=clock)
            yield Row(f"{what}, {name} time", "not recorded", taken, bare, ratio, note="bound 1.1")
    finally:
        for one in burning:
            one.kill()
            one.wait()


class _Scheduler:
    """Next to no work, so that what is timed is the writing."""

    def __init__(self, steps: int) -> None:
        self.sigmas = torch.linspace(0.99, 0.0, steps + 1)
        self.timesteps, self.step_index = self.sigmas[:-1] * 1000, 0

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor) -> tuple[Tensor]:
        self.step_index += 1
        return (sample,)


class _Pattern(nn.Module):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.pattern = torch.randn(2 * shape[0], *shape[1:])

    def forward(self, x: Tensor) -> Tensor:
        return self.pattern


def _loop(path: Path | None, steps: int, shape: tuple[int, ...]) -> None:
    pipe = SimpleNamespace(net=_Pattern(shape), scheduler=_Scheduler(steps))
    x = torch.randn(shape)
    guided = torch.lerp(*pipe.net.pattern.chunk(2), 5.0)
    with torch.no_grad(), record(pipe, keep="branches", path=path, progress=False):
        for t in pipe.scheduler.timesteps:
            pipe.net(x)
            x = pipe.scheduler.step(guided, t, x)[0]


def _plain(folder: Path, steps: int, shape: tuple[int, ...]) -> None:
    """The same arrays, one file a step, each synced."""
    branches, x = torch.randn(2 * shape[0], *shape[1:]), torch.randn(shape)
    for step in range(steps):
        file = folder / f"{step:08d}.safetensors"
        save_file({"call0": branches, "guided": x, "x": x.clone()}, file)
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def writing_cost(steps: int, shape: tuple[int, ...] = (4, 16, 128, 128)) -> None:
    size = steps * 4 * 4 * torch.Size(shape).numel() / 1e6
    ratios, ours, plain = [], [], []
    for pair in range(7):
        for first in (pair % 2, 1 - pair % 2):
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                if first:
                    _loop(Path(folder) / "a", steps, shape)
                    ours.append(time.perf_counter() - start)
                else:
                    _plain(Path(folder), steps, shape)
                    plain.append(time.perf_counter() - start)
        ratios.append(plain[-1] / ours[-1])
    print(
        f"branches to disk, {steps} steps, {size:.0f} MB: {size / statistics.median(ours):.0f} MB/s against "
        f"{size / statistics.median(plain):.0f} MB/s plain with fsync, median ratio of 7 pairs "
        f"{statistics.median(ratios):.2f} (bound 0.70)"
    )


_MEMORY = """
import sys, tempfile
from pathlib import Path
from tests.benchmarks.bench_guidance import peak_kilobytes
from tests.benchmarks.bench_recording import _loop
with tempfile.TemporaryDirectory() as folder:
    _loop(Path(folder) / "a", int(sys.argv[1]), (1, 16, 64, 64))
print(peak_kilobytes())
"""


def resident_memory() -> None:
    peaks = []
    for steps in (100, 1000):
        done = subprocess.run([sys.executable, "-c", _MEMORY, str(steps)], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout) / 1024)
    print(
        f"peak resident memory, branches to disk: {peaks[0]:.0f} MB for 100 steps, {peaks[1]:.0f} MB for 1000, "
        f"ratio {peaks[1] / peaks[0]:.3f} (bound 1.05)"
    )


if __name__ == "__main__":
    print("recording")
    main()
