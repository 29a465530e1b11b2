"""Self-attention whose map is the identity: every position keeps its own value. What PAG puts in place of a module.

A module says itself what that is (`without_mixing`), or is diffusers' `Attention` with one of its plain processors.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from scorescope.data.errors import InputError

# With these the map only mixes values: softmax(q k) v, then the output layer. Others do more (added tokens, linear
# attention), so that an identity map would not be all that changes.
_PLAIN = (
    "AttnProcessor", "AttnProcessor2_0", "AttnProcessorNPU", "FusedAttnProcessor2_0", "FusedHunyuanAttnProcessor2_0",
    "HunyuanAttnProcessor2_0", "SlicedAttnProcessor", "XFormersAttnProcessor", "XLAFlashAttnProcessor2_0",
)  # fmt: skip


def identity_attention(module: nn.Module) -> Callable[..., Tensor]:
    """A function of what the module's forward takes, to what it would return with an identity attention map.

    Parameters
    ----------
    module : nn.Module
        A module with a method `without_mixing`, or a diffusers `Attention` used as self-attention, with or without
        group norm, spatial norm and residual connection, on (batch, token, channel) or (batch, channel, y, x).

    Raises
    ------
    InputError
        Here, for other modules; when called, for cross-attention.
    """
    own: Callable[..., Tensor] | None = getattr(module, "without_mixing", None)
    if own is not None:
        return own
    if not _is_diffusers_attention(module):
        raise _refused(f"a {type(module).__name__}")
    attention: Any = module
    processor = type(attention.processor).__name__
    if processor not in _PLAIN:
        raise _refused(f"an attention with a {processor}")
    if attention.is_cross_attention or attention.added_kv_proj_dim is not None:
        raise _refused("an attention to other tokens than its own")
    if attention.inner_kv_dim != attention.inner_dim:
        raise _refused("an attention whose heads share their values")

    def values(hidden_states: Tensor, encoder_hidden_states: Any = None, *_: Any, **given: Any) -> Tensor:
        if encoder_hidden_states is not None and encoder_hidden_states is not hidden_states:
            raise _refused("an attention that was called with other tokens than its own")
        return _values(attention, hidden_states, given.get("temb"))

    return values


def _is_diffusers_attention(module: nn.Module) -> bool:
    if not any(base.__module__.startswith("diffusers.") for base in type(module).__mro__):
        return False  # so that diffusers is imported only where it was used to make the module
    from diffusers.models.attention_processor import Attention

    return isinstance(module, Attention)


def _refused(found: str) -> InputError:
    expected = "self-attention: a module with a method without_mixing, or diffusers' Attention with a plain processor"
    return InputError("sites", found=found, expected=expected)


def _values(attention: Any, inputs: Tensor, temb: Any) -> Tensor:
    """The path of diffusers' AttnProcessor2_0 with value in place of softmax(q k) value."""
    hidden = inputs if attention.spatial_norm is None else attention.spatial_norm(inputs, temb)
    shape = hidden.shape
    if hidden.ndim == 4:
        hidden = hidden.flatten(2).transpose(1, 2)
    if attention.group_norm is not None:
        hidden = attention.group_norm(hidden.transpose(1, 2)).transpose(1, 2)
    hidden = attention.to_v(hidden)
    for layer in attention.to_out:  # a linear map and dropout
        hidden = layer(hidden)
    if len(shape) == 4:
        hidden = hidden.transpose(-1, -2).reshape(shape)
    if attention.residual_connection:
        hidden = hidden + inputs
    result: Tensor = hidden / attention.rescale_output_factor
    return result
