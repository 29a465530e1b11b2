"""statistics"""

from scorescope.analysis.directions.noise_intervals import delays, windows
from scorescope.analysis.statistics.splits import grouped_split
from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.analysis.statistics.tables import Column, Schema

__all__ = [
    "Column",
    "Schema",
    "delays",
    "grouped_split",
    "summarise_by",
    "windows",
]
