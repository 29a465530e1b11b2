"""A figure of a paper as data: what it shows and needs, the numbers that it is drawn from, its caption, its oracle."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.reports.entries.material import Material

NEEDS = {
    "model": "a denoiser (--denoiser) or a pipeline (--pipeline)",
    "run": "a denoiser, a pipeline, or recorded traces (--trace)",
    "conditions": "a model with conditions and an unconditional branch, or traces of one",
    "weak": "a weaker model to guide with (--weak)",
    "checkpoints": "at least two checkpoints (--checkpoint NAME=MODEL, repeated)",
    "data": "images that the model was trained on, and others (--data FOLDER)",
    "labels": "classes of these images, as the shipped digits have them, or in Python `Data(..., labels=)`",
    "pictures": "samples that are images of one or three channels, with a range of values",
    "images": "two or more folders of images, real ones first (REAL FAKE)",
    "subject": "a subject: a denoiser with labelled images and a judge of attributes (--subject); of a pipeline, in "
    "Python, `reports.directions.pipeline_subject` makes one of pairs of prompts",
}
"""What a user brings, by the word that an entry has for it."""


@displayed
@checked
@dataclass(frozen=True, eq=False)
class Numbers:
    """What a figure is drawn from, and nothing else.

    Attributes
    ----------
    tables : mapping of str to DataFrame
        By name; the first is the figure's own.
    pictures : mapping of str to Tensor, shape (n, channel, y, x)
        What figures of images show.
    facts : mapping of str to object
        For the caption, beside those of the material; `how` stands in place of its sentence on samples and solver.
    why : str
        Why there is nothing to draw, where there is not: stands in place of axes.
    """

    tables: Mapping[str, pd.DataFrame]
    pictures: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""


@displayed
@checked
@dataclass(frozen=True, eq=False)
class Entry:
    """A named figure of the literature, for anybody's model.

    Attributes
    ----------
    name : str
        On the command line.
    shows : str
        What is plotted against what, as a phrase.
    cites : sequence of str
        Keys of `references.bib`; empty for a figure of our own.
    place : str
        Which figure or table of the paper, where we know its number.
    needs : sequence of str
        Words of `NEEDS`.
    numbers : callable
        Material to `Numbers`.
    draw : callable
        Numbers to a Figure; takes `style=`.
    caption : str
        A template: facts of the material and of the numbers by name.
    differs : str
        In what the set-up is another than the paper's.
    oracle : str
        What the numbers must be, where that is known in closed form; a test holds the entry to it.
    calls : mapping of str to int, or callable
        Denoiser evaluations a sample, at most, by what they are for: entries that share a purpose share the runs. Of
        an entry that needs a subject: of that one's denoiser, in all, as counted for the shipped shapes at 96 samples.
        A callable is given the material.
    calls_each : mapping of str to int
        The same for every checkpoint.
    refuses : callable
        Material to a reason why this entry cannot be made of it, beyond `needs`; "" where it can.
    one_panel : bool
        `draw` takes `ax=`: several checkpoints stand beside each other.
    """

    name: str
    shows: str
    needs: Sequence[str]
    numbers: Callable[[Material], Numbers]
    draw: Callable[..., Figure]
    caption: str
    oracle: str
    cites: Sequence[str] = ()
    place: str = ""
    differs: str = ""
    calls: Mapping[str, int] | Callable[[Material], Mapping[str, int]] = field(default_factory=dict)
    calls_each: Mapping[str, int] = field(default_factory=dict)
    refuses: Callable[[Material], str] = lambda material: ""
    one_panel: bool = False

    def __post_init__(self) -> None:
        if unknown := [need for need in self.needs if need not in NEEDS]:
            raise InputError("needs", found=", ".join(unknown), expected=f"some of {', '.join(NEEDS)}")

    @checked
    def calls_of(self, material: Material) -> dict[str, int]:
        """Denoiser evaluations a sample, at most, by what they are for, of all checkpoints that there are."""
        each = {purpose: len(material.checkpoints) * calls for purpose, calls in self.calls_each.items()}
        return {**(self.calls(material) if callable(self.calls) else self.calls), **each}

    @checked
    def why_not(self, material: Material) -> str:
        """What the material lacks for this figure, as a phrase; "" if nothing. Nothing is run."""
        lacking = [NEEDS[need] for need in self.needs if not material.has(need)]
        return f"it needs {', and '.join(lacking)}" if lacking else self.refuses(material)
