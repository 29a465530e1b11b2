"""Amplification: shares of groups among samples against those of the training data, by guidance rule and by class.

    runs = sweep(denoiser, {"CFG": CFG(1.0), "APG": APG(1.0)}, weights=(1.0, 2.0, 4.0), seeds=seeds, condition=labels)
    samples = {run.name: judge_groups(judge, run.run.samples, groups) for run in runs}
    amplification(samples, judge_groups(judge, training_images, groups), classes=classes, data_classes=data_classes)

All settings are of the same seeds and conditions, so that they are compared seed by seed.
"""

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike
from torch import Tensor

from scorescope.analysis.groups.judging import JudgedGroups
from scorescope.analysis.statistics.arrays import Bools, Integers, host_array
from scorescope.analysis.statistics.intervals import LEVEL, paired_share_interval, share_gap, share_interval
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.doors import checked, require_some
from scorescope.data.errors import InputError

AMPLIFICATION = Schema(
    "amplification",
    (
        Column("setting", str, "", "rule, weight or model that the samples are of"),
        Column("class", str, "", "class or prompt; all where there are none"),
        Column("group", str, "", "name"),
        Column("n", int, "", "samples"),
        Column("share", float, "1", "share of the samples by hard counts"),
        *ends("1", "exact (Clopper & Pearson)"),
        Column("data_n", int, "", "images of the data"),
        Column("data_share", float, "1", "share of the images of this class"),
        *ends("1", "exact (Clopper & Pearson)", of="data"),
        Column("difference", float, "1", "share less data_share"),
        *ends("1", "Newcombe, of independent samples and images", of="difference"),
        Column("log_odds_ratio", float, "nats", "log of the odds of the group among samples over those in the data, by "
               "conditional likelihood"),
        *ends("nats", "exact, conditional on the margins", of="log_odds_ratio"),
        Column("missing", str, "", "why log_odds_ratio is missing, and with it an end or both; empty where it is not"),
        Column("baseline", str, "", "the first setting"),
        Column("change", float, "1", "share less that of the baseline; missing for the baseline itself"),
        *ends("1", "score interval over seeds, paired (Tango)", of="change"),
    ),
)  # fmt: skip
ALL = "all"


