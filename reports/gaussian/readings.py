"""Sentences made from the numbers of a Gaussian report: one a figure."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy

from scorescope.analysis.gaussian.far_field import FarField
from scorescope.analysis.gaussian.scores import lowest_run
from scorescope.analysis.gaussian.skip import FEWER_CALLS, FINER_STEPS, Suggestion
from scorescope.reports.page.numbers import told

AS_GOOD = 0.1  # more of the median error counts as none


def read_laws(scores: pd.DataFrame, levels: pd.DataFrame, constant: float | FarField, gaussian: str) -> str:
    """Where the Gaussian is as good as any law compared, where the network errs by itself, and what the data say."""
    centred = scores[(scores["metric"] == "centred") & (scores["approximation"] == gaussian)]
    near = centred.iloc[(centred["sigma"] - 1).abs().argmin()]
    text = f"at σ = {near['sigma']:g} the Gaussian leaves {_with_ends(near, 'ratio_of_sums', of='ratio_of_sums')}"
    return _sentence("; ".join([_ranking(levels), _own_error(levels), text])) + _far(constant)


def _ranking(levels: pd.DataFrame) -> str:
    """Down to where no law compared is better than the Gaussian by the margin; else what is known at the top."""
    limit, top = lowest_run(levels, "gaussian_is_best"), levels.iloc[int(levels["sigma"].argmax())]
    if levels["compared"].str.count(", ").eq(0).all():
        return "one law was compared, so that none is found to be the best"
    if np.isfinite(limit):
        return (
            f"from σ = {limit:g} up none of the laws compared leaves less than the Gaussian by more than "
            f"{top['margin']:g} (95 %)"
        )
    if top["other_is_better"]:
        return f"{top['best']} leaves less than the Gaussian even at the highest noise level"
    return "which law leaves least at the highest noise level is not decided"


def _own_error(levels: pd.DataFrame) -> str:
    """Down to where the network's error is shown, with the floor there; else why it is not at the top."""
    own = lowest_run(levels, "network_error")
    if not np.isfinite(own):
        reason = str(levels["reason"].iloc[int(levels["sigma"].argmax())]).rpartition("network_error: ")[2]
        return f"no error of the network's own is shown at the highest noise level ({reason})"
    row = levels[levels["sigma"] == own].iloc[0]
    return (
        f"from σ = {own:g} up all laws agree to a tenth of what is left, and that is above what their own samples "
        f"explain ({row['best_fraction']:.2g}, 95 % {row['best_fraction_low']:.2g} to "
        f"{row['best_fraction_high']:.2g}, against {row['floor_high']:.2g} at σ = {own:g}): the network errs by itself"
    )


def _far(constant: float | FarField) -> str:
    if not isinstance(constant, FarField):
        return f" The data's far-field constant is c = {constant:.3f}."
    return (
        f" The data's far-field constant is c = {constant.third:.3f} (normal samples of this number: "
        f"{constant.third_floor:.2g}); its line holds from σ = {constant.lowest:.2g} up."
    )


def read_metrics(scores: pd.DataFrame, gaussian: str) -> str:
    """How far apart the three metrics are at both ends."""
    rows = scores[scores["approximation"] == gaussian].pivot(index="sigma", columns="metric", values="ratio_of_sums")
    top, bottom = rows.loc[rows.index.max()], rows.loc[rows.index.min()]
    return (
        f"The same disagreement reads {top['centred']:.2g} (centred), {top['denoised']:.2g} (denoised) and "
        f"{top['score']:.2g} (score) at σ = {rows.index.max():g}, and {bottom['centred']:.2g}, "
        f"{bottom['denoised']:.2g} and {bottom['score']:.2g} at σ = {rows.index.min():g}."
    )


def read_queries(scores: pd.DataFrame, name: str) -> str:
    """What the answer at low noise is, by where one asks."""
    rows = scores[(scores["metric"] == "centred") & (scores["approximation"] == name)]
    texts = [
        f"{row['query'].replace('_', ' ')} {_with_ends(row, 'ratio_of_sums', of='ratio_of_sums')}"
        for _, row in rows[rows["sigma"] == rows["sigma"].min()].iterrows()
    ]
    return f"Against the {name} at σ = {rows['sigma'].min():g} the fraction is, by query: {', '.join(texts)}."


