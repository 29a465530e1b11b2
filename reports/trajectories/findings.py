"""What a trajectories report can begin with: one function a finding, from the tables of its sections."""

import math

import pandas as pd

from scorescope.reports.page.findings import Finding, strength, strength_of
from scorescope.reports.page.numbers import told
from scorescope.reports.trajectories.readings import best_walk, largest, most_of_the_error, only

MOST = 1.05  # share of the end error that steps make: more is cancelled by others
LEAST = 256  # samples from which the intervals of shares hold, see `SolverErrors.steps`
HELD = 0.8  # share of the squared error that the samples must hold of which shares are told


def where_errors_are_made(steps: pd.DataFrame, groups: pd.DataFrame) -> list[Finding]:
    """The neighbouring steps that make most of the last solver's end error; none where parts cancel or are left out."""
    name = steps["solver"].iloc[-1]
    rows = steps[steps["solver"] == name]
    chosen = most_of_the_error(rows)
    total = rows["step"].nunique()
    near = only(groups, solver=name, samples="near")
    shares = rows[rows["quantity"] == "share"]["value"]
    cancel = chosen["value"].sum() > MOST or shares.min() < 1 - MOST
    if chosen.empty or len(chosen) > total / 2 or cancel or near["squared_share"] < HELD or near["n"] < LEAST:
        return []
    weakest = largest(chosen, -chosen["value"])
    text = (
        f"{name} makes {chosen['value'].sum():.0%} of its end error in {len(chosen)} of {total} steps, between σ = "
        f"{chosen['sigma'].iloc[0]:.3g} and {chosen['sigma_next'].iloc[-1]:.2g}, of the samples whose parts add up, "
        f"which hold {near['squared_share']:.0%} of the squared error"
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


def tuned_levels(table: pd.DataFrame, best: str) -> list[Finding]:
    """Whether these tuned levels beat EDM's on held-out seeds, for the typical one and in the mean."""
    row, known = only(table, schedule="tuned"), only(table, schedule=best)
    ratio = told(row, "typical_ratio", of="typical_ratio", form=".2g")
    text = (
        f"At {row['calls']} calls of {row['solver']} the levels tuned here end {ratio} times as far from the exact "
        f"samples as ρ = 7 for the typical one of {row['n']} seeds that had no part in it, "
        f"{told(row, 'ratio', of='ratio', form='.2g')} in the mean; '{best}', from which they were tuned, "
        f"{told(known, 'typical_ratio', of='typical_ratio', form='.2g')}"
    )
    clear = [strength_of(row, name, of=name, nothing=1.0) for name in ("typical_ratio", "ratio")]
    doubt = f"That tuned levels beat ρ = 7 at {row['calls']} calls on held-out seeds ({ratio} of its error)."
    return [Finding(f"{text}.", min(clear), "schedules", n=float(row["n"]), unit="held-out seeds", doubt=doubt)]


def worst_step(damage: pd.DataFrame) -> list[Finding]:
    """How much more the worst step matters than the median step, by repeated predictions."""
    rows = damage[(damage["name"] == "prediction repeated") & damage["mean"].notna()]
    if len(rows) < 3:
        return []
    worst, middle = largest(rows, rows["mean"]), float(rows["mean"].median())
    text = (
        f"Some steps matter more than others: repeating a prediction in that from σ = {worst['sigma']:.3g} moves the "
        f"end by {told(worst)} in units of the data, {worst['mean'] / middle:.2g} times as far as the median step does"
    )
    clear = strength_of(worst, nothing=middle, of_several=len(rows))
    doubt = "That some steps matter more than others."
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
        f"cosine is {told(least, 'agreement', form='.2f')}: not the same one, which would be 1"
    )
    clear = strength_of(least, "agreement", nothing=1.0, of_several=len(known))
    return [Finding(f"{text}.", clear, "affinity", n=float(least["n"]), unit="images")]
