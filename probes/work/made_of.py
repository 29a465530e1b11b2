"""Rules and solvers as plain data, {"class": "APG", "weight": 4.0, "norm": 15.0}, and back; what files were, in a word.

    rule = made_of({"class": "Interval", "rule": {"class": "CFG", "weight": 3.0}, "low": 0.3}, RULES, "rules.interval")
    plain_of(rule)

Classes of one's own are named as "package.module:Class".
"""

import hashlib
import importlib
import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from scorescope.data.errors import InputError
from scorescope.probes.models.factories import import_factory

RULES, SOLVERS = "scorescope.probes.guidance", "scorescope.probes.sampling"


def made_of(plain: Any, home: str, argument: str) -> Any:
    """What plain data describe.

    Parameters
    ----------
    plain : mapping
        `class`, and the fields of that class; a mapping with a `class` among them is made first.
    home : str
        Whose public classes need no module.
    argument : str
        Its name in errors.

    Raises
    ------
    InputError
        For a class that there is not, fields that it has not, and values that it refuses.
    """
    if not isinstance(plain, Mapping) or not isinstance(plain.get("class"), str):
        raise InputError(argument, found=repr(plain), expected='a class and its fields, as class = "CFG", weight = 4.0')
    name = plain["class"]
    kind = import_factory(name, argument=argument, known=[]) if ":" in name else _public(name, home, argument)
    given = {key: _value(value, home, f"{argument}.{key}") for key, value in plain.items() if key != "class"}
    is_float = {item.name for item in fields(kind) if item.type is float} if is_dataclass(kind) else set[str]()
    given = {key: float(value) if key in is_float and type(value) is int else value for key, value in given.items()}
    try:
        return kind(**given)
    except InputError as error:
        raise InputError(f"{argument}.{error.argument}", found=error.found, expected=error.expected) from None
    except TypeError as error:
        raise InputError(argument, found=str(error), expected=f"fields of {name}") from None


def plain_of(thing: Any, argument: str) -> Any:
    """The plain data that describe a rule or a solver.

    Raises
    ------
    InputError
        Where a field holds a network or a function: the work of others needs a name for it, of a class that makes it.
    """
    if is_dataclass(thing) and not isinstance(thing, type):
        kind = type(thing)
        name = kind.__name__ if kind.__module__.startswith("scorescope.") else f"{kind.__module__}:{kind.__qualname__}"
        held = {item.name: plain_of(getattr(thing, item.name), argument) for item in fields(thing) if item.init}
        return {"class": name, **held}
    if isinstance(thing, list | tuple):
        return [plain_of(one, argument) for one in thing]
    if thing is None or isinstance(thing, str | int | float | bool):
        return thing
    found, expected = f"a {type(thing).__name__} in it", "numbers and texts, or a class of yours that holds the rest"
    raise InputError(argument, found=found, expected=expected)


def stamp_of(source: str | Path) -> str:
    """A hash of the names, sizes and times of a file or of all files in a folder; empty where there is none.

    Content is not read: of what is written again in the same place the time differs.
    """
    path = Path(source)
    if not path.exists():
        return ""
    files = sorted(Path(folder) / name for folder, _, names in os.walk(path) for name in names) or [path]
    found = hashlib.sha256()
    for file in files:
        about = file.stat() if file.exists() else None
        facts = (file.relative_to(path).as_posix(), about and about.st_size, about and about.st_mtime_ns)
        found.update(repr(facts).encode())
    return found.hexdigest()


def _public(name: str, home: str, argument: str) -> Any:
    module = importlib.import_module(home)
    if name not in module.__all__:
        classes = [one for one in module.__all__ if isinstance(getattr(module, one), type)]
        raise InputError(argument, found=repr(name), expected=f"one of {', '.join(classes)}, or package.module:Class")
    return getattr(module, name)


def _value(value: Any, home: str, argument: str) -> Any:
    if isinstance(value, Mapping) and "class" in value:
        return made_of(value, home, argument)
    return tuple(_value(one, home, argument) for one in value) if isinstance(value, list) else value
