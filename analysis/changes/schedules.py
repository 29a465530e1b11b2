"""Which steps of two runs stand beside each other: those of one scheduler, at the same noise levels.

A trace may hold runs of several schedules, and each run several schedulers. Steps of different schedules are never
averaged: every schedule has rows of its own, and one that only one of two runs has cannot be compared step by step.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from scorescope.analysis.guidance.decomposition import decompose
from scorescope.analysis.statistics.arrays import Floats
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.recording.trace import Trace

PLACE = ["stream", "schedule", "step"]  # where a step stands
SAME_LEVEL = 0.01  # relative difference of two noise levels that are one


@checked
def steps_apart(first: Trace, second: Trace) -> str:
    """Why the steps of two runs cannot be compared one by one; empty where they can.

    What the runs ended with can be compared all the same, see `end_changes`.
    """
    return _apart(placed(first, second))


def placed(first: Trace, second: Trace) -> list[pd.DataFrame]:
    """The decompositions of both, of the first prediction of each step, with a column `schedule`."""
    tables = [decompose(trace) for trace in (first, second)]
    known: list[tuple[int, Floats]] = []
    return [_with_schedule(table[table["call"] == 0], known) for table in tables]


def require_common(tables: Sequence[pd.DataFrame]) -> None:
    """Raise `InputError` for two decompositions without a schedule that is in both."""
    if reason := _apart(tables):
        expected = "a run of as many steps as the first, at its noise levels"
        raise InputError("second", found=reason, expected=expected)


def left_out(tables: Sequence[pd.DataFrame]) -> str:
    """Schedules of each run that the other has not, in words; empty where there are none."""
    mine, theirs = (_schedules(table) for table in tables)
    alone = len(mine - theirs), len(theirs - mine)
    return f"{alone[0]} of the first and {alone[1]} of the second run's schedules" if any(alone) else ""


def level_of(table: pd.DataFrame) -> "pd.Series[float]":
    """Noise level of each place."""
    levels: pd.Series[float] = table.groupby(PLACE)["sigma"].mean()
    return levels


def _with_schedule(table: pd.DataFrame, known: list[tuple[int, Floats]]) -> pd.DataFrame:
    """The table with the number of each run's schedule among those known, to which new ones are added."""
    numbers = {}
    for _, rows in table.groupby(["run", "stream"]):
        run, stream = (int(rows[name].iloc[0]) for name in ("run", "stream"))
        levels = rows.groupby("step")["sigma"].mean().to_numpy(np.float64)
        numbers[run, stream] = _number(stream, levels, known)
    keys = zip(table["run"], table["stream"], strict=True)
    return table.assign(schedule=np.array([numbers[key] for key in keys], np.int64))


def _number(stream: int, levels: Floats, known: list[tuple[int, Floats]]) -> int:
    """A run that was cut off has the first levels of its schedule."""
    of_stream = [place for place, (own, _) in enumerate(known) if own == stream]
    for number, place in enumerate(of_stream):
        longest = known[place][1]
        common = min(len(longest), len(levels))
        if np.allclose(levels[:common], longest[:common], rtol=SAME_LEVEL, atol=0, equal_nan=True):
            if len(levels) > len(longest):
                known[place] = (stream, levels)
            return number
    known.append((stream, levels))
    return len(of_stream)


def _schedules(table: pd.DataFrame) -> set[tuple[int, int]]:
    return set(table[["stream", "schedule"]].itertuples(index=False, name=None))


def _apart(tables: Sequence[pd.DataFrame]) -> str:
    if _schedules(tables[0]) & _schedules(tables[1]):
        return ""
    if any(table.empty for table in tables):
        return "a run without steps"
    one, other = (level_of(table).loc[table["stream"].iloc[0], table["schedule"].iloc[0]] for table in tables)
    if len(one) != len(other):
        return f"{len(other)} steps beside {len(one)}"
    place = int((~np.isclose(other, one, rtol=SAME_LEVEL, atol=0, equal_nan=True)).argmax())
    return f"sigma {other.iloc[place]:.4g} beside {one.iloc[place]:.4g} at step {one.index[place]}"
