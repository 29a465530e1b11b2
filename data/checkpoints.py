"""Weights in safetensors with a JSON card beside them. No pickle is read or written.

save_denoiser(folder / "digits.safetensors", denoiser, card)
denoiser, card = load_denoiser("digits")            # shipped
denoiser, card = load_denoiser("runs/my.safetensors")
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.unet import EDMDenoiser, UNetConfig

SHIPPED = Path(__file__).parent / "weights"
FORMAT = "scorescope-edm-unet-1"
Card = dict[str, Any]
Network = TypeVar("Network", bound=nn.Module)


@checked
def save_denoiser(path: Path | str, denoiser: EDMDenoiser, card: Card) -> None:
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
    """
    save_network(Path(path), denoiser, card, kind=FORMAT, config=denoiser.config, sigma_data=repr(denoiser.sigma_data))


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
    config: dict[str, Any] = json.loads(metadata["config"])
    sizes: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in config.items()}
    return EDMDenoiser(UNetConfig(**sizes), float(metadata["sigma_data"]))


def read_weights(path: Path, *, device: str | torch.device = "cpu") -> tuple[dict[str, str], dict[str, Tensor], Card]:
    """Metadata, tensors and card of a safetensors file, which must match the hash on its card where there is one.

    Raises
    ------
    InputError
        If the file is missing, damaged, or does not match its card.
    """
    if not path.is_file():
        raise InputError(str(path), found="no such file", expected="a safetensors file")
    card = _read_card(path)
    if card.get("weights_sha256", (digest := sha256(path))) != digest:
        raise InputError(
            str(path),
            found=f"sha256 {digest}",
            expected=f"{card['weights_sha256']}, the hash on its card; the file is damaged",
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        weights = load_file(path, device=str(device))
    except SafetensorError as error:
        raise InputError(str(path), found=f"a damaged file ({error})", expected="a safetensors file") from None
    return metadata, weights, card


def save_network(path: Path, network: nn.Module, card: Card, *, kind: str, config: Any, **more: str) -> None:
    """Write a network's weights to `path` (safetensors, with its size, a dataclass, and `more`), and `card`."""
    metadata = {"format": kind, "config": json.dumps(asdict(config)), **more}
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda temporary: save_file(network.state_dict(), temporary, metadata))
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
    try:
        network = build(metadata)
        network.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(str(path), found=f"weights that do not fit ({error})", expected=kind) from None
    return network.eval().requires_grad_(False).to(device), card


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


def replace_file(path: Path, write: Any) -> None:
    """Let `write(temporary)` fill a file beside `path`, then rename it: `path` is whole or as it was."""
    temporary = path.with_name(path.name + ".tmp")
    write(temporary)
    os.replace(temporary, path)


def _read_card(weights: Path) -> Card:
    path = weights.with_suffix(".json")
    try:
        card = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(str(path), found=f"damaged JSON ({error})", expected="the weights' card") from None
    if not isinstance(card, dict):
        raise InputError(str(path), found=type(card).__name__, expected="the weights' card, a JSON object")
    return card
