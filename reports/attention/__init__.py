"""Figures of attention: maps of words by noise level, and whether they agree with what the words change.

from scorescope.reports.attention import figures

maps = watching.read().by_word(tokens)                                     # of `probes.attention`
figures.map_rows({word: maps.maps[:, 0, 0, 0, k] for k, word in enumerate(maps.tokens)}, maps.sigmas)
found = compare_word(pipe, row, without, tokens, seeds=range(16))          # of `analysis.attention`
figures.map_rows({"attention": found.attention[:, 0], "influence": found.influence[:, 0]}, found.sigmas)
figures.agreement_curves(found.agreement)
"""

from scorescope.reports.attention import figures

__all__ = ["figures"]
