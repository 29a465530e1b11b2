"""Conditions that are corrupted by noise, for causal tracing."""

from collections.abc import Sequence

import torch
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.sites.intervened import embedded


def noisy_condition(
    denoiser: Denoiser, condition: Condition, *, scale: float, seeds: Sequence[int], tokens: Sequence[int] = ()
) -> Tensor:
    """Condition tokens with Gaussian noise on them.

    Parameters
    ----------
    denoiser : Denoiser
        One with `embed`, unless the condition is tokens already.
    condition : Tensor
        Labels, or tokens (batch, token, width).
    scale : float
        Standard deviation of the noise, in standard deviations of the numbers of all tokens of its row.
    seeds : sequence of int
        One a row; the noise of a row follows from its seed.
    tokens : sequence of int
        Tokens to corrupt; by default all.

    Returns
    -------
    Tensor, shape (batch, token, width)

    Raises
    ------
    InputError
        For a scale that is not positive, another number of seeds than rows, and tokens that are not there.
    """
    clean = embedded(denoiser, condition, torch.empty(len(seeds))).detach()
    if not 0 < scale < float("inf") or len(clean) != len(seeds):
        found = f"{scale}, {len(seeds)} seeds for {len(clean)} rows"
        raise InputError("scale, seeds", found=found, expected="a positive scale, and a seed for each row")
    chosen = list(tokens) or list(range(clean.shape[1]))
    if not all(0 <= token < clean.shape[1] for token in chosen):
        raise InputError("tokens", found=str(chosen), expected=f"from 0 to {clean.shape[1] - 1}")
    noise = torch.stack([torch.randn(clean.shape[1:], generator=torch.Generator().manual_seed(s)) for s in seeds])
    corrupted = clean.clone()
    spread = clean.flatten(1).float().std(1).to(clean)[:, None, None]  # of the row alone: batches do not show
    corrupted[:, chosen] += scale * spread * noise.to(clean)[:, chosen]
    return corrupted
