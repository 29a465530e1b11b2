"""Fine paths of many states of the same samples, together: what steps of a solver are held against."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.models.conditions import select_rows
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.sampling.paths import run_to_end
from scorescope.probes.sampling.reference import RungeKutta4
from scorescope.probes.sampling.solvers import Euler, Solver


class FinePaths:
    """Carries several states of the same samples from level to level.

    Parameters
    ----------
    denoiser : Denoiser
        The model.
    condition : Condition
        One row a sample.
    count : int
        Samples.
    fine : Solver, optional
        By default `RungeKutta4()`.
    substeps : int
        Its steps, uniform in ln sigma, from level to level.
    batch : int
        Rows computed together.
    """

    def __init__(
        self, denoiser: Denoiser, condition: Condition, count: int, *, fine: Solver | None = None, substeps: int = 4,
        batch: int = 1024,
    ) -> None:  # fmt: skip
        if substeps < 1 or batch < 1:
            raise InputError("substeps, batch", found=f"{substeps}, {batch}", expected="at least 1 of each")
        self._denoiser, self._condition, self._count = denoiser, condition, count
        self._fine, self._substeps, self._batch = fine or RungeKutta4(), substeps, batch
        self._rows = 0

    @property
    def calls(self) -> float:
        """Denoiser calls a sample so far."""
        return self._rows / self._count

    def carry(self, states: Sequence[Tensor], high: float, low: float, *, substeps: int | None = None) -> list[Tensor]:
        """States of all samples at `high`, each carried to `low`; to 0 by the prediction alone.

        Parameters
        ----------
        states : sequence of Tensor, shape (count, *shape)
            At level `high`.
        high, low : float
            Levels.
        substeps : int, optional
            In place of the usual ones.
        """
        if not states:
            return []
        together = torch.cat(list(states))
        rows = torch.arange(self._count).repeat(len(states))
        inner = np.geomspace(high, low, (substeps or self._substeps) + 1)[1:-1].tolist() if low > 0 else []
        solver, ended = self._fine if low > 0 else Euler(), []
        for part in torch.arange(len(together)).split(self._batch):
            condition = select_rows(self._condition, rows[part])
            end, calls = run_to_end(
                self._denoiser, together[part], [high, *inner, low], condition=condition, solver=solver
            )
            ended.append(end)
            self._rows += calls * len(part)
        return list(torch.cat(ended).split(self._count))


class KnownFirst:
    """A denoiser that is not asked again for what it said at one state; `calls` counts what it is asked."""

    def __init__(self, denoiser: Denoiser, x: Tensor, prediction: Tensor) -> None:
        self._denoiser, self._x, self._prediction = denoiser, x, prediction
        self.calls = 0

    def __call__(self, x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """What is known, or what the denoiser says."""
        if x is self._x:
            return self._prediction
        self.calls += 1
        return self._denoiser(x, sigma, condition)
