"""guidance"""

from scorescope.reports.guidance.report import build

__all__ = ["build"]
