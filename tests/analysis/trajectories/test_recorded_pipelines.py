"""Shape of the paths of recorded pipelines: every quantity is there or missing with its reason, images unchanged."""

import numpy as np
import pytest
import torch
from tests.pipelines import PIPELINES, output_of, sd15

from scorescope.analysis.steps import change_steps, step_damage
from scorescope.analysis.trajectories import (
    decisions,
    effective_noise,
    path_geometry,
    path_shape,
    recorded_path,
    step_noise,
)
from scorescope.probes.experiments import pipeline_model
from scorescope.probes.perturbations import LeftOut, Repeated, Replaced, Rounded
from scorescope.probes.recording import Trace, record
from scorescope.probes.sampling import Euler, Sampling, run_path

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

DETERMINISTIC = ("DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler")
SCHEDULERS = (*DETERMINISTIC, "PNDMScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler")
STEPS = 8


def pipeline(name, **more):
    import diffusers

    pipe, arguments = sd15(batch=3)
    config = {"num_train_timesteps": 100, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    pipe.scheduler = getattr(diffusers, name)(**config, **more)
    arguments.pop("generator", None)
    return pipe, arguments | {"num_inference_steps": STEPS, "output_type": "latent"}


def recorded(pipe, arguments):
    arguments = {name: value for name, value in arguments.items() if name != "generator"}
    plain = output_of(pipe(**arguments, generator=torch.Generator().manual_seed(0)))
    with record(pipe, keep="branches", progress=False) as trace:
        same = output_of(pipe(**arguments, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(plain, same)
    return trace


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEDULERS)
def test_of_six_schedulers(name):
    trace = recorded(*pipeline(name, **({"clip_sample": False} if name == "DDIMScheduler" else {})))
    path = recorded_path(trace)
    assert path.states.shape[1] == 3 and not any(path.missing)
    geometry = path_geometry(path)
    assert (geometry["mean"].notna() | (geometry["missing"] != "")).all()
    assert path_shape(path)["mean"].notna().all()
    assert decisions(path, edges=(0.2,))["left"].notna().all()
    noise = step_noise(trace)
    assert (noise["added"].notna() | (noise["missing"] != "")).all()
    known = noise[noise["added"].notna()]
    if name in DETERMINISTIC:  # of float32 states, some 1e-6 of which is lost in a step
        assert (known["added"] < 1e-3 * known["sigma_next"]).all()
    if name == "EulerAncestralDiscreteScheduler":
        s, t = known["sigma"], known["sigma_next"]
        np.testing.assert_allclose(known["added"], np.sqrt(t**2 * (s**2 - t**2)) / s, rtol=0.15)  # 768 numbers: 2.6 %


@pytest.mark.slow
def test_a_scheduler_that_clips_adds_what_no_prediction_explains():
    noise = step_noise(recorded(*pipeline("DDIMScheduler", clip_sample=True))).iloc[:-1]
    assert noise["added"].iloc[0] > 0.1


@pytest.mark.slow
def test_of_a_flow():
    pipe, arguments = PIPELINES["sd3"]()
    trace = recorded(pipe, arguments | {"num_inference_steps": STEPS, "output_type": "latent"})
    path = recorded_path(trace)
    geometry = path_geometry(path)
    assert (geometry["mean"].notna() | (geometry["missing"] != "")).all()
    assert step_noise(trace)["missing"].iloc[-1]


@pytest.mark.slow
def test_of_a_folder(tmp_path):
    pipe, arguments = pipeline("DDIMScheduler")
    with record(pipe, keep="branches", path=tmp_path / "run", progress=False):
        pipe(**arguments, generator=torch.Generator().manual_seed(0))
    path = recorded_path(Trace.open(tmp_path / "run"))
    memory = recorded_path(recorded(pipe, arguments))
    torch.testing.assert_close(path.states, memory.states)


@pytest.mark.slow
def test_steps_of_a_pipeline_are_changed_through_its_own_denoiser():
    pipe, arguments = pipeline("DDIMScheduler")
    row = {name: value[:1] for name, value in arguments.items() if "embeds" in name}
    shared = {name: value for name, value in arguments.items()
              if name not in (*row, "num_inference_steps", "output_type")}  # fmt: skip
    model = pipeline_model(pipe, [row], arguments=shared)
    low, high = model.denoiser.sigma_range
    grid = np.geomspace(0.9 * high, 1.1 * low, 6).tolist()
    changes = {"repeated": Repeated(), "left out": LeftOut(), "3 bits": Replaced(Rounded(model.denoiser, bits=3))}
    found = change_steps(
        model.denoiser, changes, seeds=range(2), condition=model.conditions(2),
        sampling=Sampling(solver=Euler(), sigmas=grid, shape=model.shape), progress=False,
    )  # fmt: skip
    damage = step_damage(found).query("kind == 'damage' and step > 0")
    assert (damage["mean"] > 0).all()
    x = grid[0] * torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(0))
    path = run_path(model.denoiser, x, grid, condition=model.conditions(2), solver=Euler())
    noise = effective_noise(model.denoiser, path, condition=model.conditions(2), iterations=1)
    assert noise["ratio"].notna().all()
