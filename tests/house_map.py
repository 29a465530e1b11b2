"""The map of the house, made from its code: `make map` writes `docs/house.svg` and what is generated in its page.

In `docs/architecture.md` two things are generated: the lists between `<!-- NAME -->` and `<!-- end NAME -->`, and the
places in hand-written links [`probes/models/spaces.py: to_denoised`](...), which follow a definition to its file.
"""

import ast
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from tests.house import BESIDE, MAY_IMPORT, ROOMS, ROOT, ROW, File, House, Wing, read_house

PAGE = ROOT / "docs/architecture.md"
DRAWING = ROOT / "docs/house.svg"

LINK = re.compile(r"\[`(?P<path>[a-z_/]+)\.py: (?P<name>\w+)`\]\([^)]*\)")

# the drawing, in pixels
NARROW, WIDTH = 148, 216  # of the boxes of `data`, and of the others
MARGIN, SPACE, GAP, PAD, TOP = (
    26,
    16,
    24,
    8,
    62,
)  # beside the boxes in a room, between rooms, between boxes, inside boxes
LINE, TITLE, CHARACTER = 14, 20, 5.75
LEGEND = (
    "An arrow goes from a wing to those that use it. Arrows that follow from others are left out. All may use data."
)
COLORS = {"data": "#e8eef7", "probes": "#e5f2ea", "analysis": "#f8efdc", "reports": "#f3e6f1"}
INK, SOFT, EDGE = "#1f2933", "#5b6772", "#7d8a96"


def main() -> None:
    """Write the drawing and the page."""
    house = read_house()
    DRAWING.write_text(drawing(house))
    PAGE.write_text(page(house, PAGE.read_text()))


def page(house: House, text: str) -> str:
    """The page with its generated parts renewed."""
    for name, lines in {"wings": wing_table(house), "names": name_lists(house), "files": file_lists(house)}.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end {name} -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"{PAGE.name} has no part between {begin.strip()} and {end}")
        text = f"{before}{begin}\n" + "\n".join(lines) + f"\n\n{end}{after}"
    dead: list[str] = []
    text = LINK.sub(lambda link: _link(house, link, dead), text)
    if dead:
        raise ValueError(f"{PAGE.name} names what is defined nowhere, or more than once: {'; '.join(dead)}")
    return text


def wing_table(house: House) -> list[str]:
    """The drawing as a table: what each wing is for, and what it imports."""
    rows = ["| wing | what it is for | what it uses |", "|---|---|---|"]
    for wing in house.in_order():
        used = "; ".join(f"{room}: {', '.join(names)}" for room, names in uses(house, wing).items())
        rows.append(f"| `{wing.name}` | {wing.face.doc} | {used} |")
    return rows


def uses(house: House, wing: Wing) -> dict[str, list[str]]:
    """The wings that a wing imports, by room and in the order of drawing; `data`, which all use, is left out."""
    used = {room: [other.name for other in house.wings_of(room) if other.name in wing.uses] for room in ROOMS[1:]}
    return {room: [name.split(".")[1] for name in names] for room, names in used.items() if names}


def name_lists(house: House) -> list[str]:
    """Every name in the face of a wing with the wings that have it, a line a letter."""
    homes: dict[str, list[str]] = {}
    for wing in house.in_order():
        for name in wing.face.public:
            homes.setdefault(name, []).append(wing.name)
    lines: dict[str, list[str]] = {}
    for name in sorted(homes, key=str.lower):
        lines.setdefault(name[0].upper(), []).append(f"`{name}` ({', '.join(homes[name])})")
    return [line for letter, names in lines.items() for line in (f"**{letter}** " + ", ".join(names), "")][:-1]


def file_lists(house: House) -> list[str]:
    """Every file with the first line of its docstring and the names to look for in it, by wing."""
    lines: list[str] = []
    for wing in house.in_order():
        path = wing.name.replace(".", "/")
        lines += ["", f"### [`{path}/`](../{path}/__init__.py)", "", wing.face.doc, ""]
        for file in wing.files:
            names = ", ".join(f"`{name}`" for name in _names(wing, file))
            entry = f"- [`{file.path.name}`](../{file.path.relative_to(ROOT)}) {file.doc}"
            lines.append(f"{entry} ({names})" if names else entry)
    return lines[1:]


