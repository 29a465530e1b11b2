"""What a sweep varied is a column of every table, and tells its settings apart as the weight does."""

import numpy as np
import pandas as pd
import pytest
import torch
from tests.oracles import diagonal_pair

from scorescope.analysis import find_column, measure_sweep
from scorescope.analysis.guidance import (
    changes,
    clip_share,
    compare,
    decompose,
    gain_path,
    momentum_updates,
    pareto,
    sample_metrics,
    summarise,
)
from scorescope.analysis.guidance.paired_runs import savings
from scorescope.probes import APG, CFG, AdaptiveGuidance, Interval, Recording, Rescaled, sweep

PAIR = diagonal_pair([1.5, 0.4], [1.0, 0.7])
COUNT = 8
LABELS = torch.zeros(COUNT, dtype=torch.long)


def swept(rules, **options):
    how = {"sigmas": (4.0, 1.0, 0.3, 0.0), "record": Recording(value_range=(-1, 1), keep=True, all_branches=True)}
    return sweep(PAIR, rules, seeds=range(COUNT), condition=LABELS, progress=False, **how, **options)


@pytest.fixture(scope="module")
def etas():
    return swept({"APG": APG(1.0)}, weights=(3.0,), over={"eta": (0.0, 0.5, 1.0)})


@pytest.fixture(scope="module")
def ends():
    points = [{"low": 0.2, "high": 2.0}, {"low": 0.2, "high": float("inf")}]
    return swept({"interval": Interval(CFG(3.0))}, over=points)


def test_the_tables_of_a_sweep_have_a_column_for_each_field(etas, ends):
    for settings, columns in ((etas, ["rule_eta"]), (ends, ["rule_low", "rule_high"])):
        rows = sample_metrics(settings, value_range=(-1, 1))
        table = measure_sweep(settings, rows=rows)
        assert list(table)[:4] == ["setting", "rule", "weight", columns[0]]
        against = changes(rows, against=settings[0].name, metrics=["contrast"])
        front = pareto(table, better={"contrast": "high"})
        for found in (rows, table, against, front, savings(settings, against=settings[0].name)):
            assert [name for name in found if name.startswith("rule_")] == columns
            values = found.drop_duplicates("setting").set_index("setting")[columns]
            for setting in settings:
                if setting.name in values.index:
                    assert dict(values.loc[setting.name]) == {f"rule_{n}": v for n, v in setting.swept.items() if
                                                             n != "weight"}  # fmt: skip
    assert np.isinf(table["rule_high"]).any() and table["low"].notna().any()  # the ends of intervals are others


def test_settings_of_one_rule_and_weight_are_not_averaged(etas):
    """Rows of three etas were one run of APG, w = 3: their mean, three times as sure."""
    together = pd.concat([decompose(setting.run) for setting in etas], ignore_index=True)
    parts = [summarise(decompose(setting.run)) for setting in etas]
    pd.testing.assert_frame_equal(
        summarise(together).sort_values(["rule_eta", "quantity", "step", "call"], ignore_index=True),
        pd.concat(parts).sort_values(["rule_eta", "quantity", "step", "call"], ignore_index=True),
    )
    assert set(summarise(together)["n"]) <= {COUNT, 0}
    for make in (gain_path, lambda table: clip_share(table, norms=[0.5])):
        found = make(together)
        assert list(found["rule_eta"].unique()) == [0.0, 0.5, 1.0]
        one = make(together[together["rule_eta"] == 0.5])
        pd.testing.assert_frame_equal(found[found["rule_eta"] == 0.5].reset_index(drop=True), one)
    side = compare({setting.name: setting.run.trace for setting in etas})
    assert list(side.drop_duplicates("run")["rule_eta"]) == [0.0, 0.5, 1.0]
    assert list(momentum_updates(etas[1].run.trace, momentum=0.5)["rule_eta"].unique()) == [0.5]


def test_settings_of_several_sweeps_stand_together(etas, ends):
    adaptive = swept({"a": AdaptiveGuidance(CFG(3.0), threshold=0.99)}, over={"threshold": (0.9,)})
    texts = swept({"cfg": CFG(2.0)})
    table = measure_sweep([*etas, *ends, *adaptive, *texts], value_range=(-1, 1))
    assert {"rule_eta", "rule_low", "rule_high", "rule_threshold"} <= set(table)
    rows = table.drop_duplicates("setting").set_index("setting")
    assert rows.loc["cfg", ["rule_eta", "rule_low"]].isna().all() and rows.loc[etas[1].name, "rule_eta"] == 0.5
    both = pd.concat([decompose(setting.run) for setting in (*etas, *texts)], ignore_index=True)
    assert len(summarise(both).drop_duplicates(["rule", "rule_eta"])) == 4


def test_fields_that_are_no_numbers_are_texts(etas):
    spaces = swept({"rescaled": Rescaled(CFG(3.0))}, over={"space": ("eps", "denoised")})
    table = measure_sweep([*spaces, *etas], value_range=(-1, 1))
    rows = table.drop_duplicates("setting").set_index("setting")["rule_space"]
    assert set(rows) == {"eps", "denoised", ""}
    both = pd.concat([decompose(setting.run) for setting in (*spaces, *etas)], ignore_index=True)
    assert set(gain_path(both)["rule_space"]) == {"eps", "denoised", ""}


@pytest.mark.parametrize("name", ["rule_eta", "rule_low"])
def test_their_meaning_is_declared(name):
    tables = set(find_column(name)["table"])
    assert {"sweep", "changes", "savings", "decomposition", "gain_path", "clip_share"} <= tables
    assert find_column(name)["meaning"].str.contains("where a sweep varied it").all()
