"""Weights in safetensors with a JSON card beside them. No pickle is read or written.

save_denoiser(folder / "digits.safetensors", denoiser, card)
denoiser, card = load_denoiser("digits")            # shipped
denoiser, card = load_denoiser("runs/my.safetensors")
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.unet import EDMDenoiser, UNetConfig
from scorescope.data.untrusted import check_file, only_input_errors, parse_json, read_tensors, read_text
from scorescope.data.written_files import UNSEALED, check_seal, replace_file, warn_unsealed, write_sealed

SHIPPED = Path(__file__).parent / "weights"
FORMAT = "scorescope-edm-unet-1"
CARD_BYTES = 16 * 2**20
Card = dict[str, Any]
Network = TypeVar("Network", bound=nn.Module)


@checked
def save_denoiser(
    path: Path | str, denoiser: EDMDenoiser, card: Card, *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write weights to `path` (safetensors) and `card` to the same name with `.json`.

    The network's size and sigma_data travel in the weights file, so it can be loaded without its card.

    Parameters
    ----------
    path : Path or str
        Of the weights.
    denoiser : EDMDenoiser
        The model.
    card : dict
        What is told of it; the hash of the weights is added.
    metadata : mapping of str to str, optional
        More for the metadata of the weights file itself, such as the `training_step` and `sigma_rel` of a snapshot.
    """
    more = {**(metadata or {}), "sigma_data": repr(denoiser.sigma_data)}
    save_network(Path(path), denoiser, card, kind=FORMAT, config=denoiser.config, **more)


@checked
def load_denoiser(name: str | Path, *, device: str | torch.device = "cpu") -> tuple[EDMDenoiser, Card]:
    """Load a denoiser in evaluation mode, with its card.

    Parameters
    ----------
    name : str or Path
        "digits" or "digits_weak" for the shipped ones, or a path to a safetensors file that
        `save_denoiser` wrote.
    device : str or torch.device
        Where the weights go.

    Returns
    -------
    EDMDenoiser
        Without gradients, in evaluation mode.
    dict
        The card, empty where there is none beside the weights.

    Raises
    ------
    InputError
        If the file is missing, damaged, of another kind, or does not match the hash on its card.
    """
    return load_network(name, _build, folder=SHIPPED, kind=FORMAT, device=device)


def _build(metadata: dict[str, str]) -> EDMDenoiser:
    config: dict[str, Any] = parse_json(metadata["config"], source="config", expected="the network's size")
    sizes: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in config.items()}
    sigma_data = float(metadata["sigma_data"])
    if not 0 < sigma_data < math.inf:
        raise ValueError(f"sigma_data {sigma_data}")
    return EDMDenoiser(UNetConfig(**sizes), sigma_data)


def read_weights(path: Path, *, device: str | torch.device = "cpu") -> tuple[dict[str, str], dict[str, Tensor], Card]:
    """Metadata, tensors and card of a safetensors file, which must match its own hash and that on its card.

    A file with neither is read as well, with a warning where it is one of ours.

    Raises
    ------
    InputError
        If the file is missing, damaged, or does not match its card.
    """
    check_file(path, expected="a safetensors file")
    card = _read_card(path)
    if card.get("weights_sha256", (digest := sha256(path))) != digest:
        raise InputError(
            str(path),
            found=f"sha256 {digest}",
            expected=f"{card['weights_sha256']}, the hash on its card; the file is damaged",
        )
    sealed = check_seal(path) or "weights_sha256" in card
    metadata, weights = read_tensors(path, expected="a safetensors file", device=device)
    if not sealed and metadata.get("format", "").startswith("scorescope"):
        warn_unsealed(path)
    return metadata, weights, card


def save_network(path: Path, network: nn.Module, card: Card, *, kind: str, config: Any, **more: str) -> None:
    """Write a network's weights to `path` (safetensors, with its size, a dataclass, and `more`), and `card`."""
    metadata = {"format": kind, "config": json.dumps(asdict(config)), **more, "seal": UNSEALED}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sealed(path, lambda temporary: save_file(network.state_dict(), temporary, metadata))
    write_card(path.with_suffix(".json"), {**card, "weights_sha256": sha256(path)})


