"""The inner products of one step, computed on the device, and how they travel to the host as one vector.

Nothing here waits for the device: every number goes into a `Packed` vector that is read back once, at the end of
a run or by the writer thread.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorescope.probes.decomposition.products import GUIDED_PRODUCTS, image_statistics
from scorescope.probes.pipelines.branches import Aligned, Hypothesis, cut
from scorescope.probes.pipelines.fit import fit
from scorescope.probes.pipelines.inputs import compare, squares
from scorescope.probes.pipelines.level import Level

_MOST_POSITIONS = 512  # a longer axis is not one of frames
_NUMBERS = ("sigma", "sigma_next", "alpha", "skip", "out")


class Packed:
    """Named numbers of one step, on the device."""

    def __init__(self) -> None:
        self._names: list[tuple[str, tuple[int, ...]]] = []
        self._parts: list[Tensor] = []

    def add(self, name: str, value: Tensor) -> None:
        """Add an array of numbers."""
        self._names.append((name, tuple(value.shape)))
        self._parts.append(value.detach().double().flatten())

    def vector(self, device: torch.device) -> Tensor:
        """Everything as one float64 vector on `device`: copied there once where all of it lies on one."""
        if len({part.device for part in self._parts}) == 1:
            return torch.cat(self._parts).to(device)
        empty = torch.empty(0, dtype=torch.float64, device=device)
        return torch.cat([part.to(device) for part in self._parts]) if self._parts else empty

    def read(self, vector: Tensor) -> dict[str, Any]:
        """The arrays again, as nested lists of float, from the vector on the host."""
        found, start = {}, 0
        for name, shape in self._names:
            size = int(torch.Size(shape).numel())
            found[name] = vector[start : start + size].reshape(shape).tolist()
            start += size
        return found


def measure(
    packed: Packed, aligned: Sequence[Aligned], target: Tensor, state: Tensor, level: Level
) -> list[dict[str, Any]]:
    """Add the inner products of one step; return what the host knows of each hypothesis."""
    described: list[dict[str, Any]] = []
    cuts = cut(aligned, target, state)
    for place, hypothesis in enumerate(cuts):
        gram = hypothesis.gram()
        packed.add(f"gram/{place}", _upper(gram))
        for axis in _axes(hypothesis.target):
            packed.add(f"slices/{place}/{axis}", _upper(hypothesis.gram_along(axis)))
        if _differs_inside(level, state):
            packed.add(f"denoised/{place}", _upper(_denoised(hypothesis, level).gram()))
        known, numbers = compare(hypothesis)
        for name, value in numbers.items():
            packed.add(f"{name}/{place}", value)
        described.append(_describe(hypothesis, target) | known)
        further = place + 1 < len(cuts) and state.device.type == "cpu"
        if further and _is_exact(gram, described[-1]["precision"], state[0].numel()):
            break  # reading the numbers costs nothing here; elsewhere it would wait for the device
    for name in _NUMBERS:
        if isinstance(value := getattr(level, name), Tensor):
            packed.add(f"level/{name}", _per_sample(value, len(state)))
    return described


def add_statistics(packed: Packed, guided: Tensor, value_range: tuple[float, float] | None) -> None:
    """Add the pixel statistics of D_g."""
    if guided.numel() and guided.ndim > 1:
        found = image_statistics(guided, value_range)
        for name in GUIDED_PRODUCTS[2:]:
            packed.add(f"statistics/{name}", found[name])


def add_gap(packed: Packed, guided: Tensor, estimate: Tensor) -> None:
    """Add how far D_g is from the scheduler's own estimate, as a share of the estimate."""
    reference = estimate.double().flatten(1)
    packed.add("x0_gap", (guided.flatten(1) - reference).norm(dim=1) / reference.norm(dim=1))


def denoised(prediction: Tensor, state: Tensor, level: Level) -> Tensor:
    """D = skip * state + out * prediction in float64."""
    return _spread(level.skip, state) * state.double() + _spread(level.out, state) * prediction.double()


