"""The face of a room: its names are loaded when they are first asked for, and it says which wing has any other.

    if TYPE_CHECKING:
        from scorescope.analysis import fid
        from scorescope.analysis.fid import kid
    else:
        __getattr__, __dir__ = late_face(__name__)

The imports are read twice, by type checkers as they stand and here as the list of where names come from. A room is so
imported in no time, and a program pays for those wings that it uses.
"""

import ast
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping


def late_face(room: str) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """What a room does when it is asked for a name that is not loaded yet, and when it is asked for its names.

    Parameters
    ----------
    room : str
        Its import name. All that it imports from itself is loaded late.

    Returns
    -------
    __getattr__ : callable
        Raises `ImportError` that names the wing which has a name; `AttributeError` where none has.
    __dir__ : callable
    """
    homes = _homes(room)

    def load(name: str) -> object:
        if name not in homes:
            raise _not_here(room, name, homes)
        home = importlib.import_module(homes[name])
        value = home if home.__name__ == f"{room}.{name}" else getattr(home, name)
        setattr(sys.modules[room], name, value)
        return value

    return load, lambda: sorted({*vars(sys.modules[room]), *homes})


def _homes(room: str) -> dict[str, str]:
    """The module of each name that a room imports from itself; a wing is its own."""
    tree = ast.parse(inspect.getsource(sys.modules[room]))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    wings = {alias.name: f"{room}.{alias.name}" for node in found if node.module == room for alias in node.names}
    inner = [node for node in found if str(node.module).startswith(f"{room}.")]
    return wings | {alias.name: str(node.module) for node in inner for alias in node.names}


def _not_here(room: str, name: str, homes: Mapping[str, str]) -> Exception:
    wings = [] if name.startswith("_") else [wing for wing, home in homes.items() if home == f"{room}.{wing}"]
    having = [wing for wing in wings if name in importlib.import_module(f"{room}.{wing}").__all__]
    if not having:
        return AttributeError(f"module {room!r} has no attribute {name!r}")
    places = " and ".join(f"{room}.{wing}" for wing in having)
    return ImportError(f"{name!r} is in {places}: from {room}.{having[0]} import {name}")
