"""The same rule with other values of its fields, also of the rule inside it; rules at every point of a grid of values.

with_fields(Interval(APG(4.0)), {"eta": 0.5, "low": 0.1})        # Interval(APG(4.0, eta=0.5), low=0.1)
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, fields, is_dataclass, replace
from typing import Any

import numpy as np

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.guidance.base import Rule, describe
from scorescope.probes.guidance.scheduler_step import rules_inside
from scorescope.probes.guidance.wrappers import Scheduled

Grid = Mapping[str, Sequence[Any]]
Points = Sequence[Mapping[str, Any]]


@checked
def with_weight(rule: Rule, weight: float) -> Rule:
    """The same rule with another guidance weight, that of the rule inside for a rule around a rule.

    Raises
    ------
    InputError
        For rules without one weight: schedules, weights by band, CFG++.
    """
    if "weight" not in (owners := field_owners(rule)):
        expected = f"rules that have one; the fields of this one are {', '.join(owners)}"
        raise InputError("weights", found=f"{describe(rule)}, which has no single weight", expected=expected)
    return with_fields(rule, {"weight": float(weight)})


@checked
def with_fields(rule: Rule, values: Mapping[str, Any]) -> Rule:
    """The same rule with other values of its fields, or of those of a rule inside it.

    Parameters
    ----------
    rule : Rule
        A rule, or rules around a rule.
    values : mapping of str to anything
        New values by field. Whole numbers become floats where the field has one.

    Raises
    ------
    InputError
        For fields that no rule of them has, or more than one, and for values that the rule refuses. The weight of a
        rule inside `Scheduled` is none: the schedule takes its place.
    """
    owners = field_owners(rule)
    if unknown := [name for name in values if len(owners.get(name, ())) != 1]:
        twice = [type(owner).__name__ for owner in owners.get(unknown[0], ())]
        found = f"{unknown[0]!r}, which {' and '.join(twice)} have" if twice else repr(unknown[0])
        single = [name for name, having in owners.items() if len(having) == 1]
        raise InputError("fields", found=found, expected=f"fields of {describe(rule)}: {', '.join(single)}")
    changed: Any = None
    for one in reversed(rules_inside(rule)):
        own = {name: _like(getattr(one, name), value) for name, value in values.items() if owners[name][0] is one}
        around = {} if changed is None else {"rule": changed}
        changed = replace(one, **own, **around) if own or around else one  # type: ignore[type-var]
    return changed  # type: ignore[no-any-return]


def field_owners(rule: Rule) -> dict[str, list[Rule]]:
    """The fields that can be changed, each with the rules that have it, from the outside in."""
    owners: dict[str, list[Rule]] = {}
    around: Rule | None = None
    for one in rules_inside(rule):
        hidden = {"rule", "weight"} if isinstance(around, Scheduled) else {"rule"}
        items: tuple[Field[Any], ...] = fields(one) if is_dataclass(one) else ()
        for item in items:
            if item.init and item.name not in hidden:
                owners.setdefault(item.name, []).append(one)
        around = one
    return owners


def varied_rules(
    rules: Mapping[str, Rule], weights: Sequence[float] | None, over: Grid | Points | None
) -> dict[str, tuple[Rule, dict[str, float | str]]]:
    """Every rule at every weight and point: by name of the setting, with the values that were varied.

    Raises
    ------
    InputError
        For a rule without a field, a value that it refuses, and settings of one name.
    """
    points = list(_points(weights, over))
    named = [_varied(name, rule, point) for name, rule in rules.items() for point in points]
    if twice := [name for name, count in Counter(name for name, _ in named).items() if count > 1]:
        argument = "weights" if over is None else "over"
        raise InputError(argument, found=f"{twice[0]!r} twice", expected="at least one value, and each once")
    return dict(named)


def _points(weights: Sequence[float] | None, over: Grid | Points | None) -> Iterable[dict[str, Any]]:
    """Values by field, of every point."""
    grid = {} if weights is None else {"weight": weights}
    if weights is not None and (not len(weights) or len(set(weights)) < len(weights)):
        raise InputError("weights", found=str(list(weights)), expected="at least one, and each once")
    listed = _grid_points(over) if isinstance(over, Mapping) else [{}] if over is None else over
    if not listed or any(not point for point in listed if over is not None):
        raise InputError("over", found="nothing in it", expected="values by field, or points: at least one")
    if weights is not None and any("weight" in point for point in listed):
        raise InputError("over", found="'weight', beside weights=", expected="one of the two")
    return ({**first, **point} for first in _grid_points(grid) for point in listed)


def _grid_points(grid: Grid) -> list[dict[str, Any]]:
    for name, values in grid.items():
        if isinstance(values, str) or not len(values):
            raise InputError("over", found=f"{name} = {values!r}", expected="a sequence of values: at least one")
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _varied(name: str, rule: Rule, point: Mapping[str, Any]) -> tuple[str, tuple[Rule, dict[str, float | str]]]:
    told = {field: _told(value) for field, value in point.items()}
    label = ", ".join([name, *(f"{'w' if field == 'weight' else field} = {_text(told[field])}" for field in told)])
    if not point:
        return label, (rule, {})
    if list(point) == ["weight"]:
        return label, (with_weight(rule, point["weight"]), told)
    try:
        return label, (with_fields(rule, point), told)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError) and error.argument == "fields":
            raise InputError("over", found=f"{error.found} for {name!r}", expected=error.expected) from None
        has = ", ".join(f"{field} = {getattr(owners[0], field)!r}" for field, owners in field_owners(rule).items())
        expected = f"values that the rule takes; it has {has}"
        raise InputError("over", found=f"{label} ({error})", expected=expected) from None


def _like(present: Any, value: Any) -> Any:
    """A value in the kind of the one whose place it takes: numbers of numpy and whole numbers, where it is a float."""
    value = value.item() if isinstance(value, np.generic) else value
    whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if whole and isinstance(present, float) else value


def _told(value: Any) -> float | str:
    """A number, or what a text calls another value."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return str(getattr(value, "__name__", value))
    return float(value)


def _text(value: float | str) -> str:
    """As few digits as tell it."""
    if isinstance(value, str):
        return value
    short = f"{value:g}"
    return short if float(short) == value or math.isnan(value) else repr(value)
