"""Rows of a recorded pipeline's sites in random order: what sparse features of a pipeline are trained on.

with record(pipe, sites=["unet.mid_block"], path="runs") as trace:
    ...
rows = TraceRows(trace, "unet.mid_block", branch="cond", batch=4096, seed=0)
train_sparse(rows.epoch, features=5120, k=10, steps=5000)
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.activations.positions import by_position
from scorescope.probes.guidance.base import COND
from scorescope.probes.recording.trace import Trace


@checked
class TraceRows:
    """Batches of a site's rows, (batch, channel) float32; a row is one position of one sample in one recorded step.

    Memory holds `together` steps; rows of one batch come from so many, drawn anew in each epoch.

    Parameters
    ----------
    trace : Trace
        With activations that `record(pipe, sites=...)` kept.
    site : str
        Whose.
    branch : str
        cond, uncond, or call0, call1, ... of the denoiser.
    batch : int
        Rows a batch; the last one of an epoch may be smaller.
    seed : int
        Of the order.
    together : int
        Recorded steps that are read at once.

    Raises
    ------
    InputError
        For sizes below 1, and in `epoch` for sites or branches that were not kept.
    """

    def __init__(
        self, trace: Trace, site: str, *, branch: str = COND, batch: int = 4096, seed: int = 0, together: int = 16
    ) -> None:
        if min(batch, together) < 1:
            raise InputError("batch, together", found=f"{batch}, {together}", expected="at least 1")
        self.trace, self.site, self.branch = trace, site, branch
        self.batch, self.seed, self.together = batch, seed, together

    def epoch(self, number: int) -> Iterator[Tensor]:
        """The batches of one epoch, the same whenever asked for."""
        generator = np.random.default_rng([self.seed, number])
        places = generator.permutation(len(self.trace.arrays.events))
        rest: Tensor | None = None
        for start in range(0, len(places), self.together):
            parts = [self._rows(int(place)) for place in places[start : start + self.together]]
            rows = torch.cat(parts if rest is None else [rest, *parts])
            rows = rows[torch.from_numpy(generator.permutation(len(rows)))]
            whole = len(rows) // self.batch * self.batch
            yield from rows[:whole].split(self.batch) if whole else ()
            rest = rows[whole:]
        if rest is not None and len(rest):
            yield rest

    def _rows(self, place: int) -> Tensor:
        value = self.trace.arrays.site(self.site, place, self.branch)
        return by_position(value.float(), "whole").flatten(0, 1)
