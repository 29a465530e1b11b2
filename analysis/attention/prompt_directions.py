"""Directions of an attribute from pairs of prompts, in the text states of a pipeline: no training, no denoiser's help.

pairs = [("an old man", "a young man"), ("a photo of an old woman", "a photo of a young woman")]
older = prompt_direction(pipe, pairs, ["man", "woman"], pipe.tokenizer)
Intervention.along(older, 2.0, site="condition.4", branch="cond")            # at the subject of another prompt
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from scorescope.data.doors import checked, require_some
from scorescope.data.errors import InputError
from scorescope.probes.attention.words import word_tokens
from scorescope.probes.experiments.text_states import text_states
from scorescope.probes.sites.direction import CONDITION, Direction


@checked
def prompt_direction(
    pipe: Any,
    pairs: Sequence[tuple[str, str]],
    subjects: str | Sequence[str],
    tokenizer: Any,
    *,
    first: int = 0,
    attribute: str = "",
    arguments: Mapping[str, Any] | None = None,
) -> Direction:
    """Mean over pairs of the difference of two prompts' states at the last token of the subject.

    Parameters
    ----------
    pipe : object
        A diffusers pipeline, of whatever text encoders (CLIP, T5, several).
    pairs : sequence of (str, str)
        Prompts with more and with less of the attribute. All else is to be the same in a pair, and spread over pairs:
        subjects, and words before them.
    subjects : str or sequence of str
        Word of both prompts that the attribute is of; one for all pairs, or one a pair.
    tokenizer, first
        See `word_tokens`.
    attribute : str
        Its name.
    arguments : mapping, optional
        See `text_states`.

    Returns
    -------
    Direction
        At "condition", of the width of the denoiser's text. Its scale is the standard deviation of the projection over
        all prompts. The difference of CLIP states is weaker than a learned direction (arXiv 2403.17064).

    Raises
    ------
    InputError
        For prompts without the subject, another number of subjects than pairs, and pairs that do not differ.

    See Also
    --------
    token_direction : learned with a denoiser, for pairs whose subject is at the same place.
    """
    require_some("pairs", pairs)
    words = [subjects] * len(pairs) if isinstance(subjects, str) else list(subjects)
    if len(words) != len(pairs):
        raise InputError("subjects", found=f"{len(words)} for {len(pairs)} pairs", expected="one, or one a pair")
    prompts = [(prompt, word) for pair, word in zip(pairs, words, strict=True) for prompt in pair]
    places = [max(word_tokens(prompt, [word], tokenizer, first=first)[word]) for prompt, word in prompts]
    states = text_states(pipe, [{"prompt": prompt} for prompt, _ in prompts], arguments=arguments)
    if max(places) >= states.shape[1]:
        found = f"a subject at token {max(places)}"
        raise InputError("pairs", found=found, expected=f"one among the {states.shape[1]} that the denoiser is given")
    rows = states[torch.arange(len(places)), torch.tensor(places)].cpu().double()
    vector = (rows[::2] - rows[1::2]).mean(0)
    length = float(vector.norm())
    if not length:
        raise InputError("pairs", found="prompts whose subjects have equal states", expected="pairs that differ")
    spread = float((rows @ (vector / length)).std(correction=0))
    return Direction(vector.float(), CONDITION, attribute, "difference of prompts", spread)
