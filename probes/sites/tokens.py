"""Condition tokens: a direction added to some of them over some noise levels, the tokens of a word, noise on them.

older = with_tokens(denoiser, direction, 1.5, sigma=(0.0, 2.0))     # delayed: layout is settled above 2
sample(older, seeds=range(8), condition=labels)
rows = subject_tokens("photo of a man and a dog", "man", offsets)   # of a tokenizer's offset mapping
corrupted = noisy_condition(denoiser, labels, scale=1.0, seeds=range(8))     # for causal tracing
"""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import Condition, Denoiser
from scorescope.probes.sites.direction import CONDITION, Direction
from scorescope.probes.sites.interventions import Intervention
from scorescope.probes.sites.on_denoiser import Intervened, embedded, intervened

Tokens = Sequence[int] | Tensor | None
"""Token indices, a mask (token,) or (batch, token) of bool, or None for all tokens."""


@checked
def with_tokens(
    denoiser: Denoiser, direction: Direction, strength: float, *, sigma: tuple[float, float] = (0.0, float("inf")),
    tokens: Tokens = None,
) -> Intervened:  # fmt: skip
    """A denoiser with a direction added to its condition tokens, over an interval of noise levels.

    A call without a condition is left alone.

    Parameters
    ----------
    denoiser : Denoiser
        Takes tokens (batch, token, width); labels too where it has `embed`.
    direction : Direction
        At "condition" or "condition.<token>", of the tokens' width.
    strength : float
        In scales of the direction (standard deviations of the projection).
    sigma : (float, float)
        Noise levels between which it is added, low < sigma <= high; a high end below the first noise level of a
        sampler is delayed application.
    tokens : sequence of int or Tensor of bool, optional
        Rows that are shifted: indices, or a mask (token,) or (batch, token), beyond which none is. By default the token
        that the site names, or all.

    Raises
    ------
    InputError
        For a direction at another site, an empty interval, no tokens; in the call for another width, tokens out of
        range and a mask of another batch.
    """
    if direction.site.split(".")[0] != CONDITION:
        raise InputError("direction", found=f"a site {direction.site!r}", expected="condition, or condition.<token>")
    if not 0 <= sigma[0] < sigma[1]:
        raise InputError("sigma", found=str(sigma), expected="0 <= low < high: it is added where low < sigma <= high")
    within: dict[str, Any] = {"low": float(sigma[0]), "high": float(sigma[1]), "branch": "cond"}
    if tokens is None:
        return intervened(denoiser, [Intervention.along(direction, float(strength), **within)])
    step = direction.step(1.0)
    shifts = {f"{CONDITION}.{token}": share * float(strength) for token, share in _shares(tokens).items()}
    return intervened(denoiser, [Intervention("add", site, step, amount, **within) for site, amount in shifts.items()])


def _shares(tokens: Sequence[int] | Tensor) -> dict[int, float | Tensor]:
    """By token, 1; of a mask by row, 1 in the rows where it is meant and 0 in the others, shape (batch,)."""
    mask = torch.as_tensor(tokens).cpu()
    if mask.dtype != torch.bool and mask.ndim < 2 and len(mask.flatten()) and bool((mask >= 0).all()):
        return {int(token): 1.0 for token in mask.flatten().unique()}
    if mask.dtype != torch.bool or mask.ndim not in (1, 2) or not bool(mask.any(-1).all()):
        expected = "indices from 0, or a mask (token,) or (batch, token), none of it empty"
        raise InputError("tokens", found=f"{mask.dtype} of shape {tuple(mask.shape)}", expected=expected)
    if mask.ndim == 1:
        return {int(token): 1.0 for token in mask.nonzero().flatten()}
    return {token: mask[:, token].double() for token in range(mask.shape[1]) if bool(mask[:, token].any())}


def token_mask(tokens: Tokens, like: Tensor) -> Tensor:
    """Which tokens of `like` (batch, token, width) are meant, bool, shape (batch, token).

    Raises
    ------
    InputError
        For indices out of range, masks of another shape, and a row without any token.
    """
    batch, count = like.shape[:2]
    expected = f"indices from 0 to {count - 1}, or a mask ({count},) or ({batch}, {count}), none of it empty"
    if tokens is None:
        mask = torch.ones(count, dtype=torch.bool)
    elif isinstance(tokens, Tensor) and tokens.dtype == torch.bool:
        mask = tokens
    else:
        index = torch.as_tensor(tokens, dtype=torch.int64).flatten()
        if len(index) and not bool(((index >= 0) & (index < count)).all()):
            raise InputError("tokens", found=str(index.tolist()), expected=expected)
        mask = torch.zeros(count, dtype=torch.bool).index_fill(0, index, True)
    if tuple(mask.shape) not in ((count,), (batch, count)) or not bool(mask.any(-1).all()):
        raise InputError("tokens", found=f"a mask of shape {tuple(mask.shape)}", expected=expected)
    return mask.to(like.device).expand(batch, count)


@checked
def subject_tokens(prompt: str, subject: str, offsets: Sequence[tuple[int, int]], *, last: bool = False) -> list[int]:
    """Tokens of a subject in a prompt, by characters.

    Parameters
    ----------
    prompt, subject : str
        The subject is found as whole words, in any case.
    offsets : sequence of (start, end)
        Characters of each token, as tokenizers return with `return_offsets_mapping=True`; (0, 0) for special ones.
    last : bool
        Only the last token of each occurrence, which in a causal text encoder has seen the whole word.

    Returns
    -------
    list of int
        Indices in rising order, over all occurrences.

    Raises
    ------
    InputError
        If the subject is not in the prompt, or no token covers it.
    """
    found: set[int] = set()
    for match in re.finditer(rf"(?<!\w){re.escape(subject)}(?!\w)", prompt, flags=re.IGNORECASE):
        start, end = match.span()
        covered = [i for i, (left, right) in enumerate(offsets) if left < right and left < end and right > start]
        found.update(covered[-1:] if last else covered)
    if not found:
        raise InputError("subject", found=repr(subject), expected=f"words of the prompt {prompt!r} that tokens cover")
    return sorted(found)


@checked
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
