"""Where an attribute is read and when: probes, landmarks, patches, carried directions, shifts of tokens."""

from functools import cache, partial

import numpy as np
import torch
from scipy.stats import norm

from scorescope.analysis.directions.carrying import judge_transport
from scorescope.analysis.directions.comparison import compare_directions
from scorescope.analysis.directions.landmarks import (
    Curve,
    Shares,
    draw_seeds,
    emergence_table,
    gap_table,
    landmark_table,
    last_fall,
    last_rise,
)
from scorescope.analysis.directions.probing import probe_scan
from scorescope.analysis.directions.recovery import recovery_rows
from scorescope.analysis.directions.token_directions import linearity_gap, token_direction
from scorescope.analysis.statistics.bootstrap import draw_units
from scorescope.analysis.statistics.studentised import studentised
from scorescope.probes.activations.activations import Activations
from scorescope.probes.bank.points import Bank
from scorescope.probes.sites.direction import Direction
from tests.benchmarks.coverage.case import Case, pick
from tests.token_denoisers import LinearDenoiser

# probes: of two normal classes cut by a plane the accuracy of a fitted probe is known


def rare(prevalence, rng, count):
    """Normal classes two standard deviations apart, of which one is rare, exactly; (1, row, 16) and labels."""
    labels = rng.permutation((np.arange(count) < prevalence * count).astype(int))
    values = rng.normal(size=(1, count, 16))
    values[0, :, 0] += 2 * labels
    return torch.from_numpy(values).float(), labels


def accuracy_of(probe):
    """The balanced accuracy that a probe has in the population of `rare`."""
    weights = ((probe.weights[:, 1] - probe.weights[:, 0]) / probe.scale).numpy()
    offset = float(probe.bias[1] - probe.bias[0]) - float(weights @ probe.mean.numpy())
    length = np.linalg.norm(weights)
    return (norm.cdf(-offset / length) + norm.cdf((offset + 2 * weights[0]) / length)) / 2


def _probed(prevalence, count, rng):
    """Ends less the truth, which is the fitted probe's own."""
    values, labels = rare(prevalence, rng, count)
    found = Activations({"a": values}, (1.0,), torch.arange(count), {"a": "mean"})
    scan = probe_scan(found, {"y": labels}, strengths=[1e-2], seed=int(rng.integers(2**31)), resamples=200)
    row, truth = scan.final.iloc[0], accuracy_of(scan.probe("y", "a", sigma=1.0))
    return {
        "balanced accuracy of the fitted probe": (row["low"] - truth, row["high"] - truth),
        "accuracy on a control task": (row["control_low"] - 0.5, row["control_high"] - 0.5),
        "selectivity": (row["selectivity_low"] - truth + 0.5, row["selectivity_high"] - truth + 0.5),
    }


PROBED = ("balanced accuracy of the fitted probe", "accuracy on a control task", "selectivity")


def _numbers(count, rng):
    """R^2 of a fitted probe of a number, against a large test set."""
    x = rng.normal(size=(1, count, 6))
    values = torch.from_numpy(x).float()
    found = Activations({"a": values}, (1.0,), torch.arange(count), {"a": "mean"})
    labels = x[0, :, 0] + 0.7 * rng.normal(size=count)
    scan = probe_scan(found, {"y": labels}, strengths=[1e-2], seed=int(rng.integers(2**31)), resamples=500)
    fresh = np.random.default_rng(50).normal(size=(20_000, 6))
    outputs = scan.probe("y", "a", sigma=1.0).predict(torch.from_numpy(fresh).float())
    truth = 1 - (((outputs - fresh[:, 0]) ** 2).mean() + 0.49) / 1.49
    row = scan.final.iloc[0]
    return {"R^2 of the fitted probe": (row["low"] - truth, row["high"] - truth)}


# landmarks: every seed has a level from which it is right for good; the share of seeds is a known law's

LEVELS = tuple(float(sigma) for sigma in np.geomspace(40, 0.05, 16))
LOG_SNR = -2 * np.log(np.asarray(LEVELS))
CENTRE, WIDTH = 0.0, 2.5
THRESHOLDS = {"visible_from": 0.75, "steerable_until": 0.5}


def _places(curves):
    rules = (("visible_from", "estimate", last_rise), ("steerable_until", "switch", last_fall))
    return {
        name: (curves[of], THRESHOLDS[name], rule(LOG_SNR, curves[of].draws, THRESHOLDS[name]))
        for name, of, rule in rules
    }


