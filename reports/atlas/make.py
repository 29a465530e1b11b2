"""One figure of the atlas: its numbers, kept on disk, the figure drawn from them alone, its caption.

made = make(find_entry("apg-update-parts"), material, folder=Path("atlas"), style="cvpr")
made.save(Path("figures"))
"""

import hashlib
import json
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from safetensors.torch import save_file

from scorescope.data.checkpoints import sha256
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import read_parquet, read_tensors
from scorescope.data.written_files import read_json, replace_file, write_json
from scorescope.probes.models.fingerprint import fingerprint
from scorescope.probes.models.model import Model
from scorescope.reports.atlas.catalogue import find_entry
from scorescope.reports.entries import Entry, Material, Numbers
from scorescope.reports.page import theme, to_latex
from scorescope.reports.page.styles import Style
from scorescope.reports.page.texts import csv_bytes
from scorescope.reports.studies.bibliography import bibtex

OURS = "as the atlas wrote it"
HOW_MUCH = ("count", "seed", "steps", "weights", "weight", "repeats", "band", "space")


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
    """

    entry: Entry
    numbers: Numbers
    figure: Figure
    caption: str
    bibtex: str

    @property
    def table(self) -> pd.DataFrame:
        """The figure's own table; empty where there is nothing to draw."""
        return next(iter(self.numbers.tables.values()), pd.DataFrame())

    @checked
    def save(self, folder: Path | str, *, formats: tuple[str, ...] = (".pdf",)) -> list[Path]:
        """Write the figure, its tables (CSV and LaTeX), its caption and its BibTeX entries, named as the entry.

        Parameters
        ----------
        folder : Path or str
            Made if needed.
        formats : tuple of str
            Some of .pdf, .svg, .png, .pgf.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        name = self.entry.name
        paths = [theme.save(self.figure, folder / f"{name}{kind}") for kind in formats]
        for table_name, table in self.numbers.tables.items():
            path = folder / f"{name}.{table_name}.csv"
            replace_file(path, lambda to, table=table: Path(to).write_bytes(csv_bytes(table)))
            paths.append(path)
        texts = {f"{name}.{table_name}.tex": to_latex(table) for table_name, table in self.numbers.tables.items()}
        texts |= {f"{name}.caption.txt": self.caption + "\n", f"{name}.bib": self.bibtex}
        for file, text in texts.items():
            if text.strip():
                replace_file(folder / file, lambda to, text=text: Path(to).write_text(text, encoding="utf-8"))
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
    return make(find_entry(name), Material(model, **brought), style=style)


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
    numbers = numbers_of(entry, material, folder=folder)
    return Made(entry, numbers, drawn(entry, numbers, style), caption_of(entry, material, numbers), _bibtex(entry))


@checked
def numbers_of(entry: Entry, material: Material, *, folder: Path | None = None) -> Numbers:
    """What a figure is drawn from; see `make`."""
    if why := entry.why_not(material):
        raise InputError(entry.name, found=f"too little: {why}", expected="all that it needs")
    kept = None if folder is None else _Kept(folder / entry.name, _key(entry, material))
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
    return theme.said(why, style=style) if why else entry.draw(numbers, style=style)


@checked
def caption_of(entry: Entry, material: Material, numbers: Numbers) -> str:
    """The caption's sentences: what is shown, how it was measured, where it is from, what differs."""
    facts = {**material.facts, **numbers.facts}
    parts = [f"Nothing to draw: {numbers.why}." if numbers.why else entry.caption.format(**facts)]
    if material.model is not None and entry.calls:
        parts.append("{n} samples a setting, seeds {seeds}, {solver}.".format(**facts))
    source = " and ".join(rf"\cite{{{key}}}" for key in entry.cites)
    if source:
        parts.append(f"After {entry.place + ' of ' if entry.place else ''}{source}.")
    if entry.differs:
        parts.append(f"Other than there: {entry.differs}.")
    return " ".join(parts)


def _empty(numbers: Numbers) -> str:
    """Why there is nothing to draw, where the figure's table has no row."""
    first = next(iter(numbers.tables.values()), None)
    return "its table has no row" if first is not None and first.empty else ""


def _bibtex(entry: Entry) -> str:
    return bibtex({"methods": list(entry.cites)})


def _key(entry: Entry, material: Material) -> str:
    """What tells numbers from others: of another entry, version, model, or sizes."""
    models = [material.model, material.weak, *material.checkpoints.values()]
    brought = [
        [None if model is None else model.denoiser for model in models], list(material.checkpoints), material.data,
        material.features, [trace.scalars for trace in material.traces],
    ]  # fmt: skip
    if "images" in entry.needs and material.images is not None:
        brought.append(material.once("images", material.images))
    if "subject" in entry.needs and material.subject is not None:
        brought.append(material.once("subject", material.subject))
    said = [entry.name, metadata.version("scorescope"), *(str(getattr(material, name)) for name in HOW_MUCH)]
    return hashlib.sha256(json.dumps([said, fingerprint(brought, argument="material")]).encode()).hexdigest()


class _Kept:
    """Numbers of one entry on disk; the JSON file is written last and has the others' hashes."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key

    def read(self) -> Numbers | None:
        """Those that were made of the same, and are whole; else None."""
        path = self.folder / "numbers.json"
        if not path.is_file():
            return None
        try:
            said = read_json(path)
            whole = all(sha256(self.folder / file) == found for file, found in said["files"].items())
            if said["key"] != self.key or not whole:
                return None
            tables = {name: read_parquet(self.folder / f"{name}.parquet", expected=OURS) for name in said["tables"]}
            pictures = read_tensors(self.folder / "pictures.safetensors", expected=OURS) if said["pictures"] else {}
            return Numbers(tables, {name: pictures[name] for name in said["pictures"]}, said["facts"], said["why"])
        except (InputError, OSError, KeyError):
            return None

    def write(self, numbers: Numbers) -> None:
        """All of it, so that a run that is cut off leaves none that is taken for whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "numbers.json").unlink(missing_ok=True)
        for name, table in numbers.tables.items():
            replace_file(self.folder / f"{name}.parquet", table.to_parquet)
        pictures = {name: images.detach().cpu().contiguous() for name, images in numbers.pictures.items()}
        if pictures:
            replace_file(self.folder / "pictures.safetensors", lambda to: save_file(pictures, to))
        names = [f"{name}.parquet" for name in numbers.tables] + ["pictures.safetensors"] * bool(pictures)
        said = {
            "key": self.key, "files": {name: sha256(self.folder / name) for name in names},
            "tables": list(numbers.tables), "pictures": list(pictures), "facts": dict(numbers.facts),
            "why": numbers.why,
        }  # fmt: skip
        write_json(self.folder / "numbers.json", said)
