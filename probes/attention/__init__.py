"""Attention to text inside an unmodified pipeline: maps by token or word, layer, head, noise level and branch.

    with attention_maps(pipe) as watching:
        pipe(prompt)
    found = watching.read().by_word(word_tokens(prompt, ["lighthouse", "sea"], pipe.tokenizer))
    found.maps                                  # (call, sample, layer, head, word, y, x)
    found.table()                               # how much and how widely each word is looked at, call by call

    sites = cross_attention_sites(pipe)
    with swap_prompt(pipe, other_states, sites[4:7], branches=("uncond", "cond")):     # another prompt in three layers
        pipe(prompt)
    with edit_projections(pipe, states, other_states, keep=neighbours):                # read as another, in closed form
        pipe(prompt)

Cross-attention of U-Nets and transformers, and joint attention of text and image in one sequence. The maps say where
the network looks; `analysis.attention` holds them against what it uses.
"""

from scorescope.probes.attention.capture import attention_maps
from scorescope.probes.attention.cross import cross_attention_sites
from scorescope.probes.attention.maps import AttentionMaps
from scorescope.probes.attention.projection_edit import ProjectionEdit, edit_projections
from scorescope.probes.attention.prompt_swap import swap_prompt
from scorescope.probes.attention.words import word_tokens

__all__ = [
    "AttentionMaps",
    "ProjectionEdit",
    "attention_maps",
    "cross_attention_sites",
    "edit_projections",
    "swap_prompt",
    "word_tokens",
]
