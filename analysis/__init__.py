"""Pure functions: traces and arrays in, tidy DataFrames out. No plotting, printing or file output."""

from scorescope.analysis.audit import AUDIT, audit, paper_rule
from scorescope.analysis.guidance import compare, decompose, decompose_bands, decompose_centred, summarise
from scorescope.analysis.images import image_table, value_density
from scorescope.analysis.quality import class_agreement, error_by_sigma, nearest_distances
from scorescope.analysis.summaries import summarise_by
from scorescope.analysis.tables import Column, Schema

__all__ = [
    "AUDIT",
    "Column",
    "Schema",
    "audit",
    "class_agreement",
    "compare",
    "decompose",
    "decompose_bands",
    "decompose_centred",
    "error_by_sigma",
    "image_table",
    "nearest_distances",
    "paper_rule",
    "summarise",
    "summarise_by",
    "value_density",
]
