"""Reports that were made, together: read back whole, what differs between two makings, many checkpoints in one table.

from scorescope.reports.studies import changed_tables, read_made

made = read_made("report/guidance")                   # every table against its hash in the manifest
made.table("steps")
changed_tables(made, read_made("again/guidance"))     # a row each table that differs
bibtex("report/guidance")                             # entries of the methods that it used, for a paper
"""

from scorescope.reports.studies import figures
from scorescope.reports.studies.bibliography import bibtex
from scorescope.reports.studies.differences import changed_facts, changed_inputs, changed_tables
from scorescope.reports.studies.made import MadeReport, read_made

__all__ = ["MadeReport", "bibtex", "changed_facts", "changed_inputs", "changed_tables", "figures", "read_made"]
