"""Known effects of guidance, tested on a sweep: differences with their intervals, and what comes of them.

found = known_effects(rows, [Effect("diversity falls with w", "diversity", "CFG, w = 8", "CFG, w = 1", sign=-1)])
conclusions(found)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from scorescope.analysis.guidance.setting_comparisons import changes
from scorescope.analysis.statistics.bootstrap import LEAST_SEEDS
from scorescope.analysis.statistics.intervals import is_binary, pairs_needed
from scorescope.analysis.statistics.tables import Column, Schema, ends, require_columns

VERDICTS = (
    "shown, not shown (the interval leaves it open), opposite (it lies on the other side), short (on the right side, "
    "but wholly below what is claimed), too few pairs (fewer than 8, or no result of so few could lie in the margin)"
)

EFFECTS = Schema(
    "known_effects",
    (
        Column("effect", str, "", "what is known; shown only if every row of it is"),
        Column("metric", str, "", "what is compared, sample by sample"),
        Column("setting", str, "", "setting that is measured"),
        Column("against", str, "", "setting that is subtracted"),
        Column("claimed", str, "", "what the difference is said to be"),
        Column("n", int, "", "pairs"),
        Column("value", float, "", "mean difference"),
        *ends("", "over pairs, corrected for skewness; Tango's for shares"),
        Column("verdict", str, "", VERDICTS),
    ),
)

CONCLUSIONS = Schema(
    "conclusions",
    (
        Column("effect", str, "", "what is known"),
        Column("parts", int, "", "differences that it takes"),
        Column("shown", int, "", "those that are shown"),
        Column("verdict", str, "", "shown if all are; else the verdict that speaks most against it"),
    ),
)


@dataclass(frozen=True)
class Effect:
    """A known effect, or a part of one: the sign of a paired difference.

    Effects of the same text are parts of one. It is shown only if all of them are, each at its own 95 %: that the
    weakest part is shown by chance is then no more likely than for one part (an intersection-union test), so nothing
    need be corrected for their number.

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
        For sign 0: the largest change that still counts as unchanged. Otherwise the least change that is claimed.
    """

    text: str
    metric: str
    setting: str
    against: str
    sign: int
    margin: float = 0.0

    @property
    def claimed(self) -> str:
        """What the difference is said to be."""
        if self.sign == 0:
            return f"within ±{self.margin:g}"
        return f"above {self.margin:g}" if self.sign > 0 else f"below {0 - self.margin:g}"


def known_effects(rows: pd.DataFrame, effects: Sequence[Effect]) -> pd.DataFrame:
    """Test each effect on the rows of `sample_metrics`.

    A difference is `shown` if its interval lies on the known side of zero, beyond the margin; an absence of change
    (sign 0) if its interval lies within the margin.

    Returns
    -------
    DataFrame
        Columns declared in `EFFECTS`.
    """
    parts = []
    for effect in effects:
        chosen = rows[rows["setting"].isin([effect.setting, effect.against])]
        found = changes(chosen, against=effect.against, metrics=[effect.metric])
        share = is_binary(chosen[effect.metric])
        verdict = _verdict(effect, found.iloc[0], share)
        parts.append(found.assign(effect=effect.text, claimed=effect.claimed, verdict=verdict))
    return EFFECTS.check(pd.concat(parts, ignore_index=True))


def conclusions(found: pd.DataFrame) -> pd.DataFrame:
    """Whether each effect is shown: only if all its parts are.

    Parameters
    ----------
    found : DataFrame
        From `known_effects`.

    Returns
    -------
    DataFrame
        Columns declared in `CONCLUSIONS`, one row an effect.
    """
    require_columns("found", found, ["effect", "verdict"])
    against = ("opposite", "short", "not shown", "too few pairs", "shown")
    rows = []
    for effect, verdicts in found.groupby("effect", sort=False)["verdict"]:
        worst = min(verdicts, key=against.index)
        rows.append((str(effect), len(verdicts), int((verdicts == "shown").sum()), worst))
    return CONCLUSIONS.check(pd.DataFrame(rows, columns=CONCLUSIONS.names).astype({"parts": int, "shown": int}))


def _verdict(effect: Effect, found: pd.Series, share: bool) -> str:
    low, high = float(found["low"]), float(found["high"])
    if found["n"] < LEAST_SEEDS and not share:  # few that agree have an interval of no width
        return "too few pairs"
    if effect.sign == 0:
        if -effect.margin <= low and high <= effect.margin:
            return "shown"
        if low > effect.margin or high < -effect.margin:
            return "opposite"
        return "too few pairs" if share and found["n"] < pairs_needed(effect.margin) else "not shown"
    low, high = (low, high) if effect.sign > 0 else (-high, -low)
    if low > effect.margin:
        return "shown"
    if high < 0:
        return "opposite"
    return "short" if high < effect.margin else "not shown"
