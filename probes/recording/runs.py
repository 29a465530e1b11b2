"""Many runs in one recording: which are done, which is next."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from scorescope.data.errors import InputError
from scorescope.probes.recording.sink import Sink
from scorescope.probes.recording.steps import Recorder


class Runs:
    """Hands out the runs of a recording that are still to be made."""

    def __init__(self, recorder: Recorder, sink: Sink, is_cut_off: Callable[[], bool]) -> None:
        self._recorder, self._sink, self._is_cut_off = recorder, sink, is_cut_off

    def __call__(self, specs: Sequence[Mapping[str, Any]], *, progress: bool = True) -> Iterator[Mapping[str, Any]]:
        """Each spec that has no finished run yet; the run ends when the next one is asked for.

        What is noted of a spec is what JSON makes of it. A run in which a denoiser or the scheduler raised is not
        finished, also where that was caught; nor is one in which a pipeline was left that says when it is done.

        Raises
        ------
        InputError
            For a spec that JSON does not know, or another than the trace has under this number.
        """
        whole = [(spec, _plain(spec, number)) for number, spec in enumerate(specs)]
        for number, (spec, plain) in enumerate(tqdm(whole, desc="runs", disable=not progress, leave=False)):
            if not self._sink.is_finished(number, plain):
                self._sink.unreturned = 0
                self._recorder.begin_run(number, plain)
                yield spec
                self._recorder.cut_off = self._is_cut_off()
                self._recorder.end_run()
                self._recorder.cut_off = False


def _plain(spec: Mapping[str, Any], number: int) -> dict[str, Any]:
    """A spec as it comes back from the disk: numbers of numpy are plain ones, and tuples lists."""
    if not isinstance(spec, Mapping):
        raise InputError(f"specs[{number}]", found=f"a {type(spec).__name__}", expected="a mapping")
    plain = {}
    for key, value in spec.items():
        if not isinstance(key, str):
            raise InputError(f"specs[{number}]", found=f"the key {key!r}", expected="keys that are strings")
        try:
            plain[key] = json.loads(json.dumps(value, default=_number))
        except (TypeError, ValueError) as error:
            raise InputError(f"specs[{number}][{key!r}]", found=str(error), expected="a value for JSON") from error
    return plain


def _number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__}")
