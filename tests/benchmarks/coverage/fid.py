"""Frechet distances and what stands beside them, on features whose law is known."""

from functools import cache, partial

import numpy as np

from scorescope.analysis.fid.extrapolation import fid_infinity
from scorescope.analysis.fid.frechet import raw_distance
from scorescope.analysis.fid.frechet_error import frechet_interval
from scorescope.analysis.fid.gaming import FeaturePair, gaming_audit
from scorescope.analysis.fid.heatmaps import mask_summary
from scorescope.analysis.fid.influence_tables import group_table
from scorescope.analysis.fid.kernels import kid
from scorescope.analysis.fid.neighbours import neighbour_table, neighbour_values, recall_interval
from scorescope.analysis.fid.optimal_transport import influence, transport
from scorescope.probes.features.moments import Moments
from tests.analysis.fid.feature_laws import POPULATIONS, D, draw_classes, draw_rectified
from tests.benchmarks.coverage.case import Case, pick

MANY = 400_000
ZERO = "near a distance of zero first-order terms vanish"


@cache
def moments(name="equal"):
    """Of a population of rectified features, from many draws."""
    return Moments.of(draw_rectified(MANY, np.random.default_rng([5, len(name)]), **POPULATIONS[name]))


@cache
def measured(name, n):
    """Mean distance that sets of n rows measure."""
    rng = np.random.default_rng(6)
    sets = ((draw_rectified(n, rng, **POPULATIONS[name]), draw_rectified(n, rng)) for _ in range(1000))
    return float(np.mean([raw_distance(Moments.of(x), Moments.of(y)) for x, y in sets]))


DISTANCE, SCATTER = "distance of the populations", "distance that such sets measure"


def _distances(name, n, rng):
    found = frechet_interval(draw_rectified(n, rng, **POPULATIONS[name]), draw_rectified(n, rng))
    return {DISTANCE: (found.low, found.high), SCATTER: (found.scatter_low, found.scatter_high)}


def _distance_truths(name, n):
    return {DISTANCE: raw_distance(moments(name), moments()) if name != "equal" else 0.0, SCATTER: measured(name, n)}


def _by_class(n, rng):
    classes = np.arange(n) % 10
    x, y = (draw_classes(classes, rng) for _ in range(2))
    given = {"fake_classes": classes, "real_classes": classes}
    far, near = frechet_interval(x, y, **given), kid(x, y, **given)
    return {DISTANCE: (far.low, far.high), "KID": (near.low, near.high)}


@cache
def _real(n):
    return Moments.of(draw_rectified(n, np.random.default_rng(2)))


def _infinity(name, rng):
    found = fid_infinity(draw_rectified(600, rng, **POPULATIONS[name]), _real(2000), seed=int(rng.integers(2**31)))
    return {"FID_infinity": (found.low, found.high)}


def _infinity_by_class(rng):
    classes = np.arange(600) % 10
    found = fid_infinity(draw_classes(classes, rng), _real(2000), classes=classes, seed=int(rng.integers(2**31)))
    return {"FID_infinity": (found.low, found.high)}


@cache
def _classes_truth():
    law = Moments.of(draw_classes(np.arange(MANY) % 10, np.random.default_rng(12)))
    return {"FID_infinity": raw_distance(law, _real(2000))}


def _kid(name, n, rng):
    found = kid(draw_rectified(n, rng, **POPULATIONS[name]), draw_rectified(n, rng))
    return {"KID": (found.low, found.high)}


