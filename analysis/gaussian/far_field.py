"""What a Gaussian with the right mean and covariance misses at high noise, from the data alone.

    c = far_field_constant(images)
    c / sigma**2                                  # centred unexplained fraction, sigma >> spread of the data
    skip_level(c, gaussian, tolerance=1e-4)       # how far down the closed form may carry a state

Expand the softmax weights of a cloud of points y (centred) in 1 / sigma^2: the first order, C (x - mean) / sigma^2,
is that of every law with covariance C; the second is the third cumulant K3. On x = sigma n the squared difference of
the denoisers is |K3|^2 / (2 sigma^4), that of D from the mean |C|^2 / sigma^2.
"""

from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.approximations import Gaussian


@checked
def far_field_constant(data: Tensor, *, chunk: int = 2048) -> float:
    """c = |K3|_F^2 / (2 |C|_F^2) = mean_ij (y_i . y_j)^3 / (2 mean_ij (y_i . y_j)^2), from the Gram matrix.

    Parameters
    ----------
    data : Tensor, shape (n, *shape)
        Points of the cloud; n^2 d operations.
    chunk : int
        Rows of the Gram matrix held at once.

    Returns
    -------
    float
        In squared units of the data.

    Raises
    ------
    InputError
        For fewer than two different points.
    """
    rows = data.double().flatten(1)
    rows = rows - rows.mean(0)
    cubes, squares = 0.0, 0.0
    for part in rows.split(chunk):
        products = part @ rows.mT
        power = products.square()
        squares += float(power.sum())
        cubes += float((power * products).sum())
    if not squares > 0:
        raise InputError("data", found=f"{len(data)} equal points", expected="at least two different ones")
    return cubes / squares / 2


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
    constant: float, gaussian: Gaussian, sigma: float, *, sigma_max: float = float("inf")
) -> float:
    """Relative squared error of a state carried to sigma by the closed form, to leading order.

    E |x - x_gauss|^2 / E |x - mean|^2 with x on the exact path of the cloud from the same start:

        c |C|_F^2 (1 - (sigma / sigma_max)^3)^2 / (9 sigma^4 (d sigma^2 + tr C))

    The denoiser's error points the same way all along the path and grows as 1 / s^2, so the state's is the integral
    of (sigma / s) |K3 error| / s down from high noise, one third of what it is at the end. Falls as sigma^-6.

    Parameters
    ----------
    constant : float
        From `far_field_constant`.
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
    energy = float(gaussian.eigenvalues.double().square().sum())
    energy += (gaussian.dimension - gaussian.rank) * gaussian.residual**2
    path = (1 - (sigma / sigma_max) ** 3) ** 2
    return constant * energy * path / (9 * sigma**4 * (gaussian.dimension * sigma**2 + gaussian.variance))


@checked
def skip_level(constant: float, gaussian: Gaussian, *, tolerance: float) -> float:
    """Lowest sigma at which `predicted_state_error` is within `tolerance`.

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
    for _ in range(200):  # the error falls with sigma: halve the interval in log sigma
        middle = (low * high) ** 0.5
        low, high = (middle, high) if predicted_state_error(constant, gaussian, middle) > tolerance else (low, middle)
    return high
