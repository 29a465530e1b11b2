"""The proof of the branches: which prediction is which, from inner products alone.

For branches a, b, ... and g, what the scheduler received, the free fit g = alpha a + beta b (+ gamma x) has a
residual. Where that is no more than rounding, g was made of these branches, and alpha and beta say how: plain
guidance has alpha + beta = 1, a pipeline that flips the sign has -1, and `naming` says which branch is which.

Where x is part of the combination the pipeline guided in another space than the scheduler's: what a branch is there
has to be proved in every step, for it differs from step to step.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from scorescope.data.display import displayed
from scorescope.probes.pipelines.fit import Array, Fit, fit, fit_all, negligible
from scorescope.probes.pipelines.inputs import Given
from scorescope.probes.pipelines.naming import SAME, Verdict, name_branches, name_by_labels, roles_of, weight_of

DISTILLED = "guidance-distilled: the scale is an input of the network"
_NOT_LINEAR = "not a combination of the branches: the rule is not linear"
_NOTHING_FITS = "no denoiser output has the shape of the prediction"
_MOST_ERROR = 0.02  # of the factor by which branches are scaled, as a share: norms are no better than it
_SAME_SHARE, _SURE = 0.05, 8.0


@displayed
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
        given = Given.of(hypothesis)
        twin = given.twins(cond, third) and not given.apart(cond, third)
        return third if twin or roles_of(hypothesis)[third:][:1] == ["perturbed"] else None

    def names(self) -> list[str]:
        """What each branch is proved to be, empty where that is open; none where samples contradict each other."""
        orders = {(verdict.cond, verdict.uncond) for verdict in self.verdicts if verdict.evidence}
        if self.hypothesis is None or len(orders) != 1:
            return []
        cond, uncond = next(iter(orders))
        roles = {cond: "cond", uncond: "uncond", self.perturbed: "perturbed"}
        return [roles.get(branch, "") for branch in range(sum(self.hypothesis["parts"]))]


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
    if plain.exact:
        return _name(gram, plain, hypothesis)
    skip, out = (_of_sample(event["level"][name], place) for name in ("skip", "out"))
    space = (skip, out) if np.isfinite([skip, out]).all() and out else None
    mixed = fit(gram, precision, size, state=True, space=space)
    proved = mixed.exact and mixed.total_error <= _MOST_ERROR * abs(mixed.total)
    proved = proved and plain.residual > max(mixed.tolerance, 2 * mixed.residual)
    if proved and not (space and _may_be_of_rule(mixed, *space)):
        return _name(gram, mixed, hypothesis)
    for packed in hypothesis.get("slices", {}).values():
        if (verdict := _by_position(unpack(packed)[place, :, :-1, :-1], hypothesis, event)) is not None:
            return verdict
    verdict = Verdict("unknown", plain, scale=math.copysign(1.0, plain.total), mixed=mixed if proved else None)
    name_branches(verdict, plain, [], hypothesis)
    if verdict.cond is None:
        verdict.reason = "weights in denoised space that sum to another number than 1" if proved else _NOT_LINEAR
    return verdict


def _may_be_of_rule(found: Fit, skip: float, out: float) -> bool:
    """Whether x may have come in by the rule: weights that sum to k in denoised space, where branches are not mixed.

    Then D of each branch is k (skip x +- out branch), and (skip + out mix) x + out total branch is that.
    """
    error = _SURE * (abs(out) * found.mix_error + abs(skip) * found.total_error)
    far = [abs(skip + out * found.mix - k * skip) for k in (found.total, -found.total)]
    least = min(abs(found.total), abs(1 - abs(found.total)))
    return min(far) <= _SAME_SHARE * abs(skip) * least + error


def _of_sample(value: Any, place: int) -> float:
    one = value[place if len(value) > 1 else 0] if isinstance(value, list) else value
    return np.nan if one is None else float(one)


def _by_position(grams: Array, hypothesis: Mapping[str, Any], event: Mapping[str, Any]) -> Verdict | None:
    """A weight for each position of an axis (per frame)."""
    size = event["size"] // len(grams)
    fits = [fit(gram, hypothesis["precision"], size, state=False) for gram in grams]
    if not all(one.exact and _is_one(one.total, one, hypothesis["precision"]) for one in fits):
        return None
    weights = np.mean([one.weights for one in fits], axis=0)
    errors = np.max([one.errors for one in fits], axis=0)
    middle = Fit(weights, 0.0, max(f.residual for f in fits), max(f.tolerance for f in fits), 0.0, errors)
    verdict = _name(grams.sum(0), middle, hypothesis)
    if verdict.cond is not None:
        given = Given.of(hypothesis)
        each = [weight_of(replace(verdict, fit=one), given) for one in fits]
        verdict.low, verdict.high = min(each), max(each)
    return verdict


def _is_one(value: float, fitted: Fit, precision: float) -> bool:
    allowed = 8 * fitted.total_error + 0.02 * precision * sum(map(abs, fitted.weights.tolist())) + 2e-6
    return bool(abs(value - 1) <= allowed)


def _name(gram: Array, fitted: Fit, hypothesis: Mapping[str, Any]) -> Verdict:
    labels, precision = roles_of(hypothesis), hypothesis["precision"]
    count, used = len(labels), fitted.used()
    scale = fitted.total if fitted.mix else math.copysign(1.0, fitted.total)
    if count == 1:
        scale = scale if _is_one(abs(fitted.total), fitted, precision) else fitted.total
        return Verdict(
            "none", fitted, np.nan, scale, fitted.mix, cond=0, evidence="weights", reason=_unguided(hypothesis)
        )
    if count == 2 and math.sqrt(max(gram[1, 1], 0)) <= negligible(precision) * math.sqrt(max(gram[0, 0], 1e-300)):
        verdict = Verdict("equal", fitted, np.nan, scale, fitted.mix, reason=SAME)
        name_by_labels(verdict, labels)
        return verdict
    verdict = Verdict(_rule(fitted, used, precision), fitted, np.nan, scale, fitted.mix)
    name_branches(verdict, fitted, used, hypothesis)
    if verdict.cond is not None and verdict.rule != "unknown":
        if verdict.uncond is None and len(used) > 1:
            verdict.rule = "multi-branch"  # guidance, but not with an unconditional branch
        verdict.weight = verdict.low = verdict.high = weight_of(verdict, Given.of(hypothesis))
    return verdict


def _unguided(hypothesis: Mapping[str, Any]) -> str:
    if hypothesis.get("embedded"):
        return DISTILLED
    return "one prediction a step: no guidance was applied"


def _rule(fitted: Fit, used: list[int], precision: float) -> str:
    plain, negated = (_is_one(sign * fitted.total, fitted, precision) for sign in (1, -1))
    if not (fitted.mix or plain or negated):
        return "unknown"
    if len(used) > 2:
        return "multi-branch"
    return "mixed cfg" if fitted.mix else "cfg" if plain else "negated cfg"
