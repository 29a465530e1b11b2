"""On a CUDA device: recording a network of the size of SDXL, arrays on their way to the host, the decomposition."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from scorescope.probes import record
from scorescope.probes.decomposition import branch_products
from tests.benchmarks.timing import side_by_side


def main() -> None:
    if not torch.cuda.is_available():
        print("no CUDA device: nothing is measured")
        return
    print(torch.cuda.get_device_name())
    _recording_cost("scalars, SDXL-sized network in bfloat16 at 1024 px", 1.01)
    _recording_cost("all branches to pinned host memory", 1.05, keep="branches")
    offload_rate()
    decomposition_rate()


def _sdxl_on_device() -> tuple[nn.Module, Any, dict[str, Any]]:
    """A network of SDXL's size with random weights in bfloat16, and its inputs at 1024 pixels."""
    from diffusers import EulerDiscreteScheduler, UNet2DConditionModel

    torch.manual_seed(0)
    with torch.device("cuda"):
        unet = UNet2DConditionModel(
            sample_size=128, in_channels=4, out_channels=4, block_out_channels=(320, 640, 1280), layers_per_block=2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10), attention_head_dim=(5, 10, 20), cross_attention_dim=2048,
            addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
            use_linear_projection=True,
        ).to(torch.bfloat16).eval()  # fmt: skip
        added = {"text_embeds": torch.randn(2, 1280).bfloat16(), "time_ids": torch.ones(2, 6).bfloat16()}
        condition = {"encoder_hidden_states": torch.randn(2, 77, 2048).bfloat16(), "added_cond_kwargs": added}
    return unet, EulerDiscreteScheduler(), condition


def _device_run(pipe: Any, condition: dict[str, Any], steps: int = 20) -> None:
    scheduler = pipe.scheduler
    scheduler.set_timesteps(steps, device="cuda")
    x = torch.randn(1, 4, 128, 128, device="cuda", dtype=torch.bfloat16) * scheduler.init_noise_sigma
    with torch.no_grad():
        for t in scheduler.timesteps:
            given = scheduler.scale_model_input(torch.cat([x, x]), t)
            uncond, cond = pipe.unet(given, t, **condition, return_dict=False)[0].chunk(2)
            x = scheduler.step(uncond + 5.0 * (cond - uncond), t, x, return_dict=False)[0]
    torch.cuda.synchronize()


def _recording_cost(title: str, bound: float, **options: Any) -> None:
    unet, scheduler, condition = _sdxl_on_device()
    pipe = SimpleNamespace(unet=unet, scheduler=scheduler)

    def ours() -> None:
        with record(pipe, **options):
            _device_run(pipe, condition)

    recorded, bare, ratio = side_by_side(ours, lambda: _device_run(pipe, condition))
    print(f"{title}: {recorded:.3f} s against {bare:.3f} s bare, median ratio of 7 pairs {ratio:.4f} (bound {bound})")


def offload_rate(steps: int = 32, shape: tuple[int, ...] = (4, 16, 128, 128)) -> None:
    """Arrays that a recording keeps, against as many plain copies to pinned memory."""
    network = _Pattern(shape)
    pipe, x = SimpleNamespace(net=network, scheduler=_Scheduler(steps)), torch.randn(shape, device="cuda")
    guided = torch.lerp(*network.pattern.chunk(2), 5.0)
    parts = [network.pattern, guided, x]  # what `keep="branches"` keeps of a step
    pinned = [torch.empty(part.shape, dtype=part.dtype, pin_memory=True) for part in parts]

    def ours() -> None:
        pipe.scheduler.step_index = 0
        with torch.no_grad(), record(pipe, keep="branches", progress=False):
            for t in pipe.scheduler.timesteps:
                pipe.net(x)
                pipe.scheduler.step(guided, t, x)

    def copies() -> None:
        for _ in range(steps):
            for place, part in zip(pinned, parts, strict=True):
                place.copy_(part, non_blocking=True)
        torch.cuda.synchronize()

    _, _, ratio = side_by_side(ours, copies)
    print(f"offload: {1 / ratio:.2f} of the rate of plain pinned copies (bound 0.9)")


def decomposition_rate(shape: tuple[int, ...] = (8, 16, 512, 512)) -> None:
    """Bytes of the branches read once, against a copy on the device, which reads and writes them."""
    cond, uncond, x, to = (torch.randn(shape, device="cuda") for _ in range(4))

    def ours() -> None:
        branch_products(cond, uncond, x)
        torch.cuda.synchronize()

    def copies() -> None:
        for part in (cond, uncond, x):
            to.copy_(part)
        torch.cuda.synchronize()

    _, _, ratio = side_by_side(ours, copies)
    print(f"streaming decomposition: {0.5 / ratio:.2f} of copy bandwidth (bound 0.7)")


class _Scheduler:
    """Next to no work, so that what is timed is the copying."""

    def __init__(self, steps: int) -> None:
        self.sigmas = torch.linspace(0.99, 0.0, steps + 1)
        self.timesteps, self.step_index = self.sigmas[:-1] * 1000, 0

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor) -> tuple[Tensor]:
        self.step_index += 1
        return (sample,)


class _Pattern(nn.Module):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.pattern = torch.randn(2 * shape[0], *shape[1:], device="cuda")

    def forward(self, x: Tensor) -> Tensor:
        return self.pattern


if __name__ == "__main__":
    main()