def _landmarks(n, rng):
    base = rng.normal(size=n)
    seen = CENTRE + WIDTH * (0.8 * base + 0.6 * rng.normal(size=n))
    decided = CENTRE + 2 + WIDTH * (0.8 * base + 0.6 * rng.normal(size=n))
    every, steps = np.ones(n, bool), list(range(len(LEVELS)))
    shares = [
        Shares("estimate", [(LOG_SNR[:, None] > seen, every)], steps),
        Shares("switch", [(LOG_SNR[:, None] < decided, every)], steps),
    ]
    weights = draw_seeds(shares, n, resamples=1000, seed=0)
    curves = {part.name: Curve.of(part, weights) for part in shares}
    places = _places(curves)
    marks = landmark_table("a", places).set_index("landmark")
    gaps, rows = gap_table("a", places), emergence_table("a", "", [curves["estimate"]], LEVELS)
    return {
        "landmark, last rise": pick(marks.loc["visible_from"], "")[""],
        "landmark, last fall": pick(marks.loc["steerable_until"], "")[""],
        "gap of landmarks": pick(gaps.iloc[0], "")[""],
        "emergence curve": pick(rows.iloc[9], "")[""],
    }


@cache
def _landmark_truth():
    share = norm.cdf((LOG_SNR - CENTRE) / WIDTH)
    left = norm.sf((LOG_SNR - CENTRE - 2) / WIDTH)
    rise = float(last_rise(LOG_SNR, share[None], THRESHOLDS["visible_from"])[0])
    fall = float(last_fall(LOG_SNR, left[None], THRESHOLDS["steerable_until"])[0])
    return {
        "landmark, last rise": rise, "landmark, last fall": fall, "gap of landmarks": fall - rise,
        "emergence curve": share[9],
    }  # fmt: skip


# patches


def _effects(n, rng):
    """Clean, corrupted and patched metrics: effects that differ, of which a patch brings back about a half."""
    corrupted = rng.normal(size=n)
    effect = 1.5 + 0.5 * rng.normal(size=n)
    recovered = 0.5 + 0.2 * (rng.exponential(size=n) - 1)
    return corrupted + effect, corrupted, corrupted + recovered * effect


def _recovered(n, rng):
    row, _ = recovery_rows({"form": "sufficiency"}, _effects(n, rng), list(range(n)), 0.05, 1000, 0)
    return {
        "recovery, mean": pick(row, "")[""], "recovery, median": pick(row, "median")["median"],
        "recovery, ratio of means": pick(row, "ratio")["ratio"],
    }  # fmt: skip


RECOVERED = {"recovery, mean": 0.5, "recovery, median": 0.5 + 0.2 * (np.log(2) - 1), "recovery, ratio of means": 0.5}


# carried directions, readers and movers

WAY = [Direction(torch.tensor([1.0, 0.0]), "a", "target", "imported", 1.0, sigma=1.0)]


def _transport(n, rng):
    base = 1 + 0.5 * rng.normal(size=n)
    effects = {"refit": base, "same": 0.6 * base + 0.3 * rng.normal(size=n)}
    left = iter(effects.values())
    rows = judge_transport(dict.fromkeys(effects, WAY), effect=lambda ways: torch.from_numpy(next(left)))
    row = rows.set_index("transport").loc["same"]
    return {"effect of a carried direction": pick(row, "")[""], "its share": pick(row, "share")["share"]}


def _readers(rows, seeds, rng):
    labels = np.arange(rows) % 2
    values = torch.from_numpy(rng.normal(size=(rows, 3)))
    values[:, 0] += torch.from_numpy(1.2 * labels)
    way = Direction(torch.tensor([1.0, 0.0, 0.0]), "mid", "target", "imported", 1.0)
    moved = {"target": 1 + 0.8 * rng.normal(size=seeds), "other": 0.5 + 0.8 * rng.normal(size=seeds)}
    still = {name: 0.1 * rng.normal(size=seeds) for name in moved}

    def effect(direction):
        return {name: torch.from_numpy(one) for name, one in (moved if direction is way else still).items()}

    row = compare_directions([way], values, labels, effect=effect, random=1).iloc[0]
    return {
        "area under the curve": pick(row, "auc")["auc"], "effect on the target": pick(row, "effect")["effect"],
        "purity": pick(row, "purity")["purity"],
    }  # fmt: skip


READ = {"area under the curve": norm.cdf(1.2 / np.sqrt(2)), "effect on the target": 1.0, "purity": 1 / 1.5}


# shifts of tokens: a linear denoiser, pairs whose differences scatter

SHIFT = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


@cache
def _linear():
    return LinearDenoiser()


def _token_pairs(n, rng):
    minus = torch.from_numpy(rng.normal(size=(n, 2, 3)))
    scatter = torch.from_numpy(0.8 * rng.normal(size=(n, 3)))
    plus = minus.clone()
    plus[:, 1] += SHIFT + scatter
    return minus, plus, Bank(torch.from_numpy(rng.normal(size=(n, 7))), (1.0,), seed=int(rng.integers(2**31)))


def _tokens(n, rng):
    """Of a direction that is given, so that its truth is the population's."""
    minus, plus, bank = _token_pairs(n, rng)
    way = Direction(SHIFT, "condition.1", "a", "imported", float(SHIFT.norm()))
    row = linearity_gap(_linear(), {"given": way}, bank, plus, minus, tokens=[1], strengths=[1.0]).iloc[0]
    return {"linearity gap": pick(row, "")[""]}


