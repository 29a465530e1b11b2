"""A guidance rule and a denoiser as one plain denoiser, whose paths can be solved and measured like any other's.

guided = RuleField(denoiser, CFG(4.0))
run_path(guided, x, edm_sigmas(20), condition=labels)
"""

from dataclasses import dataclass

from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.guidance.base import Rule, describe
from scorescope.probes.guidance.scheduler_step import depends_on_step_size
from scorescope.probes.models.denoiser import Condition, Denoiser, sigma_range
from scorescope.probes.sampling.guided_denoiser import GuidedDenoiser


@displayed
@checked
@dataclass(frozen=True)
class RuleField:
    """The guided prediction as a function of state, level and condition alone.

    Attributes
    ----------
    denoiser : Denoiser
        The model.
    rule : Rule
        A rule that neither remembers earlier steps nor asks how far the next one goes: else its path depends on the
        levels by more than a solver's error.
    """

    denoiser: Denoiser
    rule: Rule

    def __post_init__(self) -> None:
        if depends_on_step_size(self.rule):
            found = f"{describe(self.rule)}, which depends on the size of a step"
            raise InputError("rule", found=found, expected="a rule of state and level alone")

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Levels that the model knows."""
        return sigma_range(self.denoiser)

    def __call__(self, x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """The guided D at one level for the whole batch, shape of x.

        Raises
        ------
        InputError
            For several levels, and a rule that remembers.
        """
        level = float(sigma.flatten()[0])
        if bool((sigma != sigma.flatten()[0]).any()):
            raise InputError("sigma", found="several levels", expected="one for the whole batch")
        guided = GuidedDenoiser(self.denoiser, condition, self.rule, range(len(x)), None)
        prediction = guided(x, sigma=level, sigma_next=level, step=0, call=0)
        if guided.remembers:
            found = f"{describe(self.rule)}, which remembers earlier steps"
            raise InputError("rule", found=found, expected="a rule of state and level alone")
        return prediction
