"""Many runs in one recording: which are done, which is next."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from scorescope.probes.recording.sink import Sink
from scorescope.probes.recording.steps import Recorder


class Runs:
    """Hands out the runs of a recording that are still to be made."""

    def __init__(self, recorder: Recorder, sink: Sink) -> None:
        self._recorder, self._sink = recorder, sink

    def __call__(self, specs: Sequence[Mapping[str, Any]], *, progress: bool = True) -> Iterator[Mapping[str, Any]]:
        """Each spec that has no finished run yet; the run ends when the next one is asked for.

        A run in which a denoiser or the scheduler raised is not finished, also where that was caught.
        """
        for number, spec in enumerate(tqdm(specs, desc="runs", disable=not progress, leave=False)):
            if not self._sink.is_finished(number, spec):
                self._sink.unreturned = 0
                self._recorder.begin_run(number, dict(spec))
                yield spec
                self._recorder.end_run()
