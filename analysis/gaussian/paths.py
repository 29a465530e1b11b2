"""Paths of a network against the closed-form paths of a Gaussian, from the same starts.

pair = path_pair(denoiser, gaussian, seeds=range(256), sigmas=edm_sigmas(40)[:-1])
path_errors(pair)                # state and prediction error against sigma
mode_amplitudes(pair, modes=8)   # how far each eigen-mode of the prediction has grown, against sigma
emergence(pair)                  # noise level at which it is there, against sqrt(eigenvalue)
end_agreement(pair, classify)    # final samples: error, median error, share in another mode
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from scorescope.analysis.statistics.arrays import Floats, host_array
from scorescope.analysis.statistics.bootstrap import draw_units, known_ends
from scorescope.analysis.statistics.intervals import share_interval
from scorescope.analysis.statistics.studentised import studentised
from scorescope.analysis.statistics.tables import Column, Schema, ends
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.approximations import Gaussian, Mixture
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.models.noise import SampleNoise
from scorescope.probes.sampling.paths import Path, run_path
from scorescope.probes.sampling.solvers import Solver

HALF_POWER = 0.5**0.5  # of the final size: the closed form is there at sigma = sqrt(eigenvalue)

PATH_ERRORS = Schema(
    "path_errors",
    (
        Column("sigma", float, "data", "noise level"),
        Column("quantity", str, "", "state, or denoised prediction"),
        Column("ratio_of_sums", float, "1", "sum of |network - Gaussian|^2 over sum of |Gaussian - mean|^2"),
        *ends("1", "studentised bootstrap over seeds; missing below 16"),
        Column("median", float, "1", "median over seeds of the ratio: one path that goes elsewhere does not move it"),
        Column("n", int, "", "seeds"),
    ),
)
AMPLITUDES = Schema(
    "mode_amplitudes",
    (
        Column("mode", int, "", "eigen-mode, largest variance first"),
        Column("eigenvalue", float, "data^2", "its variance"),
        Column("sigma", float, "data", "noise level"),
        Column("network", float, "1", "root mean square of the network's prediction along the mode, over its last one"),
        Column("gaussian", float, "1", "the same for the closed form: sqrt(eigenvalue / (eigenvalue + sigma^2))"),
        Column("n", int, "", "seeds"),
    ),
)
EMERGENCE = Schema(
    "mode_emergence",
    (
        Column("mode", int, "", "eigen-mode, largest variance first"),
        Column("eigenvalue", float, "data^2", "its variance"),
        Column(
            "sqrt_eigenvalue", float, "data", "noise level at which the closed form reaches 0.707 of its final size"
        ),
        Column("sigma_network", float, "data", "where the network's prediction does; missing where it always is"),
        *ends("data", "bootstrap over seeds"),
        Column("n", int, "", "seeds"),
    ),
)
ENDS = Schema(
    "end_agreement",
    (
        Column("what", str, "", "compared with the network's own samples of the same seeds"),
        Column("ratio_of_sums", float, "1", "sum of |difference|^2 over sum of |network - mean|^2"),
        *ends("1", "studentised bootstrap over seeds; missing below 16. Too short where a few flips are all there is"),
        Column("median", float, "1", "median over seeds of the ratio"),
        Column("flips", float, "1", "share of seeds whose sample belongs to another mode"),
        *ends("1", "exact (Clopper & Pearson)", of="flips"),
        Column("n", int, "", "seeds"),
    ),
)


@displayed
@dataclass(frozen=True)
class PathPair:
    """The two paths of every seed.

    Attributes
    ----------
    gaussian : Gaussian
        The law of the closed form.
    network : Path
        States, predictions and end of the network.
    states, denoised : Tensor, shape (levels, seeds, *shape)
        Of the closed form at the same levels.
    end : Tensor, shape (seeds, *shape)
        Of the closed form.
    """

    gaussian: Gaussian
    network: Path
    states: Tensor
    denoised: Tensor
    end: Tensor


@checked
def path_pair(
    denoiser: Denoiser,
    gaussian: Gaussian,
    *,
    seeds: Sequence[int],
    sigmas: Sequence[float],
    condition: Condition = None,
    solver: Solver | None = None,
    dtype: torch.dtype = torch.float32,
) -> PathPair:
    """Follow both from sigmas[0] times each seed's noise.

    Parameters
    ----------
    denoiser, gaussian
        The network and the law.
    seeds : sequence of int
        As in `sample`.
    sigmas : sequence of float
        Falling levels. The network's path has the solver's error on top: use fine steps.
    condition, solver
        As in `run_path`.
    dtype : torch.dtype
        Of the network's states.

    Returns
    -------
    PathPair
        Both paths at every level.
    """
    start = sigmas[0] * seed_noise(seeds, gaussian.shape, dtype)
    network = run_path(denoiser, start, sigmas, condition=condition, solver=solver)
    return beside(network, gaussian, end=float(sigmas[-1]))


@checked
def beside(network: Path, gaussian: Gaussian, *, end: float = 0.0) -> PathPair:
    """The closed form's path beside one that a network has gone.

    Parameters
    ----------
    network : Path
        From `run_path`.
    gaussian : Gaussian
        The law.
    end : float
        Noise level at which the network's path ends.

    Returns
    -------
    PathPair
        Both paths at every level of the network's, from the same starts.
    """
    exact, top = network.states[0].to(gaussian.mean.dtype), network.sigmas[0]
    states = torch.stack([gaussian.flow(exact, top, sigma) for sigma in network.sigmas])
    denoised = torch.stack([gaussian.denoised_on_path(exact, top, sigma) for sigma in network.sigmas])
    return PathPair(gaussian, network, states, denoised, gaussian.flow(exact, top, end))


@checked
def path_errors(pair: PathPair, *, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """State and prediction error of the closed form at every level, `PATH_ERRORS`.

    Parameters
    ----------
    pair : PathPair
        From `path_pair`.
    resamples, seed : int
        Of the bootstrap over seeds.

    Returns
    -------
    DataFrame
        Columns declared in `PATH_ERRORS`, one row a (quantity, level).
    """
    frames = []
    for quantity, network, exact in (
        ("state", pair.network.states, pair.states),
        ("denoised", pair.network.denoised, pair.denoised),
    ):
        error, total = _squared(network - exact), _squared(exact - pair.gaussian.mean)
        found = studentised(error, total, draw_units(error.shape[1], resamples=resamples, seed=seed))
        frames.append(
            pd.DataFrame(
                {
                    "sigma": pair.network.sigmas, "quantity": quantity, "ratio_of_sums": found.value,
                    "low": found.low, "high": found.high,
                    "median": np.median(error / total, axis=1), "n": error.shape[1],
                }
            )
        )  # fmt: skip
    return PATH_ERRORS.check(pd.concat(frames, ignore_index=True))


@checked
def mode_amplitudes(pair: PathPair, *, modes: int = 8) -> pd.DataFrame:
    """Size of each of the first modes of the prediction at every level, `AMPLITUDES`.

    Parameters
    ----------
    pair : PathPair
        From `path_pair`.
    modes : int
        How many, largest variance first.

    Returns
    -------
    DataFrame
        Columns declared in `AMPLITUDES`, one row a (mode, level).
    """
    energy = _mode_energy(pair, modes).mean(1)  # (levels, modes)
    network = np.sqrt(energy / energy[-1])
    sigmas = np.array(pair.network.sigmas)
    eigenvalues = pair.gaussian.eigenvalues[:modes].double().numpy()
    frames = [
        pd.DataFrame(
            {
                "mode": k, "eigenvalue": value, "sigma": sigmas, "network": network[:, k],
                "gaussian": np.sqrt(value / (value + sigmas**2)), "n": pair.states.shape[1],
            }
        )
        for k, value in enumerate(eigenvalues)
    ]  # fmt: skip
    return AMPLITUDES.check(pd.concat(frames, ignore_index=True))


@checked
def emergence(pair: PathPair, *, modes: int = 16, resamples: int = 200, seed: int = 0) -> pd.DataFrame:
    """Noise level at which each mode of the prediction has 0.707 of its final size, `EMERGENCE`.

    Parameters
    ----------
    pair : PathPair
        From `path_pair`.
    modes : int
        How many, largest variance first.
    resamples, seed : int
        Of the bootstrap over seeds.

    Returns
    -------
    DataFrame
        Columns declared in `EMERGENCE`, one row a mode. An interval is missing where more resamples than a tail of it
        holds have no such level: its end would be that of the others alone.
    """
    energy = _mode_energy(pair, modes)
    sigmas = np.array(pair.network.sigmas)
    units = energy.shape[1]
    weights = draw_units(units, resamples=resamples, seed=seed) / units
    drawn = np.stack([_crossings(np.einsum("lsm,s->lm", energy, weight), sigmas) for weight in weights])
    low, high = known_ends(drawn, units)
    eigenvalues = pair.gaussian.eigenvalues[:modes].double().numpy()
    table = pd.DataFrame(
        {
            "mode": range(len(eigenvalues)), "eigenvalue": eigenvalues, "sqrt_eigenvalue": np.sqrt(eigenvalues),
            "sigma_network": _crossings(energy.mean(1), sigmas), "low": low, "high": high, "n": units,
        }
    )  # fmt: skip
    return EMERGENCE.check(table)


@checked
def end_agreement(
    candidates: dict[str, Tensor], reference: Tensor, centre: Tensor, classify: Callable[[Tensor], Tensor] | None
) -> pd.DataFrame:
    """Final samples against the network's own of the same seeds, `ENDS`.

    Parameters
    ----------
    candidates : dict of str to Tensor, shape (seeds, *shape)
        Sets of samples.
    reference : Tensor, shape (seeds, *shape)
        The network's, finely integrated.
    centre : Tensor, shape (*shape)
        Mean of the data.
    classify : callable, optional
        Samples to the index of their mode; see `mode_of`.

    Returns
    -------
    DataFrame
        Columns declared in `ENDS`, one row a candidate.
    """
    rows = [_agreement(name, end, reference, centre, classify) for name, end in candidates.items()]
    return ENDS.check(pd.DataFrame(rows))


@checked
def mode_of(mixture: Mixture, *, sigma: float = 0.3) -> Callable[[Tensor], Tensor]:
    """A classifier: the component of a mixture that a clean sample most likely belongs to, seen at noise sigma.

    Parameters
    ----------
    mixture : Mixture
        Whose components are the modes.
    sigma : float
        In units of the data.

    Returns
    -------
    callable
        Samples (n, *shape) to the index of their component, (n,).
    """
    return lambda samples: mixture.responsibilities(samples, sigma).argmax(1)


def seed_noise(seeds: Sequence[int], shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Standard normal noise of each seed, as `sample` draws it, on the CPU."""
    return SampleNoise([int(seed) for seed in seeds], shape, torch.device("cpu"), dtype).draw()


