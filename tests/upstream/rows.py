"""A pipeline is run as it is and under `record`: whether recording was shown, and the facts that it found."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scorescope.data.errors import InputError
from scorescope.probes import record
from scorescope.probes.pipelines.find import denoisers

SHOWN, PARTLY, REFUSED, UNBUILT = "shown", "in part", "refused", "not built"
_HOW = "how the branches make the prediction is not proved"
STATES = (SHOWN, PARTLY, REFUSED, UNBUILT)


@dataclass(frozen=True)
class Row:
    """What was seen of one pipeline class.

    Attributes
    ----------
    pipeline : str
        Its class.
    state : str
        `shown`: two steps were recorded, the output is bit for bit that of the bare pipeline, every step has its
        noise level, and its branches are told apart or it has one. `in part`: recorded, and the output is the same, but
        levels or branches are missing for the reason given. `refused`: an error says why. `not built`: there was
        nothing to run.
    reason : str
        Why not `shown`.
    denoisers : str
        Components that are recorded, called or not.
    calls : str
        Denoiser calls of a step, each with the number of its branches, and how these lie.
    axes : str
        Axes of the state, that of samples included.
    scheduler : str
        Class that stepped.
    space : str
        What its predictions are.
    rule : str
        How the branches make the prediction.
    built_by : str
        Where the tiny pipeline comes from.
    """

    pipeline: str
    state: str
    reason: str = ""
    denoisers: str = ""
    calls: str = ""
    axes: str = ""
    scheduler: str = ""
    space: str = ""
    rule: str = ""
    built_by: str = ""

    def line(self) -> str:
        """The row of a tab-separated table."""
        return "\t".join(" ".join(value.split()) for value in asdict(self).values())


def examine(name: str, pipe: Any, arguments: Callable[[], Mapping[str, Any]], built_by: str = "") -> Row:
    """Run a pipeline bare and recorded, two steps of it.

    Parameters
    ----------
    name : str
        Its class.
    pipe : object
        The pipeline.
    arguments : callable
        Gives the arguments of its call, drawn anew.
    built_by : str
        Where it comes from.
    """
    _fill_zeros(pipe)
    row = _seen(name, pipe, arguments, built_by)
    if row.reason.startswith("equal"):  # the network hardly hears its prompt, as those of random weights do
        _louden(pipe)
        louder = _seen(name, pipe, arguments, built_by)
        row = louder if louder.state == SHOWN else row
    return row


def _seen(name: str, pipe: Any, arguments: Callable[[], Mapping[str, Any]], built_by: str) -> Row:
    try:
        bare = _run(pipe, arguments)
    except Exception as error:
        return Row(name, UNBUILT, f"does not run as it is: {said(error)}", built_by=built_by)
    try:
        found = ", ".join(denoisers(pipe, None))
        with record(pipe, progress=False) as trace:
            recorded = _run(pipe, arguments)
    except InputError as error:
        return Row(name, REFUSED, said(error), built_by=built_by)
    if not _same(bare, recorded):
        return Row(name, PARTLY, "the recorded run came out different", found, built_by=built_by)
    return Row(name, *_judged(trace), found, *_facts(trace), built_by)


def _run(pipe: Any, arguments: Callable[[], Mapping[str, Any]]) -> Any:
    torch.manual_seed(0)
    np.random.seed(0)
    given = dict(arguments())
    if given.get("prompt") is not None and given["prompt"] == given.get("negative_prompt"):
        given["prompt"] = "a lighthouse"
    if "num_inference_steps" in given and "strength" not in given:
        given["num_inference_steps"] = 2
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return pipe(**given)


def _fill_zeros(pipe: Any) -> None:
    """Give weights that begin as zeros a value: a network that says nothing tells no branches apart."""
    generator = torch.Generator().manual_seed(0)
    for part in getattr(pipe, "components", {}).values():
        for weight in part.parameters() if isinstance(part, nn.Module) else ():
            if weight.is_floating_point() and not (weight.isfinite().all() and weight.any()):
                with torch.no_grad():
                    weight.copy_(0.02 * torch.randn(weight.shape, generator=generator))


def _louden(pipe: Any) -> None:
    """Let matrices of the denoisers keep the size of what they are given."""
    for part in denoisers(pipe, None).values():
        for weight in part.parameters():
            if weight.ndim > 1 and (size := weight.std()) > 0:
                with torch.no_grad():
                    weight.mul_(max(1.0, float(weight[0].numel() ** -0.5 / size)))


def _judged(trace: Any) -> tuple[str, str]:
    """State and reason: what is missing in any step."""
    table = trace.scalars
    if trace.status != "complete" or not len(table):
        return PARTLY, f"{trace.status}, {len(table)} steps"
    lacks = [note for note in table["note"].unique() if note] if table["sigma"].isna().any() else []
    unknown = table["rule"].isin(("unknown", "equal")) | (table["rule"].ne("none") & table["missing"].ne(""))
    found = table.loc[unknown, ["rule", "missing"]].drop_duplicates()
    lacks += [f"{rule}: {why or _HOW}" for rule, why in found.itertuples(index=False)]
    return (PARTLY, "; ".join(lacks)) if lacks else (SHOWN, "")


def _facts(trace: Any) -> Iterator[str]:
    """Calls of a step, axes of the state, scheduler, space and rule; more than one where steps differ."""
    arrays = trace.arrays
    found = {
        "calls": [_layout(step.hypothesis) for step in arrays.proved],
        "axes": [str(len(event["shape"])) for event in arrays.events],
        "scheduler": [part["class"] for part in trace.manifest["schedulers"].values()],
        "space": [event["level"]["space"] for event in arrays.events],
        "rule": list(trace.scalars["rule"]),
    }
    for values in found.values():
        yield " or ".join(dict.fromkeys(values))


def _layout(hypothesis: Mapping[str, Any] | None) -> str:
    """Modules called, how many branches each call holds, how these were cut out and how they lie."""
    if hypothesis is None:
        return ""
    return " ".join((*hypothesis["modules"], str(hypothesis["parts"]), hypothesis["view"], hypothesis["order"]))


def _same(first: Any, second: Any) -> bool:
    """Whether two outputs are the same, bit for bit."""
    if isinstance(first, Tensor):
        return torch.equal(first.nan_to_num(), second.nan_to_num())
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    if hasattr(first, "vertices") or hasattr(first, "__dict__"):
        return type(first) is type(second) and _same(vars(first), vars(second))
    return bool(first == second)


def said(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).split("\n") if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]
