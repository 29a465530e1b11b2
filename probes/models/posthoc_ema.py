"""The EMA of any length, made after training from snapshots of one or two lengths that were tracked.

    snapshots = find_snapshots("runs/digits_small")            # safetensors whose metadata say step and length
    snapshots = [Snapshot(weights, step=2000, length=0.05), ...]  # or state dicts, or files
    made = posthoc_ema(snapshots, length=0.12)
    made.error                                                 # predicted, before any weight is looked at
    network.load_state_dict(made.weights)

Karras et al. 2024 (arXiv 2312.02696), section 3.2 and appendix C: an average is known by its profile, how much the
weights of each training step count in it; the combination of snapshots whose profile is nearest to the one asked for
gives weights near to those that would have been tracked. `scorescope.data.PowerEMA` tracks.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked, require_some
from scorescope.data.errors import InputError
from scorescope.data.power_ema import sigma_rel_to_gamma
from scorescope.data.untrusted import check_file, only_input_errors
from scorescope.data.written_files import check_seal

AT_MOST = 0.1  # predicted error above which a length is not to be trusted
ROUNDED = 0.01  # error of a weight by the rounding of stored ones, relative to it, above which it is refused
STEP, LENGTH = "training_step", "sigma_rel"  # keys of a file's metadata
EXPECTED = f"a safetensors file whose metadata say {STEP} and {LENGTH}"
_Read = Callable[[str], Tensor]
_Profile = tuple[float, float]  # step, gamma


@displayed
@checked
@dataclass(frozen=True, eq=False)
class Snapshot:
    """The weights of one power-function EMA at one step of training.

    Attributes
    ----------
    weights : mapping of str to Tensor, or path
        A state dict, or a safetensors file of one.
    step : float
        Optimiser steps, or images, that it is of: the same unit for all.
    length : float
        sigma_rel that it was tracked with.

    Raises
    ------
    InputError
        For a step that is not positive, and a length outside (0, 0.2887].
    """

    weights: Mapping[str, Tensor] | Path | str
    step: float
    length: float

    def __post_init__(self) -> None:
        if not 0 < self.step < math.inf:
            raise InputError("step", found=f"{self.step}", expected="a positive number of steps or images")
        sigma_rel_to_gamma(self.length)

    @property
    def name(self) -> str:
        """For messages."""
        of = f"{self.weights}, " if isinstance(self.weights, Path | str) else ""
        return f"{of}step {self.step:g}, length {self.length:g}"


@displayed
@checked
@dataclass(frozen=True, eq=False)
class PosthocEMA:
    """An EMA that was made after training.

    Attributes
    ----------
    weights : dict of str to Tensor
        Its state dict, in float32 (float64 where the snapshots are); what is no floating-point tensor is the last
        snapshot's.
    length, step : float
        What was asked for.
    coefficients : tuple of float
        One a snapshot; their sum is 1.
    error : float
        Predicted: the distance of its profile from the one asked for, relative to the size of that. Were the weights
        noise that is independent from step to step, it would be the relative error of their average.
    """

    weights: dict[str, Tensor] = field(repr=False)
    length: float
    step: float
    coefficients: tuple[float, ...] = field(repr=False)
    error: float

    @property
    def amplification(self) -> float:
        """Sum of the coefficients' sizes: the rounding of stored weights is enlarged by up to as much."""
        return float(np.abs(self.coefficients).sum())


@checked
def find_snapshots(folder: Path | str) -> list[Snapshot]:
    """The snapshots in a folder: all safetensors files whose metadata say `training_step` and `sigma_rel`.

    `python -m scorescope.data.train ... --ema 0.05 0.10` writes such files, and so does
    `safetensors.torch.save_file(state_dict, path, {"training_step": "2000", "sigma_rel": "0.05"})`. Pickles are not
    read.

    Raises
    ------
    InputError
        For a folder without any, damaged files, and metadata that are no numbers.
    """
    found = [one for path in sorted(Path(folder).glob("*.safetensors")) if (one := _snapshot(path)) is not None]
    if not found:
        raise InputError("folder", found=f"{folder}, which has none", expected=EXPECTED)
    return sorted(found, key=lambda one: (one.step, one.length))


def _snapshot(path: Path) -> Snapshot | None:
    """A file's snapshot; None for other weights."""
    with only_input_errors(path, expected=EXPECTED):
        with _open(path) as file:
            metadata = file.metadata() or {}
        if not {STEP, LENGTH} <= set(metadata):
            return None
        return Snapshot(path, float(metadata[STEP]), float(metadata[LENGTH]))


def _open(path: Path) -> safe_open:
    check_file(path, expected=EXPECTED)
    return safe_open(path, framework="pt")


