"""Sparse autoencoders from elsewhere, read without running any code of theirs.

    load_sparse("unbox/unet.up_blocks.0.attentions.1")      # sdxl-unbox: config.json and state_dict.pth
    load_sparse("saeuron/unet.up_blocks.1.attentions.1")    # SAeUron: cfg.json and sae.safetensors
    load_sparse("middle1.safetensors")                      # ours

Layouts: sdxl-unbox (Surkov et al. 2024, arXiv 2410.22366), topk(E (x - p) + b), D codes + p; SAeUron (Cywinski & Deja
2025, arXiv 2501.18052), topk(relu(E (x - c) + b)), codes V + c. Both are this wing's formula with a scale of 1.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import check_file, only_input_errors, parse_json, read_bytes, read_tensors
from scorescope.probes.sparse.autoencoder import SparseAutoencoder, made_of

_UNBOX = {
    "encoder.weight": "encoder", "latent_bias": "encoder_bias", "decoder.weight": "decoder", "pre_bias": "centre",
}  # fmt: skip
_SAEURON = {"encoder.weight": "encoder", "encoder.bias": "encoder_bias", "W_dec": "decoder", "b_dec": "centre"}
_EXPECTED = (
    "a folder of sdxl-unbox (config.json, state_dict.pth) or SAeUron (cfg.json, sae.safetensors), or our own file"
)


@checked
def load_sparse(path: str | Path) -> SparseAutoencoder:
    """Read a sparse autoencoder of ours, of sdxl-unbox or of SAeUron.

    Parameters
    ----------
    path : str or Path
        Our file; or a folder of theirs, whose tensors may be in a safetensors file or in one of `torch.save`, of which
        nothing but tensors is read (`weights_only`).

    Returns
    -------
    SparseAutoencoder
        Of "topk". One that was trained with the k n largest of n rows (`card["trained_as"]`, "batchtopk") takes the k
        largest of each row here: their files hold no threshold, and theirs depends on the other rows of a batch.

    Raises
    ------
    InputError
        For what is none of these, a sparsity that is not known here, and tensors that are missing or do not fit.
    """
    path = Path(path)
    if path.is_file():
        return SparseAutoencoder.load(path)
    for config, names in (("config.json", _UNBOX), ("cfg.json", _SAEURON)):
        if (path / config).is_file():
            return _read(path, config, names)
    raise InputError(str(path), found="neither", expected=_EXPECTED)


def _read(path: Path, config: str, names: Mapping[str, str]) -> SparseAutoencoder:
    about = parse_json(read_bytes(path / config, expected=_EXPECTED), source=path / config, expected=_EXPECTED)
    tensors = _tensors(path)
    if not isinstance(about, dict) or not isinstance(about.get("k"), int) or not set(names) <= set(tensors):
        found = f"k = {about.get('k') if isinstance(about, dict) else None}, tensors {sorted(tensors)[:6]}"
        raise InputError(str(path), found=found, expected=f"a whole number k, and tensors {sorted(names)}")
    for unknown in ("sample_topk", "input_unit_norm"):
        if about.get(unknown):
            raise InputError(str(path / config), found=unknown, expected="top k of each row or batch, plain inputs")
    with only_input_errors(path, expected=_EXPECTED):
        weights = {ours: tensors[theirs].float() for theirs, ours in names.items()}
        if names is _UNBOX:
            weights["decoder"] = weights["decoder"].T.contiguous()
        found_here = made_of(weights, k=about["k"], kind="topk")
    found_here.card = {"source": path.name, "asked": {"k": about["k"]}, "trained_as": _kind(about)}
    return found_here


def _kind(about: Mapping[str, Any]) -> str:
    return "batchtopk" if about.get("batch_topk") else "topk"


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a folder, by their names."""
    for name in ("sae.safetensors", "state_dict.safetensors", "model.safetensors"):
        if (path / name).is_file():
            return read_tensors(path / name, expected=_EXPECTED)[1]
    file = path / "state_dict.pth"
    check_file(file, expected=_EXPECTED)
    with only_input_errors(file, expected=_EXPECTED, found="no plain state dict"):
        found = torch.load(file, map_location="cpu", weights_only=True)
        state = found.get("state_dict", found)
        return {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
