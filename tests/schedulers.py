"""Every scheduler class of the installed diffusers with a network that knows x0, and what is expected of each.

The network is written in the space that the scheduler uses by solving the scheduler's own step for it: the model
output is the one with which the x0 that the step returns (or its converted output, or where it would go if the next
level were the end) is x0. What a state holds is measured: all noise is orthogonal to x0 and to all noise before it,
so that the weights of data and noise can be read from the state itself. Nothing here asks our own reader.
"""

import copy
import functools
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

SHAPE = (1, 4, 8, 8)


class OrthogonalNoise:
    """Draws of unit variance, exactly, and orthogonal to x0 and to each other."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(0)
        self._drawn: list[Tensor] = []
        self.silent = False
        self.x0 = self.draw()

    def draw(self, *_: Any, **__: Any) -> Tensor:
        """The next one, shape SHAPE, float64; zero while nothing is to be drawn."""
        if self.silent:
            return torch.zeros(SHAPE, dtype=torch.float64)
        fresh = torch.randn(SHAPE, generator=self._generator, dtype=torch.float64)
        for earlier in self._drawn * 2:
            fresh = fresh - (fresh * earlier).sum() / earlier.square().sum() * earlier
        self._drawn.append(fresh * (fresh.numel() ** 0.5 / fresh.norm()))
        return self._drawn[-1]

    def weights(self, state: Tensor) -> tuple[float, float]:
        """Of data and noise in a state alpha x0 + s n."""
        state = state.double()
        alpha = (state * self.x0).sum() / self.x0.square().sum()
        return float(alpha), float((state - alpha * self.x0).norm() / state.numel() ** 0.5)


@functools.cache
def classes() -> dict[str, type]:
    """Every scheduler class of the installed diffusers, by name; torchsde need not be there."""
    import diffusers.schedulers as package
    from diffusers import SchedulerMixin

    stand_in = ModuleType("torchsde")
    sys.modules.setdefault("torchsde", stand_in)
    found: dict[str, type] = {}
    for part in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if part.name.endswith("_flax"):  # of older versions, beside the class for torch
            continue
        module = importlib.import_module(part.name)
        found |= {
            name: kind
            for name, kind in vars(module).items()
            if _is_own(kind, module) and issubclass(kind, SchedulerMixin) and kind is not SchedulerMixin
        }
    if sys.modules["torchsde"] is stand_in:
        del sys.modules["torchsde"]
    return found


def _is_own(kind: Any, module: ModuleType) -> bool:
    return isinstance(kind, type) and kind.__module__ == module.__name__


@dataclass(frozen=True)
class Case:
    """One configuration of a class, and how a run of it is made.

    Attributes
    ----------
    config : mapping
        Arguments of the class.
    timesteps : mapping
        Arguments of `set_timesteps`.
    step : mapping
        Further arguments of `step`.
    registered : mapping
        What a pipeline writes into the configuration afterwards.
    drifts : bool
        Its steps mix predictions of several levels, and do not end quite where they say.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    timesteps: Mapping[str, Any] = field(default_factory=dict)
    step: Mapping[str, Any] = field(default_factory=dict)
    registered: Mapping[str, Any] = field(default_factory=dict)
    drifts: bool = False

    def make(self, kind: type) -> Any:
        """The scheduler, before its timesteps are set."""
        scheduler = kind(**self.config)
        if self.registered:
            scheduler.register_to_config(**self.registered)
        return scheduler


@dataclass(frozen=True)
class Visit:
    """One step of a scheduler with a network that knows x0.

    Attributes
    ----------
    level
        What the reader said before the step.
    state, prediction : Tensor
        What the step was given; the prediction is None where no prediction makes the scheduler know x0.
    alpha, s : float
        Weights of data and noise in the state.
    alpha_next, s_next : float
        In the state that the step returned.
    estimate : Tensor or None
        The x0 that the step returned.
    """

    level: Any
    state: Tensor
    prediction: Tensor | None
    alpha: float
    s: float
    alpha_next: float
    s_next: float
    estimate: Tensor | None


