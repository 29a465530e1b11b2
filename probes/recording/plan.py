"""What `keep`, `every` and `budget` mean: which arrays of which steps, and how much room is allowed."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from scorescope.data.errors import InputError

Keep = str | Iterable[str]
Every = int | tuple[float, float] | None
Budget = int | str | None

_SETS: dict[str, frozenset[str]] = {
    "scalars": frozenset(),
    "latents": frozenset({"x", "x_prev"}),
    "branches": frozenset({"x", "guided", "branches"}),
    "all": frozenset({"x", "x_prev", "guided", "branches", "x0"}),
}
_NAMES = {"x", "x_prev", "guided", "branches", "cond", "uncond", "x0"}
_UNITS = {
    "": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip


class BudgetError(InputError):
    """A recording that would take more room than it was given."""


@dataclass(frozen=True)
class Plan:
    """Which arrays to keep, and in which steps.

    Attributes
    ----------
    arrays : frozenset of str
        Of x, x_prev, guided, branches and x0.
    stride : int
        Every how many steps.
    interval : (float, float) or None
        Noise levels (variance-exploding, both ends included) between which to keep.
    budget : int or None
        Bytes that may be kept in one run.
    """

    arrays: frozenset[str]
    stride: int = 1
    interval: tuple[float, float] | None = None
    budget: int | None = None

    def wants(self, event: int, sigma: float | Tensor) -> bool:
        """Whether to keep arrays in this step; a level known only on the device is kept."""
        if event % self.stride:
            return False
        if self.interval is None or isinstance(sigma, Tensor):
            return True
        return self.interval[0] <= sigma <= self.interval[1]

    def estimate(self, step_bytes: int, steps: int) -> int:
        """Bytes of a run of so many steps; an interval counts as if every step lay in it."""
        return step_bytes * math.ceil(steps / self.stride)

    def check(self, size: int, steps: int) -> None:
        """Raise `BudgetError` where an estimate exceeds the budget."""
        self._refuse(size, f"about {size:,} ({steps} steps)")

    def check_kept(self, size: int) -> None:
        """Raise `BudgetError` where what a run has kept, with one more step, exceeds the budget."""
        self._refuse(size, f"{size:,} with this step")

    def _refuse(self, size: int, words: str) -> None:
        if self.budget is not None and size > self.budget:
            raise BudgetError(
                "budget",
                found=f"{self.budget:,} bytes for {words}",
                expected="more room, a larger stride in every=, or less in keep=",
            )


def plan(keep: Keep, every: Every, budget: Budget) -> Plan:
    """Read the arguments of `record`.

    Raises
    ------
    InputError
        Naming the argument.
    """
    arrays = _SETS.get(keep) if isinstance(keep, str) else None
    if arrays is None:
        names = {keep} if isinstance(keep, str) else set(keep)
        if not names <= _NAMES:
            wrong = ", ".join(sorted(names - _NAMES))
            raise InputError(
                "keep", found=wrong, expected=f"{', '.join(_SETS)}, or names among {', '.join(sorted(_NAMES))}"
            )
        paired = names & {"cond", "uncond"}
        arrays = frozenset((names - paired) | ({"branches", "guided"} if paired or "branches" in names else set()))
    stride, interval = 1, None
    if isinstance(every, int):
        stride = every
    elif every is not None:
        interval = (float(every[0]), float(every[1]))
    if stride < 1 or (interval is not None and not interval[0] <= interval[1]):
        raise InputError("every", found=str(every), expected="a stride >= 1, or (low, high) noise levels")
    return Plan(arrays, stride, interval, None if budget is None else budget_bytes(budget))


def budget_bytes(budget: int | str) -> int:
    """Bytes of a number, or of a size such as "2 GB"; `InputError` for anything else."""
    if isinstance(budget, int):
        return budget
    match = re.fullmatch(r"\s*([\d.]+)\s*([a-zA-Z]*)\s*", budget)
    if match is None or match[2].lower() not in _UNITS:
        raise InputError("budget", found=repr(budget), expected="bytes, or a size such as '2 GB'")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def size_of(arrays: Mapping[str, Tensor]) -> int:
    """Bytes of some arrays."""
    return sum(tensor.numel() * tensor.element_size() for tensor in arrays.values())
