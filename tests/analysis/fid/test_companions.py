import math

import numpy as np
import pytest
import scipy

from scorescope.analysis.fid.companions import companion_table, inception_score
from scorescope.analysis.fid.extrapolation import _by_class, fid_infinity
from scorescope.analysis.fid.frechet import frechet_distance, raw_distance
from scorescope.data.errors import InputError
from scorescope.probes.features.moments import Moments


def draw(n, d, seed, scale=1.0):
    return np.random.default_rng(seed).normal(size=(n, d)) * scale


def test_fid_infinity_removes_the_bias_of_the_generated_side():
    d = 8
    real = draw(40_000, d, 1)
    x = draw(4000, d, 0, 1.1)
    truth = d * 0.1**2
    found = fid_infinity(x, real, smallest=400)
    measured = frechet_distance(x[:400], real).value
    assert abs(found.value - truth) < 0.25 * abs(measured - truth)
    assert found.slope > 0
    assert found.low < found.value < found.high
    with pytest.raises(InputError, match="d < smallest < n"):
        fid_infinity(x[:12], real)


def test_fid_infinity_of_too_few_sizes_and_without_classes_is_refused():
    x, real = draw(20, 2, 0), draw(100, 2, 1)
    with pytest.raises(InputError, match="2 different sizes from 19 to 20"):
        fid_infinity(x, real, smallest=19)
    with pytest.raises(InputError, match="seed -1"):
        fid_infinity(x, real, seed=-1)
    with pytest.raises(InputError, match="classes: found 2 NaN"):
        fid_infinity(x, real, classes=np.where(np.arange(20) < 2, np.nan, np.arange(20) % 2))


def test_fid_infinity_of_a_set_drawn_by_class_holds_its_shares():
    """Far classes of hardly any scatter: every subset is the law itself, to one image a class; others scatter with it.

    The law has the moments of the class centres, in closed form.
    """
    rng, kinds = np.random.default_rng(3), 10
    centres, real = 3 * rng.normal(size=(kinds, 4)), Moments.of(rng.normal(size=(4000, 4)))
    classes = rng.permutation(np.arange(600) % kinds)
    x = centres[classes] + 0.01 * rng.normal(size=(600, 4))
    truth = raw_distance(Moments.of(np.tile(centres, (1000, 1))), real)
    found, plain = fid_infinity(x, real, classes=classes), fid_infinity(x, real)
    assert found.value == pytest.approx(truth, rel=0.005) and found.low < truth < found.high
    apart = [(table["value"] - truth).abs().mean() for table in (found.table, plain.table)]
    assert apart[0] < apart[1] / 5
    codes, counts = np.unique(classes, return_inverse=True, return_counts=True)[1:]
    for size in (95, 301, 600):
        rows = _by_class(np.random.default_rng(0), size, codes, counts)
        kept = np.bincount(classes[rows])
        assert len(set(rows)) == size and np.abs(kept - size / kinds).max() < 1
    table = companion_table(x, rng.normal(size=(600, 4)), fake_classes=classes).set_index("metric")
    assert "by class, as the set" in table.loc["FID_infinity", "note"]
    table = companion_table(x, real, fake_classes=classes).set_index("metric")
    assert "by class, as the set" in table.loc["FID_infinity", "note"] and "drawn by class" in table.loc["FD", "note"]
    assert "without regard" in companion_table(x, real).set_index("metric").loc["FID_infinity", "note"]
    for wrong in (classes[:-1], np.arange(600)):
        with pytest.raises(InputError, match=r"^classes: "):
            fid_infinity(x, real, classes=wrong)


def test_inception_score_ends():
    sure = np.kron(np.eye(4), np.ones((50, 1))) * 200
    order = np.random.default_rng(0).permutation(200)
    assert inception_score(sure[order], splits=1).mean == pytest.approx(4, rel=1e-9)
    assert inception_score(np.zeros((100, 4))).mean == pytest.approx(1, abs=1e-12)
    biased = sure[order] + np.array([3.0, 0, 0, 0])
    assert inception_score(biased, bias=[3.0, 0, 0, 0], splits=1).mean == pytest.approx(4, rel=1e-9)
    with pytest.raises(InputError, match=r"^logits: found probabilities"):
        inception_score(scipy.special.softmax(draw(100, 4, 0), axis=1).astype(np.float32))


def test_the_table_leaves_out_what_n_does_not_allow():
    x, y = draw(600, 6, 0, 1.2), draw(500, 6, 1)
    table = companion_table(x, y, space="toy", logits=x)
    assert list(table["metric"]) == [
        "FD", "FD without bias", "FID_infinity", "KID x 1000", "precision", "recall", "density", "coverage",
        "Inception Score",
    ]  # fmt: skip
    measured, row = table.iloc[0], table.iloc[1]
    assert row["low"] < row["value"] < row["high"]
    assert measured["scatter_low"] < measured["value"] < measured["scatter_high"]
    few = companion_table(x[:5], y[:5])
    assert list(few["metric"]) == ["FD", "FD without bias", "KID x 1000"]
    assert math.isnan(few.iloc[0]["scatter_low"])
    assert math.isnan(few.iloc[1]["value"]) and "too few to leave out one of 20 groups" in few["note"][1]
    assert "rough below" in companion_table(x[:45], y)["note"][0]