def walk(kind: type, case: Case, noise: OrthogonalNoise, read: Callable[..., Any]) -> Iterator[Visit]:
    """A run of a scheduler with a network that knows x0, from the noisiest state that its own `add_noise` makes.

    `read` is called with the scheduler before a step, the timestep, the state and further arguments of the step.
    """
    scheduler, name = case.make(kind), kind.__name__
    scheduler.set_timesteps(**({"num_inference_steps": 4} | dict(case.timesteps)))
    _quieten(scheduler, noise)
    first, times = noise.draw(), list(scheduler.timesteps)
    times = times[:-1] if name in _ONE_MORE else times
    state = _noised(scheduler, noise.x0, first, times[0])
    for place, time in enumerate(times):
        state = _noised(scheduler, noise.x0, first, time) if name in _REBUILT else state
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(state, time)
        time = time.expand(1) if name == "DDPMWuerstchenScheduler" else time
        extra = _extra(name, noise, times[place + 1] if place + 1 < len(times) else None) | dict(case.step)
        prediction = exact_prediction(scheduler, time, state, extra, noise)
        level = read(scheduler, time, state, extra)
        output = torch.zeros_like(state) if prediction is None else prediction
        result = scheduler.step(model_output=output, timestep=time, sample=state, **extra)
        after = result[0] if isinstance(result, tuple) else result.prev_sample
        weights = (*noise.weights(state), *noise.weights(after))
        yield Visit(level, state, prediction, *weights, _own_estimate(result))
        state = after


_ONE_MORE = ("DDPMWuerstchenScheduler", "SCMScheduler")  # the last entry of their timesteps is where they end
_REBUILT = (  # of no memory, and their steps need not end where the next one starts
    "DDIMScheduler", "DDIMParallelScheduler", "CogVideoXDDIMScheduler", "CogVideoXDPMScheduler", "PNDMScheduler",
    "RePaintScheduler", "IPNDMScheduler", "FlowMapEulerDiscreteScheduler",
)  # fmt: skip


def _extra(name: str, noise: OrthogonalNoise, later: Any) -> dict[str, Any]:
    if name == "RePaintScheduler":
        return {"original_image": noise.x0, "mask": torch.zeros_like(noise.x0)}
    if name == "CogVideoXDPMScheduler":
        return {"old_pred_original_sample": None, "timestep_back": None}
    if name == "UnCLIPScheduler":
        return {"prev_timestep": later}
    return {}


def _quieten(scheduler: Any, noise: OrthogonalNoise) -> None:
    """Make a scheduler draw its noise from ours."""
    module = sys.modules[type(scheduler).__module__]
    if hasattr(module, "randn_tensor"):
        vars(module)["randn_tensor"] = noise.draw
    if hasattr(scheduler, "noise_sampler"):
        scheduler.noise_sampler = noise.draw


def _noised(scheduler: Any, x0: Tensor, noise: Tensor, time: Any) -> Tensor:
    """The state that the scheduler's own forward process makes, or what its pipeline starts with."""
    name, time = type(scheduler).__name__, torch.as_tensor(time).reshape(1)
    if name == "SCMScheduler":
        return x0 * torch.cos(time) + scheduler.config.sigma_data * torch.sin(time) * noise
    if name == "IPNDMScheduler":  # its step takes (state - beta noise) / alpha for x0
        place = int((scheduler.timesteps - time).abs().argmin())
        return scheduler.alphas[place] * x0 + scheduler.betas[place] * noise
    if name == "LTXEulerAncestralRFScheduler" or getattr(scheduler.config, "invert_sigmas", False):
        return noise
    if getattr(scheduler.config, "use_flow_sigmas", False):
        return (1 - scheduler.sigmas[0]) * x0 + scheduler.sigmas[0] * noise
    if name == "RePaintScheduler":  # "Use `DDPMScheduler.add_noise()`"
        from diffusers import DDPMScheduler

        return DDPMScheduler.add_noise(scheduler, x0, noise, time)
    if name == "DDIMInverseScheduler":  # starts from clean data
        share = float(scheduler.initial_alpha_cumprod)
        return share**0.5 * x0 + (1 - share) ** 0.5 * noise
    if name == "FlowMatchEulerDiscreteScheduler" and float(scheduler.sigmas[0]) > 1:
        return x0 + float(scheduler.sigmas[0]) * noise  # as the Cosmos pipelines do
    if hasattr(scheduler, "scale_noise"):
        return scheduler.scale_noise(x0, time, noise)
    if name == "RFD4ProteinaScheduler":
        return (1 - time) * noise + time * x0
    return scheduler.add_noise(x0, noise, time)


