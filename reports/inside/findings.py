"""What an inside report can begin with: one function a finding, from the tables of its sections."""

import pandas as pd

from scorescope.reports.inside.readings import of_quantity, steers, worst_replaced
from scorescope.reports.page.findings import Finding, strength_of, strength_of_p
from scorescope.reports.page.numbers import told


def kept(sheet: pd.DataFrame) -> list[Finding]:
    """The site and level at which sparse features lose most of what the network has of the site."""
    rows = worst_replaced(sheet)
    if rows.empty:
        return []
    row = rows.iloc[int(rows["value"].argmax())]
    several = len(of_quantity(sheet, "share_of_zero"))
    text = (
        f"Sparse features stand for {row['site']}: at worst, at σ = {row['sigma']:.2g}, they lose "
        f"{told(row, 'value', form='.0%')} of what leaving the site out costs the denoiser"
    )
    doubt = f"That sparse features keep what the denoiser has of {row['site']} (at σ = {row['sigma']:.2g})."
    clear = strength_of(row, "value", nothing=1.0, of_several=several)
    return [Finding(f"{text}.", clear if row["value"] < 1 else 0.0, "sparse_sheet", float(row["n"]), "images", doubt)]


def moved(judged: pd.DataFrame) -> list[Finding]:
    """The feature that steers what it reads most clearly, by its corrected p value."""
    known = judged[judged["p_adjusted"].notna() & judged["within_budget"] & (judged["effect"] > 0)]
    if known.empty:
        return []
    row = known.iloc[int(known["p_adjusted"].argmin())]
    text = (
        f"Feature {row['feature']} of {row['site']} steers what it reads: adding it moves {row['attribute']} by "
        f"{told(row, 'effect', of='effect', form='.2f')} standard deviations, random directions {row['chance']:.2f}; "
        f"{int(steers(judged).sum())} of the {len(judged)} features that were chosen for reading do"
    )
    doubt = f"That a feature steers what it reads: of {len(judged)} chosen for reading none is shown to."
    return [Finding(f"{text}.", strength_of_p(row["p_adjusted"]), "read_and_move", float(row["n"]), "seeds", doubt)]
