"""Shares of groups, their distances from targets, and amplification, at laws of known shares."""

from functools import partial

import numpy as np

from scorescope.analysis.groups.amplification import amplification
from scorescope.analysis.groups.judging import JudgedGroups
from scorescope.analysis.groups.shares import DISTANCES, group_distances, group_shares
from tests.benchmarks.coverage.case import Case, pick

EVEN, FEW, FAR = (0.25,) * 4, (0.34, 0.33, 0.33), (0.7, 0.1, 0.1, 0.1)
TRIANGLE = "by the triangle inequality, or few outcomes: at least 95 %"
CONFIDENT = 6.0  # shape of the law of probabilities: the larger, the less they vary


def names(shares):
    return tuple(f"group {place}" for place in range(len(shares)))


def judged(n, shares, rng, *, soft=False):
    """Groups of images, or probabilities whose mean the shares are."""
    chosen = rng.choice(len(shares), n, p=shares)
    probabilities = rng.dirichlet(CONFIDENT * np.asarray(shares), n) if soft else None
    return JudgedGroups(names(shares), chosen.astype(np.int64), probabilities)


def _shares(n, shares, rng):
    table = group_shares(judged(n, shares, rng, soft=True)).set_index(["counting", "group"])
    return {counting: pick(table.loc[(counting, "group 1")], "")[""] for counting in ("hard", "soft")}


def _distances(n, shares, target, of_images, soft, rng):
    wanted = judged(of_images, target, rng, soft=soft) if of_images else dict(zip(names(target), target, strict=True))
    table = group_distances(judged(n, shares, rng, soft=soft), wanted, seed=int(rng.integers(2**31)))
    rows = table[table["counting"] == ("soft" if soft else "hard")].set_index("distance")
    return {name: pick(rows.loc[name], "")[""] for name in DISTANCES}


def _distance_truth(shares, target):
    return {name: float(norm(np.subtract(shares, target))) for name, norm in DISTANCES.items()}


COMMON, RARE = (0.45, 0.15, 0.05, 0.4), (0.08, 0.06, 0.02, 0.08)
"""Shares of the guided and the bare run, of the guided alone, of the bare alone; and of the data."""


def _amplified(n, m, shares, rng):
    """Two runs of the same seeds, and data."""
    *kinds, data = shares
    pair = rng.choice(4, n, p=[*kinds, 1 - sum(kinds)])
    guided, bare = (JudgedGroups(names((0, 1)), np.isin(pair, kinds).astype(np.int64)) for kinds in ((0, 1), (0, 2)))
    table = amplification({"bare": bare, "guided": guided}, judged(m, (1 - data, data), rng))
    row = table[(table["setting"] == "guided") & (table["group"] == "group 1")].iloc[0]
    return pick(row, "", "data", "difference", "log_odds_ratio", "change")


def _amplified_truth(shares):
    both, gained, lost, data = shares
    share = both + gained
    ratio = np.log(share / (1 - share)) - np.log(data / (1 - data))
    return {"": share, "data": data, "difference": share - data, "log_odds_ratio": ratio, "change": gained - lost}


CASES = (
    *(
        Case(
            f"groups: shares, {n}", "exact (Clopper & Pearson); Hall's corrected t", str(n), f"two groups, {share}",
            partial(lambda share: {"hard": share, "soft": share}, share), partial(_shares, n, (1 - share, share)),
            ("group_shares", "groups_along"), wide=TRIANGLE,
        )
        for n, share in ((16, 0.4), (48, 0.15))
    ),
    *(
        Case(
            f"groups: distances, {len(shares)}{', soft' * soft}, {n}{f' and {m}' if m else ''}, "
            f"{'at' if shares == target else 'off'} the target",
            "triangle inequality; of two groups that of the share", f"{n} and {m} images" if m else str(n),
            f"{len(shares)} groups", partial(_distance_truth, shares, target),
            partial(_distances, n, shares, target, m, soft), ("group_distances", "group_distances_along"),
            wide=TRIANGLE,
        )
        for n, shares, target, m, soft in (
            (12, EVEN, EVEN, 0, False), (40, FAR, EVEN, 0, False), (200, EVEN, EVEN, 0, False),
            (40, (0.6, 0.4), (0.5, 0.5), 0, False), (60, FEW, (0.2, 0.5, 0.3), 100, False),
            (40, (0.9, 0.1), (0.85, 0.15), 200, False), (40, FAR, EVEN, 0, True),
            (40, (0.9, 0.1), (0.9, 0.1), 60, True), (40, (0.6, 0.4), (0.5, 0.5), 0, True),
        )
    ),
    *(
        Case(
            f"groups: amplification, {n} and {m}{', rare' * (shares == RARE)}", "Newcombe; exact conditional; Tango",
            f"{n} seeds, {m} images", "shares 0.14, 0.1 and 0.08" if shares == RARE else "shares 0.6, 0.5 and 0.4",
            partial(_amplified_truth, shares), partial(_amplified, n, m, shares),
            ("amplification", "amplification:data", "amplification:difference", "amplification:log_odds_ratio",
             "amplification:change"),
            wide="exact, or few outcomes: at least 95 %, on purpose",
        )
        for n, m, shares in ((40, 60, COMMON), (80, 120, COMMON), (24, 40, RARE))
    ),
)  # fmt: skip
