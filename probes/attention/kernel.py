"""What an attention module hands to torch's fused attention: queries, keys and mask, seen and left as they are.

    watched = WatchedAttention(pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn2)
    pipe("a lighthouse")
    watched.take().only("attn2").probabilities(head=0, queries=slice(None))      # (row, query, key)
    watched.remove()

The kernel stays in place: the module computes what it would have computed. What is seen has passed every norm, every
rotary embedding and every concatenation, whatever the family of the module does of these.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.probes.pipelines.taps import MethodTap

_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


@displayed
@dataclass(frozen=True, eq=False)
class SeenAttention:
    """One call of `scaled_dot_product_attention`.

    Attributes
    ----------
    query, key : Tensor, shape (row, head, token, width)
        As the kernel was given them; fewer heads of keys where several heads of queries share them.
    mask : Tensor or None
        Broadcast to (row, head, query, key): bool, True where a query may look, or numbers added to the logits.
    causal : bool
        A query sees no key behind its own place.
    scale : float
        Of the logits.
    """

    query: Tensor
    key: Tensor
    mask: Tensor | None
    causal: bool
    scale: float

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> "SeenAttention":
        """The call that was made with these arguments."""
        given = dict(zip(_ARGUMENTS, args, strict=False)) | dict(kwargs)
        query, key, scale = given["query"], given["key"], given.get("scale")
        scale = query.shape[-1] ** -0.5 if scale is None else float(scale)
        return cls(query.detach(), key.detach(), given.get("attn_mask"), bool(given.get("is_causal")), scale)

    @property
    def queries(self) -> int:
        """Tokens that ask."""
        return self.query.shape[2]

    @property
    def keys(self) -> int:
        """Tokens that are asked."""
        return self.key.shape[2]

    def probabilities(self, *, head: int, queries: slice) -> Tensor:
        """softmax(Q K^T scale + mask) of one head and some queries, over all keys: shape (row, query, key).

        In float32, or in the dtype of the queries where that is wider; every (row, query) sums to 1.
        """
        dtype = torch.promote_types(self.query.dtype, torch.float32)
        query = self.query[:, head, queries].to(dtype)
        key = self.key[:, head * self.key.shape[1] // self.query.shape[1]].to(dtype)
        logits = query @ key.mT * self.scale
        if self.mask is not None:
            whole = self.mask.expand(*self.query.shape[:3], self.keys)[:, head, queries]
            logits = logits.masked_fill(~whole, -torch.inf) if whole.dtype == torch.bool else logits + whole.to(dtype)
        if self.causal:
            seen = torch.ones(self.queries, self.keys, dtype=torch.bool, device=logits.device).tril()[queries]
            logits = logits.masked_fill(~seen, -torch.inf)
        return logits.softmax(-1)


@displayed
@dataclass
class Watch:
    """What the latest call of an attention module did.

    Attributes
    ----------
    calls : list of SeenAttention
        Of the fused attention; one, as a rule.
    joined : set of (int, ...)
        Lengths of the tensors that it has put one after another, by which text and image are told apart.
    """

    calls: list[SeenAttention] = field(default_factory=list)
    joined: set[tuple[int, ...]] = field(default_factory=set)

    def only(self, site: str) -> SeenAttention:
        """The one call; `InputError` for a module that makes none, or several, or one of other axes."""
        if len(self.calls) != 1 or self.calls[0].query.ndim != 4:
            found = f"{len(self.calls)} calls of torch's scaled_dot_product_attention in {site!r}"
            expected = "one a call, of (row, head, token, width): the default attention, without slicing or adapters"
            raise InputError("pipe", found=found, expected=expected)
        return self.calls[0]


class WatchedAttention:
    """A stand-in for the forward of an attention module, until `remove`: it computes the same, and is watched.

    Parameters
    ----------
    module : nn.Module
        The attention module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._latest = Watch()
        self._tap = MethodTap(module, "forward", self._forward)

    def _forward(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._latest = Watch()
        with _Watching(self._latest):
            return forward(*args, **kwargs)

    def take(self) -> Watch:
        """What the latest call did, which is let go of here."""
        latest, self._latest = self._latest, Watch()
        return latest

    def remove(self) -> None:
        """Put the module's own forward back."""
        self._tap.remove()


class _Watching(TorchFunctionMode):
    """Notes calls of the fused attention, and joins."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            self._watch.calls.append(SeenAttention.of(args, kwargs))
        elif func is torch.cat:
            self._watch.joined.add(_lengths(*args, **kwargs))
        return func(*args, **kwargs)


def _lengths(tensors: Any, dim: int = 0, **_: Any) -> tuple[int, ...]:
    return tuple(tensor.shape[dim] for tensor in tensors)


def is_attention(module: nn.Module) -> bool:
    """Whether a module projects queries and keys, as attention modules of diffusers do."""
    inner = dict(module.named_children())
    return ("to_q" in inner and "to_k" in inner) or "to_qkv" in inner


def text_given(module: nn.Module, args: Any, kwargs: Any) -> Tensor | None:
    """The text tokens that an attention module was given beside its own, (row, token, width); None where none."""
    try:
        bound = inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments
    except (TypeError, ValueError):
        return None
    text = bound.get("encoder_hidden_states")
    text = text[0] if isinstance(text, tuple | list) and text else text  # with the image of an adapter behind it
    return text if isinstance(text, Tensor) and text is not bound.get("hidden_states") else None
