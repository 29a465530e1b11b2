"""Count, mean and covariance of features: mergeable, in float64, with n stored.

    moments = Moments.of(features)                     # (n, d) array
    moments = Moments.of(first).merge(Moments.of(rest))
    write_moments(Path("real.npz"), moments)           # keys mu, sigma, n: others read mu and sigma

`RunningMoments` takes batches and keeps one d x d matrix however many images pass by.
This module knows nothing of images, networks or distances.
"""

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import array_headers, check_file, read_array, reason
from scorescope.data.written_files import UNSEALED, check_seal, warn_unsealed, write_sealed

Floats = NDArray[np.float64]
COUNTS = ("n", "num_images")
LARGEST = 1e70  # of features: fourth powers of them, summed, have to fit into a float64
NEGATIVE = 1e-5  # of the covariance's norm: what rounding to single precision may take an eigenvalue below 0
_SIZES = f"numbers from {1 / LARGEST:g} to {LARGEST:g}: their fourth powers have to fit into double precision"


@displayed
@checked
@dataclass(frozen=True, eq=False)
class Moments:
    """First two moments of a set of features.

    Attributes
    ----------
    mean : ndarray, shape (d,), float64
        Mean feature.
    covariance : ndarray, shape (d, d), float64
        Unbiased covariance (divided by n - 1), symmetric.
    n : int or None
        Number of samples; None where a file of others did not say.
    """

    mean: Floats
    covariance: Floats
    n: int | None

    def __post_init__(self) -> None:
        d = len(self.mean)
        if self.mean.shape != (d,) or self.covariance.shape != (d, d) or d == 0:
            found = f"shapes {self.mean.shape} and {self.covariance.shape}"
            raise InputError("mean, covariance", found=found, expected="(d,) and (d, d), d >= 1")
        if self.mean.dtype != np.float64 or self.covariance.dtype != np.float64:
            found = f"{self.mean.dtype} and {self.covariance.dtype}"
            raise InputError("mean, covariance", found=found, expected="float64: single precision changes the distance")
        if self.n is not None and self.n < 2:
            raise InputError("n", found=str(self.n), expected="at least two samples")

    @property
    def dimension(self) -> int:
        """Number of features, d."""
        return len(self.mean)

    @classmethod
    @checked
    def of(cls, features: ArrayLike) -> "Moments":
        """Moments of `features`, shape (n, d), any float type; sums run in float64.

        Raises
        ------
        InputError
            For fewer than two rows, another number of axes, or rows that are not finite, naming them.
        """
        rows = check_features("features", features)
        mean = rows.mean(axis=0)
        centred = rows - mean
        return cls(mean, centred.T @ centred / (len(rows) - 1), len(rows))

    def merge(self, other: "Moments") -> "Moments":
        """Moments of the two sets taken together (Chan, Golub & LeVeque 1983, eq. 1.5).

        Raises
        ------
        InputError
            If the sizes differ or one n is unknown.
        """
        check_same_dimension("other", self.dimension, other.dimension)
        if self.n is None or other.n is None:
            raise InputError("n", found="None", expected="moments that say how many samples they hold")
        total = self.n + other.n
        gap = other.mean - self.mean
        scatter = (self.n - 1) * self.covariance + (other.n - 1) * other.covariance
        scatter += self.n * other.n / total * np.outer(gap, gap)
        return Moments(self.mean + gap * (other.n / total), scatter / (total - 1), total)

    def without(self, row: ArrayLike) -> "Moments":
        """Exact moments after taking one sample, shape (d,), out."""
        if self.n is None or self.n < 3:
            raise InputError("n", found=str(self.n), expected="at least three samples")
        n, c = self.n, np.asarray(row, np.float64) - self.mean
        covariance = (n - 1) / (n - 2) * self.covariance - n / ((n - 1) * (n - 2)) * np.outer(c, c)
        return Moments(self.mean - c / (n - 1), covariance, n - 1)

    def with_one_more(self, row: ArrayLike) -> "Moments":
        """Exact moments after one more sample, shape (d,)."""
        if self.n is None:
            raise InputError("n", found="None", expected="moments that say how many samples they hold")
        n, c = self.n, np.asarray(row, np.float64) - self.mean
        covariance = (n - 1) / n * self.covariance + np.outer(c, c) / (n + 1)
        return Moments(self.mean + c / (n + 1), covariance, n + 1)


