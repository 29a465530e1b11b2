"""The denoiser calls since the last scheduler step: those that will feed the next one."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from scorescope.probes.pipelines.labels import LabelTap

_MOST = 256  # calls that one step may need; their outputs are held until then


class Pending:
    """Collects calls, and forgets those whose step will never come.

    A call that raises ends its group. So does a new grid of timesteps, or a new run: whoever starts again after an
    error between two calls makes all of them again.
    """

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.labels = LabelTap(self.calls)
        self.inner: dict[str, list[Tensor]] = {}  # activations of the call that is being made
        self._inside: set[int] = set()
        self._since: Sequence[Any] = ()

    def enter(self, module: nn.Module, since: Sequence[Any]) -> None:
        """A call begins; `since` holds objects that are the same for all calls of a group."""
        moved = len(since) != len(self._since) or any(a is not b for a, b in zip(since, self._since, strict=True))
        if id(module) in self._inside or (self.calls and moved):  # its last call never returned
            self._drop(len(self.calls))
            self._inside.clear()
        self._since = since
        self._inside.add(id(module))
        self.inner.clear()

    def leave(self, module: nn.Module) -> dict[str, list[Tensor]]:
        """A call has returned; its activations."""
        self._inside.discard(id(module))
        sites = {site: list(values) for site, values in self.inner.items()}
        self.inner.clear()
        return sites

    def add(self, call: Any) -> None:
        """Keep a call."""
        self.calls.append(call)
        self._drop(len(self.calls) - _MOST)

    def _drop(self, count: int) -> None:
        """Forget the oldest calls."""
        if count > 0:
            del self.calls[:count]
            self.labels.shift(count)

    def clear(self) -> None:
        """The step came."""
        self.calls.clear()
        self.labels.spans.clear()
