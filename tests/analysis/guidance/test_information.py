import numpy as np
import pandas as pd
import pytest
import torch
from tests.analysis.guidance.round_mixtures import Mixture

from scorescope.analysis import guidance_information, suggest_interval
from scorescope.data import InputError, load_denoiser
from scorescope.probes import CFG, Interval, Recording, replay, sample
from scorescope.probes.guidance import CFGPP, APGMix, CFGZeroStar, FrequencyDecoupled, Scheduled, describe
from scorescope.probes.models import edm_sigmas
from scorescope.probes.recording.trace import Trace
from scorescope.probes.sampling import Euler


def unguided(count=1500, **options):
    mixture = Mixture()
    labels = torch.arange(count) % mixture.count
    recording = Recording(all_branches=True)
    options = {"sigmas": edm_sigmas(120), "dtype": torch.float64, "batch": count, "progress": False} | options
    return mixture, sample(mixture, seeds=range(count), condition=labels, record=recording, **options).trace


@pytest.fixture(scope="module")
def recorded():
    return unguided()


def test_the_integral_is_the_information_about_the_class(recorded):
    # I(c; x_sigma) = H(c) - H(c | x_sigma), by Monte Carlo with 20000 independent draws, at ten noise levels
    mixture, trace = recorded
    curve = guidance_information(trace)
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(20_000) % mixture.count
    for place in np.linspace(20, 110, 10).astype(int):
        row = curve.iloc[place]
        std = np.sqrt(mixture.variance + row["sigma"] ** 2)
        x = mixture.means[labels] + std * torch.randn(len(labels), 2, generator=generator, dtype=torch.float64)
        posterior = mixture.posterior(x, row["sigma"])
        entropy = -(posterior * posterior.clamp_min(1e-300).log()).sum(1)
        exact = np.log(mixture.count) - entropy.mean().item()
        error = 3 * entropy.std().item() / np.sqrt(len(labels))
        # its own interval, the Monte Carlo error of the exact value, and 1 % for the integral's rule
        slack = error + 0.01 * exact + 2e-3
        assert row["information_low"] - slack <= exact <= row["information_high"] + slack, row["sigma"]


def test_the_whole_information_reaches_its_bound(recorded):
    curve = guidance_information(recorded[1])
    last = curve.iloc[-2]  # the last level before 0
    assert last["bound"] == pytest.approx(np.log(5))
    assert last["information"] == pytest.approx(last["bound"], rel=0.05)
    assert (curve["information"].diff().dropna() >= 0).all()


def test_the_suggested_interval_holds_its_share(recorded):
    _, trace = recorded
    curve = guidance_information(trace)
    found = suggest_interval(trace, share=0.8).iloc[0]
    inside = np.interp(-np.log([found["high"], found["low"]]), -np.log(curve["sigma"]), curve["information"])
    # looked up along straight lines between 120 levels
    assert inside[1] - inside[0] == pytest.approx(0.8 * found["information"], rel=2e-3)
    last = curve[curve["sigma"] > 0].iloc[-1]
    assert last["information_low"] < last["bound"]  # the integral is not shown to exceed the entropy: it is the whole
    assert found["information"] == pytest.approx(last["information"], rel=1e-9)
    assert (
        found["low_low"] <= found["low"] <= found["low_high"]
        and found["high_low"] <= found["high"] <= found["high_high"]
    )


def test_guided_runs_and_missing_branches_are_refused():
    mixture = Mixture()
    labels = torch.zeros(4, dtype=torch.long)
    options = {"seeds": range(4), "condition": labels, "dtype": torch.float64, "progress": False}
    guided = sample(mixture, rule=CFG(2.0), record=Recording(), **options).trace
    with pytest.raises(InputError, match=r"found a path guided by CFG, .* expected an unguided run"):
        guidance_information(guided)
    blind = sample(mixture, record=Recording(), **options).trace
    with pytest.raises(InputError, match="missing updates"):
        suggest_interval(blind)
    with pytest.raises(InputError, match="share"):
        suggest_interval(guided, share=1.0)


AT_ONE = [
    FrequencyDecoupled((8.0, 1.0)), APGMix(1.0, cfg_weight=8.0), Scheduled(CFG(1.0), lambda sigma: 8.0),
    CFGZeroStar(1.0), Interval(Scheduled(CFG(1.0), lambda sigma: 8.0), high=0.5),
]  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    return load_denoiser("digits")[0]


@pytest.mark.parametrize("rule", AT_ONE, ids=describe)
def test_rules_that_state_the_weight_one_and_guide_are_refused(digits, rule):
    trace = digits_run(digits, rule)
    assert trace.manifest["weight"] == 1
    with pytest.raises(InputError, match="a path guided by"):
        guidance_information(trace)
    with pytest.raises(InputError, match="a path guided by"):
        suggest_interval(trace)


def test_cfgpp_at_one_is_refused(digits):
    with pytest.raises(InputError, match="a path guided by CFGPP"):
        guidance_information(digits_run(digits, CFGPP(1.0), solver=Euler()))


def test_a_replay_keeps_the_path_of_the_run_that_it_replays(digits):
    guided = digits_run(digits, CFG(6.0))
    for unguided_rule in (replay(guided, CFG(1.0)), replay(replay(guided, CFG(1.0), keep=True), CFG(1.0))):
        assert (unguided_rule.scalars["applied_sq"] == 0).all()
        with pytest.raises(InputError, match="a path guided by CFG"):
            guidance_information(unguided_rule)
    free = digits_run(digits, CFG(1.0))
    expected = guidance_information(free)
    # the path is what counts: any rule at the states of an unguided run has the same update there
    pd.testing.assert_frame_equal(guidance_information(replay(free, CFG(6.0))), expected, rtol=1e-6)


