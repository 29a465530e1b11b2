"""A pipeline's network as a plain denoiser: the recorded predictions at recorded states, and known closed forms."""

from typing import Any

import pytest
import torch
from tests.pipelines import PIPELINES

from scorescope.probes.experiments import pipeline_model, visits
from scorescope.probes.recording import record

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

ROW = ("prompt", "negative_prompt", "class_labels")
OURS = ("generator", "output_type", "num_inference_steps", "batch_size")


def built(kind: str) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """A pipeline, one row of its call, and what calls share."""
    pipe, arguments = PIPELINES[kind]()
    row = {name: v for name, v in arguments.items() if name in ROW or "embeds" in name or "mask" in name}
    if "class_labels" in row:
        row["class_labels"] = [1]
    return pipe, row, {name: v for name, v in arguments.items() if name not in (*row, *OURS)}


def with_scheduler(pipe: Any, name: str, **config: Any) -> Any:
    import diffusers

    pipe.scheduler = getattr(diffusers, name)(**config)
    return pipe


def compare(model: Any, pipe: Any, arguments: dict[str, Any], *, steps: int, seed: int = 11) -> int:
    """Hold the denoiser against another recorded run; the number of predictions that were compared."""
    shown = {"output_type": "np"} if "class_labels" in arguments or not arguments else {"output_type": "latent"}
    given = {"num_inference_steps": steps, "generator": torch.Generator().manual_seed(seed), **shown}
    with record(pipe, keep="branches", progress=False) as trace:
        pipe(**arguments, **given)
    count = 0
    for visit in visits(trace):
        if not model.denoiser.sigma_range[0] <= visit.sigma <= model.denoiser.sigma_range[1]:
            assert visit.sigma > 1e3  # a flow's first state holds no data
            continue
        x, sigma = visit.x.float(), torch.tensor([visit.sigma])
        for right, condition in ((visit.cond, torch.tensor([0])), (visit.uncond, None)):
            if right is not None:
                with torch.no_grad():
                    made = model.denoiser(visit.x, sigma, condition)
                # relative to what the network rounds: its own output, by a factor of at most sigma
                assert (made - right).norm() <= 1e-4 * ((right - visit.x).norm() + right.norm()), visit.sigma
                assert model.denoiser(x, sigma, condition).dtype == torch.float32
                count += 1
    return count


KINDS = ["sd15", "sdxl", "sd3", "flux_true", "flux_distilled", "pixart", "wan21", "stable_audio", "dit", "ddpm", "ltx"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_pipelines_network_at_the_states_of_another_run(kind: str) -> None:
    pipe, row, shared = built(kind)
    model = pipeline_model(pipe, [row], arguments=shared)
    both = 1 if kind in ("ddpm", "flux_distilled") else 2
    assert compare(model, pipe, {**row, **shared}, steps=7) >= both * 6


SCHEDULERS = [
    ("DDIMScheduler", {"prediction_type": "v_prediction", "beta_schedule": "scaled_linear"}),
    ("DDIMScheduler", {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} | {"prediction_type": "v_prediction"}),
    ("DDPMScheduler", {"prediction_type": "sample"}),
    ("PNDMScheduler", {"skip_prk_steps": True}),
    ("LCMScheduler", {}),
    ("EulerDiscreteScheduler", {"timestep_spacing": "linspace"}),
    ("EulerDiscreteScheduler", {"prediction_type": "v_prediction", "timestep_spacing": "trailing"}),
    ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    ("EulerAncestralDiscreteScheduler", {}),
    ("HeunDiscreteScheduler", {}),
    ("KDPM2DiscreteScheduler", {}),
    ("LMSDiscreteScheduler", {}),
    ("DPMSolverMultistepScheduler", {}),
    ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    ("DPMSolverSinglestepScheduler", {}),
    ("UniPCMultistepScheduler", {}),
    ("DEISMultistepScheduler", {}),
    ("EDMEulerScheduler", {}),
    ("EDMDPMSolverMultistepScheduler", {"prediction_type": "v_prediction"}),
    ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}),
    ("CMStochasticIterativeScheduler", {}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "config"), SCHEDULERS)
def test_schedulers(name: str, config: dict[str, Any]) -> None:
    pipe, row, shared = built("sd15")
    with_scheduler(pipe, name, **config)
    model = pipeline_model(pipe, [row], arguments=shared)
    steps = 8 if "use_flow_sigmas" in config else 9  # of 9, one is at time 0.444, which that scheduler cuts to 443
    assert compare(model, pipe, {**row, **shared}, steps=steps) >= 8


@pytest.mark.parametrize(("name", "config"), [
    ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": False, "shift": 7.0}),
    ("FlowMatchEulerDiscreteScheduler", {"use_karras_sigmas": True}),
    ("FlowMatchHeunDiscreteScheduler", {}),
    ("UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}),
])  # fmt: skip
def test_flow_schedulers(name: str, config: dict[str, Any]) -> None:
    pipe, row, shared = built("sd3")
    with_scheduler(pipe, name, **config)
    model = pipeline_model(pipe, [row], arguments=shared)
    assert compare(model, pipe, {**row, **shared}, steps=9) >= 8