@cache
def _token_truth():
    minus, plus, bank = _token_pairs(50_000, np.random.default_rng(51))
    way = Direction(SHIFT, "condition.1", "a", "imported", float(SHIFT.norm()))
    options = {"tokens": [1], "strengths": [1.0], "batch": 8192}
    return {"linearity gap": linearity_gap(_linear(), {"given": way}, bank, plus, minus, **options).iloc[0]["gap"]}


def _token_losses(n, rng):
    minus, plus, bank = _token_pairs(n, rng)
    row = token_direction(_linear(), plus, minus, tokens=[1], bank=bank).losses.iloc[0]
    return {"loss of a token direction": pick(row, "")[""], "its relative loss": pick(row, "relative")["relative"]}


def _token_loss_truth():
    """Of the best direction, the mean shift: what is left is the scatter, 0.64 |B s|^2 with s standard normal."""
    matrix = _linear().b.weight.detach()[:, 3:]
    left, shift = 0.64 * float(matrix.square().sum()), float((matrix @ SHIFT).square().sum())
    size = np.mean(np.square([-1, -0.5, 0.5, 1]))
    return {"loss of a token direction": size * left / 7, "its relative loss": left / (left + shift)}


def _token_shares(n, rng):
    """Share of one of three tokens in a change, as the report on directions gives it."""
    changes = rng.gamma(0.7, size=(3, n)) * np.array([[1.0], [0.5], [0.3]])
    draws = draw_units(n, resamples=1000, seed=0)
    found = studentised(changes, np.broadcast_to(changes.sum(0), changes.shape), draws)
    return {"share of a token": (found.low[0], found.high[0])}


CASES = (
    *(
        Case(
            f"directions: probe, {prevalence:g}", "score intervals of the recalls", "200 test images of 1000",
            f"two normal classes, prevalence {prevalence:g}",
            lambda: dict.fromkeys(PROBED, 0.0), partial(_probed, prevalence, 1000),
            ("probes", "probes:control", "probes:selectivity", "probes_final", "probes_final:control",
             "probes_final:selectivity"),
            wide="the wider of two intervals",
        )
        for prevalence in (0.5, 0.1)
    ),
    *(
        Case(
            f"directions: probe of a number, {count}", "Hall's corrected t of the ratio of sums",
            f"{count // 5} test images",
            "normal", lambda: {"R^2 of the fitted probe": 0.0}, partial(_numbers, count), ("probes", "probes_final"),
        )
        for count in (100, 400)
    ),
    *(
        Case(
            f"directions: landmarks, {n}", "bootstrap over seeds; Wilson", f"{n} seeds, 16 levels",
            "normal levels of each seed", _landmark_truth, partial(_landmarks, n),
            ("landmarks", "landmark_gaps", "emergence_curves", "group_readings"),
            short={"landmark, last rise": "below 16 seeds: said in `trace_direction`"} if n < 16 else {},
        )
        for n in (8, 16, 64)
    ),
    *(
        Case(
            f"directions: patching, {n}", "Hall's corrected t; bootstrap of the median", f"{n} seeds",
            "effects normal, recoveries exponential", lambda: RECOVERED, partial(_recovered, n),
            ("patch_recovery", "patch_recovery:median", "patch_recovery:ratio"),
        )
        for n in (8, 16, 64)
    ),
    *(
        Case(
            f"directions: transport, {n}", "Hall's corrected t", f"{n} seeds", "normal effects, paired",
            lambda: {"effect of a carried direction": 0.6, "its share": 0.6}, partial(_transport, n),
            ("transport", "transport:share"),
        )
        for n in (8, 16)
    ),
    *(
        Case(
            f"directions: readers and movers, {rows} and {seeds}", "bootstrap over rows; over seeds",
            f"{rows} rows, {seeds} seeds", "two normal classes; normal effects", lambda: READ,
            partial(_readers, rows, seeds),
            ("readers_and_movers:auc", "readers_and_movers:effect", "readers_and_movers:purity"),
        )
        for rows, seeds in ((20, 8), (100, 16))
    ),
    *(
        Case(
            f"directions: linearity gap, {n}", "Hall's corrected t of the ratio of sums", f"{n} images",
            "a linear denoiser", _token_truth, partial(_tokens, n), ("linearity_gap",),
        )
        for n in (16, 48)
    ),
    *(
        Case(
            f"directions: token loss, {n}", "Hall's corrected t of the ratio of sums", f"{n} images",
            "a linear denoiser", _token_loss_truth, partial(_token_losses, n),
            ("token_direction", "token_direction:relative"),
        )
        for n in (16, 48)
    ),
    Case(
        "directions: share of a token, 16", "studentised bootstrap", "16", "gamma",
        lambda: {"share of a token": 1 / 1.8}, partial(_token_shares, 16),
    ),
)  # fmt: skip
