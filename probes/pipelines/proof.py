"""The proof of the branches: which prediction is which, from inner products alone.

For branches a, b, ... and g, what the scheduler received, the free fit g = alpha a + beta b (+ gamma x) has a
residual. Where that is no more than rounding, g was made of these branches, and alpha and beta say how: plain
guidance has alpha + beta = 1, a pipeline that flips the sign has -1, and guidance pushes from `uncond` beyond
`cond`, so the weight w = alpha / (alpha + beta) above 1 is that of `cond`. Weights between 0 and 1 prove nothing
by themselves, nor do those that rounding leaves open; then the pipeline's own labels decide, or other steps of the
run with the same layout. Of three branches the one with a positive weight is `cond`, and `uncond` is the one that
shares no input with it.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scorescope.data.errors import InputError
from scorescope.probes.pipelines.fit import Array, Fit, fit, fit_all, negligible
from scorescope.probes.pipelines.inputs import farthest, twin

RULES = ("cfg", "negated cfg", "mixed cfg", "multi-branch", "none", "equal", "unknown")
LABELS = {
    "cond": "cond", "pred_cond": "cond", "positive": "cond",
    "uncond": "uncond", "pred_uncond": "uncond", "negative": "uncond",
    "pred_cond_skip": "perturbed", "skip": "perturbed", "perturbed": "perturbed", "pred_perturbed": "perturbed",
}  # fmt: skip
_NOTHING_FITS = "no denoiser output has the shape of the prediction"


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
        D_u: D_c + (w - 1) (D_c - D_u) + s (D_c - D_p).
    low, high : float
        Range of the weight inside the sample, where it differs by frame.
    cond, uncond : int or None
        Places of the branches.
    evidence : str
        `weights` (proved from numbers), `weights and inputs` (which branches had the same conditions), `labels` (the
        pipeline's names), `other steps`, or empty, also for equal branches that nothing names.
    reason : str
        Why `uncond` is missing.
    """

    rule: str
    fit: Fit | None = None
    weight: float = np.nan
    low: float = np.nan
    high: float = np.nan
    cond: int | None = None
    uncond: int | None = None
    evidence: str = ""
    reason: str = ""


@dataclass
class Proved:
    """One step: the layout that fits best, and a verdict for each sample."""

    hypothesis: Mapping[str, Any] | None
    grams: Array
    verdicts: list[Verdict] = field(default_factory=list)

    def signatures(self) -> list[tuple[Any, ...]]:
        """Layouts that decide where branches lie: that of all calls, and that of the first one."""
        h = self.hypothesis or {"view": "", "order": "", "parts": [0]}
        view, order, parts = h["view"].split(":")[0], h["order"], tuple(h["parts"])
        return [(view, order, parts), (view, order, parts[0])]

    @property
    def perturbed(self) -> int | None:
        """Place of the perturbed branch, of three: by its label, or as the one with the same inputs as `cond`."""
        found = {(verdict.cond, verdict.uncond) for verdict in self.verdicts}
        (cond, uncond), hypothesis = next(iter(found), (None, None)), self.hypothesis
        if hypothesis is None or len(found) != 1 or cond is None or uncond is None or sum(hypothesis["parts"]) != 3:
            return None
        third = 3 - cond - uncond
        if _roles(hypothesis)[third:][:1] == ["perturbed"]:
            return third
        return twin(hypothesis.get("alike", ()), cond, [third])


def unpack(gram: Sequence[Sequence[float]] | Array) -> Array:
    """Symmetric matrices from their upper triangles, shape (batch, m, m)."""
    packed = np.asarray(gram, dtype=np.float64)
    m = int((np.sqrt(8 * packed.shape[-1] + 1) - 1) / 2)
    upper = np.triu_indices(m)
    full = np.zeros((*packed.shape[:-1], m, m))
    full[..., upper[0], upper[1]] = packed
    full[..., upper[1], upper[0]] = packed
    return full


