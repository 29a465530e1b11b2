"""The FID report: where a Frechet distance comes from, and how far it can be trusted.

build(Path("report/fid"), command="...")                       # shipped digits, and the planted fringe
study = folder_study(Path("real"), Path("fake"), extractor)
build(Path("report/fid"), study=study, command="...")
"""

import math
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scorescope.analysis.fid.companions import COMPANIONS, companion_table
from scorescope.analysis.fid.contributions import direction_spectrum, feature_contributions, visible_share
from scorescope.analysis.fid.gaming import GAMING_AUDIT, gaming_audit, verdict
from scorescope.analysis.fid.influence_tables import CLASSES, class_table, group_table, influence_table, leave_one_out
from scorescope.analysis.fid.kernels import cmmd
from scorescope.analysis.fid.matching import HistogramMatch, match_histogram
from scorescope.analysis.fid.optimal_transport import FIRST_ORDER, FirstOrderWarning
from scorescope.analysis.fid.optimal_transport import transport as find_transport
from scorescope.analysis.fid.weights import optimise_weights
from scorescope.probes.features.extraction import extract_spatial
from scorescope.probes.features.extractors import spatial_readings
from scorescope.reports.fid import figures as fid_figures
from scorescope.reports.fid.planted import planted_section
from scorescope.reports.fid.regions import maps_section, masks_section, occlusion_section
from scorescope.reports.fid.study import ImageSet, Study, View, pictures, reading_table, shipped_study
from scorescope.reports.page.pages import Outcome, ReportFigure, ReportTable, ReportWriter, Section

FULL, QUICK = 800, 340  # samples a weight: more than ten for each of the 32 features
PLANTED_FULL, PLANTED_QUICK = 3000, 1200
EXTREMES = 10
OTHER_REAL = "other real"
LEFT_OUT = 256  # images that are left out one by one where n <= d
EVALUATIONS = 80
Floats = NDArray[np.float64]


