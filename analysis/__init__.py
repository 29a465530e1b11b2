"""Pure functions: traces and arrays in, tidy DataFrames out. No plotting, printing or file output."""

from scorescope.analysis import directions, fid, gaussian, guidance, information, statistics
from scorescope.analysis.directions import (
    find_direction,
    patch_trace,
    probe_scan,
    steer_curve,
    token_direction,
    trace_direction,
)
from scorescope.analysis.fid import frechet_distance, gaming_audit, kid
from scorescope.analysis.gaussian import compare_scores, solver_gains, suggest_skip
from scorescope.analysis.guidance import (
    audit,
    decompose,
    guidance_information,
    measure_sweep,
    paper_rule,
    suggest_interval,
)
from scorescope.analysis.information import attribute_loss, paired_classify, pairwise_information
from scorescope.analysis.statistics import Column, Schema, summarise_by

__all__ = [
    "Column",
    "Schema",
    "attribute_loss",
    "audit",
    "compare_scores",
    "decompose",
    "directions",
    "fid",
    "find_direction",
    "frechet_distance",
    "gaming_audit",
    "gaussian",
    "guidance",
    "guidance_information",
    "information",
    "kid",
    "measure_sweep",
    "paired_classify",
    "pairwise_information",
    "paper_rule",
    "patch_trace",
    "probe_scan",
    "solver_gains",
    "statistics",
    "steer_curve",
    "suggest_interval",
    "suggest_skip",
    "summarise_by",
    "token_direction",
    "trace_direction",
]
