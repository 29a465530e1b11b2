"""Analytical teleportation: replace the first part of sampling by a Gaussian's closed-form flow.

    run = sample_teleported(denoiser, gaussian, seeds=range(64), sigma_skip=8.0, sigmas=edm_sigmas(18))
    x = teleport(gaussian, x_T, 80.0, 8.0)                      # for a loop of your own
    start = pipeline_start(gaussian, scheduler, noise, sigma_skip=8.0)
    pipeline(latents=start.latents, timesteps=start.timesteps)   # a diffusers pipeline, from there on
    pipeline.scheduler = start.scheduler                         # DDIM, UniPC, DEIS take no timesteps: instead, the
    pipeline(latents=start.latents, num_inference_steps=steps)   # steps of the whole run, of which it does the rest

At high noise a denoiser is nearly that of a Gaussian with the data's mean and covariance, whose flow costs one
matrix product in place of several denoiser calls (Wang & Vastola 2024, arXiv 2412.09726). The Gaussian must be
fitted in the units of the model's x0: for latent models, on latents with the scaling factor applied.
"""

import copy
import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked, require_members
from scorescope.data.errors import InputError
from scorescope.probes.approximations.gaussian import Gaussian
from scorescope.probes.approximations.mixture import Mixture
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.models.noise import SampleNoise, check_sigmas
from scorescope.probes.pipelines.level import Level
from scorescope.probes.pipelines.level_reader import LevelReader
from scorescope.probes.sampling.sample import Run, sample

Carrier = Gaussian | Mixture
MIDWAY = ("DDIMScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler")
"""Schedulers without timesteps of one's own that are known to go on from the middle of their run."""

PURE_NOISE = 1e5  # stands for the infinite noise level of a flow model's start


@checked
def teleport(law: Carrier, x: Tensor, sigma_from: float, sigma_skip: float, *, condition: Condition = None) -> Tensor:
    """Carry states from sigma_from down to sigma_skip in one step.

    Parameters
    ----------
    law : Gaussian, or Mixture with labels
        A mixture carries each sample by the Gaussian of its class, and needs a condition.
    x : Tensor, shape (batch, *shape)
        States at sigma_from, variance exploding, in units of the data.
    sigma_from, sigma_skip : float
        Noise levels, sigma_from >= sigma_skip >= 0.
    condition : Tensor, shape (batch,), optional
        Labels, for a mixture.

    Returns
    -------
    Tensor, shape and dtype of x
        States at sigma_skip.

    Raises
    ------
    InputError
        For levels in the wrong order, or a mixture without labels or condition.
    """
    if not 0 <= sigma_skip <= sigma_from:
        raise InputError(
            "sigma_skip", found=f"{sigma_skip:g} from {sigma_from:g}", expected="a level in [0, sigma_from]"
        )
    if isinstance(law, Mixture):
        return law.flow(x, sigma_from, sigma_skip, condition)
    return law.flow(x, sigma_from, sigma_skip)


def levels_below(sigmas: Sequence[float], sigma_skip: float) -> list[float]:
    """The levels of a grid from sigma_skip on: 'same steps, fewer calls'.

    sigma_skip itself is put in front where it is not (to a relative 1e-6) a level of the grid; for a rho-spaced grid
    and one of its own levels, the result is the grid of the remaining steps.
    """
    check_sigmas(sigmas)
    below = [sigma for sigma in sigmas if sigma < sigma_skip * (1 - 1e-6)]
    if not sigmas[-1] < sigma_skip <= sigmas[0] * (1 + 1e-6):
        raise InputError("sigma_skip", found=f"{sigma_skip:g}", expected=f"a level in ({sigmas[-1]:g}, {sigmas[0]:g}]")
    near = [sigma for sigma in sigmas if abs(sigma - sigma_skip) <= 1e-6 * sigma_skip]
    return [near[0] if near else sigma_skip, *below]


