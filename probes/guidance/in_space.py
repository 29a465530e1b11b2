"""A rule in another prediction space than that of the denoised predictions.

InSpace(APG(4.0), space="eps")
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.guidance.adaptive import AdaptiveGuidance, LinearAG
from scorescope.probes.guidance.base import GuidanceState, describe
from scorescope.probes.guidance.corrections import DynamicThreshold, Rescaled
from scorescope.probes.guidance.projected import CFGZeroStar, MagnitudeAware, TangentialCFG
from scorescope.probes.guidance.scheduler_step import rules_inside
from scorescope.probes.guidance.wrappers import Wrapper
from scorescope.probes.models.spaces import from_denoised, to_denoised

RuleSpace = Literal["denoised", "eps", "v", "flow"]
_OF_ONE_SPACE = (
    AdaptiveGuidance, CFGZeroStar, DynamicThreshold, LinearAG, MagnitudeAware, Rescaled, TangentialCFG,
)  # fmt: skip


@displayed
@checked
@dataclass(frozen=True)
class InSpace(Wrapper):
    """A rule that is given the branches, and gives its prediction, in a named space.

    What is linear in the branches with factors that sum to one, such as CFG, is the same in every space; a projection
    or a clip is not. APG is made for denoised predictions (arXiv 2410.02416); in eps space its parallel part is nearly
    nothing at high noise, where both predictions are the noise.

    A rule that looks at the state, or at values, knows its own space and is refused: it has a field for it, or none.

    Attributes
    ----------
    rule : Rule
        What acts there; its lengths, such as APG's `norm`, are in units of that space, and its memory is of it.
    space : str
        denoised, eps, v or flow.
    """

    space: RuleSpace = "eps"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.space not in get_args(RuleSpace):
            raise InputError("space", found=repr(self.space), expected=", ".join(get_args(RuleSpace)))
        if any(isinstance(inner, _OF_ONE_SPACE) for inner in rules_inside(self.rule)):
            raise InputError("rule", found=describe(self.rule), expected="a rule that looks at the branches alone")

    def __call__(self, cond: Tensor, uncond: Tensor | None, state: GuidanceState) -> Tensor:
        """The inner rule's prediction, turned back into the denoised one."""
        if self.space == "denoised":
            return self.rule(cond, uncond, state)
        there = {name: self._told(branch, state) for name, branch in state.others.items()}
        inside = replace(state, others=there, products=None)  # products are of denoised predictions
        told = self._told(cond, state)
        guided = self.rule(told, None if uncond is None else self._told(uncond, state), inside)
        return cond if guided is told else to_denoised(guided, state.x, state.level, space=self.space)

    def _told(self, branch: Tensor, state: GuidanceState) -> Tensor:
        return from_denoised(branch, state.x, state.level, space=self.space)