def read_paths(errors: pd.DataFrame, ends: pd.DataFrame) -> str:
    """The two errors of the closed form near sigma = 5, and how the end samples compare."""
    near = errors.iloc[(errors["sigma"] - 5).abs().argmin()]["sigma"]
    rows = errors[errors["sigma"] == near].set_index("quantity")
    state, denoised = rows.loc["state"], rows.loc["denoised"]
    less = "less" if state["high"] < denoised["low"] else "not shown to be less"
    end = ends.iloc[0]
    return (
        f"At σ = {near:.2g} the closed form's prediction is off by {_with_ends(denoised, 'ratio_of_sums')} and its "
        f"state by {_with_ends(state, 'ratio_of_sums')}, {less}; carried all the way, its samples are off by "
        f"{_with_ends(end, 'ratio_of_sums')}, in the median by {end['median']:.2g}, and "
        f"{told(end, 'flips', of='flips', form='.0%', what='95 % ')} belong to another mode."
    )


def _with_ends(row: "pd.Series[float]", value: str, *, of: str = "") -> str:
    return told(row, value, of=of, form=".2g", what="95 % ")


def read_emergence(table: pd.DataFrame) -> str:
    """Whether modes of more variance come at higher noise, by an exact rank test, and how many come elsewhere."""
    known = table.dropna(subset=["sigma_network"])
    if len(known) < 3:
        return f"The noise level at which a mode appears is known of {len(known)} modes only: too few for an order."
    expected = known["sqrt_eigenvalue"]
    away = int(((known["low"] > expected) | (known["high"] < expected)).sum())
    return (
        f"{_order(expected, known['sigma_network'])} over {len(known)} of {len(table)} modes; they appear at "
        f"{(known['sigma_network'] / expected).median():.2f} times the closed form's noise level in the median, and "
        f"{away} of them are shown to appear above or below it (95 % each)."
    )


def _order(sizes: "pd.Series[float]", levels: "pd.Series[float]") -> str:
    correlation, p = rank_order(sizes, levels)
    if np.isnan(correlation):
        return "No order by variance is shown, as all variances or levels are the same,"
    order = "Modes of more variance appear earlier" if p < 0.05 else "No order by variance is shown"
    return f"{order} (Kendall's rank correlation {correlation:.2f}, p = {p:.2g})"


def rank_order(sizes: "pd.Series[float]", levels: "pd.Series[float]") -> tuple[float, float]:
    """Kendall's rank correlation, and the exact p value of one that is not positive; NaN where all are the same."""
    found = scipy.stats.kendalltau(sizes, levels, alternative="greater")
    return float(found.statistic), float(found.pvalue)


def read_skips(table: pd.DataFrame, advice: Suggestion, tolerance: float) -> str:
    """What the suggested jump costs and saves; what is said to be as good or better is so by its interval."""
    steps = table["steps"].max()
    rows = table[(table["solver"] == table["solver"].iloc[0]) & (table["steps"] == steps)]
    top = rows["sigma_skip"].max()
    none, skipped = rows[rows["sigma_skip"] == top].iloc[0], rows[rows["sigma_skip"] < top]
    finer, fewer = (skipped[skipped["spent"] == spent] for spent in (FINER_STEPS, FEWER_CALLS))
    texts = [_jump(advice, tolerance), f"with {steps} {none['solver']} steps, {_saving(fewer, none)}", _finer(finer)]
    looked = f" {len(skipped)} intervals of 95 % each were looked at, not corrected for their number."
    return _sentence("; ".join(texts)) + looked


def _saving(fewer: pd.DataFrame, none: "pd.Series[Any]") -> str:
    """The fewest calls that are shown to do as well as all of them; else those that come nearest."""
    row, as_good = fewest_calls(fewer)
    if as_good:
        return f"{row['calls']} calls do as well as {none['calls']} to {AS_GOOD:.0%}: {_against(row)}"
    return (
        f"no saving of calls is shown to cost at most {AS_GOOD:.0%} of the median error; {row['calls']} of "
        f"{none['calls']} calls come nearest: {_against(row)}"
    )


