"""Rules that work with the geometry of the branches: projections, norms and angles."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.decomposition.products import projection_products
from scorescope.probes.guidance.base import (
    COND,
    SCORE_PRODUCTS,
    UNCOND,
    GuidanceState,
    Products,
    WeightedRule,
    combine,
    inner_products,
    per_sample,
    require_finite,
    required,
    skip,
)
from scorescope.probes.guidance.combination import Combination, factors
from scorescope.probes.guidance.linear import CFG


@displayed
@checked
@dataclass(frozen=True)
class APG(WeightedRule):
    """Adaptive projected guidance (Sadat, Hilliges & Weber 2025, arXiv 2410.02416, algorithm 1).

    In the order of the paper's listing: reverse momentum, norm clip, projection. The momentum advances once
    a step, with the step's first call: a solver's further calls see it and leave it as it is, where a buffer
    advanced by every call would count a Heun step twice.

    Attributes
    ----------
    weight : float
        w; the guided prediction is D_c + (w - 1) * update.
    eta : float
        Share of the parallel part that is kept; 0 removes it (the paper's choice), 1 keeps it.
    norm : float
        Largest L2 norm of the update, over all axes of a sample, in units of the data; infinity is off.
        It scales with the square root of the number of elements.
    momentum : float
        beta; negative values push away from earlier updates. |beta| < 1, or the buffer diverges.
    """

    eta: float = 0.0
    norm: float = float("inf")
    momentum: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_finite("eta", self.eta)
        if not self.norm > 0:
            raise InputError("norm", found=str(self.norm), expected="a positive L2 norm, or infinity for none")
        if not abs(self.momentum) < 1:
            expected = "|momentum| < 1; beyond it the buffer diverges"
            raise InputError("momentum", found=str(self.momentum), expected=expected)

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """D_c + (w - 1) (orthogonal + eta * parallel)."""
        if self.weight == 1:
            return cond
        uncond = required(uncond, cond)
        update = cond - uncond
        if self.momentum:
            update = self.accumulate(update, state)
        scale, keep = self._factors(*projection_products(update, cond, exact=False))
        return combine(scale, cond, keep, update)

    def combination(self, products: Products, state: GuidanceState) -> Combination | None:
        """The parts of D_c and of the update; with momentum none, since earlier updates are in it."""
        if self.weight == 1:
            return factors(state)
        if self.momentum:
            return None
        scale, keep = self._factors(*products("update_sq", "update_cond", "cond_sq"))
        return factors(state, cond=scale - 1, update=keep)

    def accumulate(self, update: Tensor, state: GuidanceState) -> Tensor:
        """The update with the momentum of earlier steps, in its own memory; a step's first call is remembered."""
        if (buffer := state.memory.get("apg")) is not None:
            update.add_(buffer, alpha=self.momentum)
        if state.call == 0:
            state.memory["apg"] = update.clone()
        return update

    def _factors(self, update_sq: Tensor, update_cond: Tensor, cond_sq: Tensor) -> tuple[Tensor, Tensor]:
        """p and q of p c + q d = c + (w - 1) clip (d - (1 - eta) a c), which forms neither part of d."""
        clip = (self.norm / update_sq.sqrt()).clamp(max=1)  # norm > 0, so this is never 0 / 0
        coefficient = torch.where(cond_sq > 0, update_cond / cond_sq, 0.0)
        keep = (self.weight - 1) * clip
        return 1 - keep * (1 - self.eta) * coefficient, keep


@displayed
@checked
@dataclass(frozen=True)
class APGMix(APG):
    """CFG up to and with step `start_step`, then APG: the mixed guider of diffusers, made for HunyuanImage 2.1.

    The momentum gathers updates from the first step on, also while CFG acts.

    Attributes
    ----------
    weight, eta, norm, momentum
        Of APG.
    cfg_weight : float
        w of CFG in the steps before.
    start_step : int
        Last step of CFG, from 0; -1 is APG throughout.
    """

    cfg_weight: float = 3.5
    start_step: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_finite("cfg_weight", self.cfg_weight)
        if self.start_step < -1:
            raise InputError("start_step", found=str(self.start_step), expected="a step index, or -1 for none")

    def effective_weight(self, state: GuidanceState) -> float:
        """w of the rule that acts."""
        return self.weight if state.step > self.start_step else self.cfg_weight

    def branches(self, state: GuidanceState) -> tuple[str, ...]:
        """Those of the rule that acts; both where CFG at w = 1 stands but the momentum gathers."""
        if state.step > self.start_step:
            return super().branches(state)
        return (COND, UNCOND) if self._gathers() or self.cfg_weight != 1 else (COND,)

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """D_u + w_cfg (D_c - D_u), later APG."""
        if state.step > self.start_step:
            return super().__call__(cond, uncond, state)
        if self._gathers():
            self.accumulate(cond - required(uncond, cond), state)
        return CFG(self.cfg_weight)(cond, uncond, state)

    def combination(self, products: Products, state: GuidanceState) -> Combination | None:
        """That of the rule that acts; none where the momentum gathers."""
        if self._gathers():
            return None
        if state.step > self.start_step:
            return super().combination(products, state)
        return CFG(self.cfg_weight).combination(products, state)

    def _gathers(self) -> bool:
        return bool(self.momentum) and self.weight != 1


@displayed
@checked
@dataclass(frozen=True)
class TangentialCFG(WeightedRule):
    """Tangential damping CFG (Kwon et al. 2025, arXiv 2503.18137).

    The unconditional score is replaced by its projection on the first right singular vector of the two scores,
    [s_u; s_c] as rows of a 2 x N matrix; then CFG. Scores are (D - x) / sigma^2, so the factor drops out.

    Attributes
    ----------
    weight : float
        w.
    """

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """D_u' + w (D_c - D_u'), with D_u' from the projected score."""
        if self.weight == 1:
            return cond
        uncond = required(uncond, cond)
        pp, pq = self._projection(*inner_products(cond, uncond, state, *SCORE_PRODUCTS))
        a, b = uncond - state.x, cond - state.x
        # x + p (p a + q b), then CFG: w D_c + (1 - w) D_u', in the memory of a
        projected = a.mul_(per_sample(pp, cond)).addcmul_(per_sample(pq, cond), b).add_(state.x)
        return projected.lerp_(cond, self.weight)

    def combination(self, products: Products, state: GuidanceState) -> Combination:
        """D_u' = x + p (p a + q b) with a = -(e + d) and b = -e: see `_projection`."""
        if self.weight == 1:
            return factors(state)
        pp, pq = self._projection(*products(*SCORE_PRODUCTS))
        rest = 1 - self.weight
        return factors(state, update=-rest * pp, noise=rest * (1 - pp - pq))

    @staticmethod
    def _projection(noise_sq: Tensor, update_noise: Tensor, update_sq: Tensor) -> tuple[Tensor, Tensor]:
        """p^2 and p q, where the first right singular vector of the scores is along p a + q b.

        The scores are, but for one factor, a = u - x = -(e + d) and b = c - x = -e. (p, q) = (cos t, sin t) is the
        first eigenvector of the Gram matrix [[aa, ab], [ab, bb]], where tan 2t = 2 ab / (aa - bb) and
        aa - bb = 2 de + dd; so <a, v1> v1 = p (p a + q b).
        """
        turn = torch.atan2(2 * (noise_sq + update_noise), 2 * update_noise + update_sq)  # 2t
        return (1 + turn.cos()) / 2, turn.sin() / 2


@displayed
@checked
@dataclass(frozen=True)
class CFGZeroStar(WeightedRule):
    """CFG-Zero* (Fan et al. 2025, arXiv 2503.18886), on flow velocities v = n - x0.

    v_u is scaled by s* = <v_c, v_u> / |v_u|^2 before CFG, and the first steps stand still (v = 0). Those need no
    prediction, but samplers and pipelines make that of `cond` at every step, and it is counted as needed.

    Attributes
    ----------
    weight : float
        w.
    zero_steps : int
        Steps at the start whose velocity is zero.
    """

    zero_steps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.zero_steps < 0:
            raise InputError("zero_steps", found=str(self.zero_steps), expected="at least 0")

    def branches(self, state: GuidanceState) -> tuple[str, ...]:
        """Both, as s* scales the unconditional velocity at every weight but 1; in the zero steps `cond` alone."""
        return (COND,) if state.step < self.zero_steps else super().branches(state)

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """D of the velocity s* v_u + w (v_c - s* v_u); x / (1 + sigma), the D of v = 0, in the first steps."""
        if state.step < self.zero_steps:
            return state.x / (1 + state.sigma)
        if self.weight == 1:
            return cond
        uncond = required(uncond, cond)
        k = skip(state.sigma, "flow")  # velocities are D - k x but for one factor
        scale = self._scale(k, inner_products(cond, uncond, state, *_VELOCITY_NAMES))
        v_c, v_u = (torch.sub(d, state.x, alpha=k) for d in (cond, uncond))
        guided = v_c.mul_(self.weight).addcmul_(per_sample((1 - self.weight) * scale, cond), v_u)
        return guided.add_(state.x, alpha=k)

    def combination(self, products: Products, state: GuidanceState) -> Combination:
        """With v_c = (1 - k) c - k e: w v_c + (1 - w) s* (v_c - d) + k (c + e)."""
        if state.step < self.zero_steps:
            k = 1 / (1 + state.sigma)
            return factors(state, cond=k - 1, noise=k)
        if self.weight == 1:
            return factors(state)
        k = skip(state.sigma, "flow")
        rest = (1 - self.weight) * self._scale(k, products(*_VELOCITY_NAMES))
        more = self.weight - 1 + rest
        return factors(state, cond=more * (1 - k), update=-rest, noise=-k * more)

    @staticmethod
    def _scale(k: float, products: Sequence[Tensor]) -> Tensor:
        """s* = <v_c, v_u> / |v_u|^2."""
        uu, du, _ = _velocity_products(k, products)
        return torch.where(uu > 0, 1 + du / uu, 1.0)


@displayed
@checked
@dataclass(frozen=True)
class MagnitudeAware(WeightedRule):
    """A weight damped by the update's size, w_eff = 1 + (w - 1) exp(-alpha |d| / |u|), per sample (MAMBO-G).

    As in the magnitude-aware guider of diffusers, on flow velocities: the ratio depends on the space. (The paper
    that the guider's documentation links to, arXiv 2508.03442, is about another method.)

    Attributes
    ----------
    weight : float
        w, the weight of a vanishing update.
    alpha : float
        How fast it falls; 0 is CFG.
    """

    alpha: float = 8.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha < float("inf"):
            raise InputError("alpha", found=str(self.alpha), expected="a finite number >= 0")

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """D_c + (w_eff - 1) (D_c - D_u)."""
        if self.weight == 1:
            return cond
        uncond = required(uncond, cond)
        keep = self._keep(state, inner_products(cond, uncond, state, *_VELOCITY_NAMES))
        return combine(torch.ones_like(keep), cond, keep, cond - uncond)

    def combination(self, products: Products, state: GuidanceState) -> Combination:
        """w_eff - 1 times the update."""
        update = 0 if self.weight == 1 else self._keep(state, products(*_VELOCITY_NAMES))
        return factors(state, update=update)

    def _keep(self, state: GuidanceState, products: Sequence[Tensor]) -> Tensor:
        """w_eff - 1."""
        uu, _, dd = _velocity_products(skip(state.sigma, "flow"), products)
        # no update is kept whole, 0 / 0; an update beside a velocity of zero is infinitely large
        damping = (self.alpha * (dd / uu).sqrt()).nan_to_num(nan=0.0, posinf=float("inf"))
        return (self.weight - 1) * torch.exp(-damping)


_VELOCITY_NAMES = ("cond_sq", "update_sq", "noise_sq", "update_cond", "update_noise", "cond_noise")


def _velocity_products(k: float, products: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """<v, v>, <d, v> and <d, d> of the unconditional flow velocity v, but for a factor, and the update d.

    v = u - k x with u = c - d and x = c + e, so v = (1 - k) c - d - k e; `products` are those of `_VELOCITY_NAMES`.
    """
    cc, dd, ee, dc, de, ce = products
    dv = (1 - k) * dc - dd - k * de
    vv = (1 - k) ** 2 * cc + k**2 * ee - 2 * k * (1 - k) * ce - 2 * dv - dd
    return vv.clamp(min=0), dv, dd
