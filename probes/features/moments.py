"""Count, mean and covariance of features: mergeable, in float64, with n stored.

    moments = Moments.of(features)                     # (n, d) array
    moments = Moments.of(first).merge(Moments.of(rest))
    write_moments(Path("real.npz"), moments)           # keys mu, sigma, n: others read mu and sigma

`RunningMoments` takes batches and keeps one d x d matrix however many images pass by.
This module knows nothing of images, networks or distances.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import blas

from scorescope.data.checkpoints import replace_file
from scorescope.data.doors import checked
from scorescope.data.errors import InputError

Floats = NDArray[np.float64]


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
        self._upper = blas.dsyrk(1.0, shifted.T, beta=1.0, c=self._upper, overwrite_c=1)
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
    features : array, shape (n, d)
        Any real type.
    at_least : int
        Smallest n that will do.
    first : int
        Number that the first row has in the message.

    Raises
    ------
    InputError
        Naming the rows that hold NaN or infinite values.
    """
    rows = np.asarray(features)
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
    return rows


def check_same_dimension(argument: str, first: int, second: int) -> None:
    """Raise `InputError` unless both sets have the same number of features."""
    if first != second:
        found = f"{second} features beside {first}"
        raise InputError(argument, found=found, expected="features of one network and layer on both sides")


@checked
def write_moments(path: Path | str, moments: Moments) -> None:
    """Write `mu`, `sigma` (the names that pytorch-fid and clean-fid read) and `n` as npz.

    Parameters
    ----------
    path : Path or str
        The file.
    moments : Moments
        What is written.
    """
    path = Path(path)
    arrays: dict[str, NDArray[np.generic]] = {"mu": moments.mean, "sigma": moments.covariance}
    if moments.n is not None:
        arrays["n"] = np.array(moments.n)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # given a name, numpy would append .npz to it
            np.savez(file, allow_pickle=False, **arrays)

    replace_file(path, write)


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
        For a pickle, another kind of file, missing keys or sizes that do not fit.
    """
    path = Path(path)
    expected = "an npz with arrays mu (d,) and sigma (d, d)"
    if not path.is_file():
        raise InputError(str(path), found="no such file", expected=expected)
    if not zipfile.is_zipfile(path):
        raise InputError(str(path), found=_kind_of(path), expected=expected + "; see read_edm2_reference for EDM2's")
    try:
        with np.load(path, allow_pickle=False) as file:
            keys = set(file.files)
            if not {"mu", "sigma"} <= keys:
                raise InputError(str(path), found=f"arrays {sorted(keys)}", expected=expected)
            mean, covariance = file["mu"].astype(np.float64), file["sigma"].astype(np.float64)
            stored = next((int(file[key]) for key in ("n", "num_images") if key in keys), None)
    except (ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(str(path), found=f"a file that numpy refuses ({error})", expected=expected) from None
    return checked_moments(str(path), mean, covariance, stored if stored is not None else n)


def checked_moments(source: str, mean: Floats, covariance: Floats, n: int | None) -> Moments:
    """Moments from a foreign file: finite, and the covariance symmetric to rounding (then made exactly so)."""
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise InputError(source, found="NaN or infinite values", expected="finite moments")
    moments = Moments(mean, (covariance + covariance.T) / 2, n)
    skew = np.abs(covariance - covariance.T).max()
    if skew > 1e-4 * np.abs(covariance).max():  # single precision files reach about 1e-6
        raise InputError(source, found="a sigma that is not symmetric", expected="a covariance matrix")
    return moments


def _kind_of(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(6)
    if start[:1] == b"\x80":
        return "a Python pickle, which can run code and is never loaded"
    return "a bare .npy array" if start == b"\x93NUMPY" else "a file of another kind"
