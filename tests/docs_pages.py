"""Pages of the documentation that are made from the code: every wing's names, every table's columns, the gallery.

`docs/conf.py` writes them into `docs/generated/` before each build.
"""

import ast
import re
from functools import cache
from importlib import import_module
from inspect import isfunction
from pathlib import Path

from scorescope.analysis.statistics import Schema
from scorescope.reports.atlas.catalogue import WINGS
from scorescope.reports.studies.bibliography import entries as bibliography
from tests.docs_gallery import gallery_part, members
from tests.docs_texts import escape, plain, rst
from tests.house import ROOMS, File, House, Wing, read_house

# whose tables stand on which page
INSTRUMENTS = {
    "guidance": ("analysis.guidance",),
    "fid": ("analysis.fid", "reports.fid"),
    "gaussian": ("analysis.gaussian",),
    "directions": ("analysis.directions", "analysis.information"),
    "trajectories": ("analysis.trajectories", "analysis.steps"),
    "attention": ("analysis.attention",),
    "inside": ("analysis.inside", "analysis.units", "analysis.groups"),
    "changes": ("analysis.changes",),
}


def write_pages(folder: Path) -> None:
    """Write all of them; parts are included by pages that were written by hand."""
    for name, text in pages().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)


def pages() -> dict[str, str]:
    """Text by file name."""
    house = the_house()
    wings = {f"api/{wing.name}.rst": wing_page(house, wing) for wing in house.in_order()}
    parts = {f"parts/columns_{name}.md": columns_part(name) for name in INSTRUMENTS}
    figures = {f"parts/gallery_{name}.md": gallery_part(house, name) for name in INSTRUMENTS}
    return {
        "parts/atlas.md": atlas_part(),
        **wings,
        **parts,
        **figures,
        "api.md": api_page(house),
        "names.md": names_page(house),
        "columns.md": columns_page(),
    }


@cache
def the_house() -> House:
    """The code, read once."""
    return read_house()


# the atlas


def atlas_part() -> str:
    """Every named figure: what it shows, what it needs, where it is from, what its test holds it to."""
    lines = list[str]()
    for wing, entries in WINGS.items():
        lines += [
            f"## {wing.capitalize()}",
            "",
            "| name | what it shows | needs | after | test |",
            "|---|---|---|---|---|",
        ]
        for one in entries:
            after = "; ".join(paper(key) for key in one.cites) or "our own"
            place = f"{one.place} of {after}" if one.place else after
            cells = (f"`{one.name}`", one.shows, ", ".join(one.needs), place, one.oracle)
            lines.append(f"| {' | '.join(escape(cell) for cell in cells)} |")
        lines.append("")
    return "\n".join(lines)


def paper(key: str) -> str:
    """A paper's title and year."""
    fields = dict(re.findall(r"^\s*(title|year)\s*=\s*\{(.*)\},?$", bibliography()[key], re.MULTILINE))
    return f"{fields.get('title', key)} ({fields.get('year', 'no year')})".replace("{", "").replace("}", "")


# names


def api_page(house: House) -> str:
    """All wings with what they are for."""
    lines = [
        "# API by wing",
        "",
        "What is in no wing's face is private to it. [Every name](names.md) is listed by letter.",
        "",
    ]
    for room in ROOMS:
        wings = house.wings_of(room)
        entries = "\n".join(f"api/{wing.name}" for wing in wings)
        lines += [f"## `scorescope.{room}`", "", "| wing | what it is for |", "|---|---|"]
        lines += [f"| [`{wing.name}`](api/{wing.name}.rst) | {escape(wing.face.doc)} |" for wing in wings]
        lines += ["", "```{toctree}", ":hidden:", "", entries, "```", ""]
    return "\n".join(lines)


def wing_page(house: House, wing: Wing) -> str:
    """A wing's recipe, and every name of its face with its docstring."""
    title = f"scorescope.{wing.name}"
    lines = [title, "=" * len(title), "", rst(wing.face.docstring), f".. py:currentmodule:: scorescope.{wing.name}", ""]
    return "\n".join([*lines, *(directive(house, wing, name) for name in sorted(wing.face.public, key=str.lower))])


