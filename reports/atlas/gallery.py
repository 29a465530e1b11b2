"""All figures of the atlas on one page, an instrument a section; a box with the reason for one that cannot be made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from scorescope.data.doors import checked
from scorescope.probes.models.denoiser import seconds_a_call
from scorescope.reports.atlas.catalogue import WINGS
from scorescope.reports.atlas.make import Made, drawn, make, plain_caption
from scorescope.reports.entries import Entry, Material
from scorescope.reports.page import theme
from scorescope.reports.page.numbers import duration
from scorescope.reports.page.pages import Outcome, ReportFigure, ReportWriter, Section
from scorescope.reports.page.styles import Style, style_of
from scorescope.reports.page.texts import say

BESIDE = "The PDF of each figure, its tables, caption and BibTeX entries are in the folder figures, by its name."
QUESTION = "Which figures of the field's papers can be made for this model, and what do they show?"


@checked
def make_all(
    out: Path | str,
    material: Material,
    *,
    names: Sequence[str] = (),
    command: str = "",
    style: str | Style = "paper-single",
) -> Outcome:
    """Make every figure that the material is enough for, and a page of all.

    Parameters
    ----------
    out : Path or str
        Folder: `index.html`, `figures/NAME.pdf` and what goes with each, and `numbers/`, by which a run that was cut
        off goes on.
    material : Material
        What they are made from.
    names : sequence of str
        Some of them; by default all.
    command : str
        What the manifest says made it.
    style : str or Style
        Of the PDF files; figures of the page are as wide as the page has them.
    """
    out, style = Path(out), style_of(style)
    chosen = {wing: [one for one in entries if not names or one.name in names] for wing, entries in WINGS.items()}
    every = [entry for entries in chosen.values() for entry in entries]
    reasons = {entry.name: entry.why_not(material) for entry in every}
    possible = [entry for entry in every if not reasons[entry.name]]
    if material.progress:
        say(cost(possible, material), err=True)
    request = "it was made in Python of a material that no command names"
    model = material.facts["model"]
    how: dict[str, Any] = {"command": command, "manifest": {"model": model}, "request": request}
    with (
        ReportWriter(out, name="atlas", title=f"Atlas: {model}", question=QUESTION, **how) as page,
        tqdm(desc="atlas", total=len(possible), disable=not material.progress) as bar,
    ):
        for wing, entries in chosen.items():
            gallery = _Gallery(entries, reasons, material, out, style, page.fail, bar.update)
            page.section(wing, "FID" if wing == "fid" else wing.capitalize(), gallery.section)
        page.manifest["methods"] = list(dict.fromkeys(key for entry in possible for key in entry.cites))
    return page.outcome


@checked
def cost(entries: Sequence[Entry], material: Material) -> str:
    """What figures take, as a sentence, by a call that is timed here: runs that they share count once."""
    named = [entry for entry in entries if "subject" in entry.needs]
    own = _evaluations([entry for entry in entries if entry not in named], material) * material.count
    parts = []
    if material.model is not None and own:
        x = torch.randn(material.count, *material.model.shape, device=material.device)
        seconds = seconds_a_call(material.model.denoiser, x, material.model.conditions(material.count)) * own / len(x)
        parts.append(f"at most {own} evaluations of the denoiser, about {duration(seconds)}")
    if material.subject is not None and named:
        subject, every = material.once("subject", material.subject), _evaluations(named, material)
        x = subject.images[: subject.batch]
        seconds = seconds_a_call(subject.denoiser, x, None) * every / len(x)
        parts.append(f"some {every} of the subject's, about {duration(seconds)}")
    if not parts:
        return f"{len(entries)} figures, without a call of the model"
    return (
        f"{len(entries)} figures: {', and '.join(parts)}, beside the analysis; what is made is kept, and fewer samples "
        "are asked for with --count"
    )


def _evaluations(entries: Sequence[Entry], material: Material) -> int:
    """Of all entries together: purposes that they share count once."""
    shared: dict[str, int] = {}
    for entry in entries:
        for purpose, calls in entry.calls_of(material).items():
            shared[purpose] = max(calls, shared.get(purpose, 0))
    return sum(shared.values())


@dataclass(frozen=True)
class _Gallery:
    """The figures of one instrument; one that fails is told of, and the others stand."""

    entries: Sequence[Entry]
    reasons: dict[str, str]
    material: Material
    out: Path
    style: Style
    failed: Callable[[str, BaseException], None]
    done: Callable[[], object]

    def section(self) -> Section:
        """All of them, last those that could not be made: a box with the reason."""
        last = sorted(self.entries, key=lambda entry: bool(self.reasons[entry.name]))
        return Section([self._figure(entry) for entry in last], text=BESIDE)

    def _figure(self, entry: Entry) -> ReportFigure:
        if why := self.reasons[entry.name]:
            return _box(entry, f"Not made: {why}")
        try:
            made = make(entry, self.material, folder=self.out / "numbers", style=self.style)
            made.save(self.out / "figures")
            return _on_page(made)
        except Exception as error:
            self.failed(entry.name, error)
            return _box(entry, f"It failed: {type(error).__name__}: {error}")
        finally:
            self.done()


def _box(entry: Entry, why: str) -> ReportFigure:
    return ReportFigure(entry.name, theme.said(why), f"{entry.name}: {entry.shows}.", f"{why}.")


def _on_page(made: Made) -> ReportFigure:
    figure = drawn(made.entry, made.numbers, "notebook")
    reading = f"{made.entry.name}: {made.entry.shows}."
    return ReportFigure(made.entry.name, figure, reading, plain_caption(made.caption))
