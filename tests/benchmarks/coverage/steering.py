"""What a direction moves: effects and margins over seeds, and verdicts where there is nothing to be found."""

from functools import cache, partial

import numpy as np
import pandas as pd

from scorescope.analysis.directions.balance import balance_table
from scorescope.analysis.directions.steering_tables import Responses, arm_table, curve_table, spearman
from scorescope.analysis.directions.verdicts import verdict_table
from scorescope.analysis.statistics.bootstrap import SeedDraws
from tests.benchmarks.coverage.case import Case, pick
from tests.read_directions import activations, judged, meaningless
from tests.read_networks import Reader

WHERE = {"attribute": "a", "method": "imported", "site": "s", "sigma_low": 0.0, "sigma_high": 80.0, "log_snr": -8.0}
STRENGTHS = np.array([-2.0, -1.0, 0.0, 1.0, 2.0, 4.0])
RESPONSE = np.sign(STRENGTHS) * (1 - np.exp(-1.5 * np.abs(STRENGTHS)))
RANDOM = np.array([0.45, -0.3, 0.2, -0.35])
ARMS = ["direction", "shuffled", *[f"random {k + 1}" for k in range(len(RANDOM))]]


def responses(seeds, rng):
    """Two scores that saturate with the strength; every seed answers by an amount of its own."""
    size = np.concatenate([[1.0, 0.25], RANDOM])
    own = size + 0.4 * rng.normal(size=(seeds, len(ARMS)))
    values = np.zeros((seeds, len(ARMS), len(STRENGTHS), 2))
    values[..., 0] = own[:, :, None] * RESPONSE
    values[..., 1] = (0.4 * size + 0.4 * rng.normal(size=(seeds, len(ARMS))))[:, :, None] * RESPONSE
    values += 0.2 * rng.normal(size=values.shape) * (STRENGTHS != 0)[:, None]
    distances = np.abs(STRENGTHS) * rng.gamma(4, 0.25, size=(seeds, len(ARMS), 1))
    return Responses(WHERE, ARMS, STRENGTHS, ["a", "other"], values, distances)


QUANTITIES = (
    "slope", "effect", "disentanglement", "spearman", "spearman_q10", "dynamic_range", "distance",
)  # fmt: skip


def _curve(seeds, rng):
    found, draws = responses(seeds, rng), SeedDraws.of(seeds)
    rows = curve_table(found)
    one = rows[(rows["arm"] == "direction") & (rows["strength"] == 1) & rows["target"]].iloc[0]
    arms = arm_table(found, draws, 100.0).query("arm == 'direction'").set_index("quantity")
    row = verdict_table(found, draws, 100.0).iloc[0]
    return {
        "mean change": pick(one, "")[""], **{name: pick(arms.loc[name], "")[""] for name in QUANTITIES},
        "effect, verdict": pick(row, "effect")["effect"], "margin": pick(row, "")[""],
        "selectivity": pick(row, "selectivity")["selectivity"],
    }  # fmt: skip


@cache
def _curve_truth():
    effect = RESPONSE[-1] - RESPONSE[0]
    ranks = spearman(responses(100_000, np.random.default_rng(60)).values[:, :1, :, 0], STRENGTHS)[:, 0]
    return {
        "mean change": RESPONSE[3], "slope": RESPONSE[3], "effect": effect, "disentanglement": 1 / 1.4,
        "spearman": ranks.mean(), "spearman_q10": np.sort(ranks)[len(ranks) // 10], "dynamic_range": effect,
        "distance": 3.0, "effect, verdict": effect, "margin": effect * (1 - 0.45),
        "selectivity": 1 / np.abs(RANDOM).mean(),
    }  # fmt: skip


def _verdict(effects):
    """An interval about no effect: a verdict that something moves leaves 0 out."""
    seeds, arms = effects.shape
    values = np.zeros((seeds, arms, 2, 1))
    values[:, :, 1, 0] = effects
    names = ["direction", "shuffled", *[f"random {k + 1}" for k in range(arms - 2)]]
    found = Responses(WHERE, names, np.array([0.0, 1.0]), ["a"], values, np.zeros((seeds, arms, 2)))
    return _as_ends(verdict_table(found, SeedDraws.of(seeds, resamples=2), 1.0).iloc[0])


def _as_ends(row):
    return (1.0, 1.0) if row["verdict"] in ("steerable", "reversed") else (-1.0, 1.0)


def _null(kind, seeds, random, rng):
    noise = rng.normal(size=(seeds, random + 2))
    if kind == "no effect":
        return {"verdict": _verdict(noise)}
    return {"verdict": _verdict(rng.normal(size=random + 2) + 0.5 * noise)}


def _shuffled(family, rng):
    seed = int(rng.integers(2**31))
    model = Reader(family, seed=seed % 1000)
    values = activations(model, seed % 997)
    return {"verdict": _as_ends(judged(model, values, meaningless(values, seed), seed=seed, random=4, shuffled=4))}


def _balance(n, share, rng):
    values = np.where(rng.random(n) < share, 1.0, -1.0)
    samples = pd.DataFrame({
        **WHERE, "arm": "direction", "strength": 1.0, "score": "a", "value": values, "distance": 0.0,
    })  # fmt: skip
    row = balance_table(samples, score="a", values=("no", "yes")).iloc[1]
    return {"share of a value": pick(row, "")[""], "imbalance": pick(row, "imbalance")["imbalance"]}


NEVER = "a test at 5 % of several nulls at once"
CASES = (
    *(
        Case(
            f"steering: effects, {seeds}", "Hall's corrected t; bootstrap; order statistics; Student's t",
            f"{seeds} seeds", "answers normal, saturating", _curve_truth, partial(_curve, seeds),
            ("steer_curve", "steer_arms", "steer_verdicts:effect", "steer_verdicts", "steer_verdicts:selectivity"),
            wide="a statistic of few values, or of several tests",
            short={"spearman": "a rare seed with a far lower one: said in `QUANTITIES`"},
        )
        for seeds in (8, 16, 48)
    ),
    *(
        Case(
            f"steering: null, {kind}, {seeds}", "verdict: t over arms and over seeds", f"{seeds} seeds, 4 random arms",
            kind, lambda: {"verdict": 0.0}, partial(_null, kind, seeds, 4), wide=NEVER,
        )
        for kind, seeds in (("random direction", 8), ("no effect", 8))
    ),
    *(
        Case(
            f"steering: null, shuffled labels, {family}", "verdict: t over arms and over seeds",
            "200 images, 12 seeds, 4 random and 4 shuffled arms", f"labels that mean nothing, {family} network",
            lambda: {"verdict": 0.0}, partial(_shuffled, family), wide=NEVER,
        )
        for family in ("isotropic", "aligned")
    ),
    *(
        Case(
            f"steering: balance, {n}, {share}", "Wilson", str(n), f"share {share}",
            partial(lambda share: {"share of a value": share, "imbalance": np.sqrt(2) * abs(share - 0.5)}, share),
            partial(_balance, n, share), ("balance", "balance:imbalance"), wide="few outcomes",
        )
        for n, share in ((20, 0.3), (50, 0.5))
    ),
)  # fmt: skip
