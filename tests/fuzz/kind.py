"""What a kind of file is to the harness: a sound one, how it is read, and how it is damaged from inside."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from scorescope.data.errors import InputError


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes
    ----------
    name : str
        For messages, and the seed.
    make : callable
        Writes a sound one to a folder and gives the path that `read` takes.
    read : callable
        Reads all of it.
    inside : callable, optional
        Damages what is in it, with sums and hashes made right again.
    sound : bool
        Whether the one that `make` writes is read without an error.
    """

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    inside: Callable[[Path, Random], None] | None = None
    sound: bool = True


def written(name: str, content: bytes | Callable[[], bytes]) -> Callable[[Path], Path]:
    """A maker of one file."""

    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content() if callable(content) else content)
        return path

    return make


def all_of(*reads: Callable[[], object]) -> None:
    """Read in several ways, each also where another one refuses the file; then raises what was refused last."""
    refused = None
    for read in reads:
        try:
            read()
        except InputError as error:
            refused = error
    if refused is not None:
        raise refused