@checked
def amplification(
    samples: Mapping[str, JudgedGroups], data: JudgedGroups, *, classes: Tensor | ArrayLike | None = None,
    data_classes: Tensor | ArrayLike | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Compare shares of groups with those of the data, setting by setting and class by class.

    Parameters
    ----------
    samples : mapping of str to JudgedGroups
        By setting, of the same seeds and conditions in the same order; the first is what the others are compared with,
        best the model without guidance.
    data : JudgedGroups
        Of training images, by the same judge.
    classes : Tensor or array, shape (n,), optional
        Class or prompt of each sample: numbers or names. Numbers are compared as such, 1 is 1.0 and not "1".
    data_classes : Tensor or array, shape (m,), optional
        Of each image, by the same numbers or names.

    Returns
    -------
    DataFrame
        `AMPLIFICATION`: a row a (setting, class, group). Intervals are of one row; of many rows, one in twenty misses.

    Raises
    ------
    InputError
        For settings of different lengths or groups, classes that do not fit, or one of which there is no image.
    """
    require_some("samples", samples)
    sizes = {len(one) for one in samples.values()}
    if len(sizes) > 1 or any(one.groups != data.groups for one in samples.values()):
        found = f"{sorted(sizes)} samples, groups {sorted({one.groups for one in (*samples.values(), data)})}"
        raise InputError("samples", found=found, expected="as many of every setting, and one list of groups")
    of = _classes("classes", classes, sizes.pop())
    of_data = _classes("data_classes", data_classes, len(data))
    unseen = [one for one in dict.fromkeys(of) if one not in of_data]
    if unseen or (classes is None) != (data_classes is None):
        found = f"{unseen} without an image"
        raise InputError("classes, data_classes", found=found, expected="both or none, with images of every class")
    baseline, codes = next(iter(samples)), {name: code for code, name in enumerate(dict.fromkeys(of))}
    own, others = (_rows_by_code([codes.get(one, -1) for one in listed], len(codes)) for listed in (of, of_data))
    of_groups, known = {setting: judged.members for setting, judged in samples.items()}, data.members
    rows = []
    for setting, members in of_groups.items():
        for name, code in codes.items():
            for place, group in enumerate(data.groups):
                inside, first = members[own[code], place], of_groups[baseline][own[code], place]
                row = _against_data(inside, known[others[code], place])
                row |= _change(inside, None if setting == baseline else first)
                rows.append({"setting": setting, "class": str(name), "group": group, "baseline": baseline, **row})
    return AMPLIFICATION.check(pd.DataFrame(rows))


def _rows_by_code(codes: list[int], count: int) -> list[Integers]:
    """Rows of each of so many codes, in their order; those of code -1 are in none."""
    listed = np.asarray(codes)
    order = np.argsort(listed, kind="stable")
    return np.split(order, np.searchsorted(listed[order], np.arange(count + 1)))[1:-1]


def _classes(argument: str, classes: Tensor | ArrayLike | None, count: int) -> list[Any]:
    """Class of each image, in types that are equal where their values are."""
    if classes is None:
        return [ALL] * count
    listed = np.atleast_1d(host_array(classes) if hasattr(classes, "__array__") else np.asarray(classes, object))
    found = [one.item() if isinstance(one, np.generic | Tensor) and one.ndim == 0 else one for one in listed.tolist()]
    if listed.shape != (count,) or not all(isinstance(one, str | numbers.Real) and one == one for one in found):
        told = f"shape {listed.shape}, {found[:4]}"
        raise InputError(argument, found=told, expected=f"({count},), one class an image, a number or a name")
    if len(set(map(str, set(found)))) < len(set(found)):
        raise InputError(argument, found="different classes of one name, as 1 and '1'", expected="numbers, or names")
    return found


def _against_data(members: Bools, data: Bools) -> dict[str, Any]:
    share, known = (one.astype(np.float64) for one in (members, data))
    (low, high), (data_low, data_high) = share_interval(share), share_interval(known)
    gap, gap_low, gap_high = share_gap(share.sum(), len(share), known.sum(), len(known))
    return {
        "n": len(share), "share": share.mean(), "low": low, "high": high, "data_n": len(known),
        "data_share": known.mean(), "data_low": data_low, "data_high": data_high, "difference": float(gap),
        "difference_low": float(gap_low), "difference_high": float(gap_high), **_log_odds_ratio(members, data),
    }  # fmt: skip


def _log_odds_ratio(members: Bools, data: Bools) -> dict[str, Any]:
    """Where a count is 0 the estimate and one end of its interval are infinite, or nothing is known: missing."""
    counts = np.array([[members.sum(), data.sum()], [(~members).sum(), (~data).sum()]])
    odds = scipy.stats.contingency.odds_ratio(counts, kind="conditional")
    within = odds.confidence_interval(LEVEL)
    with np.errstate(divide="ignore"):
        found = np.log([odds.statistic, within.low, within.high])
    kinds = ("no sample is of the group", "no image is of the group", "all samples are of the group",
             "all images are of the group")  # fmt: skip
    missing = "; ".join(kind for kind, count in zip(kinds, counts.ravel(), strict=True) if not count)
    names = ("log_odds_ratio", "log_odds_ratio_low", "log_odds_ratio_high")
    return dict(zip(names, np.where(np.isfinite(found), found, np.nan).tolist(), strict=True)) | {"missing": missing}


def _change(members: Bools, first: Bools | None) -> dict[str, float]:
    """Against the same seeds of the baseline."""
    if first is None:
        return dict.fromkeys(("change", "change_low", "change_high"), np.nan)
    differences = members.astype(np.float64) - first
    low, high = paired_share_interval(differences)
    return {"change": float(differences.mean()), "change_low": low, "change_high": high}
