"""What a comparison on a bank of points adds up, and what can be read from it.

    found = compare_arms(bank, arms)              # a Comparison
    found.loss("cond")                            # (images, levels), |noise - eps|^2
    found.difference("uncond", "cond")
    Comparison.join([first, second]).save("comparison.safetensors")        # of some images each

An eps prediction is (x - D) / sigma, so |noise - eps|^2 = |x0 - D|^2 / sigma^2: one sum serves both spaces. This
module calls no denoiser.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked, require_some
from scorescope.data.errors import InputError
from scorescope.data.untrusted import only_input_errors, parse_json, read_tensors
from scorescope.data.written_files import UNSEALED, check_seal, warn_unsealed, write_sealed
from scorescope.probes.bank.points import Bank, Point
from scorescope.probes.models.denoiser import working_dtype

FORMAT = "scorescope-comparison-1"
Floats = NDArray[np.float64]
_ARRAYS, _MAPS = ("losses", "distances", "square_differences"), ("difference_maps", "distance_maps")
LossSpace = Literal["eps", "denoised"]


@displayed
@checked
@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare_arms` found.

    Attributes
    ----------
    names : tuple of str
        Arms, in order.
    pairs : tuple of (str, str)
        Pairs that were compared.
    rows : array of int, shape (images,)
        Images of the bank.
    sigmas : array, shape (levels,)
        Noise levels, in units of the data.
    draws : int
        Noises for each image and level; everything below is their mean.
    losses : array, shape (arms, images, levels)
        |D - x0|^2, summed over the elements of an image, in data^2.
    distances : array, shape (pairs, images, levels)
        |D_first - D_second|^2, in data^2.
    square_differences : array, shape (pairs, images, levels)
        Mean over draws of the squared difference of losses, in data^4.
    difference_maps, distance_maps : Tensor, shape (pairs, images, *space), float64, or None
        sum_levels weight * (difference of losses, distance) / sigma^2, summed over channels but not over pixels.
    """

    names: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    rows: NDArray[np.int64]
    sigmas: Floats
    draws: int
    losses: Floats
    distances: Floats
    square_differences: Floats
    difference_maps: Tensor | None = None
    distance_maps: Tensor | None = None

    @classmethod
    def join(cls, parts: Sequence["Comparison"]) -> "Comparison":
        """One of all images, in the order of the parts: the same arms at the same points.

        Raises
        ------
        InputError
            For none, and for parts of other arms, pairs, noise levels or draws.
        """
        require_some("parts", parts)
        first = parts[0]
        for part in parts:
            same = (part.names, part.pairs, part.draws) == (first.names, first.pairs, first.draws)
            if not same or not np.array_equal(part.sigmas, first.sigmas):
                found = f"arms {list(part.names)} at {len(part.sigmas)} levels"
                raise InputError("parts", found=found, expected=f"{list(first.names)} at the same points")
        joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts], 1) for name in _ARRAYS}
        for name in _MAPS:
            if getattr(first, name) is not None:
                joined[name] = torch.cat([getattr(part, name) for part in parts], 1)
        return replace(first, rows=np.concatenate([part.rows for part in parts]), **joined)

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file with a hash of itself; gives its path back."""
        path = Path(path)
        numbers = {
            name: torch.from_numpy(np.ascontiguousarray(getattr(self, name))) for name in ("rows", "sigmas", *_ARRAYS)
        }
        maps = {name: value.contiguous() for name in _MAPS if (value := getattr(self, name)) is not None}
        about = json.dumps({"names": self.names, "pairs": self.pairs, "draws": self.draws})
        metadata = {"format": FORMAT, "about": about, "seal": UNSEALED}
        write_sealed(path, lambda temporary: save_file(numbers | maps, temporary, metadata))
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Comparison":
        """Read a file that `save` wrote.

        Raises
        ------
        InputError
            For a damaged file, or one of something else.
        """
        expected = "a comparison that Scorescope wrote"
        sealed = check_seal(Path(path))
        metadata, tensors = read_tensors(path, expected=expected)
        if metadata.get("format") != FORMAT:
            raise InputError(str(path), found=f"tensors {sorted(tensors)[:6]}", expected=expected)
        if not sealed:
            warn_unsealed(Path(path))
        with only_input_errors(path, expected=expected):
            about = parse_json(metadata["about"], source=path, expected=expected)
            arrays: dict[str, Any] = {name: tensors[name].numpy() for name in ("rows", "sigmas", *_ARRAYS)}
            maps: dict[str, Any] = {name: tensors.get(name) for name in _MAPS}
            pairs = tuple((first, second) for first, second in about["pairs"])
            found = cls(tuple(about["names"]), pairs, draws=int(about["draws"]), **arrays, **maps)
            if wrong := _does_not_fit(found):
                raise InputError(str(path), found=f"{wrong} that do not fit the rest", expected=expected)
            return found

    def loss(self, name: str, *, space: LossSpace = "eps") -> Floats:
        """Loss of an arm, shape (images, levels): |noise - eps|^2 or, in `denoised` space, |x0 - D|^2."""
        return self._in(space, self.losses[self._arm(name)])

    def difference(self, first: str, second: str, *, space: LossSpace = "eps") -> Floats:
        """Loss of the first arm less that of the second, shape (images, levels)."""
        return self._in(space, self.losses[self._arm(first)] - self.losses[self._arm(second)])

    def distance(self, first: str, second: str, *, space: LossSpace = "eps") -> Floats:
        """Squared distance of the two predictions, shape (images, levels); the pair must have been asked for."""
        return self._in(space, self.distances[self.pair(first, second)])

    def difference_error(self, first: str, second: str, *, space: LossSpace = "eps") -> Floats:
        """Standard error, over draws, of each image's loss difference, shape (images, levels); NaN for one draw."""
        if self.draws < 2:
            return np.full(self.losses.shape[1:], np.nan)
        mean = self.losses[self._arm(first)] - self.losses[self._arm(second)]
        variance = np.maximum(self.square_differences[self.pair(first, second)] - mean**2, 0) / (self.draws - 1)
        return self._in(space, np.sqrt(variance))

    def pair(self, first: str, second: str) -> int:
        """Position of a pair, in either order of its arms.

        Raises
        ------
        InputError
            If it was not asked for.
        """
        for number, pair in enumerate(self.pairs):
            if pair in ((first, second), (second, first)):
                return number
        raise InputError("pair", found=f"{(first, second)}", expected=f"one of {list(self.pairs)}")

    def _arm(self, name: str) -> int:
        if name not in self.names:
            raise InputError("arm", found=repr(name), expected=f"one of {list(self.names)}")
        return self.names.index(name)

    def _in(self, space: LossSpace, values: Floats) -> Floats:
        if space not in ("eps", "denoised"):
            raise InputError("space", found=repr(space), expected="'eps' or 'denoised'")
        return values / self.sigmas**2 if space == "eps" else values.copy()


