import numpy as np
import pytest
import torch
from tests.oracles import random_pair

from scorescope.analysis.changes import update_agreement
from scorescope.data import InputError
from scorescope.probes.experiments import replay
from scorescope.probes.guidance import CFG
from scorescope.probes.recording import Recording
from scorescope.probes.sampling import sample

PAIR = random_pair()


def run(denoiser=PAIR, **how):
    kept = Recording(keep=True, all_branches=True)
    asked = {"seeds": range(6), "condition": torch.zeros(6), "rule": CFG(3.0), "shape": (6,), "batch": 4}
    return sample(denoiser, record=kept, progress=False, **asked | how).trace


def test_an_update_agrees_with_itself_and_with_its_multiples():
    trace = run()
    for other in (trace, run(), replay(trace, CFG(1.5), keep=True)):
        table = update_agreement(trace, other)
        assert len(table) == 6 * 35 and (table["missing"] == "").all()
        np.testing.assert_allclose(table[["cosine", "norm_ratio"]], 1, rtol=1e-6)
        assert sorted(table["sample"].unique()) == list(range(6))


def test_known_updates():
    """Twice as long, turned by a right angle, and of the other sign."""
    first = torch.tensor([3.0, 0.0])

    def other(update):
        return lambda x, sigma, condition: x + (first if condition is not None else first - update)

    def seen(update):  # at w = 1 both go on from the conditional prediction
        return run(other(update), shape=(2,), rule=CFG(1.0))

    base = seen(torch.tensor([1.0, 0.0]))
    for update, cosine, ratio in (([2.0, 0.0], 1, 2), ([0.0, 1.0], 0, 1), ([-0.5, 0.0], -1, 0.5)):
        table = update_agreement(base, seen(torch.tensor(update)))
        np.testing.assert_allclose(table["cosine"], cosine, atol=1e-4)
        np.testing.assert_allclose(table["norm_ratio"], ratio, rtol=1e-4)
    same = update_agreement(base, seen(torch.zeros(2)))
    assert same["cosine"].isna().all() and (same["norm_ratio"] == 0).all() and (same["missing"] != "").all()


def test_other_states_are_refused():
    with pytest.raises(InputError, match="other states"):
        update_agreement(run(), run(rule=CFG(1.5)))
    with pytest.raises(InputError, match="other states"):
        update_agreement(run(), run(seeds=range(6, 12)))
