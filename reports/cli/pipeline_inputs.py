"""What options of the command line say of a pipeline: which one, the rows to call it with, shared arguments."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scorescope.data.display import displayed
from scorescope.data.errors import InputError
from scorescope.data.prompts import read_prompts
from scorescope.probes.experiments.pipeline_calls import STEPS, example_row, takes
from scorescope.probes.models.load_pipeline import load_pipeline

QUICK = 8  # images of a quick report
SCALES = ("guidance_scale", "true_cfg_scale")


@displayed
@dataclass(frozen=True)
class PipelineOptions:
    """Options as they were given.

    Attributes
    ----------
    source, device, dtype, scheduler, config, pickles
        See `load_pipeline`.
    prompts : Path or None
        A file for `read_prompts`.
    classes : str
        Class labels, as "0,207".
    steps, scale : int, float or None
        Arguments of the call.
    settings : sequence of str
        More of them, as "height=512".
    """

    source: str
    device: str = "cpu"
    dtype: str = "float32"
    scheduler: str | None = None
    config: str | None = None
    pickles: bool = False
    prompts: Path | None = None
    classes: str = ""
    steps: int | None = None
    scale: float | None = None
    settings: Sequence[str] = ()

    def load(self) -> Any:
        """The pipeline."""
        return load_pipeline(
            self.source, device=self.device, dtype=self.dtype, scheduler=self.scheduler, config=self.config,
            pickles=self.pickles,
        )  # fmt: skip

    def rows(self, pipe: Any) -> list[dict[str, Any]]:
        """What one image each is made of.

        Raises
        ------
        InputError
            For prompts or classes where the pipeline takes none, and for none where it needs some.
        """
        if self.prompts is not None and self.classes:
            raise InputError("--prompts, --classes", found="both", expected="one of them")
        if self.prompts is not None:
            return read_prompts(self.prompts)
        if self.classes:
            return [{"class_labels": [label]} for label in numbers(self.classes, "--classes")]
        if takes(pipe, "prompt"):
            found = f"no prompts for a {type(pipe).__name__}"
            raise InputError("--prompts", found=found, expected="a .txt, .csv or .jsonl file of prompts")
        if takes(pipe, "class_labels"):
            found = f"no classes for a {type(pipe).__name__}"
            raise InputError("--classes", found=found, expected="class labels, as 0,207")
        return [{}]

    def example(self, pipe: Any) -> dict[str, Any]:
        """One row, made up where none is given."""
        return self.rows(pipe)[0] if self.prompts is not None or self.classes else example_row(pipe)

    def arguments(self, pipe: Any) -> dict[str, Any]:
        """What all calls share.

        Raises
        ------
        InputError
            For a setting that is no key=value, one that is given twice, and --scale where two arguments are scales.
        """
        given: dict[str, Any] = {}
        for setting in self.settings:
            key, equals, value = setting.partition("=")
            if not equals or not key or key in given:
                raise InputError("--set", found=repr(setting), expected="key=value, each key once")
            given[key] = _value(value)
        if self.steps is not None:
            _add(given, STEPS, self.steps, "--steps")
        if self.scale is not None:
            scales = [name for name in SCALES if takes(pipe, name)]
            if len(scales) != 1:
                found = f"--scale for a {type(pipe).__name__}, which takes {' and '.join(scales) or 'none'}"
                expected = " or ".join(f"--set {name}={self.scale:g}" for name in scales) or "no scale"
                raise InputError("--scale", found=found, expected=expected)
            _add(given, scales[0], self.scale, "--scale")
        return given


def numbers(text: str, option: str) -> list[int]:
    """Whole numbers from 0, as "0,3,8-11".

    Raises
    ------
    InputError
        Naming the option.
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise InputError(option, found=repr(text), expected="whole numbers, as 0,3,8-11")
        found += range(int(first), int(last if dash else first) + 1)
    return found


def weights_of(text: str) -> list[float]:
    """Guidance weights, as "1,2,4"; none of an empty text."""
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError:
        raise InputError("--weights", found=repr(text), expected="numbers, as 1,2,4") from None


def _add(given: dict[str, Any], name: str, value: Any, option: str) -> None:
    if name in given:
        raise InputError(option, found=f"{name} in --set too", expected="one of them")
    given[name] = value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
