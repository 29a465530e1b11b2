"""What a report was asked for, in its manifest: the command, its options, and hashes of the files that they name.

    request = Request("report guidance", {"denoiser": "digits", "quick": True}, Path.cwd())
    with asked(request): ...                  # reports that are written inside carry it
    request.recorded()                        # as JSON holds it, with hashes of the files

`scorescope rerun` asks for the same again, and `scorescope study` tells by it what is made already.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from scorescope.data.checkpoints import sha256, shipped_denoisers
from scorescope.data.doors import checked

NAMES = (
    "denoiser",
    "subject",
    "pipeline",
    "config",
    "names",
    "factory",
    "score",
    "decoder",
    "weak",
    "checkpoint",
    "name",
)
"""Options that are files where there is one of that name."""
CLIP = "clip:"  # before the folder of a judge
_FACTORY = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*):[A-Za-z_]\w*")


@checked
@dataclass(frozen=True)
class Request:
    """A command with its options, but for the folder that it writes to.

    Attributes
    ----------
    command : str
        Its words, as "report guidance".
    options : mapping
        By the name that the command line has for them, with `_` for `-`; files are paths.
    folder : Path
        Where relative names are from, and modules of factories are looked for first.
    """

    command: str
    options: Mapping[str, Any]
    folder: Path

    @property
    def plain(self) -> dict[str, Any]:
        """The options as JSON holds them; those that are None or empty are left out."""
        return {name: _plain(value) for name, value in self.options.items() if value not in (None, [], ())}

    def inputs(self) -> dict[str, str]:
        """Hash of every file and folder that an option names, and of the file with a factory, by name as given.

        Of --set they are the texts that are names of files. What a factory's file imports or reads is not in its hash,
        see `factories`; the shipped models are not here, nor
        is what a hub holds.
        """
        named = [(option, one) for option, value in self.options.items() for part in _each(value)
                 for one in (_texts_of(part) if option == "set" else [part])]  # fmt: skip
        hashes = {str(one): self._hash(option, one) for option, one in named}
        return {name: digest for name, digest in hashes.items() if digest}

    def factories(self) -> list[str]:
        """Functions that options name: what their files import and read is in no hash."""
        named = [one for option in NAMES for one in _each(self.options.get(option)) if isinstance(one, str)]
        return [one for one in named if _FACTORY.fullmatch(one) and not one.startswith(CLIP)]

    def recorded(self) -> dict[str, Any]:
        """What a manifest holds."""
        return {
            "command": self.command, "options": self.plain, "folder": str(self.folder), "inputs": self.inputs(),
        }  # fmt: skip

    def _hash(self, option: str, value: Any) -> str:
        if option == "checkpoint" and isinstance(value, str):
            value = value.partition("=")[2]
        if isinstance(value, Path):
            return hash_of(self.folder / value) or "no such file"
        if option == "set":
            return sha256(self.folder / value) if _is_file(self.folder / value) else ""
        if option not in NAMES or not isinstance(value, str) or not value or value in shipped_denoisers():
            return ""  # an empty name would be that of the folder itself
        if option == "score" and value.startswith(CLIP):
            return hash_of(self.folder / value.removeprefix(CLIP))
        factory = _FACTORY.fullmatch(value)
        return hash_of(_source(factory[1], self.folder) if factory else self.folder / value)


_ASKED: ContextVar[Request | None] = ContextVar("asked", default=None)


@contextmanager
def asked(request: Request) -> Iterator[None]:
    """Reports that are written inside are those that a command was asked for."""
    token = _ASKED.set(request)
    try:
        yield
    finally:
        _ASKED.reset(token)


def recorded(own: Request | str) -> dict[str, Any]:
    """What a manifest holds: what the running command was asked for, else the call, else why neither is known."""
    request = _ASKED.get() or own
    return {"missing": request} if isinstance(request, str) else request.recorded()


def same_question(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two recorded requests are of one command, with the same options and files, wherever their folders are."""
    return all(one.get(part) == other.get(part) for part in ("command", "options", "inputs"))


def by_call(command: str, **options: Any) -> Request | str:
    """What a call from Python comes to as a command, or that there is none for it: of a model without a name."""
    if "" in (options.get("denoiser"), options.get("subject")):
        return "it was made in Python of an object that no command names"
    return Request(command, options, Path.cwd())


def hash_of(path: Path | None) -> str:
    """SHA-256 of a file, or of the names and hashes of all files in a folder; empty where there is none."""
    if path is None or not path.exists():
        return ""
    if path.is_file():
        return sha256(path)
    digest = hashlib.sha256()
    for file in filter(Path.is_file, sorted(_files_in(path))):
        digest.update(f"{sha256(file)} {file.relative_to(path).as_posix()}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _files_in(path: Path) -> Iterator[Path]:
    """Files below a folder, also those in folders that it links to; a folder that links lead back to counts once."""
    seen = set[str]()
    for folder, inside, names in os.walk(path, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            inside.clear()
            continue
        seen.add(real)
        yield from (Path(folder, name) for name in names)


def _source(module: str, folder: Path) -> Path | None:
    """The file of a module, found without importing it."""
    where: Any = [str(folder), *sys.path]
    name, spec = "", None
    for part in module.split("."):
        name = f"{name}.{part}".lstrip(".")
        spec = None if where is None else PathFinder.find_spec(name, where)
        where = None if spec is None else spec.submodule_search_locations
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def _texts_of(setting: str) -> list[str]:
    """Texts in the value of key=value, which is JSON or a text itself."""
    text = setting.partition("=")[2]
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    return list(_texts(value))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a prompt is too long for a name
        return False


def _each(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, bool | int | float) else str(value)
