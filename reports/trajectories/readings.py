"""Sentences made from the numbers of a trajectories report: one a figure."""

from typing import Any

import numpy as np
import pandas as pd

from scorescope.analysis.trajectories import TunedSchedule
from scorescope.reports.page.numbers import plain, told

LEAST_CLASSES = 8  # samples whose class changed: of fewer no level is told


def largest(rows: pd.DataFrame, values: "pd.Series[Any]") -> "pd.Series[Any]":
    """The row of the largest of some values."""
    return rows.iloc[int(values.to_numpy(dtype=float).argmax())]


def only(table: pd.DataFrame, **named: str) -> "pd.Series[Any]":
    """The first row in which columns have these values."""
    chosen = np.logical_and.reduce([table[column] == value for column, value in named.items()])
    return table[chosen].iloc[0]


def most_of_the_error(steps: pd.DataFrame) -> pd.DataFrame:
    """The steps next to each other, as few as it takes, whose shares of the end error add up to most of it."""
    rows = steps[steps["quantity"] == "share"].sort_values("step")
    shares = rows["value"].to_numpy()
    runs = [
        (stop - start, -shares[start:stop].sum(), start, stop)
        for start in range(len(shares)) for stop in range(start + 1, len(shares) + 1)
        if shares[start:stop].sum() >= 0.8
    ]  # fmt: skip
    if not runs:
        return rows.iloc[:0]
    _, _, start, stop = min(runs)
    return rows.iloc[start:stop]


def read_errors(steps: pd.DataFrame, groups: pd.DataFrame) -> str:
    """Between which levels each solver makes most of its end error, and which samples are apart."""
    parts = []
    for name, rows in steps.groupby("solver", sort=False):
        chosen = most_of_the_error(rows)
        every, others = (only(groups, solver=str(name), samples=samples) for samples in ("all", "apart"))
        if chosen.empty:
            parts.append(f"{name}: its steps' errors do not add up to most of the end error")
            continue
        share = chosen["value"].sum()
        parts.append(
            f"{name} makes {share:.0%} of its end error between σ = {chosen['sigma'].iloc[0]:.3g} and "
            f"{chosen['sigma_next'].iloc[-1]:.2g}, in {len(chosen)} of {rows['step'].nunique()} steps"
        )
        if others["n"]:
            parts[-1] += (
                f" ({others['n']:g} of {every['n']:g} samples are apart, which hold {others['squared_share']:.0%} of "
                "the squared error)"
            )
    return "; ".join(parts) + "."


def best_walk(table: pd.DataFrame, calls: int) -> "pd.Series[Any]":
    """That of the smallest median error at so many calls."""
    rows = table[table["asked_calls"] == calls]
    return largest(rows, -rows["median"])


def read_calls(table: pd.DataFrame) -> str:
    """The walk of least median error at each number of calls."""
    parts = []
    for calls in table["asked_calls"].unique():
        row = best_walk(table, calls)
        parts.append(f"{row['calls']} calls: {row['solver']}, {row['schedule']}, {told(row, 'median', of='median')}")
    return f"Least median error in units of the data, at about the same calls: {'; '.join(parts)}."


def read_schedule(table: pd.DataFrame, found: TunedSchedule, count: int, best: str) -> str:
    """What tuning gained where it was tuned, and on seeds that had no part in it."""
    row, known = only(table, schedule="tuned"), only(table, schedule=best)
    verdict = (
        "nearer" if row["typical_ratio_high"] < 1 else "farther" if row["typical_ratio_low"] > 1 else "not told apart"
    )
    return (
        f"Tuned levels end at {told(row, 'typical_ratio', of='typical_ratio')} times the error of ρ = 7 for the "
        f"typical held-out seed ({verdict}), and at {told(row, 'ratio', of='ratio')} times in the mean; "
        f"'{best}', from which they were tuned, at {told(known, 'typical_ratio', of='typical_ratio')}. On the {count} "
        f"seeds that they were tuned on they end at {found.loss / found.loss_before:.2g} times the error of '{best}'. "
        f"The worst 5 % of the held-out samples hold {row['worst_share']:.0%} of the squared error."
    )


