"""Sentences made from the numbers of a Gaussian report: one a figure."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from scorescope.analysis.gaussian.scores import lowest_run
from scorescope.analysis.gaussian.skip import FEWER_CALLS, FINER_STEPS, Suggestion


def read_laws(scores: pd.DataFrame, levels: pd.DataFrame, constant: float, gaussian: str) -> str:
    """Where the Gaussian stops being the best, where it is worst, and where the network errs by itself."""
    centred = scores[(scores["metric"] == "centred") & (scores["approximation"] == gaussian)]
    limit, own = lowest_run(levels, "gaussian_is_best"), lowest_run(levels, "network_error")
    near = centred.iloc[(centred["sigma"] - 1).abs().argmin()]
    texts = ["another law is better than the Gaussian even at the highest noise level"]
    if np.isfinite(limit):
        texts = [f"from σ = {limit:g} up no law is better than the Gaussian"]
    if np.isfinite(own):
        texts.append(
            f"from σ = {own:g} up all laws agree to a tenth of what is left, so the rest is the network's own error"
        )
    texts.append(
        f"at σ = {near['sigma']:g} the Gaussian leaves {near['ratio_of_sums']:.2g} "
        f"(95 % {near['ratio_of_sums_low']:.2g} to {near['ratio_of_sums_high']:.2g})"
    )
    return _sentence("; ".join(texts)) + f" The data's far-field constant is c = {constant:.3f}."


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
    rows = errors[errors["sigma"] == near].set_index("quantity")["ratio_of_sums"]
    end = ends.iloc[0]
    return (
        f"At σ = {near:.2g} the closed form's prediction is off by {rows['denoised']:.2g} but its state only by "
        f"{rows['state']:.2g}; carried all the way, its samples are off by {end['ratio_of_sums']:.2g} (median "
        f"{end['median']:.2g}) and {100 * end['flips']:.0f} % (95 % {100 * end['flips_low']:.0f} to "
        f"{100 * end['flips_high']:.0f}) belong to another mode."
    )


def read_emergence(table: pd.DataFrame) -> str:
    """Whether modes come in the order of their variance, and how early."""
    known = table.dropna(subset=["sigma_network"])
    order = known["sqrt_eigenvalue"].corr(known["sigma_network"], method="spearman")
    ratio = (known["sigma_network"] / known["sqrt_eigenvalue"]).median()
    return (
        f"Modes appear in the order of their variance (rank correlation {order:.2f} over {len(known)} modes), at "
        f"{ratio:.2f} times the closed form's noise level in the median."
    )


def read_skips(table: pd.DataFrame, advice: Suggestion, tolerance: float) -> str:
    """What the suggested jump costs and saves."""
    steps = table["steps"].max()
    rows = table[(table["solver"] == table["solver"].iloc[0]) & (table["steps"] == steps)]
    none = rows[rows["sigma_skip"] == rows["sigma_skip"].max()].iloc[0]
    finer, fewer = (rows[rows["spent"] == spent] for spent in (FINER_STEPS, FEWER_CALLS))
    best = finer.sort_values("median").iloc[0]
    harmless = fewer[fewer["median"] <= 1.1 * none["median"]].sort_values("calls").iloc[0]
    return (
        f"Within a state error of {tolerance:g} the closed form may carry to σ = {advice.sigma_skip:.3g} (measured "
        f"{advice.measured_error:.2g}, predicted from the data {advice.predicted_error:.2g}). With {steps} "
        f"{none['solver']} steps, {harmless['calls']} calls do what {none['calls']} did (median error "
        f"{harmless['median']:.2g} against {none['median']:.2g}), and {best['calls']} calls spent below "
        f"σ = {best['sigma_skip']:.3g} bring it to {best['median']:.2g}."
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
        texts.append(f"at σ = {', '.join(f'{s:g}' for s in sorted(last['sigma']))} no such turn is seen")
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
