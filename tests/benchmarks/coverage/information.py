"""What a condition says: nats, losses of attributes, weights of least error, win rates."""

from functools import cache, partial

import numpy as np
import torch

from scorescope.analysis.information.attributes import attribute_loss
from scorescope.analysis.information.log_snr import grid_levels
from scorescope.analysis.information.loss_tables import win_rates
from scorescope.analysis.information.optimal_weights import optimal_weights
from scorescope.analysis.information.pairwise import pairwise_information
from scorescope.analysis.information.partial_information import overlap
from scorescope.probes import Bank, log_snr_grid
from scorescope.probes.bank import Arm, compare_arms
from tests.benchmarks.coverage.case import Case, pick
from tests.mixtures import draw_labelled

LEVELS = grid_levels(-6, 6, 12)
MANY = 20_000


@cache
def _law():
    return draw_labelled(3, spread=0.5).law


def _labelled(n, rng):
    """Images of three classes in turn, float64."""
    labels = torch.arange(n) % 3
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    images = torch.empty(n, 8, dtype=torch.float64)
    for k, part in enumerate(_law().components):
        rows = labels == k
        images[rows] = part.sample(int(rows.sum()), generator=generator)
    return images, labels, int(rng.integers(2**31))


def _nats(n, rng):
    images, labels, seed = _labelled(n, rng)
    found = pairwise_information(_law(), images, labels, levels=LEVELS, seed=seed)
    expected, middle = found.expected.set_index("estimator"), found.integrand.groupby("estimator").nth(5)
    middle = middle.set_index("estimator")
    return {
        "information, log ratio": pick(expected.loc["log_ratio"], "")[""],
        "information, influence": pick(expected.loc["influence"], "")[""],
        "density, log ratio": pick(middle.loc["log_ratio"], "")[""],
        "density, influence": pick(middle.loc["influence"], "")[""],
    }


@cache
def _nats_truth():
    images, labels, seed = _labelled(MANY, np.random.default_rng(30))
    found = pairwise_information(_law(), images, labels, levels=LEVELS, seed=seed, batch=4096)
    rows = {}
    for name, estimator in (("log ratio", "log_ratio"), ("influence", "influence")):
        rows[f"information, {name}"] = found.expected.set_index("estimator").loc[estimator, "nats"]
        rows[f"density, {name}"] = found.integrand.query("estimator == @estimator")["density"].iloc[5]
    return rows


def _shifted(x, sigma, condition):
    """A denoiser that its condition (n, 4) shifts, most where noise and signal are alike."""
    share = (sigma / (1 + sigma**2))[:, None]
    return 0.3 * x + (0 if condition is None else share * condition)


def _overlapping(n, rng):
    a, b = (torch.from_numpy(rng.normal(size=(n, 4)) * rng.uniform(0.5, 1.5, size=(n, 1))) for _ in range(2))
    images = torch.from_numpy(rng.normal(size=(n, 4)))
    return overlap(_shifted, images, a, 0.6 * a + 0.5 * b, a + b, levels=grid_levels(-4, 4, 6)).summary


def _overlap(n, rng):
    rows = _overlapping(n, rng).set_index(["aggregate", "part"])
    return {part: pick(rows.loc["pixelwise", part], "")[""] for part in ("redundancy", "unique_first", "synergy")}


@cache
def _overlap_truth():
    rows = _overlapping(MANY, np.random.default_rng(31)).set_index(["aggregate", "part"])
    return {part: rows.loc["pixelwise", part]["nats"] for part in ("redundancy", "unique_first", "synergy")}


SIGMAS = tuple(log_snr_grid(-5, 3, 9))
AT = 3  # the noise level whose error and excess are looked at


def _pairs(n, rng):
    """Images in four dimensions and the same with one of them changed, by amounts that differ."""
    first = torch.from_numpy(rng.normal(size=(n, 4)))
    second = first.clone()
    second[:, 0] += torch.from_numpy(0.8 + rng.exponential(size=n))
    return first, second, int(rng.integers(2**31))


def _shrink(x, sigma, condition=None):
    return x / (1 + sigma[:, None] ** 2)


