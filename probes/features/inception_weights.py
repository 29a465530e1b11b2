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

import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from scorescope.data.checkpoints import SHIPPED, read_weights, sha256
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import read_text
from scorescope.data.written_files import UNSEALED, write_sealed
from scorescope.probes.features.inception import Inception2015

FORMAT = "scorescope-inception-2015-1"
ENTRIES = 566
OUTPUTS = 1008
CLASS_TABLE = SHIPPED.parent / "inception_classes.tsv"


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


@checked
def load_class_names(path: Path | str | None = None) -> list[str]:
    """Names of the 1008 classes in the 2015 network's own order.

    The order is not torchvision's, and no class but the unused ones is at the place that it has there: 0 and 1001 to
    1007 are unused, 1 is the kit fox and 1000 the dumbbell.

    Parameters
    ----------
    path : Path or str, optional
        A text file with one name a line; by default the shipped table, whose sources its first lines name. There a
        class has its first lemma, or all of them and the WordNet id where the first is not unique.

    Raises
    ------
    InputError
        For another number of lines, or names in torchvision's order, which would label every class wrongly.
    """
    if path is None:
        return _shipped_names()
    path = Path(path)
    if not path.is_file():
        raise InputError("class names", found=f"no file {path}", expected="a text file with 1008 lines")
    text = read_text(path, expected="a text file with 1008 lines", limit=2**20)
    names = [line.strip() for line in text.splitlines()]
    if len(names) != OUTPUTS:
        expected = f"{OUTPUTS}, in the 2015 network's own order; lists of 1000 are in torchvision's"
        raise InputError(str(path), found=f"{len(names)} lines", expected=expected)
    anchors: dict[int, str] = {1: "kit fox", 2: "english setter", 3: "siberian husky", 1000: "dumbbell"}
    for index, name in anchors.items():
        if name not in names[index].lower():
            raise InputError(str(path), found=f"{names[index]!r} on line {index + 1}", expected=f"{name!r} there")
    return names


def class_table_of_2015() -> pd.DataFrame:
    """The shipped table of the 1000 classes in use: columns `index` (1 to 1000), `wnid` and `lemmas`."""
    return pd.read_csv(CLASS_TABLE, sep="\t", comment="#", dtype={"index": int})


def _shipped_names() -> list[str]:
    table = class_table_of_2015()
    names = [f"unused {index}" for index in range(OUTPUTS)]
    first = table["lemmas"].str.split(",").str[0]
    shared = set(first[first.duplicated(keep=False)])
    same = set(table["lemmas"][table["lemmas"].duplicated(keep=False)])
    for index, wnid, lemmas, short in zip(table["index"], table["wnid"], table["lemmas"], first, strict=True):
        names[index] = f"{lemmas} ({wnid})" if lemmas in same else lemmas if short in shared else short
    return names


def _how() -> str:
    names = " or ".join(STATE_DICT.names)
    return f"{names} (sha256 {STATE_DICT.sha256}), from {STATE_DICT.origin}, given as --inception FILE"


def _read_state_dict(path: Path, expected_sha256: str | None) -> dict[str, Tensor]:
    if path.suffix == ".pkl" or sha256(path) == TORCHSCRIPT.sha256:
        raise InputError(str(path), found="a file that brings its own code", expected=_how())
    _check_hash(path, expected_sha256)
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the reader trips over, it is no state dict
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(str(path), found=f"no plain state dict ({reason})", expected=_how()) from None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(str(path), found=f"a {type(weights).__name__}", expected="a state dict of tensors")
    return weights


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