def _spread(value: float | Tensor, like: Tensor) -> float | Tensor:
    if isinstance(value, Tensor) and value.ndim == 1:
        return value.reshape(-1, *(1,) * (like.ndim - 1))
    return value


def _differs_inside(level: Level, state: Tensor) -> bool:
    return isinstance(level.skip, Tensor) and level.skip.numel() > len(state)


def _per_sample(value: Tensor, batch: int) -> Tensor:
    """One number a sample; the largest where it differs inside one."""
    return value.flatten(1).amax(1) if value.ndim > 1 else value.expand(batch) if value.numel() == 1 else value


def _denoised(hypothesis: Hypothesis, level: Level) -> Hypothesis:
    """The branches in denoised space, and last D of a prediction of zero, by which one is turned round."""
    rows = len(hypothesis.target)
    skip, out, alpha = (v[:rows] if isinstance(v, Tensor) else v for v in (level.skip, level.out, level.alpha))
    part = Level(alpha=alpha, skip=skip, out=out)
    state = hypothesis.state
    return Hypothesis(
        hypothesis.layout,
        hypothesis.labels,
        [
            *(denoised(branch, state, part) for branch in hypothesis.branches),
            _spread(part.skip, state) * state.double(),
        ],
        denoised(hypothesis.target, state, part),
        state.double() / part.alpha,
    )


def _axes(target: Tensor) -> list[int]:
    """Axes along which the weight may differ: those of video that may be frames."""
    return [axis for axis in (1, 2) if 1 < target.shape[axis] <= _MOST_POSITIONS] if target.ndim == 5 else []


def _upper(gram: Tensor) -> Tensor:
    rows, columns = torch.triu_indices(gram.shape[-1], gram.shape[-1], device=gram.device)
    return gram[..., rows, columns]


def _is_exact(gram: Tensor, precision: float, size: int) -> bool:
    """Whether this cut explains the prediction, so that no other one has to be tried."""
    products = gram[:, :-1, :-1].numpy()
    return all(bool(np.isfinite(one).all()) and fit(one, precision, size, state=False).exact for one in products)


def _describe(hypothesis: Hypothesis, target: Tensor) -> dict[str, Any]:
    layout = hypothesis.layout
    kinds = {target.dtype, *(branch.dtype for branch in hypothesis.branches)}
    precision = max(torch.finfo(kind).eps for kind in kinds if kind.is_floating_point)
    return {
        "view": layout.view, "order": layout.order, "modules": list(layout.modules), "parts": list(layout.parts),
        "labels": hypothesis.labels, "precision": precision, "calls": [call.place for call in hypothesis.calls],
    }  # fmt: skip


def unread(
    record: dict[str, Any], found: dict[str, Any], described: list[dict[str, Any]], level: Level
) -> dict[str, Any]:
    """The part of a step's record that came from the device, from what `Packed.read` gave."""
    for place, hypothesis in enumerate(described):
        hypothesis["gram"] = found[f"gram/{place}"]
        slices = {name.split("/")[2]: value for name, value in found.items() if name.startswith(f"slices/{place}/")}
        if slices:
            hypothesis["slices"] = slices
        for name in ("alike", "states"):
            if f"{name}/{place}" in found:
                hypothesis[name] = squares(found[f"{name}/{place}"], sum(hypothesis["parts"]))
        if f"away/{place}" in found:
            hypothesis["away"] = found[f"away/{place}"]
        if f"denoised/{place}" in found:
            hypothesis["denoised_gram"] = found[f"denoised/{place}"]
    prefix = "statistics/"
    from_device = {"t": found["t"]} if "t" in found else {}
    if record["follows"]:
        from_device["follows"] = [[event, found.get(f"follows/{event}", equal)] for event, equal in record["follows"]]
    return from_device | {
        "hypotheses": described,
        "statistics": {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)},
        "x0_gap": found.get("x0_gap"),
        "level": {
            **{name: found.get(f"level/{name}", _plain(getattr(level, name))) for name in _NUMBERS},
            "space": level.space,
            "note": level.note,
        },
    }  # fmt: skip


def _plain(value: float | Tensor) -> float | None:
    return None if isinstance(value, Tensor) else float(value)
