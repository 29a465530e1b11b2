"""The `Rule` protocol, the state a rule is called with, and the pieces that rules share.

A rule is a small frozen dataclass, called on (cond, uncond, state) in denoised space. The weight convention is
w = 1 for no guidance: D_u + w (D_c - D_u). What a rule remembers from step to step lives in `state.memory`, which
belongs to the run, so one rule object serves any number of runs.
"""

import math
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.decomposition.products import chosen_products
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.models.spaces import NoiseLevel

COND, UNCOND, WEAK, PERTURBED = "cond", "uncond", "weak", "perturbed"
SCORE_PRODUCTS = ("noise_sq", "update_noise", "update_sq")  # what the two scores are known by, but for 1 / sigma^2


class Products:
    """Inner products of the branches at one state, each computed when it is first asked for.

    Rules that are compared at the same state share one, so a product is computed once for all of them.

    Parameters
    ----------
    cond, uncond : Tensor, shape (batch, *shape)
        Denoised predictions c and u.
    x : Tensor, shape (batch, *shape)
        The state.
    known : mapping, optional
        Products that were computed before, by `branch_products` of the same tensors.
    """

    def __init__(self, cond: Tensor, uncond: Tensor, x: Tensor, known: Mapping[str, Tensor] | None = None) -> None:
        self._tensors, self._known = (cond, uncond, x), dict(known or {})
        self.size = cond[0].numel()

    def of(self, cond: Tensor, uncond: Tensor, x: Tensor) -> bool:
        """Whether these are the products of exactly these tensors."""
        return all(mine is other for mine, other in zip(self._tensors, (cond, uncond, x), strict=True))

    def __call__(self, *names: str) -> list[Tensor]:
        """Products by the names of `chosen_products`; float64, one a sample."""
        if missing := [name for name in names if name not in self._known]:
            self._known |= chosen_products(missing, *self._tensors)
        return [self._known[name] for name in names]


@displayed
@dataclass
class GuidanceState:
    """Where on its path a run is when a rule is called.

    Attributes
    ----------
    x : Tensor, shape (batch, *shape)
        State, variance-exploding convention.
    sigma : float
        Its noise level.
    sigma_next : float
        Noise level the step goes to; 0 at the last step, equal to sigma in a solver's correction.
    step, call : int
        Scheduler step, and denoiser call within it (Heun has two).
    memory : dict
        What rules remember from step to step; starts empty with the run.
    seeds : sequence of int
        Seeds of the samples, for rules that draw at random.
    others : dict
        Predictions of branches other than cond and uncond, by branch name.
    products : Products, optional
        Inner products of the branches, where several rules are called at one state; see `inner_products`.
    """

    x: Tensor
    sigma: float
    sigma_next: float
    step: int
    call: int
    memory: MutableMapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = ()
    others: MutableMapping[str, Tensor] = field(default_factory=dict)
    products: Products | None = None

    @property
    def level(self) -> NoiseLevel:
        """The noise level for conversions between spaces."""
        sigma = torch.full((len(self.x),), self.sigma, dtype=self.x.dtype, device=self.x.device)
        return NoiseLevel(torch.ones_like(sigma), sigma)  # not `ve`, which waits for the device to look at the values


@runtime_checkable
class Rule(Protocol):
    """A guidance rule."""

    @property
    def weight(self) -> float:
        """Guidance weight w; 1 is no guidance."""
        ...

    def branches(self, state: GuidanceState) -> tuple[str, ...]:
        """Branches that the rule needs at this state, `cond` first; the others are not computed."""
        ...

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """The guided prediction, in denoised space, shaped like `cond`.

        `uncond` is None where `branches` did not ask for it; branches other than the two are in `state.others`.
        """
        ...


@displayed
@dataclass(frozen=True)
class WeightedRule:
    """What most rules share: one weight w, and no other branch than `cond` at w = 1. They say what they predict."""

    weight: float

    def __post_init__(self) -> None:
        require_finite("weight", self.weight)

    def branches(self, state: GuidanceState) -> tuple[str, ...]:
        """Both branches; at w = 1 the unconditional one is not needed."""
        return (COND,) if self.weight == 1 else (COND, UNCOND)


@runtime_checkable
class RowRule(Rule, Protocol):
    """A rule that may need the unconditional branch for some samples only."""

    def rows(self, state: GuidanceState) -> Tensor:
        """Which samples need it, bool, shape (batch,); asked only where `branches` names that branch."""
        ...


@runtime_checkable
class BranchRule(Rule, Protocol):
    """A rule that computes a branch in its own way: another model, another condition, a perturbed network.

    Inside a pipeline `cond` and `uncond` are the pipeline's; a rule that computes its own `uncond` names it in a class
    attribute `own_branches`, and then the pipeline need not have one. `branch_parameters` may name the fields that
    shape its branches, and `own_reference` what its own `uncond` is called in tables (see `guidance.branch_makers`).
    """

    def predict(
        self, branch: str, denoiser: Denoiser, x: Tensor, sigma: Tensor, condition: Condition, state: GuidanceState
    ) -> Tensor | None:
        """The prediction of `branch`, or None where the rule has nothing of its own for it."""
        ...


