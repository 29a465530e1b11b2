"""What an inside report can begin with: one function a finding, from the tables of its sections."""

import pandas as pd

from scorescope.reports.inside.readings import of_quantity, steers, worst_replaced
from scorescope.reports.inside.units_study import first_unit
from scorescope.reports.page.findings import Finding, strength_of, strength_of_p
from scorescope.reports.page.numbers import told


def kept(sheet: pd.DataFrame) -> list[Finding]:
    """The site and level at which sparse features lose most of what the network has of the site."""
    rows = worst_replaced(sheet)
    if rows.empty:
        return []
    row = rows.iloc[int(rows["value"].argmax())]
    several, levels = len(of_quantity(sheet, "share_of_zero")), sheet["sigma"].nunique()
    shown = (of_quantity(sheet, "share_of_zero")["site"] == row["site"]).sum()
    text = (
        f"Sparse features stand for {row['site']}: of the {shown} of {levels} levels at which the denoiser is shown to "
        f"use it, they lose most at σ = {row['sigma']:.2g}, {told(row, 'value', form='.0%')} of what leaving it out "
        "costs"
    )
    doubt = f"That sparse features keep what the denoiser has of {row['site']} (at σ = {row['sigma']:.2g})."
    clear = strength_of(row, "value", nothing=1.0, of_several=several)
    return [Finding(f"{text}.", clear if row["value"] < 1 else 0.0, "sparse_sheet", float(row["n"]), "images", doubt)]


def moved(judged: pd.DataFrame) -> list[Finding]:
    """The feature that steers what it reads most clearly, by its corrected p value."""
    doubt = f"That a feature steers what it reads: of {len(judged)} chosen for reading none is shown to."
    known = judged[judged["p_adjusted"].notna() & judged["within_budget"] & (judged["effect"] > 0)]
    if known.empty:
        return [Finding(doubt, 0.0, "read_and_move", doubt=doubt)]
    row = known.iloc[int(known["p_adjusted"].argmin())]
    text = (
        f"Feature {row['feature']} of {row['site']} steers what it reads: adding it moves {row['attribute']} by "
        f"{told(row, 'effect', of='effect', form='.2f')} standard deviations, random directions {row['chance']:.2f}; "
        f"{int(steers(judged).sum())} of the {len(judged)} features that were chosen for reading do"
    )
    clear = strength_of_p(row["p_adjusted"])  # more seeds do not make up for few random directions: none are advised
    return [Finding(f"{text}.", clear, "read_and_move", unit="seeds", doubt=doubt)]


def read(judged: pd.DataFrame) -> list[Finding]:
    """The single feature that reads an attribute best on held-out images, of those chosen."""
    known = judged[judged["value_low"].notna()]
    if known.empty:
        return []
    row = known.iloc[int(known["value"].argmax())]
    text = (
        f"One feature reads {row['attribute']} at σ = {row['read_at']:.2g}: {row['feature']} of {row['site']} is "
        f"stronger in an image of the {'high' if row['sign'] > 0 else 'low'} end than of the other with a chance of "
        f"{told(row, 'value', of='value', form='.2f')} on images that had no part in choosing it"
    )
    clear = strength_of(row, "value", of="value", nothing=0.5, of_several=len(known))
    doubt = f"That one of the {len(judged)} chosen features reads its attribute on other images."
    return [
        Finding(
            f"{text}.", clear if row["value"] > 0.5 else 0.0, "read_and_move", float(row["images"]), "images", doubt
        )
    ]


def looked_at(table: pd.DataFrame) -> list[Finding]:
    """Of the first word, the level at which its maps agree most beyond what maps of other seeds share."""
    rows = table[(table["compared"] == "influence") & table["excess_low"].notna()]
    if rows.empty:
        return []
    rows = rows[rows["word"] == rows["word"].iloc[0]]
    row = rows.iloc[int(rows["excess"].argmax())]
    text = (
        f"Where the network looks at '{row['word']}' is where the word changes its prediction, beyond what maps of "
        f"other seeds share: at σ = {row['sigma']:.2g} their rank correlation is "
        f"{told(row, 'excess', of='excess', form='.2f')} higher"
    )
    clear = strength_of(row, "excess", of="excess", of_several=len(rows)) if row["excess"] > 0 else 0.0
    doubt = f"That the network looks at '{row['word']}' where the word changes its prediction."
    return [Finding(f"{text}.", clear, "attention_agreement", float(row["n"]), "seeds", doubt)]


def units(overlap: pd.DataFrame, region: str, verdicts: pd.DataFrame) -> list[Finding]:
    """The first of the chosen units where it overlaps most, and the edit of them that changes pixels most clearly."""
    inside = verdicts[verdicts["score"].isin(("pixels", "pixels inside"))]
    row, effect = first_unit(overlap, region), inside.iloc[int(inside["p_adjusted"].argmin())]
    text = (
        f"Unit {row['unit']} of {row['site']}, which overlaps most with {region}, does so by more than chance: at "
        f"σ = {row['sigma']:.2g} the IoU is {told(row, 'value', form='.3f')}, with the masks "
        f"of other images {row['chance']:.3f}; firing at so few positions it could reach {row['bound']:.3f}"
    )
    doubt = f"That the unit of {row['site']} with the largest overlap with {region} overlaps by more than chance."
    found = [Finding(f"{text}.", strength_of_p(row["p_adjusted"]), "unit_overlap", float(row["n"]), "images", doubt)]
    doubt = f"That the units that fire where {region} is change more than random ones."
    text = (
        f"Units that fire where {region} is cause something there: {effect['score']} change by "
        f"{told(effect, 'value', form='.3f')} ({effect['edit']}, at σ from {effect['sigma_low']:.2g} to "
        f"{effect['sigma_high']:.2g}), by random sets {effect['chance']:.3f}"
    )
    clear = strength_of_p(effect["p_adjusted"]) if effect["verdict"] == "moves" else 0.0
    return [*found, Finding(f"{text}.", clear, "unit_effects", float(effect["n"]), "seeds", doubt)]


def amplified(table: pd.DataFrame, attribute: str, group: str, bare: str) -> list[Finding]:
    """The class and rule that change the share of a group most from what it is without guidance, seed by seed."""
    rows = table[(table["group"] == group) & (table["setting"] != bare) & table["change"].notna()]
    row = rows.iloc[int(rows["change"].abs().to_numpy().argmax())]
    start = table[(table["group"] == group) & (table["setting"] == bare) & (table["class"] == row["class"])].iloc[0]
    text = (
        f"Guidance changes what no condition names: under {row['setting']} {told(row, 'share', form='.0%')} of samples "
        f"of '{row['class']}' have {attribute} '{group}', {told(row, 'change', of='change', form='+.2f')} from "
        f"{start['share']:.0%} at {bare}; of such images it is {row['data_share']:.0%}"
    )
    doubt = f"That guidance changes the share of {attribute} '{group}'."
    clear = strength_of(row, "change", of="change", of_several=len(rows))
    return [Finding(f"{text}.", clear, "amplification", float(row["n"]), "seeds", doubt)]