def _names(wing: Wing, file: File) -> list[str]:
    """Names in the wing's face; all of a module that the face lists; the functions that make a report's sentences."""
    listed = file.path.stem in wing.face.public and file.path.stem not in file.defined
    functions = [name for name, node in file.defined.items() if isinstance(node, ast.FunctionDef) and name[0] != "_"]
    sentences = [name for name in functions if name.startswith("read_") and wing.name.startswith("reports.")]
    return sorted({name for name in wing.face.public if name in file.defined} | set(functions if listed else sentences))


def _link(house: House, link: re.Match[str], dead: list[str]) -> str:
    """A link to the file that defines a name today; one that cannot be found is added to `dead`."""
    try:
        path = house.where(link["name"], link["path"].replace("/", ".")).path.relative_to(ROOT)
    except LookupError as error:
        dead.append(str(error))
        return link[0]
    return f"[`{path}: {link['name']}`](../{path})"


@dataclass
class Box:
    """A wing in the drawing."""

    wing: Wing
    x: float
    width: float
    lines: list[str]
    soft: list[str]
    y: float = TOP

    @property
    def height(self) -> float:
        return PAD + TITLE + 3 + LINE * (len(self.lines) + len(self.soft))

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


def drawing(house: House) -> str:
    """The house as an SVG: rooms from left to right, wings from top to bottom, an arrow from a wing to its users.

    Arrows that follow from others are left out: the lists in the boxes are complete.
    """
    columns = _columns(house)
    boxes = {box.wing.name: box for column in columns for box in column}
    bottom = max(box.y + box.height for box in boxes.values()) + GAP
    _spread(columns[2], bottom - GAP)
    arrows = direct(house)
    fans = {used for used, _ in arrows if sum(used == other for other, _ in arrows) > 2}
    parts = [
        part for room in ROOMS for part in _room(room, [boxes[wing.name] for wing in house.wings_of(room)], bottom)
    ]
    parts += [_arrow(boxes[used], boxes[user], right=used not in fans) for used, user in sorted(arrows)]
    parts += [part for box in boxes.values() for part in _draw(box)]
    parts += _lines(columns[0][0].x, bottom - 140, textwrap.wrap(LEGEND, int(NARROW / CHARACTER)), SOFT)
    return "\n".join([_head(columns[-1][0].x + WIDTH + MARGIN + SPACE, bottom + SPACE), *parts, "</svg>", ""])


def _columns(house: House) -> list[list[Box]]:
    columns = [["data"], [f"probes.{wing}" for wing in ROW], [f"probes.{wing}" for wing in BESIDE]]
    columns += [[f"{room}.{wing}" for wing in MAY_IMPORT[room]] for room in ("analysis", "reports")]
    made, x = [], SPACE + MARGIN
    for names in columns:
        width = NARROW if names == ["data"] else WIDTH
        made.append(_stack([_box(house, house.wings[name], x, width) for name in names]))
        x += width + 2 * MARGIN + SPACE
    return made


def _head(width: float, height: float) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="11.5">\n'
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{EDGE}"/></marker></defs>'
    )


def direct(house: House) -> set[tuple[str, str]]:
    """Pairs (used, user) of wings of one room that do not follow from other pairs."""
    near = {
        name: {used for used in wing.uses if used.split(".")[0] == name.split(".")[0]}
        for name, wing in house.wings.items()
    }
    return {(used, user) for user in near for used in near[user] if not _through(near, user, used)}


def _through(near: dict[str, set[str]], user: str, used: str) -> bool:
    """Whether `user` reaches `used` by way of another wing."""
    return any(used in _reached(near, between) for between in near[user] - {used})


