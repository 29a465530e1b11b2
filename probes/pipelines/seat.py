"""One listener at an engine: its denoisers, and the calls of them that wait for a step."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from scorescope.data.errors import InputError
from scorescope.probes.pipelines.call import Call
from scorescope.probes.pipelines.listener import Listener

_MOST = 256  # calls that one step may need; their outputs are held until then


def check_left(seat: "Seat | None") -> None:
    """Raise `InputError` where a listener has a seat already: its block is entered a second time."""
    if seat is not None:
        raise InputError("with", found="a block that is entered already", expected="one `with` at a time, or another")


class Seat:
    """Groups the calls of a listener's denoisers with the steps that they feed, and forgets those whose step will
    never come.

    Parameters
    ----------
    listener : Listener
        Who is told.
    denoisers : mapping of str to Module
        What it listens to, by the names that it uses.
    """

    def __init__(self, listener: Listener, denoisers: Mapping[str, nn.Module]) -> None:
        self.listener, self.denoisers = listener, dict(denoisers)
        self._names = {id(module): name for name, module in denoisers.items()}
        self._open: dict[int, Call] = {}
        self._waiting: list[Call] = []
        self._group: list[Call] = []
        self._place = -1
        self._epoch: Any = listener.epoch

    def __len__(self) -> int:
        """How many calls wait for their step."""
        return len(self._waiting)

    def name_of(self, module: nn.Module) -> str | None:
        """What the listener calls a module; None for one that it does not listen to."""
        return self._names.get(id(module))

    def begin(self, module: nn.Module, call: Call) -> None:
        """A call begins."""
        if self.listener.epoch is not self._epoch:
            self.drop()
            self._epoch = self.listener.epoch
        call.place = len(self._waiting)
        self._open[id(module)] = call

    def end(self, module: nn.Module) -> Call | None:
        """The call of this module that began, and has returned."""
        call = self._open.pop(id(module), None)
        if call is not None and not call.repeated:
            self._waiting = [*self._waiting, call][-_MOST:]
        return call

    def drop(self, *, all_calls: bool = False) -> None:
        """Whoever starts again after an error between two calls makes all of them again.

        With `all_calls` those that have fed a step are let go too: none will come in this call of the pipeline.
        """
        self._waiting, self._open = [], {}
        if all_calls:
            self._group = []

    def take(self) -> tuple[list[Call], int]:
        """The calls that feed the step that comes, and how many steps they have fed before."""
        if self._waiting:
            self._group, self._waiting, self._place = self._waiting, [], 0
            for place, call in enumerate(self._group):
                call.place = place
        else:
            self._place += 1
        return self._group, self._place
