"""The names that pipelines themselves give to denoiser calls, where they do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from scorescope.probes.pipelines.taps import MethodTap


class LabelTap:
    """Reads the names that pipelines give to denoiser calls.

    Wraps `module.cache_context` (the name holds for the calls made inside) and a guider's `prepare_inputs`
    (one name for each of the calls that follow).

    Parameters
    ----------
    made : callable
        How many denoiser calls have been made.
    """

    def __init__(self, made: Callable[[], int]) -> None:
        self._made = made
        self._taps: list[MethodTap] = []
        self._spans: list[tuple[int, int, str]] = []
        self.context = ""
        """The cache context that holds for calls made now."""

    def tap_module(self, module: nn.Module) -> None:
        """Follow `cache_context` of one module."""
        if not self._is_tapped(module) and getattr(module, "cache_context", None) is not None:
            self._taps.append(MethodTap(module, "cache_context", self._inside))

    def tap_guider(self, guider: Any) -> None:
        """Follow the branches that a modular pipeline's guider prepares."""
        if not self._is_tapped(guider):
            names = ("prepare_inputs", "prepare_inputs_from_block_state")
            self._taps += [MethodTap(guider, name, self._prepare) for name in names if hasattr(guider, name)]

    def _is_tapped(self, owner: Any) -> bool:
        return any(tap.owner is owner for tap in self._taps)

    @contextmanager
    def _inside(self, method: Callable[..., Any], name: str, *args: Any, **kwargs: Any) -> Iterator[Any]:
        start, before = self._made(), self.context
        with method(name, *args, **kwargs) as value:
            self.context = name
            try:
                yield value
            finally:
                self.context = before
                self._spans.append((start, self._made(), name))  # for calls that are looked at later

    def _prepare(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        batches, start = method(*args, **kwargs), self._made()
        for number, batch in enumerate(batches, start):
            self._spans.append((number, number + 1, str(getattr(batch, "__guidance_identifier__", ""))))
        return batches

    def of(self, number: int) -> str:
        """The label of a call, by how many were made before it."""
        return next((name for start, stop, name in reversed(self._spans) if start <= number < stop), "")

    def forget(self) -> None:
        """The calls made so far have their names."""
        self._spans = []

    def remove(self, owner: Any = None) -> None:
        """Put the methods back: those of one object, or all."""
        for tap in reversed(self._taps):
            if owner is None or tap.owner is owner:
                tap.remove()
        self._taps = [] if owner is None else [tap for tap in self._taps if tap.owner is not owner]