def _does_not_fit(found: Comparison) -> str:
    """The first part of a comparison whose names, type or shape are not those that its other parts ask for."""
    if not found.names or not all(isinstance(name, str) for name in found.names) or found.draws < 1:
        return "names"
    if not all(name in found.names for pair in found.pairs for name in pair):
        return "pairs"
    places = found.rows.shape + found.sigmas.shape
    if len(places) != 2 or found.rows.dtype != np.int64 or found.sigmas.dtype != np.float64:
        return "rows and sigmas"
    counts = {"losses": len(found.names), "distances": len(found.pairs), "square_differences": len(found.pairs)}
    for name, count in counts.items():
        values = getattr(found, name)
        if values.shape != (count, *places) or values.dtype != np.float64:
            return name
    maps = {name: value for name in _MAPS if (value := getattr(found, name)) is not None}
    return next((name for name, value in maps.items() if value.shape[:2] != (len(found.pairs), places[0])), "")


class Sums:
    """Sums over draws, on the device of the bank."""

    def __init__(
        self,
        bank: Bank,
        names: tuple[str, ...],
        pairs: tuple[tuple[str, str], ...],
        rows: Tensor,
        map_weights: Sequence[float] | None,
    ) -> None:
        self.bank, self.names, self.pairs, self.rows = bank, names, pairs, rows
        self.members = [(names.index(first), names.index(second)) for first, second in pairs]
        device, self.dtype = bank.x0.device, working_dtype(bank.x0)
        size = (len(rows), len(bank.sigmas))
        self.losses = torch.zeros(len(names), *size, dtype=self.dtype, device=device)
        self.distances, self.squares = (
            torch.zeros(len(pairs), *size, dtype=self.dtype, device=device) for _ in range(2)
        )
        self.weights = None if map_weights is None else [float(weight) for weight in map_weights]
        space = bank.x0.shape[2:] if bank.x0.ndim > 2 else bank.x0.shape[1:]
        maps = 0 if map_weights is None else len(pairs)
        self.maps = torch.zeros(2, maps, len(rows), *space, dtype=self.dtype, device=device)

    def add(self, positions: Tensor, point: Point, predictions: Mapping[int, Tensor]) -> None:
        """Add what the arms said at one point."""
        level, where = point.level, positions.to(self.losses.device)
        x0 = point.x0.to(self.dtype)
        values = {number: prediction.to(self.dtype) for number, prediction in predictions.items()}
        square = {number: (value - x0).square() for number, value in values.items()}
        losses = {number: value.flatten(1).sum(1) for number, value in square.items()}
        for number, loss in losses.items():
            self.losses[number, where, level] += loss
        for number, (first, second) in enumerate(self.members):
            apart = (values[first] - values[second]).square()
            self.distances[number, where, level] += apart.flatten(1).sum(1)
            self.squares[number, where, level] += (losses[first] - losses[second]).square()
            if self.weights is not None:
                scale = self.weights[level] / float(self.bank.sigmas[level]) ** 2
                self.maps[0, number, where] += scale * _over_channels(square[first] - square[second])
                self.maps[1, number, where] += scale * _over_channels(apart)
        if point.draw == self.bank.draws - 1 and int(positions[-1]) == len(self.rows) - 1:
            self._check_finite(level)

    def _check_finite(self, level: int) -> None:
        # once a level, since on an accelerator it waits for the device
        good = self.losses[:, :, level].isfinite().cpu()
        if not good.all():
            arm = int((~good).any(1).nonzero()[0])
            bad = self.rows[~good[arm]].tolist()
            found = f"values that are not finite at sigma {self.bank.sigmas[level]:.4g}, images {bad[:5]}"
            raise InputError(f"denoiser ({self.names[arm]})", found=found, expected="finite predictions")

    def result(self) -> Comparison:
        """Means over draws."""
        draws = self.bank.draws
        losses, distances, squares = (
            np.asarray((total / draws).cpu(), np.float64) for total in (self.losses, self.distances, self.squares)
        )
        sigmas = np.asarray(self.bank.sigmas, np.float64)
        ratio_maps, distance_maps = (self.maps / draws).cpu().double().unbind(0)
        found = Comparison(self.names, self.pairs, self.rows.numpy(), sigmas, draws, losses, distances, squares)
        if self.weights is None:
            return found
        return replace(found, difference_maps=ratio_maps, distance_maps=distance_maps)


def _over_channels(values: Tensor) -> Tensor:
    """(batch, channel, *space) to (batch, *space); flat data has no channels."""
    return values.sum(1) if values.ndim > 2 else values
