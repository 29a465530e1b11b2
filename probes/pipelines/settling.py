"""How the steps of a run settle each other: what one has proved of a layout, another of the same layout may take over.

Only as a whole: which branch is which, and what a branch is in the scheduler's space. Where predictions are mixed with
the state that differs from step to step, and a step that does not prove its own is left without names.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scorescope.probes.pipelines.inputs import Given
from scorescope.probes.pipelines.naming import Verdict, weight_of
from scorescope.probes.pipelines.proof import Proved

_UNPROVED_MIX = (
    "the run mixes predictions with the state, and how this step does it is not proved: rounding is too large, or the"
    " rule is not linear"
)


@dataclass
class _Layout:
    """What the steps of one layout have proved."""

    orders: set[tuple[int, int]] = field(default_factory=set)
    scales: set[float] = field(default_factory=set)
    mixed: bool = False

    def add(self, verdict: Verdict, order: tuple[int, int]) -> None:
        self.orders.add(order)
        if not verdict.mix:
            self.scales.add(verdict.scale)


def settle(proved: Sequence[Proved]) -> None:
    """Give undecided steps the order that other steps of the same layout agree on.

    A doubled call that is followed by further calls in some steps only (a perturbed branch inside an interval)
    keeps its order. Equal branches that nothing names are taken in the order of the calls: either is the other.
    """
    layouts = _layouts(proved)
    for step in proved:
        known = [layouts[signature] for signature in step.signatures() if signature in layouts]
        mixed = any(layout.mixed for layout in known)
        for verdict in step.verdicts:
            if verdict.evidence == "guide":  # which proved them from the prediction that it replaced
                continue
            if mixed and verdict.rule == "unknown" and not _mix(verdict):
                continue
            if (layout := next((one for one in known if len(one.orders) == 1), None)) is not None:
                _adopt(step, verdict, layout)
            if verdict.rule == "equal" and verdict.cond is None:
                verdict.cond, verdict.uncond, verdict.reason = 0, 1, ""


def _layouts(proved: Sequence[Proved]) -> dict[tuple[Any, ...], _Layout]:
    found: dict[tuple[Any, ...], _Layout] = {}
    for step in proved:
        whole, first = step.signatures()
        for verdict in step.verdicts:
            if verdict.mix:
                found.setdefault(whole, _Layout()).mixed = True
            if verdict.cond is not None and verdict.uncond is not None and verdict.rule != "equal":
                order = (verdict.cond, verdict.uncond)
                for signature in (whole, first) if max(order) < first[2] else (whole,):
                    found.setdefault(signature, _Layout()).add(verdict, order)
    return found


def _mix(verdict: Verdict) -> bool:
    """Whether the step proves a mixing of its own; without that names would not say what a branch is."""
    verdict.cond, verdict.uncond, verdict.evidence, verdict.reason = None, None, "", _UNPROVED_MIX
    if verdict.mixed is None or len(verdict.mixed.used()) != 2:
        return False
    verdict.fit, verdict.rule = verdict.mixed, "mixed cfg"
    verdict.scale, verdict.mix = verdict.mixed.total, verdict.mixed.mix
    return True


def _adopt(step: Proved, verdict: Verdict, layout: _Layout) -> None:
    equal = verdict.rule == "equal" and verdict.evidence != "labels"
    if (verdict.uncond is not None and not equal) or verdict.fit is None or step.hypothesis is None:
        return
    (cond, uncond), given = next(iter(layout.orders)), Given.of(step.hypothesis)
    elsewhere = given.elsewhere(cond) or given.elsewhere(uncond) or given.apart(cond, uncond)
    if elsewhere or (given.visible and given.twins(cond, uncond) and not equal):
        return
    own = verdict.fit.exact and verdict.rule != "unknown"
    if not own and len(layout.scales) != 1:
        return
    verdict.cond, verdict.uncond, verdict.evidence, verdict.reason = cond, uncond, "other steps", ""
    if not own:
        verdict.scale, verdict.mix = next(iter(layout.scales)), 0.0
    elif not equal:
        verdict.weight = verdict.low = verdict.high = weight_of(verdict, given)