@runtime_checkable
class NetworkDenoiser(Protocol):
    """A denoiser around a network that is called in another way: what `guide` hands to rules inside a pipeline."""

    @property
    def root(self) -> Any:
        """The network; sites are named from it."""
        ...

    def around(self, network: Any, *, argument: str) -> Denoiser:
        """The same with another network, called with the same arguments; `argument` names it in errors."""
        ...

    def samples(self, rows: int) -> Tensor:
        """Which sample each of the network's rows belongs to, int64, shape (rows,)."""
        ...


@runtime_checkable
class WeakNetwork(Protocol):
    """A way to make a weak model of the network itself, in place of another one."""

    sites: tuple[str, ...]

    def weak_prediction(
        self, denoiser: Denoiser, x: Tensor, sigma: Tensor, condition: Condition, state: GuidanceState
    ) -> Tensor:
        """The weak model's prediction."""
        ...

    def hook(self, module: nn.Module) -> Any:
        """What is done to a site's module; `InputError` for one that it cannot be done to."""
        ...


def inner_products(cond: Tensor, uncond: Tensor, state: GuidanceState, *names: str) -> list[Tensor]:
    """Products of c, d = c - u and e = x - c by name, as `Products` gives them; shared where the state shares them."""
    found = state.products
    if found is None or not found.of(cond, uncond, state.x):
        found = Products(cond, uncond, state.x)
    return found(*names)


def evaluations_needed(rule: Rule, state: GuidanceState) -> Tensor:
    """Denoiser evaluations that the rule asks for at this state, one number a sample, int64."""
    branches = rule.branches(state)
    needed = torch.full((len(state.x),), len(branches), device=state.x.device)
    if UNCOND in branches and isinstance(rule, RowRule):
        needed -= (~rule.rows(state)).long()
    return needed


@checked
def describe(rule: Rule) -> str:
    """A short name: the class, and in brackets the rule that it wraps."""
    inner = getattr(rule, "rule", None)
    return type(rule).__name__ if inner is None else f"{type(rule).__name__}[{describe(inner)}]"


def weight_at(rule: Rule, state: GuidanceState) -> float:
    """The weight w with which a rule acts at a state; NaN where it has none, or several.

    Inside wrappers it is that of the rule that acts there, and 1 where none does.
    """
    if callable(inside := getattr(rule, "inside", None)) and not inside(state):
        return 1.0
    if callable(inner := getattr(rule, "inner", None)):
        return weight_at(inner(state), state)
    if callable(effective := getattr(rule, "effective_weight", None)):
        return float(effective(state))
    stated = is_dataclass(rule) and any(item.name == "weight" for item in fields(rule))
    return float(rule.weight) if stated else math.nan


def row_weights(rule: Rule, state: GuidanceState, rows: Tensor | None) -> NDArray[np.float64]:
    """The same for each sample, where the rule needs the unconditional branch for some `rows` only: shape (batch,)."""
    weights = np.full(len(state.x), weight_at(rule, state))
    return weights if rows is None else np.where(rows.cpu().numpy(), weights, 1.0)


def sample_generators(state: GuidanceState, tag: int) -> list[torch.Generator]:
    """One CPU generator a sample, made from its seed, the step and the call: batches do not change what it draws."""
    if len(state.seeds) != len(state.x):
        raise InputError("state.seeds", found=f"{len(state.seeds)} seeds", expected=f"{len(state.x)}, one a sample")
    place = (state.step * 8 + state.call) * 16 + tag
    # an odd factor maps 32 bits onto themselves, and away from the small numbers that seed the samples' own noise
    seeds = [(int(seed) * 1_000_003 + place) * 2_654_435_761 % 2**32 for seed in state.seeds]
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def require_finite(argument: str, value: float) -> None:
    """Raise `InputError` unless `value` is a finite number."""
    if not abs(value) < float("inf"):
        raise InputError(argument, found=str(value), expected="a finite number")


def required(branch: Tensor | None, cond: Tensor, *, name: str = UNCOND) -> Tensor:
    """The branch, or `InputError` where a rule that needs it was called without it or with another shape."""
    if branch is None:
        expected = "the prediction that the rule's `branches` asked for: record that branch, or use another rule"
        raise InputError(name, found="None", expected=expected)
    if branch.shape != cond.shape:
        raise InputError(name, found=f"shape {tuple(branch.shape)}", expected=f"{tuple(cond.shape)}, the shape of cond")
    return branch


def skip(sigma: float, space: str) -> float:
    """k in D - k x, which is what a network of `space` predicts but for a factor.

    Projections, angles and ratios of norms do not see the factor, so they need no conversion: eps is
    (D - x) / -sigma, v is (D - x / (1 + sigma^2)) sqrt(1 + sigma^2) / -sigma, flow is
    (D - x / (1 + sigma)) (1 + sigma) / -sigma.
    """
    return {"denoised": 0.0, "eps": 1.0, "v": 1 / (1 + sigma**2), "flow": 1 / (1 + sigma)}[space]


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Give one value a sample the dtype and the trailing axes of `like`."""
    return values.to(like.dtype).reshape(-1, *(1,) * (like.ndim - 1))


def combine(scale: Tensor, cond: Tensor, keep: Tensor, update: Tensor) -> Tensor:
    """scale * cond + keep * update, one factor a sample, in the memory of `update`."""
    return update.mul_(per_sample(keep, cond)).addcmul_(per_sample(scale, cond), cond)
