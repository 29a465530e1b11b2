"""Sentences made from the numbers of a Gaussian report: one a figure."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import scipy

from scorescope.analysis.gaussian.far_field import FarField
from scorescope.analysis.gaussian.scores import lowest_run
from scorescope.analysis.gaussian.skip import FEWER_CALLS, FINER_STEPS, Suggestion

AS_GOOD = 0.1  # more of the median error counts as none


def read_laws(scores: pd.DataFrame, levels: pd.DataFrame, constant: float | FarField, gaussian: str) -> str:
    """Where the Gaussian is as good as any law compared, where the network errs by itself, and what the data say."""
    centred = scores[(scores["metric"] == "centred") & (scores["approximation"] == gaussian)]
    near = centred.iloc[(centred["sigma"] - 1).abs().argmin()]
    text = (
        f"at σ = {near['sigma']:g} the Gaussian leaves {near['ratio_of_sums']:.2g} "
        f"(95 % {near['ratio_of_sums_low']:.2g} to {near['ratio_of_sums_high']:.2g})"
    )
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
    """How much the answer at low noise depends on where one asks."""
    rows = scores[(scores["metric"] == "centred") & (scores["approximation"] == name)]
    low = rows[rows["sigma"] == rows["sigma"].min()].set_index("query")["ratio_of_sums"]
    texts = [f"{value:.2g} ({str(query).replace('_', ' ')})" for query, value in low.items()]
    return f"Against the {name} at σ = {rows['sigma'].min():g} the fraction is " + ", ".join(texts) + "."


def read_paths(errors: pd.DataFrame, ends: pd.DataFrame) -> str:
    """The two errors of the closed form near sigma = 5, and how the end samples compare."""
    near = errors.iloc[(errors["sigma"] - 5).abs().argmin()]["sigma"]
    rows = errors[errors["sigma"] == near].set_index("quantity")
    state, denoised = rows.loc["state"], rows.loc["denoised"]
    less = "less" if state["high"] < denoised["low"] else "not shown to be less"
    end = ends.iloc[0]
    return (
        f"At σ = {near:.2g} the closed form's prediction is off by {_with_ends(denoised)} and its state by "
        f"{_with_ends(state)}, {less}; carried all the way, its samples are off by {end['ratio_of_sums']:.2g} (median "
        f"{end['median']:.2g}) and {100 * end['flips']:.0f} % (95 % {100 * end['flips_low']:.0f} to "
        f"{100 * end['flips_high']:.0f}) belong to another mode."
    )


def _with_ends(row: pd.Series) -> str:
    return f"{row['ratio_of_sums']:.2g} (95 % {row['low']:.2g} to {row['high']:.2g})"


def read_emergence(table: pd.DataFrame) -> str:
    """Whether modes of more variance come at higher noise, by a rank test, and how early."""
    known = table.dropna(subset=["sigma_network"])
    if len(known) < 3:
        return f"The noise level at which a mode appears is known of {len(known)} modes only: too few for an order."
    found = scipy.stats.spearmanr(known["sqrt_eigenvalue"], known["sigma_network"], alternative="greater")
    ratio = (known["sigma_network"] / known["sqrt_eigenvalue"]).median()
    order = "Modes of more variance appear earlier" if found.pvalue < 0.05 else "No order by variance is shown"
    return (
        f"{order} (rank correlation {found.statistic:.2f} over {len(known)} modes, p = {found.pvalue:.2g}); they "
        f"appear at {ratio:.2f} times the closed form's noise level in the median."
    )


def read_skips(table: pd.DataFrame, advice: Suggestion, tolerance: float) -> str:
    """What the suggested jump costs and saves; what is said to be as good or better is so by its interval."""
    steps = table["steps"].max()
    rows = table[(table["solver"] == table["solver"].iloc[0]) & (table["steps"] == steps)]
    top = rows["sigma_skip"].max()
    none, skipped = rows[rows["sigma_skip"] == top].iloc[0], rows[rows["sigma_skip"] < top]
    finer, fewer = (skipped[skipped["spent"] == spent] for spent in (FINER_STEPS, FEWER_CALLS))
    texts = [_jump(advice, tolerance)]
    alike = fewer[fewer["against_none_high"] <= 1 + AS_GOOD].sort_values("calls")
    better = finer[finer["against_none_high"] < 1].sort_values("against_none_high")
    how = f"with {steps} {none['solver']} steps"
    if len(alike):
        row = alike.iloc[0]
        texts.append(
            f"{how}, {row['calls']} calls do as well as {none['calls']} to {100 * AS_GOOD:.0f} %: {_against(row)}"
        )
    else:
        texts.append(f"{how}, no saving of calls is shown to cost less than {100 * AS_GOOD:.0f} % of the median error")
    if len(better):
        row = better.iloc[0]
        texts.append(f"{row['calls']} calls spent below σ = {row['sigma_skip']:.3g} do better: {_against(row)}")
    return _sentence("; ".join(texts))


def _jump(advice: Suggestion, tolerance: float) -> str:
    rows = advice.table[advice.table["sigma"] == advice.sigma_skip]
    if not len(rows):
        return f"no jump is shown to keep the state's error within {tolerance:g}"
    data = f"predicted from the data {advice.predicted_error:.2g}"
    return (
        f"within a state error of {tolerance:g} the closed form may carry to σ = {advice.sigma_skip:.3g} (measured "
        f"{advice.measured_error:.2g}, 95 % {advice.measured_low:.2g} to {advice.measured_high:.2g}; "
        f"{data if rows['in_range'].iloc[0] else 'too low for a prediction from the data'})"
    )


def _against(row: pd.Series) -> str:
    return (
        f"median error {row['against_none']:.2g} times (95 % {row['against_none_low']:.2g} to "
        f"{row['against_none_high']:.2g}) that without a skip"
    )


def read_gains(summary: pd.DataFrame) -> str:
    """The error of each schedule on the data's spectrum."""
    texts = [f"{row['solver']} on {row['levels']} levels {100 * row['error']:.2g} %" for _, row in summary.iterrows()]
    return "On the data's own spectrum the end samples are off by: " + ", ".join(texts) + " (root mean square)."


def read_dynamics(nearest: pd.DataFrame, gaussian: str) -> str:
    """Where the distance to the Gaussian has a minimum before the end of training."""
    rows = nearest[nearest["approximation"] == gaussian]
    rises, last = rows[rows["rises"]], rows[~rows["rises"]]
    texts = []
    if len(rises):
        where = ", ".join(f"{s:g}" for s in sorted(rises["sigma"]))
        steps = ", ".join(str(s) for s in sorted(set(rises["training_step"])))
        texts.append(f"at σ = {where} the network is nearest to the Gaussian at step {steps} and then moves away")
    if len(last):
        texts.append(f"at σ = {', '.join(f'{s:g}' for s in sorted(last['sigma']))} no such turn is shown")
    return _sentence("; ".join(texts))


def read_memory(tables: Mapping[str, pd.DataFrame], name: str) -> str:
    """The error on training and held-out points of the network and of the memoriser, near sigma = 0.2."""
    texts = []
    for denoiser in (name, "memoriser"):
        table = tables[denoiser]
        rows = table[(table["quantity"] == "error") & np.isclose(table["sigma"], 0.2)].set_index("images")
        train, fresh = (
            f"{row['mean']:.2g} (95 % {row['low']:.2g} to {row['high']:.2g})"
            for _, row in rows.loc[["train", "held out"]].iterrows()
        )
        texts.append(f"{train} on training and {fresh} on held-out points for {denoiser}")
    return "At σ = 0.2 the squared error an element is " + ", and ".join(texts) + "."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
