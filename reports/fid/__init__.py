"""fid"""

from scorescope.reports.fid.report import build

__all__ = ["build"]
