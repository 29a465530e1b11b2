import numpy as np
import pytest
import torch
from tests.oracles import diagonal_pair

from scorescope.analysis.guidance.paired_runs import parting, savings, separation
from scorescope.data import InputError
from scorescope.probes import CFG, AdaptiveGuidance, Recording, Trace, sample, sweep

PAIR = diagonal_pair([1.5, 0.4], [1.0, 0.7])
COUNT = 60
LABELS = torch.zeros(COUNT, dtype=torch.long)


def test_savings_count_calls_and_change(settings):
    found = savings(settings, against="w3").set_index("setting")
    assert found.loc["w3", "change"] == 0 and found.loc["w3", "calls_saved"] == 0
    assert found.loc["w1", "calls_saved"] == 0.5
    change = (settings[0].run.samples - settings[1].run.samples).square().mean(1).sqrt().mean().item()
    assert found.loc["w1", "change"] == pytest.approx(change, rel=1e-5)
    adaptive = found.loc["adaptive"]
    assert 0 < adaptive["calls_saved"] < 0.5 and adaptive["change"] < found.loc["w1", "change"]
    # against a rule that always needs 70 calls the share saved is a mean over samples
    scalars = settings[2].run.trace.scalars
    shares = 1 - scalars.groupby("sample")["needed"].sum() / 70
    assert adaptive["calls_saved"] == pytest.approx(shares.mean())
    half = 1.96 * shares.std() / np.sqrt(COUNT)
    assert adaptive["saved_high"] - adaptive["saved_low"] == pytest.approx(2 * half, rel=0.15)
    assert adaptive["saved_low"] < adaptive["calls_saved"] < adaptive["saved_high"]
    # those that stopped at the first of the steps from sigma = 2 down, the eleventh of two calls each
    assert found["first_look"].to_dict() == {"w1": 1, "w3": 0, "adaptive": (shares == 15 / 70).mean()}


def test_adaptive_guidance_that_stops_at_once_is_seen():
    # at sigma = 80 both eps predictions are the noise: without `below` the rule is no guidance, and saves half
    rule, how = AdaptiveGuidance(CFG(3.0), threshold=0.9), {"seeds": range(20), "condition": LABELS[:20]}
    settings = sweep(PAIR, {"full": CFG(3.0), "adaptive": rule}, **how, progress=False)
    found = savings(settings, against="full").set_index("setting").loc["adaptive"]
    assert found["first_look"] == 1 and found["calls_saved"] == 33 / 70


def test_separation_finds_where_paths_part(settings):
    w1, w3 = settings[0].run.trace, settings[1].run.trace
    assert not separation(w1, w1)["separated"].any()
    table = separation(w1, w3)
    assert table["mean"].iloc[0] == 0 and table["separated"].iloc[-1]
    x1, x3 = (next(v.x for v in t.kept if v.step == 9 and v.call == 0).double() for t in (w1, w3))
    expected = ((x1 - x3).square().mean(1).sqrt() / table["sigma"][9]).mean().item()
    assert table["mean"][9] == pytest.approx(expected)
    other = sample(PAIR, seeds=range(1, COUNT + 1), condition=LABELS, record=Recording(keep=True), progress=False).trace
    with pytest.raises(InputError, match="pairs with the first"):
        separation(w1, other)


def test_parting_is_the_first_and_last_separated_step(settings):
    table = separation(settings[0].run.trace, settings[1].run.trace)
    steps = table.loc[table["separated"], "step"]
    found = parting(table).set_index("which")
    assert found.loc["first", "step"] == steps.min() and found.loc["last", "step"] == steps.max() == 17
    assert found.loc["last", "mean"] == table["mean"].iloc[-1]
    met = table.assign(separated=table["step"].isin([4, 5, 7]))
    assert list(parting(met)["step"]) == [4, 7] and parting(table.assign(separated=False)).empty


def test_runs_of_unknown_seeds_pair_by_their_first_states(settings, whole):
    def unknown(trace):
        return Trace(trace.scalars, trace.samples.assign(seed=-1), trace.manifest, kept=trace.kept)

    draw = {"condition": LABELS[:20], "record": Recording(keep=True), "progress": False}
    same, other = (sample(PAIR, seeds=seeds, **draw).trace for seeds in (range(20), range(1, 21)))
    assert separation(unknown(whole), unknown(same))["separated"].iloc[-1]
    with pytest.raises(InputError, match="other states at the first step"):
        separation(unknown(whole), unknown(other))