def test_another_branch_in_place_of_the_unconditional_one_is_refused(recorded):
    trace = recorded[1]
    weak = Trace(trace.scalars.assign(reference="weak"), trace.samples, trace.manifest)
    with pytest.raises(InputError, match="the weak branch in place of D_u"):
        guidance_information(weak)


def digits_run(denoiser, rule, **options):
    options = {"sigmas": (80.0, 8.0, 2.0, 0.5, 0.1, 0.0), "progress": False} | options
    recording = Recording(all_branches=True, keep=True)
    return sample(denoiser, seeds=range(4), condition=torch.arange(4), rule=rule, record=recording, **options).trace


def test_levels_of_infinite_noise_are_left_out_and_counted(recorded):
    trace = recorded[1]
    table, first = trace.scalars, float(trace.scalars["sigma"].max())
    start = table["sigma"] == first
    flow = Trace(
        table.assign(sigma=table["sigma"].where(~start, np.inf), noise_sq=table["noise_sq"].where(~start, np.nan)),
        trace.samples, trace.manifest,
    )  # fmt: skip
    curve = guidance_information(flow)
    without = guidance_information(Trace(table[~start], trace.samples, trace.manifest))
    pd.testing.assert_frame_equal(curve.drop(columns="dropped"), without.drop(columns="dropped"))
    assert set(curve["dropped"]) == {1} and set(without["dropped"]) == {0}
    assert np.isfinite(suggest_interval(flow).drop(columns="missing").to_numpy(float)).all()
    with pytest.raises(InputError, match="no finite noise level"):
        guidance_information(Trace(table[start].assign(sigma=np.inf), trace.samples, trace.manifest))


def test_sixty_steps_give_the_interval_of_many_and_eighteen_none():
    few, enough, many = (suggest_interval(unguided(sigmas=edm_sigmas(n))[1]).iloc[0] for n in (18, 60, 240))
    for end in ("low", "high", "information"):
        assert enough[end] == pytest.approx(many[end], rel=0.015)
    assert few["missing"] == "4 noise levels inside, 12 needed: record more steps" and np.isnan(few["high_low"])
    assert few["levels"] == 4 and enough["missing"] == many["missing"] == "" and enough["levels"] > 12


def test_a_total_beyond_the_entropy_is_cut_there(recorded):
    trace = recorded[1]
    doubled = trace.scalars.assign(update_sq=2 * trace.scalars["update_sq"])
    found = suggest_interval(Trace(doubled, trace.samples, trace.manifest)).iloc[0]
    assert found["information"] == pytest.approx(np.log(5))
    assert found["low"] > 2 * suggest_interval(trace).iloc[0]["low"]  # what is told below is no information


class Unconditional(Mixture):
    """Ignores its condition; `slip` is what rounding leaves between its branches."""

    slip = 0.0

    def __call__(self, x, sigma, condition):
        found = super().__call__(x, sigma, None)
        return found if condition is None else found * (1 + self.slip)


@pytest.mark.parametrize(("slip", "dtype"), [(0.0, torch.float64), (1e-17, torch.float64), (2e-8, torch.float32)])
def test_a_model_that_ignores_its_condition_has_no_interval(slip, dtype):
    model = Unconditional()
    model.slip, model.means = slip, model.means.to(dtype)
    options = {"seeds": range(8), "condition": torch.arange(8) % 5, "sigmas": edm_sigmas(60), "dtype": dtype}
    trace = sample(model, record=Recording(all_branches=True), progress=False, **options).trace
    found = suggest_interval(trace).iloc[0]
    assert found["missing"] == "no information: the branches differ by rounding only"
    assert found[["low", "high"]].isna().all() and found["information"] < 1e-9
    assert guidance_information(trace)["information"].max() < 1e-9


def one_label(label, count=320):
    mixture, recording = Mixture(), Recording(all_branches=True)
    labels = torch.full((count,), label)
    options = {"sigmas": edm_sigmas(60), "dtype": torch.float64, "batch": count, "progress": False}
    return sample(mixture, seeds=range(count), condition=labels, record=recording, **options).trace


def test_samples_of_one_label_have_no_entropy_to_exceed():
    # KL of one of five classes from all is ln 5, however few labels were sampled
    trace = one_label(2)
    curve, found = guidance_information(trace), suggest_interval(trace).iloc[0]
    assert curve["bound"].isna().all()
    last = curve[curve["sigma"] > 0].iloc[-1]
    assert last["information_low"] < np.log(5) < last["information_high"] and last["information_low"] > 0.5
    assert found["missing"] == "" and found["information"] == pytest.approx(last["information"])
    whole = suggest_interval(unguided(320, sigmas=edm_sigmas(60))[1]).iloc[0]
    assert found["high"] == pytest.approx(whole["high"], rel=0.15)  # each class is as the others


def test_one_label_of_a_model_that_ignores_it_has_no_interval():
    options = {"seeds": range(8), "condition": torch.zeros(8, dtype=torch.long), "dtype": torch.float64}
    options |= {"record": Recording(all_branches=True), "sigmas": edm_sigmas(60), "progress": False}
    trace = sample(Unconditional(), **options).trace
    assert suggest_interval(trace).iloc[0]["missing"] == "no information: the branches differ by rounding only"


def test_an_end_that_few_samples_decide_is_open(recorded):
    # five far classes: what is told at low noise comes from the few samples that pass near another class
    trace = recorded[1]
    few = Trace(trace.scalars[trace.scalars["sample"] < 24], trace.samples[:24], trace.manifest)
    found = suggest_interval(few).iloc[0]
    assert found["low_low"] == pytest.approx(trace.scalars["sigma"].min()) and found["low_low"] < found["low"]
    assert found["high_high"] < 0.2 * trace.scalars["sigma"].max()
