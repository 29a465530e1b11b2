"""directions"""

from scorescope.analysis.directions.carrying import carry_direction, jacobian_carry, judge_transport, level_intervals
from scorescope.analysis.directions.comparison import compare_directions
from scorescope.analysis.directions.emergence import trace_direction
from scorescope.analysis.directions.finding import as_direction, direction_angles, directions_by_level, find_direction
from scorescope.analysis.directions.patching import patch_once, patch_trace
from scorescope.analysis.directions.probing import probe_scan
from scorescope.analysis.directions.recovery import PatchTrace
from scorescope.analysis.directions.stability import direction_stability, effective_dimension, step_cosines
from scorescope.analysis.directions.steering import SteerCurve, steer_curve
from scorescope.analysis.directions.steering_effects import steering_effect, transport_effect
from scorescope.analysis.directions.steering_tables import QUANTITIES
from scorescope.analysis.directions.token_directions import TokenDirection, label_pairs, linearity_gap, token_direction
from scorescope.analysis.directions.verdicts import judge_together

__all__ = [
    "QUANTITIES",
    "PatchTrace",
    "SteerCurve",
    "TokenDirection",
    "as_direction",
    "carry_direction",
    "compare_directions",
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
]