def _reached(near: dict[str, set[str]], start: str) -> set[str]:
    found, todo = set(), [start]
    while todo:
        new = near[todo.pop()] - found
        found |= new
        todo += new
    return found


def _box(house: House, wing: Wing, x: float, width: float) -> Box:
    room = wing.name.split(".")[0]
    said = [f"{'uses' if used == room else used + ':'} {', '.join(names)}" for used, names in uses(house, wing).items()]
    if wing.name == room:
        said = [f"files: {', '.join(file.path.stem for file in wing.files)}"]
    characters = int((width - 2 * PAD) / CHARACTER)
    soft = [line for text in reversed(said) for line in textwrap.wrap(text, characters)]
    return Box(wing, x, width, textwrap.wrap(wing.face.doc, characters), soft)


def _stack(column: list[Box]) -> list[Box]:
    for above, box in pairwise(column):
        box.y = above.y + above.height + GAP
    return column


def _spread(column: list[Box], bottom: float) -> None:
    """A short column over the full height, so that its boxes stand near those that they belong to."""
    free = (bottom - TOP - sum(box.height for box in column)) / (len(column) - 1)
    for above, box in pairwise(column):
        box.y = above.y + above.height + free


def _room(room: str, boxes: list[Box], bottom: float) -> list[str]:
    left, right = min(box.x for box in boxes) - MARGIN, max(box.x + box.width for box in boxes) + MARGIN
    panel = _rectangle(left, SPACE / 2, right - left, bottom - SPACE / 2, COLORS[room], radius=10)
    title = _text(left + MARGIN, TOP - 22, f"{room}/", size=19, weight="bold")
    into = [] if room == ROOMS[0] else [_path(f"M{left - SPACE - 12:g} 34H{left + 12:g}", width=3)]
    return [panel, title, *into]


def _arrow(used: Box, user: Box, *, right: bool) -> str:
    if used.x != user.x:
        start, end = (used.x + used.width, user.x) if used.x < user.x else (used.x, user.x + user.width)
        between = (start + end) / 2
        return _curve(start, used.middle, between, end, user.middle)
    if 0 < user.y - used.y - used.height <= GAP:
        return _path(f"M{used.x + used.width / 2:g} {used.y + used.height:g}V{user.y:g}")
    side = used.x + used.width if right else used.x
    bend = min(10 + (user.y - used.y) / 25, 32)
    return _curve(side, used.middle, side + bend if right else side - bend, side, user.middle)


def _curve(x: float, y: float, between: float, to_x: float, to_y: float) -> str:
    return _path(f"M{x:g} {y:g}C{between:g} {y:g} {between:g} {to_y:g} {to_x:g} {to_y:g}")


def _draw(box: Box) -> list[str]:
    frame = _rectangle(box.x, box.y, box.width, box.height, "#ffffff", radius=5, edge=EDGE)
    x, y = box.x + PAD, box.y + TITLE - 2
    name = _text(x, y, box.wing.name.split(".")[-1], size=14, weight="bold")
    below = y + LINE * len(box.lines)
    return [frame, name, *_lines(x, y, box.lines, INK), *_lines(x, below, box.soft, SOFT)]


def _lines(x: float, y: float, lines: Iterable[str], color: str) -> list[str]:
    return [_text(x, y + LINE * place, line, color=color) for place, line in enumerate(lines, 1)]


def _rectangle(x: float, y: float, width: float, height: float, fill: str, *, radius: int, edge: str = "none") -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}" fill="{fill}" stroke="{edge}"/>'
    )


def _text(x: float, y: float, text: str, *, color: str = INK, **style: object) -> str:
    said = "".join(f' font-{name}="{value}"' for name, value in style.items())
    return f'<text x="{x:g}" y="{y:g}" fill="{color}"{said}>{escape(text)}</text>'


def _path(path: str, *, width: float = 1.2) -> str:
    return f'<path d="{path}" fill="none" stroke="{EDGE}" stroke-width="{width}" marker-end="url(#head)"/>'


if __name__ == "__main__":
    main()
