import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scorescope.data.errors import InputError
from scorescope.probes.features.edm2_references import read_edm2_reference
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


ROWS = st.integers(2, 30)


@settings(deadline=None, max_examples=50)
@given(
    first=ROWS, second=ROWS, third=ROWS, width=st.integers(1, 5), shift=st.floats(-1e4, 1e4), seed=st.integers(0, 99)
)
def test_merging_is_associative_commutative_and_concatenation(first, second, third, width, shift, seed):
    """Up to the rounding of float64 sums: n eps |x|^2, which an offset that is taken out twice enlarges."""
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=(n, width)) + shift for n in (first, second, third)]
    a, b, c = map(Moments.of, parts)
    whole, limit = Moments.of(np.concatenate(parts)), 1e-13 * (1 + shift**2)
    for found in (a.merge(b).merge(c), a.merge(b.merge(c)), c.merge(b).merge(a)):
        assert found.n == whole.n
        np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found.covariance, whole.covariance, rtol=1e-9, atol=limit)
    running = RunningMoments()
    for part in parts:
        running.add(part)
    np.testing.assert_allclose(running.result().covariance, whole.covariance, rtol=1e-9, atol=limit)


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


@pytest.mark.parametrize(
    "sigma, reason",
    [
        (np.diag([1.0, -0.5]), "a negative eigenvalue, -0.5"),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), "a negative eigenvalue, -1"),
        (np.diag([1e160, 1e160]), r"moments up to 1e\+160"),
    ],
)
def test_what_is_no_covariance_is_refused(tmp_path, sigma, reason):
    np.savez(tmp_path / "m.npz", mu=np.zeros(2), sigma=sigma)
    with pytest.raises(InputError, match=reason):
        read_moments(tmp_path / "m.npz")


@pytest.mark.filterwarnings("ignore::scorescope.data.IntegrityWarning")  # written as an earlier version did
def test_single_precision_and_singular_covariances_are_read(tmp_path):
    x = features(30, 60)
    np.savez(tmp_path / "m.npz", mu=x.mean(axis=0), sigma=np.cov(x, rowvar=False).astype(np.float32), n=30)
    assert read_moments(tmp_path / "m.npz").n == 30
    np.savez(tmp_path / "m.npz", mu=np.ones(2), sigma=np.zeros((2, 2)))
    assert not read_moments(tmp_path / "m.npz").covariance.any()


@pytest.mark.filterwarnings("ignore::scorescope.data.IntegrityWarning")  # written as an earlier version did
@pytest.mark.parametrize("count", [1.5, -3, np.nan, np.inf, 1e300, [2, 3], 0])
def test_a_number_of_samples_that_is_none(tmp_path, count):
    np.savez(tmp_path / "m.npz", mu=np.zeros(2), sigma=np.eye(2), n=count)
    with pytest.raises(InputError, match="a number of samples"):
        read_moments(tmp_path / "m.npz")


def test_tensors_of_any_kind_are_features():
    x = features(40, 3)
    expected = Moments.of(x.astype(np.float32))
    given = torch.tensor(x, dtype=torch.float32, requires_grad=True)
    assert_close(Moments.of(given), expected)
    half = given.detach().to(torch.bfloat16)
    assert_close(Moments.of(half), Moments.of(half.double().numpy()))


@pytest.mark.parametrize("scale", [1e150, 1e80, 1e-150])
def test_features_whose_fourth_powers_leave_double_precision_are_refused(scale):
    with pytest.raises(InputError, match="fourth powers have to fit"):
        Moments.of(features() * scale)
    assert Moments.of(np.zeros((3, 2))).n == 3


def test_moments_that_would_grow_without_measure_and_a_named_pipe(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, shape in (("mu", (6000,)), ("sigma", (6000, 6000))):
            head = io.BytesIO()
            np.lib.format.write_array_header_1_0(head, {"shape": shape, "fortran_order": False, "descr": "<f8"})
            archive.writestr(f"{name}.npy", head.getvalue() + bytes(8 * 6000 * (name == "mu")))
    data = bytearray((tmp_path / "m.npz").read_bytes())
    place = data.rindex(b"PK\1\2") + 24  # in the directory, the size of sigma
    data[place : place + 4] = struct.pack("<I", 128 + 8 * 6000**2)
    (tmp_path / "m.npz").write_bytes(data)
    with pytest.raises(InputError, match=r"would grow to 288000128.*at most 268435456"):
        read_moments(tmp_path / "m.npz")
    os.mkfifo(tmp_path / "pipe.npz")
    for read in (read_moments, read_edm2_reference):
        with pytest.raises(InputError, match="a named pipe"):
            read(tmp_path / "pipe.npz")


TYPE = b"cnumpy\ndtype\nX\2\0\0\0f8\x85R"


def doubled(levels):
    """A tuple of twice itself, so many times: 2^levels items in a few bytes; the last is in the memo at `levels`."""
    return b"\x80\4)\x94" + b"".join(b"h" + bytes([n, 104, n]) + b"\x86\x94" for n in range(levels))


def dicts(levels):
    """The same of dicts."""
    pairs = (b"}(X\1\0\0\0ah" + bytes([n]) + b"X\1\0\0\0bh" + bytes([n]) + b"u\x94" for n in range(levels))
    return b"\x80\4}\x94" + b"".join(pairs)


@pytest.mark.parametrize(
    "content",
    [
        doubled(60) + b"}h\x3cK\1s.",  # as the key of a dict: its hash takes for ever
        dicts(60) + b".",
        doubled(60) + b"cnumpy\ndtype\nh\x3c\x85R.",  # as a name: its text is endless
        doubled(60) + b"ccopyreg\nh\x3c\x93.",
        doubled(60) + b"cnumpy.core.multiarray\n_reconstruct\n)R(K\1h\x3c" + TYPE + b"\x89C\0tb.",  # as a shape
        b"\x80\4cnumpy.core.numeric\n_frombuffer\n(\x8a\6\xff\xff\xff\xff\xff\0" + TYPE + b")X\1\0\0\0CtR.",
        b"\x80\4" + b"N" * 20_000 + b".",
    ],
    ids=["key", "dicts", "name", "global", "shape", "bytes by their number", "instructions"],
)
def test_crafted_pickles_end(tmp_path, content):
    (tmp_path / "r.pkl").write_bytes(content)
    with pytest.raises(InputError):
        read_edm2_reference(tmp_path / "r.pkl")


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
