import pickle

import numpy as np
import pytest

from scorescope.data.errors import InputError
from scorescope.probes.features.moments import Moments, RunningMoments, read_moments, write_moments


def features(n=50, d=7, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 100.0


def assert_close(a, b, tolerance=1e-12):
    assert a.n == b.n
    np.testing.assert_allclose(a.mean, b.mean, rtol=tolerance)
    np.testing.assert_allclose(a.covariance, b.covariance, rtol=0, atol=tolerance * np.abs(b.covariance).max())


def test_of_is_numpy_cov():
    x = features()
    moments = Moments.of(x)
    np.testing.assert_allclose(moments.covariance, np.cov(x, rowvar=False), rtol=1e-12)
    np.testing.assert_allclose(moments.mean, x.mean(axis=0), rtol=1e-14)


def test_merge_is_concatenation_in_any_order():
    x = features()
    a, b, c = (Moments.of(part) for part in (x[:3], x[3:20], x[20:]))
    assert_close(a.merge(b).merge(c), Moments.of(x))
    assert_close(c.merge(a.merge(b)), Moments.of(x))


@pytest.mark.parametrize("batch", [1, 7, 50])
def test_running_is_of(batch):
    x = features()
    running = RunningMoments()
    for start in range(0, len(x), batch):
        running.add(x[start : start + batch].astype(np.float32))
    assert_close(running.result(), Moments.of(x.astype(np.float32)))
    assert np.array_equal(running.result().covariance, running.result().covariance.T)


def test_leave_one_out_and_add_one_are_exact():
    x = features()
    whole = Moments.of(x)
    for row in (0, 17, 49):
        rest = np.delete(x, row, axis=0)
        without = whole.without(x[row])
        scale = np.abs(whole.covariance).max()
        np.testing.assert_allclose(without.covariance, np.cov(rest, rowvar=False), rtol=0, atol=1e-13 * scale)
        np.testing.assert_allclose(without.mean, rest.mean(axis=0), rtol=1e-13)
        assert_close(without.with_one_more(x[row]), whole, 1e-13)


def test_float32_features_are_summed_in_float64():
    x = (features(4000, 3) + 1e4).astype(np.float32)
    exact = np.cov(x.astype(np.float64), rowvar=False)
    np.testing.assert_allclose(Moments.of(x).covariance, exact, rtol=1e-12)


def test_file_round_trip(tmp_path):
    moments = Moments.of(features())
    write_moments(tmp_path / "m.npz", moments)
    assert_close(read_moments(tmp_path / "m.npz"), moments, 0)


def test_others_read_ours_and_we_read_theirs(tmp_path):
    moments = Moments.of(features())
    write_moments(tmp_path / "ours.npz", moments)
    with np.load(tmp_path / "ours.npz") as file:  # as pytorch-fid and clean-fid do
        np.testing.assert_array_equal(file["mu"], moments.mean)
        np.testing.assert_array_equal(file["sigma"], moments.covariance)
    np.savez(tmp_path / "theirs.npz", mu=moments.mean, sigma=moments.covariance)
    assert read_moments(tmp_path / "theirs.npz").n is None
    assert_close(read_moments(tmp_path / "theirs.npz", n=50), moments, 0)
    np.savez_compressed(tmp_path / "guided.npz", mu=moments.mean, sigma=moments.covariance, mu_s=0, sigma_s=0)
    np.testing.assert_array_equal(read_moments(tmp_path / "guided.npz").mean, moments.mean)


def test_a_pickle_is_refused_and_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    path = tmp_path / "reference.pkl"
    path.write_bytes(pickle.dumps({"mu": Bomb()}))
    with pytest.raises(InputError, match="pickle, which can run code"):
        read_moments(path)
    np.savez(tmp_path / "hidden.npz", mu=np.array([Bomb()], dtype=object), sigma=np.eye(1))
    with pytest.raises(InputError, match="numpy refuses"):
        read_moments(tmp_path / "hidden.npz")


def test_bad_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_moments(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    with pytest.raises(InputError, match="arrays \\['a'\\]"):
        read_moments(tmp_path / "other.npz")
    np.savez(tmp_path / "skew.npz", mu=np.zeros(2), sigma=np.array([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(InputError, match="not symmetric"):
        read_moments(tmp_path / "skew.npz")
    np.savez(tmp_path / "sizes.npz", mu=np.zeros(3), sigma=np.eye(2))
    with pytest.raises(InputError, match=r"\(d, d\)"):
        read_moments(tmp_path / "sizes.npz")


def test_bad_features():
    with pytest.raises(InputError, match="n >= 2"):
        Moments.of(np.ones((1, 3)))
    x = features()
    x[[4, 9], 1] = np.nan
    with pytest.raises(InputError, match="2 rows: 4, 9"):
        Moments.of(x)
    running = RunningMoments()
    running.add(features())
    with pytest.raises(InputError, match="2 rows: 54, 59"):
        running.add(x)
    with pytest.raises(InputError, match="5 features beside 7"):
        running.add(np.ones((2, 5)))
    with pytest.raises(InputError, match="0 rows"):
        RunningMoments().result()