def exact_prediction(
    scheduler: Any, time: Any, state: Tensor, extra: Mapping[str, Any], noise: OrthogonalNoise
) -> Tensor:
    """The model output with which the scheduler estimates x0 exactly; zero where its estimate does not depend on it."""
    noise.silent = True
    try:
        estimate, target = _estimator(scheduler, time, state, dict(extra), noise)
        at_zero = estimate(torch.zeros_like(state)).double()
        slope = estimate(torch.ones_like(state)).double() - at_zero
    finally:
        noise.silent = False
    if not bool((slope.abs() > 1e-7).all() and slope.isfinite().all()):
        return None
    return ((target - at_zero) / slope).to(state.dtype)


def _estimator(
    scheduler: Any, time: Any, state: Tensor, extra: dict[str, Any], noise: OrthogonalNoise
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """What the scheduler makes of a model output, and what that is where x0 is known."""
    name = type(scheduler).__name__

    def own_estimate(output: Tensor) -> Any:
        return _own_estimate(copy.deepcopy(scheduler).step(model_output=output, timestep=time, sample=state, **extra))

    if hasattr(scheduler, "convert_model_output"):
        own = copy.deepcopy(scheduler)
        if own.step_index is None:
            own._step_index = 0
        alpha, s = own._sigma_to_alpha_sigma_t(own.sigmas[own.step_index])
        gives_x0 = _gives_x0(own)

        def converted(output: Tensor) -> Tensor:
            value = own.convert_model_output(output, sample=state)
            return value if gives_x0 else (state - s * value) / alpha

        return converted, noise.x0
    if name == "DDPMWuerstchenScheduler":  # "eps": the noise that its add_noise adds
        alpha, s = noise.weights(state)
        return lambda output: output, (state - alpha * noise.x0) / s
    if name == "TCDScheduler":
        end = copy.deepcopy(scheduler)
        end.alphas_cumprod[0] = 1.0
        return lambda output: copy.deepcopy(end).step(output, time, state, eta=1.0).pred_noised_sample, noise.x0
    if name == "PNDMScheduler":
        end = copy.deepcopy(scheduler)
        end.final_alpha_cumprod = torch.tensor(1.0)
        return lambda output: end._get_prev_sample(state, int(time), -1, output), noise.x0
    if own_estimate(torch.zeros_like(state)) is not None:
        return own_estimate, noise.x0
    extra.pop("r_timestep", None)
    return lambda output: _to_the_end(scheduler).step(output, time, state, **extra).prev_sample, noise.x0


def _gives_x0(scheduler: Any) -> bool:
    """Whether `convert_model_output` gives x0, and not eps."""
    algorithm = getattr(scheduler.config, "algorithm_type", "dpmsolver++")
    return bool(getattr(scheduler, "predict_x0", "++" in algorithm or algorithm == "data_prediction"))


def _own_estimate(result: Any) -> Tensor | None:
    if isinstance(result, tuple):  # CogVideoXDPM
        return result[1]
    named = [getattr(result, name, None) for name in ("pred_original_sample", "denoised")]
    return next((value for value in named if value is not None), None)


def _to_the_end(scheduler: Any) -> Any:
    """A copy without memory whose next level is its last one: without noise."""
    end = copy.deepcopy(scheduler)
    place = scheduler.step_index or 0
    for name in ("sigmas", "alphas", "betas"):
        if isinstance(table := getattr(end, name, None), Tensor):
            table = table.clone()
            table[place + 1 :] = table[-1]
            setattr(end, name, table)
    for name, empty in (("ets", []), ("dt", None), ("prev_derivative", None)):
        if hasattr(end, name):
            setattr(end, name, empty)
    return end
