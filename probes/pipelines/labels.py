"""The names that pipelines themselves give to denoiser calls, where they do."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from scorescope.probes.pipelines.taps import remove_instance_attribute


class LabelTap:
    """Reads the names that pipelines give to denoiser calls, where they do.

    Wraps `module.cache_context` (the name holds for the calls made inside) and a guider's `prepare_inputs`
    (one name for each of the calls that follow).
    """

    def __init__(self, calls: list[Any]) -> None:
        self._calls = calls  # every denoiser call since the last group; only its length is read
        self._undo: list[Callable[[], None]] = []
        self.spans: list[tuple[int, int, str]] = []
        self.current = ""  # the name that holds for calls made now
        self._shifted = 0

    def tap_module(self, module: torch.nn.Module) -> None:
        """Follow `cache_context` of one module."""
        inner = getattr(module, "cache_context", None)
        if inner is None:
            return

        @contextmanager
        def cache_context(name: str, *args: Any, **kwargs: Any) -> Iterator[Any]:
            start, before = self._shifted + len(self._calls), self.current
            with inner(name, *args, **kwargs) as value:
                self.current = name
                try:
                    yield value
                finally:
                    self.current = before
                    self.spans.append((max(0, start - self._shifted), len(self._calls), name))

        self._replace(module, "cache_context", cache_context)

    def tap_guider(self, guider: Any) -> None:
        """Follow the branches that a modular pipeline's guider prepares."""
        for name in ("prepare_inputs", "prepare_inputs_from_block_state"):
            inner = getattr(guider, name, None)
            if inner is not None:
                self._replace(guider, name, self._prepared(inner))

    def _prepared(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(inner)
        def prepare(*args: Any, **kwargs: Any) -> Any:
            batches = inner(*args, **kwargs)
            for place, batch in enumerate(batches):
                name = str(getattr(batch, "__guidance_identifier__", ""))
                self.spans.append((len(self._calls) + place, len(self._calls) + place + 1, name))
            return batches

        return prepare

    def _replace(self, owner: Any, name: str, value: Callable[..., Any]) -> None:
        before = owner.__dict__.get(name)
        owner.__dict__[name] = value
        self._undo.append(lambda: remove_instance_attribute(owner, name, value, before))

    def of(self, place: int) -> str:
        """The label of the call at this place."""
        return next((name for start, stop, name in reversed(self.spans) if start <= place < stop), "")

    def shift(self, count: int) -> None:
        """The oldest calls have been dropped from the list."""
        self._shifted += count
        self.spans[:] = [(start - count, stop - count, name) for start, stop, name in self.spans if stop > count]

    def remove(self) -> None:
        """Put the methods back."""
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()
