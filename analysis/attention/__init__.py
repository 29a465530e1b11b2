"""Attention against influence: where a network looks, and where what it says changes with the word.

    found = compare_word(pipe, {"prompt": "a red lighthouse"}, {"prompt": "a lighthouse"}, tokens, seeds=range(16))
    found.agreement                                        # rank correlation by noise level, with interval
    found.attention, found.influence, found.image          # the maps that it is of

    change = change_maps(denoiser(x, sigma, words), denoiser(x, sigma, others), size=(16, 16))
    map_agreement(maps, change, sigmas=sigmas)             # any two sets of maps

    traced = swap_trace(pipe, {"prompt": "a red lighthouse"}, {"prompt": "a blue lighthouse"}, metric=redness,
                        seeds=range(24))                   # which layers carry what differs between two prompts
    projection_changes(edit, {"edited": states, "neighbour": others})     # how far an edit of projections reaches

Maps of attention come from `probes.attention`. That a network looks at a word somewhere is no evidence that the word
changes anything there: the table says whether it does.
"""

from scorescope.analysis.attention.agreement import change_maps, map_agreement
from scorescope.analysis.attention.locality import projection_changes
from scorescope.analysis.attention.swapping import swap_trace
from scorescope.analysis.attention.words import WordComparison, compare_word

__all__ = ["WordComparison", "change_maps", "compare_word", "map_agreement", "projection_changes", "swap_trace"]
