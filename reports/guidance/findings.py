"""What a guidance report can begin with: one function a finding, from the tables of its sections.

Each says a number with its interval and what it means for who samples; `page.findings` chooses among them.
"""

import numpy as np
import pandas as pd

from scorescope.analysis.guidance.run_keys import run_name
from scorescope.reports.guidance.peaks import above_rounding, peak_of, row_at
from scorescope.reports.guidance.readings import INTERVAL
from scorescope.reports.guidance.runs import pick
from scorescope.reports.page.findings import Finding, strength_apart, strength_of
from scorescope.reports.page.numbers import told


def rescaling(steps: pd.DataFrame, rule: str, weight: float, *, figure: str, whose: str = "") -> list[Finding]:
    """The largest share of the update that only scales the prediction, against chance."""
    known = above_rounding(steps, "parallel_share", rule, weight, judged="update_norm", floor="norm_floor")
    if known.empty:
        return []
    peak = peak_of(known)
    chance = float(row_at(pick(steps, "chance_share", rule, weight), peak["sigma"])["mean"])
    run = whose or run_name(rule, weight, between=" at ")
    text = (
        f"Up to {told(peak, form='.0%', what=INTERVAL)} of the squared update of {run} only scales the prediction, at "
        f"σ = {peak['sigma']:.2g}: "
    )
    return [
        Finding(
            f"{text}{peak['mean'] / chance:.2g} times what chance gives. APG takes this part out.",
            strength_of(peak, nothing=chance, of_several=len(known)), figure, n=peak["n"],
            doubt=f"{text}not told from the {chance:.2%} that chance gives.",
        )
    ]  # fmt: skip


def where_to_guide(curve: pd.DataFrame, interval: pd.DataFrame, calls: pd.DataFrame) -> list[Finding]:
    """The noise levels that hold what the condition tells, and how many calls of a sampler lie outside.

    Parameters
    ----------
    curve, interval : DataFrame
        Of `guidance_information` and `suggest_interval`.
    calls : DataFrame
        Rows of a decomposition; those of one (step, call) count once.
    """
    calls = calls.drop_duplicates(["step", "call"])
    row, last = interval.iloc[0], curve[curve["sigma"] > 0].iloc[-1]
    if row["missing"]:
        return []
    outside = int((~calls["sigma"].between(row["low"], row["high"])).sum())
    high, low = (told(row, end, of=end) for end in ("high", "low"))
    beyond = last["information"] > last["bound"]  # the interval is of the information up to there, from high noise on
    whole = f"the {row['information']:.2g} nats that the labels hold" if beyond else "what the condition tells"
    text = (
        f"{row['share']:.0%} of {whole} is told between σ = {high} and {low}; {outside} of the {len(calls)} calls of a "
        "sample lie outside: guiding less is worth a try there."
    )
    if last["information_low"] > last["bound"]:
        text += (
            " In sum the two branches differ by more than labels can tell: they are not exact, and these noise levels "
            "a place to try."
        )
    found = strength_of(last, "information", of="information")
    return [Finding(text, found, "information", n=last["n"], doubt="Where the condition tells anything is open.")]


def out_of_range(effects: pd.DataFrame, strong: float) -> list[Finding]:
    """How many more elements a strong weight puts outside of the data's range, and how many of them APG does not."""
    rows = _parts(effects, "overshoot_share")
    cfg = rows[rows["setting"] == f"CFG, w = {strong:g}"]
    if cfg.empty:
        return []
    grown = cfg.iloc[0]
    text = f"At w = {strong:g} CFG puts {_points(grown)} more of the values outside of the data's range than at w = 1"
    apg = rows[rows["setting"] == f"APG, w = {strong:g}"]
    if len(apg) and strength_of(apg.iloc[0], "value") > 1 and apg["value"].iloc[0] < 0:
        text += f"; APG at the same weight {_points(-apg.iloc[0][['value', 'high', 'low']])} fewer than CFG"
    doubt = f"From w = 1 to {strong:g} the share of values outside of the data's range changes by {_points(grown)}."
    more = grown["value"] > 0
    return [
        Finding(
            f"{text}: expect saturated samples." if more else doubt, strength_of(grown, "value"), "overshoot",
            n=grown["n"], unit="pairs", doubt=doubt,
        )
    ]  # fmt: skip


def diversity(effects: pd.DataFrame) -> list[Finding]:
    """How diversity within a class changes under each setting that is compared."""
    found, rows = [], _parts(effects, "diversity")
    lower = rows[rows["value"] < 0]
    lost = {row["setting"] for _, row in lower.iterrows() if strength_of(row, "value") > 1}  # what can be restored
    for row in rows.to_dict("records"):
        part = pd.Series(row)
        way, size = ("lower", -1) if part["value"] < 0 else ("higher", 1)
        low, high = sorted((size * part["low"], size * part["high"]))
        change = f"{size * part['value']:.3g} {way} (95 % {low:.3g} to {high:.3g})"
        text = f"Diversity within a class, in units of the features, is {change} under {part['setting']} than under "
        text += f"{part['against']}."
        more = part["against"] in lost and part["claimed"].startswith("above") and part["verdict"] == "opposite"
        against = " The rule was reported to restore it, and does not here." if more else ""
        # the figure shows CFG and APG alone
        figure = "diversity" if part["setting"].startswith("CFG") else "calls_quality"
        found.append(Finding(text + against, strength_of(part, "value"), figure, n=part["n"], unit="pairs", doubt=text))
    return found


def cheaper(saved: pd.DataFrame, paper: str) -> list[Finding]:
    """What adaptive guidance saves at the paper's threshold, and what it costs."""
    rows = saved[saved["setting"] == paper]
    if rows.empty:
        return []
    row = rows.iloc[0]
    calls = told(row, "calls_saved", of="saved", form=".1%")
    text = f"Adaptive guidance at the paper's threshold saves {calls} of the denoiser's calls"
    cost = f"and changes samples by {told(row, 'change', form='.2g')} a value (root mean square, units of data)"
    return [
        Finding(
            f"{text}, {cost}.", strength_of(row, "calls_saved", of="saved"), "thresholds", n=row["n"],
            doubt=f"{text}: no saving is shown.",
        )
    ]  # fmt: skip


def between_settings(images: pd.DataFrame, quantity: str, label: str, *, figure: str) -> list[Finding]:
    """The settings with the least and the most of a statistic of the images, where there are several."""
    rows = images[images["quantity"] == quantity].dropna(subset=["mean"]).sort_values("mean")
    if len(rows) < 2:
        return []
    least, most = rows.iloc[0], rows.iloc[-1]
    names = [run_name(row["rule"], row["weight"]) for row in (least, most)]
    text = f"The {label.partition(':')[0]} is {told(least)} under {names[0]} and {told(most)} under {names[1]}"
    apart = strength_apart(least, most)
    return [Finding(f"{text}.", apart, figure, n=min(least["n"], most["n"]), unit="images", doubt=f"{text}: no order.")]


def _parts(effects: pd.DataFrame, metric: str) -> pd.DataFrame:
    return effects[(effects["metric"] == metric) & np.isfinite(effects["value"].astype(float))]


def _points(row: "pd.Series[float]") -> str:
    """A difference of shares, in percentage points."""
    value, low, high = (100 * float(part) for part in (row["value"], *sorted(row[["low", "high"]])))
    return f"{value:.3g} percentage points ({low:.3g} to {high:.3g})"
