"""Predictions that a rule of `guide` made: what a step line says of them, and what that leaves of the proof.

Such a prediction need not be a combination of the branches: a projection looks like one of the branches and the
state. Which branch is which, and how it becomes what the scheduler would have received, was proved by `guide`, from
the prediction that it replaced; what is fitted to its own stands beside that, as a fit.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from scorescope.probes.pipelines.fit import Fit
from scorescope.probes.pipelines.listener import Made
from scorescope.probes.pipelines.naming import Verdict
from scorescope.probes.pipelines.proof import Proved, prove

UNGUIDED = 1e-3  # a fitted weight that is no further from 1 is none: the rule did not act there


def line_of(made: Made | None) -> dict[str, Any] | None:
    """What a step line says of who made the prediction; None for the pipeline itself."""
    if made is None:
        return None
    layout, verdicts = made.layout, made.verdicts
    line: dict[str, Any] = {"rule": text_of_maker(made), "weight": made.weight, "layout": None}
    if layout is not None and verdicts[0].cond is not None:
        line["layout"] = [layout.view, layout.order, *layout.parts]
        line["places"] = [verdicts[0].cond, verdicts[0].uncond]
        line["scales"] = [[verdict.scale, verdict.mix] for verdict in verdicts]
    return line


def text_of_maker(made: Made | None) -> str:
    """Rule and parameters in one line, as `APG(weight=6.0, eta=0.0)`; empty for the pipeline itself."""
    return "" if made is None else _call(made.name, made.parameters)


def _call(name: str, parameters: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={_value(value)}' for key, value in parameters.items())})"


def _value(value: Any) -> str:
    if isinstance(value, Mapping) and "class" in value:
        return _call(value["class"], {key: part for key, part in value.items() if key != "class"})
    return repr(value)


def prove_step(event: Mapping[str, Any]) -> Proved:
    """Judge one step by itself, with what is known of a rule that made its prediction."""
    made = event.get("made")
    if made is None:
        return prove(event)
    layout = made["layout"]
    known = [part for part in event["hypotheses"] if layout == [part["view"], part["order"], *part["parts"]]]
    known = [part for part in known if len(part["gram"]) == len(made["scales"])]
    proved = prove({**event, "hypotheses": known or event["hypotheses"]})
    for place, verdict in enumerate(proved.verdicts):
        if known:
            verdict.scale, verdict.mix = made["scales"][place]
            verdict.cond, verdict.uncond = made["places"]
            verdict.evidence = "guide"
            verdict.reason = "" if verdict.uncond is not None else "the pipeline made one prediction a step"
        else:
            verdict.scale, verdict.mix = 1.0, 0.0  # what a guider is given is what the scheduler would receive
        _take_back(verdict)
    return proved


def _take_back(verdict: Verdict) -> None:
    """No name from a fit to what a rule made, unless the branches come in it as they were told to."""
    fitted = verdict.fit
    if fitted is not None and verdict.rule in ("cfg", "negated cfg", "mixed cfg", "none") and _as_told(verdict, fitted):
        if verdict.cond is not None and verdict.rule != "none":
            weight = float(fitted.weights[verdict.cond] / fitted.total)
            verdict.weight = verdict.low = verdict.high = weight
    elif verdict.rule != "equal":
        verdict.rule, verdict.weight, verdict.low, verdict.high = "unknown", np.nan, np.nan, np.nan


def _as_told(verdict: Verdict, fitted: Fit) -> bool:
    told = (verdict.scale, verdict.mix)
    return bool(fitted.mix) == bool(verdict.mix) and np.allclose((fitted.total, fitted.mix), told, rtol=1e-3)
