"""What a reader of a trace should know of its proof: rules that change within a run, names that rest on other steps."""

from itertools import groupby

import pandas as pd

_MOST = 4  # stretches of one rule that are told one by one


def doubts(scalars: pd.DataFrame) -> list[str]:
    """One sentence for each kind of doubt, with the runs that it is about.

    Parameters
    ----------
    scalars : DataFrame
        `Trace.scalars` of a recorded pipeline.
    """
    runs: dict[str, list[int]] = {}
    for _, steps in scalars.groupby(["run", "stream"], sort=True):
        for said in filter(None, (_changes(steps), _borrowed(steps))):
            runs.setdefault(said, []).append(int(steps["run"].iloc[0]))
    return [f"{_named(sorted(set(found)))}: {said}" for said, found in runs.items()]


def _changes(steps: pd.DataFrame) -> str:
    rules = steps.groupby("step")["rule"].agg(lambda found: " and ".join(sorted(set(found))))
    together = groupby(zip(rules.index.tolist(), rules.tolist(), strict=True), key=lambda item: item[1])
    stretches = [(rule, [step for step, _ in group]) for rule, group in together]
    if len(stretches) == 1:
        return ""
    told = [f"{rule} in {_range(found)}" for rule, found in stretches[:_MOST]]
    return f"the rule changes within the run: {', '.join(told)}{', ...' if len(stretches) > _MOST else ''}"


def _borrowed(steps: pd.DataFrame) -> str:
    found = steps.loc[steps["evidence"] == "other steps", "step"].unique()
    if not len(found):
        return ""
    return f"which branch is which rests on other steps in {len(found)} of {steps['step'].nunique()} steps"


def _range(steps: list[int]) -> str:
    return f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"


def _named(runs: list[int]) -> str:
    shown = ", ".join(map(str, runs[:_MOST]))
    more = f" and {len(runs) - _MOST} more" if len(runs) > _MOST else ""
    return f"run{'s' if len(runs) > 1 else ''} {shown}{more}"
