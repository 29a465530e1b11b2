"""Rules around rules that correct what another rule gave: its spread, its range.

Rescaled(CFG(7.5), phi=0.7, space="v")
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.decomposition.products import rows_a_block
from scorescope.probes.guidance.base import GuidanceState, Products, per_sample, skip
from scorescope.probes.guidance.combination import Combination, combination_of, spread
from scorescope.probes.guidance.wrappers import Wrapper

_CONSTANT = 1e-5  # of the standard deviation aimed at: what rounding leaves of a prediction of zero (CFG-Zero*)
_PIECE = 4096  # elements that are summed up in the type of the data, before float64 takes over

RescaleSpace = Literal["denoised", "eps", "v", "flow"]


@displayed
@checked
@dataclass(frozen=True)
class Rescaled(Wrapper):
    """CFG rescale (Lin et al. 2024, arXiv 2305.08891, eq. 14-16): part of the way back to the std of `cond`.

    out = phi g std(c) / std(g) + (1 - phi) g, std per sample over all its axes, in a named space: the ratio depends
    on it, and the paper's 0.7 was derived for v. Where the inner rule does not guide, `cond` stands as it is.

    Attributes
    ----------
    rule : Rule
        What is rescaled.
    phi : float
        0 leaves it, 1 equalises the standard deviations.
    space : str
        Space of the standard deviations.
    """

    phi: float = 0.7
    space: RescaleSpace = "v"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.phi <= 1:
            raise InputError("phi", found=str(self.phi), expected="a number in [0, 1]")
        if self.space not in get_args(RescaleSpace):
            raise InputError("space", found=repr(self.space), expected=", ".join(get_args(RescaleSpace)))

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """The inner rule's prediction, rescaled."""
        guided = self.rule(cond, uncond, state)
        if self.phi == 0 or guided is cond:
            return guided
        k = skip(state.sigma, self.space)  # the network's prediction is D - k x, but for one factor
        target = _deviation(torch.sub(cond, state.x, alpha=k))
        raw = torch.sub(guided, state.x, alpha=k)
        found = _deviation(raw)
        return raw.mul_(per_sample(self._factor(target, found), raw)).add_(state.x, alpha=k)

    def combination(self, products: Products, state: GuidanceState) -> Combination | None:
        """f (g - k x) + k (c + e) of the inner rule's g; samples that it does not guide stand as they are."""
        inner = combination_of(self.rule, products, state)
        if inner is None or self.phi == 0 or not inner.guides.any():
            return inner
        k, zero = skip(state.sigma, self.space), torch.zeros_like(inner.cond)
        target = spread(products, 1 - k + zero, zero, zero - k)
        found = spread(products, 1 - k + inner.cond, inner.update, inner.noise - k)
        if target is None or found is None:
            return None
        factor = torch.where(inner.guides, self._factor(target, found), 1.0)
        more = (factor - 1) * (1 - k)
        return Combination(more + factor * inner.cond, factor * inner.update, factor * inner.noise - (factor - 1) * k)

    def _factor(self, target: Tensor, found: Tensor) -> Tensor:
        """phi times the ratio of the standard deviations, and the rest one; a constant has none to be scaled."""
        return 1 + self.phi * (torch.where(found > _CONSTANT * target, target / found, 1.0) - 1)


@displayed
@checked
@dataclass(frozen=True)
class DynamicThreshold(Wrapper):
    """Dynamic thresholding (Saharia et al. 2022, arXiv 2205.11487): clip to a percentile, divide by it.

    The percentile interpolates linearly between the two nearest values, as numpy and torch do by default: with few
    elements it is not the largest one, which would clip nothing.

    For data in [-limit, limit]; on latents, which have no range, it means nothing.

    Attributes
    ----------
    rule : Rule
        Whose prediction is thresholded.
    quantile : float
        Of the absolute values of a sample: 0.995.
    limit : float
        Half the range of the data; a sample whose quantile is smaller is clipped to it and not divided.
    """

    quantile: float = 0.995
    limit: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.quantile <= 1:
            raise InputError("quantile", found=str(self.quantile), expected="a number in (0, 1]")
        if not 0 < self.limit < float("inf"):
            raise InputError("limit", found=str(self.limit), expected="half the range of the data, positive")

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """The inner rule's prediction, within [-limit, limit]."""
        guided = self.rule(cond, uncond, state)
        blocks = guided.split(rows_a_block(guided))  # ranking needs several times the memory of what is ranked
        bounds = torch.cat([_quantile(block.flatten(1).abs(), self.quantile) for block in blocks])
        bound = per_sample(bounds.clamp(min=self.limit), guided)
        return guided.clamp(-bound, bound).mul_(self.limit / bound)


def _quantile(values: Tensor, q: float) -> Tensor:
    """torch.quantile(values, q, dim=1), which refuses more than 2^24 elements."""
    rank = q * (values.shape[1] - 1)
    low, high = (values.kthvalue(int(k) + 1, dim=1).values for k in (math.floor(rank), math.ceil(rank)))
    return torch.lerp(low, high, rank - math.floor(rank))


def _deviation(t: Tensor) -> Tensor:
    """Norm of each sample without its mean, sqrt(N) times its std, float64."""
    norms = []
    for block in t.split(rows_a_block(t)):  # several times as fast as torch.std
        values = block.flatten(1)
        values = values - values.mean(1, keepdim=True)
        pieces = [torch.linalg.vector_norm(piece, dim=1).double() for piece in values.split(_PIECE, dim=1)]
        norms.append(torch.stack(pieces).square().sum(0).sqrt())
    return torch.cat(norms)
