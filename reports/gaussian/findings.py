"""What a Gaussian report can begin with: one function a finding, from the tables of its sections.

Each says a number with its interval and what it saves or tells; `page.findings` chooses among them.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from scorescope.analysis.gaussian.scores import lowest_run
from scorescope.analysis.gaussian.skip import FEWER_CALLS
from scorescope.reports.gaussian.readings import AS_GOOD, fewest_calls, rank_order
from scorescope.reports.page.findings import Finding, strength, strength_apart, strength_of, strength_of_p
from scorescope.reports.page.numbers import told


def as_good(levels: pd.DataFrame) -> list[Finding]:
    """Down to where the Gaussian is as good as any law compared, within a margin."""
    limit, top = lowest_run(levels, "gaussian_is_best"), levels.iloc[int(levels["sigma"].argmax())]
    if levels["compared"].str.count(", ").eq(0).all():
        return []
    row = top if np.isnan(limit) else levels[levels["sigma"] == limit].iloc[0]
    ends = float(row["gaussian_excess"]), float(row["gaussian_excess_low"]), float(row["gaussian_excess_high"])
    clear = strength(*ends, nothing=row["margin"]) if ends[0] < row["margin"] else 0.0
    return [
        Finding(
            f"From σ = {row['sigma']:g} up a Gaussian fitted to the data predicts as well as any of the laws compared, "
            f"to {row['margin']:g} of what is to be explained; how much they all leave stands in the figure.",
            clear, "laws",
            doubt="At the highest noise level it is not shown that the Gaussian is as good as every other law.",
        )
    ]  # fmt: skip


def unexplained(scores: pd.DataFrame, gaussian: str) -> list[Finding]:
    """How much the Gaussian leaves of the network's prediction near sigma = 1."""
    rows = scores[(scores["metric"] == "centred") & (scores["approximation"] == gaussian)]
    row = rows.iloc[(rows["sigma"] - 1).abs().argmin()]
    text = (
        f"At σ = {row['sigma']:g} the Gaussian leaves {told(row, 'ratio_of_sums', of='ratio_of_sums', form='.0%')} of "
        "the network's prediction unexplained"
    )
    found = strength_of(row, "ratio_of_sums", of="ratio_of_sums")
    if row["ratio_of_sums"] > 1:
        text += ": it is farther from the network than the mean of the data is"
    doubt = "" if row["ratio_of_sums_low"] == row["ratio_of_sums_low"] else ", without an interval of so few images"
    return [Finding(f"{text}.", found, "metrics", n=row["n"], unit="held-out images", doubt=f"{text}{doubt}.")]


def calls_saved(skips: pd.DataFrame) -> list[Finding]:
    """The fewest calls that are shown to do as well as all of them, the first ones replaced by the closed form."""
    rows = skips[(skips["steps"] == skips["steps"].max()) & (skips["solver"] == skips["solver"].iloc[0])]
    none = rows[rows["sigma_skip"] == rows["sigma_skip"].max()].iloc[0]
    fewer = rows[(rows["spent"] == FEWER_CALLS) & (rows["sigma_skip"] < none["sigma_skip"])]
    if fewer.empty:
        return []
    row, as_good = fewest_calls(fewer)
    error = told(row, "against_none", of="against_none")
    doubt = f"No saving of calls is shown to cost at most {AS_GOOD:.0%} of the median error"
    fewer_calls = f"{row['calls']} calls in place of {none['calls']} come nearest"
    nearest = f"{fewer_calls}, with a median error {error} times that of all calls"
    if as_good:
        doubt += f" once corrected for the {len(fewer)} jumps that were looked at"
    found = strength_of(row, "against_none", of="against_none", nothing=1 + AS_GOOD, of_several=len(fewer))
    return [
        Finding(
            f"{row['calls']} of {none['calls']} calls are enough: the closed form carries the noise to σ = "
            f"{row['sigma_skip']:.3g}, and the median error is {error} times that of all calls.",
            found if row["against_none"] < 1 + AS_GOOD else 0.0, "skips", n=row["n"], unit="seeds",
            doubt=f"{doubt}; {nearest}.",
        )
    ]  # fmt: skip


def order_of_modes(table: pd.DataFrame) -> list[Finding]:
    """Whether modes of more variance appear earlier, by an exact rank test."""
    known = table.dropna(subset=["sigma_network"])
    if len(known) < 3:
        return []
    correlation, p = rank_order(known["sqrt_eigenvalue"], known["sigma_network"])
    if np.isnan(correlation):
        return []
    text = (
        f"Coarse before fine: of {len(known)} modes those of more variance appear at higher noise (Kendall's rank "
        f"correlation {correlation:.2f}, p = {p:.2g})"
    )
    doubt = f"Whether modes of more variance appear at higher noise (p = {p:.2g})."
    return [Finding(f"{text}.", strength_of_p(p), "emergence", doubt=doubt)]


def remembered(tables: Mapping[str, pd.DataFrame], name: str, *, trained: bool) -> list[Finding]:
    """Whether the network errs less on training points than on held-out ones, where it does so most clearly.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        Of `memorisation`, by denoiser.
    name : str
        The network's.
    trained : bool
        Whether the network is known to have been trained on the images that the laws were fitted to.
    """
    rows = tables[name][tables[name]["quantity"] == "error"]
    sides = {what: part.set_index("sigma") for what, part in rows.groupby("images")}
    levels = [sigma for sigma in sides["train"].index if sigma in sides["held out"].index]
    found = {sigma: strength_apart(sides["train"].loc[sigma], sides["held out"].loc[sigma]) for sigma in levels}
    known = {sigma: value for sigma, value in found.items() if not np.isnan(value)}
    if not known:
        return []
    sigma = max(known, key=lambda level: known[level])
    train, fresh = sides["train"].loc[sigma], sides["held out"].loc[sigma]
    seen = "training images" if trained else "the images that the laws were fitted to"
    text = f"At σ = {sigma:g} the squared error is {told(train)} on {seen} and {told(fresh)} on held-out ones"
    less = "as if it knew the former" if train["mean"] < fresh["mean"] else "not what remembering would do"
    return [
        Finding(
            f"{text}: {less}.", known[sigma], "memorisation", n=min(train["n"], fresh["n"]), unit="held-out images",
            doubt=f"{text}, where they differ most clearly: not told apart.",
        )
    ]  # fmt: skip
