"""Where to guide, what sweeps change, and what a clip or a cheaper rule saves."""

from functools import cache, partial

import numpy as np
import pandas as pd
import torch
from numpy.random import Generator

from scorescope.analysis.fid.neighbours import neighbour_values
from scorescope.analysis.guidance.information import guidance_information, suggest_interval
from scorescope.analysis.guidance.paired_runs import savings
from scorescope.analysis.guidance.paths import clip_share
from scorescope.analysis.guidance.setting_comparisons import changes
from scorescope.analysis.guidance.sweeps import measure_sweep, sample_metrics
from scorescope.probes import CFG, AdaptiveGuidance, Trace
from scorescope.probes.experiments.sweep import Setting
from scorescope.probes.sampling import Run
from tests.analysis.guidance.round_mixtures import Mixture, of_mixture
from tests.benchmarks.coverage.case import Case, pick

POOL = 6_000  # runs that samples are drawn from, with replacement, as many of each class: their own truth is exact
MIDDLE = 30  # of 60 noise levels
OPEN = "open where few samples hold what lies beyond"


@cache
def pool(setting):
    """An unguided run of many samples, and the rows of each."""
    trace = of_mixture(Mixture(*setting), POOL)
    scalars = trace.scalars.sort_values(["sample", "step"], kind="stable").reset_index(drop=True)
    return Trace(scalars, trace.samples, trace.manifest), scalars.groupby("sample").size().iloc[0]


