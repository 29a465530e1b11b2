"""K denoisers at the same noisy points: whose loss is lowest at which noise level, corrected for all that is looked at.

    bank = Bank(images, sigmas=log_snr_grid(-6, 6, 13), draws=2)
    found = denoiser_changes(bank, {"before": before, "after": after}, condition=labels)
    lowest(found)                                  # one row a noise level: the best, and what it is not told from

EMA lengths, a weak model beside the one that it is to guide, experts of a range of noise levels, a student beside its
teacher: no path is sampled, so a difference at one noise level is not carried to the others.
"""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from scorescope.analysis.statistics.simultaneous import COLUMNS, paired_means
from scorescope.analysis.statistics.tables import Column, Schema, ends, require_columns
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.bank import Arm, Bank, Comparison, compare_arms
from scorescope.probes.models.denoiser import Condition, Denoiser

DENOISER_CHANGES = Schema(
    "denoiser_changes",
    (
        Column("first", str, "", "denoiser that is compared with"),
        Column("second", str, "", "denoiser that is compared"),
        Column("sigma", float, "data", "noise level"),
        Column("loss", float, "1", "loss of the first there, |noise - eps|^2, summed over an image"),
        *COLUMNS,
        Column("distance", float, "1", "squared distance of the two predictions in eps space"),
        Column("shown", bool, "", "the interval leaves 0 out: negative, the second has the lower loss"),
    ),
)

ABOVE_LOWEST = Schema(
    "above_lowest",
    (
        Column("denoiser", str, "", "denoiser"),
        Column("sigma", float, "data", "noise level"),
        Column("loss", float, "1", "its loss there, |noise - eps|^2, summed over an image"),
        Column("lowest", float, "1", "the lowest loss there"),
        Column("value", float, "1", "its loss less the lowest; 0 of the lowest itself, which has no interval"),
        *ends("1", "that holds together with those of all pairs and noise levels"),
        Column("shown", bool, "", "the interval is above 0: shown to be worse than the lowest"),
        Column("missing", str, "", "why there is no interval; empty where there is one"),
    ),
)


@checked
def denoiser_changes(
    bank: Bank,
    denoisers: Mapping[str, Denoiser],
    *,
    condition: Condition = None,
    draws: int = 2000,
    seed: int = 0,
    batch: int = 256,
    progress: bool = False,
) -> pd.DataFrame:
    """Paired differences of loss of every two denoisers at every noise level of a bank.

    Parameters
    ----------
    bank : Bank
        Images that none of them was trained on, noise levels, draws.
    denoisers : mapping of str to Denoiser
        Two or more.
    condition : Condition, optional
        One row an image of the bank, the same for all of them.
    draws, seed
        Of the drawings that the intervals rest on.
    batch, progress
        See `compare_arms`.

    Returns
    -------
    DataFrame
        Columns declared in `DENOISER_CHANGES`; `value` is the loss of the second less that of the first.

    Raises
    ------
    InputError
        For fewer than two denoisers, and what `compare_arms` refuses.
    """
    if len(denoisers) < 2:
        raise InputError("denoisers", found=f"{len(denoisers)} of them", expected="at least two")
    arms = [Arm(name, denoiser, condition) for name, denoiser in denoisers.items()]
    found = compare_arms(bank, arms, pairs=list(combinations(denoisers, 2)), batch=batch, progress=progress)
    return changes_in(found, draws=draws, seed=seed)


def changes_in(found: Comparison, *, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """The same of a comparison of all pairs that was made already."""
    pairs = found.pairs
    differences = np.concatenate([found.difference(second, first) for first, second in pairs], axis=1)
    keys = [
        {"first": first, "second": second, "sigma": sigma, "loss": loss, "distance": distance}
        for first, second in pairs
        for sigma, loss, distance in zip(
            found.sigmas, found.loss(first).mean(0), found.distance(first, second).mean(0), strict=True
        )
    ]
    table = pd.concat([pd.DataFrame(keys), paired_means(differences, draws=draws, seed=seed)], axis=1)
    return DENOISER_CHANGES.check(table.assign(shown=(table["low"] > 0) | (table["high"] < 0)))


@checked
def lowest(table: pd.DataFrame) -> pd.DataFrame:
    """Whose loss is lowest at each noise level.

    Parameters
    ----------
    table : DataFrame
        From `denoiser_changes`.

    Returns
    -------
    DataFrame
        One row a noise level: `sigma`, `lowest` (the denoiser of the least mean loss), `also` (those that are not shown
        to be worse there, separated by commas; empty where it is shown to be the best).
    """
    rows = []
    for sigma, group in above_lowest(table).groupby("sigma", sort=False):
        best = group["denoiser"].iloc[int(group["value"].to_numpy().argmin())]
        also = group.loc[~group["shown"] & (group["denoiser"] != best), "denoiser"]
        rows.append((sigma, best, ", ".join(also)))
    return pd.DataFrame(rows, columns=["sigma", "lowest", "also"])


@checked
def above_lowest(table: pd.DataFrame) -> pd.DataFrame:
    """How far the loss of each denoiser is above the lowest of all, at each noise level.

    Which one is the lowest is chosen from the same data; the intervals hold all the same, since they hold together for
    every two of them.

    Parameters
    ----------
    table : DataFrame
        From `denoiser_changes`.

    Returns
    -------
    DataFrame
        Columns declared in `ABOVE_LOWEST`.
    """
    names = ["first", "second", "sigma", "value", "low", "high", "loss", "shown", "missing"]
    require_columns("table", table, names)
    parts = [_above(group) for _, group in table.groupby("sigma", sort=False)]
    return ABOVE_LOWEST.check(pd.concat(parts))


def _above(group: pd.DataFrame) -> pd.DataFrame:
    """The rows of one noise level."""
    losses = dict(zip(group["first"], group["loss"], strict=True))
    losses |= {row.second: losses[row.first] + row.value for row in group.itertuples()}
    best = min(losses, key=lambda name: losses[name])
    rows: list[dict[str, object]] = [{"denoiser": best, "value": 0.0, "shown": False, "missing": "the lowest"}]
    for row in group[(group["first"] == best) | (group["second"] == best)].itertuples():
        turned = row.second == best  # then the pair's difference is the lowest less the other
        value, low, high = (0 - row.value, -row.high, -row.low) if turned else (row.value, row.low, row.high)
        ours = {"denoiser": row.first if turned else row.second, "value": value, "low": low, "high": high}
        rows.append({**ours, "shown": row.shown, "missing": row.missing})
    found = pd.DataFrame(rows, columns=["denoiser", "value", "low", "high", "shown", "missing"])
    return found.assign(sigma=group["sigma"].iloc[0], lowest=losses[best], loss=found["denoiser"].map(losses)).astype(
        {"low": float, "high": float, "shown": bool}
    )
