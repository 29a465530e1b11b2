"""pipelines"""

from scorescope.probes.pipelines.level import Level

__all__ = [
    "Level",
]
