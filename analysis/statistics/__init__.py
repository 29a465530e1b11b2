"""Statistics of tidy tables, and what their columns mean: what the other wings stand on.

    find_column("norm_floor")                             # table, column, unit, meaning, wherever it stands
    guidance.DECOMPOSITION.describe()                     # every column of one table
    summarise_by(long_table, by=["step", "quantity"])     # mean, median and interval over samples, group by group
    split = grouped_split(pairs, seed=0)                  # train, validation, test: no group on two sides
    SCHEMA = Schema("mine", (Column("sigma", float, "data", "noise level"),))
    SCHEMA.check(mine)                                    # the columns declared, in order, or an InputError

Samples, not rows, are what intervals draw again: rows that share a sample stay together.
"""

from scorescope.analysis.statistics.splits import Split, grouped_split
from scorescope.analysis.statistics.summaries import summarise_by
from scorescope.analysis.statistics.tables import Column, Schema, find_column

__all__ = ["Column", "Schema", "Split", "find_column", "grouped_split", "summarise_by"]
