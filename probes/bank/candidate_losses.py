"""Losses of some candidate conditions for some images at some points of a bank, in full batches.

    losses = CandidateLosses(denoiser, bank, [labels_a, labels_b])
    losses.at(classes, rows, points)              # (pairs, points): eps loss of each (class, image) at each point

Where `compare_arms` evaluates every arm everywhere, this evaluates what is asked for. One call of the denoiser mixes
noise levels, so that batches stay full when few images are left.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.data.errors import InputError
from scorescope.probes.bank.points import Bank, Point
from scorescope.probes.models.conditions import ConditionRows, to_device
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate, working_dtype

Integers = NDArray[np.integer[Any]]


class CandidateLosses:
    """Losses of candidates on demand.

    Parameters
    ----------
    denoiser : Denoiser
        The model; it is called with noise levels that differ within a batch.
    bank : Bank
        Images, noise levels, draws.
    conditions : sequence of Condition
        The candidates, all of one kind: a row for each image of the bank, or one for all.
    batch : int
        Samples in one call.
    """

    def __init__(self, denoiser: Denoiser, bank: Bank, conditions: Sequence[Condition], *, batch: int = 256) -> None:
        if batch < 1:
            raise InputError("batch", found=str(batch), expected="at least 1")
        self.denoiser, self.bank, self.batch = denoiser, bank, batch
        self.conditions = ConditionRows.join(conditions, count=len(bank))
        self.classes = len(conditions)

    def at(self, classes: Integers, rows: Integers, points: Integers, *, progress: bool = False) -> NDArray[np.float64]:
        """|noise - eps|^2 of each pair (class, image) at each point.

        Parameters
        ----------
        classes, rows : array of int, shape (pairs,)
            Candidate and image of each pair.
        points : array of int, shape (points,)
            Numbers level * draws + draw.
        progress : bool
            Show a progress bar.

        Returns
        -------
        array, shape (pairs, points), float64

        Raises
        ------
        InputError
            For predictions of another shape or not finite.
        """
        # images with their classes side by side, so that a chunk draws the noise of an image once
        order = np.lexsort((classes, rows))
        tasks = [(pair, number) for number in range(len(points)) for pair in order]
        found = np.empty((len(rows), len(points)))
        with torch.no_grad(), tqdm(total=len(tasks), desc="losses", disable=not progress, leave=False) as bar:
            for start in range(0, len(tasks), self.batch):
                pairs, numbers = np.array(tasks[start : start + self.batch]).T
                found[pairs, numbers] = self._losses(classes[pairs], rows[pairs], points[numbers])
                bar.update(len(pairs))
        return found

    def _losses(self, classes: Integers, rows: Integers, points: Integers) -> NDArray[np.float64]:
        noisy, place = np.unique(np.stack([points, rows], 1), axis=0, return_inverse=True)
        made = [self._point(int(number), noisy[noisy[:, 0] == number, 1]) for number in np.unique(noisy[:, 0])]
        where = torch.as_tensor(place.reshape(-1)).to(self.bank.x0.device)
        x, x0, sigma = (torch.cat([getattr(point, name) for point in made])[where] for name in ("x", "x0", "sigma"))
        condition = to_device(self.conditions.take(torch.as_tensor(classes), torch.as_tensor(rows)), x.device)
        denoised = evaluate(self.denoiser, x, sigma, condition, branch="candidates")
        dtype = working_dtype(x)
        loss = (denoised.to(dtype) - x0.to(dtype)).square().flatten(1).sum(1) / sigma.to(dtype) ** 2
        return self._checked(loss, sigma)

    def _point(self, number: int, rows: Integers) -> Point:
        level, draw = divmod(number, self.bank.draws)
        return self.bank.point(torch.as_tensor(rows), level, draw)

    def _checked(self, loss: Tensor, sigma: Tensor) -> NDArray[np.float64]:
        if not loss.isfinite().all():
            level = float(sigma[~loss.isfinite()][0])
            found = f"values that are not finite at sigma {level:.4g}"
            raise InputError("denoiser", found=found, expected="finite predictions")
        return np.asarray(loss.cpu(), np.float64)
