"""Emergence in a two-component mixture, where what a switch of the condition does is known in closed form."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binom
from torch import nn

from scorescope.analysis.directions.emergence import Thresholds, trace_direction
from scorescope.analysis.directions.landmarks import Shares, draw_seeds, first_rise, last_fall, last_rise
from scorescope.analysis.directions.probing import ProbeScan, probe_scan
from scorescope.analysis.statistics.intervals import wilson
from scorescope.data.errors import InputError
from scorescope.probes.activations.along_sampling import sample_with_sites
from scorescope.probes.activations.collect import collect
from scorescope.probes.bank.points import Bank, log_snr_grid
from scorescope.probes.models.noise import SampleNoise, edm_sigmas
from scorescope.probes.sampling.solvers import Heun
from scorescope.probes.sites import Direction

MEAN, SPREAD, WIDTH = 1.0, 0.4, 6
SIGMAS = edm_sigmas(24, sigma_min=0.02, sigma_max=40.0)
SEEDS = range(300)


class Mixture(nn.Module):
    """Exact denoiser of two Gaussians at +-MEAN along the first axis; a condition (batch,) is the component."""

    shape = (WIDTH,)

    def __init__(self):
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, x, sigma, condition=None):
        total = SPREAD**2 + sigma[:, None] ** 2
        hidden = self.inner(x / total.sqrt())  # the site: what the network knows of x
        axis = torch.eye(WIDTH)[0]
        if condition is None:
            mean = MEAN * torch.tanh(MEAN * hidden[:, :1] / total.sqrt())
        else:
            mean = MEAN * (2.0 * condition[:, None] - 1)
        centre = mean * axis
        return centre + SPREAD**2 / total * (x - centre)


def scores(images):
    return {"side": images[:, 0] * 5, "junk": images[:, 1]}


@pytest.fixture(scope="module")
def scan():
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (800,), generator=g)
    x0 = SPREAD * torch.randn(800, WIDTH, generator=g)
    x0[:, 0] += MEAN * (2.0 * labels - 1)
    bank = Bank(x0, log_snr_grid(-7, 7, 8))
    return probe_scan(collect(Mixture(), bank, ["inner"]), {"side": labels})


def traced(**changes):
    zeros, ones = torch.zeros(len(SEEDS), dtype=torch.int64), torch.ones(len(SEEDS), dtype=torch.int64)
    options = {"attribute": "side", "seeds": SEEDS, "scores": scores, "condition": zeros, "other": ones}
    options |= {"sigmas": SIGMAS, "switches": None, "resamples": 300}
    return trace_direction(Mixture(), **(options | changes))


def test_the_switch_follows_its_closed_form_and_is_steerable_until_sqrt_3_spreads():
    sigmas = edm_sigmas(100, sigma_min=0.02, sigma_max=40.0)  # Heun's correction is half a step ahead of the switch
    found = traced(sigmas=sigmas, switches=50)
    curve = found.curves.query("curve == 'switch'")
    assert curve["value"].iloc[0] == 1.0  # from the first step on: a plain run with the other condition
    start = sigmas[0] * SampleNoise(list(SEEDS), (WIDTH,), torch.device("cpu"), torch.float32).draw()[:, 0].numpy()

    def follows(sigma):
        # along the axis x - mean shrinks by sqrt(SPREAD^2 + sigma^2), first about -MEAN and then about MEAN
        sizes = [math.hypot(SPREAD, level) for level in (sigmas[0], sigma, 0.0)]
        at_switch = -MEAN + (start + MEAN) * sizes[1] / sizes[0]
        return (MEAN + (at_switch - MEAN) * sizes[2] / sizes[1] > 0).mean()

    for step, value in zip(curve["step"].iloc[1:], curve["value"].iloc[1:], strict=True):
        # the switch is between this level and the one before
        assert follows(sigmas[step]) - 0.01 <= value <= follows(sigmas[step - 1]) + 0.01, step
    row = found.landmarks.set_index("landmark").loc["steerable_until"]
    expected = -2 * math.log(math.sqrt(3) * SPREAD)  # of all seeds; these seeds' own median is a little off
    own = next(sigma for sigma in np.geomspace(0.3, 1.5, 500) if follows(sigma) >= 0.5)
    assert row["log_snr"] == pytest.approx(-2 * math.log(own), abs=0.15) and row["reached"] == 1
    assert row["low"] - 0.15 <= expected <= row["high"] + 0.15
    assert row["sigma"] == pytest.approx(math.exp(-row["log_snr"] / 2))


def test_a_deterministic_path_is_decided_from_its_start_and_readable_by_a_probe_of_other_paths(scan):
    run, taps = sample_with_sites(Mixture(), ["inner"], seeds=range(1000, 1600), sigmas=SIGMAS, progress=False)
    of_paths = probe_scan(taps.activations(), {"side": run.samples[:, 0] > 0})
    found = traced(scan=of_paths, site="inner")
    curves = found.curves.set_index("curve")["value"]
    assert (curves["agreement"] == 1).all()  # the flow keeps the side of the axis on which it starts
    assert (curves["probe"] > 0.93).all()
    # what a bank teaches at the highest noise is next to nothing: there its images and their noise are independent
    of_bank = traced(scan=scan, site="inner", condition=None, other=None).curves.query("curve == 'probe'")["value"]
    assert of_bank.iloc[0] < 0.75 and of_bank.iloc[-1] > 0.97
    landmarks = found.landmarks.set_index("landmark")
    first = -2 * math.log(SIGMAS[0])
    assert landmarks.loc["committed_at", "log_snr"] == landmarks.loc["readable_from", "log_snr"] == first
    assert landmarks.loc["visible_from", "log_snr"] == first  # under a condition, which names it
    gaps = found.gaps.set_index(["earlier", "later"])
    row = gaps.loc["readable_from", "steerable_until"]
    assert row["low"] > 0 and row["gap"] == pytest.approx(landmarks.loc["steerable_until", "log_snr"] - first)
    assert len(gaps) == 6


def test_a_stochastic_path_is_decided_late_and_the_probe_sees_what_the_estimate_shows(scan):
    found = traced(scan=scan, site="inner", solver=Heun(churn=24), condition=None, other=None)
    curves = {name: part["value"].to_numpy() for name, part in found.curves.groupby("curve")}
    assert set(curves) == {"agreement", "probe"}
    assert curves["agreement"][0] < 0.75 and curves["agreement"][-1] == 1
    # both are the sign of x along the axis, but for errors of the fitted threshold
    late = found.curves.query("sigma < 2").pivot(index="step", columns="curve", values="value")
    assert len(late) > 8
    np.testing.assert_allclose(late["probe"], late["agreement"], atol=0.06)
    committed = found.landmarks.set_index("landmark").loc["committed_at"]
    assert committed["low"] <= committed["log_snr"] <= committed["high"] and committed["log_snr"] > -5
    assert list(found.gaps[["earlier", "later"]].iloc[0]) == ["readable_from", "committed_at"]


def test_steps_beyond_the_scanned_levels_are_left_out_of_the_probe_curve(scan):
    part = dataclasses.replace(scan, sigmas=(scan.sigmas[0], *scan.sigmas[1:3], *[s + 3 for s in scan.sigmas[3:]]))
    found = traced(scan=part, site="inner", condition=None, other=None)
    sigmas = found.curves.query("curve == 'probe'")["sigma"]
    assert min(part.sigmas) / 1.5 <= sigmas.min() < min(part.sigmas) * 1.5 and 0 < len(sigmas) < len(SIGMAS) - 1
    with pytest.raises(InputError, match="some of those of sampling"):
        traced(scan=dataclasses.replace(scan, sigmas=(1e4,) * 8), site="inner", condition=None, other=None)


def test_batches_change_nothing_and_neither_does_an_unrelated_call(scan):
    first = traced(scan=scan, site="inner", switches=4)
    Mixture()(torch.randn(3, WIDTH), torch.ones(3)), torch.randn(4), np.random.default_rng(0).random()
    second = traced(scan=scan, site="inner", switches=4, batch=37)
    pd.testing.assert_frame_equal(first.curves, second.curves, atol=1e-9)
    pd.testing.assert_frame_equal(first.landmarks, second.landmarks, atol=1e-6)


def test_thresholds_that_are_never_reached_are_said_to_be_so():
    found = traced(thresholds=Thresholds(committed=1.1, steerable=1.1), switches=3)
    rows = found.landmarks.set_index("landmark")
    assert rows.loc["committed_at", "log_snr"] == math.inf and rows.loc["committed_at", "reached"] == 0
    assert rows.loc["steerable_until", "log_snr"] == -math.inf and np.isnan(rows.loc["committed_at", "sigma"])


def test_landmarks_lie_between_points_by_the_line_through_them():
    log_snr = np.array([0.0, 2.0, 4.0, 6.0])
    curves = np.array([[0.0, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(first_rise(log_snr, curves, 0.5), [1.0, 0.0, math.inf])
    np.testing.assert_array_equal(last_rise(log_snr, curves, 0.5), [5.0, 0.0, math.inf])
    np.testing.assert_array_equal(last_fall(log_snr, curves, 0.5), [6.0, 6.0, -math.inf])
    np.testing.assert_array_equal(last_fall(log_snr, 1 - curves, 0.75), [4.5, -math.inf, 6.0])


class Coins(ProbeScan):
    """Probes that know nothing, at every noise level: a coin a seed."""

    sigmas = (80.0, 0.002)

    def __init__(self, seed):
        self.rng, self.classes = np.random.default_rng(seed), np.array([0, 1])

    def probe(self, attribute, site, *, sigma):
        return self

    def predict(self, values):
        return self.rng.integers(0, 2, len(values))


def test_a_probe_that_knows_nothing_is_readable_as_often_as_its_last_point_is_lucky():
    """4 positives among 16: first passages would be declared in one run of four."""
    positives = torch.arange(16) < 4
    options = {"scores": lambda images: {"side": positives.float() - 0.5}, "attribute": "side", "seeds": range(16)}
    options |= {"site": "inner", "sigmas": edm_sigmas(10), "resamples": 300}
    found = [trace_direction(Mixture(), scan=Coins(seed), **options) for seed in range(120)]
    rows = pd.concat([part.landmarks for part in found]).query("landmark == 'readable_from'")
    few, many = np.meshgrid(np.arange(5), np.arange(13))
    lucky = float((binom.pmf(few, 4, 0.5) * binom.pmf(many, 12, 0.5))[few / 4 + many / 12 >= 1.5].sum())
    assert lucky < 0.07 and rows["sigma"].notna().mean() == pytest.approx(lucky, abs=3 * (lucky / 120) ** 0.5)
    gaps = pd.concat([part.gaps for part in found])
    assert not ((gaps["low"] > 1e-6) & (gaps["defined"] > 0.95)).any()  # nor is it readable before anything


def test_a_draw_without_a_class_is_drawn_again():
    """Recall of one class is no balanced accuracy: a constant answer has 1/2 in every draw."""
    truth = np.arange(16) < 4
    part = Shares.balanced("probe", np.ones((3, 16), bool), truth, [0, 1, 2])
    weights = draw_seeds([part], 16, resamples=2000, seed=0)
    assert weights.shape == (2001, 16) and (weights.sum(1) == 16).all()
    assert (part.draws(weights) == 0.5).all()
    # apart from that the bootstrap is as it was: binomial counts, less the 1 % of none
    counts = weights[1:, truth].sum(1)
    absent = binom.pmf(0, 16, 0.25)
    assert counts.min() == 1 and counts.mean() == pytest.approx(4 / (1 - absent), abs=4 * (3 / 2000) ** 0.5)


def test_ends_of_a_curve_are_wilsons():
    """7 of 8 seeds: 0.529 to 0.978; of balanced accuracy from 4 of 5 and 1 of 3, by the squares of their arms."""
    right = np.arange(8)[None] > 0
    low, high = Shares("switch", [(right, np.ones(8, bool))], [0]).ends()
    assert (low[0], high[0]) == pytest.approx((0.529, 0.978), abs=1e-3)
    truth, predicted = np.arange(8) < 5, np.array([[1, 1, 1, 1, 0, 1, 1, 0]], bool)
    low, high = Shares.balanced("probe", predicted, truth, [0]).ends()
    parts = [np.array(wilson(*counts)) for counts in ((4, 5), (1, 3))]
    arms = np.sqrt(sum((part[1:] - part[0]) ** 2 for part in parts)) / 2
    assert (low[0], high[0]) == pytest.approx((0.5667 - arms[0], 0.5667 + arms[1]), abs=1e-4)


def test_landmarks_are_the_last_crossing():
    class Relapse(Coins):
        """Right from the second step on, but for the fifth."""

        def predict(self, values):
            self.calls = getattr(self, "calls", -1) + 1
            right = np.arange(300) % 2
            return 1 - right if self.calls in (0, 4) else right

    options = {"scan": Relapse(0), "site": "inner", "condition": None, "other": None, "sigmas": edm_sigmas(10)}
    found = traced(**options, scores=lambda images: {"side": torch.arange(300) % 2 - 0.5})
    curve, row = found.curves.query("curve == 'probe'"), found.landmarks.set_index("landmark").loc["readable_from"]
    assert curve["value"].tolist() == [0, 1, 1, 1, 0, 1, 1, 1, 1, 1]
    levels = curve["log_snr"].to_numpy()
    assert row["log_snr"] == row["low"] == row["high"] == pytest.approx(0.25 * levels[4] + 0.75 * levels[5])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"other": None}, "both of each pair"),
        ({"site": "inner"}, "both of each pair"),
        ({"attribute": "size"}, "one of 'size'"),
        (
            {"scores": lambda images: {"side": images[:, 0] ** 2 + 1}},
            "300 of 300 final images that score above zero; expected at least 4",
        ),
        ({"scores": lambda images: {"side": images[:, 0] * torch.nan}}, "finite numbers"),
        ({"scores": lambda images: images[:, 0]}, "a mapping of names to torch tensors"),
        ({"other": torch.zeros(300, dtype=torch.int64)}, "differ in the attribute"),
        ({"switches": 1}, "at least 2"),
        ({"seeds": range(7)}, "8 seeds"),
        (
            {"scores": lambda images: {"side": (images[:, 0].argsort().argsort() < 3).float() - 0.5}},
            "3 of 300 final images",
        ),
    ],
)
def test_bad_input(changes, text):
    with pytest.raises(InputError, match=text):
        traced(**changes)


def test_a_probe_of_another_attribute_or_of_several_classes_is_refused(scan):
    with pytest.raises(InputError, match="side at inner"):
        traced(scan=scan, site="outer")
    several = probe_scan(
        collect(Mixture(), Bank(torch.randn(200, WIDTH), [1.0, 2.0]), ["inner"]), {"side": np.arange(200) % 3}
    )
    with pytest.raises(InputError, match="two classes"):
        traced(scan=several, site="inner")


def test_a_direction_alone_is_read_as_its_axis_is(scan):
    """The axis of the attribute tells all that the site does, and another axis nothing."""
    axis, other = (Direction(row, "inner", "side", "sparse feature", scale=1.0) for row in torch.eye(WIDTH)[:2])
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (800,), generator=g)
    x0 = SPREAD * torch.randn(800, WIDTH, generator=g)
    x0[:, 0] += MEAN * (2.0 * labels - 1)
    found = collect(Mixture(), Bank(x0, log_snr_grid(-7, 7, 8)), ["inner"])

    def curve(**more):
        options = {"site": "inner", "condition": None, "other": None} | more
        return traced(**options).curves.query("curve == 'probe'")["value"].to_numpy()

    whole = curve(scan=scan)
    alone = curve(scan=probe_scan(found.along(axis), {"side": labels}), along=axis)
    blind = curve(scan=probe_scan(found.along(other), {"side": labels}), along=other)
    # the path is deterministic and keeps the side on which it began; a probe of six numbers fits noise at high levels
    assert alone.min() > 0.97 and (alone > whole - 0.02).all()
    assert abs(blind - 0.5).max() < 0.12
    with pytest.raises(InputError, match="one at the site"):
        traced(scan=scan, site="inner", along=Direction(torch.ones(WIDTH), "x", "side", "", scale=1.0))
