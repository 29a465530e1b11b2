"""Sections of the FID report on where the distance comes from: features, images, groups and classes; and its audit."""

import math
import warnings
from dataclasses import asdict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scorescope.analysis.fid.contributions import direction_spectrum, feature_contributions, visible_share
from scorescope.analysis.fid.gaming import GAMING_AUDIT, gaming_audit
from scorescope.analysis.fid.influence_tables import CLASSES, class_table, group_table, influence_table, leave_one_out
from scorescope.analysis.fid.matching import HistogramMatch, match_histogram
from scorescope.analysis.fid.optimal_transport import FIRST_ORDER, FirstOrderWarning
from scorescope.analysis.fid.verdicts import Verdict, verdict
from scorescope.analysis.fid.weights import optimise_weights
from scorescope.reports.fid import figures, readings
from scorescope.reports.fid.study import View, pictures
from scorescope.reports.page.pages import ReportFigure, ReportTable, Section
from scorescope.reports.page.texts import as_name

EXTREMES = 10
LEFT_OUT = 256  # images that are left out one by one where n <= d
EVALUATIONS = 80
Floats = NDArray[np.float64]


def features_section(view: View) -> Section:
    """Parts of the distance by feature and by principal direction."""
    features, spectrum = feature_contributions(view.plan), direction_spectrum(view.plan).table
    tables = [
        ReportTable("contributions", features, "Parts of FD by feature; they are not negative and add up to it."),
        ReportTable("spectrum", spectrum, "Principal directions of the discrepancy.", shown=False),
    ]
    weight = view.study.extractor.weight
    if weight is not None:
        share = visible_share(view.plan, weight)
        caption = "Part of FD inside the row space of the classifier's weight, and its chance level rank / d."
        tables.append(ReportTable("visible_share", pd.DataFrame([asdict(share)]), caption))
    figure, reading = figures.contributions(features, spectrum), readings.read_contributions(features, spectrum)
    how = "Exact parts: they sum to FD."
    return Section([ReportFigure("contributions", figure, reading, how, wide=True)], tables)


def images_section(view: View) -> Section:
    """What images, groups of them and classes do to the distance."""
    n, d = view.size
    if n <= d:
        return _few_images(view)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FirstOrderWarning)  # the page says so itself
        table = influence_table(view.plan, view.fake.first.features, names=view.fake.first.names)
    values = table.sort_values("image")["influence"].to_numpy(np.float64)
    chosen = _both_ends(table)
    exact = leave_one_out(view.fake.first.features, view.plan.real, rows=[int(row) for row in chosen])
    checked = exact.merge(table[["image", "influence", "removal_change"]], on="image")
    agreement = float(np.corrcoef(checked["change"], checked["removal_change"])[0, 1])
    note = f"Correlation with the first order, -influence / n: {agreement:.4f}."
    shown = [_extremes(view, chosen, exact, note)]
    tables = [
        ReportTable("influence", table, "Influence of every image, largest first.", shown=False),
        ReportTable("left_out", checked, "The images shown, left out exactly, beside the first order.", shown=False),
    ]
    for kind, labels in view.study.groups.items():
        groups = group_table(values, labels, distance=view.distance())
        caption = f"Mean influence by {kind}, with 95 % intervals; removal_change is that of one image of the group."
        tables.append(ReportTable(f"groups_{as_name(kind)}", groups, caption))
    classes = _classes(view, values)
    rough = f"{n} images of {d} features are fewer than ten a feature: first order is rough."
    return Section([*shown, *classes.figures], [*tables, *classes.tables], text="" if n >= FIRST_ORDER * d else rough)


def _few_images(view: View) -> Section:
    """Exact leaving-out where n <= d and a first-order influence would be wrong in kind."""
    n, d = view.size
    rows = np.random.default_rng(0).permutation(n)[:LEFT_OUT]
    real = view.study.real.first.features
    table = leave_one_out(view.fake.first.features, real, rows=[int(row) for row in rows])
    table = table.sort_values("change", kind="stable").reset_index(drop=True)
    chosen = _both_ends(table)
    exact = table.set_index("image").loc[list(chosen)].reset_index()
    return Section(
        text=f"{n} images of {d} features: first-order influences are wrong in kind at n <= d, so {len(rows)} images, "
        "drawn at random, were left out one by one.",
        figures=[_extremes(view, chosen, exact)],
        tables=[ReportTable("left_out", table, "FD without each image, exact.", shown=False)],
    )


def _both_ends(table: pd.DataFrame) -> NDArray[np.int64]:
    """The images at the top of a sorted table, and those at its bottom, the last one first."""
    ends: NDArray[np.int64] = np.r_[table["image"].head(EXTREMES), table["image"].tail(EXTREMES)[::-1]].astype(np.int64)
    return ends


