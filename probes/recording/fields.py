"""The fields that a manifest and its lines have to have. A good hash says who wrote a line, not that it makes sense."""

from collections.abc import Mapping
from types import NoneType
from typing import Any

_NUMBERS = (int, float, list, NoneType)  # one for all samples, or one a sample
Kinds = Mapping[str, type | tuple[type, ...]]
"""By field, what it has to be."""

_MANIFEST: Kinds = {"id": str, "status": str}
_CLOSED: Kinds = {"lines": int, "steps_sha256": str, "scalars_sha256": str}
_DESCRIPTION: Kinds = {"pipeline": str, "schedulers": dict, "modules": dict, "sites": list, "recording": dict}
_LINE: Kinds = {"kind": str, "run": int, "attempt": int, "line": int}
_STEP: Kinds = {
    "event": int, "stream": int, "step": int, "call": int, "rows": int, "size": int, "shape": list, "dtype": str,
    "missing": str, "arrays": dict, "follows": list, "hypotheses": list, "statistics": dict, "level": dict,
    "t": _NUMBERS, "x0_gap": _NUMBERS,
}  # fmt: skip
_LEVEL: Kinds = {
    "note": str, "space": str, "sigma": _NUMBERS, "sigma_next": _NUMBERS, "alpha": _NUMBERS, "skip": _NUMBERS,
    "out": _NUMBERS,
}  # fmt: skip
_HYPOTHESIS: Kinds = {
    "view": str, "order": str, "modules": list, "parts": list, "labels": list, "precision": float, "embedded": bool,
    "gram": list,
}  # fmt: skip
_MADE: Kinds = {"rule": str, "weight": (int, float), "layout": (list, NoneType)}
_PLACES: Kinds = {"places": list, "scales": list}
_SHARD: Kinds = {"shard": str, "shard_sha256": str, "shard_bytes": int}


def wrong_in_manifest(manifest: Mapping[str, Any], *, closed: bool) -> str:
    """The name of a field that a manifest lacks, or that is of another type; empty for a sound one."""
    described = {name: kind for name, kind in _DESCRIPTION.items() if name in manifest}
    wrong = wrong_field(manifest, {**_MANIFEST, **described, **(_CLOSED if closed else {})})
    named = wrong or all(isinstance(part, dict) for part in manifest.get("schedulers", {}).values())
    return wrong if named else "schedulers"


def wrong_in_line(line: Any) -> str:
    """The same for a step line."""
    if not isinstance(line, dict):
        return "fields"
    wrong = wrong_field(line, _LINE)
    if wrong or line["kind"] not in ("step", "end"):
        return wrong or "kind"
    if line["kind"] == "end":
        return "" if isinstance(line.get("spec", 0), dict | None) else "spec"
    wrong = wrong_field(line, {**_STEP, **(_SHARD if "shard" in line else {})}) or wrong_field(
        line["level"], _LEVEL, "level "
    )
    wrong = wrong or _wrong_maker(line)
    return wrong or next((w for part in line["hypotheses"] if (w := wrong_field(part, _HYPOTHESIS, "hypotheses "))), "")


def _wrong_maker(line: Mapping[str, Any]) -> str:
    """The same of who made or replaced the prediction of a step."""
    if not isinstance(line.get("replaced", ""), str):
        return "replaced"
    if (made := line.get("made")) is None:
        return ""
    if (wrong := wrong_field(made, _MADE, "made ")) or made["layout"] is None:
        return wrong
    if wrong := wrong_field(made, _PLACES, "made "):
        return wrong
    pairs = len(made["scales"]) >= 1 and all(_is_pair(pair, (int, float)) for pair in made["scales"])
    places = _is_pair(made["places"], (int, NoneType)) and isinstance(made["places"][0], int)
    return "" if pairs and places else "made scales" if places else "made places"


def _is_pair(value: Any, kind: tuple[type, ...]) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, kind) for part in value)


def wrong_field(found: Any, fields: Kinds, prefix: str = "") -> str:
    """The name of a field that is missing or of another type, after `prefix`; empty for sound ones."""
    if not isinstance(found, dict):
        return prefix.strip()
    return next((prefix + name for name, kind in fields.items() if name not in found or not _is(found[name], kind)), "")


def _is(value: Any, kind: type | tuple[type, ...]) -> bool:
    if kind is _NUMBERS and isinstance(value, list):
        return all(isinstance(part, int | float | None) for part in value)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))
