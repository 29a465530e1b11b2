"""What a Gaussian report can begin with: shown where the answer is known, open where intervals leave it so."""

import numpy as np
import pandas as pd
import pytest

from scorescope.analysis.gaussian.skip import FEWER_CALLS
from scorescope.reports.gaussian import findings


def levels(*, best, excess=(0.001, 0.0, 0.004)):
    names = ("gaussian_excess", "gaussian_excess_low", "gaussian_excess_high")
    same = {"margin": 0.01, "compared": "gaussian, ppca", **dict(zip(names, excess, strict=True))}
    return pd.DataFrame([{"sigma": s, "gaussian_is_best": s >= best, **same} for s in (80.0, 10.0, 1.0)])


def test_as_good_is_a_claim_of_the_far_end_of_the_interval():
    (found,) = findings.as_good(levels(best=10.0))
    assert found.text.startswith("From σ = 10 up a Gaussian") and found.strength == pytest.approx(0.009 / 0.003)
    (wide,) = findings.as_good(levels(best=1000.0, excess=(0.001, -0.02, 0.02)))
    assert not wide.is_shown and "at no noise level shown" in wide.doubt
    assert findings.as_good(levels(best=10.0).assign(compared="gaussian")) == []


def skips(ratio, high, *, low=0.9):
    rows = [(80.0, 35, 1.0, 1.0, 1.0), (8.4, 31, 1.0, 0.95, 1.04), (2.0, 27, ratio, low, high)]
    names = ("sigma_skip", "calls", "against_none", "against_none_low", "against_none_high")
    table = pd.DataFrame(rows, columns=names)
    return table.assign(solver="Heun", steps=18, spent=FEWER_CALLS, n=48)


def test_the_fewest_calls_that_do_as_well():
    (found,) = findings.calls_saved(skips(1.0, 1.05))
    assert found.is_shown and found.text.startswith("27 of 35 calls are enough: the closed form carries the noise to")
    (less,) = findings.calls_saved(skips(1.3, 1.5))
    assert less.text.startswith("31 of 35 calls") and less.is_shown
    (barely,) = findings.calls_saved(skips(1.0, 1.099).query("calls != 31"))
    assert barely.is_shown  # one jump was looked at
    (two,) = findings.calls_saved(skips(1.0, 1.099))
    assert not two.is_shown and "once corrected for the 2 jumps" in two.doubt
    (none,) = findings.calls_saved(skips(1.3, 1.5).query("calls != 31"))
    assert not none.is_shown and none.doubt.startswith("No saving of calls is shown to cost at most 10%")


def test_order_of_modes_by_an_exact_test():
    sizes = np.array([4.0, 3.0, 2.0, 1.0, 0.5])
    known = pd.DataFrame({"sqrt_eigenvalue": sizes, "sigma_network": sizes * 1.3})
    (found,) = findings.order_of_modes(known)
    assert found.is_shown and "p = 0.0083" in found.text  # 1 / 5!
    (reverse,) = findings.order_of_modes(known.assign(sigma_network=1 / sizes))
    assert not reverse.is_shown
    assert findings.order_of_modes(known.head(2)) == []
    assert findings.order_of_modes(known.assign(sigma_network=1.0)) == []


def memory(train, fresh, half):
    rows = [
        {"images": name, "sigma": 0.2, "quantity": "error", "mean": m, "low": m - half, "high": m + half, "n": 60}
        for name, m in (("train", train), ("held out", fresh))
    ]  # fmt: skip
    return {"net": pd.DataFrame(rows)}


def test_remembering_is_said_only_of_what_the_network_was_trained_on():
    (found,) = findings.remembered(memory(0.01, 0.03, 0.005), "net", trained=True)
    assert found.strength == pytest.approx(2) and "on training images" in found.text
    assert found.text.endswith("as if it knew the former.")
    (unknown,) = findings.remembered(memory(0.01, 0.03, 0.005), "net", trained=False)
    assert "on the images that the laws were fitted to" in unknown.text
    (open_,) = findings.remembered(memory(0.01, 0.03, 0.02), "net", trained=True)
    assert not open_.is_shown and open_.doubt.endswith("not told apart.")
    (other,) = findings.remembered(memory(0.03, 0.01, 0.005), "net", trained=True)
    assert "not what remembering would do" in other.text
