"""directions"""

from scorescope.reports.directions.report import build

__all__ = ["build"]
