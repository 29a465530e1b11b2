"""A run that is compared, wherever it comes from: a trace folder, a report on a pipeline, a sweep, memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.probes.experiments.pipeline_calls import decoded_images
from scorescope.probes.recording.trace import Trace
from scorescope.probes.sampling.sample import Run

Source = Path | str | Trace | Run


@displayed
@dataclass(frozen=True, eq=False)
class Recorded:
    """A run that is compared.

    Attributes
    ----------
    name : str
        What the page calls it.
    trace : Trace
        What was recorded.
    images : mapping of int to Tensor
        What it made, by sample; empty where that was not kept.
    value_range : (float, float) or None
        Range of the images.
    """

    name: str
    trace: Trace
    images: Mapping[int, Tensor]
    value_range: tuple[float, float] | None


def open_run(name: str, source: Source) -> Recorded:
    """A run by its name on the page.

    Raises
    ------
    InputError
        For a folder that is no trace, and samples that were drawn without recording.
    """
    if isinstance(source, Path | str):
        folder = trace_folder(source)
        return Recorded(name, Trace.open(folder), decoded_images(folder.parent / "decoded"), (-1.0, 1.0))
    if isinstance(source, Trace):
        return Recorded(name, source, {}, None)
    if source.trace is None:
        raise InputError("runs", found=f"{name}, without a trace", expected="sample(..., record=Recording())")
    given = source.trace.manifest.get("recording", {}).get("value_range")
    return Recorded(
        name, source.trace, dict(enumerate(source.samples)), None if given is None else (given[0], given[1])
    )


def trace_folder(path: Path | str) -> Path:
    """The trace in a folder, or in that of a report on a pipeline."""
    inside = Path(path) / "runs" / "own" / "trace"
    return inside if inside.is_dir() else Path(path)
