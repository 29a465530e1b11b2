"""The few numbers of each report that a table over checkpoints holds, each from a declared table, and one curve.

    headlines(read_made("report/gaussian"))       # quantity, value, low, high, n, table, missing
    curve(read_made("report/gaussian"))           # line, x, value, low, high; None where it has none

A number that a report has not is missing, with the reason; none is made up here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from scorescope.analysis.gaussian.skip import FEWER_CALLS
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.reports.gaussian.readings import fewest_calls
from scorescope.reports.studies.made import MadeReport

Of = Callable[[pd.DataFrame], pd.DataFrame]
COLUMNS = ("quantity", "value", "low", "high", "n", "table", "missing")


@displayed
@dataclass(frozen=True)
class Headline:
    """One number of a report: of the one row of a table in which columns are as `where` says.

    Attributes
    ----------
    quantity : str
        What it is, with its unit.
    table : str
        The table that it is from.
    value, low, high : str
        Columns of the number and its 95 % interval; empty where it has none.
    where : mapping
        What other columns are.
    of : callable
        What the rows are taken of.
    each : str
        A column with names: one number for each of them.
    """

    quantity: str
    table: str
    value: str
    low: str = ""
    high: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    of: Of = lambda table: table
    each: str = ""


@displayed
@dataclass(frozen=True)
class Curve:
    """One curve of a report, or one for each name in a column.

    Attributes
    ----------
    table : str
        The table that it is from.
    x, value, low, high : str
        Columns; without an interval the last two are empty.
    x_label, label : str
        Of the axes.
    where : mapping
        What other columns are.
    line : str
        A column with names.
    of : callable
        What the rows are taken of.
    yscale : str
        Of the axis.
    """

    table: str
    x: str
    value: str
    x_label: str
    label: str
    low: str = ""
    high: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    line: str = ""
    of: Of = lambda table: table
    yscale: str = "linear"


def _saved(skips: pd.DataFrame) -> pd.DataFrame:
    """Calls of a sample that the closed form is shown to save, by the criterion of the report's own sentence."""
    rows = skips[(skips["steps"] == skips["steps"].max()) & (skips["solver"] == skips["solver"].iloc[0])]
    rows = rows[rows["spent"] == FEWER_CALLS]
    row, as_good = fewest_calls(rows[rows["sigma_skip"] < rows["sigma_skip"].max()])
    return pd.DataFrame([row]).head(int(as_good)).assign(calls=lambda found: rows["calls"].max() - found["calls"])


def _steerable(screened: pd.DataFrame) -> pd.DataFrame:
    """How many attributes a screening shows to be steerable at some site, of how many."""
    steerable = screened.loc[screened["verdict"] == "steerable", "attribute"].nunique()
    return pd.DataFrame({"value": [float(steerable)], "n": [screened["attribute"].nunique()]})


def _steering(judged: pd.DataFrame) -> pd.DataFrame:
    """How many of the chosen features are judged to steer what they read, of how many."""
    steers = (judged["verdict"] == "steerable") & judged["within_budget"]
    return pd.DataFrame({"value": [float(steers.sum())], "n": [len(judged)]})


def _worst(sheet: pd.DataFrame) -> pd.DataFrame:
    """By site, the level at which replacing it by its reconstruction costs most of what leaving it out does."""
    rows = sheet[(sheet["quantity"] == "share_of_zero") & sheet["value"].notna()]
    return rows.loc[rows.groupby("site", sort=False)["value"].idxmax()]


def _looked_into(companions: pd.DataFrame) -> pd.DataFrame:
    """Rows of the set that the report looks into, the last, in the judged space, the first."""
    last, judged = companions["set"].iloc[-1], companions["space"].iloc[0]
    rows: pd.DataFrame = companions[(companions["set"] == last) & (companions["space"] == judged)]
    return rows


def _of_one_rule(steps: pd.DataFrame) -> pd.DataFrame:
    """First call of each step of a recorded run, where there is one rule and weight."""
    rows: pd.DataFrame = steps[steps["call"] == 0]
    return rows if len(rows.drop_duplicates(["rule", "weight"])) == 1 else rows.head(0)


def _of_cfg(metric: str, words: str) -> Headline:
    where = {"setting": "CFG, w = 4", "metric": metric}
    return Headline(f"{words}, CFG at w = 4", "sweep", "value", "low", "high", where)


