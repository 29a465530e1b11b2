import itertools
import math

import numpy as np
import pytest
import torch

from scorescope.analysis.fid.kernels import cmmd, kid, kid_subsets
from scorescope.data.errors import InputError


def draw(n, d, seed, scale=1.0):
    return np.random.default_rng(seed).normal(size=(n, d)) * scale


def brute_kid(x, y):
    k = lambda a, b: (a @ b / len(a) + 1) ** 3  # noqa: E731
    own = [np.mean([k(a, b) for a, b in itertools.permutations(s, 2)]) for s in (x, y)]
    return sum(own) - 2 * np.mean([k(a, b) for a in x for b in y])


def test_kid_is_the_definition_with_its_jackknife():
    x, y = draw(14, 5, 0), draw(11, 5, 1, 1.5)
    found = kid(x, y)
    assert found.value == pytest.approx(brute_kid(x, y), rel=1e-12)
    variance = 0.0
    for rows, other, side in ((x, y, 0), (y, x, 1)):
        left = [
            brute_kid(*((np.delete(rows, i, 0), other) if side == 0 else (other, np.delete(rows, i, 0))))
            for i in range(len(rows))
        ]
        variance += (len(rows) - 1) * np.var(left)
    assert found.standard_error == pytest.approx(math.sqrt(variance), rel=1e-10)


def test_kid_does_not_depend_on_blocks(monkeypatch):
    x, y = draw(50, 5, 0), draw(41, 5, 1, 1.5)
    whole = kid(x, y)
    monkeypatch.setattr("scorescope.analysis.fid.kernels.BLOCK", 7)
    assert kid(x, y).standard_error == pytest.approx(whole.standard_error, rel=1e-12)
    assert kid(x, y).value == pytest.approx(whole.value, rel=1e-12)


def test_kid_intervals_cover_its_expectation():
    """Gaussians differing in scale: E k for the cubic kernel is the mean over many large draws."""
    truth = kid(draw(6000, 4, 1000), draw(6000, 4, 1001, 1.3)).value
    found = [kid(draw(150, 4, s), draw(120, 4, s + 500, 1.3)) for s in range(150)]
    covered = np.mean([f.low <= truth <= f.high for f in found])
    assert 0.88 <= covered <= 0.99
    assert np.std([f.value for f in found]) == pytest.approx(np.mean([f.standard_error for f in found]), rel=0.25)


def test_kid_against_torchmetrics():
    metrics = pytest.importorskip("torchmetrics.image.kid")
    x, y = draw(60, 5, 0), draw(60, 5, 1, 1.5)
    theirs = metrics.poly_mmd(torch.tensor(x), torch.tensor(y))
    assert kid(x, y).value == pytest.approx(float(theirs), rel=1e-10)


def test_kid_subsets():
    x, y = draw(60, 5, 0), draw(60, 5, 1, 1.5)
    whole = kid_subsets(x, y, subsets=3, size=60)
    assert whole.mean == pytest.approx(kid(x, y).value, rel=1e-10)
    assert whole.std < 1e-12
    spread = kid_subsets(x, y, subsets=200, size=20)
    assert abs(spread.mean - whole.mean) < 4 * spread.std / math.sqrt(200) + 0.1 * whole.mean
    with pytest.raises(InputError, match="at least `size` images"):
        kid_subsets(x, y)


def test_cmmd_is_the_definition():
    x, y = draw(9, 4, 0), draw(7, 4, 1) + 1
    unit = lambda a: a / np.linalg.norm(a, axis=1, keepdims=True)  # noqa: E731
    k = lambda a, b: np.exp(-np.square(a[:, None] - b[None]).sum(2) / 200).mean()  # noqa: E731
    expected = 1000 * (k(unit(x), unit(x)) + k(unit(y), unit(y)) - 2 * k(unit(x), unit(y)))
    assert cmmd(x, y) == pytest.approx(expected, rel=1e-9)
