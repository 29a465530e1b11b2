"""What guidance does: the update at each noise level, where to guide at all, sweeps, and the quality of samples.

    table = decompose(trace)                               # one row a (sample, step, call): DECOMPOSITION
    summarise(table)                                       # means over samples with intervals, by noise level
    compare({"CFG": trace, "APG": other})                  # several runs side by side
    suggest_interval(unguided, share=0.9)                  # noise levels that hold 90 % of the information
    rows = sample_metrics(settings, value_range=(-1, 1))   # settings of `probes.sweep`: one row a (setting, sample)
    measure_sweep(settings, reference=real, rows=rows)     # every metric of each setting: METRICS
    parting(separation(trace, other))                      # where two paths part; both with Recording(keep=True)
    audit(guider, trace, paper=paper_rule(guider, 50))     # what a guider really computes, and in which space

Traces come from `probes.record`, `probes.replay` and `probes.sample`, settings from `probes.sweep`.
"""

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
from scorescope.analysis.guidance.quality import (
    attribute_agreement,
    class_agreement,
    class_scorer,
    error_by_sigma,
    nearest_distances,
)
from scorescope.analysis.guidance.setting_comparisons import changes, pareto
from scorescope.analysis.guidance.sweeps import METRICS, measure_sweep, sample_metrics

__all__ = [
    "DECOMPOSITION",
    "METRICS",
    "attribute_agreement",
    "audit",
    "changes",
    "class_agreement",
    "class_scorer",
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
