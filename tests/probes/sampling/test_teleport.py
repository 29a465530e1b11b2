import copy
import math

import pytest
import torch
from tests.pipelines import sd15

from scorescope.data import InputError, load_denoiser, load_digits
from scorescope.probes import Recording, record, sample
from scorescope.probes.approximations import fit_gaussian, fit_kmeans, fit_per_class
from scorescope.probes.models import SampleNoise, edm_sigmas
from scorescope.probes.models.spaces import NoiseLevel, from_denoised
from scorescope.probes.sampling import DPMSolverPP2M, Heun
from scorescope.probes.sampling.paths import run_path
from scorescope.probes.sampling.teleport import (
    levels_below,
    pipeline_start,
    sample_teleported,
    scheduler_levels,
    teleport,
)


@pytest.fixture(scope="module")
def digits():
    return load_digits().train


@pytest.fixture(scope="module")
def gaussian(digits):
    return fit_gaussian(digits.images.double())


def test_no_step_is_lost_on_a_gaussian(gaussian):
    """With the Gaussian as the network, any skip ends where the closed form ends, but for the solver's error."""
    seeds, grid = range(6), edm_sigmas(400)[:-1]
    noise = SampleNoise(list(seeds), (1, 8, 8), torch.device("cpu"), torch.float64).draw()
    exact = gaussian.flow(grid[0] * noise, grid[0], grid[-1])
    for skip in (60.0, 8.0, 0.5):
        run = sample_teleported(
            gaussian, gaussian, seeds=seeds, sigma_skip=skip, sigmas=grid, dtype=torch.float64, progress=False
        )
        assert (run.samples - exact).norm() / exact.norm() < 2e-4


def test_the_rest_of_the_grid_is_the_grid_of_the_remaining_steps():
    whole = edm_sigmas(18)
    rest = levels_below(whole, whole[5])
    assert rest == whole[5:]
    torch.testing.assert_close(torch.tensor(rest), torch.tensor(edm_sigmas(13, sigma_max=whole[5])))
    between = levels_below(whole, 10.0)
    assert between[0] == 10.0
    assert between[1:] == whole[6:]


def test_teleported_runs_record_and_count(gaussian):
    denoiser, _ = load_denoiser("digits_weak")
    options = {"seeds": range(4), "condition": torch.arange(4), "progress": False, "record": Recording()}
    grid = edm_sigmas(18)
    plain = sample(denoiser, sigmas=grid, **options)
    for solver, calls in ((Heun(), 25), (DPMSolverPP2M(), 13)):
        run = sample_teleported(denoiser, gaussian, sigma_skip=grid[5], sigmas=grid, solver=solver, **options)
        assert run.trace.manifest["start"] == "given states"
        assert len(run.trace.scalars.groupby(["step", "call"])) == calls
    whole = sample_teleported(denoiser, gaussian, sigma_skip=grid[0], sigmas=grid, **options)
    torch.testing.assert_close(whole.samples, plain.samples)  # a skip of nothing is nothing


def test_classes_are_carried_by_their_own_gaussian(digits):
    images = digits.images.double()
    mixture = fit_per_class(images, digits.labels, shrinkage="none")
    labels = torch.arange(10)
    start = 80 * torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    there = teleport(mixture, start, 80.0, 2.0, condition=labels)
    fine = run_path(mixture, start, edm_sigmas(300, sigma_min=2.0)[:-1], condition=labels).end
    assert (there - fine).norm() / fine.norm() < 1e-5
    with pytest.raises(InputError, match="no condition"):
        teleport(mixture, start, 80.0, 2.0)
    with pytest.raises(InputError, match="without labels"):
        teleport(fit_kmeans(images, clusters=3, rank=3), start, 80.0, 2.0, condition=labels)


def test_start_must_fit():
    denoiser, _ = load_denoiser("digits_weak")
    with pytest.raises(InputError, match="start"):
        sample(denoiser, seeds=range(3), start=torch.zeros(2, 1, 8, 8), progress=False)


