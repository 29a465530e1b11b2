"""How much of a network is a law with a closed form: fractions, paths, modes, memorisation."""

from dataclasses import replace
from functools import cache, partial

import numpy as np
import torch

from scorescope.analysis.gaussian.gaps import score_gaps
from scorescope.analysis.gaussian.norms import noise_norms
from scorescope.analysis.gaussian.paths import emergence, end_agreement, path_pair
from scorescope.analysis.gaussian.scores import regimes, score_table
from scorescope.analysis.gaussian.skip import _against
from scorescope.analysis.gaussian.training import memorisation
from scorescope.probes.approximations import Gaussian, Mixture, isotropic
from scorescope.probes.models import edm_sigmas
from tests.benchmarks.coverage.case import Case, pick


def law(modes, *, fall=7.0, factor=1.0, shift=0.0, name="gaussian"):
    """A Gaussian of a falling spectrum."""
    values = factor * 2.8 * torch.exp(-torch.arange(modes, dtype=torch.float64) / fall)
    return Gaussian(torch.full((modes,), shift).double(), torch.eye(modes).double(), values, name=name)


def images(distribution, n, rng):
    return distribution.sample(n, generator=torch.Generator().manual_seed(int(rng.integers(2**31))))


def _table(modes, sigma, n, rng):
    truth, other = law(modes), law(modes, factor=1.2, shift=0.05)
    gaps = score_gaps(truth, [other], images(truth, n, rng), [sigma], seed=int(rng.integers(2**31)))
    return score_table(gaps, resamples=1000).query("metric == 'centred'").iloc[0]


def _scores(modes, sigma, n, rng):
    row = _table(modes, sigma, n, rng)
    found = {"ratio of sums": pick(row, "ratio_of_sums")["ratio_of_sums"]}
    if modes >= 8 and n >= 48:
        found["mean of ratios"] = pick(row, "mean_of_ratios")["mean_of_ratios"]
    return found


@cache
def _score_truth(modes, sigma, n):
    truth, other, rng = law(modes), law(modes, factor=1.2, shift=0.05), np.random.default_rng(20)
    gaps = score_gaps(truth, [other], images(truth, 200_000, rng), [sigma])
    error, total = gaps.errors["gaussian"][0], gaps.totals["centred"][0]
    found = {"ratio of sums": error.sum() / total.sum()}
    return found | ({"mean of ratios": float((error / total).mean())} if modes >= 8 and n >= 48 else {})


def _laws():
    """The truth, a Gaussian a little off, one that is better."""
    return law(16), [law(16, factor=1.16), law(16, factor=1.08, name="a little better")]


def _regimes(n, rng):
    truth, others = _laws()
    gaps = score_gaps(truth, others, images(truth, n, rng), [3.0], seed=int(rng.integers(2**31)))
    row = regimes(gaps).iloc[0]
    return {
        "fraction of the best law": pick(row, "best_fraction")["best_fraction"],
        "excess of the Gaussian": pick(row, "gaussian_excess")["gaussian_excess"],
    }


@cache
def _regimes_truth():
    truth, others = _laws()
    gaps = score_gaps(truth, others, images(truth, 200_000, np.random.default_rng(21)), [3.0])
    parts = {name: error[0].sum() / gaps.totals["centred"][0].sum() for name, error in gaps.errors.items()}
    best = parts["a little better"]
    return {"fraction of the best law": best, "excess of the Gaussian": parts["gaussian"] - best}


@cache
def two_modes():
    """Two Gaussians in three dimensions: a network that no Gaussian is."""
    means = [torch.tensor([sign * 1.5, 0.0, 0.0]).double() for sign in (1, -1)]
    return Mixture(tuple(isotropic(mean, 0.3) for mean in means), torch.tensor([0.6, 0.4]).double())


@cache
def its_gaussian():
    return Gaussian(
        torch.tensor([0.3, 0, 0]).double(), torch.eye(3).double(), torch.tensor([0.3 + 2.16, 0.3, 0.3]).double()
    )


SIGMAS = edm_sigmas(24, sigma_min=0.1, sigma_max=20.0)[:-1]
POOL = 20_000


@cache
def _paths():
    """Both paths of many seeds; samples are drawn from them with replacement."""
    return path_pair(two_modes(), its_gaussian(), seeds=range(POOL), sigmas=SIGMAS, dtype=torch.float64)


def _of_pair(pair, rows):
    network = replace(
        pair.network, states=pair.network.states[:, rows], denoised=pair.network.denoised[:, rows],
        end=pair.network.end[rows],
    )  # fmt: skip
    return replace(
        pair, network=network, states=pair.states[:, rows], denoised=pair.denoised[:, rows], end=pair.end[rows]
    )


def _side(samples):
    return (samples[:, 0] > 0).long()


