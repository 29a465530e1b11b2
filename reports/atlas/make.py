"""One figure of the atlas: its numbers, kept on disk, the figure drawn from them alone, its caption.

made = make(find_entry("apg-update-parts"), material, folder=Path("atlas"), style="cvpr")
made.save(Path("figures"))
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.models.model import Model
from scorescope.reports.atlas.catalogue import find_entry
from scorescope.reports.atlas.kept import Kept, key_of
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.page import theme
from scorescope.reports.page.files import write_file
from scorescope.reports.page.latex import escaped, to_latex
from scorescope.reports.page.styles import Style, style_of
from scorescope.reports.page.texts import as_name, csv_bytes
from scorescope.reports.studies.bibliography import bibtex, entries

MOST_ROWS = 40  # of a table that is written as LaTeX
SAMPLED = "{n} samples a setting, seeds {seeds}, {solver}."


@displayed
@checked
@dataclass(frozen=True, eq=False)
class Made:
    """A figure with everything that a paper needs of it.

    Attributes
    ----------
    entry : Entry
        What it is.
    numbers : Numbers
        What it was drawn from.
    figure : Figure
        At the width of its style.
    caption : str
        A stub: what is shown, samples, seeds, solver, intervals, source, and what differs from it.
    bibtex : str
        Entries of the papers that it cites.
    name : str
        Of its files.
    """

    entry: Entry
    numbers: Numbers
    figure: Figure
    caption: str
    bibtex: str
    name: str

    @property
    def table(self) -> pd.DataFrame:
        """The figure's own table; empty where there is nothing to draw."""
        return next(iter(self.numbers.tables.values()), pd.DataFrame())

    @checked
    def save(self, folder: Path | str, *, formats: tuple[str, ...] = (".pdf",)) -> list[Path]:
        """Write the figure, its tables (CSV, short ones as LaTeX too), its caption and its BibTeX entries by its name.

        Parameters
        ----------
        folder : Path or str
            Made if needed.
        formats : tuple of str
            Some of .pdf, .svg, .png, .pgf.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        name = self.name
        paths = [theme.save(self.figure, folder / f"{name}{kind}") for kind in formats]
        files = {
            f"{name}.caption.tex": f"{latex_caption(self.caption)}\n".encode(),
            f"{name}.bib": self.bibtex.encode(),
        }
        for table_name, table in self.numbers.tables.items():
            files[f"{name}.{table_name}.csv"] = csv_bytes(table)
            if len(table) <= MOST_ROWS:
                files[f"{name}.{table_name}.tex"] = to_latex(table).encode()
        for file, content in files.items():
            if content.strip():
                write_file(folder / file, content)
                paths.append(folder / file)
        return paths


@checked
def atlas(name: str, model: Model | None = None, *, style: str | Style = "paper-single", **brought: Any) -> Made:
    """The figure of that name for your own model.

    Parameters
    ----------
    name : str
        As `catalogue()` has it.
    model : Model, optional
        What is studied.
    style : str or Style
        Where the figure is to stand.
    **brought
        The rest of a `Material`: traces, weak, checkpoints, data, features, count, seed, folder, ...

    Raises
    ------
    InputError
        For an unknown name, and for what this figure needs and was not given.
    """
    known = [field.name for field in fields(Material) if field.init]
    if unknown := [key for key in brought if key not in known]:
        raise InputError("brought", found=", ".join(unknown), expected=f"some of {', '.join(known)}")
    made = make_each(find_entry(name), Material(model, **brought), style=style)
    if len(made) > 1:
        expected = "`make_each`, for one figure a checkpoint, or a model"
        raise InputError("checkpoints", found=f"{len(made)} of them, and a figure of several panels", expected=expected)
    return made[0]


@checked
def make(entry: Entry, material: Material, *, folder: Path | None = None, style: str | Style = "paper-single") -> Made:
    """Measure, or read what was measured before, and draw.

    Parameters
    ----------
    entry : Entry
        Which figure.
    material : Material
        What it is made from.
    folder : Path, optional
        Where numbers are kept, and looked for first: those of the same entry, model, sizes and version.
    style : str or Style
        Where the figure is to stand.

    Raises
    ------
    InputError
        For what the entry needs and the material has not.
    """
    style = style_of(style)  # a wrong name is told before hours of sampling
    numbers = numbers_of(entry, material, folder=folder)
    figure, caption = drawn(entry, numbers, style), caption_of(entry, material, numbers)
    return Made(entry, numbers, figure, caption, _bibtex(entry), entry.name)


@checked
def make_each(
    entry: Entry, material: Material, *, folder: Path | None = None, style: str | Style = "paper-single"
) -> list[Made]:
    """The same of every checkpoint, where there are checkpoints and no model of which they are: small multiples.

    An entry of one panel becomes one figure with a panel each and one table; another one a figure each.
    """
    steps = material.checkpoints
    if material.model is not None or not steps:
        return [make(entry, material, folder=folder, style=style)]
    if "checkpoints" in entry.needs:
        return [make(entry, replace(material, model=list(steps.values())[-1]), folder=folder, style=style)]
    if len({as_name(name) for name in steps}) < len(steps):
        raise InputError("checkpoints", found=", ".join(steps), expected="names that differ as names of files do")
    each = {}
    for name, model in steps.items():
        place = None if folder is None else folder / as_name(name)
        named = replace(model, name=f"checkpoint {name}")
        each[name] = make(entry, replace(material, model=named), folder=place, style=style)
    if not entry.one_panel or any(made.numbers.why for made in each.values()):
        return [replace(made, name=f"{entry.name}.{as_name(name)}") for name, made in each.items()]
    return [_abreast(entry, each, style)]


def _abreast(entry: Entry, each: Mapping[str, Made], style: str | Style) -> Made:
    """One figure, a panel a checkpoint, and tables with a column that says which."""
    first = next(iter(each.values()))
    tables = {
        kind: pd.concat([made.numbers.tables[kind].assign(checkpoint=name) for name, made in each.items()])
        for kind in first.numbers.tables
    }  # fmt: skip
    figure = _panels({name: made.numbers for name, made in each.items()}, entry, style=style)
    caption = first.caption.replace(f"checkpoint {next(iter(each))}", f"checkpoints {', '.join(each)}, a panel each")
    return replace(first, numbers=replace(first.numbers, tables=tables), figure=figure, caption=caption)


@theme.styled
def _panels(each: Mapping[str, Numbers], entry: Entry) -> Figure:
    figure, axes = theme.panels(len(each), height=2.6, least=2.6)
    for ax, (name, numbers) in zip(axes, each.items(), strict=True):
        entry.draw(numbers, ax=ax)
        ax.set_title(theme.literal(name))
        if (legend := ax.get_legend()) is not None:
            legend.remove()
    theme.legend_above(figure)
    return figure


@checked
def numbers_of(entry: Entry, material: Material, *, folder: Path | None = None) -> Numbers:
    """What a figure is drawn from; see `make`."""
    if why := entry.why_not(material):
        raise InputError(entry.name, found="too little", expected=f"more: {why}")
    kept = None if folder is None else Kept(folder / entry.name, key_of(entry, material))
    numbers = kept.read() if kept else None
    if numbers is None:
        numbers = entry.numbers(material)
        if kept:
            kept.write(numbers)
    return numbers


@checked
def drawn(entry: Entry, numbers: Numbers, style: str | Style) -> Figure:
    """The figure, or the reason why there is nothing to draw, in place of axes."""
    why = numbers.why or _empty(numbers)
    return theme.said(f"Nothing to draw: {why}", style=style) if why else entry.draw(numbers, style=style)


@checked
def caption_of(entry: Entry, material: Material, numbers: Numbers) -> str:
    """The caption's sentences: what is shown, how it was measured, where it is from, what differs."""
    facts = {**material.facts, **numbers.facts}
    parts = [f"Nothing to draw: {numbers.why}." if numbers.why else entry.caption.format(**facts)]
    if material.model is None and material.traces and "run" in entry.needs:
        parts.append("{n} recorded samples.".format(**facts))
    elif material.model is not None and entry.calls_of(material):
        parts.append(facts.get("how", SAMPLED).format(**facts))
    if "data" in entry.needs and material.data is not None:
        parts.append(f"Real images: {material.data.name}.")
    source = " and ".join(rf"\cite{{{key}}}" for key in entry.cites)
    if source:
        parts.append(f"After {entry.place + ' of ' if entry.place else ''}{source}.")
    if entry.differs:
        parts.append(f"Other than there: {entry.differs}.")
    return " ".join(part for part in parts if part)


