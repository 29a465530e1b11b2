import math

import numpy as np
import pytest

from scorescope.analysis.fid.contributions import (
    class_scores,
    direction_spectrum,
    feature_contributions,
    visible_share,
)
from scorescope.analysis.fid.frechet import frechet_distance
from scorescope.analysis.fid.optimal_transport import transport


def draw(n, d, seed, spread=1.0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d)) / math.sqrt(d)
    return np.maximum(rng.normal(size=(n, d)) @ (mixing * spread + 0.3 * np.eye(d)), 0)


def test_contributions_are_non_negative_and_sum_to_the_distance(plan, sets):
    fd = frechet_distance(*sets).value
    table = feature_contributions(plan)
    assert (table["contribution"] >= 0).all()
    assert table["contribution"].sum() == pytest.approx(fd, rel=1e-12)
    assert table["share"].sum() == pytest.approx(1, rel=1e-12)
    spectrum = direction_spectrum(plan)
    assert spectrum.table["contribution"].sum() == pytest.approx(fd, rel=1e-12)
    u = spectrum.directions
    np.testing.assert_allclose(np.diag(u @ plan.discrepancy @ u.T), spectrum.table["contribution"], atol=1e-12)
    assert len(direction_spectrum(plan, count=3).directions) == 3


@pytest.mark.parametrize(("n1", "n2"), [(12, 400), (400, 12), (12, 12)])
def test_contributions_sum_for_singular_covariances(n1, n2):
    x, y = draw(n1, 20, 0), draw(n2, 20, 1)
    table = feature_contributions(transport(x, y))
    assert (table["contribution"] >= 0).all()
    assert table["contribution"].sum() == pytest.approx(frechet_distance(x, y).value, abs=1e-11)


def test_a_planted_feature_takes_the_contribution(sets):
    y = sets[1]
    moved = y.copy()
    moved[:, 7] = y[:, 7] + 2.0
    table = feature_contributions(transport(moved, y))
    assert table["feature"][0] == 7
    assert table["share"][0] == pytest.approx(1, abs=1e-10)
    assert table["mean_gap"][0] == pytest.approx(2)


def test_visible_share_splits_the_distance(plan):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(6, 20))
    share = visible_share(plan, np.vstack([weight, weight[:2]]))
    assert share.rank == 6
    assert share.visible + share.hidden == pytest.approx(np.trace(plan.discrepancy), rel=1e-12)
    projector = weight.T @ np.linalg.solve(weight @ weight.T, weight)
    assert share.visible == pytest.approx(np.trace(projector @ plan.discrepancy), rel=1e-11)
    assert visible_share(plan, np.eye(20)).share == pytest.approx(1)
    u = weight[3] / np.linalg.norm(weight[3])
    assert class_scores(plan, weight)[3] == pytest.approx(u @ plan.discrepancy @ u, rel=1e-12)
