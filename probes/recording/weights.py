"""The guidance weight of every row of a trace, of every sample's path, and of a trace as a whole.

A fitted weight carries rounding, so no two are the same number; those that rounding does not tell apart are one here.
Weights that differ are never averaged: a path or a trace whose weights differ has none.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scorescope.probes.pipelines.proof import DISTILLED

Array = NDArray[np.float64]

RIGHT = 1e-3  # fitted weights are right to this share wherever they are claimed
_SURE = 4.0  # standard errors


def row_rules(scalars: pd.DataFrame) -> pd.Series:
    """The rule of every row of a recorded pipeline: the one that `guide` named, else what the fit proves."""
    told = scalars["made_by"].str.partition("(")[0]
    return told.where(told != "", scalars["rule"])


def row_weights(scalars: pd.DataFrame) -> Array:
    """The weight of every row of a recorded pipeline: 1 without guidance, NaN where none is known."""
    weights = _settled(scalars["weight"].to_numpy(np.float64), scalars["weight_error"].to_numpy(np.float64))
    return np.where((scalars["rule"] == "none") & (scalars["missing"] != DISTILLED), 1.0, weights)


def paths(scalars: pd.DataFrame, rules: pd.Series, weights: Array) -> pd.DataFrame:
    """The rule of the run and the weight of the sample's path that every row belongs to.

    Parameters
    ----------
    scalars : DataFrame
        Of a recorded pipeline.
    rules, weights
        Of its rows.

    Returns
    -------
    DataFrame
        `rule`, all that the run has, and `path_weight`: the weight of those steps of the sample that are guided with
        a known weight, NaN where it differs between them or is known at none; 1 for a sample that no step guided.
    """
    rule = rules.groupby(scalars["run"]).transform(lambda found: ", ".join(sorted(set(found))))
    guided = (scalars["rule"] != "none") & (weights != 1)
    known = pd.Series(weights).where(guided.to_numpy())
    of_path = [scalars["run"].to_numpy(), scalars["sample"].to_numpy()]
    least, most = (known.groupby(of_path).transform(how).to_numpy() for how in ("min", "max"))
    unguided = pd.Series(weights == 1).groupby(of_path).transform("all").to_numpy()
    weight = np.where(unguided, 1.0, np.where(least == most, least, np.nan))
    return pd.DataFrame({"rule": rule.to_numpy(), "path_weight": weight}, index=scalars.index)


def summary(events: Sequence[Mapping[str, Any]], scalars: pd.DataFrame) -> dict[str, Any]:
    """What a manifest says of a trace as a whole: rule, weight, shape of one sample, type.

    The weight is that of all its paths, and NaN where they differ or none is known; see `paths`.
    """
    if not events:
        return {}
    rules = row_rules(scalars)
    weights = set(paths(scalars, rules, row_weights(scalars))["path_weight"])
    return {
        "rule": ", ".join(sorted(set(rules))),
        "weight": float(next(iter(weights))) if len(weights) == 1 else float("nan"),
        "shape": list(events[0]["shape"][1:]),
        "dtype": events[0]["dtype"],
    }


def _settled(weights: Array, errors: Array) -> Array:
    """Weights of which those that rounding does not tell apart are the same number, to six digits."""
    settled = np.full_like(weights, np.nan)
    left = np.flatnonzero(np.isfinite(weights))
    left = left[np.argsort(errors[left], kind="stable")]
    while len(left):  # the surest first, and all that may be the same
        first = weights[left[0]]
        same = np.abs(weights[left] - first) <= RIGHT * abs(first) + _SURE * errors[left]
        one = float(f"{weights[left[same]].mean():.6g}")
        settled[left[same]] = 1.0 if abs(one - 1) <= RIGHT else one
        left = left[~same]
    return settled