def _of_images(quantity: str, words: str) -> Headline:
    return Headline(words, "images", "mean", "low", "high", {"rule": "pipeline", "quantity": quantity})


def _unexplained(sigma: float) -> Headline:
    where = {"query": "held_out", "approximation": "gaussian", "metric": "centred", "sigma": sigma}
    ends = ("ratio_of_sums", "ratio_of_sums_low", "ratio_of_sums_high")
    return Headline(f"share that the Gaussian leaves unexplained at σ = {sigma:g}", "scores", *ends, where)


def _of_walk(schedule: str, words: str) -> Headline:
    ends = ("typical_ratio", "typical_ratio_low", "typical_ratio_high")
    return Headline(words, "schedules", *ends, {"schedule": schedule})


def _of_set(metric: str) -> Headline:
    return Headline(metric, "companions", "value", "low", "high", {"metric": metric}, _looked_into)


OF_MODELS = (
    _of_cfg("score", "class agreement"),
    _of_cfg("diversity", "diversity (features)"),
    _of_cfg("overshoot_share", "overshoot share"),
    _of_cfg("frechet_debiased", "Frechet distance without bias (features²)"),
    Headline("lowest noise level to guide at (σ)", "suggested_interval", "low", "low_low", "low_high"),
    Headline("highest noise level to guide at (σ)", "suggested_interval", "high", "high_low", "high_high"),
)
OF_PIPELINES = (
    _of_images("saturation", "saturation of its images"),
    _of_images("contrast", "contrast of its images"),
    _of_images("overshoot_share", "overshoot share of its images"),
)
HEADLINES: dict[str, tuple[Headline, ...]] = {
    "gaussian": (
        Headline("σ that the closed form carries to", "suggestion", "sigma_skip"),
        Headline("share of the state unexplained there", "suggestion", "measured_error", "low", "high"),
        Headline("calls saved a sample", "skips", "calls", of=_saved),
        Headline("share of end samples unexplained", "ends", "ratio_of_sums", "low", "high", {"what": "closed form"}),
        _unexplained(5.0),
        _unexplained(1.3),
    ),
    "fid": tuple(map(_of_set, ("FD", "FD without bias", "KID x 1000", "precision", "recall"))),
    "directions": (
        Headline("attributes that a screening finds steerable", "steer_map", "value", of=_steerable),
        Headline("accuracy of a linear probe", "probes_final", "value", "low", "high", each="attribute"),
        Headline("samples that show", "agreement", "agreement", "low", "high", {"what": "samples"}, each="attribute"),
    ),
    "trajectories": (
        _of_walk("tuned", "tuned levels over ρ = 7, error at equal calls"),
        _of_walk("AYS, stretched", "AYS levels over ρ = 7, error at equal calls"),
        Headline(
            "length of the prediction's paths over their chords",
            "path_shape",
            "mean",
            "low",
            "high",
            {"quantity": "arc", "curve": "denoised"},
        ),
        Headline(
            "σ at which half of the way is left", "decision_levels", "sigma", "low", "high", {"quantity": "whole"}
        ),
    ),
    "inside": (
        Headline("chosen features that steer what they read", "features", "value", of=_steering),
        Headline(
            "what a site's sparse features lose of it, at worst",
            "sparse_sheet",
            "value",
            "low",
            "high",
            of=_worst,
            each="site",
        ),
    ),
}
"""By report; of guidance those of a model, or of a pipeline."""

SIGMA = "noise level σ"
NORM = "update norm (units of data)"
CURVES: dict[str, Curve] = {
    "gaussian": Curve(
        "scores", "sigma", "ratio_of_sums", SIGMA, "share unexplained", "ratio_of_sums_low", "ratio_of_sums_high",
        {"query": "held_out", "metric": "centred"}, "approximation", lambda rows: rows, "log",
    ),
    "fid": Curve("spectrum", "direction", "cumulative", "direction, largest first", "cumulative share of FD"),
    "directions": Curve(
        "attribute_loss", "sigma", "excess", SIGMA, "excess error of the attribute", "excess_low", "excess_high",
        {"metric": "attribute score"}, "attribute",
    ),
    "inside": Curve(
        "sparse_sheet", "sigma", "value", SIGMA, "unexplained share of a site's variance", "low", "high",
        {"quantity": "fvu"}, "site",
    ),
    "trajectories": Curve(
        "step_errors", "sigma", "value", SIGMA, "what a step's error becomes (units of data)", "low", "high",
        {"quantity": "at_end"}, "solver", lambda rows: rows, "log",
    ),
}  # fmt: skip
OF_CFG = Curve(
    "steps", "sigma", "mean", SIGMA, f"CFG: {NORM}", "low", "high",
    {"rule": "CFG", "quantity": "update_norm", "call": 0}, "weight", lambda rows: rows, "log",
)  # fmt: skip
OF_RUNS = Curve(
    "steps", "sigma", "mean", SIGMA, NORM, "low", "high", {"quantity": "update_norm"}, "", _of_one_rule, "log"
)  # fmt: skip


