"""Fitted approximations in safetensors, with their units. No pickle is read or written.

save_approximation("cifar10.safetensors", gaussian)
gaussian = load_approximation("cifar10.safetensors")
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import only_input_errors, parse_json, read_tensors
from scorescope.data.written_files import UNSEALED, check_seal, warn_unsealed, write_sealed
from scorescope.probes.approximations.gaussian import Fit, Gaussian
from scorescope.probes.approximations.mixture import Mixture
from scorescope.probes.approximations.training_set import TrainingSet

FORMAT = "scorescope-approximation-1"
Approximation = Gaussian | Mixture | TrainingSet
"""A law whose denoiser is known."""


@checked
def save_approximation(path: Path | str, approximation: Approximation) -> None:
    """Write an approximation, its name, note and units to one safetensors file, atomically, with a hash of the file.

    What components share, a tied covariance for instance, is written once, and shared again when it is read.

    Parameters
    ----------
    path : Path or str
        The file.
    approximation : Gaussian, Mixture or TrainingSet
        What is kept.
    """
    tensors: dict[str, Tensor] = {}
    about: dict[str, Any] = {"name": approximation.name, "note": approximation.note, "units": approximation.units}
    if isinstance(approximation, Gaussian):
        about |= {"kind": "gaussian", "components": [_pack("", approximation, tensors)]}
    elif isinstance(approximation, Mixture):
        tensors["weights"] = approximation.weights
        packed = [_pack(f"{k}.", g, tensors) for k, g in enumerate(approximation.components)]
        about |= {"kind": "mixture", "labels": approximation.labels, "components": packed}
    else:
        tensors["points"] = approximation.points
        if approximation.labels is not None:
            tensors["labels"] = approximation.labels
        about |= {"kind": "training set", "chunk": approximation.chunk}
    kept, about["same"] = _once(tensors)
    metadata = {"format": FORMAT, "about": json.dumps(about), "seal": UNSEALED}
    write_sealed(Path(path), lambda temporary: save_file(kept, temporary, metadata))


@checked
def load_approximation(path: Path | str) -> Approximation:
    """Read what `save_approximation` wrote.

    Raises
    ------
    InputError
        If the file is missing, damaged or of another kind.
    """
    sealed = check_seal(Path(path))
    metadata, tensors = read_tensors(path, expected="a safetensors file")
    if metadata.get("format") != FORMAT:
        found = f"format {metadata.get('format')!r}"
        raise InputError(str(path), found=found, expected=f"{FORMAT!r}, written by save_approximation")
    if not sealed:
        warn_unsealed(Path(path))
    with only_input_errors(path, expected=FORMAT, found="entries that do not fit"):
        about = parse_json(metadata["about"], source=path, expected=FORMAT)
        tensors |= {key: tensors[first] for key, first in about.get("same", {}).items()}
        return _build(about, tensors)


def _once(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors that lie in memory of their own, and for those that are the same as another the name of that one."""
    kept: dict[str, Tensor] = {}
    same: dict[str, str] = {}
    places: dict[tuple[Any, ...], str] = {}
    for key, value in tensors.items():
        first = places.setdefault((value.data_ptr(), value.shape, value.stride(), value.dtype, value.device), key)
        if first != key and value.numel():
            same[key] = first
        else:
            shares = value.untyped_storage().nbytes() > value.nbytes  # a view, perhaps of the same as others
            kept[key] = value.clone(memory_format=torch.contiguous_format) if shares else value.contiguous()
    return kept, same


def _pack(prefix: str, gaussian: Gaussian, tensors: dict[str, Tensor]) -> dict[str, Any]:
    tensors |= {
        f"{prefix}mean": gaussian.mean,
        f"{prefix}basis": gaussian.basis,
        f"{prefix}eigenvalues": gaussian.eigenvalues,
    }
    about = {"residual": gaussian.residual, "name": gaussian.name, "note": gaussian.note, "units": gaussian.units}
    return about | {"fit": None if gaussian.fit is None else asdict(gaussian.fit)}


def _build(about: dict[str, Any], tensors: dict[str, Tensor]) -> Approximation:
    common = {key: about[key] for key in ("name", "note", "units")}
    if about["kind"] == "training set":
        return TrainingSet(tensors["points"], tensors.get("labels"), about["chunk"], **common)
    if about["kind"] == "gaussian":
        return _unpack("", about["components"][0], tensors)
    components = tuple(_unpack(f"{k}.", entry, tensors) for k, entry in enumerate(about["components"]))
    labels = None if about["labels"] is None else tuple(about["labels"])
    return Mixture(components, tensors["weights"], labels, **common)


def _unpack(prefix: str, entry: dict[str, Any], tensors: dict[str, Tensor]) -> Gaussian:
    mean, basis, eigenvalues = (tensors[prefix + key] for key in ("mean", "basis", "eigenvalues"))
    if not mean.is_floating_point() or {mean.dtype} != {basis.dtype, eigenvalues.dtype}:
        raise ValueError(f"numbers of types {mean.dtype}, {basis.dtype}, {eigenvalues.dtype}")
    entry = {**entry, "residual": float(entry["residual"])}
    fit = None if entry.get("fit") is None else Fit(**entry["fit"])  # earlier versions wrote none
    return Gaussian(mean, basis, eigenvalues, **{**entry, "fit": fit})
