"""Which branch is which: by labels, else by the weights of a proved combination and by what the branches were given.

Guidance pushes from `uncond` beyond `cond`, so the weight w = alpha / (alpha + beta) above 1 is that of `cond`. Weights
between 0 and 1 prove nothing by themselves, nor do those that rounding leaves open. Of three branches the one with a
positive weight is `cond`, and `uncond` is the one that shares no input with it. A branch at another state than the
step's, or given all that `cond` was given, is neither.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.probes.pipelines.fit import Fit
from scorescope.probes.pipelines.inputs import Given

RULES = ("cfg", "negated cfg", "mixed cfg", "multi-branch", "none", "equal", "unknown")
LABELS = {
    "cond": "cond", "pred_cond": "cond", "positive": "cond",
    "uncond": "uncond", "pred_uncond": "uncond", "negative": "uncond",
    "pred_cond_skip": "perturbed", "skip": "perturbed", "perturbed": "perturbed", "pred_perturbed": "perturbed",
}  # fmt: skip
SAME = "both branches are the same"
_UNDECIDED = (
    "the weight lies between 0 and 1, as far as rounding tells: which branch is conditional cannot be told from numbers"
)
_SEVERAL = "several branches push away; neither numbers nor inputs tell which of them is unconditional"
_ELSEWHERE = "no branch but cond was evaluated at the state and time of the step: what it is pushed from is degraded"
_PUSHED_ELSEWHERE = "the branch that guidance pushes to was not evaluated at the state of the step"
_PERTURBED = "the other branch was given all that cond was: the network was perturbed, or is another one"


def check_names(branches: Sequence[str]) -> tuple[str, ...]:
    """The names that a user gives to branches, in the order of the calls.

    Raises
    ------
    InputError
        For a name that is none, or two branches of the same name.
    """
    if not set(branches) <= {"cond", "uncond", "perturbed"} or len(set(branches)) != len(branches):
        raise InputError(
            "branches", found=str(tuple(branches)), expected="cond, uncond and perturbed, each at most once"
        )
    return tuple(branches)


def contradict(proved: Sequence[str], told: Sequence[str]) -> bool:
    """Whether something was told to be another branch than it is proved to be, or one that is proved elsewhere."""
    pairs = zip(proved, told, strict=True)
    return any(name != other and (name != "" or other in proved) for name, other in pairs)


@displayed
@dataclass
class Verdict:
    """What was proved about one sample of one step.

    Attributes
    ----------
    rule : str
        One of `RULES`.
    fit : Fit or None
        The combination; None where nothing could be fitted.
    weight : float
        Guidance weight w of D_u + w (D_c - D_u); NaN where there is none. Of three branches that of the part with
        D_u: D_c + (w - 1) (D_c - D_u) + s (D_c - D_p), or D_u + w (D_c - D_u) + s (D_u - D_p).
    scale, mix : float
        A branch in the scheduler's space is scale * output + mix * state.
    low, high : float
        Range of the weight inside the sample, where it differs by frame.
    cond, uncond : int or None
        Places of the branches.
    evidence : str
        `weights` (proved from numbers), `weights and inputs` (which branches had the same conditions), `labels` (the
        pipeline's names), `other steps`, `guide` (whose rule made the prediction, and who proved the branches from
        the one that it replaced), or empty, also for equal branches that nothing names.
    reason : str
        Why `uncond` is missing.
    mixed : Fit or None
        A combination with the state in it that may also be the rule's, until other steps tell.
    """

    rule: str
    fit: Fit | None = None
    weight: float = np.nan
    scale: float = 1.0
    mix: float = 0.0
    low: float = np.nan
    high: float = np.nan
    cond: int | None = None
    uncond: int | None = None
    evidence: str = ""
    reason: str = ""
    mixed: Fit | None = None


def roles_of(hypothesis: Mapping[str, Any]) -> list[str]:
    """What the labels of the branches say, in order; empty where they say nothing."""
    return [LABELS.get(label, "") for label in hypothesis["labels"]]


def name_by_labels(verdict: Verdict, labels: list[str]) -> bool:
    """Name the branches as the pipeline or the user does; false where no label, or more than one, is `cond`."""
    if labels.count("cond") != 1:
        return False
    verdict.cond, verdict.evidence = labels.index("cond"), "labels"
    verdict.uncond = labels.index("uncond") if labels.count("uncond") == 1 else None
    verdict.reason = "" if verdict.uncond is not None else "no branch is labelled unconditional"
    return True


def name_branches(verdict: Verdict, fitted: Fit, used: list[int], hypothesis: Mapping[str, Any]) -> None:
    """Say which branch is which: by labels, else by weights, and by what the branches were given."""
    given = Given.of(hypothesis)
    roles = ["" if given.elsewhere(branch) else role for branch, role in enumerate(roles_of(hypothesis))]
    if name_by_labels(verdict, roles):
        return
    if verdict.rule == "unknown" or not fitted.total:
        # a projection or a change of sign and scale can turn the weights round: their sum has to be known
        verdict.reason = "the weights sum neither to 1 nor to -1: the rule is not plain guidance"
        return
    there = [i for i in used if not given.elsewhere(i)]
    shares = fitted.weights / fitted.total
    least = 1 + 1e-5 if len(used) == len(there) == 2 else 0
    pushed_to = [i for i in there if shares[i] > least] if len(used) > 1 else []
    if len(pushed_to) == 1:
        _order_others(verdict, pushed_to[0], [i for i in used if i != pushed_to[0]], given)
    elif not pushed_to and any(shares[i] > 1 for i in used if given.elsewhere(i)):
        verdict.reason = _PUSHED_ELSEWHERE
    else:
        verdict.reason = _SEVERAL if len(used) > 2 else _UNDECIDED


def _order_others(verdict: Verdict, cond: int, others: list[int], given: Given) -> None:
    """Which of the others is unconditional: one at the state of `cond`, with other conditions."""
    verdict.cond, verdict.evidence = cond, "weights"
    near = [i for i in others if not given.elsewhere(i) and not given.apart(cond, i)]
    if len(near) > 1:
        verdict.uncond = given.farthest(cond, near)
        verdict.reason = "" if verdict.uncond is not None else _SEVERAL
    elif near and not (given.visible and given.twins(cond, near[0])):
        verdict.uncond = near[0]
    else:
        verdict.reason = _PERTURBED if near else _ELSEWHERE
    if len(others) > 1 or verdict.uncond is None:
        verdict.evidence = "weights" if verdict.reason == _SEVERAL else "weights and inputs"


def weight_of(verdict: Verdict, given: Given) -> float:
    """w of D_u + w (D_c - D_u). What a third branch adds belongs to the branch that it is pushed away from: the one
    that was given the same conditions."""
    fitted, cond, uncond = verdict.fit, verdict.cond, verdict.uncond
    if fitted is None or cond is None or uncond is None:
        return np.nan
    if verdict.rule != "multi-branch":
        return float(fitted.weights[cond] / fitted.total)
    pushed = fitted.weights[uncond]
    for third in (i for i in fitted.used() if i not in (cond, uncond) and given.apart(cond, i)):
        of_cond, of_uncond = given.twins(cond, third), given.twins(uncond, third)
        if of_cond == of_uncond:
            return np.nan
        pushed += of_uncond * fitted.weights[third]
    return float(1 - pushed / fitted.total)