def _ends(pair):
    found = end_agreement({"gaussian": pair.end}, pair.network.end, pair.gaussian.mean, _side).iloc[0]
    return found, emergence(pair, modes=1).iloc[0]


def _path(n, rng):
    ends, mode = _ends(_of_pair(_paths(), rng.integers(POOL, size=n)))
    return {
        "error of the end samples": pick(ends, "")[""],
        "flips": pick(ends, "flips")["flips"],
        "where a mode emerges": pick(mode, "")[""],
    }


@cache
def _path_truth():
    pair = _paths()
    found = end_agreement({"gaussian": pair.end}, pair.network.end, pair.gaussian.mean, _side).iloc[0]
    mode = emergence(pair, modes=1, resamples=1).iloc[0]
    return {
        "error of the end samples": found["ratio_of_sums"],
        "flips": found["flips"],
        "where a mode emerges": mode["sigma_network"],
    }


def _medians(n, rng):
    base = rng.normal(size=n)
    return {
        "ratio of medians": tuple(_against(np.exp(base + 0.5 * rng.normal(size=n) - 0.3), np.exp(base)).values())[1:]
    }


def _noise(n, rng):
    values = torch.from_numpy(0.5 + 0.5 * rng.exponential(size=(n, 1)) * rng.normal(size=(n, 12)))
    row = noise_norms(values, [1.0], seed=int(rng.integers(2**31))).iloc[0]
    return {"squared norm": pick(row, "")[""], "share inside": pick(row, "inside")["inside"]}


@cache
def _noise_truth():
    rng = np.random.default_rng(22)
    values = torch.from_numpy(0.5 + 0.5 * rng.exponential(size=(200_000, 1)) * rng.normal(size=(200_000, 12)))
    row = noise_norms(values, [1.0]).iloc[0]
    return {"squared norm": row["mean"], "share inside": row["inside"]}


def _memorised(n, rng, probes=4):
    points = images(two_modes(), n, rng)
    table = memorisation(two_modes(), {"own": points}, [1.0], probes=probes, seed=int(rng.integers(2**31)))
    return {f"memorisation: {row['quantity']}": pick(row, "")[""] for _, row in table.iterrows()}


@cache
def _memorised_truth():
    points = images(two_modes(), 200_000, np.random.default_rng(23))
    table = memorisation(two_modes(), {"own": points}, [1.0], probes=4)
    return {f"memorisation: {row['quantity']}": row["mean"] for _, row in table.iterrows()}


CASES = (
    *(
        Case(
            f"gaussian: scores, {modes} modes, {n}", "studentised bootstrap", str(n),
            f"{modes} modes of a falling spectrum, sigma {sigma:g}", partial(_score_truth, modes, sigma, n),
            partial(_scores, modes, sigma, n),
            ("score_comparison:ratio_of_sums", "score_comparison:mean_of_ratios", "dynamics:ratio_of_sums",
             "dynamics:mean_of_ratios"),
        )
        for modes, sigma, n in ((1, 3.0, 16), (1, 3.0, 48), (2, 20.0, 16), (2, 3.0, 48), (64, 20.0, 16), (64, 20.0, 48))
    ),
    *(
        Case(
            f"gaussian: regimes, {n}", "studentised bootstrap, paired", str(n), "16 modes, two laws a little off",
            _regimes_truth, partial(_regimes, n), ("regimes:best_fraction", "regimes:gaussian_excess"),
        )
        for n in (16, 60)
    ),
    *(
        Case(
            f"gaussian: paths, {n}", "studentised bootstrap; exact; bootstrap of the crossing", str(n),
            f"two modes beside their Gaussian; {POOL} paths", _path_truth, partial(_path, n),
            ("path_errors", "end_agreement", "end_agreement:flips", "skip_candidates", "mode_emergence"),
            wide="flips: exact, at least 95 %",
        )
        for n in (16, 48)
    ),
    *(
        Case(
            f"gaussian: skip, {n}", "paired bootstrap of the ratio of medians", str(n), "log-normal errors, paired",
            lambda: {"ratio of medians": float(np.exp(-0.3))}, partial(_medians, n), ("skips:against_none",),
            wide="medians of draws take few values",
        )
        for n in (16, 48)
    ),
    Case(
        "gaussian: norms, 32", "Hall's corrected t; Wilson", "32", "scales of an exponential law, d = 12", _noise_truth,
        partial(_noise, 32), ("noise_norms", "noise_norms:inside"),
    ),
    *(
        Case(
            f"gaussian: memorisation, {n}", "Hall's corrected t", str(n), "two Gaussians in three dimensions",
            _memorised_truth, partial(_memorised, n), ("memorisation", "flipd", "jacobian_ranks"),
        )
        for n in (8, 32)
    ),
)  # fmt: skip
