"""What a FID report can begin with: one function a finding, from the tables of its sections.

Each says a number with its interval and what it means for who compares sets of images; `page.findings` chooses.
"""

from typing import Any

import pandas as pd

from scorescope.analysis.fid.companion_rows import WITHOUT_BIAS
from scorescope.analysis.fid.gaming import PLAIN, REAL
from scorescope.analysis.fid.verdicts import verdict
from scorescope.reports.fid.readings import largest_gap_by_chance
from scorescope.reports.page.findings import Finding, strength_apart, strength_of, strength_of_p
from scorescope.reports.page.numbers import told


def distances(frechet: pd.DataFrame, space: str, looked_into: str) -> list[Finding]:
    """How far the set that is looked into is from the real one, without the bias of few images; and who is nearest.

    Parameters
    ----------
    frechet : DataFrame
        Rows of companion tables of the metrics FD and FD without bias, with a column `set`.
    space : str
        Name of the judged space.
    looked_into : str
        Name of the set that the other sections are on.
    """
    rows = frechet[frechet["space"] == space]
    without = rows[rows["metric"] == WITHOUT_BIAS]
    found = [_distance(row, rows) for _, row in without[without["set"] == looked_into].iterrows()]
    ranked = without.dropna(subset=["value", "low", "high"]).sort_values("value")
    if len(without) > 1 and len(ranked) == len(without):
        best, second = ranked.iloc[0], ranked.iloc[1]
        text = (
            f"The images of {best['set']} are nearest to the real ones: FD without bias {told(best, 'value')}, next "
            f"{second['set']} with {told(second, 'value')}"
        )
        apart = strength_apart(best, second, "value")
        n = min(best["n_fake"], second["n_fake"])
        found.append(
            Finding(f"{text}.", apart, "distances", n=n, unit="images", doubt=f"{text}: the two are not told apart.")
        )
    return found


def _distance(row: "pd.Series[Any]", rows: pd.DataFrame) -> Finding:
    """The distance of one set against none."""
    measured = rows[(rows["set"] == row["set"]) & (rows["metric"] == "FD")].iloc[0]
    times = ""
    if measured["floor"] > 0:
        times = f", {measured['value'] / measured['floor']:.2g} times what as many real images would measure"
    text = (
        f"The images of {row['set']} are {told(row, 'value')} from the real ones by FD without the bias of few images "
        f"(as measured {measured['value']:.3g}{times})"
    )
    doubt = f"{text}: not told from none." if row["value"] == row["value"] else f"No FD without bias: {row['note']}."
    return Finding(f"{text}.", strength_of(row, "value"), "distances", n=row["n_fake"], unit="images", doubt=doubt)


def largest_gap(classes: pd.DataFrame) -> list[Finding]:
    """The class whose share differs most, by an exact test corrected for the number of classes."""
    row = classes.iloc[0]
    p, seen = largest_gap_by_chance(classes)
    more = "more" if row["gap"] > 0 else "fewer"
    text = (
        f"{abs(row['gap']):.1%} {more} of the generated images than of the real ones are taken for class "
        f"{row['class_name']} ({row['share_fake']:.1%} against {row['share_real']:.1%})"
    )
    found = strength_of_p(p, of_several=seen)
    doubt = f"{text}: the largest gap of {seen} classes, and no more than chance leaves."
    n = float(classes["n_fake"].sum())
    return [Finding(f"{text}: the largest gap of {seen} classes.", found, "classes", n, "images", doubt)]


def by_choice(audit: pd.DataFrame, *, figure: str = "audit", own_data: bool = True) -> list[Finding]:
    """How far the distance falls by choosing among the images, where it falls most, and what a second space says."""
    rows = {(row["arm"], row["metric"]): row for _, row in audit.iterrows()}
    before = rows[PLAIN, "FD"]
    size = before[["n", "n_real"]].tolist()  # another number of images has another bias
    arms = [arm for arm, metric in rows if metric == "FD" and arm not in (PLAIN, REAL)]
    arms = [arm for arm in arms if rows[arm, "FD"][["n", "n_real"]].tolist() == size]
    best = min(arms, key=lambda arm: float(rows[arm, "FD"]["value"]), default=PLAIN)
    after = rows[best, "FD"]
    if best == PLAIN or not after["value"] < before["value"]:
        return []
    said = verdict(audit, best)
    text = (
        f"{'Choosing' if own_data else 'Self-test: choosing'} among the images alone ({best}, worth "
        f"{after['effective_size']:.0f} of {before['effective_size']:.0f}) takes FD from {told(before, 'value')} to "
        f"{told(after, 'value')} in draws of {after['n']} images, while that of a second feature space "
        f"is measured {abs(said.second_change):.0%} {'higher' if said.second_change > 0 else 'lower'}"
    )
    doubt = f"{text}: not told from a random choice."
    apart = strength_apart(before, after, "value")
    meaning = "no image was changed, so that part of FD is about which images are in the set"
    return [Finding(f"{text}: {meaning}.", apart, figure, doubt=doubt, own_data=own_data)]


def strongest_group(groups: pd.DataFrame, kind: str) -> list[Finding]:
    """The group of images that raises the distance most."""
    row = groups.sort_values("influence", ascending=False, kind="stable").iloc[0]
    text = (
        f"Images of {kind} {row['group']} raise FD most: each by an influence of {told(row, 'influence')}, "
        f"{row['total_share']:.0%} of FD in all"
    )
    found = strength_of(row, "influence", of_several=len(groups))
    doubt = f"{text}: not told from no influence, as the largest of {len(groups)} groups."
    return [Finding(f"{text}.", found, n=row["n"], unit="images of the group", doubt=doubt)]


def inside_mask(regions: pd.DataFrame) -> list[Finding]:
    """Whether a region holds more of the sensitivity than its area."""
    found = []
    for _, row in regions.iterrows():
        text = (
            f"{told(row, 'sensitivity_share', form='.1%')} of what FD is sensitive to lies inside {row['region']}, "
            f"which covers {row['area_share']:.1%} of the image"
        )
        found.append(
            Finding(
                f"{text}.", strength_of(row, "sensitivity_share", nothing=row["area_share"]), "mask_shares",
                n=row["n"], unit="images", doubt=f"{text}: as much as its area would by chance.",
            )
        )  # fmt: skip
    return found


def planted(shares: pd.DataFrame) -> list[Finding]:
    """The self-test: whether the network that names the accessory is found to look at the accessory."""
    rows = shares[(shares["network"] == "accessory") & (shares["region"] == "accessory")]
    row = rows.iloc[0]
    text = (
        f"Self-test with a known answer: {told(row, 'sensitivity_share', form='.1%')} of the sensitivity is found on "
        f"the planted accessory, {row['area_share']:.1%} of the area"
    )
    found = strength_of(row, "sensitivity_share", nothing=row["area_share"])
    doubt = f"{text}: the instrument does not find it here."
    return [Finding(f"{text}.", found, "planted_maps", n=row["n"], unit="scenes", doubt=doubt, own_data=False)]
