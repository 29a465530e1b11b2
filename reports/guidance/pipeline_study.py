"""What the guidance report on a pipeline studies: its own guidance, other rules at its states, rules sampled if asked.

Everything that is sampled lies on disk below the report's folder, so that a run that was cut off goes on where it was.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from scorescope.analysis.guidance.decomposition import decompose, summarise
from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.probes.experiments.encoded_once import encoded_once
from scorescope.probes.experiments.pipeline_calls import (
    STEPS,
    RecordedCalls,
    decoded_result,
    default_steps,
    record_calls,
)
from scorescope.probes.experiments.pipeline_description import PipelineDescription, describe_pipeline
from scorescope.probes.experiments.replay import replay_all
from scorescope.probes.experiments.sweep import Setting, sweep
from scorescope.probes.guidance import (
    APG,
    CFG,
    CFGZeroStar,
    MagnitudeAware,
    Rescaled,
    Rule,
    TangentialCFG,
)
from scorescope.probes.recording.estimate import in_words
from scorescope.probes.recording.plan import Keep
from scorescope.probes.recording.trace import Recording, Trace
from scorescope.reports.page.numbers import duration

RULES: dict[str, Callable[[float], Rule]] = {
    "cfg": CFG,
    "apg": APG,
    "rescaled": lambda weight: Rescaled(CFG(weight), phi=0.7),
    "tangential": TangentialCFG,
    "cfg-zero-star": CFGZeroStar,
    "magnitude-aware": MagnitudeAware,
}
"""Rules by the name that the command line takes, made from a weight."""

RANGE = (-1.0, 1.0)  # of what decoders of diffusers put out
OWN = "pipeline"  # the setting of the pipeline's own guidance


@displayed
@dataclass(frozen=True, eq=False)
class PipelineStudy:
    """A pipeline, the calls that are made of it, and what was recorded of them once for all sections.

    Attributes
    ----------
    pipe : object
        A diffusers pipeline.
    calls : sequence of mapping
        From `plan_calls`.
    arguments : mapping
        Arguments that all calls share.
    folder : Path
        Where recordings are kept.
    rules, weights
        What is sampled beside the pipeline's own guidance: every rule at every weight; none without rules.
    keep : str
        See `record`.
    batch : int
        Images a call, of the sampled rules.
    progress : bool
        Show progress bars.
    failed : callable
        Told of what cannot be sampled: its name and the error.
    options : mapping
        Further arguments of `record` and `guide`: modules, level, branches.
    """

    pipe: Any
    calls: Sequence[Mapping[str, Any]]
    arguments: Mapping[str, Any]
    folder: Path
    rules: Sequence[str] = ()
    weights: Sequence[float] = ()
    keep: Keep = "branches"
    batch: int = 4
    progress: bool = True
    failed: Callable[[str, BaseException], None] = lambda part, error: None
    options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def described(self) -> PipelineDescription:
        """What a run of two steps shows."""
        seen = {name: value for name, value in self.options.items() if name in ("modules", "level")}
        return describe_pipeline(self.pipe, self.calls[0], arguments=self.arguments, **seen)

    @property
    def settings_asked(self) -> int:
        """How many settings are sampled beside the pipeline's own guidance."""
        return len(self.rules) * len(self.weights)

    def cost(self) -> str:
        """What is going to be made, and what it takes: calls, time by the steps that were timed, disk."""
        each = [int({**self.arguments, **call}.get(STEPS) or default_steps(self.pipe)) for call in self.calls]
        images = len(self.calls) * (1 + self.settings_asked)
        memory = self.described.memory.set_index("keep")["bytes"]
        size = memory.get(str(self.keep), memory["all"]) * sum(each)
        steps = sum(each) * (1 + self.settings_asked)
        calls = self.described.denoisers["calls_a_step"].sum() * steps
        needed = duration(self.described.seconds * steps)
        return (
            f"{images} images of {told_range(each)} steps, about {calls:.0f} denoiser calls that take {needed} "
            f"(from {self.described.seconds:.2g} s a step), {in_words(size)} of arrays on disk"
        )

    @cached_property
    def recorded(self) -> RecordedCalls:
        """The calls under the pipeline's own guidance."""
        return record_calls(
            self.pipe, self.calls, folder=self.folder / "own", arguments=self.arguments, keep=self.keep,
            progress=self.progress, **self.options,
        )  # fmt: skip

    @cached_property
    def rows(self) -> pd.DataFrame:
        """Their decomposition."""
        return decompose(self.recorded.trace)

    @property
    def guided(self) -> bool:
        """Whether an update is known at any step."""
        return bool((self.rows["update_norm"] > 0).any())

    @property
    def why_not(self) -> str:
        """Why no update is known."""
        return "; ".join(sorted(set(self.rows["missing"]) - {""})) or "the branches are equal at every step"

    @property
    def weight(self) -> float:
        """The weight of the pipeline's own guidance; NaN where none is known or it differs."""
        found = self.rows["path_weight"].unique()
        return float(found[0]) if len(found) == 1 else float("nan")

    @cached_property
    def replayed(self) -> dict[str, Trace]:
        """Every rule at the recorded states, at the pipeline's own weight."""
        made = {name: make(self.weight) for name, make in RULES.items() if name != "cfg"}
        traces = replay_all(self.recorded.trace, list(made.values()), progress=self.progress)
        return dict(zip(made, traces, strict=True))

    @cached_property
    def replayed_steps(self) -> pd.DataFrame:
        """Their decomposition, step by step, and that of the pipeline's own rule; `setting` tells them apart."""
        tables = {OWN: self.rows, **{name: decompose(trace) for name, trace in self.replayed.items()}}
        return pd.concat([summarise(rows).assign(setting=name) for name, rows in tables.items()], ignore_index=True)

    @cached_property
    def swept(self) -> list[Setting]:
        """Every rule at every weight, from the same seeds and prompts; none where that fails, which is noted."""
        if not self.settings_asked:
            return []
        try:
            return self._sweep()
        except Exception as error:
            self.failed("sampling of rules", error)
            return []

    def _sweep(self) -> list[Setting]:
        rules = {name: RULES[name](1.0) for name in self.rules}
        condition, shared = _by_row(self.calls)
        with encoded_once(self.pipe):
            return sweep(
                self.pipe, rules, weights=self.weights, condition=condition,
                seeds=[int(call["seed"]) for call in self.calls],
                arguments={**self.arguments, **shared}, call=decoded_result, options=dict(self.options),
                record=Recording(value_range=None), folder=self.folder / "swept", batch=self.batch,
                progress=self.progress,
            )  # fmt: skip

    @property
    def other_rules(self) -> list[Rule]:
        """Rules that were replayed or sampled so far."""
        made = vars(self)
        return [*(RULES[name](1.0) for name in made.get("replayed", ())), *(one.rule for one in made.get("swept", ()))]

    @cached_property
    def sets(self) -> dict[tuple[str, float], Tensor]:
        """Decoded images by rule and weight; empty where the calls made images of several shapes."""
        own = self.recorded.images
        sets = {} if own is None else {(OWN, self.weight): own}
        sets |= {(one.name.partition(",")[0], one.rule.weight): one.run.samples for one in self.swept}
        finite = {key: images[torch.isfinite(images).flatten(1).all(1)] for key, images in sets.items()}
        return {key: images for key, images in finite.items() if len(images)}

    @property
    def not_finite(self) -> int:
        """Images that are left out of `sets`, because a value of theirs is not finite."""
        made = [self.recorded.images, *(one.run.samples for one in self.swept)]
        return sum(len(images) for images in made if images is not None) - sum(map(len, self.sets.values()))