@checked
def sample_teleported(
    denoiser: Denoiser,
    law: Carrier,
    *,
    seeds: Sequence[int],
    sigma_skip: float,
    sigmas: Sequence[float],
    sigma_max: float | None = None,
    condition: Condition = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> Run:
    """Sample with the steps above sigma_skip replaced by the closed form.

    Parameters
    ----------
    denoiser : Denoiser
        The model.
    law : Gaussian, or Mixture with labels
        What carries the states.
    seeds : sequence of int
        As in `sample`: sample i starts from sigma_max times the first noise of seeds[i], so that it can be compared
        with the run of the same seed that was not teleported.
    sigma_skip : float
        Where the sampler starts.
    sigmas : sequence of float
        Grid of the whole run; the levels below sigma_skip are used.
    sigma_max : float, optional
        Noise level of the start; by default sigmas[0].
    condition, device, dtype, **options
        As in `sample`.
    """
    top = float(sigmas[0] if sigma_max is None else sigma_max)
    rest = levels_below(sigmas, sigma_skip)
    noise = SampleNoise([int(seed) for seed in seeds], law.shape, torch.device(device), dtype).draw()
    start = teleport(law, top * noise, top, rest[0], condition=condition)
    return sample(
        denoiser, seeds=seeds, condition=condition, shape=law.shape, sigmas=rest, start=start, device=device,
        dtype=dtype, **options,
    )  # fmt: skip


@displayed
@dataclass(frozen=True)
class PipelineStart:
    """Where a diffusers pipeline is to start.

    Attributes
    ----------
    latents : Tensor, shape (batch, *shape)
        For the pipeline's `latents` argument: it multiplies them by `scheduler.init_noise_sigma` itself.
    timesteps : list
        For its `timesteps` argument: the scheduler's own from the start on.
    sigma : float
        Noise level there, variance exploding.
    skipped : int
        Steps that the closed form replaces.
    scheduler : diffusers scheduler, optional
        For a pipeline whose scheduler takes no timesteps: its own in place of that one's. Its `set_timesteps` takes
        the number of steps of the whole run, and leaves out those that are skipped. None elsewhere.
    """

    latents: Tensor
    timesteps: list[float]
    sigma: float
    skipped: int
    scheduler: Any = None


@checked
def pipeline_start(
    law: Carrier, scheduler: Any, noise: Tensor, *, sigma_skip: float, condition: Condition = None
) -> PipelineStart:
    """Starting latents and timesteps that make a diffusers pipeline go on from a teleported state.

    Parameters
    ----------
    law : Gaussian, or Mixture with labels
        Fitted in units of the pipeline's x0 (latents: scaling factor applied).
    scheduler : diffusers scheduler
        With `set_timesteps` called for the whole run; every family that `LevelReader` knows.
    noise : Tensor, shape (batch, *shape)
        Standard normal: what the pipeline would have drawn.
    sigma_skip : float
        The first of the scheduler's levels at or below it is where the pipeline starts.
    condition : optional
        Labels, for a mixture.

    Raises
    ------
    InputError
        If no level of the scheduler is at or below sigma_skip, its levels are not known, or it neither takes
        timesteps nor is one of `MIDWAY`.
    """
    expected = "a diffusers scheduler whose timesteps are set"
    require_members("scheduler", scheduler, "timesteps", "set_timesteps", expected=expected)
    levels, timesteps = scheduler_levels(scheduler)
    below = [index for index, level in enumerate(levels) if level.sigma <= sigma_skip * (1 + 1e-6)]
    if not below:
        found = f"{sigma_skip:g}, below the scheduler's last level {levels[-1].sigma:g}"
        raise InputError("sigma_skip", found=found, expected="a level that the scheduler visits")
    rest = timesteps[below[0] :]
    takes = "timesteps" in inspect.signature(scheduler.set_timesteps).parameters
    shortened = copy.deepcopy(scheduler) if takes else _midway(scheduler, below[0])
    if takes:
        shortened.set_timesteps(timesteps=rest)  # what the pipeline will make of them
    first = scheduler_levels(shortened)[0][0]
    top, sigma = min(float(levels[0].sigma), PURE_NOISE), float(first.sigma)
    state = teleport(law, top * noise, top, sigma, condition=condition)
    latents = first.alpha * state / float(getattr(shortened, "init_noise_sigma", 1.0))
    return PipelineStart(latents, rest, sigma, below[0], None if takes else shortened)


def _midway(scheduler: Any, skipped: int) -> Any:
    """A scheduler of the same kind that leaves out the first steps of every run of as many steps as this one has.

    DDIM finds its next level from the timestep alone; UniPC and DEIS count along tables, which are cut as well.
    """
    kind, steps = type(scheduler), len(scheduler.timesteps)
    if kind.__name__ not in MIDWAY:
        found = f"{kind.__name__}, which takes no timesteps of one's own"
        expected = f"one whose set_timesteps does, such as DPM-Solver or Euler, or one of {', '.join(MIDWAY)}"
        raise InputError("scheduler", found=found, expected=expected)

    def set_timesteps(self: Any, *arguments: Any, **options: Any) -> None:
        kind.set_timesteps(self, *arguments, **options)
        if len(self.timesteps) != steps:
            found, expected = f"{len(self.timesteps)} steps", f"{steps}, those of the whole run: {skipped} are skipped"
            raise InputError("num_inference_steps", found=found, expected=expected)
        self.timesteps = self.timesteps[skipped:]
        if hasattr(self, "sigmas"):
            self.sigmas, self.num_inference_steps = self.sigmas[skipped:], steps - skipped

    late = copy.deepcopy(scheduler)
    late.__class__ = type(kind.__name__, (kind,), {"set_timesteps": set_timesteps, "__module__": kind.__module__})
    late.set_timesteps(steps)
    return late


def scheduler_levels(scheduler: Any) -> tuple[list[Level], list[float]]:
    """Noise level and timestep of every step of a diffusers scheduler whose timesteps are set.

    Raises
    ------
    InputError
        If its noise levels are not known, or differ between samples.
    """
    reader, timesteps, state = LevelReader(), torch.as_tensor(scheduler.timesteps).cpu(), torch.zeros(1)
    levels = [reader.read(scheduler, timestep, state) for timestep in timesteps]
    for level in levels:
        if not isinstance(level.sigma, float) or math.isnan(level.sigma):
            found = f"{type(scheduler).__name__} ({level.note or 'levels that differ inside a batch'})"
            raise InputError("scheduler", found=found, expected="one with known noise levels; else use `teleport`")
    return levels, timesteps.tolist()