def _extremes(view: View, chosen: NDArray[np.int64], exact: pd.DataFrame, note: str = "") -> ReportFigure:
    """The images at both ends, each with what leaving it out does to the distance; `exact` in their order."""
    shown, half, values = pictures(view.fake.source, chosen), len(chosen) // 2, exact["change"].to_numpy(np.float64)
    figure = figures.extremes(shown[:half], shown[half:], values[:half].tolist(), values[half:].tolist())
    reading = readings.read_extremes(values, float((exact["fd_without"] - exact["change"]).iloc[0]))
    how = f"Numbers: change of FD when the image is left out, exactly. {note}".strip()
    return ReportFigure("extremes", figure, reading, how, wide=True)


def _classes(view: View, values: Floats) -> Section:
    """Gaps of histograms and influence by class, where the feature network is a classifier."""
    extractor = view.study.extractor
    fake, real = view.fake.first.top1, view.study.real.first.top1
    if extractor.weight is None or fake is None or real is None:
        return Section()
    table = class_table(view.plan, values, fake, real, extractor.weight, names=extractor.classes or None)
    how = "Top-1 classes of the feature network; 95 % intervals."
    meaning = "; ".join(f"{c.name}: {c.meaning}" for c in CLASSES.columns[5:10])
    return Section(
        [ReportFigure("classes", figures.class_gaps(table), readings.read_classes(table), how, wide=True)],
        [ReportTable("classes", table, meaning)],
    )


def audit_section(view: View) -> Section:
    """How far the distance falls by choosing among the images, none of which is changed."""
    study, fake = view.study, view.fake
    n, d = view.size
    if n <= d:
        return Section(text=f"No audit: {n} candidates of {d} features; weights need more candidates than features.")
    found = optimise_weights(
        fake.first.features, study.real.first.features, evaluations=EVALUATIONS, progress=view.progress
    )
    matches = _matches(view)
    arms: dict[str, Floats | HistogramMatch] = {f"top-{size} matched": match for size, match in matches.items()}
    arms["weights optimised"] = found.weights
    spare = None if study.spare is None else study.spare.pair
    table = gaming_audit(fake.pair, study.real.pair, arms, spare=spare, spaces=study.spaces)
    said = _verdicts(view, table, arms)
    notes = [
        f"top-{size}: rejection keeps {match.rate:.0%}, {match.unreachable:.1%} out of reach"
        for size, match in matches.items()
    ]
    caption = (
        "Labels: change against the random choice; below each arm its number of images and that of the reference. "
        "Matched draws by rejection, optimised ones with replacement; 95 % intervals over draws. "
        f"Effective size of the optimised weights: {found.effective_size:.0f} of {n}. " + "; ".join(notes) + "."
    )
    return Section(
        text=" ".join(v.text for v in said[:-1]),
        figures=[ReportFigure("audit", figures.audit(table, study.spaces), said[-1].text, caption, wide=True)],
        tables=[
            ReportTable(
                "audit",
                table,
                "Every arm and metric: " + "; ".join(f"{c.name}: {c.meaning}" for c in GAMING_AUDIT.columns[6:]),
            ),
            ReportTable("optimisation", found.history, "Loss at each evaluation.", shown=False),
        ],
    )


def _matches(view: View) -> dict[int, HistogramMatch]:
    """Choices of images with the real set's histogram of top-1 and top-2 classes, where there are classes."""
    fake, real = view.fake.first.logits, view.study.real.first.logits
    if fake is None or real is None:
        return {}
    return {
        size: match_histogram(*(np.argsort(-logits, axis=1)[:, :size] for logits in (fake, real))) for size in (1, 2)
    }


def _verdicts(view: View, table: pd.DataFrame, arms: dict[str, Floats | HistogramMatch]) -> list[Verdict]:
    """What each arm says, against the best of the other sets at the same number of images."""
    study, at_size, name = view.study, math.nan, ""
    others = [item for item in study.fakes if item is not view.fake]
    if others:
        best = min(others, key=view.distance)
        plain = gaming_audit(best.pair, study.real.pair, {}, spaces=study.spaces, size=int(table["n"].max()))
        row = plain[plain["metric"] == "FD"].iloc[0]
        if row["n"] == table["n"].max():  # another number of images has another bias
            at_size, name = float(row["value"]), best.name
    causes = {
        arm: "class statistics alone" if isinstance(how, HistogramMatch) else "weights on all features"
        for arm, how in arms.items()
    }
    return [verdict(table, arm, other_value=at_size, other_name=name, cause=cause) for arm, cause in causes.items()]
