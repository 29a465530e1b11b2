"""recording"""

from scorescope.probes.recording.kept_sites import Site
from scorescope.probes.recording.plan import BudgetError
from scorescope.probes.recording.session import record
from scorescope.probes.recording.store import TraceError
from scorescope.probes.recording.trace import Recording, ScalarRecorder, Trace, Visit

__all__ = [
    "BudgetError",
    "Recording",
    "ScalarRecorder",
    "Site",
    "Trace",
    "TraceError",
    "Visit",
    "record",
]
