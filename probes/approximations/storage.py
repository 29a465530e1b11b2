"""Fitted approximations in safetensors, with their units. No pickle is read or written.

save_approximation("cifar10.safetensors", gaussian)
gaussian = load_approximation("cifar10.safetensors")
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from scorescope.data.checkpoints import replace_file
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.approximations.gaussian import Gaussian
from scorescope.probes.approximations.mixture import Mixture
from scorescope.probes.approximations.training_set import TrainingSet

FORMAT = "scorescope-approximation-1"
Approximation = Gaussian | Mixture | TrainingSet
"""A law whose denoiser is known."""


@checked
def save_approximation(path: Path | str, approximation: Approximation) -> None:
    """Write an approximation, its name, note and units to one safetensors file, atomically.

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
    metadata = {"format": FORMAT, "about": json.dumps(about)}
    kept = {key: value.contiguous() for key, value in tensors.items()}
    replace_file(Path(path), lambda temporary: save_file(kept, temporary, metadata))


@checked
def load_approximation(path: Path | str) -> Approximation:
    """Read what `save_approximation` wrote.

    Raises
    ------
    InputError
        If the file is missing, damaged or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(str(path), found=f"no readable file ({error})", expected="a safetensors file") from None
    if metadata.get("format") != FORMAT:
        found = f"format {metadata.get('format')!r}"
        raise InputError(str(path), found=found, expected=f"{FORMAT!r}, written by save_approximation")
    try:
        about = json.loads(metadata["about"])
        return _build(about, tensors)
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(str(path), found=f"entries that do not fit ({error!r})", expected=FORMAT) from None


def _pack(prefix: str, gaussian: Gaussian, tensors: dict[str, Tensor]) -> dict[str, Any]:
    tensors |= {
        f"{prefix}mean": gaussian.mean,
        f"{prefix}basis": gaussian.basis,
        f"{prefix}eigenvalues": gaussian.eigenvalues,
    }
    return {"residual": gaussian.residual, "name": gaussian.name, "note": gaussian.note, "units": gaussian.units}


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
    return Gaussian(mean, basis, eigenvalues, **entry)
