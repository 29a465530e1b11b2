"""Sentences of the page on recorded traces: each names its traces."""

import pandas as pd

from scorescope.reports.guidance.peaks import elsewhere, peak_of
from scorescope.reports.page.numbers import told


def read_peaks(steps: pd.DataFrame, quantity: str, what: str, *, against: str = "") -> str:
    """Where each line has the largest mean of a quantity, and how many times that of another there."""
    texts = []
    for line, rows in _first_calls(steps).groupby("line", sort=False):
        known = rows[rows["quantity"] == quantity].dropna(subset=["mean"])
        if known.empty:
            texts.append(f"{line} nowhere, as none is known")
            continue
        peak = peak_of(known)
        text = f"{line} at σ = {peak['sigma']:.3g} ({told(peak, brackets=False)}){elsewhere(known)}"
        if against:
            other = rows[(rows["quantity"] == against) & (rows["sigma"] == peak["sigma"])]["mean"].iloc[0]
            text += f", {peak['mean'] / other:.2g} times chance"
        texts.append(text)
    return f"In the mean {what} largest: {'; '.join(texts)}."


def read_gains(steps: pd.DataFrame) -> str:
    """The gain of each line where its mean is furthest from 1."""
    texts = []
    for line, rows in _first_calls(steps).groupby("line", sort=False):
        known = rows[rows["quantity"] == "applied_gain"].dropna(subset=["mean"])
        if known.empty:
            texts.append(f"{line} by a factor that is not known")
            continue
        peak = known.iloc[int((known["mean"] - 1).abs().to_numpy().argmax())]
        texts.append(f"{line} by {told(peak)} at σ = {peak['sigma']:.3g}")
    return f"In the mean D_c is scaled most: {'; '.join(texts)}."


def read_replayed(table: pd.DataFrame, missing: dict[str, str]) -> str:
    """Where another rule would have changed each trace's prediction most; and of which that is not known."""
    texts = []
    for (trace, setting), rows in table.groupby(["trace", "setting"], sort=False):
        peak = peak_of(rows)
        texts.append(f"{setting} for {trace} by {told(peak, form='.1%')} at σ = {peak['sigma']:.3g}")
    left = "".join(f" {name} is not replayed: {why}." for name, why in missing.items())
    return f"At the states of each run another rule would move the prediction most: {'; '.join(texts)}.{left}"


def _first_calls(steps: pd.DataFrame) -> pd.DataFrame:
    return steps[steps["call"] == 0]
