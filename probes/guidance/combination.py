"""Predictions of rules as combinations of few vectors, known by one factor a sample.

Most rules give g = D_c + p D_c + q (D_c - D_u) + r (x - D_c), with factors that follow from inner products. Whoever
compares many rules at one state (`replay`) then needs the inner products once, and no rule's pixels.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.probes.guidance.base import GuidanceState, Products, Rule


@displayed
@dataclass(frozen=True)
class Combination:
    """g = D_c + cond D_c + update (D_c - D_u) + noise (x - D_c).

    Attributes
    ----------
    cond, update, noise : Tensor, shape (batch,), float64
        Factors; all zero is the conditional prediction.
    """

    cond: Tensor
    update: Tensor
    noise: Tensor

    @property
    def guides(self) -> Tensor:
        """Which samples are moved away from D_c, bool, shape (batch,)."""
        return (self.cond != 0) | (self.update != 0) | (self.noise != 0)


@runtime_checkable
class CombinationRule(Rule, Protocol):
    """A rule whose prediction is a `Combination`, at some states at least."""

    def combination(self, products: Products, state: GuidanceState) -> Combination | None:
        """What `rule(cond, uncond, state)` is a combination of, or None where it is none."""
        ...


def combination_of(rule: Rule, products: Products, state: GuidanceState) -> Combination | None:
    """The factors of a rule's prediction, or None where it has to be called.

    Parameters
    ----------
    rule : Rule
        Any rule. A class that overrides `__call__` and not `combination` has none: the inherited one is of another
        prediction.
    products : Products
        Of the branches and the state; a rule that does not need the unconditional branch does not ask for it.
    state : GuidanceState
        Where the rule is asked. What the rule remembers advances as if it had been called.
    """
    if not isinstance(rule, CombinationRule):
        return None
    owner = {name: next(k for k, base in enumerate(type(rule).__mro__) if name in vars(base)) for name in _METHODS}
    return rule.combination(products, state) if owner["combination"] <= owner["__call__"] else None


CANCELLED = 1e-6  # of the squares that a square is the sum of; above it, at least ten digits are right
_METHODS = ("combination", "__call__")


def factors(
    state: GuidanceState, *, cond: float | Tensor = 0, update: float | Tensor = 0, noise: float | Tensor = 0
) -> Combination:
    """A `Combination` from numbers or one number a sample; what is not named is zero."""
    zero = torch.zeros(len(state.x), dtype=torch.float64, device=state.x.device)
    return Combination(zero + cond, zero + update, zero + noise)


def spread(products: Products, cond: Tensor, update: Tensor, noise: Tensor) -> Tensor | None:
    """Norm without its mean of cond D_c + update (D_c - D_u) + noise (x - D_c), one a sample, float64.

    Parameters
    ----------
    products : Products
        Of the branches and the state.
    cond, update, noise : Tensor, shape (batch,)
        Factors.

    Returns
    -------
    Tensor or None
        None where the terms all but cancel in a sample, and rounding would be measured.
    """
    cc, ee, ce, c1, e1 = products("cond_sq", "noise_sq", "cond_noise", "cond_sum", "noise_sum")
    terms = cond**2 * cc + noise**2 * ee
    square, total = terms + 2 * cond * noise * ce, cond * c1 + noise * e1
    if update.any():
        dd, dc, de, d1 = (
            torch.where(update != 0, product, 0.0)  # unknown where it was not needed
            for product in products("update_sq", "update_cond", "update_noise", "update_sum")
        )
        terms, total = terms + update**2 * dd, total + update * d1
        square = square + update**2 * dd + 2 * update * (cond * dc + noise * de)
    left = square - total**2 / products.size
    return None if bool((left < CANCELLED * terms).any()) else left.sqrt()
