"""What a Gaussian with the right mean and covariance misses at high noise, from the data alone.

    far = far_field(images)
    far.fraction(sigma)                           # centred unexplained fraction, where sigma >= far.lowest
    skip_level(far, gaussian, tolerance=1e-4)     # how far down the closed form may carry a state

Expand the softmax weights of a cloud of points y (centred) in 1 / sigma^2: the first order, C (x - mean) / sigma^2,
is that of every law with covariance C; the next two are the third and the fourth cumulant, K3 and K4, on Hermite
polynomials of x = sigma n, which are orthogonal. The squared difference of the denoisers is

    |K3|^2 / (2 sigma^4) + |K4|^2 / (6 sigma^6) + ...

and that of D from the mean |C|^2 / sigma^2. Symmetric laws have K3 = 0. The expansion is in C / sigma^2, and both
terms are too large by what it leaves out: by at most a half at three times the largest standard deviation, a third
at four times, an eighth at six times (two points, lopsided and symmetric clouds, digits).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.approximations import Gaussian

RANGE = 3.0  # of the largest standard deviation: from there on the prediction is right to a half


@checked
@dataclass(frozen=True)
class FarField:
    """What data say of the Gaussian's error at high noise.

    Attributes
    ----------
    third : float
        c = |K3|_F^2 / (2 |C|_F^2), in data^2.
    fourth : float
        |K4|_F^2 / (6 |C|_F^2), in data^4: what is left where c vanishes.
    third_floor : float
        What as many samples of a normal law with the covariance C have as c, in the mean: c says something of the
        law that the data come from only above it.
    lowest : float
        Noise level from which the prediction is right to a half, in units of the data.
    """

    third: float
    fourth: float
    third_floor: float
    lowest: float

    def fraction(self, sigma: float) -> float:
        """Centred unexplained fraction of the Gaussian at a noise level, at most 1; see `lowest`."""
        return min(1.0, self.third / sigma**2 + self.fourth / sigma**4)


@checked
def far_field(data: Tensor, *, chunk: int = 2048) -> FarField:
    """Both constants of a cloud of points, from its Gram matrix.

    Parameters
    ----------
    data : Tensor, shape (n, *shape)
        Points of the cloud; n^2 d operations.
    chunk : int
        Rows of the Gram matrix held at once.

    Raises
    ------
    InputError
        For fewer than two different points.
    """
    rows = _centred(data)
    n, d = rows.shape
    second, third, fourth, within = 0.0, 0.0, 0.0, 0.0
    for products in _gram(rows, chunk):
        square = products.square()
        second += float(square.sum()) / n**2
        third += float((square * products).sum()) / n**2
        fourth += float(square.square().sum()) / n**2
        within += float(square.mean(1).square().sum()) / n  # of (y^T C y)^2
    values = torch.linalg.eigvalsh((rows.mT @ rows if d <= n else rows @ rows.mT) / n).clamp_min(0)
    # |K4|^2 with K4 = E yyyy less the three products of covariances
    cumulant = fourth - 6 * within + 3 * second**2 + 6 * float(values.pow(4).sum())
    first, cube = float(values.sum()), float(values.pow(3).sum())
    floor = (first**3 + 3 * first * second + 2 * cube) / (2 * n * second)
    # what is left of cancelled sums is rounding, not a cumulant
    kept = [value if value > 1e-12 * scale else 0.0 for value, scale in ((third, second**1.5), (cumulant, fourth))]
    return FarField(kept[0] / second / 2, kept[1] / second / 6, floor, RANGE * math.sqrt(float(values[-1])))


@checked
def far_field_constant(data: Tensor, *, chunk: int = 2048) -> float:
    """c = |K3|_F^2 / (2 |C|_F^2) = mean_ij (y_i . y_j)^3 / (2 mean_ij (y_i . y_j)^2); see `far_field` for the rest.

    Parameters
    ----------
    data, chunk
        As in `far_field`, which refuses the same.

    Returns
    -------
    float
        In squared units of the data.
    """
    cubes, squares = 0.0, 0.0
    for products in _gram(_centred(data), chunk):
        power = products.square()
        squares += float(power.sum())
        cubes += float((power * products).sum())
    return cubes / squares / 2


def _centred(data: Tensor) -> Tensor:
    rows = data.double().flatten(1)
    centred = rows - rows.mean(0)
    if not float(centred.square().sum()) > 0:
        raise InputError("data", found=f"{len(data)} equal points", expected="at least two different ones")
    return centred


def _gram(rows: Tensor, chunk: int) -> Iterator[Tensor]:
    return (part @ rows.mT for part in rows.split(chunk))


@checked
def covariance_floor(approximation: Gaussian, full: Gaussian) -> float:
    """Centred fraction that a wrong covariance leaves at any high noise: |C - C_hat|_F^2 / |C|_F^2.

    Parameters
    ----------
    approximation, full : Gaussian
        The law with C_hat, and that with C.

    Returns
    -------
    float
        Dimensionless.
    """
    exact = full.covariance()
    return float((exact - approximation.covariance()).square().sum() / exact.square().sum())


@checked
def predicted_state_error(
    constant: float | FarField, gaussian: Gaussian, sigma: float, *, sigma_max: float = float("inf")
) -> float:
    """Relative squared error of a state carried to sigma by the closed form, to leading order.

    E |x - x_gauss|^2 / E |x - mean|^2 with x on the exact path of the cloud from the same start, m = sigma_max:

        |C|_F^2 [c (1 - (sigma / m)^3)^2 / (9 sigma^4) + c4 (1 - (sigma / m)^4)^2 / (16 sigma^6)] / (d sigma^2 + tr C)

    The two errors of the denoiser point the same way all along the path and grow as 1 / s^2 and 1 / s^3, so the
    state's is the integral of sigma / s^2 times them down from high noise: a third and a quarter of what they are at
    the end. Falls as sigma^-6. Holds where sigma is at least `RANGE` times the largest standard deviation; is at most
    1, which stands for 'no better than the mean'.

    Parameters
    ----------
    constant : FarField or float
        From `far_field`; a float is c alone, from `far_field_constant`, and misses what symmetric laws have.
    gaussian : Gaussian
        The law that carries.
    sigma : float
        Where to.
    sigma_max : float
        Where from.

    Returns
    -------
    float
        Dimensionless.
    """
    third, fourth = (constant.third, constant.fourth) if isinstance(constant, FarField) else (constant, 0.0)
    error = third * (1 - (sigma / sigma_max) ** 3) ** 2 / (9 * sigma**4)
    error += fourth * (1 - (sigma / sigma_max) ** 4) ** 2 / (16 * sigma**6)
    return min(1.0, gaussian.energy * error / (gaussian.dimension * sigma**2 + gaussian.variance))


def in_range(gaussian: Gaussian, sigma: float) -> bool:
    """Whether `predicted_state_error` holds at a noise level."""
    return sigma >= RANGE * math.sqrt(max([*gaussian.eigenvalues.tolist(), gaussian.residual]))


@checked
def skip_level(constant: float | FarField, gaussian: Gaussian, *, tolerance: float) -> float:
    """Lowest sigma at which `predicted_state_error` holds and is within `tolerance`.

    Parameters
    ----------
    constant, gaussian
        As in `predicted_state_error`.
    tolerance : float
        Relative squared error, between 0 and 1.

    Returns
    -------
    float
        In units of the data.
    """
    if not 0 < tolerance < 1:
        raise InputError("tolerance", found=str(tolerance), expected="a relative squared error between 0 and 1")
    low, high = 1e-6, 1e6
    for _ in range(200):  # the error falls with sigma, and the range is above a level: halve in log sigma
        middle = (low * high) ** 0.5
        fits = in_range(gaussian, middle) and predicted_state_error(constant, gaussian, middle) <= tolerance
        low, high = (low, middle) if fits else (middle, high)
    return high