@cache
def _powers(name):
    """Mean tensors of x, x x and x x x."""
    rng, chunks = np.random.default_rng([7, len(name)]), 20
    found = [np.zeros(D**k) for k in (1, 2, 3)]
    for _ in range(chunks):
        x = draw_rectified(MANY // chunks, rng, **POPULATIONS[name])
        pairs = (x[:, :, None] * x[:, None]).reshape(len(x), -1)
        for total, part in zip(found, (x.mean(0), pairs.mean(0), (pairs.T @ x / len(x)).ravel()), strict=True):
            total += part / chunks
    return found


def _kid_truth(name):
    """(x . y / d + 1)^3 is a sum of inner products of such tensors."""
    if name == "equal":
        return {"KID": 0.0}
    apart = [np.square(one - other).sum() for one, other in zip(_powers(name), _powers("equal"), strict=True)]
    return {"KID": 3 * apart[0] / D + 3 * apart[1] / D**2 + apart[2] / D**3}


METRICS = ("precision", "recall", "density", "coverage")


def _neighbours(setting, rng):
    n1, n2, d, spread = setting
    x, y = rng.normal(size=(n1, d)) * spread, rng.normal(size=(n2, d))
    rows = neighbour_table(x, y).set_index("metric")
    found = {metric: tuple(rows.loc[metric, ["low", "high"]]) for metric in METRICS}
    return found | {"recall, real set whole": recall_interval(x, y)}


@cache
def _neighbour_truths(setting):
    n1, n2, d, spread = setting
    rng = np.random.default_rng(8)
    sets = ((rng.normal(size=(n1, d)) * spread, rng.normal(size=(n2, d))) for _ in range(1500))
    values = [neighbour_values(x, y) for x, y in sets]
    found = {metric: float(np.mean([value[metric] for value in values])) for metric in METRICS}
    return found | {"recall, real set whole": found["recall"]}


def _groups(n, rng):
    """Two groups of generated images, one of them farther away."""
    far = np.arange(n) % 2 == 1
    x = np.where(far[:, None], draw_rectified(n, rng, **POPULATIONS["far"]), draw_rectified(n, rng))
    plan = transport(x, draw_rectified(n, rng))
    rows = group_table(influence(plan, x), ["far" if one else "equal" for one in far]).set_index("group")
    return {"mean influence of a group": tuple(rows.loc["far", ["low", "high"]])}


@cache
def _group_truth():
    return {
        "mean influence of a group": float(
            np.mean(_groups(100_000, np.random.default_rng(9))["mean influence of a group"])
        )
    }


def _regions(rng):
    mask = np.zeros((2, 2), bool)
    mask[0, 0] = True
    row = mask_summary(rng.gamma(2.0, size=(40, 2, 2)), mask, region="r").iloc[0]
    return {"share inside a mask": pick(row, "")[""], "pooled share": pick(row, "pooled")["pooled"]}


@cache
def _candidates():
    rng = np.random.default_rng(10)
    sides = [
        FeaturePair(x := draw_rectified(n, rng, **law), x[:, :4]) for n, law in ((160, POPULATIONS["far"]), (120, {}))
    ]
    weights = {"weighted": 0.2 + rng.random(160)}
    return *sides, weights


def _audit(draws, rng):
    candidates, real, weights = _candidates()
    table = gaming_audit(candidates, real, weights, size=60, draws=draws, seed=int(rng.integers(2**31)))
    rows = table.set_index(["arm", "metric"])
    asked = {"FD": ("weighted", "FD"), "precision": ("random choice", "precision")}
    return {f"{name} of chosen images": tuple(rows.loc[key, ["low", "high"]]) for name, key in asked.items()}


@cache
def _audit_truth():
    ends = _audit(1500, np.random.default_rng(11))
    return {name: float(np.mean(pair)) for name, pair in ends.items()}


JACKKNIFE = ("companions", "sweep")
CASES = (
    *(
        Case(
            f"fid: distance, {name}, {n}", "jackknife, 20 groups; scatter about the value", f"{n} against {n}, d = {D}",
            f"rectified, {name}", partial(_distance_truths, name, n), partial(_distances, name, n), JACKKNIFE,
            wide=ZERO if name == "equal" else "",
        )
        for name in POPULATIONS
        for n in (10 * D, 30 * D)
    ),
    Case(
        "fid: by class, 400", "jackknife within classes", "400 against 400", "10 classes, both balanced, equal",
        lambda: {DISTANCE: 0.0, "KID": 0.0}, partial(_by_class, 400), JACKKNIFE, wide=ZERO,
    ),
    *(
        Case(
            f"fid: FID_infinity, {name}", "fit and influences", "600 against one real set of 2000",
            f"rectified, {name}",
            partial(lambda name: {"FID_infinity": raw_distance(moments(name), _real(2000))}, name),
            partial(_infinity, name), ("companions",),
        )
        for name in POPULATIONS
    ),
    Case(
        "fid: FID_infinity, by class", "fit and influences within classes", "600 against one real set of 2000",
        "10 classes, balanced", _classes_truth, _infinity_by_class, ("companions",),
    ),
    *(
        Case(
            f"fid: KID, {name}, {n}", "jackknife", f"{n} against {n}", f"rectified, {name}", partial(_kid_truth, name),
            partial(_kid, name, n), ("companions",), wide=ZERO if name == "equal" else "",
        )
        for name, n in (("equal", 150), ("near", 150), ("near", 400), ("far", 150), ("far", 400))
    ),
    *(
        Case(
            f"fid: neighbours, {setting[0]} against {setting[1]}", "random halves",
            f"{setting[0]} against {setting[1]}", f"normal, d = {setting[2]}, spread {setting[3]}",
            partial(_neighbour_truths, setting),
            partial(_neighbours, setting), ("neighbours", "companions", "sweep"),
            wide="halves scatter more than the whole",
        )
        for setting in ((100, 300, 6, 0.8), (200, 150, 4, 1.2))
    ),
    Case(
        "fid: influence, 600", "t over the group's images", "300 of 600 images", "two groups, one far", _group_truth,
        partial(_groups, 600), ("groups", "classes:influence"),
    ),
    Case(
        "fid: regions, 40", "t; delta method", "40 maps", "gamma, 2 x 2 cells",
        lambda: {"share inside a mask": 0.25, "pooled share": 0.25}, _regions, ("regions", "regions:pooled"),
    ),
    Case(
        "fid: gaming, 5 draws", "t over draws, the images being given", "5 draws of 60 of 160", "rectified, far",
        _audit_truth, partial(_audit, 5), ("gaming_audit",),
    ),
)  # fmt: skip
