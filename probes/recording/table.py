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

from scorescope.probes.decomposition.products import BRANCH_PRODUCTS, GUIDED_PRODUCTS, OUTPUT_PRODUCTS
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
    "cond_output_sq": "squared norm of what the network put out, as it enters D_c; NaN where levels differ in a sample",
    "uncond_output_sq": "the same of D_u",
    "precision": "machine epsilon of the coarsest type that the predictions passed through",
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
    table = pd.DataFrame({name: _series([row[place] for row in rows]) for place, name in enumerate(names)})
    return table.astype({"sample": "int64", "seed": "int64", "run": "int64"})


def _series(values: Sequence[Any]) -> "pd.Series[Any]":
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
    parts = [_scalar_rows(event, step, first[event["run"]]) for event, step in zip(events, proved, strict=True)]
    columns: dict[str, Any] = {
        name: np.concatenate([part[name] for part in parts]) if parts else [] for name in SCALAR_COLUMNS
    }
    return pd.DataFrame(columns).astype(_TYPES)


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


def _scalar_rows(event: Mapping[str, Any], step: Proved, first: int) -> dict[str, Any]:
    """The rows of one step, column by column: a row at a time would cost more than the run of a small network."""
    verdicts, rows = step.verdicts, len(step.verdicts)
    level = {name: _column(event["level"][name], rows) for name in ("sigma", "sigma_next", "alpha", "skip", "out")}
    follows = [_follows(event["follows"], place) for place in range(rows)]
    fits = [verdict.fit for verdict in verdicts]
    weights = [_weight(verdict, event.get("made")) for verdict in verdicts]
    values = {
        "sample": first + np.arange(rows),
        **{name: np.full(rows, event[name]) for name in ("run", "event", "stream", "step", "call")},
        "t": _column(event["t"], rows),
        "sigma": level["sigma"],
        "sigma_next": level["sigma_next"],
        "needed": [1 if fit is None or not fit.exact else max(1, len(fit.used())) for fit in fits],
        "observed": np.zeros(rows),
        "missing": [_why_missing(verdict) for verdict in verdicts],
        **_products(event, step, level),
        **{name: _column(event["statistics"].get(name), rows) for name in GUIDED_PRODUCTS[2:]},
        **_contrast(event, step, level),
        "precision": np.full(rows, math.nan if step.hypothesis is None else step.hypothesis["precision"]),
        "weight": [weight for weight, _ in weights],
        "weight_error": [error for _, error in weights],
        "rule": [verdict.rule for verdict in verdicts],
        "residual": [math.nan if fit is None else fit.residual for fit in fits],
        "evidence": [verdict.evidence for verdict in verdicts],
        "made_by": ["" if event.get("made") is None else event["made"]["rule"]] * rows,
        "replaced_by": [event.get("replaced", "")] * rows,
        "chained": [chained for _, chained in follows],
        "follows": [place for place, _ in follows],
        "x0_gap": _column(event["x0_gap"], rows),
        "note": [event["level"]["note"]] * rows,
    }
    return {name: np.asarray(values[name]) for name in SCALAR_COLUMNS}


def _why_missing(verdict: Verdict) -> str:
    return SAME if verdict.rule == "equal" else "" if verdict.uncond is not None else verdict.reason


def _weight(verdict: Verdict, made: Mapping[str, Any] | None) -> tuple[float, float]:
    """The weight of a row and its error: of a rule that says its weight that one, unless it did not act here."""
    fitted, error = verdict.weight, math.nan
    if verdict.fit is not None and verdict.cond is not None and math.isfinite(fitted):
        moved = verdict.cond if verdict.rule != "multi-branch" or verdict.uncond is None else verdict.uncond
        error = float(verdict.fit.errors[moved] / max(abs(verdict.fit.total), 1e-12))
    acted = not abs(fitted - 1) <= UNGUIDED
    if made is None or verdict.rule == "equal" or not acted or not math.isfinite(made["weight"] or math.nan):
        return fitted, error
    return float(made["weight"]), 0.0


def _column(value: Any, rows: int) -> Array:
    """A recorded number, stored once or one a sample, for each sample; NaN for None."""
    found = np.array(value[:rows] if isinstance(value, list) else value, dtype=np.float64)
    return np.broadcast_to(found, (rows,)) if found.size == 1 else found


def at(value: Any, place: int) -> float:
    """A recorded number of one sample, whether it was stored once or one a sample."""
    return float(_column(value, place + 1)[place])


def _follows(found: Sequence[tuple[int, Sequence[bool]]], place: int) -> tuple[int, bool]:
    for event, equal in found:  # the latest first
        if equal[place if len(equal) > 1 else 0]:
            return int(event), True
    return -1, False


