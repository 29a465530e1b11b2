import copy
import functools
import json
import os
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from tests.oracles import random_pair

from scorescope.data import InputError, IntegrityWarning
from scorescope.data.written_files import write_json
from scorescope.probes import APG, CFG, Interval, Recording, sweep
from scorescope.probes.experiments import read_sweep, with_fields, with_weight
from scorescope.probes.guidance import CFGPP, TSG, FrequencyDecoupled, Rescaled, Scheduled, describe
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


def test_a_sweep_is_read_from_its_folder_by_the_names_of_its_settings(tmp_path):
    whole = run(Counting(), tmp_path, rules={"APG": APG(4.0)}, over={"eta": (0.0, 1.0)})
    found = read_sweep(tmp_path)
    assert set(found) == {"APG, eta = 0", "APG, eta = 1"}
    for setting in whole:
        read = found[setting.name]
        assert torch.equal(read.samples, setting.run.samples) and read.trace.manifest["swept"] == setting.swept
        assert read.trace.scalars["update_sq"].equals(setting.run.trace.scalars["update_sq"])
    files = sorted(tmp_path.glob("*.json"))
    assert [list(read_sweep(file)) for file in files] == [[name] for name in found]
    said = json.loads(files[0].read_text())
    write_json(files[0], {name: value for name, value in said.items() if name not in ("name", "swept", "seal")})
    assert files[0].stem in read_sweep(tmp_path)  # as an earlier version wrote it
    with pytest.raises(InputError, match="which has none"):
        read_sweep(tmp_path / "none")
    files[1].with_suffix(".safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="does not match its hash"):
        read_sweep(tmp_path)


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
    opaque = (weight for weight in [1.0]).__next__
    with pytest.raises(InputError, match="rules: found a generator, of which nothing can be read"):
        run(Counting(), tmp_path, rules={"scheduled": Scheduled(CFG(4.0), opaque)})
    assert fingerprint(torch.tanh, argument="x") != fingerprint(torch.sin, argument="x")


def test_tables_are_told_apart_by_what_they_hold():
    table = pd.DataFrame({"sigma": [1.0, 2.0], "rule": ["CFG", "APG"]})

    def digest(found):
        return fingerprint([found], argument="x")

    assert digest(table.copy()) == digest(table)
    others = [
        table.assign(sigma=[1.0, 2.5]), table.assign(rule="CFG"), table.rename(columns={"rule": "name"}),
        table.set_axis([1, 2]), table.iloc[:1], table[["rule", "sigma"]],
    ]  # fmt: skip
    assert len({digest(one) for one in [table, *others]}) == 7


class Own(torch.nn.Linear):
    """A network of the user's, with a buffer that its state does not hold."""

    def __init__(self):
        super().__init__(100, 70)
        self.register_buffer("levels", torch.arange(300.0), persistent=False)


@pytest.mark.parametrize("change", ["one weight", "one bit", "type", "buffer", "sign of zero", "swap"])
def test_every_byte_of_a_network_counts(change):
    """Also one number in the middle of a large weight, of which few used to be read."""
    torch.manual_seed(0)
    one = Own()
    other = copy.deepcopy(one)
    assert fingerprint(other, argument="x") == fingerprint(one, argument="x")
    with torch.no_grad():
        if change == "one weight":
            other.weight.flatten()[3457] += 1e-3
        elif change == "one bit":
            other.weight.view(torch.int32).flatten()[1].bitwise_xor_(1)
        elif change == "type":
            one.half()
            other.bfloat16()
            other.weight.data = one.weight.view(torch.bfloat16)
            other.bias.data = one.bias.view(torch.bfloat16)
        elif change == "buffer":
            other.levels[151] = 0
        elif change == "sign of zero":
            one.bias[5], other.bias[5] = 0.0, -0.0
        else:
            other.weight[[3, 4]] = one.weight[[4, 3]]
    assert fingerprint(other, argument="x") != fingerprint(one, argument="x")


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


def test_every_rule_at_every_value_of_its_fields():
    rules = {"APG": APG(4.0), "interval": Interval(APG(2.0), low=0.1, high=5.0)}
    found = run(Counting(), rules=rules, over={"eta": (0, 0.5), "norm": np.array([2.0])}, sigmas=[1.0, 0.5, 0.0])
    assert [one.name for one in found] == [
        "APG, eta = 0, norm = 2", "APG, eta = 0.5, norm = 2", "interval, eta = 0, norm = 2",
        "interval, eta = 0.5, norm = 2",
    ]  # fmt: skip
    assert found[3].rule == Interval(APG(2.0, eta=0.5, norm=2.0), low=0.1, high=5.0)
    assert found[3].swept == {"eta": 0.5, "norm": 2.0} == found[3].run.trace.manifest["swept"]
    alone = run(Counting(), rules={"one": found[3].rule}, sigmas=[1.0, 0.5, 0.0])
    assert same(found[3], alone[0]) and alone[0].swept == {}


def test_fields_beside_weights_and_points_of_several():
    ends = [{"low": 1.0, "high": 2.0}, {"low": 0.1, "high": 0.5}]  # one after the other they would be no interval
    found = run(Counting(), rules={"i": Interval(CFG(1.0), low=0.6, high=0.9)}, weights=(2.0, 4.0), over=ends,
                sigmas=[1.0, 0.5, 0.0])  # fmt: skip
    assert [one.name for one in found] == [
        f"i, w = {w}, low = {low}, high = {high}" for w in (2, 4) for low, high in ((1, 2), (0.1, 0.5))
    ]
    assert found[3].rule == Interval(CFG(4.0), low=0.1, high=0.5)
    assert found[3].swept == {"weight": 4.0, "low": 0.1, "high": 0.5}


def test_values_that_are_no_numbers_are_told_as_texts():
    found = run(Counting(), rules={"r": Rescaled(CFG(2.0))}, over={"space": ("denoised", "eps")}, sigmas=[1.0, 0.0])
    assert [(one.name, one.swept) for one in found] == [
        ("r, space = denoised", {"space": "denoised"}), ("r, space = eps", {"space": "eps"})
    ]  # fmt: skip


def test_values_that_differ_little_are_two_settings():
    """At six digits they had one name: the second took the place of the first, without a word."""
    for vary in ({"weights": (2.0, 2.0000001)}, {"over": {"weight": (2.0, 2.0000001)}}):
        found = run(Counting(), rules={"CFG": CFG(1.0)}, sigmas=[1.0, 0.0], **vary)
        assert [one.name for one in found] == ["CFG, w = 2", "CFG, w = 2.0000001"]
    functions = [lambda sigma: 1.0, lambda sigma: 2.0]
    with pytest.raises(InputError, match=r"^over: found 's, schedule = <lambda>' twice; expected .* each once"):
        run(Counting(), rules={"s": Scheduled(CFG(2.0), functions[0])}, over={"schedule": functions})


def test_a_sweep_over_fields_goes_on_where_it_was_cut_off(tmp_path):
    how = {"rules": {"APG": APG(4.0)}, "sigmas": [1.0, 0.5, 0.0]}
    whole = run(Counting(), over={"eta": (0.0, 0.5, 1.0)}, **how)
    run(Counting(), tmp_path, over={"eta": (0.0, 0.5)}, **how)
    resumed = Counting()
    found = run(resumed, tmp_path, over={"eta": (0.0, 0.5, 1.0)}, **how)
    assert all(same(a, b) and a.swept == b.swept for a, b in zip(whole, found, strict=True)) and resumed.calls == 6
    assert found[0].run.trace.manifest["swept"] == {"eta": 0.0}
    with pytest.raises(InputError, match="another sweep"):
        run(Counting(), tmp_path, over={"eta": (0.0, 0.5)}, **(how | {"rules": {"APG": APG(3.0)}}))


BAD_FIELDS = {
    r"^over: found 'et' for 'APG'; expected fields of APG: weight, eta, norm,": {"et": (0.0,)},
    r"^over: found APG, eta = nan \(.*eta.*\); expected values .* it has weight = 4.0, eta =": {"eta": (float("nan"),)},
    r"^over: found APG, eta = much \(.*\); expected values that the rule takes": {"eta": ("much",)},
    r"^over: found eta = \(\); expected a sequence of values": {"eta": ()},
    r"^over: found nothing in it": {},
    r"^over: found 'APG, eta = 1' twice": {"eta": (1.0, 1)},
    r"^over: found 'rule' for 'APG'": {"rule": (CFG(1.0),)},
}


@pytest.mark.parametrize("match", BAD_FIELDS)
def test_fields_and_values_that_a_rule_has_not(match):
    counting = Counting()
    with pytest.raises(InputError, match=match):
        run(counting, rules={"APG": APG(4.0)}, over=BAD_FIELDS[match])
    assert counting.calls == 0  # before anything runs


def test_fields_that_are_not_one_rules():
    inside = Interval(TSG(2.0), low=0.1, high=5.0)
    with pytest.raises(InputError, match=r"found 'low', which Interval and TSG have; expected fields of .*: weight"):
        with_fields(inside, {"low": 0.2})
    with pytest.raises(InputError, match=r"found 'weight'; expected fields of Scheduled.CFG.: schedule"):
        with_fields(Scheduled(CFG(2.0), lambda sigma: 3.0), {"weight": 3.0})
    with pytest.raises(InputError, match="'weight', beside weights="):
        run(Counting(), rules={"CFG": CFG(1.0)}, weights=(2.0,), over={"weight": (3.0,)})
    assert with_fields(inside, {"scale": 2, "weight": 3.0}).rule == TSG(3.0, scale=2.0)
    assert with_fields(Scheduled(APG(2.0), abs), {"eta": 0.5}) == Scheduled(APG(2.0, eta=0.5), abs)
