"""A denoiser that is not asked twice: runs that begin alike, or are cut out of each other, share their calls.

    kept = KeptPredictions(denoiser)
    sample(kept, seeds=range(96), condition=labels, rule=CFG(4.0))
    sample(kept, seeds=range(64), condition=labels[:64], rule=CFG(4.0))       # calls nothing
    sample(kept, seeds=range(96), condition=labels, rule=AdaptiveGuidance(CFG(4.0)))      # calls nothing until it stops

What was predicted for a row comes back to the bit; rows that are left to compute go in smaller batches, which shows in
the rounding at most.
"""

from typing import Any

import torch
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.probes.models.conditions import select_rows
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate
from scorescope.probes.models.row_keys import row_keys

MOST = 2**29


@checked
class KeptPredictions:
    """The predictions of a denoiser, kept by state, noise level and condition, and given again.

    Parameters
    ----------
    denoiser : Denoiser
        The model; its result may depend on nothing but its arguments, row by row.
    most : int
        Bytes of predictions that are kept, on their device; what comes later is computed, and not kept.
    """

    def __init__(self, denoiser: Denoiser, most: int = MOST) -> None:
        self.denoiser, self._left = denoiser, int(most)
        self._kept: dict[bytes, Tensor] = {}

    def __getattr__(self, name: str) -> Any:
        """Everything but the call is that of the denoiser inside."""
        if name == "denoiser":  # not set yet: while being copied
            raise AttributeError(name)
        return getattr(self.denoiser, name)

    def __call__(self, x: Tensor, sigma: Tensor, condition: Condition, /) -> Tensor:
        """Estimate x0; see `Denoiser`. Where gradients are asked for, nothing is kept or given again."""
        keys = None if torch.is_grad_enabled() else row_keys(x, sigma, condition)
        if keys is None:
            return self.denoiser(x, sigma, condition)
        places = {key: place for place, key in reversed(list(enumerate(keys))) if key not in self._kept}
        if not places:
            return torch.stack([self._kept[key] for key in keys])
        index = torch.tensor(sorted(places.values()), device=x.device)
        made = self._made(x, sigma, condition, index)
        new = {keys[place]: row for place, row in zip(index.tolist(), made, strict=True)}
        found = torch.stack([new[key] if key in new else self._kept[key] for key in keys])
        if made.nbytes <= self._left:
            self._left -= made.nbytes
            self._kept |= new
        return found

    @property
    def same_as(self) -> Denoiser:
        """What gives the same predictions: by this, not by what is kept, it is told from others."""
        return self.denoiser

    def __len__(self) -> int:
        """Rows that are kept."""
        return len(self._kept)

    def forget(self) -> None:
        """Let go of all that was kept."""
        self._left += sum(row.nbytes for row in self._kept.values())
        self._kept.clear()

    def _made(self, x: Tensor, sigma: Tensor, condition: Condition, index: Tensor) -> Tensor:
        branch = "uncond" if condition is None else "cond"
        if len(index) == len(x):
            return evaluate(self.denoiser, x, sigma, condition, branch=branch)
        part = select_rows(condition, index)
        return evaluate(self.denoiser, x[index], sigma.expand(len(x))[index], part, branch=branch)