class RunningMoments:
    """Moments of a stream, one batch at a time, in memory that does not grow.

    Sums run about the first batch's mean, so that a large common offset costs no digits.
    """

    def __init__(self) -> None:
        self._n = 0
        self._origin: Floats | None = None

    def add(self, features: ArrayLike) -> None:
        """Take in a batch of shape (batch, d); rows must be finite."""
        batch = check_features("features", features, at_least=1, first=self._n)
        if self._origin is None:
            self._origin = batch.mean(axis=0)
            d = len(self._origin)
            self._sum, self._upper = np.zeros(d), np.zeros((d, d), order="F")
        check_same_dimension("features", len(self._origin), batch.shape[1])
        shifted = batch - self._origin
        self._sum += shifted.sum(axis=0)
        # in place, one triangle only: no d x d temporary for each batch
        self._upper = scipy.linalg.blas.dsyrk(1.0, shifted.T, beta=1.0, c=self._upper, overwrite_c=1)
        self._n += len(batch)

    def result(self) -> Moments:
        """The moments so far.

        Raises
        ------
        InputError
            After fewer than two rows.
        """
        if self._origin is None or self._n < 2:
            raise InputError("features", found=f"{self._n} rows", expected="at least two")
        offset = self._sum / self._n
        scatter = np.triu(self._upper) - self._n * np.triu(np.outer(offset, offset))
        covariance = scatter / (self._n - 1)
        return Moments(self._origin + offset, covariance + np.triu(covariance, 1).T, self._n)


def check_features(argument: str, features: ArrayLike, *, at_least: int = 2, first: int = 0) -> Floats:
    """Features as float64, shape (n, d), after checking them.

    Parameters
    ----------
    argument : str
        How the caller names them.
    features : array or Tensor, shape (n, d)
        Any real type, on any device.
    at_least : int
        Smallest n that will do.
    first : int
        Number that the first row has in the message.

    Raises
    ------
    InputError
        For another shape or type, numbers so large or so small that their fourth powers leave double precision, and
        NaN or infinite values, naming the rows.
    """
    rows = _rows(argument, features)
    if rows.ndim != 2 or rows.shape[0] < at_least or rows.shape[1] == 0:
        expected = f"shape (n, d) with n >= {at_least}"
        raise InputError(argument, found=f"shape {rows.shape}", expected=expected)
    if not np.issubdtype(rows.dtype, np.number) or np.iscomplexobj(rows):
        raise InputError(argument, found=f"dtype {rows.dtype}", expected="real numbers")
    rows = rows.astype(np.float64, copy=False)
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1)) + first
    if len(bad):
        shown = ", ".join(map(str, bad[:8])) + (", ..." if len(bad) > 8 else "")
        found = f"NaN or infinite values in {len(bad)} rows: {shown}"
        raise InputError(argument, found=found, expected="finite features")
    largest = float(np.abs(rows).max())
    if largest and not 1 / LARGEST < largest < LARGEST:
        raise InputError(argument, found=f"values up to {largest:g}", expected=_SIZES)
    return rows


def _rows(argument: str, features: ArrayLike) -> NDArray[Any]:
    if isinstance(features, Tensor):
        rows = features.detach().cpu()
        return (rows.double() if rows.is_floating_point() else rows).numpy()
    try:
        return np.asarray(features)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(argument, found=f"no array ({reason(error)})", expected="real numbers, shape (n, d)") from None


def check_same_dimension(argument: str, first: int, second: int) -> None:
    """Raise `InputError` unless both sets have the same number of features."""
    if first != second:
        found = f"{second} features beside {first}"
        raise InputError(argument, found=found, expected="features of one network and layer on both sides")


@checked
def write_moments(path: Path | str, moments: Moments) -> None:
    """Write `mu`, `sigma` (the names that pytorch-fid and clean-fid read) and `n` as npz, with a hash of the file.

    Parameters
    ----------
    path : Path or str
        The file.
    moments : Moments
        What is written.
    """
    path = Path(path)
    arrays: dict[str, Any] = {"mu": moments.mean, "sigma": moments.covariance}
    if moments.n is not None:
        arrays["n"] = np.array(moments.n)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # given a name, numpy would append .npz to it
            np.savez(file, **arrays)  # numpy 2.0 would take allow_pickle for an array
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.comment = UNSEALED.encode()

    write_sealed(path, write)