def build(
    out: Path,
    *,
    command: str,
    study: Study | None = None,
    quick: bool = False,
    count: int | None = None,
    sfid: bool | None = None,
    occlusion: bool | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Outcome:
    """Compare, take apart, audit and write the FID report.

    Parameters
    ----------
    out : Path
        Folder of the report.
    command : str
        What the manifest says made it.
    study : Study, optional
        What to compare; by default the shipped digits at several guidance weights, with the planted demonstration.
    quick : bool
        340 samples a weight in place of 800, and fewer planted scenes: wider intervals, nothing else changed.
    count : int, optional
        Samples a weight, in place of both.
    sfid : bool, optional
        Add sFID by every reading of the network, at one more pass over the images; by default for the shipped digits.
    occlusion : bool, optional
        Add occlusion maps, at about 60 passes over the images shown; by default for the shipped digits.
    device : str
        Where the shipped model samples.
    progress : bool
        Show progress bars.

    Returns
    -------
    Outcome
        Its status says whether a part is missing.
    """
    shipped = study is None
    sfid, occlusion = (shipped if asked is None else asked for asked in (sfid, occlusion))
    study = study or shipped_study(count or (QUICK if quick else FULL), device=device, progress=progress)
    manifest = {
        **study.facts, "feature_space": study.extractor.name, "preprocessing": study.extractor.preprocessing,
        "second_space": study.second.name, "device": device,
        "images": {item.name: len(item.first.features) for item in [study.real, *study.fakes]},
    }  # fmt: skip
    question = "Which features, classes, regions and images does this FID difference come from, and can it be trusted?"
    with ReportWriter(
        out, name="fid", title=study.title, question=question, command=command, manifest=manifest
    ) as page:
        if shipped:
            scenes = PLANTED_QUICK if quick else PLANTED_FULL
            page.section(
                "planted", "A planted fringe: the answer is known", lambda: planted_section(scenes, progress=progress)
            )
        view = View(study, study.fakes[-1], find_transport(study.fakes[-1].first.features, study.real.first.features))
        page.section("distances", "Distances, companions, floors", lambda: _distances(study))
        if sfid:
            page.section("sfid", "sFID: where things are", lambda: _spatial(study, progress))
        page.section("features", f"Where the distance comes from: {view.name}", lambda: _features(view))
        page.section("images", f"Images, groups and classes: {view.name}", lambda: _images(view))
        page.section("maps", f"Regions: {view.name}", lambda: maps_section(view))
        if study.masks:
            page.section("masks", f"Masks: {view.name}", lambda: masks_section(view, progress))
        if occlusion:
            page.section("occlusion", f"Occlusion: {view.name}", lambda: occlusion_section(view))
        page.section("audit", f"Gaming audit: {view.name}", lambda: _audit(view, progress))
        page.section("reading", "What was read", lambda: _reading(study))
    assert page.outcome is not None  # set on leaving the block
    return page.outcome


def _distances(study: Study) -> Section:
    parts = []
    for item in study.fakes:
        bias = None if study.extractor.head is None else study.extractor.head.bias.detach().cpu().numpy()
        first = companion_table(
            item.first.features, study.real.first.features, space=study.spaces[0], logits=item.first.logits, bias=bias
        )
        second = companion_table(item.second.features, study.real.second.features, space=study.spaces[1])
        if study.second.name == "CLIP":
            second = pd.concat([second, _cmmd_row(second, item, study)], ignore_index=True)
        parts.append(pd.concat([first, second], ignore_index=True).assign(set=item.name))
    table = pd.concat(parts, ignore_index=True)
    table = table[["set", *COMPANIONS.names]]
    frechet = table[table["metric"] == "FD"].reset_index(drop=True)
    first = frechet[frechet["space"] == study.spaces[0]]
    best = first.sort_values("value").iloc[0]
    other = frechet[frechet["space"] == study.spaces[1]].sort_values("value").iloc[0]
    agreed = other["set"] == best["set"]
    says = "has the smallest distance" if len(first) > 1 else "has the distance"
    text = f"{best['set']} {says} {best['value']:.3g}{_interval(best)}"
    text += (
        ""
        if math.isnan(best["floor"])
        else f", {best['value'] / best['floor']:.1f} times the floor of two Gaussian sets"
    )
    if len(first) > 1:
        text += f"; the second space {'agrees' if agreed else 'prefers another set'}"
    note = "Bars: 95 % intervals from influences. The floor is that of Gaussian features with the real covariance."
    return Section(
        figures=[ReportFigure("distances", fid_figures.distances(frechet), text + ".", note, wide=True)],
        tables=[
            ReportTable("companions", table, "Every metric of every set, with 95 % intervals."),
            ReportTable("companion_columns", COMPANIONS.describe(), "Columns of the table above.", shown=False),
        ],
    )


def _spatial(study: Study, progress: bool) -> Section:
    """sFID of every set by each reading of the network."""
    readings = spatial_readings(study.extractor)
    sets = [study.real, *study.fakes, *([study.spare] if study.spare else [])]
    found = {  # what cannot be read was an error, or left out, before
        item.name: extract_spatial(item.source, study.extractor, skip_bad=True, progress=progress) for item in sets
    }
    real = found.pop(study.real.name)
    if study.spare is not None:  # a floor that is measured, at the size of the generated sets
        count, size = len(study.spare.first.names), len(study.fakes[-1].first.names)
        chosen = np.random.default_rng(0).permutation(count)[:size]  # a source may be sorted by class
        found[OTHER_REAL] = {reading: rows[chosen] for reading, rows in found.pop(study.spare.name).items()}
    parts = [
        companion_table(rows[reading], real[reading], space=reading, companions=False).assign(metric="sFID", set=name)
        for reading in readings
        for name, rows in found.items()
    ]
    table = pd.concat(parts, ignore_index=True)[["set", *COMPANIONS.names]]
    generated = table[table["set"] != OTHER_REAL]
    best = [generated[generated["space"] == reading].sort_values("value").iloc[0] for reading in readings]
    text = "; ".join(
        f"sFID ({row['space']}) is {row['value']:.3g}{_interval(row)} for {row['set']}"
        + (", the smallest" if len(study.fakes) > 1 else "")
        for row in best
    )
    other = table[table["set"] == OTHER_REAL]
    if len(other):
        text += f"; other real images of that number have {other['value'].iloc[0]:.3g}"
    meaning = "; ".join(f"{name}: {what}" for name, what in readings.items())
    note = "Values of different readings, and of different networks, cannot be compared."
    figure = fid_figures.distances(table, "sFID")
    return Section(
        text="FD on features that keep their place in the image, where FID averages over places.",
        figures=[ReportFigure("sfid", figure, text + ".", f"{meaning}. {note}", wide=len(readings) > 1)],
        tables=[ReportTable("sfid", table, "sFID by reading.")],
    )


def _cmmd_row(table: pd.DataFrame, item: ImageSet, study: Study) -> pd.DataFrame:
    value = cmmd(item.second.features, study.real.second.features)
    note = "RBF of width 10 on unit vectors, times 1000, biased as published"
    return table.head(1).assign(metric="CMMD", value=value, low=math.nan, high=math.nan, floor=math.nan, note=note)


def _features(view: View) -> Section:
    features, spectrum = feature_contributions(view.plan), direction_spectrum(view.plan)
    table = spectrum.table
    half = int((table["cumulative"] < 0.5).sum()) + 1
    mean_share = features["mean_part"].sum() / features["contribution"].sum()
    text = (
        f"The {min(5, len(features))} largest features hold {features['share'].head(5).sum():.0%} of the distance and "
        f"{half} principal direction{'s' if half > 1 else ''} half of it; {mean_share:.0%} is a gap of means."
    )
    tables = [
        ReportTable("contributions", features, "Parts of FD by feature; they are not negative and add up to it."),
        ReportTable("spectrum", table, "Principal directions of the discrepancy.", shown=False),
    ]
    weight = view.study.extractor.weight
    if weight is not None:
        share = visible_share(view.plan, weight)
        caption = "Part of FD inside the row space of the classifier's weight, and its chance level rank / d."
        tables.append(ReportTable("visible_share", pd.DataFrame([asdict(share)]), caption))
    figure = ReportFigure(
        "contributions", fid_figures.contributions(features, table), text, "Exact parts: they sum to FD.", wide=True
    )
    return Section(figures=[figure], tables=tables)


def _images(view: View) -> Section:
    n, d = view.size
    if n <= d:
        return _few_images(view)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FirstOrderWarning)  # the page says so itself
        table = influence_table(view.plan, view.fake.first.features, names=view.fake.first.names)
    values = table.sort_values("image")["influence"].to_numpy(np.float64)
    chosen = np.r_[table["image"].head(EXTREMES), table["image"].tail(EXTREMES)[::-1]].astype(np.int64)
    exact = leave_one_out(view.fake.first.features, view.plan.real, rows=[int(row) for row in chosen])
    checked = exact.merge(table[["image", "influence", "removal_change"]], on="image")
    agreement = float(np.corrcoef(checked["change"], checked["removal_change"])[0, 1])
    figures = [_extremes(view, chosen, values[chosen], f"Leaving these out exactly correlates {agreement:.4f}.")]
    tables = [
        ReportTable("influence", table, "Influence of every image, largest first.", shown=False),
        ReportTable("left_out", checked, "The images shown, left out exactly, beside the first order.", shown=False),
    ]
    for kind, labels in view.study.groups.items():
        caption = f"Mean influence by {kind}, with 95 % intervals."
        groups = group_table(values, labels, distance=view.distance())
        tables.append(ReportTable(f"groups_{kind.replace(' ', '_')}", groups, caption))
    classes = _classes(view, values)
    if classes is not None:
        figures.append(classes[0])
        tables.append(classes[1])
    text = (
        ""
        if n >= FIRST_ORDER * d
        else f"{n} images of {d} features are fewer than ten a feature: first order is rough."
    )
    return Section(text=text, figures=figures, tables=tables)


