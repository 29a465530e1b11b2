"""What text does inside a pipeline: where it is looked at, where that matters, which layers read it, what edits reach.

    found = compare_word(pipe, {"prompt": "a red lighthouse"}, {"prompt": "a lighthouse"}, tokens, seeds=range(16))
    found.agreement                                        # rank correlation by noise level, with interval
    found.attention, found.influence, found.image          # the maps that it is of

    change = change_maps(denoiser(x, sigma, words), denoiser(x, sigma, others), size=(16, 16))
    map_agreement(maps, change, sigmas=sigmas)             # any two sets of maps

    traced = swap_trace(pipe, {"prompt": "a red lighthouse"}, {"prompt": "a blue lighthouse"}, metric=redness,
                        seeds=range(24))                   # which layers carry what differs between two prompts
    projection_changes(edit, {"edited": states, "neighbour": others})     # how far an edit of projections reaches
    prompt_direction(pipe, [("an old man", "a young man")], "man", pipe.tokenizer)      # in text states, by prompts

Maps of attention come from `probes.attention`. That a network looks at a word somewhere is no evidence that the word
changes anything there: the table says whether it does.
"""

from scorescope.analysis.attention.agreement import change_maps, map_agreement
from scorescope.analysis.attention.locality import projection_changes
from scorescope.analysis.attention.prompt_directions import prompt_direction
from scorescope.analysis.attention.swapping import swap_trace
from scorescope.analysis.attention.words import WordComparison, compare_word

__all__ = [
    "WordComparison",
    "change_maps",
    "compare_word",
    "map_agreement",
    "projection_changes",
    "prompt_direction",
    "swap_trace",
]