def prove(event: Mapping[str, Any]) -> Proved:
    """Judge one step by itself."""
    best: tuple[tuple[int, int, float], Proved] | None = None
    for hypothesis in event["hypotheses"]:
        grams = unpack(hypothesis["gram"])[:, :-1, :-1]
        plain = fit_all(grams, hypothesis["precision"], event["size"])
        verdicts = [_judge(row, plain[place], hypothesis, event, place) for place, row in enumerate(grams)]
        failed = sum(verdict.rule == "unknown" for verdict in verdicts)
        loose = sum(verdict.fit is None or not verdict.fit.exact for verdict in verdicts)
        worst = max((v.fit.residual for v in verdicts if v.fit is not None), default=np.inf)
        key = (loose, failed, float(worst) if loose else float(len(hypothesis["labels"])))
        if best is None or key < best[0]:
            best = (key, Proved(hypothesis, grams, verdicts))
    if best is None:
        reason = event.get("missing") or _NOTHING_FITS
        return Proved(None, np.zeros((event["rows"], 0, 0)), [Verdict("unknown", reason=reason)] * event["rows"])
    return best[1]


def _judge(gram: Array, plain: Fit, hypothesis: Mapping[str, Any], event: Mapping[str, Any], place: int) -> Verdict:
    if not math.isfinite(float(gram.sum())) and not np.isfinite(gram).all():
        return Verdict("unknown", reason="predictions are not finite")
    precision, size = hypothesis["precision"], event["size"]
    chosen = plain
    if not plain.exact:
        mixed = fit(gram, precision, size, state=True)
        if mixed.exact:
            chosen = mixed
    if chosen.exact:
        return _name(gram, chosen, hypothesis, precision)
    for packed in hypothesis.get("slices", {}).values():
        if (verdict := _by_position(unpack(packed)[place, :, :-1, :-1], hypothesis, event)) is not None:
            return verdict
    verdict = Verdict("unknown", plain)
    _order(verdict, plain, [], hypothesis)
    if verdict.cond is None:
        verdict.reason = "not a combination of the branches: the rule is not linear"
    return verdict


def _roles(hypothesis: Mapping[str, Any]) -> list[str]:
    return [LABELS.get(label, "") for label in hypothesis["labels"]]


def _by_position(grams: Array, hypothesis: Mapping[str, Any], event: Mapping[str, Any]) -> Verdict | None:
    """A weight for each position of an axis (per frame)."""
    size = event["size"] // len(grams)
    fits = [fit(gram, hypothesis["precision"], size, state=False) for gram in grams]
    if not all(one.exact and _is_one(one.total, one, hypothesis["precision"]) for one in fits):
        return None
    weights = np.mean([one.weights for one in fits], axis=0)
    errors = np.max([one.errors for one in fits], axis=0)
    middle = Fit(weights, 0.0, max(f.residual for f in fits), max(f.tolerance for f in fits), 0.0, errors)
    verdict = _name(grams.sum(0), middle, hypothesis, hypothesis["precision"])
    if verdict.cond is not None:
        each = [_weight(one, verdict.rule, verdict.cond, verdict.uncond) for one in fits]
        verdict.low, verdict.high = min(each), max(each)
    return verdict


def _is_one(value: float, fitted: Fit, precision: float) -> bool:
    allowed = 8 * fitted.total_error + 0.02 * precision * sum(map(abs, fitted.weights.tolist())) + 2e-6
    return abs(value - 1) <= allowed


def _name(gram: Array, fitted: Fit, hypothesis: Mapping[str, Any], precision: float) -> Verdict:
    labels = _roles(hypothesis)
    count, used = len(labels), fitted.used()
    if count == 1:
        return Verdict("none", fitted, cond=0, evidence="weights", reason=_unguided(hypothesis))
    rule = _rule(fitted, used, precision)
    if count == 2 and math.sqrt(max(gram[1, 1], 0)) <= negligible(precision) * math.sqrt(max(gram[0, 0], 1e-300)):
        verdict = Verdict("equal", fitted, reason="both branches are the same")
        _by_labels(verdict, labels)
        return verdict
    verdict = Verdict(rule, fitted)
    _order(verdict, fitted, used, hypothesis)
    if verdict.cond is not None and rule != "unknown":
        verdict.weight = verdict.low = verdict.high = _weight(fitted, rule, verdict.cond, verdict.uncond)
    return verdict


def _weight(fitted: Fit, rule: str, cond: int, uncond: int | None) -> float:
    """w of D_u + w (D_c - D_u); where a third branch pushes too, what it adds to the weight of `cond` is not w's."""
    if rule != "multi-branch":
        return float(fitted.weights[cond] / fitted.total)
    return np.nan if uncond is None else float(1 - fitted.weights[uncond])


