"""Where a run of a pipeline begins, and where its schedulers are in it."""

import dis
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from scorescope.data.display import displayed

LAST_METHOD = "maybe_free_model_hooks"  # what diffusers' pipelines call when they are done


def _is_same(grid: Any, seen: Any) -> bool:
    return grid is seen or (isinstance(grid, Tensor) and isinstance(seen, Tensor) and torch.equal(grid, seen))


@displayed
@dataclass
class Stream:
    """One scheduler in one run."""

    owner: Any
    number: int
    step: int = -1
    call: int = 0

    def count(self) -> None:
        """The next (step, call); Heun and kin make several calls in the same step."""
        self.step, self.call = self.ahead()

    def ahead(self) -> tuple[int, int]:
        """The (step, call) that comes."""
        later = _is_later_stage(self.owner) and self.step >= 0
        return (self.step, self.call + 1) if later else (self.step + 1, 0)


def _is_later_stage(scheduler: Any) -> bool:
    """Whether the `step` that comes goes on with the one before it, from the same state."""
    if (prk := getattr(scheduler, "prk_timesteps", None)) is not None:  # PNDM: Runge-Kutta, or a first step made again
        counter = int(scheduler.counter)
        return counter % 4 > 0 if counter < len(prk) else counter == 1
    return not getattr(scheduler, "state_in_first_order", True)


class RunWatch:
    """Tells the runs of one pipeline apart.

    One call of the pipeline is one run, also where its loop goes back up. It is recognised by its frame on the call
    stack. A loop that the user writes has none: there a run begins with a new grid of timesteps on a scheduler that
    has stepped, and with a scheduler that was put in the place of one that has.

    Parameters
    ----------
    pipe : object
        The pipeline.
    """

    def __init__(self, pipe: Any) -> None:
        code = getattr(inspect.unwrap(type(pipe).__call__), "__code__", None) if callable(pipe) else None
        self._code = code if getattr(code, "co_name", "") == "__call__" else None  # not that of a bare decorator
        self._pipe = pipe
        self._frame: FrameType | None = None
        self._ended = False
        self.cut_before = False  # the run before the latest step's, where that began one, was cut off
        self._grids: dict[int, tuple[Any, Any]] = {}

    def begins(self, root: Any, timestep: Any, replaced: Any = None) -> tuple[bool, bool]:
        """Whether this step is the first one of another run than the step before it, and whether a schedule starts.

        Parameters
        ----------
        root : object
            The scheduler that steps, or the one that it was copied from.
        timestep : float, int or Tensor
            What the step was given.
        replaced : object, optional
            The scheduler whose place in the pipeline `root` has taken.
        """
        grid, frame = getattr(root, "timesteps", None), self._calling()
        _, seen = self._grids.get(id(root), (root, grid))
        starts = seen is not grid and _starts(root, seen, grid, timestep)
        starts = starts or (id(root) not in self._grids and id(replaced) in self._grids)
        begins = starts
        if self._ended or frame is not None or self._frame is not None:
            begins = bool(self._grids) and (self._ended or frame is not self._frame)
        self.cut_before = begins and self.is_cut_off()
        if begins:
            self._grids = {}
        self._frame, self._ended = frame, False
        self._grids[id(root)] = root, grid
        return begins, begins or starts

    def goes_on(self, *, same: Callable[[Any, Any], bool] = _is_same) -> bool:
        """Whether the run of the latest step has not ended yet, as far as can be told before the next one.

        In a loop without a frame that is where the grid is the `same` still.
        """
        if not self._grids or self._ended or (frame := self._calling()) is not self._frame:
            return False
        return frame is not None or all(same(getattr(s, "timesteps", None), g) for s, g in self._grids.values())

    def is_away(self) -> bool:
        """Whether calls of the pipeline have been seen, and we are in none."""
        return (self._ended or self._frame is not None) and self._calling() is None

    def is_cut_off(self) -> bool:
        """Whether the call of the pipeline that made the latest step was left by an error, whoever caught it.

        A frame keeps the last instruction that ran in it: a call that came to its end, early or not, has returned.
        """
        if self._frame is None or self._is_under_way():
            return False
        last = self._frame.f_code.co_code[self._frame.f_lasti]
        return not dis.opname[last].startswith("RETURN")

    def _is_under_way(self) -> bool:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame is not self._frame:
            frame = frame.f_back
        return frame is not None

    def end_call(self, caller: FrameType) -> bool:
        """The pipeline says, in this frame, that it is done; true if its call is over, whose frame is then let go."""
        over = caller is self._frame
        if over:
            self._ended, self._frame = True, None
        return over

    def forget(self) -> None:
        """Nobody asks any more."""
        self._frame, self._ended, self._grids = None, False, {}

    def _calling(self) -> FrameType | None:
        """The frame of the pipeline's call that we are in."""
        frame = sys._getframe(1) if self._code is not None else None
        while frame is not None and not self._is_ours(frame):
            frame = frame.f_back
        return frame

    def _is_ours(self, frame: FrameType) -> bool:
        if frame.f_code is not self._code or frame is self._frame:
            return frame is self._frame
        found = frame.f_locals  # another pipeline of the same class may be called in a callback
        ours = any(found.get(name) is self._pipe for name in frame.f_code.co_varnames[:1])
        if isinstance(found, dict):
            found.clear()  # up to Python 3.12 a copy, which would keep all that the frame held
        return ours


def _starts(scheduler: Any, seen: Any, grid: Any, timestep: Any) -> bool:
    """Whether another grid means another run: not where a copy of the same one was put back half-way."""
    if not _is_same(grid, seen):
        return True
    index = getattr(scheduler, "step_index", None)
    if index is not None:
        return bool(index == (getattr(scheduler, "begin_index", None) or 0))
    return hasattr(scheduler, "step_index") or bool(torch.as_tensor(timestep).flatten()[0] == grid[0])