def _lost(n, rng):
    first, second, seed = _pairs(n, rng)
    found = attribute_loss(_shrink, first, second, sigmas=SIGMAS, seed=seed, draws=2)
    half = found.half.set_index("metric").loc["pixels"]
    row = found.curve.sort_values("sigma").iloc[AT]
    return {
        "error": pick(row, "")[""],
        "excess": pick(row, "excess")["excess"],
        "level of half the loss": pick(half, "")[""],
    }


@cache
def _lost_truth():
    first, second, seed = _pairs(MANY, np.random.default_rng(32))
    found = attribute_loss(_shrink, first, second, sigmas=SIGMAS, seed=seed, draws=2, batch=8192, resamples=2)
    row = found.curve.sort_values("sigma").iloc[AT]
    half = found.half.set_index("metric").loc["pixels", "sigma"]
    return {"error": row["error"], "excess": row["excess"], "level of half the loss": half}


def _mixed(n, rng):
    images = torch.from_numpy(rng.normal(size=(n, 3)))
    arms = [Arm(f"shrink {k}", lambda x, sigma, condition, k=k: k * x) for k in (0.2, 0.6)]
    bank = Bank(images, (2.0,), seed=int(rng.integers(2**31)))
    row = optimal_weights(compare_arms(bank, arms, batch=8192)).iloc[0]
    return {"weight of least error": pick(row, "")[""], "alignment": pick(row, "alignment")["alignment"]}


def _mixed_truth():
    # N(0, 1) at sigma = 2: e_1 = 0.6 x - x0 and D_0 - D_1 = -0.4 x, with E x^2 = 5, E x x0 = 1
    product, error, update = -0.4 * (0.6 * 5 - 1), 0.36 * 5 - 1.2 + 1, 0.16 * 5
    return {"weight of least error": (1 / 5 - 0.2) / 0.4, "alignment": product / np.sqrt(error * update)}


def _wins(n, rng):
    images, labels, seed = _labelled(n, rng)
    arms = [Arm(f"class {k}", _law(), torch.full((n,), k)) for k in range(3)]
    comparison = compare_arms(Bank(images, (0.8,), seed=seed), arms, pairs=[], batch=4096)
    rows = win_rates(comparison, labels).set_index("foil")
    return {
        "win rate against a class": pick(rows.loc["class 0"], "")[""],
        "against every other": pick(rows.loc["every other"], "")[""],
    }


@cache
def _wins_truth():
    images, labels, seed = _labelled(60_000, np.random.default_rng(33))
    arms = [Arm(f"class {k}", _law(), torch.full((60_000,), k)) for k in range(3)]
    rows = win_rates(compare_arms(Bank(images, (0.8,), seed=seed), arms, pairs=[], batch=8192), labels).set_index(
        "foil"
    )
    return {
        "win rate against a class": rows.loc["class 0", "rate"],
        "against every other": rows.loc["every other", "rate"],
    }


CASES = (
    *(
        Case(
            f"information: nats, {n}", "Hall's corrected t", str(n), "three classes, exact denoisers", _nats_truth,
            partial(_nats, n), ("expected_information", "information_by_level"),
        )
        for n in (8, 32)
    ),
    *(
        Case(
            f"information: overlap, {n}", "Hall's corrected t", str(n), "conditions that shift, each by its own scale",
            _overlap_truth, partial(_overlap, n), ("overlap_summary",),
        )
        for n in (16, 48)
    ),
    *(
        Case(
            f"information: attribute loss, {n}", "Hall's corrected t; bootstrap of the crossing", f"{n} pairs",
            "normal, one element changed", _lost_truth, partial(_lost, n),
            ("attribute_loss", "attribute_loss:excess", "half_loss"),
        )
        for n in (8, 24)
    ),
    *(
        Case(
            f"information: optimal weight, {n}", "studentised; bootstrap of the cosine", str(n),
            "normal, two shrinkages", _mixed_truth, partial(_mixed, n),
            ("optimal_weights", "optimal_weights:alignment"),
        )
        for n in (16, 64)
    ),
    Case(
        "information: win rates, 42", "Wilson", "42, 28 of other classes", "three classes, exact denoisers",
        _wins_truth, partial(_wins, 42), ("class_win_rates", "class_summary"),
    ),
)  # fmt: skip
