"""From recorded steps to tables: the scalars of the streaming decomposition, and the proof.

Every scalar is a quadratic form in the recorded inner products, so the tables follow from the step lines of a
trace alone, and come out the same from an interrupted, resumed or unbroken recording.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scorescope.probes.decomposition.products import BRANCH_PRODUCTS, GUIDED_PRODUCTS
from scorescope.probes.pipelines.naming import SAME, Verdict
from scorescope.probes.pipelines.proof import Proved, unpack
from scorescope.probes.pipelines.settling import settle
from scorescope.probes.recording.made import UNGUIDED, prove_step

Array = NDArray[np.float64]

SCALAR_COLUMNS: dict[str, str] = {
    "sample": "sample, counted over all runs of the trace",
    "run": "run of the pipeline, from 0",
    "event": "count of scheduler steps in the run, from 0",
    "stream": "which scheduler (0 is the first one that stepped)",
    "step": "solver step in the run",
    "call": "call in the solver step (Heun and kin make two)",
    "t": "timestep as the scheduler was given it; NaN where it differs inside a sample",
    "sigma": "noise level, variance-exploding; the largest where it differs inside a sample",
    "sigma_next": "noise level of the state that this step, or stage of one, is to return; NaN where unknown",
    "needed": "branches that the rule used",
    "observed": "further denoiser evaluations made only for the record: always 0",
    "missing": "why the unconditional branch is missing, or says nothing; empty where it is there",
    **{name: "inner products in denoised space; see branch_products" for name in BRANCH_PRODUCTS},
    **{name: "of the guided prediction in denoised space; see guided_products" for name in GUIDED_PRODUCTS},
    "weight": "guidance weight w of D_u + w (D_c - D_u), fitted; the mean where it differs by frame; of a rule in"
    " `made_by` its own",
    "weight_error": "standard error of the fitted weight: what rounding leaves open; 0 for a rule's own",
    "rule": "what the fit proves: one of naming.RULES",
    "residual": "|g - fit| / |g| in the scheduler's prediction space",
    "evidence": "what named the branches: weights, labels, other steps, guide, or nothing",
    "made_by": "rule of `guide` that made the prediction, with its parameters; empty for the pipeline's own",
    "replaced_by": "rule of `guide` whose prediction the scheduler received in place of this one; empty else",
    "chained": "the state is exactly what an earlier step of this run returned",
    "follows": "event that returned the state; -1 where none did",
    "x0_gap": "|D_g - x0| / |x0| against the scheduler's own estimate; NaN where it returned none",
    "note": "what is peculiar about the noise level; empty else",
}

_TYPES: dict[str, str] = {
    **dict.fromkeys(SCALAR_COLUMNS, "float64"),
    **dict.fromkeys(("sample", "run", "event", "stream", "step", "call", "needed", "observed", "follows"), "int64"),
    **dict.fromkeys(("missing", "rule", "evidence", "made_by", "replaced_by", "note"), "str"),
    "chained": "bool",
}

PROOF_COLUMNS: dict[str, str] = {
    "sample": "sample, counted over all runs",
    "run": "run",
    "event": "scheduler step in the run",
    "view": "how outputs were brought to the shape of the prediction",
    "order": "how branches lie in the calls",
    "rule": "one of naming.RULES",
    "weight": "guidance weight",
    "weight_low": "smallest weight inside the sample",
    "weight_high": "largest weight inside the sample",
    "coefficients": "free fit: weight of each branch, in order of the calls",
    "mix": "weight of the state in the prediction",
    "residual": "|g - fit| / |g|",
    "tolerance": "residual that rounding explains",
    "cond": "place of the conditional branch",
    "uncond": "place of the unconditional branch",
    "evidence": "weights, labels, other steps, guide, or empty",
    "reason": "why a branch is missing",
}


def prove_all(events: Sequence[Mapping[str, Any]]) -> list[Proved]:
    """Judge every step, then let the steps of a run settle each other."""
    proved = [prove_step(event) for event in events]
    for run in {event["run"] for event in events}:
        settle([step for step, event in zip(proved, events, strict=True) if event["run"] == run])
    return proved


def sample_offsets(events: Sequence[Mapping[str, Any]], proved: Sequence[Proved]) -> dict[int, int]:
    """Number of the first sample of each run; samples are counted over all runs in their order."""
    rows: dict[int, int] = {}
    for event, step in zip(events, proved, strict=True):
        rows[event["run"]] = max(rows.get(event["run"], 0), len(step.verdicts))
    offsets, total = {}, 0
    for run in sorted(rows):
        offsets[run] = total
        total += rows[run]
    return offsets


def sample_table(
    events: Sequence[Mapping[str, Any]], proved: Sequence[Proved], specs: Mapping[int, Mapping[str, Any]]
) -> pd.DataFrame:
    """One row a sample: `sample`, `seed`, `condition`, `run`; seed and prompt as the run's spec names them.

    The seed is -1 and the condition missing where no spec named them.
    """
    offsets = sample_offsets(events, proved)
    found: dict[int, tuple[int, Any, Any, int]] = {}
    for event, step in zip(events, proved, strict=True):
        spec = specs.get(event["run"]) or {}
        for place in range(len(step.verdicts)):
            sample = offsets[event["run"]] + place
            seed = spec.get("seed")
            found[sample] = (
                sample,
                -1 if seed is None else int(seed),
                spec.get("prompt", spec.get("condition")),
                event["run"],
            )
    rows = [found[k] for k in sorted(found)]
    names = ["sample", "seed", "condition", "run"]
    table = pd.DataFrame({name: _column([row[place] for row in rows]) for place, name in enumerate(names)})
    return table.astype({"sample": "int64", "seed": "int64", "run": "int64"})


def _column(values: Sequence[Any]) -> "pd.Series[Any]":
    try:
        return pd.Series(values)
    except UnicodeEncodeError:  # a prompt with a lone surrogate, which only a column of objects holds
        return pd.Series(values, dtype=object)


def scalar_table(
    events: Sequence[Mapping[str, Any]], proved: Sequence[Proved], first: Mapping[int, int]
) -> pd.DataFrame:
    """One row a (sample, step, call); columns are `SCALAR_COLUMNS`.

    Parameters
    ----------
    events : sequence of mapping
        Recorded steps.
    proved : sequence of Proved
        Their proofs.
    first : mapping
        Number of the first sample of each run.
    """
    rows = [
        _scalar_row(event, step, place, first[event["run"]])
        for event, step in zip(events, proved, strict=True)
        for place in range(len(step.verdicts))
    ]
    return pd.DataFrame(rows, columns=list(SCALAR_COLUMNS)).astype(_TYPES)


def proof_table(
    events: Sequence[Mapping[str, Any]], proved: Sequence[Proved], first: Mapping[int, int]
) -> pd.DataFrame:
    """One row a (sample, step, call); columns are `PROOF_COLUMNS`."""
    rows = []
    for event, step in zip(events, proved, strict=True):
        for place, v in enumerate(step.verdicts):
            h = step.hypothesis or {}
            rows.append(
                (
                    first[event["run"]] + place, event["run"], event["event"], h.get("view", ""), h.get("order", ""),
                    v.rule, v.weight, v.low, v.high, tuple(v.fit.weights.tolist()) if v.fit else (),
                    v.fit.mix if v.fit else math.nan, v.fit.residual if v.fit else math.nan,
                    v.fit.tolerance if v.fit else math.nan, -1 if v.cond is None else v.cond,
                    -1 if v.uncond is None else v.uncond, v.evidence, v.reason,
                )
            )  # fmt: skip
    return pd.DataFrame(rows, columns=list(PROOF_COLUMNS))


def _scalar_row(event: Mapping[str, Any], step: Proved, place: int, first: int) -> list[Any]:
    verdict = step.verdicts[place]
    level = {name: at(event["level"][name], place) for name in ("sigma", "sigma_next", "alpha", "skip", "out")}
    products = _products(event, step, place, level)
    follows, chained = _follows(event["follows"], place)
    used = len(verdict.fit.used()) if verdict.fit is not None and verdict.fit.exact else 0
    values = {
        "sample": first + place,
        **{name: event[name] for name in ("run", "event", "stream", "step", "call")},
        "t": at(event["t"], place),
        "sigma": level["sigma"],
        "sigma_next": level["sigma_next"],
        "needed": max(1, used),
        "observed": 0,
        "missing": SAME if verdict.rule == "equal" else "" if verdict.uncond is not None else verdict.reason,
        **products,
        **{name: at(event["statistics"].get(name, math.nan), place) for name in GUIDED_PRODUCTS[2:]},
        **_contrast(event, step, place, level),
        **_weight(verdict, event.get("made")),
        "rule": verdict.rule,
        "residual": verdict.fit.residual if verdict.fit else math.nan,
        "evidence": verdict.evidence,
        "made_by": "" if event.get("made") is None else event["made"]["rule"],
        "replaced_by": event.get("replaced", ""),
        "chained": chained,
        "follows": follows,
        "x0_gap": at(event["x0_gap"], place),
        "note": event["level"]["note"],
    }
    return [values[name] for name in SCALAR_COLUMNS]


def _weight(verdict: Verdict, made: Mapping[str, Any] | None) -> dict[str, float]:
    """The weight of a row and its error: of a rule that says its weight that one, unless it did not act here."""
    fitted, error = verdict.weight, math.nan
    if verdict.fit is not None and verdict.cond is not None and math.isfinite(fitted):
        moved = verdict.cond if verdict.rule != "multi-branch" or verdict.uncond is None else verdict.uncond
        error = float(verdict.fit.errors[moved] / max(abs(verdict.fit.total), 1e-12))
    acted = not abs(fitted - 1) <= UNGUIDED
    if made is None or verdict.rule == "equal" or not acted or not math.isfinite(made["weight"] or math.nan):
        return {"weight": fitted, "weight_error": error}
    return {"weight": float(made["weight"]), "weight_error": 0.0}


def at(value: Any, place: int) -> float:
    """A recorded number of one sample, whether it was stored once or one a sample."""
    if isinstance(value, list):
        value = value[place] if len(value) > 1 else value[0]
    return math.nan if value is None else float(value)


def _follows(found: Sequence[tuple[int, Sequence[bool]]], place: int) -> tuple[int, bool]:
    for event, equal in found:  # the latest first
        if equal[place if len(equal) > 1 else 0]:
            return int(event), True
    return -1, False


def _products(event: Mapping[str, Any], step: Proved, place: int, level: Mapping[str, float]) -> dict[str, float]:
    """The inner products of `branch_products` and `guided_products` as quadratic forms."""
    names = (*BRANCH_PRODUCTS, *GUIDED_PRODUCTS[:2])
    absent = dict.fromkeys(names, math.nan)
    verdict = step.verdicts[place]
    if step.hypothesis is None or verdict.cond is None:
        return absent
    if "denoised_gram" in step.hypothesis:  # the level differs inside a sample: converted before multiplying
        gram, skip, out, alpha = unpack(step.hypothesis["denoised_gram"])[place, :-1, :-1], 0.0, 1.0, 1.0
    else:
        gram, skip, out, alpha = step.grams[place], level["skip"], level["out"], level["alpha"]
    if not (math.isfinite(skip) and math.isfinite(out)):
        return absent
    scale, mix = verdict.scale, verdict.mix
    zero = np.zeros(len(gram))
    if "denoised_gram" in step.hypothesis and (scale, mix) != (1.0, 0.0):
        if mix or len(gram) != sum(step.hypothesis["parts"]) + 3:  # traces of before have no D of zero
            return absent
        zero = (1 - scale) * _branch(len(gram), len(gram) - 3)
    return absent | _forms(gram, verdict, skip, out, alpha, zero)


def _contrast(event: Mapping[str, Any], step: Proved, place: int, level: Mapping[str, float]) -> dict[str, float]:
    """Standard deviation of D_g from its sum and its square, where it was not measured with the pixels."""
    if "contrast" in event["statistics"] or step.hypothesis is None:
        return {}
    flat = "denoised_gram" in step.hypothesis
    gram = unpack(step.hypothesis["denoised_gram" if flat else "gram"])[place]
    skip, out = (0.0, 1.0) if flat else (level["skip"], level["out"])
    if not (math.isfinite(skip) and math.isfinite(out)):
        return {}
    m = len(gram)
    guided = skip * _basis(m, m - 2) + out * (_basis(m, 0) + _basis(m, m - 3))
    mean = _dot(gram, guided, _basis(m, m - 1)) / event["size"]
    return {"contrast": math.sqrt(max(_dot(gram, guided, guided) / event["size"] - mean**2, 0.0))}


def _forms(gram: Array, verdict: Verdict, skip: float, out: float, alpha: float, zero: Array) -> dict[str, float]:
    """`zero` is what is left of D where a branch is turned round and its own D was recorded."""
    m = len(gram)
    cond = verdict.cond or 0
    state, guided = _basis(m, m - 1), out * (_basis(m, 0) + _basis(m, m - 2))
    mix, offset = verdict.mix, out * verdict.scale
    if verdict.rule == "none":
        d_cond, applied = skip * state + guided, np.zeros(m)
    else:
        d_cond = (skip + out * mix) * state + offset * _branch(m, cond) + zero
        applied = guided - out * mix * state - offset * _branch(m, cond) - zero
    found = {"cond_sq": _square(gram, d_cond)}
    found["applied_sq"], found["applied_cond"] = _square(gram, applied), _dot(gram, applied, d_cond)
    noise = _basis(m, m - 1) / alpha - d_cond if alpha else np.full(m, math.nan)
    found["noise_sq"] = _square(gram, noise)
    if verdict.uncond is None:
        return found
    update = offset * (_branch(m, cond) - _branch(m, verdict.uncond))
    d_uncond = d_cond - update
    found["uncond_sq"] = _square(gram, d_uncond)
    found["update_sq"], found["update_cond"] = _square(gram, update), _dot(gram, update, d_cond)
    found["update_noise"] = _dot(gram, update, noise)
    return found


def _basis(m: int, place: int) -> Array:
    vector = np.zeros(m)
    vector[place] = 1
    return vector


def _branch(m: int, place: int) -> Array:
    """Branch `place` in the basis (a, b - a, c - a, ..., g - a, x)."""
    return _basis(m, 0) + _basis(m, place) if place else _basis(m, 0)


def _square(gram: Array, a: Array) -> float:
    """Its rounding can fall below zero; NaN stays NaN."""
    square = _dot(gram, a, a)
    return 0.0 if square < 0 else square


def _dot(gram: Array, a: Array, b: Array) -> float:
    i, j = np.flatnonzero(a), np.flatnonzero(b)  # what is not used may be infinite
    return float(a[i] @ gram[np.ix_(i, j)] @ b[j])