@checked
def posthoc_ema(
    snapshots: Sequence[Snapshot], length: float, *, step: float | None = None, at_most: float = AT_MOST
) -> PosthocEMA:
    """Make the EMA of another length from snapshots.

    Tensors are read one after the other, so that no more than the result and one tensor are in memory, and added up in
    float64.

    Parameters
    ----------
    snapshots : sequence of Snapshot
        Of one training run, of one or more lengths: two (0.05 and 0.10) are much better than one.
    length : float
        sigma_rel asked for.
    step : float, optional
        Step of training asked for; by default the last one that there is a snapshot of. One without a snapshot is
        hardly ever within reach: its profile ends where no other does.
    at_most : float
        Largest predicted error that is not refused. What lies outside of the snapshots' span can only be guessed at.

    Returns
    -------
    PosthocEMA
        Weights, coefficients, and the predicted error.

    Raises
    ------
    InputError
        For a predicted error above `at_most`, coefficients that enlarge the rounding of stored weights to more than 1 %
        of a weight, snapshots of one step and length, and of other tensors than the first.

    Notes
    -----
    The coefficients are those of least squares, divided by their sum: Karras et al. 2024, arXiv 2312.02696, appendix C.
    """
    require_some("snapshots", snapshots)
    step = max(one.step for one in snapshots) if step is None else step
    coefficients, error = posthoc_coefficients(snapshots, length, step)
    if not error <= at_most:
        found = f"length {length:g} at step {step:g}, whose profile {len(snapshots)} snapshots miss by {error:.2g}"
        expected = f"a predicted error of at most {at_most:g}: more snapshots, a length nearer to theirs, or at_most="
        raise InputError("length", found=found, expected=expected)
    last = max(range(len(snapshots)), key=lambda place: snapshots[place].step)
    enlarged = float(np.linalg.norm(coefficients))
    if enlarged > 1 and (rounded := enlarged * _unit_rounding(snapshots[last])) > ROUNDED:
        found = f"length {length:g}, for which the rounding of stored weights grows to {rounded:.2g} of a weight"
        expected = "a length nearer to those of the snapshots, fewer snapshots, or ones stored in more digits"
        raise InputError("length", found=found, expected=expected)
    weights = _combined(snapshots, coefficients, last)
    return PosthocEMA(weights, float(length), float(step), tuple(map(float, coefficients)), error)


def posthoc_coefficients(
    snapshots: Sequence[Snapshot], length: float, step: float
) -> tuple[NDArray[np.float64], float]:
    """One coefficient a snapshot, and the relative distance of the profile that they make; see `posthoc_ema`."""
    target = (Snapshot({}, step, length).step, sigma_rel_to_gamma(length))
    profiles = [(float(one.step), sigma_rel_to_gamma(one.length)) for one in snapshots]
    if len(set(profiles)) < len(profiles):
        twice = next(one.name for one, profile in zip(snapshots, profiles, strict=True) if profiles.count(profile) > 1)
        raise InputError("snapshots", found=f"{twice}, twice", expected="each step and length once")
    size = math.sqrt(profile_product(target, target))
    sizes = np.sqrt([profile_product(one, one) for one in profiles])
    cosines = np.array([[profile_product(one, other) for other in profiles] for one in profiles])
    cosines /= np.outer(sizes, sizes)
    along = np.array([profile_product(one, target) for one in profiles]) / (sizes * size)
    solved = np.linalg.solve(cosines, along) / sizes
    coefficients = solved / solved.sum()
    used = coefficients * sizes / size
    distance = 1 - 2 * float(used @ along) + float(used @ cosines @ used)
    return coefficients, math.sqrt(max(distance, 0.0))


def _unit_rounding(snapshot: Snapshot) -> float:
    """The largest relative error of a stored weight, by the coarsest type of its tensors."""
    with ExitStack() as stack:
        names, read = _opened(snapshot, stack)
        kinds = {tensor.dtype for name in names if (tensor := read(name)).is_floating_point()}
    return max((torch.finfo(kind).eps / 2 for kind in kinds), default=0.0)


def profile_product(one: _Profile, other: _Profile) -> float:
    """Integral over training of the product of two profiles, (gamma + 1) / t (tau / t)^gamma up to their step t."""
    (early, early_gamma), (late, late_gamma) = sorted([one, other])
    share: float = (early / late) ** late_gamma
    return (early_gamma + 1) * (late_gamma + 1) * share / ((early_gamma + late_gamma + 1) * late)


def _combined(snapshots: Sequence[Snapshot], coefficients: NDArray[np.float64], last: int) -> dict[str, Tensor]:
    with ExitStack() as stack:
        opened = [_opened(one, stack) for one in snapshots]
        names = opened[last][0]
        for one, (own, _) in zip(snapshots, opened, strict=True):
            if other := names ^ own:
                expected = f"the tensors of {snapshots[last].name}"
                raise InputError(
                    "snapshots", found=f"{one.name}, that differs in {sorted(other)[:3]}", expected=expected
                )
        reads = [read for _, read in opened]
        return {name: _tensor(name, snapshots, reads, coefficients, last) for name in sorted(names)}


def _opened(snapshot: Snapshot, stack: ExitStack) -> tuple[set[str], _Read]:
    """Names of the tensors of a snapshot, and what reads one."""
    if isinstance(snapshot.weights, Mapping):
        return set(snapshot.weights), snapshot.weights.__getitem__
    path = Path(snapshot.weights)
    with only_input_errors(path, expected=EXPECTED):
        check_seal(path)
        file = stack.enter_context(_open(path))
        names = set(file.keys())

    def read(name: str) -> Tensor:
        with only_input_errors(path, expected=EXPECTED):
            tensor: Tensor = file.get_tensor(name)
            return tensor

    return names, read


def _tensor(
    name: str, snapshots: Sequence[Snapshot], reads: Sequence[_Read], coefficients: NDArray[np.float64], last: int
) -> Tensor:
    """One tensor of the result."""
    of_last = reads[last](name).detach()
    if of_last.is_complex():
        raise InputError("snapshots", found=f"{name} of {of_last.dtype}", expected="real tensors")
    if not of_last.is_floating_point():
        return of_last.clone()
    total = torch.zeros(of_last.shape, dtype=torch.float64, device=of_last.device)
    for snapshot, read, coefficient in zip(snapshots, reads, coefficients, strict=True):
        value = read(name).detach().to(total)
        if value.shape != total.shape or not value.isfinite().all():
            found = f"{name} of {snapshot.name}, of shape {tuple(value.shape)}"
            found += ", not finite" if value.shape == total.shape else ""
            raise InputError("snapshots", found=found, expected=f"finite numbers of shape {tuple(total.shape)}")
        total += float(coefficient) * value
    return total if of_last.dtype == torch.float64 else total.float()
