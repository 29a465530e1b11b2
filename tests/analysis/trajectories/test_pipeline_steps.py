"""Step errors of pipelines: the driven scheduler makes the pipeline's own image, and its steps are measured."""

import diffusers
import numpy as np
import pytest
import torch
from tests.pipelines import PIPELINES

from scorescope.analysis.trajectories import solver_errors
from scorescope.probes.experiments import pipeline_model, visits
from scorescope.probes.guidance import CFG
from scorescope.probes.recording import record
from scorescope.probes.sampling import RuleField, run_to_end, scheduler_sigmas, scheduler_solver

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

STEPS = 5
KINDS = {
    "DDIMScheduler": {"clip_sample": False},
    "PNDMScheduler": {"skip_prk_steps": True},
    "DPMSolverMultistepScheduler": {},
    "UniPCMultistepScheduler": {},
    "EulerDiscreteScheduler": {"timestep_spacing": "linspace"},
    "HeunDiscreteScheduler": {},
}


FAST = ("DDIMScheduler", "UniPCMultistepScheduler")


@pytest.mark.parametrize(
    "kind", [kind if kind in FAST else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_of_stable_diffusion(kind):
    pipe, arguments = PIPELINES["sd15"]()
    pipe.scheduler = getattr(diffusers, kind)(**KINDS[kind])
    check(pipe, arguments)


def test_of_a_flow():
    check(*PIPELINES["sd3"]())


def check(pipe, arguments):
    row = {name: v for name, v in arguments.items() if name in ("prompt", "negative_prompt") or "embeds" in name}
    shared = {name: v for name, v in arguments.items() if name in ("guidance_scale", "height", "width")}
    given = {"num_inference_steps": STEPS, "generator": torch.Generator().manual_seed(3), "output_type": "latent"}
    with record(pipe, keep="branches", progress=False) as trace:
        made = pipe(**row, **shared, **given).images
    seen = list(visits(trace))
    model = pipeline_model(pipe, [row], arguments=shared)
    weight = float(trace.scalars["weight"].dropna().iloc[0])
    field = RuleField(model.denoiser, CFG(weight))
    sigmas = scheduler_sigmas(pipe.scheduler, STEPS)
    config = {name: value for name, value in pipe.scheduler.config.items() if not name.startswith("_")}
    solver = scheduler_solver(type(pipe.scheduler), **config)
    first = min(seen, key=lambda visit: abs(visit.sigma - sigmas[0]))  # of a flow the second: the first holds no data
    start, condition = first.x.float(), torch.tensor([0])
    end, _ = run_to_end(field, start, sigmas, condition=condition, solver=solver)
    scale = (1 + sigmas[-1] ** 2) ** 0.5
    assert float((end / scale - made).norm() / made.norm()) < 2e-3
    found = solver_errors(field, start, sigmas, solver, condition=condition, substeps=1)
    assert np.isfinite(found.local).all() and np.isfinite(found.at_end).all()
    np.testing.assert_allclose(found.share.sum(0), 1.0, rtol=1e-4)  # of float32 states
