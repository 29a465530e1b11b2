"""What a trajectories report can begin with: one function a finding, from the tables of its sections."""

import math

import pandas as pd

from scorescope.reports.page.findings import Finding, strength, strength_of
from scorescope.reports.page.numbers import told
from scorescope.reports.trajectories.readings import LEAST_CLASSES, best_walk, largest, most_of_the_error, only


def where_errors_are_made(steps: pd.DataFrame) -> list[Finding]:
    """The neighbouring steps that make most of the last solver's end error."""
    name = steps["solver"].iloc[-1]
    rows = steps[steps["solver"] == name]
    chosen = most_of_the_error(rows)
    total = rows["step"].nunique()
    if chosen.empty or len(chosen) > total / 2:
        return []
    weakest = largest(chosen, -chosen["value"])
    text = (
        f"{name} makes {chosen['value'].sum():.0%} of its end error in {len(chosen)} of {total} steps, between σ = "
        f"{chosen['sigma'].iloc[0]:.3g} and {chosen['sigma_next'].iloc[-1]:.2g}: levels are worth most there"
    )
    clear = strength_of(weakest, "value")
    doubt = f"Which steps make most of the end error of {name} is not clear for each of them."
    return [Finding(f"{text}.", clear, "step_errors", n=float(chosen["n"].iloc[0]), doubt=doubt)]