def directive(house: House, wing: Wing, name: str) -> str:
    """What documents one name."""
    module, full = f"{wing.name}.{name}", f"scorescope.{wing.name}.{name}"
    if module in house.files and name not in wing.face.taken:
        text = rst(house.files[module].docstring)
        inner = "\n".join(
            documented(getattr(import_module(full), one), f"{full}.{one}") for one in members(house.files[module])
        )
        return f"{name}\n{'-' * len(name)}\n\n{text}\n{inner}"
    value = getattr(import_module(f"scorescope.{wing.name}"), name)
    if isinstance(value, type) or isfunction(value):
        return documented(value, full)
    return f".. py:data:: {name}\n\n   {plain(said_of(house.where(name, wing.name), name))}\n"


def documented(value: object, full: str) -> str:
    """The directive of a class or a function."""
    return f".. autoclass:: {full}\n   :members:\n" if isinstance(value, type) else f".. autofunction:: {full}\n"


def said_of(file: File, name: str) -> str:
    """What a file says of a constant or an alias: the text below it, else what it holds."""
    node = file.defined[name]
    below = file.tree.body[file.tree.body.index(node) + 1 :][:1]
    if below and isinstance(below[0], ast.Expr) and isinstance(below[0].value, ast.Constant):
        return " ".join(str(below[0].value.value).split())
    return f"``{ast.unparse(node)}``"


def names_page(house: House) -> str:
    """Every public name with its wings, by letter."""
    homes: dict[str, list[str]] = {}
    for wing in house.in_order():
        for name in wing.face.public:
            homes.setdefault(name, []).append(wing.name)
            module = f"{wing.name}.{name}"
            if module in house.files and name not in wing.face.taken:
                for inner in members(house.files[module]):
                    homes.setdefault(inner, []).append(f"{wing.name}:{name}")
    lines = [
        "# Every public name",
        "",
        "By letter; one defined in a module of the face, as `figures`, has that module behind its wing.",
    ]
    letter = ""
    for name in sorted(homes, key=lambda name: (name.lower(), name)):
        if name[0].upper() != letter:
            letter = name[0].upper()
            lines += ["", f"## {letter}", ""]
        lines.append(f"- `{name}` in {', '.join(_home(name, home) for home in homes[name])}")
    return "\n".join([*lines, ""])


def _home(name: str, home: str) -> str:
    wing, _, module = home.partition(":")
    place = f"{wing}.{module}" if module else wing
    if f"{wing}.{name}" in the_house().files and name not in the_house().wings[wing].face.taken:
        return f"[`{place}`](api/{wing}.rst)"  # a module
    return f"{{py:obj}}`{place} <scorescope.{place}.{name}>`"


# columns


@cache
def schemas() -> dict[str, list[Schema]]:
    """Every declared table by the wing that declares it."""
    tables: dict[str, list[Schema]] = {}
    for wing in the_house().in_order():
        for file in wing.files:
            assigned = [name for name, node in file.defined.items() if isinstance(node, ast.Assign)]
            values = [getattr(import_module(f"scorescope.{file.name}"), name) for name in assigned]
            tables.setdefault(wing.name, []).extend(value for value in values if isinstance(value, Schema))
    return {wing: found for wing, found in tables.items() if found}


def columns_part(instrument: str) -> str:
    """The tables of one instrument with all of their columns."""
    tables = [schema for wing in INSTRUMENTS[instrument] for schema in schemas().get(wing, [])]
    return "\n".join(line for schema in sorted(tables, key=lambda one: one.name) for line in table_lines(schema))


def table_lines(schema: Schema) -> list[str]:
    """One table: a target for links, a heading, a row a column."""
    heading = [f"(table-{schema.name})=", f"### `{schema.name}`", ""]
    head = ["| column | meaning | unit | kind |", "|---|---|---|---|"]
    rows = [
        f"| `{c.name}` | {escape(c.meaning)} | {escape(c.unit) or '–'} | {c.kind.__name__} |" for c in schema.columns
    ]
    return [*heading, *head, *rows, ""]


def columns_page() -> str:
    """Every column with the tables that have it, by letter."""
    homes: dict[str, list[str]] = {}
    for tables in schemas().values():
        for schema in tables:
            for column in schema.columns:
                homes.setdefault(column.name, []).append(schema.name)
    lines = [
        "# Every column", "",
        "A table's name leads to its columns with unit and meaning; in Python `find_column` says the same. A name",
        "that ends in `*` stands for every column that begins so.", "",
    ]  # fmt: skip
    for name in sorted(homes, key=str.lower):
        links = ", ".join(f"[`{table}`](#table-{table})" for table in sorted(homes[name]))
        lines.append(f"- `{name}` in {links}")
    return "\n".join([*lines, ""])