@checked
def read_moments(path: Path | str, *, n: int | None = None) -> Moments:
    """Read `mu` and `sigma` from an npz of pytorch-fid, clean-fid, guided-diffusion, EDM or `write_moments`.

    Parameters
    ----------
    path : Path or str
        The file. Nothing in it is unpickled.
    n : int, optional
        Number of samples, where the file does not say; without it no floor can be given.

    Raises
    ------
    InputError
        For a pickle, another kind of file, missing keys or sizes that do not fit, and a file of ours that is damaged.
    """
    path = Path(path)
    expected = "an npz with arrays mu (d,) and sigma (d, d)"
    check_file(path, expected=expected)
    sealed = check_seal(path)
    if not zipfile.is_zipfile(path):
        raise InputError(str(path), found=_kind_of(path), expected=expected + "; see read_edm2_reference for EDM2's")
    headers = array_headers(path, expected=expected, wanted=("mu", "sigma", *COUNTS))
    mean, covariance = headers.get("mu"), headers.get("sigma")
    if mean is None or covariance is None:
        raise InputError(str(path), found=f"arrays {sorted(headers)[:9]}", expected=expected)
    if len(mean.shape) != 1 or covariance.shape != 2 * mean.shape or 0 in mean.shape:
        raise InputError(str(path), found=f"shapes {mean.shape} and {covariance.shape}", expected=expected)
    count = next((headers[key] for key in COUNTS if key in headers), None)
    arrays = [
        None if header is None else read_array(path, header, expected=expected) for header in (mean, covariance, count)
    ]
    if not sealed and set(headers) == {"mu", "sigma", "n"}:  # other people's have no n
        warn_unsealed(path)
    return checked_moments(str(path), *arrays, default=n)


def checked_moments(source: str, mean: Any, covariance: Any, count: Any, *, default: int | None = None) -> Moments:
    """Moments from a foreign file.

    Parameters
    ----------
    source : str
        The file, for messages.
    mean, covariance : ndarray, shapes (d,) and (d, d)
        Of any numbers: finite, of a size that can be worked with, and the covariance symmetric to rounding (then made
        exactly so) without negative variances in any direction.
    count : array or number, optional
        How many samples the file says there were.
    default : int, optional
        The same where it says nothing.

    Raises
    ------
    InputError
        For anything else.
    """
    mean, covariance = (np.asarray(part).astype(np.float64) for part in (mean, covariance))
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise InputError(source, found="NaN or infinite values", expected="finite moments")
    moments = Moments(mean, (covariance + covariance.T) / 2, _count(source, count, default))
    largest = float(np.abs(covariance).max())
    if not max(np.abs(mean).max(), math.sqrt(largest)) < LARGEST:
        raise InputError(source, found=f"moments up to {largest:g}", expected=_SIZES)
    if np.abs(covariance - covariance.T).max() > 1e-4 * largest:  # single precision files reach about 1e-6
        raise InputError(source, found="a sigma that is not symmetric", expected="a covariance matrix")
    lifted = moments.covariance + NEGATIVE * np.linalg.norm(covariance) * np.eye(len(mean))
    _, failed = scipy.linalg.lapack.dpotrf(lifted, lower=1)
    if largest and failed:
        found = f"a sigma with a negative eigenvalue, {np.linalg.eigvalsh(moments.covariance)[0]:.3g}"
        raise InputError(source, found=found, expected="a covariance matrix: no variance is negative")
    return moments


def _count(source: str, count: Any, default: int | None) -> int | None:
    if count is None:
        return default
    value = np.asarray(count).reshape(-1)
    if value.shape != (1,) or value.dtype.kind not in "iuf" or not 2 <= value[0] < 2**53 or value[0] % 1:
        raise InputError(source, found=f"a number of samples of {value[:3]}", expected="a whole number, at least 2")
    return int(value[0])


def _kind_of(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(6)
    if start[:1] == b"\x80":
        return "a Python pickle, which can run code and is never loaded"
    return "a bare .npy array" if start == b"\x93NUMPY" else "a file of another kind"
