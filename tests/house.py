"""The house as it is declared, and as it is read from its code: rooms, wings, faces, imports.

    house = read_house()
    house.wings["probes.pipelines"].uses      # wings that it imports, by their full names
    house.files["probes.pipelines.proof"].doc # the first line of a file's docstring

`tests/test_house.py` keeps the code to the declaration; `tests/house_map.py` draws it.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("data", "probes", "analysis", "reports")  # each imports only those before it

# wings of `probes` in a row: each may import those before it
ROW = ("models", "decomposition", "pipelines", "sites", "guidance", "recording", "sampling", "experiments")
BESIDE = (
    "perturbations", "approximations", "bank", "gradients", "activations", "sparse", "attention", "features", "work",
)  # fmt: skip

INSTRUMENTS = ("guidance", "fid", "gaussian", "directions")

# what each wing may import in its own room; wings are drawn in this order
MAY_IMPORT: dict[str, dict[str, tuple[str, ...]]] = {
    "data": {},
    "probes": {
        **{wing: ROW[:place] for place, wing in enumerate(ROW)},
        "sampling": (*ROW[: ROW.index("sampling")], "approximations"),
        "perturbations": (*ROW[: ROW.index("experiments")], "approximations"),
        "approximations": ("models",),
        "bank": ("models",),
        "gradients": ("models", "pipelines", "sites", "guidance"),
        "activations": (*ROW[: ROW.index("experiments")], "bank"),
        "attention": ("models", "pipelines", "sites"),
        "sparse": ("models", "pipelines", "sites"),
        "features": (),
        "work": (*ROW, "approximations", "features", "bank", "activations"),
    },
    "analysis": {
        "statistics": (),
        "fid": ("statistics",),
        "guidance": ("statistics", "fid"),
        "gaussian": ("statistics", "fid"),
        "information": ("statistics", "fid"),
        "directions": ("statistics",),
        "attention": ("statistics", "directions"),
        "trajectories": ("statistics", "fid", "guidance", "gaussian"),
        "steps": ("statistics", "trajectories"),
        "inside": ("statistics",),
        "units": ("statistics", "directions"),
        "groups": ("statistics", "directions"),
        "changes": ("statistics", "guidance"),
        "work": ("statistics", "directions", "attention"),
    },
    "reports": {
        "page": (),
        "entries": ("page",),
        **{instrument: ("page", "entries") for instrument in INSTRUMENTS},
        "trajectories": ("page", "entries", "guidance"),
        "attention": ("page",),
        "inside": ("page", "entries", "directions", "attention"),
        "changes": ("page",),
        "studies": ("page", "gaussian"),
        "atlas": ("page", "entries", *INSTRUMENTS, "trajectories", "inside", "studies"),
        "cli": ("page", "entries", *INSTRUMENTS, "trajectories", "inside", "changes", "studies", "atlas"),
    },
}


@dataclass(frozen=True)
class Import:
    """One name that a file imports: `from module import name`, or `import module` with an empty name."""

    module: str
    name: str = ""


@dataclass(frozen=True)
class File:
    """A source file: its dotted name without `scorescope.`, and its syntax tree."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def docstring(self) -> str:
        return ast.get_docstring(self.tree) or ""

    @property
    def doc(self) -> str:
        return self.docstring.split("\n")[0]

    @property
    def is_face(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def wing(self) -> str:
        """`room.wing`, or the room alone for what lies in no wing."""
        return ".".join(self.path.relative_to(ROOT).parent.parts[:2])

    @cached_property
    def imports(self) -> list[Import]:
        return list(imports(self.tree))

    @cached_property
    def taken(self) -> set[str]:
        """Names that a face takes from its files, in place of files of that name."""
        return {found.name for found in self.imports if self.is_face and found.module != f"scorescope.{self.name}"}

    @cached_property
    def defined(self) -> dict[str, ast.stmt]:
        """Top-level definitions by name."""
        return {name: node for node in self.tree.body for name in _names(node)}

    @cached_property
    def public(self) -> list[str]:
        """`__all__`."""
        node = self.defined.get("__all__")
        return [] if node is None else ast.literal_eval(node.value)

    def is_documented(self, name: str) -> bool:
        """Whether a docstring explains it; a constant by a string below, a comment, or what it holds."""
        node = self.defined[name]
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            return ast.get_docstring(node) is not None
        return _explains_itself(node.value) or self._is_explained(node)

    def _is_explained(self, node: ast.stmt) -> bool:
        lines = self.path.read_text().splitlines()
        below = self.tree.body[self.tree.body.index(node) + 1 :][:1]
        said = any(isinstance(next_, ast.Expr) and isinstance(next_.value, ast.Constant) for next_ in below)
        return said or "  # " in lines[node.lineno - 1] or lines[node.lineno - 2].startswith("# ")


@dataclass
class Wing:
    """A wing, or a room that has none."""

    name: str
    face: File
    files: list[File] = field(default_factory=list)
    uses: set[str] = field(default_factory=set)


@dataclass
class House:
    """All files by dotted name, all wings by full name (`probes.models`; `data` for the room without wings)."""

    files: dict[str, File]
    wings: dict[str, Wing]

    def wings_of(self, room: str) -> list[Wing]:
        """In the order of drawing."""
        names = [f"{room}.{wing}" for wing in MAY_IMPORT[room]] or [room]
        return [self.wings[name] for name in names]

    def in_order(self) -> list[Wing]:
        """All wings, room by room."""
        return [wing for room in ROOMS for wing in self.wings_of(room)]

    def target(self, imported: Import) -> str:
        """The file or face that an import reads, by dotted name; empty for what is not ours."""
        top, _, module = imported.module.partition(".")
        if top != "scorescope":
            return ""
        inner = f"{module}.{imported.name}".strip(".")
        hidden = module in self.files and imported.name in self.files[module].taken  # a function named as its file
        return inner if inner in self.files and not hidden else module

    def where(self, name: str, near: str) -> File:
        """The one file that defines a name: that of dotted name `near`, else one beside it, else one anywhere."""
        beside = near.rpartition(".")[0]
        for start in (f"{near}.", f"{beside}.", ""):
            found = [file for file in self.files.values() if f"{file.name}.".startswith(start) and name in file.defined]
            if len(found) == 1:
                return found[0]
        raise LookupError(f"{name}, once in {near}, is defined in {[file.name for file in found]}")


def read_house() -> House:
    """Read every source file of the rooms."""
    files = {file.name: file for room in ROOMS for file in map(_file, sorted((ROOT / room).rglob("*.py")))}
    faces = [file for file in files.values() if file.is_face and (file.name == "data" or "." in file.name)]
    declared = {f"{room}.{wing}" for room in ROOMS for wing in MAY_IMPORT[room]} | {"data"}
    if stray := {face.name for face in faces} ^ declared:
        raise ValueError(f"not both in the code and in {Path(__file__).name}: {', '.join(sorted(stray))}")
    house = House(files, {face.name: Wing(face.name, face) for face in faces})
    for file in files.values():
        if file.wing in house.wings:
            wing = house.wings[file.wing]
            wing.files += [] if file.is_face else [file]
            wing.uses |= {house.files[name].wing for name in map(house.target, file.imports) if name} - {file.wing}
    return house


def imports(tree: ast.Module) -> Iterator[Import]:
    """Every import of a syntax tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (Import("." * node.level + (node.module or ""), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (Import(alias.name) for alias in node.names)


def _file(path: Path) -> File:
    inner = path.relative_to(ROOT).with_suffix("")
    parts = inner.parent.parts if path.name == "__init__.py" else inner.parts
    return File(".".join(parts), path, ast.parse(path.read_text()))


def _explains_itself(value: ast.expr) -> bool:
    """A `Schema`, or a dict of names and what they mean."""
    if isinstance(value, ast.Dict):
        return all(isinstance(item, ast.Constant) and isinstance(item.value, str) for item in value.values)
    return isinstance(value, ast.Call) and ast.unparse(value.func) == "Schema"


def _names(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id
