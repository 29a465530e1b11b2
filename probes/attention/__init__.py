"""Attention to text inside an unmodified pipeline: maps by token or word, layer, head, noise level and branch.

    with attention_maps(pipe) as watching:
        pipe(prompt)
    found = watching.read().by_word(word_tokens(prompt, ["lighthouse", "sea"], pipe.tokenizer))
    found.maps                                  # (call, sample, layer, head, word, y, x)
    found.table()                               # how much and how widely each word is looked at, call by call

Cross-attention of U-Nets and transformers, and joint attention of text and image in one sequence. The maps say where
the network looks; `analysis.attention` holds them against what it uses.
"""

from scorescope.probes.attention.capture import attention_maps
from scorescope.probes.attention.maps import AttentionMaps
from scorescope.probes.attention.words import word_tokens

__all__ = ["AttentionMaps", "attention_maps", "word_tokens"]
