"""Guidance by a perturbed network: away from what the same network says when part of it is disturbed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.guidance.base import (
    COND,
    PERTURBED,
    UNCOND,
    GuidanceState,
    NetworkDenoiser,
    per_sample,
    require_finite,
    required,
    sample_generators,
)
from scorescope.probes.guidance.identity_attention import identity_attention
from scorescope.probes.guidance.wrappers import LinearWeight
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.sites.modules import find_site
from scorescope.probes.sites.once_a_pass import never_called
from scorescope.probes.sites.outputs import ModuleCall


class SiteHook(NamedTuple):
    """A module, and what takes the place of its output."""

    module: nn.Module
    does: Callable[[ModuleCall], Any]


@displayed
@checked
@dataclass(frozen=True)
class TimePower:
    """t^a, the power schedule of TSG, with the unit of t named.

    The paper gives a and the scale for its models, but in which unit t counts there is not established here, so the
    units are this library's: a scale found in one means nothing in the other, and the paper's in neither.

    Attributes
    ----------
    exponent : float
        a; 0 is the constant schedule.
    unit : {"flow", "log_sigma"}
        `flow`: t = sigma / (1 + sigma), the time of a linear flow. `log_sigma`: where ln sigma lies between ln low
        and ln high, from 0 to 1 and constant outside.
    low, high : float
        Noise levels, variance exploding, in units of the data; for `log_sigma`.
    """

    exponent: float
    unit: Literal["flow", "log_sigma"] = "flow"
    low: float = 0.002
    high: float = 80.0

    def __post_init__(self) -> None:
        if not 0 <= self.exponent < float("inf"):
            raise InputError("exponent", found=str(self.exponent), expected="a finite number >= 0")
        if self.unit not in ("flow", "log_sigma"):
            raise InputError("unit", found=repr(self.unit), expected="flow or log_sigma")
        if not 0 < self.low < self.high < float("inf"):
            raise InputError("low, high", found=f"{self.low}, {self.high}", expected="0 < low < high, finite")

    def __call__(self, sigma: float) -> float:
        """t^a at a noise level."""
        time = sigma / (1 + sigma) if self.unit == "flow" else LinearWeight(0, 1, self.low, self.high).fraction(sigma)
        return float(time**self.exponent)


@displayed
@checked
@dataclass(frozen=True)
class TSG:
    """Time-step guidance (Sadat et al. 2025, arXiv 2407.02687): the perturbed branch has noise on its time embedding.

    D = D_p + w (D_c - D_p), with D_p at embedding + scale * std(embedding) * noise: the paper's constant schedule, or
    with a schedule scale * schedule(sigma). For its power schedule, scale * t^a, see `TimePower`.

    Attributes
    ----------
    weight : float
        w.
    scale : float
        Strength of the noise, in standard deviations of the embedding.
    low, high : float
        Noise levels between which it acts, low < sigma <= high.
    site : str
        Name of the module whose output is the time embedding, in the denoiser (an `nn.Module`), or inside a
        pipeline in its network ("time_embedding").
    schedule : callable, optional
        sigma to a factor >= 0 of `scale`, such as a `TimePower`; None is 1 at all noise levels.
    """

    weight: float
    scale: float = 1.0
    low: float = 0.0
    high: float = float("inf")
    site: str = "network.noise_embedding"
    schedule: Callable[[float], float] | None = None
    branch_parameters: ClassVar[tuple[str, ...]] = ("scale", "site", "schedule")

    def __post_init__(self) -> None:
        require_finite("weight", self.weight)
        if not 0 <= self.scale < float("inf"):
            raise InputError("scale", found=str(self.scale), expected="a finite number >= 0")
        if not 0 <= self.low < self.high:
            raise InputError("low, high", found=f"{self.low}, {self.high}", expected="0 <= low < high")

    def branches(self, state: GuidanceState) -> tuple[str, ...]:
        """The perturbed branch inside the range of noise levels."""
        inside = self.low < state.sigma <= self.high
        return (COND, PERTURBED) if inside and self.weight != 1 and self.strength(state.sigma) else (COND,)

    def effective_weight(self, state: GuidanceState) -> float:
        """w where the branch is perturbed, 1 elsewhere."""
        return self.weight if PERTURBED in self.branches(state) else 1.0

    def strength(self, sigma: float) -> float:
        """Strength of the noise at a noise level, in standard deviations of the embedding."""
        factor = 1.0 if self.schedule is None else float(self.schedule(sigma))
        if not 0 <= factor < float("inf"):
            raise InputError("schedule", found=f"{factor} at sigma {sigma:.4g}", expected="a finite factor >= 0")
        return self.scale * factor

    def predict(
        self, branch: str, denoiser: Denoiser, x: Tensor, sigma: Tensor, condition: Condition, state: GuidanceState
    ) -> Tensor | None:
        """The prediction with a noisy time embedding."""
        if branch != PERTURBED:
            return None
        generators, scale = sample_generators(state, 2), self.strength(state.sigma)

        def add_noise(call: ModuleCall) -> Tensor:
            embedding = call.output
            if not isinstance(embedding, Tensor) or embedding.ndim < 2:
                found = f"{self.site!r}, which puts out no tensor of a row a sample"
                raise InputError("site", found=found, expected="the module that embeds the time")
            draws = [torch.randn(embedding.shape[1:], generator=generator) for generator in generators]
            noise = rows_of_samples(torch.stack(draws), denoiser, embedding)
            return embedding + scale * per_sample(embedding.flatten(1).std(1), embedding) * noise

        with hooked(denoiser, [self.site], lambda module: SiteHook(module, add_noise)):
            return denoiser(x, sigma, condition)

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """D_p + w (D_c - D_p) inside the range, D_c outside."""
        if PERTURBED not in self.branches(state):
            return cond
        return torch.lerp(required(state.others.get(PERTURBED), cond, name=PERTURBED), cond, self.weight)


@displayed
@dataclass(frozen=True)
class Perturbing:
    """What rules of a perturbed branch beside CFG share: D_c + (w - 1) (D_c - D_u) + s (D_c - D_p).

    Attributes
    ----------
    scale : float
        s.
    sites : tuple of str
        Names of modules in the denoiser (an `nn.Module`), or inside a pipeline in its network.
    weight : float
        w of the CFG term; 1 is none, and then the unconditional branch is not computed.
    first, last : int
        Steps in which the term of s acts, inclusive, from 0; the CFG term acts in all.
    """

    scale: float
    sites: tuple[str, ...]
    weight: float = 1.0
    first: int = 0
    last: int = 10**9
    branch_parameters: ClassVar[tuple[str, ...]] = ("sites",)

    def __post_init__(self) -> None:
        require_finite("scale", self.scale)
        require_finite("weight", self.weight)
        require_sites(self.sites)
        if not 0 <= self.first <= self.last:
            raise InputError("first, last", found=f"{self.first}, {self.last}", expected="0 <= first <= last")

    def hook(self, module: nn.Module) -> SiteHook:
        """What is done to a site's module in the perturbed branch; `InputError` for one that it cannot be done to."""
        raise NotImplementedError

    def branches(self, state: GuidanceState) -> tuple[str, ...]:
        """Two or three branches."""
        uncond = (UNCOND,) if self.weight != 1 else ()
        return (COND, *uncond, PERTURBED) if self._acts(state) else (COND, *uncond)

    def _acts(self, state: GuidanceState) -> bool:
        return bool(self.scale) and self.first <= state.step <= self.last

    def predict(
        self, branch: str, denoiser: Denoiser, x: Tensor, sigma: Tensor, condition: Condition, state: GuidanceState
    ) -> Tensor | None:
        """The prediction with the hooks at the sites."""
        if branch != PERTURBED:
            return None
        with hooked(denoiser, self.sites, self.hook):
            return denoiser(x, sigma, condition)

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """D_c + (w - 1) (D_c - D_u) + s (D_c - D_p)."""
        guided = cond if self.weight == 1 else torch.lerp(required(uncond, cond), cond, self.weight)
        if not self._acts(state):
            return guided
        away = cond - required(state.others.get(PERTURBED), cond, name=PERTURBED)
        return away.mul_(self.scale).add_(guided)