def _agreement(
    name: str, end: Tensor, reference: Tensor, centre: Tensor, classify: Callable[[Tensor], Tensor] | None
) -> dict[str, object]:
    if end.shape != reference.shape:
        raise InputError(
            name, found=f"shape {tuple(end.shape)}", expected=f"{tuple(reference.shape)}, like the reference"
        )
    error = _squared((end.double() - reference.double())[None])
    total = _squared((reference.double() - centre.double())[None])
    found = studentised(error, total, draw_units(len(end), resamples=1000, seed=0))
    flips, low, high = float("nan"), float("nan"), float("nan")
    if classify is not None:
        flipped = host_array(classify(end) != classify(reference))
        flips, (low, high) = float(flipped.mean()), share_interval(flipped)
    return {
        "what": name, "ratio_of_sums": float(found.value[0]), "low": float(found.low[0]),
        "high": float(found.high[0]), "median": float(np.median(error / total)), "flips": flips,
        "flips_low": low, "flips_high": high, "n": len(end),
    }  # fmt: skip


def _mode_energy(pair: PathPair, modes: int) -> Floats:
    """Squared coefficients of the network's prediction, shape (levels, seeds, modes)."""
    if not 1 <= modes <= pair.gaussian.rank:
        raise InputError("modes", found=str(modes), expected=f"1 to {pair.gaussian.rank}, the rank of the Gaussian")
    coefficients = torch.stack([pair.gaussian.modes(level)[:, :modes] for level in pair.network.denoised])
    energy: Floats = coefficients.double().square().numpy()
    return energy


def _crossings(energy: Floats, sigmas: Floats) -> Floats:
    """Where sqrt(energy / last) first reaches `HALF_POWER`, linear in log sigma; NaN where it is from the start."""
    size = np.sqrt(energy / energy[-1])
    out = np.full(energy.shape[1], np.nan)
    for mode in range(energy.shape[1]):
        after = int(np.argmax(size[:, mode] >= HALF_POWER))
        if after > 0:
            pair = size[[after - 1, after], mode]
            share = (HALF_POWER - pair[0]) / (pair[1] - pair[0])
            out[mode] = np.exp(np.log(sigmas[after - 1]) * (1 - share) + np.log(sigmas[after]) * share)
    return out


def _squared(difference: Tensor) -> Floats:
    """Squared norms over all but the first two axes."""
    squares: Floats = difference.double().flatten(2).square().sum(2).numpy()
    return squares