def read_steps(damage: pd.DataFrame, ranks: pd.DataFrame, sets: pd.DataFrame, allowed: float) -> str:
    """The step that matters most, the proxy that orders steps best, and how many can be spared."""
    known = damage[(damage["kind"] == "damage") & damage["mean"].notna()]
    parts = []
    for name, rows in known.groupby("name", sort=False):
        worst = largest(rows, rows["mean"])
        parts.append(f"{name}, most at σ = {worst['sigma']:.3g} ({told(worst)})")
    taken = int(sets["taken"].sum())
    text = f"The end moves when a step is changed: {'; '.join(parts)}. "
    text += f"{taken} of {len(sets)} steps can repeat a prediction within {plain(allowed)} in units of the data"
    repeated = ranks[(ranks["change"] == "prediction repeated") & ranks["rank"].notna()]
    if len(repeated):
        best = largest(repeated, repeated["rank"])
        rank = told(best, "rank", form=".2f")
        text += f"; of the proxies '{best['proxy']}' orders that damage best (rank correlation {rank})"
    return text + "."


def read_affinity(table: pd.DataFrame) -> str:
    """The pair of levels whose gradients agree least."""
    known = table[(table["sigma"] < table["sigma_other"]) & table["agreement"].notna()]
    if known.empty:
        return "The gradients are too noisy at every level for these images: no agreement is known."
    least, most = largest(known, -known["agreement"]), largest(known, known["agreement"])
    text = f"Gradients agree least between σ = {least['sigma']:g} and {least['sigma_other']:g}"
    text += f" ({told(least, 'agreement', form='.2f')})"
    if len(known) > 1:
        text += (
            f" and most between {most['sigma']:g} and {most['sigma_other']:g} ({told(most, 'agreement', form='.2f')})"
        )
    missing = int(table["agreement"].isna().sum())
    return f"{text}; of {missing} pairs it is not known." if missing else f"{text}."


def read_bends(bends: pd.DataFrame) -> str:
    """Where the model's prediction turns most, and the Gaussian's."""
    rows = bends[bends["quantity"] == "denoised_turn"].dropna(subset=["mean"])
    parts = []
    for name, part in rows.groupby("path", sort=False):
        top = largest(part, part["mean"])
        parts.append(f"{name} at σ = {top['sigma']:.2g} by {told(top, form='.2g')} degrees a step")
    return f"The prediction turns most: {'; '.join(parts)}." if parts else "No turn of the prediction is known."


def read_shape(numbers: pd.DataFrame) -> str:
    """Length over chord of the predictions, and straightness, beside the Gaussian's."""
    arc = only(numbers, quantity="arc", curve="denoised")
    text = (
        f"Paths of the prediction are {told(arc, form='.3g')} times as long as the line between their ends, a "
        f"Gaussian's {told(arc, 'gaussian', of='gaussian', form='.3g')}"
    )
    if numbers["quantity"].eq("relative_straightness").any():
        straight = only(numbers, quantity="relative_straightness")
        text += (
            f"; the flow's straightness, 0 for a straight path at constant speed, is {told(straight, form='.2g')} "
            f"against {told(straight, 'gaussian', of='gaussian', form='.2g')}"
        )
    return text + "."


def read_decided(levels: pd.DataFrame) -> str:
    """Noise levels below which half of the way is made, whole and by band, and the class stays."""
    parts = []
    for _, row in levels[levels["sigma"].notna()].iterrows():
        level = f"σ = {told(row, 'sigma', form='.2g')}"
        if row["quantity"] == "whole":
            parts.append(f"half of the way is left at {level}")
        elif row["quantity"] == "band":
            high = "up" if np.isinf(row["high_frequency"]) else f"to {row['high_frequency']:g}"
            parts.append(f"of frequencies from {row['low_frequency']:g} {high} cycles a pixel at {level}")
        elif row["n"] >= LEAST_CLASSES:
            parts.append(f"the class stays from {level} on, of {row['n']:g} samples whose class ever changed")
        else:
            parts.append(f"the class ever changed on {row['n']:g} of {row['n'] + row['from_start']:g} paths alone")
    if (levels["quantity"].eq("class") & levels["n"].eq(0)).any():
        parts.append("no prediction ever had another class than the last one")
    return f"Geometric means over samples: {'; '.join(parts)}." if parts else "No such level is known."


def read_variance(bias: pd.DataFrame) -> str:
    """The largest bias of the states' variance, and what of it the solver's steps explain."""
    rows = bias[bias["quantity"] == "variance"]
    top = largest(rows, rows["mean"].abs())
    beyond = largest(rows, rows["beyond"].abs())
    return (
        f"The variance of the states is off by {told(top, form='+.1%')} at σ = {top['sigma']:.2g}, where the steps "
        f"alone make {top['gaussian']:+.1%} on a Gaussian; most beyond that is "
        f"{told(beyond, 'beyond', of='beyond', form='+.1%')} at σ = {beyond['sigma']:.2g}."
    )
