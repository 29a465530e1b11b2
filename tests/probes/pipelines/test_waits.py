"""What waits for an accelerator, played by the host: a few times a run, and once a step where it has to be proved."""

import functools

import numpy as np
import pytest
import torch
from tests.pipelines import flux_true, sd15
from tests.stand_in_device import NAME, StandIn

from scorescope.data.checkpoints import load_denoiser
from scorescope.probes import APG, CFG, AdaptiveGuidance, Intervention, Recording, guide, intervene, record, sample
from scorescope.probes.sampling import Euler, Heun

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]


def moved(build, steps):
    """A tiny pipeline with all of its tensors on the stand-in device."""
    pipe, arguments = build()
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.to(NAME)
    arguments["num_inference_steps"] = steps
    return pipe, {
        name: value.to(NAME) if isinstance(value, torch.Tensor) else value for name, value in arguments.items()
    }


def with_steps(block, build=sd15):
    """Waits of our own in runs of four and of eight steps, and the traces."""
    found = []
    for steps in (4, 8):
        with StandIn() as device:
            pipe, arguments = moved(build, steps)
            device.waits.clear()
            found.append((device, block(pipe, functools.partial(pipe, **arguments))))
    (four, _), (eight, kept) = found
    return four.ours(), eight.ours(), kept


@pytest.mark.parametrize(
    ("build", "keep", "most"), [(sd15, "scalars", 2), (sd15, "branches", 2), (flux_true, "scalars", 3)]
)
def test_a_recorded_run_waits_for_its_noise_levels_and_for_its_numbers(build, keep, most):
    """Once a table of the scheduler that lies there, once for what was measured; for kept arrays a thread waits."""

    def recorded(pipe, run):
        with record(pipe, keep=keep, progress=False) as trace:
            run()
        return trace

    four, eight, trace = with_steps(recorded, build)
    assert four == eight <= most
    pipe, arguments = build()
    with record(pipe) as here:
        pipe(**arguments | {"num_inference_steps": 8})
    assert set(trace.scalars["rule"]) == {"cfg"}
    for name in (
        "sigma",
        "cond_sq",
        "update_sq",
        "weight",
    ):  # other kernels round otherwise, and updates are differences
        np.testing.assert_allclose(trace.scalars[name], here.scalars[name], rtol=1e-3)


@pytest.mark.parametrize(
    "rule", [CFG(5.0), APG(5.0), AdaptiveGuidance(CFG(5.0), 0.99)], ids=lambda rule: type(rule).__name__
)
def test_a_guided_step_waits_once_for_its_proof(rule):
    def guided(pipe, run):
        with guide(pipe, rule):
            run()

    four, eight, _ = with_steps(guided)
    a_step = 2 if isinstance(rule, AdaptiveGuidance) else 1  # it looks whether any sample is still to be guided
    assert eight - four == 4 * a_step
    assert eight - 8 * a_step <= 2


def test_an_intervened_step_does_not_wait():
    def intervened(pipe, run):
        vector = torch.ones(16, device=NAME)
        with intervene(pipe, [Intervention("add", "unet.mid_block", vector, high=1e3)], branches=("uncond", "cond")):
            run()

    four, eight, _ = with_steps(intervened)
    assert four == eight <= 2


@pytest.mark.parametrize("solver", [Euler(), Heun()], ids=lambda solver: type(solver).__name__)
@pytest.mark.parametrize("recorded", [False, True])
def test_a_step_of_our_sampler_does_not_wait(solver, recorded):
    waits = []
    for steps in (4, 8):
        with StandIn() as device:
            denoiser = load_denoiser("digits")[0].to(NAME)
            options = {"record": Recording()} if recorded else {}
            run = sample(
                denoiser, seeds=range(2), condition=torch.tensor([1, 2]), rule=CFG(3.0), solver=solver,
                sigmas=[*np.geomspace(20.0, 0.1, steps).tolist(), 0.0], device=NAME, progress=False,
                **options,
            )  # fmt: skip
            waits.append(device.ours())
        assert run.samples.device == NAME
    assert waits[0] == waits[1] <= 3
