"""A direction added to condition tokens: which tokens, and at which noise levels.

older = with_tokens(denoiser, direction, 1.5, sigma=(0.0, 2.0))     # delayed: layout is settled above 2
sample(older, seeds=range(8), condition=labels)
rows = subject_tokens("photo of a man and a dog", "man", offsets)   # of a tokenizer's offset mapping
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.denoiser import Condition, Denoiser
from scorescope.probes.direction import CONDITION, Direction

Tokens = Sequence[int] | Tensor | None
"""Token indices, a mask (token,) or (batch, token) of bool, or None for all tokens."""


@dataclass(frozen=True, eq=False)
class TokenShift:
    """A denoiser whose condition tokens are shifted. Made by `with_tokens`."""

    denoiser: Denoiser
    direction: Direction
    strength: float
    sigma: tuple[float, float]
    tokens: Tokens

    @property
    def shape(self) -> Any:
        """Shape of one sample, that of the denoiser."""
        return getattr(self.denoiser, "shape", None)

    @property
    def classes(self) -> Any:
        """Number of labels, that of the denoiser."""
        return getattr(self.denoiser, "classes", None)

    def embed(self, condition: Tensor | None, batch: int | None = None) -> Tensor:
        """Tokens before the shift, as the denoiser makes them."""
        return cast(Tensor, cast(Any, self.denoiser).embed(condition, batch=batch))

    def __call__(self, x: Tensor, sigma: Tensor, condition: Condition = None) -> Tensor:
        """The denoiser with shifted tokens where sigma is in range; without a condition, unchanged."""
        if condition is None:
            return self.denoiser(x, sigma, None)
        if not isinstance(condition, Tensor):
            found = f"a {type(condition).__name__}"
            raise InputError("condition", found=found, expected="labels or tokens (batch, token, width)")
        before = condition if condition.is_floating_point() else self.embed(condition)
        self.direction.check_width(before.shape[-1])
        low, high = self.sigma
        chosen = token_mask(self.tokens, before) & ((sigma >= low) & (sigma <= high)).to(before.device)[:, None]
        step = self.direction.step(self.strength).to(before)
        return self.denoiser(x, sigma, before + chosen[:, :, None] * step)


def with_tokens(
    denoiser: Denoiser, direction: Direction, strength: float, *, sigma: tuple[float, float] = (0.0, float("inf")),
    tokens: Tokens = None,
) -> TokenShift:  # fmt: skip
    """A denoiser with a direction added to its condition tokens, over an interval of noise levels.

    Parameters
    ----------
    denoiser : Denoiser
        Takes tokens (batch, token, width); labels too where it has `embed`.
    direction : Direction
        At "condition" or "condition.<token>", of the tokens' width.
    strength : float
        In scales of the direction (standard deviations of the projection).
    sigma : (float, float)
        Lowest and highest noise level at which it is added, inclusive; a high end below the first noise level of a
        sampler is delayed application.
    tokens : sequence of int or Tensor of bool, optional
        Rows that are shifted: indices, or a mask (token,) or (batch, token). By default the token that the site
        names, or all.

    Raises
    ------
    InputError
        For a direction at another site, and an empty interval; in the call for another width and tokens out of range.
    """
    if direction.site.split(".")[0] != CONDITION:
        raise InputError("direction", found=f"a site {direction.site!r}", expected="condition, or condition.<token>")
    if not sigma[0] <= sigma[1]:
        raise InputError("sigma", found=str(sigma), expected="lowest and highest noise level, in this order")
    if tokens is None and "." in direction.site:
        tokens = [int(direction.site.split(".")[1])]
    return TokenShift(denoiser, direction, float(strength), (float(sigma[0]), float(sigma[1])), tokens)


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
