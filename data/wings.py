"""What a room says when it is asked for a name that one of its wings has."""

from collections.abc import Mapping
from types import ModuleType


def not_here(room: str, name: str, face: Mapping[str, object]) -> Exception:
    """The error for a name that a room does not have.

    Parameters
    ----------
    room : str
        Its import name.
    name : str
        What was asked for.
    face : mapping of str to object
        What the room has, its wings among them.

    Returns
    -------
    Exception
        `ImportError` that names the wing which has it; `AttributeError` where none has.
    """
    wings = {wing: module for wing, module in face.items() if isinstance(module, ModuleType)}
    homes = [wing for wing, module in wings.items() if name in getattr(module, "__all__", ())]
    if not homes:
        return AttributeError(f"module {room!r} has no attribute {name!r}")
    places = " and ".join(f"{room}.{wing}" for wing in homes)
    return ImportError(f"{name!r} is in {places}: from {room}.{homes[0]} import {name}")
