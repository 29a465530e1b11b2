"""The atlas: named figures of the field's papers for your own model.

    from scorescope.reports.atlas import atlas, catalogue, make_all, shipped

    catalogue()                                            # every entry by name
    made = atlas("apg-update-parts", load_model("mine:make"), count=64)
    made.figure, made.table, made.caption, made.bibtex
    made.save("figures")                                   # PDF at the width of a column, tables, caption, BibTeX
    make_all("atlas", shipped())                           # a page with all of them; what cannot be made says why

Entries are data beside their instrument (`reports.guidance.atlas` and its kin); `reports.entries` says what one is.
"""

from scorescope.reports.atlas.catalogue import catalogue, find_entry
from scorescope.reports.atlas.gallery import make_all
from scorescope.reports.atlas.make import Made, atlas, make, make_each
from scorescope.reports.atlas.shipped import features_of, shipped

__all__ = ["Made", "atlas", "catalogue", "features_of", "find_entry", "make", "make_all", "make_each", "shipped"]
