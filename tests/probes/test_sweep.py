import pytest
import torch

from scorescope.data import InputError
from scorescope.probes import APG, CFG, Interval, Recording, sweep
from tests.oracles import random_pair

LABELS = torch.zeros(4, dtype=torch.long)
RULES = {"CFG 2": CFG(2.0), "APG 4": APG(4.0, norm=2.0), "interval": Interval(CFG(3.0), low=0.1, high=5.0)}


class Counting:
    """Counts its calls; fails from a given one on."""

    def __init__(self, fails_at=10**9):
        self.pair, self.shape, self.calls, self.fails_at = random_pair(), (6,), 0, fails_at

    def __call__(self, x, sigma, condition):
        self.calls += 1
        if self.calls > self.fails_at:
            raise RuntimeError("killed")
        return self.pair(x, sigma, condition)

    def __str__(self):
        return "counting"


def run(denoiser, folder=None, rules=RULES, **options):
    options = {
        "seeds": range(4),
        "condition": LABELS,
        "progress": False,
        "record": Recording(value_range=(-1, 1)),
    } | options
    return sweep(denoiser, rules, folder=folder, **options)


def same(a, b):
    keys = ["sample", "step", "call"]
    return torch.equal(a.run.samples, b.run.samples) and (
        a.run.trace.scalars[[*keys, "update_sq"]].equals(b.run.trace.scalars[[*keys, "update_sq"]])
    )


def test_a_sweep_cut_off_goes_on_with_the_first_unfinished_setting(tmp_path):
    whole = run(Counting())
    with pytest.raises(RuntimeError, match="killed"):
        run(Counting(fails_at=100), tmp_path)  # 70 calls for the first setting, so it dies in the second
    resumed = Counting()
    found = run(resumed, tmp_path)
    assert resumed.calls < 70 * 3 - 60
    assert [s.name for s in found] == list(RULES) and all(same(a, b) for a, b in zip(whole, found, strict=True))
    again = Counting()
    assert all(same(a, b) for a, b in zip(whole, run(again, tmp_path), strict=True)) and again.calls == 0


def test_a_folder_of_another_sweep_is_refused(tmp_path):
    run(Counting(), tmp_path)
    for change in ({"seeds": range(4, 8)}, {"sigmas": [1.0, 0.0]}, {"condition": LABELS + 1}):
        with pytest.raises(InputError, match="another sweep"):
            run(Counting(), tmp_path, **change)
    with pytest.raises(InputError, match="another sweep"):
        run(Counting(), tmp_path, rules={"CFG 2": CFG(2.5)})


def test_damaged_settings_are_named(tmp_path):
    run(Counting(), tmp_path)
    path = next(tmp_path.glob("CFG-2*.safetensors"))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match="damaged files of CFG 2"):
        run(Counting(), tmp_path)


def test_bad_input():
    with pytest.raises(InputError, match="1 repeated seeds"):
        run(Counting(), seeds=[1, 2, 1, 3])
    with pytest.raises(InputError, match="0 rules"):
        run(Counting(), rules={})