def _unguided(hypothesis: Mapping[str, Any]) -> str:
    if hypothesis.get("embedded"):
        return "guidance-distilled: the scale is an input of the network"
    return "one prediction a step: no guidance was applied"


def _rule(fitted: Fit, used: list[int], precision: float) -> str:
    if len(used) > 2:
        return "multi-branch"
    if fitted.mix:
        return "mixed cfg"
    if _is_one(fitted.total, fitted, precision):
        return "cfg"
    return "negated cfg" if _is_one(-fitted.total, fitted, precision) else "unknown"


def _by_labels(verdict: Verdict, labels: list[str]) -> bool:
    if labels.count("cond") != 1:
        return False
    verdict.cond, verdict.evidence = labels.index("cond"), "labels"
    verdict.uncond = labels.index("uncond") if labels.count("uncond") == 1 else None
    verdict.reason = "" if verdict.uncond is not None else "no branch is labelled unconditional"
    return True


def _order(verdict: Verdict, fitted: Fit, used: list[int], hypothesis: Mapping[str, Any]) -> None:
    """Say which branch is which: by labels, else by weights, with three by inputs too."""
    if _by_labels(verdict, _roles(hypothesis)):
        return
    total = fitted.total
    if verdict.rule == "unknown" or not total:
        # a projection or a change of sign and scale can turn the weights round: their sum has to be known
        verdict.reason = "the weights sum neither to 1 nor to -1: the rule is not plain guidance"
        return
    shares = [weight / total for weight in fitted.weights.tolist()]
    beyond = [i for i in used if shares[i] > 1 + 1e-5]
    if len(used) == 2 and len(beyond) == 1:
        verdict.cond, verdict.uncond = beyond[0], next(i for i in used if i != beyond[0])
        verdict.evidence = "weights"
        return
    if len(used) > 2:
        positive = [i for i in used if shares[i] > 0]
        if len(positive) == 1:
            verdict.cond, verdict.evidence = positive[0], "weights"
            away = [i for i in used if i != positive[0]]
            verdict.uncond = farthest(hypothesis.get("alike", ()), positive[0], away)
        if verdict.uncond is not None:
            verdict.evidence = "weights and inputs"
            return
        verdict.reason = "several branches push away; neither numbers nor inputs tell which of them is unconditional"
        return
    verdict.reason = (
        "the weight lies between 0 and 1, as far as rounding tells: which branch is conditional cannot be told from"
        " numbers"
    )


def settle(proved: Sequence[Proved]) -> None:
    """Give undecided steps the order that other steps of the same layout agree on.

    A doubled call that is followed by further calls in some steps only (a perturbed branch inside an interval)
    keeps its order. Equal branches that nothing names are taken in the order of the calls: either is the other.
    """
    votes: dict[tuple[Any, ...], Counter[tuple[int, int]]] = {}
    for step in proved:
        for verdict in step.verdicts:
            if verdict.cond is not None and verdict.uncond is not None and verdict.rule != "equal":
                whole, first = step.signatures()
                order = (verdict.cond, verdict.uncond)
                for signature in (whole, first) if max(order) < first[2] else (whole,):
                    votes.setdefault(signature, Counter())[order] += 1
    for step in proved:
        for signature in step.signatures():
            if len(found := votes.get(signature, Counter())) == 1:
                _adopt(step, next(iter(found)))
                break
        for verdict in step.verdicts:
            if verdict.rule == "equal" and verdict.cond is None:
                verdict.cond, verdict.uncond, verdict.reason = 0, 1, ""


def _adopt(step: Proved, order: tuple[int, int]) -> None:
    for verdict in step.verdicts:
        equal = verdict.rule == "equal" and verdict.evidence != "labels"
        if (verdict.uncond is not None and not equal) or verdict.fit is None:
            continue
        verdict.cond, verdict.uncond = order
        verdict.evidence, verdict.reason = "other steps", ""
        if verdict.fit is not None and verdict.fit.exact and verdict.rule not in ("equal", "unknown"):
            verdict.weight = verdict.low = verdict.high = _weight(verdict.fit, verdict.rule, *order)
