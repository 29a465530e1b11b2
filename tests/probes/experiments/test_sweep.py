import functools
import json
import operator
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from tests.oracles import random_pair

from scorescope.data import InputError, IntegrityWarning
from scorescope.probes import APG, CFG, Interval, Recording, sweep
from scorescope.probes.experiments.sweep import with_weight
from scorescope.probes.guidance import CFGPP, FrequencyDecoupled, Scheduled, describe
from scorescope.probes.models.fingerprint import fingerprint

LABELS = torch.zeros(4, dtype=torch.long)
RULES = {"CFG 2": CFG(2.0), "APG 4": APG(4.0, norm=2.0), "interval": Interval(CFG(3.0), low=0.1, high=5.0)}


class Counting:
    """Counts its calls; fails from a given one on, which does not make it another model."""

    def __init__(self):
        self.pair, self.shape, self.calls = random_pair(), (6,), 0

    def __call__(self, x, sigma, condition):
        self.calls += 1
        if self.calls > int(os.environ.get("FAILS_AT", 10**9)):
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


def test_a_sweep_cut_off_goes_on_with_the_first_unfinished_setting(tmp_path, monkeypatch):
    whole = run(Counting())
    monkeypatch.setenv("FAILS_AT", "100")
    with pytest.raises(RuntimeError, match="killed"):
        run(Counting(), tmp_path)  # 70 calls for the first setting, so it dies in the second
    monkeypatch.delenv("FAILS_AT")
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


@pytest.mark.parametrize("part", ["safetensors", "scalars.parquet", "samples.parquet", "json"])
@pytest.mark.parametrize("how", ["flipped", "cut off", "gone"])
def test_a_damaged_setting_is_named_and_made_again(part, how, tmp_path):
    """A flipped bit of a sample in a sweep was read as a finished setting: 1.7e38 for 0.496."""
    whole = run(Counting(), tmp_path)
    path = next(tmp_path.glob(f"CFG-2*[0-9a-f].{part}"))
    content = bytearray(path.read_bytes())
    content[-2] ^= 64
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(content if how == "flipped" else content[:-50])
    counting = Counting()
    if (part, how) == ("json", "gone"):  # as an unfinished setting: there is nothing to be damaged
        found = run(counting, tmp_path)
    else:
        with pytest.warns(IntegrityWarning, match="'CFG 2' is made again"):
            found = run(counting, tmp_path)
    assert all(same(a, b) for a, b in zip(whole, found, strict=True)) and counting.calls == 70
    again = Counting()
    assert all(same(a, b) for a, b in zip(whole, run(again, tmp_path), strict=True)) and again.calls == 0


def test_settings_of_an_earlier_version_are_read_and_said_to_carry_no_hash(tmp_path):
    whole = run(Counting(), tmp_path)
    for path in tmp_path.glob("*.json"):
        said = json.loads(path.read_text())
        path.write_text(json.dumps({name: said[name] for name in ("fixed", "rule", "manifest")}))
    again = Counting()
    with pytest.warns(IntegrityWarning, match="carries no hash"):
        found = run(again, tmp_path)
    assert all(same(a, b) for a, b in zip(whole, found, strict=True)) and again.calls == 0


def test_bad_input():
    with pytest.raises(InputError, match="1 repeated seeds"):
        run(Counting(), seeds=[1, 2, 1, 3])
    with pytest.raises(InputError, match="0 rules"):
        run(Counting(), rules={})


@dataclass(frozen=True)
class Wrap:
    """A dataclass around a network."""

    net: object
    shape: tuple = (6,)

    def __call__(self, x, sigma, condition):
        return x * 0.1 + self.net(x)


class Plain:
    """An object around a network, in a private attribute."""

    shape = (6,)

    def __init__(self, net):
        self._net = net

    def predict(self, x, sigma, condition):
        return x * 0.1 + self._net(x)


class Slotted(Plain):
    __slots__ = ("_net",)
    __call__ = Plain.predict


NETS = {}


def by_global_name(x, sigma, condition):
    return x * 0.1 + NETS["net"](x)


def closure(net):
    return lambda x, sigma, condition: x * 0.1 + net(x)


def named(net):
    NETS["net"] = net
    return by_global_name


def helped(net, x, sigma, condition):
    return x * 0.1 + net(x)