def told_range(counts: Sequence[int]) -> str:
    """One number, or the least and the most."""
    return f"{min(counts)}" if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"


def check_rules(rules: Sequence[str], weights: Sequence[float]) -> None:
    """Raise `InputError` for rules that have no name here, one of rules and weights without the other, and repeats."""
    names = [f"{weight:g}" for weight in weights]
    if len(set(rules)) < len(rules) or len(set(names)) < len(names):
        raise InputError("rules, weights", found=", ".join([*rules, *names]), expected="each once")
    if unknown := [name for name in rules if name not in RULES]:
        raise InputError("rules", found=", ".join(unknown), expected=f"among {', '.join(RULES)}")
    if bool(rules) != bool(weights):
        found = f"{len(rules)} rules, {len(weights)} weights"
        raise InputError("rules, weights", found=found, expected="both, or neither")


def _by_row(calls: Sequence[Mapping[str, Any]]) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Arguments with one row an image, for calls of several images, and those that all images share."""
    names = dict.fromkeys(name for call in calls for name in call if name != "seed")
    if uneven := [name for name in names if any(name not in call for call in calls)]:
        found = f"{uneven[0]} for some prompts alone"
        raise InputError("prompts", found=found, expected="it for all, where rules are sampled (--rules)")
    columns: dict[str, list[Any]] = {name: [call[name] for call in calls] for name in names}
    lists = {name: [one for row in rows for one in row] for name, rows in columns.items() if _is_row(rows)}
    texts = {name: rows for name, rows in columns.items() if all(isinstance(value, str) for value in rows)}
    rest = {name: rows for name, rows in columns.items() if name not in lists and name not in texts}
    if differing := [name for name, rows in rest.items() if any(row != rows[0] for row in rows)]:
        found = f"{differing[0]} that differs between prompts"
        raise InputError("prompts", found=found, expected="the same for all, where rules are sampled (--rules)")
    condition = texts | lists
    if not condition:
        raise InputError("prompts", found="no prompt and no class", expected="one of them, where rules are sampled")
    return condition, {name: rows[0] for name, rows in rest.items()}


def _is_row(rows: Sequence[Any]) -> bool:
    """Whether each is a list of one, as a class-conditional pipeline takes its labels."""
    return all(isinstance(row, list) and len(row) == 1 for row in rows)