def fewest_calls(fewer: pd.DataFrame) -> "tuple[pd.Series[Any], bool]":
    """The jump with the fewest calls that does as well as none by its own interval, else the one that comes nearest."""
    alike = fewer[fewer["against_none_high"] <= 1 + AS_GOOD].sort_values("calls")
    return (alike.iloc[0], True) if len(alike) else (fewer.sort_values("against_none_high").iloc[0], False)


def _finer(finer: pd.DataFrame) -> str:
    """The jump with finer steps below it whose interval ends lowest, and whether that is shown to do better."""
    row = finer.sort_values("against_none_high").iloc[0]
    calls = f"{row['calls']} calls spent below σ = {row['sigma_skip']:.3g}"
    if row["against_none_high"] < 1:
        return f"{calls} do better: {_against(row)}"
    return f"no finer steps below a jump are shown to do better; {calls} come nearest: {_against(row)}"


def _jump(advice: Suggestion, tolerance: float) -> str:
    rows = advice.table[advice.table["sigma"] == advice.sigma_skip]
    if not len(rows):
        row = advice.table.iloc[int(advice.table["sigma"].argmax())]
        return (
            f"no jump is shown to keep the state's error within {tolerance:g}: at σ = {row['sigma']:.3g}, the highest "
            f"of {len(advice.table)} levels, it is {_with_ends(row, 'measured_error')}"
        )
    row = rows.iloc[0]
    data = f"{row['predicted_error']:.2g} is predicted from the data"
    return (
        f"within a state error of {tolerance:g} the closed form may carry to σ = {advice.sigma_skip:.3g}, where "
        f"{_with_ends(row, 'measured_error')} is measured and "
        f"{data if row['in_range'] else 'the noise is too low for a prediction from the data'}"
    )


def _against(row: "pd.Series[Any]") -> str:
    ratio = told(row, "against_none", of="against_none", what="95 % ")  # a digit more than the margin has
    return f"median error {ratio} times that without a skip"


def read_gains(summary: pd.DataFrame) -> str:
    """The error of each schedule on the data's spectrum."""
    texts = [f"{row['solver']} on {row['levels']} levels {100 * row['error']:.2g} %" for _, row in summary.iterrows()]
    return "On the data's own spectrum the end samples are off by: " + ", ".join(texts) + " (root mean square)."


def read_dynamics(nearest: pd.DataFrame, gaussian: str) -> str:
    """Where the network is shown to have been nearer to the Gaussian than it is at the end of training."""
    rows = nearest[nearest["approximation"] == gaussian].sort_values("sigma")
    texts = [
        f"at σ = {_levels(turned)} the network was nearer to the Gaussian at step {step} than at the last of "
        f"{turned['snapshots'].max()} snapshots"
        for step, turned in rows[rows["rises"]].groupby("training_step")
    ]
    last = rows[~rows["rises"]]
    if len(last):
        most = last["rise_high"].max(skipna=False)
        farther = f"by their intervals it is {f'farther by at most {most:.2g}' if most > 0 else 'the nearest'}"
        texts.append(
            f"at σ = {_levels(last)} none of {last['snapshots'].max()} snapshots is shown to be nearer than the last "
            f"({'no intervals' if np.isnan(most) else farther})"
        )
    return _sentence("; ".join(texts))


def _levels(rows: pd.DataFrame) -> str:
    return ", ".join(f"{sigma:g}" for sigma in rows["sigma"])


def read_memory(tables: Mapping[str, pd.DataFrame], name: str) -> str:
    """The error on training and held-out points of the network and of the memoriser, near sigma = 0.2."""
    levels, texts = tables[name]["sigma"], []
    level = levels[(np.log(levels) - np.log(0.2)).abs().idxmin()]
    for denoiser in (name, "memoriser"):
        table = tables[denoiser]
        rows = table[(table["quantity"] == "error") & np.isclose(table["sigma"], level)].set_index("images")
        train, fresh = (_with_ends(row, "mean") for _, row in rows.loc[["train", "held out"]].iterrows())
        texts.append(f"{train} on training and {fresh} on held-out points for {denoiser}")
    return f"At σ = {level:g} the squared error an element is " + ", and ".join(texts) + "."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
