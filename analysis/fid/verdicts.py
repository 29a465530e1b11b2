"""What a gaming audit says, in one sentence an arm.

verdict(audit, "classes matched").text
"""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from scorescope.analysis.fid.gaming import GAMING_AUDIT, PLAIN, REAL
from scorescope.analysis.statistics.tables import require_columns
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError


@displayed
@dataclass(frozen=True)
class Verdict:
    """What an audit says in one sentence, and the numbers in it.

    Attributes
    ----------
    text : str
        The sentence.
    arm : str
        The arm it speaks of.
    reduction : float
        How much FD the choice takes off.
    share : float
        reduction / FD.
    second_change : float
        Relative change of the second space's distance.
    gap_share : float
        reduction over the gap to the other model; NaN without one.
    """

    text: str
    arm: str
    reduction: float
    share: float
    second_change: float
    gap_share: float


@checked
def verdict(
    audit: pd.DataFrame,
    arm: str,
    *,
    other_value: float = math.nan,
    other_name: str = "the other model",
    cause: str = "class statistics alone",
) -> Verdict:
    """Say what an arm of an audit means.

    Parameters
    ----------
    audit : DataFrame
        From `gaming_audit`.
    arm : str
        One of its arms.
    other_value : float, optional
        FD of another model at the same number of images, for the share of the gap between the two.
    other_name : str
        What the sentence calls it.
    cause : str
        What the arm matched, for the sentence: class statistics, or all features with optimised weights.

    Returns
    -------
    Verdict
        The sentence, and the numbers in it.

    Notes
    -----
    The sentence says how many images the weights of an arm are worth, and what other real images score. It places an
    arm below them only where both have the same numbers of images and differ by
    more than single draws scatter, and speaks of a gap to another model only where that is larger than the scatter.
    """
    require_columns("audit", audit, GAMING_AUDIT.names)
    rows = {(row["arm"], row["metric"]): row for row in audit.to_dict("records")}
    if (arm, "FD") not in rows or (PLAIN, "FD") not in rows:
        raise InputError("arm", found=repr(arm), expected=f"one of {sorted(set(audit['arm']))}")
    plain, chosen, real = rows[PLAIN, "FD"], rows[arm, "FD"], rows.get((REAL, "FD"))
    before, after = float(plain["value"]), float(chosen["value"])
    reduction = before - after
    share = reduction / before
    second = float(rows[arm, "second FD"]["value"]) / float(rows[PLAIN, "second FD"]["value"]) - 1
    gap = before - other_value
    gap_share = reduction / gap if gap > 0 else math.nan
    text = f"{arm}: FD {before:.4g} to {after:.4g} ({-share:+.0%}) by choice of images alone"
    text += f" (worth {chosen['effective_size']:.0f} of {plain['effective_size']:.0f})"
    if not _same_sizes(plain, chosen):
        text += f", of which some is that of {chosen['n']} images in place of {plain['n']}"
    text += f"; the second space moves {second:+.0%}"
    if real is not None:
        text += _beside_real(chosen, real)
    if gap > _scatter(plain) and reduction > 0:
        text += f"; that is {gap_share:.0%} of the gap to {other_name}, by {cause}"
    return Verdict(text + ".", arm, reduction, share, second, gap_share)


def _beside_real(chosen: dict[Any, Any], real: dict[Any, Any]) -> str:
    """The floor under a chosen set: what other real images score, and whether the set is below."""
    found = f"({real['value']:.4g}, {real['n']} against {real['n_real']})"
    if not _same_sizes(chosen, real):
        return f"; other real images {found} are of other numbers, and no floor"
    if float(real["value"]) - float(chosen["value"]) > _scatter(chosen, real):
        return f"; that is below other real images of these numbers {found}"
    return f"; beside it other real images of these numbers {found}"


def _same_sizes(one: dict[Any, Any], other: dict[Any, Any]) -> bool:
    return bool(one["n"] == other["n"] and one["n_real"] == other["n_real"])


def _scatter(*rows: dict[Any, Any]) -> float:
    """What values of single draws differ by, at 95 %: draws from one pool scatter less than new images would."""
    halves = [math.sqrt(row["draws"]) * (row["high"] - row["low"]) / 2 for row in rows]
    return math.hypot(*halves)
