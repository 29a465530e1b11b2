"""Pure functions: traces and arrays in, tidy DataFrames out. No plotting, printing or file output."""

from scorescope.analysis.guidance import compare, decompose, decompose_bands, decompose_centred, summarise
from scorescope.analysis.guidance_paths import clip_activity, gain_path, savings, separation
from scorescope.analysis.images import image_table, value_density
from scorescope.analysis.information import guidance_information, suggest_interval
from scorescope.analysis.quality import class_agreement, error_by_sigma, nearest_distances
from scorescope.analysis.summaries import summarise_by
from scorescope.analysis.sweeps import changes, measure_sweep, pareto, sample_metrics
from scorescope.analysis.tables import Column, Schema

__all__ = [
    "Column",
    "Schema",
    "changes",
    "class_agreement",
    "clip_activity",
    "compare",
    "decompose",
    "decompose_bands",
    "decompose_centred",
    "error_by_sigma",
    "gain_path",
    "guidance_information",
    "image_table",
    "measure_sweep",
    "nearest_distances",
    "pareto",
    "sample_metrics",
    "savings",
    "separation",
    "suggest_interval",
    "summarise",
    "summarise_by",
    "value_density",
]
