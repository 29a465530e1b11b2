"""All figures of the atlas on one page; one that cannot be made is a line with its reason."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from tqdm.auto import tqdm

from scorescope.data.doors import checked
from scorescope.probes.models.denoiser import seconds_a_call
from scorescope.reports.atlas.catalogue import catalogue
from scorescope.reports.atlas.make import drawn, make
from scorescope.reports.entries import Entry, Material
from scorescope.reports.page.numbers import duration
from scorescope.reports.page.pages import Outcome, ReportFigure, ReportTable, ReportWriter, Section
from scorescope.reports.page.styles import Style
from scorescope.reports.page.texts import say

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
    out, entries = Path(out), _chosen(names)
    reasons = {entry.name: entry.why_not(material) for entry in entries}
    possible = [entry for entry in entries if not reasons[entry.name]]
    if material.progress:
        say(cost(possible, material), err=True)
    request = "it was made of an atlas, which is asked for by its own command"
    how = {"command": command, "manifest": {"model": material.facts["model"]}, "request": request}
    title = f"Atlas: {material.facts['model']}"
    with ReportWriter(out, name="atlas", title=title, question=QUESTION, **how) as page:
        for entry in tqdm(entries, desc="atlas", disable=not material.progress):
            if why := reasons[entry.name]:
                page.absent(entry.name, entry.name, f"{_capital(entry.shows)}. Not made: {why}.")
            else:
                page.section(entry.name, entry.name, partial(_section, entry, material, out, style))
        cited = [key for entry in possible for key in entry.cites]
        page.manifest["methods"] = list(dict.fromkeys(cited))
    return page.outcome


@checked
def cost(entries: Sequence[Entry], material: Material) -> str:
    """What figures take, as a sentence, by a call that is timed here: runs that they share count once."""
    shared: dict[str, int] = {}
    for entry in entries:
        for purpose, calls in entry.calls_of(material).items():
            shared[purpose] = max(calls, shared.get(purpose, 0))
    total = sum(shared.values()) * material.count
    if material.model is None or not total:
        return f"{len(entries)} figures, without a call of the model"
    model = material.model
    x = torch.randn(material.count, *model.shape, device=material.device)
    seconds = seconds_a_call(model.denoiser, x, model.conditions(material.count)) * total / material.count
    return (
        f"{len(entries)} figures: at most {total} evaluations of the denoiser, about {duration(seconds)}, beside the "
        "analysis; what is made is kept, and fewer samples are asked for with --count"
    )


def _section(entry: Entry, material: Material, out: Path, style: str | Style) -> Section:
    made = make(entry, material, folder=out / "numbers", style=style)
    made.save(out / "figures")
    figure = ReportFigure(entry.name, drawn(entry, made.numbers, "notebook"), f"{_capital(entry.shows)}.", made.caption)
    tables = [
        ReportTable(f"{entry.name}.{name}", table, "", shown=False) for name, table in made.numbers.tables.items()
    ]
    return Section([figure], tables)


def _chosen(names: Sequence[str]) -> list[Entry]:
    every: Mapping[str, Entry] = catalogue()
    return [entry for entry in every.values() if not names or entry.name in names]


def _capital(phrase: str) -> str:
    return phrase[0].upper() + phrase[1:]
