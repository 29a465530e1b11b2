"""What a tensor's values follow from, whatever it is stored as: bytes of plain tensors, parts of all others."""

from typing import Any

import torch
from torch import Tensor, nn

_COMPRESSED = {
    torch.sparse_csr: ("crow_indices", "col_indices"), torch.sparse_bsr: ("crow_indices", "col_indices"),
    torch.sparse_csc: ("ccol_indices", "row_indices"), torch.sparse_bsc: ("ccol_indices", "row_indices"),
}  # fmt: skip


def tensor_bytes(tensor: Tensor) -> memoryview:
    """All bytes of a tensor, on the host and in order."""
    here = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return here.flatten().view(torch.uint8).numpy().data


def tensor_parts(tensor: Tensor) -> list[Any] | None:
    """Tensors and plain values that make up a tensor that is more than its bytes; None for a plain one.

    Raises
    ------
    ValueError
        For one that has no values yet.
    """
    if nn.parameter.is_lazy(tensor):
        raise ValueError("a lazy parameter, which has no values before its first call")
    tensor = tensor.detach()
    if hasattr(tensor, "__tensor_flatten__") and not tensor.is_nested:  # a subclass that says what it is made of
        names, context = tensor.__tensor_flatten__()
        return [*(part for name in names for part in (name, getattr(tensor, name))), context]
    if tensor.is_nested:
        return ["nested", *tensor.unbind()]
    if tensor.layout == torch.sparse_coo:
        whole = tensor.coalesce()
        return ["sparse", tuple(whole.shape), whole.indices(), whole.values()]
    if tensor.layout in _COMPRESSED:
        indices = [getattr(tensor, name)() for name in _COMPRESSED[tensor.layout]]
        return [str(tensor.layout), tuple(tensor.shape), *indices, tensor.values()]
    if tensor.layout != torch.strided:
        return [str(tensor.layout), tensor.to_dense()]
    if tensor.is_quantized:
        return [str(tensor.qscheme()), str(tensor.dtype), tensor.int_repr(), *_scales(tensor)]
    return None


def _scales(tensor: Tensor) -> list[Any]:
    if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return [tensor.q_scale(), tensor.q_zero_point()]
    return [
        tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points(), tensor.q_per_channel_axis(),
    ]  # fmt: skip
