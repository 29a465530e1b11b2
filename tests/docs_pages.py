"""Pages of the documentation that are made from the code: every wing's names, every table's columns, the gallery.

`docs/conf.py` writes them into `docs/generated/` before each build.
"""

import ast
import re
import textwrap
from functools import cache
from importlib import import_module
from inspect import getdoc, isfunction
from pathlib import Path

from scorescope.analysis.statistics import Schema
from tests.house import ROOMS, ROOT, File, House, Wing, read_house

GALLERY = ROOT / "docs/gallery"

# whose tables stand on which page
INSTRUMENTS = {
    "guidance": ("analysis.guidance",),
    "fid": ("analysis.fid", "reports.fid"),
    "gaussian": ("analysis.gaussian",),
    "directions": ("analysis.directions", "analysis.information"),
    "changes": ("analysis.changes",),
}

# pictures of reports that another function than that of their name draws
DRAWN_BY = {
    "guidance/value_density": "value_densities",
    "guidance/overshoot": "against_weight",
    "guidance/contrast": "against_weight",
    "guidance/frechet": "against_weight",
    "guidance/diversity": "against_weight",
    "guidance/samples": "sample_grid",
    "guidance/bands": "band_norms",
    "guidance/calls_quality": "cost_and_quality",
    "guidance/thresholds": "threshold_curve",
    "fid/planted_maps": "outlined_maps",
    "fid/planted_shares": "region_shares",
    "fid/planted_audit": "audit",
    "fid/sfid": "distances",
    "fid/classes": "class_gaps",
    "fid/occlusion": "occlusions",
    "fid/choice": "extremes",
    "gaussian/laws": "law_fractions",
    "directions/samples": "picture_rows",
    "directions/probe_map": "probe_maps",
    "directions/probe_selectivity": "probe_maps",
    "directions/steer_map": "read_and_steer",
    "directions/strength_strip": "picture_rows",
    "directions/windows": "windows_figure",
    "directions/emergence": "emergence_curves",
    "directions/landmarks": "landmark_ranges",
    "directions/switch_strip": "picture_rows",
    "directions/readers": "readers_and_movers",
    "directions/step_cosines": "cosine_matrix",
    "directions/token_attribution": "token_matrix",
    "directions/linearity": "gap_curves",
    "directions/recovery": "recovery_map",
    "directions/attribute_loss": "attribute_losses",
    "directions/information": "information_curves",
    "directions/win_rates": "win_rate_curves",
    "changes/losses": "loss_differences",
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
    figures = {f"parts/gallery_{name}.md": gallery_part(name) for name in INSTRUMENTS}
    return {
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
            lines += ["", f"## {letter}", "", "| name | wing |", "|---|---|"]
        lines.append(f"| `{name}` | {', '.join(_home(name, home) for home in homes[name])} |")
    return "\n".join([*lines, ""])


def members(file: File) -> list[str]:
    """The public functions and classes that a file defines."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [name for name, node in file.defined.items() if isinstance(node, kinds) and not name.startswith("_")]


def _home(name: str, home: str) -> str:
    wing, _, module = home.partition(":")
    place = f"{wing}.{module}" if module else wing
    if f"{wing}.{name}" in the_house().files and name not in the_house().wings[wing].face.taken:
        return f"[`{place}`](api/{wing}.rst)"  # a module
    return f"{{py:obj}}`{place} <scorescope.{place}.{name}>`"


# columns


@cache
def schemas() -> dict[str, list[tuple[str, Schema]]]:
    """Every declared table with the name of its constant, by wing: that which declares it, not those that import it."""
    found: dict[int, str] = {}
    tables: dict[str, list[tuple[str, Schema]]] = {}
    for wing in the_house().in_order():
        for file in wing.files:
            for name, node in file.defined.items():
                value = (
                    getattr(import_module(f"scorescope.{file.name}"), name, None)
                    if isinstance(node, ast.Assign)
                    else None
                )
                if isinstance(value, Schema) and id(value) not in found:
                    found[id(value)] = wing.name
                    tables.setdefault(wing.name, []).append((name, value))
    return tables


def columns_part(instrument: str) -> str:
    """The tables of one instrument with all of their columns."""
    tables = [schema for wing in INSTRUMENTS[instrument] for _, schema in schemas().get(wing, [])]
    return "\n".join(line for schema in sorted(tables, key=lambda one: one.name) for line in table_lines(schema))


def table_lines(schema: Schema) -> list[str]:
    """One table: a target for links, a heading, a row a column."""
    rows = [
        f"| `{c.name}` | {escape(c.unit) or '–'} | {c.kind.__name__} | {escape(c.meaning)} |" for c in schema.columns
    ]
    heading = [
        f"(table-{schema.name})=",
        f"### `{schema.name}`",
        "",
        "| column | unit | kind | meaning |",
        "|---|---|---|---|",
    ]
    return [*heading, *rows, ""]


def columns_page() -> str:
    """Every column with the tables that have it, by letter."""
    homes: dict[str, list[str]] = {}
    for tables in schemas().values():
        for _, schema in tables:
            for column in schema.columns:
                homes.setdefault(column.name, []).append(schema.name)
    lines = [
        "# Every column", "",
        "A table's name leads to its columns with unit and meaning; in Python `find_column` says the same. A name",
        "that ends in `*` stands for every column that begins so.", "", "| column | tables |", "|---|---|",
    ]  # fmt: skip
    for name in sorted(homes, key=str.lower):
        links = ", ".join(f"[`{table}`](#table-{table})" for table in sorted(homes[name]))
        lines.append(f"| `{name}` | {links} |")
    return "\n".join([*lines, ""])


# the gallery


def gallery_part(instrument: str) -> str:
    """The pictures of one instrument's report with the functions that draw them, and functions without a picture."""
    figures = import_module(f"scorescope.reports.{instrument}.figures")
    lines: list[str] = []
    shown = set()
    for picture in sorted((GALLERY / instrument).glob("*.png")):
        name = picture.stem.partition("-")[2]
        function = DRAWN_BY.get(f"{instrument}/{name}", name)
        drawn = _first_line(getattr(figures, function, None))
        shown.add(function)
        image = f"![{escape(drawn or name)}](gallery/{instrument}/{picture.name})"
        lines += [
            f"### `{name}`",
            "",
            *([f"{escape(drawn)} {_function(instrument, function)}", ""] if drawn else []),
            image,
            "",
        ]
    others = [name for name in members(the_house().files[f"reports.{instrument}.figures"]) if name not in shown]
    more = [f"- {_function(instrument, name)} {escape(_first_line(getattr(figures, name)))}" for name in others]
    return "\n".join([*lines, *(["Without a picture here:", "", *more, ""] if more else [])])


def _function(instrument: str, name: str) -> str:
    known = name in members(the_house().files[f"reports.{instrument}.figures"])
    full = f"scorescope.reports.{instrument}.figures.{name}"
    return f"{{py:func}}`figures.{name} <{full}>`" if known else f"`{name}`"


def _first_line(function: object) -> str:
    return (getdoc(function) or "").split("\n\n")[0].replace("\n", " ") if function else ""


# texts


def escape(text: str) -> str:
    """Plain text as Markdown, with code in backticks as it is."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_{}\[\]<>#|$~^])", r"\\\1", part) for part in parts)


def plain(text: str) -> str:
    """Text as reStructuredText in which backticks alone mean anything: `(n, *shape)` and `|D|` stand as they are."""
    parts = re.split(r"((?:``.+?``|`[^`]+`)(?:\w*))", text, flags=re.DOTALL)
    signs = r"[*|]|(?<=\w)_(?!\w)"
    return "".join(_code_apart(part) if part.startswith("`") else re.sub(signs, r"\\\g<0>", part) for part in parts)


def _code_apart(text: str) -> str:
    """Code and the letters that follow it without a space, as in `Denoiser`s."""
    code, letters = text[: text.rindex("`") + 1], text[text.rindex("`") + 1 :]
    return f"{code}\\ {letters}" if letters else code


def rst(docstring: str) -> str:
    """A module's docstring as reStructuredText: indented blocks are code, and so is a rest that parses as code."""
    first, _, rest = docstring.partition("\n\n")
    if _is_code(rest):
        return f"{plain(first)}\n\n{_code(rest)}"
    blocks = re.split(r"\n\s*\n", rest)
    shown = [
        _code(textwrap.dedent(block)) if block.startswith("    ") else plain(block) + "\n" for block in blocks if block
    ]
    return "\n".join([f"{plain(first)}\n", *shown])


def _is_code(text: str) -> bool:
    try:
        return bool(ast.parse(text).body)
    except SyntaxError:
        return False


def _code(text: str) -> str:
    language = "python" if _is_code(text) else "none"
    return f".. code-block:: {language}\n\n{textwrap.indent(text, '   ')}\n"
