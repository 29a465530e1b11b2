"""Sentences made from the numbers of an inside report: one a figure."""

import math

import pandas as pd

from scorescope.reports.inside.units_study import first_unit
from scorescope.reports.page.numbers import plain, told


def _shown_to_read(judged: pd.DataFrame) -> "pd.Series[bool]":
    return (judged["p_reads"] <= 0.05) & (judged["value"] > 0.5)


def steers(judged: pd.DataFrame) -> "pd.Series[bool]":
    """Which features are judged to move what they read within the budget of change."""
    return (judged["verdict"] == "steerable") & judged["within_budget"]


def of_quantity(sheet: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Rows of one quantity of a metric sheet, whose value is known."""
    return sheet[(sheet["quantity"] == quantity) & sheet["value"].notna()]


def worst_replaced(sheet: pd.DataFrame) -> pd.DataFrame:
    """By site, the row of the noise level at which the reconstruction costs most of what the site gives."""
    rows = of_quantity(sheet, "share_of_zero")
    return rows.loc[rows.groupby("site", sort=False)["value"].idxmax()]


def read_sheet(sheet: pd.DataFrame) -> str:
    """How much is unexplained at each site, and what that costs the network at worst."""
    parts = []
    for site, rows in of_quantity(sheet, "fvu").groupby("site", sort=False):
        fewest, most = (rows.iloc[int(place)] for place in (rows["value"].argmin(), rows["value"].argmax()))
        parts.append(
            f"{site}: {fewest['value']:.0%} of the variance is unexplained at σ = {fewest['sigma']:.2g}, "
            f"{most['value']:.0%} at σ = {most['sigma']:.2g}"
        )
        worst = worst_replaced(sheet)
        worst = worst[worst["site"] == site]
        if len(worst):
            row, known = worst.iloc[0], (of_quantity(sheet, "share_of_zero")["site"] == site).sum()
            parts[-1] += (
                f"; at {known} of {len(rows)} levels the denoiser is shown to use it, and the reconstruction loses "
                f"most of that at σ = {row['sigma']:.2g}: {told(row, 'value', form='.0%')}"
            )
    return ". ".join(parts) + "."


def read_density(density: pd.DataFrame) -> str:
    """How many features never fire at any level, and how often the median of the others does."""
    parts = []
    for site, rows in density.groupby("site", sort=False):
        most = rows.groupby("feature")["density"].max()
        fires = rows.loc[rows["density"] > 0, "density"]
        text = f"{site}: {int((most == 0).sum())} of {len(most)} features fire at no level"
        if len(fires):
            text += f"; those that fire at a level do so at {plain(100 * fires.median())} % of positions (median)"
        parts.append(text)
    return ". ".join(parts) + "."


def read_judged(judged: pd.DataFrame) -> str:
    """How many of the chosen features are shown to read, and how many of these to move."""
    moves = steers(judged)
    reads = int(_shown_to_read(judged).sum())
    text = f"{reads} of {len(judged)} chosen features are shown to read their attribute on held-out images"
    if not moves.any():
        far = int((~judged["within_budget"]).sum())
        beyond = f" (all doses of {far} of them change images beyond the budget)" if far else ""
        return f"{text}, and none is shown to steer it{beyond}."
    names = ", ".join(
        f"{row['attribute']} by feature {row['feature']} of {row['site']}" for _, row in judged[moves].iterrows()
    )
    return f"{text}; {int(moves.sum())} {'is' if moves.sum() == 1 else 'are'} judged to steer it: {names}."


def read_agreement(table: pd.DataFrame) -> str:
    """By word, the level at which attention and influence agree most, and least."""
    parts = []
    for word, every in table[table["compared"] == "influence"].groupby("word", sort=False):
        rows = every[every["mean"].notna()]
        if rows.empty:
            parts.append(f"'{word}': no rank correlation is known")
            continue
        most, least = (rows.iloc[int(place)] for place in (rows["mean"].argmax(), rows["mean"].argmin()))
        parts.append(
            f"'{word}': attention ranks the cells as influence does with a correlation of {told(least, form='.2f')} at "
            f"σ = {least['sigma']:.2g} to {told(most, form='.2f')} at σ = {most['sigma']:.2g}"
        )
    return "; ".join(parts) + "."


def read_overlap(overlap: pd.DataFrame, region: str) -> str:
    """How many units overlap with a region beyond chance at each noise level, and the first of the chosen ones."""
    rows = overlap[overlap["region"] == region]
    count = rows["unit"].nunique()
    parts = [f"{int((part['p_adjusted'] <= 0.05).sum())} at σ = {sigma:.2g}" for sigma, part in rows.groupby("sigma")]
    best = first_unit(overlap, region)
    return (
        f"Of {count} units, so many overlap with {region} more than with that of other images: {', '.join(parts)}. Of "
        f"the chosen ones the first, unit {best['unit']}, overlaps most at σ = {best['sigma']:.2g}, by "
        f"{told(best, 'value', form='.3f')}, where {best['bound']:.3f} is possible and masks of other images give "
        f"{best['chance']:.3f}."
    )


def read_effects(verdicts: pd.DataFrame) -> str:
    """Which edits move the pixels more than random sets do, at which noise levels."""
    moves = verdicts[verdicts["verdict"] == "moves"]
    total = f"of {len(verdicts)} combinations of edit, noise levels and pixels"
    if moves.empty:
        return f"In none {total} the chosen units are shown to change more than random sets of as many channels do."
    parts = [
        f"{row['score']} ({row['edit']}, σ from {row['sigma_low']:.2g} to {row['sigma_high']:.2g}) by "
        f"{told(row, 'value', form='.3f')}, random sets {row['chance']:.3f}"
        for _, row in moves.iterrows()
    ]
    return f"In {len(moves)} {total} the chosen units are shown to change more than random sets do: {'; '.join(parts)}."


def read_ascent(ascent: pd.DataFrame) -> str:
    """By unit, how far its pull raises it above the prior alone at the last level, and whether states stay usual."""
    parts = []
    for unit, rows in ascent.groupby("unit", sort=False):
        row = rows.iloc[-1]
        highest, noisier = (row["highest"] - row["noised"]) / row["spread"], row["residual"] / row["control_residual"]
        parts.append(
            f"unit {unit} by {told(row, 'above', of='above', form='.1f')} (the highest of {row['n']} noised images is "
            f"{highest:.1f} above their mean), and to the denoiser its states are {noisier:.2f} times as noisy"
        )
    level = ascent["sigma"].iloc[-1]
    return f"Standard deviations by which states at σ = {level:.2g} go beyond the prior alone: {'; '.join(parts)}."


def read_amplification(table: pd.DataFrame, attribute: str, group: str) -> str:
    """By class, the share in the data and under the rule that is furthest from it."""
    parts = []
    for name, rows in table[table["group"] == group].groupby("class", sort=False):
        row = rows.iloc[int(rows["difference"].abs().to_numpy().argmax())]
        parts.append(
            f"of images of '{name}' {row['data_share']:.0%} have {attribute} '{group}', of samples under "
            f"{row['setting']} {told(row, 'share', form='.0%')}"
        )
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def read_along(landmarks: pd.DataFrame, along: pd.DataFrame, group: str, bare: str, strong: str) -> str:
    """By class, where the share under guidance departs from that of data for good."""
    found = landmarks[landmarks["landmark"] == "departs_from_data"].set_index(["class", "setting"])
    parts = []
    for name in dict.fromkeys(along["class"]):
        places = {setting: found.loc[(name, setting)] for setting in (strong, bare)}
        parts.append(f"'{name}': " + ", ".join(f"under {rule} {_departs(row)}" for rule, row in places.items()))
    margin = found["threshold"].iloc[0]
    return f"Shares of D depart from those of data by {margin:g} or more for good: {'; '.join(parts)}."


def _departs(row: "pd.Series[float]") -> str:
    """The noise level with its interval; a place that is not reached in enough draws is not shown."""
    if not math.isfinite(row["high"]):
        return "it is not shown that they do"
    sigma, low, high = (math.exp(-row[name] / 2) for name in ("log_snr", "high", "low"))
    return f"below σ = {sigma:.2g} ({low:.2g} to {high:.2g})"


def read_steered(steered: pd.DataFrame, group: str) -> str:
    """By site, the share of a group as it is, and at the two ends of the doses, with the change of the images."""
    parts = []
    for site, rows in steered[steered["value"] == group].groupby("site", sort=False):
        ends = rows.sort_values("strength").iloc[[0, -1]]
        bare = rows[rows["strength"] == 0].iloc[0]
        moved = " and ".join(
            f"{told(row, 'share', form='.0%')} at {row['strength']:+g} (random directions {row['random_least']:.0%} to "
            f"{row['random_most']:.0%}; a change of {row['distance']:.2g})"
            for _, row in ends.iterrows()
        )
        parts.append(
            f"feature {bare['feature']} of {site}, which reads it best (AUC {bare['reads']:.2f}): "
            f"{told(bare, 'share', form='.0%')} of samples without a condition, {moved}"
        )
    return f"Features added, in standard deviations of their projection: {'; '.join(parts)}."
