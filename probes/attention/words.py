"""Which tokens of a prompt a word is."""

from collections.abc import Sequence
from typing import Any

from scorescope.data.doors import checked, require_some
from scorescope.data.errors import InputError
from scorescope.probes.sites.tokens import subject_tokens


@checked
def word_tokens(prompt: str, words: Sequence[str], tokenizer: Any, *, first: int = 0) -> dict[str, list[int]]:
    """Places of words in the text that a denoiser is given.

    Parameters
    ----------
    prompt : str
        The prompt.
    words : sequence of str
        Words or phrases of it, found whole, in any case; all occurrences count, and all tokens of each.
    tokenizer : object
        The pipeline's, one that knows the characters of its tokens (a "fast" one of transformers). Special tokens that
        it puts before the prompt count; the padding that pipelines add behind it does not matter.
    first : int
        Where its text begins in that of the denoiser: 0 but for encoders whose texts stand one after another. In
        Stable Diffusion 3 those of CLIP come first, 77 tokens, then those of `tokenizer_3`.

    Returns
    -------
    dict of str to list of int

    Raises
    ------
    InputError
        For a word that is not in the prompt, and a tokenizer that knows no characters.
    """
    require_some("words", words)
    try:
        offsets = tokenizer(prompt, return_offsets_mapping=True)["offset_mapping"]
    except (NotImplementedError, TypeError, KeyError) as error:
        found = f"a {type(tokenizer).__name__} ({error})"
        raise InputError("tokenizer", found=found, expected="one that returns the characters of its tokens") from None
    pairs = [(int(start), int(end)) for start, end in offsets]
    return {word: [first + token for token in subject_tokens(prompt, word, pairs)] for word in words}
