"""The oracles of the guidance entries of the atlas."""

import numpy as np
import pytest
import torch
from tests.atlas_material import law, model_of, toy_material

from scorescope.analysis.guidance import decompose
from scorescope.reports.atlas import find_entry
from scorescope.reports.guidance import atlas_update


def numbers(name, material=None):
    return find_entry(name).numbers(material or toy_material())


def mean_curve(table, quantity):
    rows = table[(table["quantity"] == quantity) & (table["call"] == 0)]
    return rows.set_index("sigma")["mean"]


def test_apg_update_parts():
    """Pythagoras in every row; and at high noise the norm is that of the difference of the means."""
    material = toy_material()
    rows = decompose(atlas_update.traces(material)[0])
    parts = rows["parallel_norm"] ** 2 + rows["orthogonal_norm"] ** 2
    np.testing.assert_allclose(parts, rows["update_norm"] ** 2, rtol=1e-9)
    mixture = law()
    gaps = [float((part.mean - mixture.mean).norm()) for part in mixture.components]
    curve = mean_curve(numbers("apg-update-parts", material).tables["steps"], "update_norm")
    assert curve.loc[curve.index.max()] == pytest.approx(np.mean(gaps), rel=1e-2)  # each class six times


def test_apg_parallel_share():
    """At high noise the squared cosine of m_c - m_u and m_c, in the mean over classes."""
    mixture = law()
    cosines = [
        torch.cosine_similarity((p.mean - mixture.mean).flatten(), p.mean.flatten(), 0) for p in mixture.components
    ]
    table = numbers("apg-parallel-share").tables["steps"]
    top = mean_curve(table[(table["rule"] == "CFG") & (table["weight"] == 1)], "parallel_share")
    assert top.loc[top.index.max()] == pytest.approx(float((torch.stack(cosines) ** 2).mean()), rel=2e-2)


def test_ag_cosine():
    table = numbers("ag-cosine").tables["steps"]
    eps, denoised = (mean_curve(table, f"one_minus_cos_{space}") for space in ("eps", "denoised"))
    assert eps.loc[eps.index.max()] < 1e-3 * eps.max()
    assert denoised.loc[denoised.index.min()] < 1e-3 * denoised.max()


def test_guidance_information():
    """Four classes that lie apart: the sum is the entropy, log 4."""
    curve = numbers("guidance-information").tables["information"]
    low, high = (curve[f"information_{end}"].iloc[-1] for end in ("low", "high"))
    assert low <= np.log(4) <= high


def test_fdg_band_norms():
    """The bands of an update sum to it, sample by sample."""
    from scorescope.analysis.guidance import decompose_bands

    trace = atlas_update.unguided(toy_material())
    keys = ["sample", "step", "call"]
    bands = (decompose_bands(trace).set_index(keys)["update_norm"] ** 2).groupby(keys).sum()
    whole = decompose(trace).set_index(keys)["update_norm"] ** 2
    np.testing.assert_allclose(bands, whole.loc[bands.index], rtol=1e-6, atol=1e-20)


def test_apg_metrics_vs_w():
    table = numbers("apg-metrics-vs-w").tables["metrics"]
    one = table[table["weight"] == 1].pivot(index="metric", columns="rule", values="value")
    np.testing.assert_allclose(one["APG"], one["CFG"], rtol=1e-9, atol=1e-12)


def test_autoguidance_fid_vs_w():
    """Guided with itself, a model is the same at every weight."""
    mixture = model_of(law())
    material = toy_material(weights=(1.0, 4.0))
    same = type(material)(mixture, mixture, data=material.data, count=24, steps=6, weights=(1.0, 4.0))
    table = numbers("autoguidance-fid-vs-w", same).tables["metrics"]
    own = table[(table["rule"] == "Autoguidance") & (table["metric"] == "frechet")]
    assert np.ptp(own["value"]) < 1e-9