def _drawn(setting, n, rng: Generator):
    """Samples of a pool, as many of each class as divides."""
    trace, steps = pool(setting)
    count = setting[0]
    chosen = rng.integers(POOL // count, size=n) * count + np.arange(n) % count
    rows = (chosen[:, None] * steps + np.arange(steps)).ravel()
    scalars = trace.scalars.iloc[rows].assign(sample=np.repeat(np.arange(n), steps))
    samples = trace.samples.iloc[chosen].assign(sample=np.arange(n)).reset_index(drop=True)
    return Trace(scalars.reset_index(drop=True), samples, trace.manifest)


def _ends_of(trace):
    return suggest_interval(trace).iloc[0], guidance_information(trace).iloc[MIDDLE]


def _information(setting, n, rng):
    interval, level = _ends_of(_drawn(setting, n, rng))
    return {
        "upper end": pick(interval, "high")["high"], "lower end": pick(interval, "low")["low"],
        "density": pick(level, "")[""], "information": pick(level, "information")["information"],
    }  # fmt: skip


@cache
def _information_truth(setting):
    interval, level = _ends_of(pool(setting)[0])
    return {
        "upper end": interval["high"], "lower end": interval["low"], "density": level["density"],
        "information": level["information"],
    }  # fmt: skip


def _sweep(rng):
    """Two settings of eight classes of 20 in the plane; the second is 1.3 times as wide with noise of its own."""
    labels = torch.arange(8).repeat_interleave(20)
    x = torch.from_numpy(rng.normal(size=(160, 2)))
    y = 1.3 * x + 0.5 * torch.from_numpy(rng.normal(size=(160, 2)))
    settings = [Setting(name, CFG(1.0), Run(values, None)) for name, values in (("x", x), ("y", y))]
    rows = sample_metrics(settings, labels=labels, scorer=lambda images: (images[:, 0] > 0.5).double())
    alone = measure_sweep(settings, rows=rows).set_index(["setting", "metric"])
    pair = changes(rows, against="x", metrics=["diversity"]).iloc[0]
    return {
        "diversity": pick(alone.loc["x", "diversity"], "")[""],
        "change of diversity": pick(pair, "")[""],
        "score of zeros and ones": pick(alone.loc["x", "score"], "")[""],
        "contrast": pick(alone.loc["x", "contrast"], "")[""],
    }


def _sweep_truth():
    spread = np.sqrt(1.3**2 + 0.5**2)
    return {
        # E|x - y| of two normal points of the plane is sqrt(pi) times their standard deviation
        "diversity": np.sqrt(np.pi), "change of diversity": np.sqrt(np.pi) * (spread - 1),
        "score of zeros and ones": 0.3085375387259869,
        "contrast": _contrast(),
    }  # fmt: skip


@cache
def _contrast():
    x = torch.from_numpy(np.random.default_rng(12).normal(size=(400_000, 2)))
    rows = sample_metrics([Setting("x", CFG(1.0), Run(x, None))])
    return float(rows["contrast"].mean())


@cache
def _reference():
    return torch.from_numpy(np.random.default_rng(13).normal(size=(200, 4)))


def _against(rng):
    samples = torch.from_numpy(1.2 * rng.normal(size=(100, 4)))
    reference = torch.from_numpy(rng.normal(size=(200, 4)))
    table = measure_sweep([Setting("x", CFG(1.0), Run(samples, None))], reference=reference).set_index("metric")
    return {
        f"{metric}, in a sweep": pick(table.loc[metric], "")[""]
        for metric in ("frechet_debiased", "precision", "recall")
    }


@cache
def _against_truth():
    rng, found = np.random.default_rng(14), []
    for _ in range(1500):
        found.append(neighbour_values(1.2 * rng.normal(size=(100, 4)), rng.normal(size=(200, 4))))
    means = {
        f"{metric}, in a sweep": float(np.mean([row[metric] for row in found])) for metric in ("precision", "recall")
    }
    return {"frechet_debiased, in a sweep": 4 * 0.2**2} | means


STEPS = 10


def _norms(n, rng):
    """Updates of which a sample is above the clip at a share of steps that is its own."""
    likely = rng.beta(1, 3, n)
    return 1 + (rng.random((n, STEPS)) < likely[:, None])


def _clip(n, rng):
    norms = _norms(n, rng)
    keys = {
        "rule": "CFG", "weight": 3.0, "path_weight": 3.0, "run": 0, "stream": 0, "call": 0,
        "sample": np.repeat(np.arange(n), STEPS), "step": np.tile(np.arange(STEPS), n), "sigma": 1.0,
    }  # fmt: skip
    table = pd.DataFrame({**keys, "update_norm": norms.ravel(), "update_ratio": 0.1})
    return {"share of steps that are clipped": pick(clip_share(table, norms=[1.5]).iloc[0], "")[""]}


def _setting(name, calls, samples):
    n = len(calls)
    rows = {"sample": np.arange(n), "step": 0, "call": 0, "sigma": 1.0, "needed": calls}
    about = pd.DataFrame({"sample": np.arange(n), "seed": np.arange(n), "condition": 0})
    rule = AdaptiveGuidance(CFG(3.0)) if name == "adaptive" else CFG(3.0)
    return Setting(name, rule, Run(samples, Trace(pd.DataFrame(rows), about, {})))


def _savings(n, rng):
    """A rule that stops anywhere between the 20th and the 70th of 70 calls, most often early."""
    calls = 20 + np.round(50 * rng.beta(0.7, 2, n))
    samples = torch.from_numpy(rng.normal(size=(n, 2)))
    table = savings(
        [_setting("full", np.full(n, 70.0), samples), _setting("adaptive", calls, samples)], against="full"
    ).set_index("setting")
    return {"calls saved": pick(table.loc["adaptive"], "saved")["saved"]}


@cache
def _savings_truth():
    calls = 20 + np.round(50 * np.random.default_rng(15).beta(0.7, 2, 4_000_000))
    return {"calls saved": float(1 - calls.mean() / 70)}


INFORMATION = (
    "guidance_information", "guidance_information:information", "suggested_interval:low", "suggested_interval:high",
)  # fmt: skip
CASES = (
    *(
        Case(
            f"guidance: information, {classes} classes, {n}", "Hall's corrected t; inverted test of the ends", str(n),
            f"{classes} classes, radius {radius}, spread {spread}; {POOL} runs",
            partial(_information_truth, (classes, radius, spread)), partial(_information, (classes, radius, spread), n),
            INFORMATION, wide=OPEN,
        )
        for classes, radius, spread, n in ((5, 1.5, 0.3, 16), (3, 1.0, 0.8, 16), (10, 1.5, 0.3, 48))
    ),
    Case(
        "guidance: sweep, 160", "jackknife pseudo-values, Hall's corrected t; exact", "8 classes of 20",
        "normal, plane", _sweep_truth, _sweep, ("sweep", "changes", "known_effects"),
    ),
    Case(
        "guidance: sweep against a reference, 100", "jackknife; random halves", "100 against 200",
        "normal, d = 4, spread 1.2", _against_truth, _against, ("sweep", "steps"),
        wide="halves scatter more than the whole",
    ),
    *(
        Case(
            f"guidance: clip, {n}", "Hall's corrected t, of samples that agree an exact bound", f"{n}, 10 steps",
            "a share of its own a sample, beta", lambda: {"share of steps that are clipped": 0.25}, partial(_clip, n),
            ("clip_share",),
        )
        for n in (8, 32)
    ),
    *(
        Case(
            f"guidance: savings, {n}", "Hall's corrected t of the ratio of sums", str(n), "calls of 70, beta",
            _savings_truth, partial(_savings, n), ("savings:saved",),
        )
        for n in (8, 32)
    ),
)  # fmt: skip