def _few_images(view: View) -> Section:
    """Exact leaving-out where n <= d and a first-order influence would be wrong in kind."""
    n, d = view.size
    rows = np.random.default_rng(0).permutation(n)[:LEFT_OUT]
    real = view.study.real.first.features
    table = leave_one_out(view.fake.first.features, real, rows=[int(row) for row in rows])
    table = table.sort_values("change", kind="stable").reset_index(drop=True)
    chosen = np.r_[table["image"].head(EXTREMES), table["image"].tail(EXTREMES)[::-1]].astype(np.int64)
    values = -table.set_index("image")["change"].loc[chosen].to_numpy(np.float64)
    note = "Numbers: how much higher FD is with the image than without it, exactly."
    return Section(
        text=f"{n} images of {d} features: first-order influences are wrong in kind at n <= d, so {len(rows)} images, "
        "drawn at random, were left out one by one.",
        figures=[_extremes(view, chosen, values, note)],
        tables=[ReportTable("left_out", table, "FD without each image, exact.", shown=False)],
    )


def _extremes(view: View, chosen: NDArray[np.int64], values: Floats, note: str) -> ReportFigure:
    shown = pictures(view.fake.source, chosen)
    half = len(chosen) // 2
    figure = fid_figures.extremes(shown[:half], shown[half:], values[:half].tolist(), values[half:].tolist())
    text = f"The image that raises the distance most has {values[0]:+.3g}, the one that lowers it most "
    text += f"{values[half]:+.3g}."
    return ReportFigure("extremes", figure, text, f"Influence in units of FD. {note}", wide=True)