def best_at_few_calls(table: pd.DataFrame) -> list[Finding]:
    """The best solver and schedule at ten calls or so, against Euler at EDM's levels."""
    calls = sorted(table["asked_calls"].unique())[len(table["asked_calls"].unique()) // 2]
    row, several = best_walk(table, calls), int((table["asked_calls"] == calls).sum())
    text = (
        f"At {row['calls']} calls {row['solver']} with levels by '{row['schedule']}' ends "
        f"{told(row, 'typical_ratio', of='typical_ratio', form='.2g')} times as far from the exact samples as Euler at "
        "ρ = 7"
    )
    found = strength_of(row, "typical_ratio", of="typical_ratio", nothing=1.0, of_several=several)
    doubt = f"No solver or schedule is shown to beat Euler at ρ = 7 at about {calls} calls."
    return [Finding(f"{text}.", found, "end_errors", n=float(row["n"]), unit="seeds", doubt=doubt)]


def tuned_levels(table: pd.DataFrame) -> list[Finding]:
    """Whether levels tuned to the model beat EDM's on held-out seeds."""
    row = only(table, schedule="tuned")
    ratio = told(row, "typical_ratio", of="typical_ratio", form=".2g")
    better = row["typical_ratio"] < 1
    text = (
        f"Levels tuned to this model end {ratio} times as far from the exact samples as ρ = 7 at {row['calls']} calls "
        f"of {row['solver']}, on {row['n']} seeds that had no part in tuning"
    )
    found = strength_of(row, "typical_ratio", of="typical_ratio", nothing=1.0)
    doubt = f"That tuned levels beat ρ = 7 at {row['calls']} calls on held-out seeds ({ratio} of its error)."
    if better:
        text += ": they are in the table of levels"
    return [Finding(f"{text}.", found, "schedules", n=float(row["n"]), unit="held-out seeds", doubt=doubt)]


def worst_step(damage: pd.DataFrame) -> list[Finding]:
    """How much more the step matters that matters most than the median step, by repeated predictions."""
    rows = damage[(damage["name"] == "prediction repeated") & damage["mean"].notna()]
    if len(rows) < 3:
        return []
    worst, middle = largest(rows, rows["mean"]), float(rows["mean"].median())
    text = (
        f"The step from σ = {worst['sigma']:.3g} matters most: repeating a prediction there moves the end by "
        f"{told(worst)} in units of the data, {worst['mean'] / middle:.2g} times the median step"
    )
    clear = strength_of(worst, nothing=middle, of_several=len(rows))
    doubt = "Which step matters most is not clear."
    return [Finding(f"{text}.", clear, "step_damages", n=float(worst["n"]), unit="seeds", doubt=doubt)]


def proxies(ranks: pd.DataFrame) -> list[Finding]:
    """The proxy that misleads most, among those of caching methods."""
    rows = ranks[(ranks["change"] == "prediction repeated") & ranks["rank"].notna()]
    free = rows[rows["proxy"] != "amplified"]
    if len(free) in (0, len(rows)):
        return []
    worst, best = largest(free, -free["rank"]), only(rows, proxy="amplified")
    gap = best["rank"] - worst["rank"]
    width = (best["rank"] - best["low"]) + (worst["high"] - worst["rank"])
    clear = strength(gap, gap - width, gap + width, of_several=len(free)) if width > 0 else math.nan
    text = (
        f"The change of '{worst['proxy']}' that caching methods go by orders the steps by their damage with a rank "
        f"correlation of {told(worst, 'rank', form='.2f')}; the change of D times its amplification with "
        f"{told(best, 'rank', form='.2f')}"
    )
    return [Finding(f"{text}.", clear if gap > 0 else 0.0, "step_damages", n=float(best["n"]), unit="seeds")]


def opposed(table: pd.DataFrame) -> list[Finding]:
    """The pair of levels whose gradients are most clearly not the same."""
    known = table[(table["sigma"] < table["sigma_other"]) & table["agreement"].notna()]
    if known.empty:
        return []
    least = largest(known, -known["agreement"])
    text = (
        f"Training at σ = {least['sigma']:g} and at σ = {least['sigma_other']:g} pull the weights in directions whose "
        f"cosine is {told(least, 'agreement', form='.2f')}"
    )
    clear = strength_of(least, "agreement", nothing=1.0, of_several=len(known))
    return [Finding(f"{text}.", clear, "affinity", n=float(least["n"]), unit="images")]


def straightness(numbers: pd.DataFrame) -> list[Finding]:
    """Whether paths of the prediction bend more than a Gaussian's."""
    row = only(numbers, quantity="arc", curve="denoised")
    gap = row["mean"] - row["gaussian"]
    width = (row["mean"] - row["low"] + row["gaussian_high"] - row["gaussian"]) if gap > 0 else (
        row["high"] - row["mean"] + row["gaussian"] - row["gaussian_low"]
    )  # fmt: skip
    text = (
        f"Paths of the prediction are {told(row, form='.3g')} times as long as a straight line, those of a Gaussian "
        f"of the same covariance {told(row, 'gaussian', of='gaussian', form='.3g')}"
    )
    clear = abs(gap) / width if width > 0 else math.nan
    doubt = "That paths bend more or less than a Gaussian's."
    return [Finding(f"{text}.", clear, "path_numbers", n=float(row["n"]), unit="seeds", doubt=doubt)]


def decided(levels: pd.DataFrame) -> list[Finding]:
    """From which level on the class of samples stays, or else half of the way is made."""
    many = levels["quantity"].eq("class") & (levels["n"] >= LEAST_CLASSES)
    name = "class" if many.any() else "whole"
    row = only(levels, quantity=name)
    if not row["sigma"] > 0:
        return []
    what = (
        "The class of the prediction stays from" if name == "class" else "Half of the way of the prediction is left at"
    )
    clear = 2.0 if row["low"] == row["low"] and row["high"] < 3 * row["low"] else 0.0
    text = f"{what} σ = {told(row, 'sigma', form='.2g')}"
    return [Finding(f"{text}.", clear, "decided", n=float(row["n"]), unit="seeds")]


def variance(bias: pd.DataFrame) -> list[Finding]:
    """Variance of the states that the solver's steps on a Gaussian do not explain."""
    rows = bias[(bias["quantity"] == "variance") & bias["beyond_low"].notna()]
    if rows.empty:
        return []
    found = [strength_of(row, "beyond", of="beyond", of_several=len(rows)) for _, row in rows.iterrows()]
    place = max(range(len(rows)), key=lambda one: found[one] if found[one] == found[one] else -1.0)
    row = rows.iloc[place]
    text = (
        f"At σ = {row['sigma']:.2g} the variance of the states is {told(row, 'beyond', of='beyond', form='+.1%')} off "
        "beyond what the same steps do on a Gaussian"
    )
    doubt = "That the variance of the states is off beyond what the solver's steps do on a Gaussian."
    return [Finding(f"{text}.", found[place], "variance_bias", n=float(row["n"]), unit="seeds", doubt=doubt)]
