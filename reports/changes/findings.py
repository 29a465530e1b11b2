"""What a page on changes can begin with: the sentence of a figure, as strong as its clearest difference."""

import pandas as pd

from scorescope.reports.page.findings import Finding, strength_of


def difference(reading: str, table: pd.DataFrame, figure: str = "") -> list[Finding]:
    """The sentence of a table of differences; where none is shown it says how small a one would have been seen.

    Parameters
    ----------
    reading : str
        The sentence.
    table : DataFrame
        With `value`, its interval `low` to `high` that holds together over all rows, and `shown`.
    figure : str
        Name of the figure that shows it.
    """
    known = table.dropna(subset=["low", "high"])
    clear = max((strength_of(row, "value") for _, row in known.iterrows()), default=float("nan"))
    shown = bool(table["shown"].any())
    return [Finding(reading, clear if shown else min(clear, 1.0), figure)] if reading else []
