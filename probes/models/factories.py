"""Functions of the user's that a name on a command line stands for: package.module:factory."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scorescope.data.errors import InputError


def import_factory(name: str, *, argument: str, known: list[str]) -> Callable[[], Any]:
    """The function that "package.module:factory" names; the current folder is searched too.

    Raises
    ------
    InputError
        Naming `argument`, what was found, and that the name could also be one of `known`.
    """
    module_name, _, attribute = name.partition(":")
    expected = f"one of {known}, or package.module:factory" if known else "package.module:factory"
    if (Path(name) / "model_index.json").is_file():
        raise InputError(argument, found=f"{name!r}, a diffusers pipeline", expected="--pipeline for it")
    if module_name.endswith(".py") and attribute:
        dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise InputError(argument, found=repr(name), expected=f"package.module:factory, as {dotted}:{attribute}")
    if not attribute:
        raise InputError(argument, found=repr(name), expected=expected)
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)  # as `python -m` would
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(argument, found=f"{name!r} ({error})", expected=expected) from None
    if not callable(factory):
        expected = f"a function that returns a {argument}"
        raise InputError(argument, found=f"{name!r}, a {type(factory).__name__}", expected=expected)
    made: Callable[[], Any] = factory
    return made


def call_factory(factory: Callable[[], Any], name: str, *, argument: str) -> Any:
    """What a user's factory returns.

    Raises
    ------
    InputError
        Naming `argument` and what the factory raised.
    """
    try:
        return factory()
    except Exception as error:
        found = f"{name!r}, which failed with {type(error).__name__}: {error}"
        raise InputError(argument, found=found, expected=f"a factory that returns a {argument}") from error