def latex_caption(caption: str) -> str:
    """A caption as LaTeX: what is no formula and no citation letter by letter."""
    parts = re.split(r"(\$[^$]*\$|\\cite\{\w+\})", caption)
    words = [part if place % 2 else [escaped(word) for word in part.split(" ")] for place, part in enumerate(parts)]
    return "".join(part if isinstance(part, str) else " ".join(part) for part in words)


def plain_caption(caption: str) -> str:
    """A caption for readers without LaTeX: papers by author and year."""
    named = re.sub(r"\\cite\{(\w+)\}", lambda key: _short(key[1]), caption)
    return named.replace("$", "").replace("\\sigma", "σ")


def _short(key: str) -> str:
    """A paper by its first author and year, of its BibTeX entry."""
    author, year = (re.search(rf"{field} = \{{(.*)\}}", entries()[key]) for field in ("author", "year"))
    first = "" if author is None else re.sub(r"[{}\\\"'`]", "", author[1].split(" and ")[0].split(",")[0])
    many = "" if author is None or " and " not in author[1] else " et al."
    return f"{first}{many}{f' ({year[1]})' if year else ''}"


def _empty(numbers: Numbers) -> str:
    """Why there is nothing to draw, where the figure's table has no row."""
    first = next(iter(numbers.tables.values()), None)
    return "its table has no row" if first is not None and first.empty else ""


def _bibtex(entry: Entry) -> str:
    return bibtex({"methods": list(entry.cites)})
