"""The oracles of the atlas entries of adaptive projected guidance."""

from functools import cache

import numpy as np
import pytest
import torch
from tests.atlas_material import toy_material

from scorescope.analysis.guidance.paths import clip_share
from scorescope.probes.guidance import APG, CFG, FrequencyDecoupled, InSpace
from scorescope.reports.atlas import find_entry
from scorescope.reports.guidance import atlas_apg

material = cache(toy_material)


@cache
def numbers(name):
    return find_entry(name).numbers(material())


def test_apg_value_kde():
    """A density integrates to the share of values that lie on its axis."""
    table = numbers("apg-value-kde").tables["densities"]
    settings = material().sweep(
        {"CFG": CFG(1.0), "APG": APG(1.0)}, weights=material().weights
    )  # fmt: skip
    values = {(type(one.rule).__name__, one.rule.weight): one.run.samples for one in settings}
    runs = table.groupby(["rule", "weight"], dropna=False)
    assert len(runs) == 2 * 3 + 1
    for (rule, weight), rows in runs:
        images = material().data.train if rule == "data" else values[rule, weight]
        inside = ((images >= rows["value"].min()) & (images <= rows["value"].max())).double().mean()
        assert np.trapezoid(rows["density"], rows["value"]) == pytest.approx(float(inside), abs=0.02)
        if rule == "data":
            assert float(inside) > 0.95


def test_apg_gain_path():
    """1 everywhere at w = 1, and for APG, which moves across the prediction alone; under CFG it is not."""
    table = numbers("apg-gain-path").tables["path"]
    still = table[(table["weight"] == 1) | (table["rule"] == "APG")]
    assert len(still) > 40
    np.testing.assert_allclose(still["mean"], 1, atol=1e-6)
    moved = table[(table["rule"] == "CFG") & (table["weight"] == 4) & (table["quantity"] == "path_gain")]
    assert moved["mean"].max() > 2


def test_apg_ablation_table():
    """Without any of its parts APG is CFG, and the changes are the differences of the settings' means."""
    found = numbers("apg-ablation-table")
    table, changes = found.tables["metrics"], found.tables["changes"]
    cfg = numbers("apg-metrics-vs-w").tables["metrics"]
    cfg = cfg[(cfg["rule"] == "CFG") & (cfg["weight"] == 4)].set_index("metric")["value"]
    none = table[table["rule"] == "none (CFG)"].set_index("metric")["value"]
    np.testing.assert_allclose(none, cfg[none.index], rtol=1e-4, atol=1e-6)
    means = table.pivot(index="setting", columns="metric", values="value")
    assert set(changes["setting"]) == set(means.index) - {"full APG, w = 4"}
    for row in changes.itertuples():
        difference = means.loc[row.setting, row.metric] - means.loc[row.against, row.metric]
        assert row.value == pytest.approx(difference, rel=1e-6, abs=1e-9)
        assert row.low <= row.value <= row.high


def test_apg_clip_and_momentum():
    """The share of clipped steps falls with r and is 0 without a clip; no clip and no momentum are one setting."""
    found = numbers("apg-clip-and-momentum")
    shares = found.tables["shares"].sort_values("norm")["mean"]
    assert shares.is_monotonic_decreasing
    assert shares.iloc[0] > shares.iloc[-1]
    without = clip_share(atlas_apg.guided_rows(material()), norms=[1e9])
    assert without["mean"].iloc[0] == 0
    table = found.tables["metrics"]
    plain = [table[table[field] == value].set_index("metric")["value"]
             for field, value in (("rule_norm", np.inf), ("rule_momentum", 0.0))]  # fmt: skip
    np.testing.assert_allclose(plain[0], plain[1], rtol=1e-9)
    assert not np.allclose(plain[0], table[table["rule_momentum"] == -0.75].set_index("metric")["value"], rtol=1e-2)


def test_apg_space():
    """CFG and bands of frequency are the same in every space, APG is not."""
    table = numbers("apg-space").tables["metrics"]
    overshoot = table[table["metric"] == "contrast"].pivot(index="rule", columns="weight", values="value")
    assert set(overshoot.index) == {"CFG", "APG", "eps-space APG", "v-space APG"}
    assert np.ptp(overshoot[1.0]) == 0
    assert np.ptp(overshoot[4.0]) > 0.01
    for rule in (CFG(4.0), FrequencyDecoupled((1.0, 4.0))):
        runs = material().sweep({"one": rule, "in eps": InSpace(rule, "eps"), "in v": InSpace(rule, "v")})
        for other in runs[1:]:
            torch.testing.assert_close(other.run.samples, runs[0].run.samples, rtol=1e-3, atol=1e-3)