@checked
def headlines(made: MadeReport) -> pd.DataFrame:
    """The numbers of one report.

    Returns
    -------
    DataFrame
        One row a quantity: `value`, its 95 % interval `low` to `high` and the number of units `n` (NaN where there is
        none), the `table` it is from, and why it is `missing`.
    """
    rows = [row for asked in _asked(made) for row in _rows(made, asked)]
    return pd.DataFrame(rows, columns=COLUMNS)


@checked
def curve(made: MadeReport) -> pd.DataFrame | None:
    """The curve of one report, as columns `line`, `x`, `value`, `low`, `high`; None where it has none."""
    asked = curve_of(made)
    if asked is None or asked.table not in made.tables:
        return None
    try:
        rows = _chosen(asked.of(made.table(asked.table)), asked.where)
    except (KeyError, IndexError, InputError):  # columns of another version, no rows, or a damaged file
        return None
    ends = {name: rows[column] if column else np.nan for name, column in (("low", asked.low), ("high", asked.high))}
    lines = [_line(asked.line, name) for name in rows[asked.line]] if asked.line else ""
    found = pd.DataFrame({"line": lines, "x": rows[asked.x], "value": rows[asked.value], **ends})
    return found[np.isfinite(found["value"])] if len(found) else None


def _line(column: str, name: Any) -> str:
    return f"{column} {name:g}" if isinstance(name, float) else str(name)


def curve_of(made: MadeReport) -> Curve | None:
    """Which curve that is."""
    name = made.facts["report"]
    return (OF_CFG if _is_of_model(made) else OF_RUNS) if name == "guidance" else CURVES.get(name)


def _asked(made: MadeReport) -> tuple[Headline, ...]:
    name = made.facts["report"]
    return (OF_MODELS if _is_of_model(made) else OF_PIPELINES) if name == "guidance" else HEADLINES.get(name, ())


def _is_of_model(made: MadeReport) -> bool:
    return "model" in made.facts


def _rows(made: MadeReport, asked: Headline) -> Iterator[dict[str, Any]]:
    if asked.table not in made.tables:
        yield _missing(asked, f"the report has no table {asked.table}")
        return
    try:
        rows = _chosen(asked.of(made.table(asked.table)), asked.where)
    except (KeyError, IndexError) as error:  # columns of another version, or no rows
        yield _missing(asked, f"its table {asked.table} is another ({type(error).__name__}: {error})")
        return
    except InputError as error:
        yield _missing(asked, str(error))
        return
    if rows.empty:
        yield _missing(asked, f"its table {asked.table} has no such row")
    elif not asked.each and len(rows) > 1:
        yield _missing(asked, f"its table {asked.table} has {len(rows)} such rows")
    else:
        yield from (_found(asked, row) for row in rows.to_dict("records"))


def _found(asked: Headline, row: Mapping[Any, Any]) -> dict[str, Any]:
    value = float(row[asked.value])
    name = f"{asked.quantity}: {row[asked.each]}" if asked.each else asked.quantity
    ends = {
        part: float(row[column]) if column else np.nan for part, column in (("low", asked.low), ("high", asked.high))
    }
    why = str(row.get("missing") or f"its table {asked.table} has no number there")
    n = float(row.get("n", row.get("n_fake", np.nan)))
    return {
        "quantity": name,
        "value": value,
        **ends,
        "n": n,
        "table": asked.table,
        "missing": "" if np.isfinite(value) else why,
    }


def _missing(asked: Headline, why: str) -> dict[str, Any]:
    empty = dict.fromkeys(("value", "low", "high", "n"), np.nan)
    return {"quantity": asked.quantity, **empty, "table": asked.table, "missing": why}


def _chosen(table: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    for column, value in where.items():
        table = table[table[column] == value]
    return table
