"""gaussian"""

from scorescope.reports.gaussian.report import build

__all__ = ["build"]
