"""Known effects of guidance, tested on a sweep: each a difference with its interval, and whether it excludes zero.

known_effects(rows, strongest="CFG, w = 8", ...)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from scorescope.analysis.sweeps import changes
from scorescope.analysis.tables import Column, Schema

EFFECTS = Schema(
    "effects",
    (
        Column("effect", str, "", "what is known"),
        Column("metric", str, "", "what is compared, sample by sample"),
        Column("setting", str, "", "setting that is measured"),
        Column("against", str, "", "setting that is subtracted"),
        Column("n", int, "", "pairs"),
        Column("value", float, "", "mean difference"),
        Column("low", float, "", "lower end of its 95 % interval, bootstrap over pairs"),
        Column("high", float, "", "upper end"),
        Column("verdict", str, "", "shown, opposite, or not shown (the interval holds zero)"),
    ),
)


@dataclass(frozen=True)
class Effect:
    """A known effect: the sign of a paired difference.

    Attributes
    ----------
    text : str
        What is known.
    metric : str
        A sample-level metric of `sample_metrics`.
    setting, against : str
        Names of the two settings.
    sign : int
        +1 if the metric is known to be higher, -1 lower, 0 unchanged.
    margin : float
        For sign 0: the largest change that still counts as unchanged.
    """

    text: str
    metric: str
    setting: str
    against: str
    sign: int
    margin: float = 0.0


def known_effects(rows: pd.DataFrame, effects: Sequence[Effect]) -> pd.DataFrame:
    """Test each effect on the rows of `sample_metrics`.

    A difference is `shown` if its interval lies on the known side of zero; an absence of change (sign 0) if its
    interval lies within the margin.

    Returns
    -------
    DataFrame
        Columns declared in `EFFECTS`.
    """
    parts = []
    for effect in effects:
        chosen = rows[rows["setting"].isin([effect.setting, effect.against])]
        found = changes(chosen, against=effect.against, metrics=[effect.metric])
        low, high = float(found["low"].iloc[0]), float(found["high"].iloc[0])
        parts.append(found.assign(effect=effect.text, verdict=_verdict(effect, low, high)))
    return EFFECTS.check(pd.concat(parts, ignore_index=True))


def _verdict(effect: Effect, low: float, high: float) -> str:
    if effect.sign == 0:
        return "shown" if -effect.margin <= low and high <= effect.margin else "not shown"
    if low <= 0 <= high:
        return "not shown"
    return "shown" if (low > 0) == (effect.sign > 0) else "opposite"
