"""guidance"""

from scorescope.analysis.guidance.decomposition import (
    DECOMPOSITION,
    compare,
    decompose,
    decompose_bands,
    decompose_centred,
    summarise,
)
from scorescope.analysis.guidance.guider_audit import audit
from scorescope.analysis.guidance.images import image_table, value_density
from scorescope.analysis.guidance.information import guidance_information, suggest_interval
from scorescope.analysis.guidance.paired_runs import parting, savings, separation
from scorescope.analysis.guidance.paper_rules import paper_rule
from scorescope.analysis.guidance.paths import clip_activity, clip_share, decoded_path, gain_path, momentum_updates
from scorescope.analysis.guidance.quality import class_agreement, error_by_sigma, nearest_distances
from scorescope.analysis.guidance.sweeps import changes, measure_sweep, pareto, sample_metrics

__all__ = [
    "DECOMPOSITION",
    "audit",
    "changes",
    "class_agreement",
    "clip_activity",
    "clip_share",
    "compare",
    "decoded_path",
    "decompose",
    "decompose_bands",
    "decompose_centred",
    "error_by_sigma",
    "gain_path",
    "guidance_information",
    "image_table",
    "measure_sweep",
    "momentum_updates",
    "nearest_distances",
    "paper_rule",
    "pareto",
    "parting",
    "sample_metrics",
    "savings",
    "separation",
    "suggest_interval",
    "summarise",
    "value_density",
]