def load_network(
    name: str | Path,
    build: Callable[[dict[str, str]], Network],
    *,
    folder: Path,
    kind: str,
    device: str | torch.device = "cpu",
) -> tuple[Network, Card]:
    """Read what `save_network` wrote: a shipped network of `folder` by name, or a file.

    Parameters
    ----------
    name : str or Path
        Name of a file in `folder` without suffix, or a path.
    build : callable
        What the file says of itself, with the size as JSON in `config`, to an untrained network.
    folder : Path
        Where the shipped ones are.
    kind : str
        The format that the file has to name.
    device : str or torch.device
        Where the weights go.

    Returns
    -------
    Module
        Without gradients, in evaluation mode.
    dict
        Its card.

    Raises
    ------
    InputError
        If the file is missing, damaged, of another kind, or does not match the hash on its card.
    """
    shipped = shipped_names(folder)
    path = folder / f"{name}.safetensors" if str(name) in shipped else Path(name)
    if not path.is_file():
        raise InputError("name", found=repr(str(name)), expected=f"a safetensors file or one of {shipped}")
    metadata, weights, card = read_weights(path, device=device)
    if metadata.get("format") != kind:
        raise InputError(str(path), found=f"format {metadata.get('format')!r}", expected=repr(kind))
    with only_input_errors(path, expected=kind, found="weights that do not fit"):
        with _only_parameters_like(weights):
            network = build(metadata)
        network.load_state_dict(weights)
    return network.eval().requires_grad_(False).to(device), card


@contextmanager
def _only_parameters_like(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Let a network be built of no more parameters than the file has tensors, each of the shape of one.

    A parameter is looked at before it is filled, so that sizes that do not fit take neither memory nor time.
    """
    left, shapes = len(weights), {tensor.shape for tensor in weights.values()}

    def check(_module: nn.Module, name: str, parameter: Tensor | None) -> None:
        nonlocal left
        left -= parameter is not None
        if left < 0:
            raise ValueError(f"{name}: more parameters than the {len(weights)} tensors of the file")
        if parameter is not None and parameter.shape not in shapes:
            raise ValueError(f"{name}: shape {tuple(parameter.shape)}, which no tensor of the file has")

    hook = register_module_parameter_registration_hook(check)
    try:
        yield
    finally:
        hook.remove()


@checked
def shipped_denoisers() -> list[str]:
    """Names that `load_denoiser` knows without a path."""
    return shipped_names(SHIPPED)


def shipped_names(folder: Path) -> list[str]:
    """Weight files of a folder, without suffix."""
    return sorted(path.stem for path in folder.glob("*.safetensors"))


@checked
def load_snapshots() -> dict[int, EDMDenoiser]:
    """Three shipped snapshots of one short training run, by training step, in evaluation mode.

    Made by `python -m scorescope.data.train digits_small --snapshots 100 400 2000`.
    """
    snapshots = {}
    for path in sorted((SHIPPED / "snapshots").glob("*.safetensors")):
        denoiser, card = load_denoiser(path)
        snapshots[int(card["training_step"])] = denoiser
    return snapshots


def sha256(path: Path) -> str:
    """Hash of a file, as hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_card(path: Path, card: Card) -> None:
    """Write a card as readable JSON, atomically."""
    text = json.dumps(card, indent=1) + "\n"
    replace_file(path, lambda temporary: temporary.write_text(text))


def _read_card(weights: Path) -> Card:
    path = weights.with_suffix(".json")
    if not path.exists():
        return {}
    text = read_text(path, expected="the weights' card", limit=CARD_BYTES)
    card = parse_json(text, source=path, expected="the weights' card")
    if not isinstance(card, dict):
        raise InputError(str(path), found=type(card).__name__, expected="the weights' card, a JSON object")
    return card