@displayed
@checked
@dataclass(frozen=True)
class PAG(Perturbing):
    """Perturbed-attention guidance (Ahn et al. 2024, arXiv 2403.17377), with or without CFG beside it.

    D = D_c + (w - 1) (D_c - D_u) + s (D_c - D_p), with D_p from the network whose self-attention maps at the named
    sites are the identity: each position keeps its own value.

    Attributes
    ----------
    scale : float
        s.
    sites : tuple of str
        Names of self-attention modules in the denoiser (an `nn.Module`), or inside a pipeline in its network
        ("mid_block.attentions.0.transformer_blocks.0.attn1"). Each must have a method `without_mixing` that takes
        what its forward takes and returns what it would with an identity attention map, or be diffusers' `Attention`.
    weight : float
        w of the CFG term; 1 is none, and then the unconditional branch is not computed.
    first, last : int
        Steps in which the term of s acts, inclusive, from 0; the CFG term acts in all.
    """

    sites: tuple[str, ...] = ("network.attention",)

    def hook(self, module: nn.Module) -> SiteHook:
        """The values in place of what attention makes of them."""
        values = identity_attention(module)
        return SiteHook(module, lambda call: values(*call.args, **call.kwargs))


def require_sites(sites: Sequence[str]) -> None:
    """Raise `InputError` unless there is at least one site, and each once."""
    if not sites or len(set(sites)) < len(sites):
        raise InputError("sites", found=str(tuple(sites)), expected="at least one module's name, and each once")


def rows_of_samples(draws: Tensor, denoiser: Denoiser, output: Tensor) -> Tensor:
    """What was drawn for each sample, for each row of a module's output, in its dtype and on its device."""
    draws = draws.to(output)
    return draws[denoiser.samples(len(output)).to(draws.device)] if isinstance(denoiser, NetworkDenoiser) else draws


@contextmanager
def hooked(denoiser: Denoiser, sites: Sequence[str], make: Callable[[nn.Module], SiteHook]) -> Iterator[None]:
    """Hooks at named modules, for a with block; an error for a site that stays silent."""
    root = denoiser.root if isinstance(denoiser, NetworkDenoiser) else denoiser
    hooks = {site: make(find_site(root, site)) for site in sites}
    called: set[str] = set()

    def run(site: str, does: Callable[[ModuleCall], Any], module: nn.Module, *given: Any) -> Any:
        called.add(site)
        return does(ModuleCall(module, *given))

    with ExitStack() as stack:
        for site, hook in hooks.items():
            handle = hook.module.register_forward_hook(partial(run, site, hook.does), with_kwargs=True)
            stack.callback(handle.remove)
        yield
    if silent := [site for site in hooks if site not in called]:
        raise never_called(silent[0])
