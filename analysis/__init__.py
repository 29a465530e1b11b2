"""Pure functions: traces and arrays in, tidy DataFrames out. No plotting, printing or file output.

    table = decompose(trace)                       # probes.record(...) or probes.sample(...)
    find_column("norm_floor")                      # what a column of any table means

The wings, each with a recipe of its own (`help(guidance)`):

    guidance       what the guidance update does at each noise level, and what another rule would have done
    fid            where a Frechet distance comes from, and how much of it is chosen images
    gaussian       where along the noise axis a denoiser is a law with a closed form, and what that saves
    information    what a condition says about an image: in nats, as a classifier, as what noise hides
    directions     where an attribute is readable, where it is steerable, whether its direction is stable
    attention      what text does inside a pipeline: where it is looked at, where that matters, what reads it
    trajectories   paths of a sampler: what a solver gets wrong at which step, and what its calls give
    steps          which steps of a sampler matter: damage of a changed step, proxies of it, few-step models
    inside         sparse features inside a denoiser: what they keep, read and carry, by noise level
    units          single channels of a layer: where they fire, what editing them changes
    groups         groups that a judge sees in images: their shares along sampling and by guidance rule
    changes        what changed between two recorded runs, and between denoisers at the same noisy points
    work           analyses that sample, cut into chunks for processes, clusters and ranks
    statistics     intervals, splits, and the declared columns of every table

The names below are the entries; all others are in their wings.
"""

from typing import TYPE_CHECKING

from scorescope.data.wings import late_face

if TYPE_CHECKING:
    from scorescope.analysis import (
        attention,
        changes,
        directions,
        fid,
        gaussian,
        groups,
        guidance,
        information,
        inside,
        statistics,
        steps,
        trajectories,
        units,
        work,
    )
    from scorescope.analysis.directions import (
        find_direction,
        patch_trace,
        probe_scan,
        steer_curve,
        token_direction,
        trace_direction,
    )
    from scorescope.analysis.fid import companion_table, frechet_distance, gaming_audit, kid
    from scorescope.analysis.gaussian import compare_scores, memorisation, solver_gains, suggest_skip
    from scorescope.analysis.guidance import (
        audit,
        decompose,
        guidance_information,
        measure_sweep,
        paper_rule,
        suggest_interval,
    )
    from scorescope.analysis.information import attribute_loss, paired_classify, pairwise_information
    from scorescope.analysis.statistics import Column, Schema, find_column, summarise_by
else:
    __getattr__, __dir__ = late_face(__name__)

__all__ = [
    "Column",
    "Schema",
    "attention",
    "attribute_loss",
    "audit",
    "changes",
    "companion_table",
    "compare_scores",
    "decompose",
    "directions",
    "fid",
    "find_column",
    "find_direction",
    "frechet_distance",
    "gaming_audit",
    "gaussian",
    "groups",
    "guidance",
    "guidance_information",
    "information",
    "inside",
    "kid",
    "measure_sweep",
    "memorisation",
    "paired_classify",
    "pairwise_information",
    "paper_rule",
    "patch_trace",
    "probe_scan",
    "solver_gains",
    "statistics",
    "steer_curve",
    "steps",
    "suggest_interval",
    "suggest_skip",
    "summarise_by",
    "token_direction",
    "trace_direction",
    "trajectories",
    "units",
    "work",
]