def _products(event: Mapping[str, Any], step: Proved, level: Mapping[str, Array]) -> dict[str, Array]:
    """The inner products of `branch_products` and `guided_products` as quadratic forms."""
    rows = len(step.verdicts)
    found = {name: np.full(rows, math.nan) for name in (*BRANCH_PRODUCTS, *GUIDED_PRODUCTS[:2], *OUTPUT_PRODUCTS)}
    if step.hypothesis is None:
        return found
    gram, skip, out, alpha = step.grams, level["skip"], level["out"], level["alpha"]
    if "denoised_gram" in step.hypothesis:  # the level differs inside a sample: converted before multiplying
        gram, skip, out = unpack(step.hypothesis["denoised_gram"])[:, :-1, :-1], np.zeros(rows), np.ones(rows)
        alpha = np.ones(rows)
    known = np.isfinite(skip) & np.isfinite(out)
    alike: dict[tuple[int, int | None, bool], list[int]] = {}
    for place, verdict in enumerate(step.verdicts):
        if verdict.cond is not None and known[place] and _has_forms(step.hypothesis, verdict, gram.shape[-1]):
            alike.setdefault((verdict.cond, verdict.uncond, verdict.rule == "none"), []).append(place)
    for (cond, uncond, unguided), places in alike.items():
        scale, mix = np.array([(step.verdicts[place].scale, step.verdicts[place].mix) for place in places]).T
        level_of = (skip[places], out[places], alpha[places])
        turned = scale if "denoised_gram" in step.hypothesis else np.ones(len(places))
        part = _forms(gram[places], level_of, (scale, mix), turned, cond, uncond, unguided)
        for name, values in part.items():
            if name not in OUTPUT_PRODUCTS or "denoised_gram" not in step.hypothesis:
                found[name][places] = values
    return found


def _has_forms(hypothesis: Mapping[str, Any], verdict: Verdict, m: int) -> bool:
    """Whether D of the branches follows: where each was converted by itself, a branch that is turned round needs the
    D of a prediction of zero, which traces of before lack."""
    if "denoised_gram" not in hypothesis or (verdict.scale, verdict.mix) == (1.0, 0.0):
        return True
    return not verdict.mix and m == sum(hypothesis["parts"]) + 3


def _contrast(event: Mapping[str, Any], step: Proved, level: Mapping[str, Array]) -> dict[str, Array]:
    """Standard deviation of D_g from its sum and its square, where it was not measured with the pixels."""
    if "contrast" in event["statistics"] or step.hypothesis is None:
        return {}
    flat, rows = "denoised_gram" in step.hypothesis, len(step.verdicts)
    gram = unpack(step.hypothesis["denoised_gram" if flat else "gram"])[:rows]
    skip, out = (np.zeros(rows), np.ones(rows)) if flat else (level["skip"], level["out"])
    known, m = np.isfinite(skip) & np.isfinite(out), gram.shape[-1]
    gram, skip, out = gram[known], skip[known, None], out[known, None]
    guided = skip * _basis(m, m - 2) + out * (_basis(m, 0) + _basis(m, m - 3))
    mean = _dot(gram, guided, np.broadcast_to(_basis(m, m - 1), guided.shape)) / event["size"]
    found = np.full(rows, math.nan)
    found[known] = np.sqrt(np.maximum(_dot(gram, guided, guided) / event["size"] - mean**2, 0.0))
    return {"contrast": found}


def _forms(
    gram: Array, level: tuple[Array, Array, Array], branch: tuple[Array, Array], turned: Array, cond: int,
    uncond: int | None, unguided: bool,
) -> dict[str, Array]:  # fmt: skip
    """Of samples whose branches lie alike.

    `level` is (skip, out, alpha), `branch` (scale, mix). Where a branch is turned round and its own D was recorded,
    `turned` is not 1 and the rest is the D of a prediction of zero, which stands before g.
    """
    m = gram.shape[-1]
    (skip, out, alpha), (scale, mix) = ([one[:, None] for one in part] for part in (level, branch))
    state, guided = _basis(m, m - 1), out * (_basis(m, 0) + _basis(m, m - 2))
    offset = out * scale
    if unguided:
        d_cond, applied = skip * state + guided, np.zeros((len(gram), m))
    else:
        zero = (1 - turned)[:, None] * _branch(m, m - 3)
        d_cond = (skip + out * mix) * state + offset * _branch(m, cond) + zero
        applied = guided - out * mix * state - offset * _branch(m, cond) - zero
    found = {"cond_sq": _square(gram, d_cond)}
    found["cond_output_sq"] = _square(gram, guided if unguided else offset * _branch(m, cond))
    found["applied_sq"], found["applied_cond"] = _square(gram, applied), _dot(gram, applied, d_cond)
    noise = np.where(alpha == 0, math.nan, _basis(m, m - 1) / np.where(alpha == 0, 1.0, alpha) - d_cond)
    found["noise_sq"] = _square(gram, noise)
    if uncond is None:
        return found
    update = offset * (_branch(m, cond) - _branch(m, uncond))
    d_uncond = d_cond - update
    found["uncond_sq"] = _square(gram, d_uncond)
    found["uncond_output_sq"] = _square(gram, offset * _branch(m, uncond))
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


def _square(gram: Array, a: Array) -> Array:
    """Its rounding can fall below zero; NaN stays NaN."""
    square = _dot(gram, a, a)
    return np.where(square < 0, 0.0, square)


def _dot(gram: Array, a: Array, b: Array) -> Array:
    """a G b of each sample; what is not used may be infinite."""
    unused = (a == 0)[:, :, None] | (b == 0)[:, None, :]
    with np.errstate(invalid="ignore"):
        terms = np.where(unused, 0.0, a[:, :, None] * gram * b[:, None, :])
    found: Array = terms.sum((1, 2))
    return found