def test_paths_keep_every_level(gaussian):
    start = 5 * torch.randn(3, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for solver in (Heun(), DPMSolverPP2M()):
        path = run_path(gaussian, start, [5.0, 1.0, 0.1], solver=solver)
        assert path.sigmas == (5.0, 1.0, 0.1)
        assert torch.equal(path.states[-1], path.end)
        for level, sigma in enumerate(path.sigmas):
            torch.testing.assert_close(path.denoised[level], gaussian(path.states[level], sigma))
        assert torch.equal(path.states[0], start)
    assert run_path(gaussian, start, [5.0, 1.0, 0.0]).calls == 3
    with pytest.raises(InputError, match="NaN"):
        run_path(lambda x, sigma, condition: x / 0, start, [5.0, 1.0])


@pytest.mark.parametrize("sigma_skip", [-1.0, 90.0])
def test_levels_in_the_wrong_order_are_refused(gaussian, sigma_skip):
    with pytest.raises(InputError, match="sigma_skip"):
        teleport(gaussian, torch.zeros(1, 1, 8, 8), 80.0, sigma_skip)
    with pytest.raises(InputError, match="sigma_skip"):
        levels_below(edm_sigmas(18), sigma_skip)


def run_scheduler(scheduler, latents, gaussian, timesteps=None, steps=60):
    """What a diffusers pipeline does with `latents` and `timesteps`, with the Gaussian as its network."""
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(timesteps=timesteps) if timesteps else scheduler.set_timesteps(steps)
    levels, _ = scheduler_levels(scheduler)
    state = latents * float(getattr(scheduler, "init_noise_sigma", 1.0))
    flow = "FlowMatch" in type(scheduler).__name__ or scheduler.config.prediction_type == "flow_prediction"
    for level, timestep in zip(levels, scheduler.timesteps, strict=True):
        here = NoiseLevel(*torch.tensor([[level.alpha], [level.alpha * level.sigma]], dtype=torch.float64))
        if math.isinf(level.sigma):  # pure noise of a flow model: the denoised prediction is the mean
            here = NoiseLevel.flow(torch.ones(1, dtype=torch.float64))
            denoised = gaussian.mean.expand_as(state).to(state)
        else:
            denoised = gaussian(here.to_ve(state), level.sigma)
        prediction = from_denoised(denoised, state, here, space="flow" if flow else "eps")
        state = scheduler.step(prediction, timestep, state).prev_sample
    return state


@pytest.mark.parametrize(
    "name", ["DPMSolverMultistepScheduler", "EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler"]
)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside diffusers
def test_pipelines_go_on_from_a_teleported_state(gaussian, name):
    """The skipped run ends where the whole one ends, but for the error of the steps that were skipped."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = getattr(diffusers, name)()
    scheduler.set_timesteps(200)
    noise = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = run_scheduler(scheduler, noise, gaussian, steps=200)
    start = pipeline_start(gaussian, scheduler, noise, sigma_skip=6.0)
    assert 3 < start.sigma <= 6.0
    assert start.skipped + len(start.timesteps) == 200
    skipped = run_scheduler(scheduler, start.latents, gaussian, timesteps=start.timesteps)
    assert (skipped - whole).norm() / (whole - gaussian.mean).norm() < 0.05
    # and nearer to the exact flow than the whole run is: the skipped part has no solver error
    levels, _ = scheduler_levels(scheduler)
    top = min(levels[0].sigma, 1e5)
    exact = gaussian.flow(top * noise, top, 0.0)
    assert (skipped - exact).norm() <= (whole - exact).norm() * 1.05


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("DDIMScheduler", {"clip_sample": False}),
        ("DDIMScheduler", {"clip_sample": False, "timestep_spacing": "trailing"}),
        ("UniPCMultistepScheduler", {}),
        ("UniPCMultistepScheduler", {"solver_order": 3, "use_karras_sigmas": True}),
        ("UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}),
        ("DEISMultistepScheduler", {}),
    ],
)
@pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")  # inside diffusers
def test_schedulers_without_timesteps_of_ones_own_go_on_too(gaussian, name, options):
    diffusers = pytest.importorskip("diffusers")
    scheduler = getattr(diffusers, name)(**options)
    scheduler.set_timesteps(200)
    noise = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = run_scheduler(scheduler, noise, gaussian, steps=200)
    start = pipeline_start(gaussian, scheduler, noise, sigma_skip=6.0)
    assert len(scheduler.timesteps) == 200  # the pipeline's own is left as it was
    assert 3 < start.sigma <= 6.0
    skipped = run_scheduler(start.scheduler, start.latents, gaussian, steps=200)
    assert len(start.scheduler.timesteps) == 200 - start.skipped
    assert (skipped - whole).norm() / (whole - gaussian.mean).norm() < 0.05
    levels, _ = scheduler_levels(scheduler)
    top = min(levels[0].sigma, 1e5)
    exact = gaussian.flow(top * noise, top, 0.0)
    assert (skipped - exact).norm() <= (whole - exact).norm() * 1.05
    with pytest.raises(InputError, match="200, those of the whole run"):
        start.scheduler.set_timesteps(50)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside diffusers
def test_schedulers_that_cannot_start_midway_are_refused(gaussian):
    diffusers = pytest.importorskip("diffusers")
    noise = torch.zeros(1, 1, 8, 8)
    pndm = diffusers.PNDMScheduler()  # counts its warm-up steps
    pndm.set_timesteps(10)
    with pytest.raises(InputError, match="takes no timesteps"):
        pipeline_start(gaussian, pndm, noise, sigma_skip=5.0)
    euler = diffusers.EulerDiscreteScheduler()
    euler.set_timesteps(10)
    with pytest.raises(InputError, match="visits"):
        pipeline_start(gaussian, euler, noise, sigma_skip=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside diffusers
def test_a_recorded_pipeline_starts_where_the_teleport_ends():
    """A latent diffusion pipeline through the recorder: first state, first level and number of steps."""
    diffusers = pytest.importorskip("diffusers")
    generator = torch.Generator().manual_seed(0)
    latents = 0.8 * torch.randn(300, 4, 8, 8, generator=generator) + 0.3
    law = fit_gaussian(latents, rank=20, units="latents, scaling factor applied")
    for kind in (
        diffusers.DPMSolverMultistepScheduler, diffusers.EulerDiscreteScheduler, diffusers.DDIMScheduler,
        diffusers.UniPCMultistepScheduler,
    ):  # fmt: skip
        clip = {"clip_sample": False} if kind is diffusers.DDIMScheduler else {}
        scheduler = kind(steps_offset=1, **clip)
        pipe, arguments = sd15(scheduler)
        scheduler.set_timesteps(12)
        noise = torch.randn(1, 4, 8, 8, generator=generator)
        top = scheduler_levels(scheduler)[0][0].sigma  # before the pipeline sets its own timesteps
        start = pipeline_start(law, scheduler, noise, sigma_skip=5.0)
        if start.scheduler is None:
            arguments = {**arguments, "latents": start.latents, "timesteps": start.timesteps}
        else:
            pipe.scheduler = start.scheduler
            arguments = {**arguments, "latents": start.latents, "num_inference_steps": 12}
        with record(pipe, keep="latents") as trace:
            pipe(**arguments)
        assert trace.scalars["step"].nunique() == 12 - start.skipped
        first = trace.scalars.iloc[0]
        assert first["sigma"] == pytest.approx(start.sigma, rel=1e-5)
        level = trace.arrays.events[0]["level"]
        state = trace.load("x", 0) / level["alpha"]
        expected = teleport(law, top * noise, top, start.sigma)
        torch.testing.assert_close(state, expected, rtol=1e-3, atol=1e-3)


def test_paths_leave_nothing_behind_that_a_gradient_refuses(gaussian):
    """A module that keeps something from its first call can be differentiated after `run_path`."""

    class Caching(torch.nn.Module):
        kept = None

        def forward(self, x, sigma, condition=None):
            self.kept = torch.ones(1, dtype=x.dtype) * 1 if self.kept is None else self.kept
            return gaussian(x, sigma) * self.kept

    network = Caching()
    start = 5 * torch.randn(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert not run_path(network, start, [5.0, 1.0]).end.requires_grad
    x = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(x, 1.0).sum(), x)
    assert bool(torch.isfinite(gradient).all())
