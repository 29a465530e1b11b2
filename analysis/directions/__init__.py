"""Directions of an attribute: where it is readable, where it is steerable, and whether its direction is stable.

    scan = probe_scan(activations, {"size": labels})       # activations of `probes.collect`
    scan.table                                             # a linear probe at every site and noise level
    values = activations.at("network.middle1", 3)
    direction = find_direction(values, labels, site="network.middle1", attribute="size", method="lda")
    curve = steer_curve(denoiser, direction, scores, target="size", seeds=range(32), intervals=windows(sigmas, 4))
    curve.verdicts                                         # steerable or not, against directions of the same norm
    judge_together([curve.verdicts, other.verdicts])       # corrected for their number
    direction_stability(values, labels)                    # split-half and bootstrap cosines against their null
    traced = trace_direction(denoiser, attribute="size", seeds=range(64), scores=scores)
    traced.landmarks                                       # readable, visible, steerable, committed: from which level
    patch_trace(denoiser, clean=a, corrupted=b, sites=["network.middle1"], metric=metric, seeds=range(24)).recovery
    token_direction(denoiser, plus, minus, bank=bank).direction        # in condition tokens

Directions are `probes.Direction`s: they are saved, loaded and added in pipelines by `probes.intervene`.
"""

from scorescope.analysis.directions.carrying import carry_direction, jacobian_carry, judge_transport, level_intervals
from scorescope.analysis.directions.comparison import compare_directions
from scorescope.analysis.directions.emergence import Thresholds, trace_direction
from scorescope.analysis.directions.finding import as_direction, direction_angles, directions_by_level, find_direction
from scorescope.analysis.directions.noise_intervals import delays, windows
from scorescope.analysis.directions.patching import patch_once, patch_trace
from scorescope.analysis.directions.probing import probe_scan
from scorescope.analysis.directions.recovery import PatchTrace
from scorescope.analysis.directions.stability import direction_stability, effective_dimension, step_cosines
from scorescope.analysis.directions.steered import SteerCurve
from scorescope.analysis.directions.steering import steer_curve
from scorescope.analysis.directions.steering_effects import steering_effect, transport_effect
from scorescope.analysis.directions.steering_tables import QUANTITIES
from scorescope.analysis.directions.token_directions import TokenDirection, label_pairs, linearity_gap, token_direction
from scorescope.analysis.directions.verdicts import judge_together

__all__ = [
    "QUANTITIES",
    "PatchTrace",
    "SteerCurve",
    "Thresholds",
    "TokenDirection",
    "as_direction",
    "carry_direction",
    "compare_directions",
    "delays",
    "direction_angles",
    "direction_stability",
    "directions_by_level",
    "effective_dimension",
    "find_direction",
    "jacobian_carry",
    "judge_together",
    "judge_transport",
    "label_pairs",
    "level_intervals",
    "linearity_gap",
    "patch_once",
    "patch_trace",
    "probe_scan",
    "steer_curve",
    "steering_effect",
    "step_cosines",
    "token_direction",
    "trace_direction",
    "transport_effect",
    "windows",
]
