"""Prompts are encoded once: what a pipeline's `encode_prompt` gave for the same texts is given again.

    with encoded_once(pipe):
        for rule in rules:
            with guide(pipe, rule):
                pipe(prompts)

Whatever an `encode_prompt` returns is kept as it is, so every pipeline with one is served.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

LARGEST = 2**30  # bytes that are kept; a prompt that comes later is encoded each time


@contextmanager
def encoded_once(pipe: Any, *, largest: int = LARGEST) -> Iterator[None]:
    """Keep what `pipe.encode_prompt` returns, for the length of a with block; a pipeline without one is left alone.

    Calls that are given tensors are passed through. The text encoders must not change inside the block.
    """
    encode = getattr(pipe, "encode_prompt", None)
    if not callable(encode) or "encode_prompt" in vars(pipe):  # inside such a block, or the user's own
        yield
        return
    pipe.encode_prompt = _Kept(encode, largest)
    try:
        yield
    finally:
        del pipe.encode_prompt


class _Kept:
    """Results by arguments."""

    def __init__(self, encode: Callable[..., Any], largest: int) -> None:
        self._encode, self._room = encode, largest
        self._found: dict[Any, Any] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            key = _key((args, sorted(kwargs.items())))
        except TypeError:
            return self._encode(*args, **kwargs)
        if key not in self._found:
            made = self._encode(*args, **kwargs)
            size = _size(made)
            if size > self._room:
                return made
            self._room -= size
            self._found[key] = made
        return _copied(self._found[key])  # a pipeline may write into what it gets


def _key(value: Any) -> Any:
    """A value as something that can be looked up; raises TypeError for what cannot be compared by value."""
    if isinstance(value, list | tuple):
        return (type(value).__name__, *(_key(item) for item in value))
    if value is None or isinstance(value, str | int | float | bool | torch.device | torch.dtype):
        return type(value).__name__, value
    raise TypeError(f"a {type(value).__name__}")


def _size(value: Any) -> int:
    if isinstance(value, list | tuple):
        return sum(_size(item) for item in value)
    return value.nbytes if isinstance(value, Tensor) else 0


def _copied(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_copied(item) for item in value)
    return value.clone() if isinstance(value, Tensor) else value
