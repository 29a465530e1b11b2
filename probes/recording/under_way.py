"""What is under way in a recorded pipeline: calls that did not return, by which thread, in which process.

A run in which a call was left over did not come to its end, whoever caught the error. Calls of two threads at once are
of no one run, and those of a forked child are not its parent's.
"""

import os
import sys
import threading
import warnings
from types import FrameType

from torch import nn

from scorescope.data.errors import InputError


class Unreturned:
    """Calls that were begun and did not return, in the run that goes on; for runs that no spec tells apart.

    A call after a run's last step belongs to the run that comes, if there is one; and a run that went on after an
    error, to another step, is not cut off by it.
    """

    def __init__(self) -> None:
        self._open = 0
        self._left = 0  # of the run that was, while calls of another one are made
        self._between = False

    def begin(self, *, goes_on: bool) -> None:
        """A call of a denoiser begins, in the run of the latest step or not."""
        if not goes_on:
            self._left, self._open = (self._left if self._between else self._open), 0
            self._between = True
        self._open += 1

    def end(self) -> None:
        """It has returned."""
        self._open -= 1

    def step(self, *, begins: bool, cut_off: bool) -> None:
        """A scheduler steps: the first time in another run, or not; `cut_off` if the run before it was."""
        if begins and not self._between:
            self._left, self._between = self._open, True
        if begins:
            self._left += cut_off
        self._open += 1

    def stepped(self) -> None:
        """It has returned, so that the run goes on."""
        self._open, self._left, self._between = 0, 0, False

    def are_left(self) -> bool:
        """Whether any are left over of the run that ends."""
        return (self._left if self._between else self._open) > 0


class OneThread:
    """Refuses a call of a denoiser while one of another thread is under way."""

    def __init__(self) -> None:
        self._open: dict[int, nn.Module] = {}

    def begin(self, module: nn.Module) -> None:
        """A call begins.

        Raises
        ------
        InputError
            Where another thread is inside one.
        """
        here = threading.get_ident()
        others = [thread for thread in self._open if thread != here]
        if any(_is_inside(thread, self._open[thread]) for thread in others):
            found = "a denoiser call while one of another thread is under way"
            raise InputError("pipe", found=found, expected="one thread at a time, or a copy of the pipeline in each")
        self._open = {here: module}

    def end(self) -> None:
        """It has returned."""
        self._open.pop(threading.get_ident(), None)


def _is_inside(thread: int, module: nn.Module) -> bool:
    """Whether a thread is really in a call: one that raised has left it without a word."""
    frame: FrameType | None = sys._current_frames().get(thread)
    while frame is not None:
        if frame.f_code is nn.Module._call_impl.__code__ and frame.f_locals.get("self") is module:
            return True
        frame = frame.f_back
    return False


class OneProcess:
    """Tells a forked child from the process that records, and says once what becomes of its steps."""

    def __init__(self) -> None:
        self._process, self._told = os.getpid(), False

    def is_other(self) -> bool:
        """Whether we are in a forked child."""
        if os.getpid() == self._process:
            return False
        if not self._told:
            self._told = True
            text = "this process was forked from one that records: what it samples is not recorded"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
        return True
