"""Who made a branch: the denoiser, or a rule in its own way, with which parameters.

Two rules may call different things by one name: the unconditional branch of `ICG` has a random condition, and the
perturbed ones of `TSG` and `PAG` were perturbed in different places.
"""

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.probes.guidance.base import COND, UNCOND, BranchRule, Rule, describe
from scorescope.probes.guidance.perturbed import Perturbing
from scorescope.probes.guidance.scheduler_step import rules_inside
from scorescope.probes.guidance.wrappers import Wrapper
from scorescope.probes.models.fingerprint import fingerprint


@displayed
@dataclass(frozen=True)
class Maker:
    """The rule that made a branch.

    Attributes
    ----------
    rule : str
        Its class, or `PIPELINE`.
    parameters : str
        Digest of the parameters that shape the branch.
    reference : str
        What the branch is called where D_c is compared with it.
    """

    rule: str
    parameters: str
    reference: str


PIPELINE = Maker("a pipeline", "", "perturbed")
"""A pipeline that perturbs its network in its own way: which, the record does not tell."""


def maker_of(rule: Rule, branch: str) -> Maker | None:
    """Who makes a branch that the rule needs; None for the denoiser.

    A rule class names in `branch_parameters` the fields that shape its branches (all but `weight` where it does
    not), and in `own_reference` what its own `uncond` is called.
    """
    inner: Any = rules_inside(rule)[-1]
    own = branch in getattr(inner, "own_branches", ()) or branch not in (COND, UNCOND)
    if not own or not isinstance(inner, BranchRule) or isinstance(inner, Wrapper):
        return None
    every = tuple(item.name for item in fields(inner) if item.name != "weight") if is_dataclass(inner) else ()
    names = getattr(inner, "branch_parameters", every)
    reference = branch if branch != UNCOND else getattr(inner, "own_reference", type(inner).__name__)
    return Maker(type(inner).__name__, _digest({name: getattr(inner, name) for name in names}), str(reference))


def check_maker(rule: Rule, branch: str, own: Maker | None, found: Maker | None, *, step: int) -> None:
    """Refuse a branch of the same name that was made in another way than the rule's own (`maker_of`).

    Raises
    ------
    InputError
        Naming who made it. Branches beside `cond` and `uncond` whose maker is not known are taken as they are.
    """
    served = found is PIPELINE and isinstance(rules_inside(rule)[-1], Perturbing)
    if found == own or (found is None and branch != UNCOND) or served:
        return
    if found is None or own is None or found.rule != own.rule:
        whose = f"the {branch} branch of {found.rule if found else 'the denoiser'}"
    else:
        whose = f"the {branch} branch of a {found.rule} with other parameters"
    expected = f"that of {describe(rule)}, in a run sampled with it" if own else "that of the denoiser"
    raise InputError("trace", found=f"{whose} at step {step}", expected=expected)


def _digest(parameters: dict[str, Any]) -> str:
    try:
        return fingerprint(parameters, argument="rule")
    except InputError:  # what cannot be read is the same only where it is the same object
        return str([id(value) for value in parameters.values()])