WAYS = {
    "dataclass": Wrap,
    "closure": closure,
    "partial": lambda net: functools.partial(helped, net),
    "method": lambda net: Plain(net).predict,
    "object": Slotted,
    "closure in a closure": lambda net: closure(closure_of_one(net)),
    "global name": named,
}


def closure_of_one(net):
    return lambda x: net(x)


def linear(seed, **changed):
    torch.manual_seed(seed)
    net = torch.nn.Linear(6, 6)
    net.requires_grad_(False)
    net.weight *= 0.1
    with torch.no_grad():
        for place, value in changed.get("set", {}).items():
            net.weight[place] = value
    return net


@pytest.mark.parametrize("way", list(WAYS))
def test_another_network_inside_a_model_is_another_sweep(way, tmp_path):
    options = {"rules": {"CFG": CFG(2.0)}, "shape": (6,), "sigmas": [1.0, 0.5, 0.0]}
    first = run(WAYS[way](linear(0)), tmp_path, **options)
    again = run(WAYS[way](linear(0)), tmp_path, **options)
    assert same(first[0], again[0])
    for other in (linear(1), linear(0, set={(5, 5): 0.7})):
        with pytest.raises(InputError, match="another sweep"):
            run(WAYS[way](other), tmp_path, **options)


def test_another_schedule_is_another_rule(tmp_path):
    def rules(schedule):
        return {"scheduled": Scheduled(CFG(4.0), schedule)}

    options = {"sigmas": [1.0, 0.5, 0.0]}

    def power(exponent):
        return lambda sigma: 1 + sigma**exponent

    run(Counting(), tmp_path / "a", rules=rules(lambda sigma: 2.0), **options)
    with pytest.raises(InputError, match="another sweep"):
        run(Counting(), tmp_path / "a", rules=rules(lambda sigma: 9.0), **options)
    run(Counting(), tmp_path / "b", rules=rules(power(1)), **options)
    run(Counting(), tmp_path / "b", rules=rules(power(1)), **options)
    with pytest.raises(InputError, match="another sweep"):
        run(Counting(), tmp_path / "b", rules=rules(power(2)), **options)


def test_what_cannot_be_told_apart_is_not_kept_in_a_folder(tmp_path):
    opaque = operator.itemgetter(0)
    with pytest.raises(InputError, match="rules: found a itemgetter, of which nothing can be read"):
        run(Counting(), tmp_path, rules={"scheduled": Scheduled(CFG(4.0), opaque)})
    assert fingerprint(torch.tanh, argument="x") != fingerprint(torch.sin, argument="x")


def test_fingerprints_are_the_same_in_another_process():
    code = (
        "from scorescope.probes.models.fingerprint import fingerprint as f\n"
        "def scaled(x, kinds=frozenset({'a', 'b', 'c', 'd'})): return x in {'u', 'v', 'w'} and x in kinds\n"
        "print(f({'b': scaled, 'a': (1.5, None)}, argument='x'))"
    )
    found = {
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True,
                       env=os.environ | {"PYTHONHASHSEED": str(seed)}).stdout
        for seed in range(3)
    }  # fmt: skip
    assert len(found) == 1 and len(found.pop().strip()) == 64


def test_every_rule_at_every_weight():
    rules = {"CFG": CFG(1.0), "interval": Interval(APG(1.0, norm=2.0), low=0.1, high=5.0)}
    found = run(Counting(), rules=rules, weights=(2.0, 4.0), sigmas=[1.0, 0.5, 0.0])
    assert [s.name for s in found] == ["CFG, w = 2", "CFG, w = 4", "interval, w = 2", "interval, w = 4"]
    assert found[3].rule == Interval(APG(4.0, norm=2.0), low=0.1, high=5.0)
    alone = run(Counting(), rules={"one": found[1].rule}, sigmas=[1.0, 0.5, 0.0])
    assert same(found[1], alone[0]) and found[1].run.trace.manifest["weight"] == 4.0
    for weights, match in (((), r"found \[\]"), ((2.0, 2.0), "each once")):
        with pytest.raises(InputError, match=match):
            run(Counting(), weights=weights)


@pytest.mark.parametrize(
    "rule", [Scheduled(CFG(2.0), lambda sigma: 3.0), FrequencyDecoupled((1.0, 3.0)), CFGPP(0.6)], ids=describe
)
def test_rules_without_one_weight_have_none_to_change(rule):
    with pytest.raises(InputError, match="which has no single weight"):
        with_weight(rule, 4.0)
    assert with_weight(CFG(2.0), 4) == CFG(4.0)
