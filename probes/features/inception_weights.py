"""Weight files of the 2015 Inception network: which there are, what is accepted, and how to make a safe one.

    network = load_inception(Path("pt_inception-2015-12-05-6726825d.pth"))
    convert_inception(Path("pt_inception-2015-12-05-6726825d.pth"), Path("inception-2015.safetensors"))

Nothing is downloaded and nothing is unpickled beyond plain tensors (`weights_only`), after the hash was checked.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from scorescope.data.checkpoints import read_weights, sha256
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import read_state_dict
from scorescope.data.written_files import UNSEALED, write_sealed
from scorescope.probes.features.inception import Inception2015

FORMAT = "scorescope-inception-2015-1"
ENTRIES = 566


@dataclass(frozen=True)
class WeightFile:
    """A public file of the weights, as others distribute it."""

    names: tuple[str, ...]
    sha256: str
    origin: str


STATE_DICT = WeightFile(
    ("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth"),
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    "the release pages of pytorch-fid and torch-fidelity",
)
TORCHSCRIPT = WeightFile(
    ("inception-2015-12-05.pt",),
    "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    "NVIDIA's StyleGAN downloads",
)


def load_inception(path: Path | None, *, expected_sha256: str | None = STATE_DICT.sha256) -> Inception2015:
    """The network with weights from a file, in evaluation mode, without gradients.

    Parameters
    ----------
    path : Path or None
        The state dict (.pth), or what `convert_inception` made of it (.safetensors). None raises the error that says
        where to find one.
    expected_sha256 : str, optional
        Hash of the state dict, which a converted file names; None accepts any file whose keys and sizes fit, for
        weights of your own.

    Raises
    ------
    InputError
        If the file is missing, has another hash, is of another kind, or its keys or sizes do not fit.
    """
    if path is None or not path.is_file():
        raise InputError("inception weights", found="none" if path is None else f"no file {path}", expected=_how())
    read = _read_safetensors if path.suffix == ".safetensors" else _read_state_dict
    weights = read(path, expected_sha256)
    _check_entries(path, weights)
    network = Inception2015()
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


@checked
def convert_inception(
    source: Path | str, target: Path | str, *, expected_sha256: str | None = STATE_DICT.sha256
) -> str:
    """Write the state dict as safetensors with the same 566 keys, and return the new file's sha256.

    The hash of the source travels in the metadata.

    Parameters
    ----------
    source, target : Path or str
        The state dict (.pth) and the new file.
    expected_sha256 : str, optional
        As in `load_inception`.
    """
    source, target = Path(source), Path(target)
    network = load_inception(source, expected_sha256=expected_sha256)
    metadata = {"format": FORMAT, "source_sha256": sha256(source), "source": json.dumps(source.name), "seal": UNSEALED}
    target.parent.mkdir(parents=True, exist_ok=True)
    write_sealed(target, lambda temporary: save_file(network.state_dict(), temporary, metadata))
    return sha256(target)


def load_torchscript(path: Path, *, expected_sha256: str | None = TORCHSCRIPT.sha256) -> nn.Module:
    """NVIDIA's TorchScript network, for comparison only: `network(uint8_images, return_features=True)`.

    Raises
    ------
    InputError
        If the file is missing, has another hash, or is no TorchScript.
    """
    if not path.is_file():
        expected = f"{TORCHSCRIPT.names[0]} from {TORCHSCRIPT.origin}, sha256 {TORCHSCRIPT.sha256}"
        raise InputError("TorchScript network", found=f"no file {path}", expected=expected)
    _check_hash(path, expected_sha256)
    try:
        network: nn.Module = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError) as error:
        found = f"no TorchScript ({str(error).splitlines()[0]})"
        raise InputError(str(path), found=found, expected=f"{TORCHSCRIPT.names[0]}") from None
    return network.eval()


def _how() -> str:
    names = " or ".join(STATE_DICT.names)
    file = f"{names} (sha256 {STATE_DICT.sha256}), from {STATE_DICT.origin}, given as --inception FILE"
    return file + "; or --features efficientnet_lite0, which needs no file"


def _read_state_dict(path: Path, expected_sha256: str | None) -> dict[str, Tensor]:
    if path.suffix == ".pkl" or sha256(path) == TORCHSCRIPT.sha256:
        raise InputError(str(path), found="a file that brings its own code", expected=_how())
    _check_hash(path, expected_sha256)
    return read_state_dict(path, expected=_how())


def _read_safetensors(path: Path, expected: str | None) -> dict[str, Tensor]:
    metadata, weights, _ = read_weights(path)
    if metadata.get("format") != FORMAT:
        found = f"format {metadata.get('format')!r}"
        raise InputError(str(path), found=found, expected=f"{FORMAT!r}, written by `scorescope weights convert`")
    if expected is not None and metadata.get("source_sha256") != expected:
        found = f"made from a file with sha256 {metadata.get('source_sha256')}"
        raise InputError(str(path), found=found, expected=f"one made from {STATE_DICT.names[0]}, sha256 {expected}")
    return weights


def _check_hash(path: Path, expected: str | None) -> None:
    if expected is not None and (found := sha256(path)) != expected:
        advice = f"sha256 {expected}; a cut-off download or another file"
        raise InputError(str(path), found=f"sha256 {found}", expected=advice)


@cache
def _entries() -> dict[str, torch.Size]:
    return {name: value.shape for name, value in Inception2015().state_dict().items()}


def _check_entries(path: Path, weights: dict[str, Tensor]) -> None:
    wanted = _entries()
    missing, extra = sorted(set(wanted) - set(weights)), sorted(set(weights) - set(wanted))
    if missing or extra:
        found = f"{len(weights)} entries, missing {_some(missing)}, unknown {_some(extra)}"
        hint = " (torchvision's network has other blocks and weights: its distances are no FID)"
        raise InputError(str(path), found=found, expected=f"the {ENTRIES} entries of the 2015 network" + hint)
    for key, shape in wanted.items():
        if weights[key].shape != shape:
            found = f"{key} of shape {tuple(weights[key].shape)}"
            raise InputError(str(path), found=found, expected=f"shape {tuple(shape)}")


def _some(names: Sequence[str]) -> str:
    return "none" if not names else ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