def _classes(view: View, values: Floats) -> tuple[ReportFigure, ReportTable] | None:
    extractor = view.study.extractor
    fake, real = view.fake.first.top1, view.study.real.first.top1
    if extractor.weight is None or fake is None or real is None:
        return None
    table = class_table(view.plan, values, fake, real, extractor.weight, names=extractor.classes or None)
    first = table.iloc[0]
    clear = "clear of zero" if first["gap_low"] * first["gap_high"] > 0 else "not clear of zero"
    text = (
        f"The largest histogram gap is that of class {first['class_name']}: {first['gap']:+.1%} "
        f"({first['gap_low']:+.1%} to {first['gap_high']:+.1%}), {clear}."
    )
    how = "Top-1 classes of the feature network; 95 % intervals."
    figure = ReportFigure("classes", fid_figures.class_gaps(table), text, how, wide=True)
    return figure, ReportTable("classes", table, "; ".join(f"{c.name}: {c.meaning}" for c in CLASSES.columns[5:10]))


def _audit(view: View, progress: bool) -> Section:
    study, fake = view.study, view.fake
    n, d = view.size
    if n <= d:
        return Section(text=f"No audit: {n} candidates of {d} features; weights need more candidates than features.")
    found = optimise_weights(fake.first.features, study.real.first.features, evaluations=EVALUATIONS, progress=progress)
    arms: dict[str, Floats | HistogramMatch] = {}
    notes = []
    logits = fake.first.logits, study.real.first.logits
    if logits[0] is not None and logits[1] is not None:
        for size in (1, 2):
            tops = [np.argsort(-rows, axis=1)[:, :size] for rows in logits if rows is not None]
            match = match_histogram(*tops)
            arms[f"top-{size} matched"] = match
            notes.append(f"top-{size}: rejection keeps {match.rate:.0%}, {match.unreachable:.1%} out of reach")
    arms["weights optimised"] = found.weights
    spare = None if study.spare is None else study.spare.pair
    table = gaming_audit(fake.pair, study.real.pair, arms, spare=spare, spaces=study.spaces)
    others = [item for item in study.fakes if item is not fake]
    best = min(others, key=view.distance, default=None)
    at_size = math.nan
    if best is not None:
        plain = gaming_audit(best.pair, study.real.pair, {}, spaces=study.spaces, size=int(table["n"].max()))
        at_size = float(plain.loc[plain["metric"] == "FD", "value"].iloc[0])
    said = [
        verdict(
            table, arm, other_value=at_size, other_name=best.name if best else "",
            cause="class statistics alone" if isinstance(how, HistogramMatch) else "weights on all features",
        )
        for arm, how in arms.items()
    ]  # fmt: skip
    caption = (
        "Labels: change against the random choice. Draws of one size, matched ones by rejection, optimised ones with "
        "replacement; 95 % intervals over draws. "
        f"Effective size of the optimised weights: {found.effective_size:.0f} of {n}. " + "; ".join(notes) + "."
    )
    return Section(
        text=" ".join(v.text for v in said[:-1]),
        figures=[ReportFigure("audit", fid_figures.audit(table, study.spaces), said[-1].text, caption, wide=True)],
        tables=[
            ReportTable(
                "audit", table, "Every arm and metric: " + "; ".join(c.meaning for c in GAMING_AUDIT.columns[6:])
            ),
            ReportTable("optimisation", found.history, "Loss at each evaluation.", shown=False),
        ],
    )


def _reading(study: Study) -> Section:
    return Section(
        text=f"Feature space: {study.spaces[0]}, preprocessing {study.extractor.preprocessing}; second: "
        f"{study.spaces[1]}, {study.second.preprocessing}. Images are 8-bit before any of it.",
        tables=[ReportTable("reading", reading_table(study), "Images read, left out and converted, by set.")],
    )


def _interval(row: pd.Series) -> str:
    return "" if math.isnan(row["low"]) else f" ({row['low']:.3g} to {row['high']:.3g})"
