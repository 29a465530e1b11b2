"""How much room a run will take, told from its first denoiser call, and refused where that exceeds the budget."""

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from scorescope.probes.recording.plan import Plan, size_of

_OF_THE_STATE = {"x", "x_prev", "x0", "guided"}


def step_bytes(arrays: frozenset[str], module: nn.Module, given: Tensor, *, guided: bool) -> int:
    """Bytes of the arrays of one step.

    Parameters
    ----------
    arrays : frozenset of str
        What is kept; see `Plan.arrays`.
    module : Module
        The denoiser that is about to be called. Its configuration may name input and output channels.
    given : Tensor, shape (branches * batch, ...) or (batch, ...)
        Its input. Rows that repeat are the branches of one state.
    guided : bool
        The pipeline says that it guides; then there are two branches at least, if need be in calls of their own.

    Returns
    -------
    int
        Exact where the state goes into the network in its own type, the branches lie in one call, or in two if the
        pipeline says so, and the scheduler receives one prediction a state.
    """
    config = getattr(module, "config", None)
    inputs, outputs = (getattr(config, name, None) for name in ("in_channels", "out_channels"))
    ratio = outputs / inputs if isinstance(inputs, int) and isinstance(outputs, int) and inputs else 1.0
    repeated = _repeats(given, ratio)
    state = given.nbytes / repeated * min(1.0, ratio)  # conditions beside the state; learned variances are not kept
    branches = max(repeated, 2 if guided else 1) if "branches" in arrays else 0
    return int(state * (len(arrays & _OF_THE_STATE) + branches))


def _repeats(given: Tensor, ratio: float) -> int:
    """How many times each state is there: one after another, or side by side."""
    part = given
    if ratio < 1 and given.ndim > 1 and (kept := round(given.shape[1] * ratio)) > 0:
        part = given.narrow(1, 0, kept)  # what lies beside the state differs between branches
    for count in (3, 2):
        if len(part) % count == 0 and len(part):
            blocks, strided = part.chunk(count), [part[k::count] for k in range(count)]
            if any(all(torch.equal(rows[0], row) for row in rows[1:]) for rows in (blocks, strided)):
                return count
    return 1


def says_it_guides(pipe: Any) -> bool:
    """Whether a pipeline's own property says that this run is guided; False where there is none."""
    try:
        return bool(getattr(pipe, "do_classifier_free_guidance", False))
    except TypeError:  # compares a scale that was not given
        return False


def in_words(size: float) -> str:
    """Bytes as people read them."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"


class Room:
    """Says how much room a run will take, and refuses what exceeds the budget.

    Parameters
    ----------
    plan : Plan
        What is kept.
    progress : bool
        Say it on standard error.
    """

    def __init__(self, plan: Plan, *, progress: bool) -> None:
        self._plan, self._progress = plan, progress
        self.size = 0  # of the latest run, as known at its first step
        self._grids: tuple[Any, ...] | None = None
        self._settled = False
        self._kept = 0  # of this run so far
        self._said = ""

    def begin_run(self) -> None:
        """A run begins: its first step will tell its size."""
        self._settled = False
        self._kept = 0

    def expect(self, module: nn.Module, given: Tensor, schedulers: Mapping[str, Any], *, guided: bool) -> None:
        """Estimate before the first denoiser call on a new grid of timesteps.

        Raises
        ------
        BudgetError
            Where the estimate exceeds the budget.
        """
        grids = tuple(getattr(scheduler, "timesteps", None) for scheduler in schedulers.values())
        known = self._grids is not None and all(a is b for a, b in zip(grids, self._grids, strict=False))
        if not self._plan.arrays or (known and len(grids) == len(self._grids or ())):
            return
        self._grids = grids
        self._judge(step_bytes(self._plan.arrays, module, given, guided=guided), max(map(_length, grids), default=0))

    def settle(self, arrays: Mapping[str, Tensor], scheduler: Any) -> None:
        """The size as the first step of a run shows it, and what is kept so far, before anything is written.

        Raises
        ------
        BudgetError
            Where one of them exceeds the budget: the grid may be unknown, or passed several times in a run.
        """
        size = size_of(arrays)
        if not self._settled:
            self._settled = True
            self.size = self._judge(size, _length(getattr(scheduler, "timesteps", None)))
        self._plan.check_kept(self._kept + size)
        self._kept += size

    def _judge(self, bytes_a_step: int, steps: int) -> int:
        size = self._plan.estimate(bytes_a_step, steps)
        self._plan.check(size, steps)
        told = f"about {in_words(size)} in {steps} steps" if steps else f"{in_words(bytes_a_step)} a step"
        if self._progress and told != self._said:
            tqdm.write(
                f"recording arrays: {told}", file=sys.stderr
            )  # does not break a progress bar that is on the screen
            self._said = told
        return size


def _length(grid: Any) -> int:
    return len(grid) if hasattr(grid, "__len__") else 0
