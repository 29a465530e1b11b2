"""A denoiser with what is needed to sample from it, and how to name one on a command line.

model = load_model("digits")
model = load_model("my_package.my_module:make_denoiser")
"""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from scorescope.data.checkpoints import load_denoiser, shipped_denoisers
from scorescope.data.digits import Digits, load_digits
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import Condition, Denoiser


@checked
@dataclass(frozen=True)
class Model:
    """A denoiser and what a report has to know of it.

    Attributes
    ----------
    denoiser : Denoiser
        The model.
    name : str
        What figures and pages call it.
    shape : tuple of int
        Shape of one sample.
    conditions : callable
        Number of samples to one condition a sample, in an order that treats conditions alike.
    value_range : (float, float) or None
        Range of the data; None for latents.
    digits : Digits or None
        The real data, where they are the shipped digits: gives reports a reference.
    source : str
        Where it comes from, for the manifest: a hash of weights, or the factory's name.
    loaded_as : str
        What `load_model` was given, which makes the same model again; empty for a model made, or changed, otherwise.
    """

    denoiser: Denoiser
    name: str
    shape: tuple[int, ...]
    conditions: Callable[[int], Condition]
    value_range: tuple[float, float] | None = None
    digits: Digits | None = None
    source: str = ""
    loaded_as: str = field(default="", init=False, compare=False)  # `replace` does not carry it over

    def __post_init__(self) -> None:
        check_value_range(self.value_range)


@checked
def load_model(name: str, *, device: str | torch.device = "cpu") -> Model:
    """The model that a name stands for.

    Parameters
    ----------
    name : str
        A shipped denoiser ("digits", "digits_weak", "shapes"), a safetensors file of another one of ours, or
        "package.module:factory". The factory takes no
        arguments and returns a `Model`, or a denoiser with attributes `shape` and `classes` (and, if it has
        one, `value_range`). The current folder is searched too.
    device : str
        Where shipped weights go.

    Raises
    ------
    InputError
        If there is no such model, or the factory returns something else.
    """
    check_device(device)
    model = _loaded(name, device)
    object.__setattr__(model, "loaded_as", name)
    return model


def _loaded(name: str, device: str | torch.device) -> Model:
    if name in shipped_denoisers():
        denoiser, card = load_denoiser(name, device=device)
        source = f"sha256 {card.get('weights_sha256', 'unknown')}"
        if sizes := denoiser.config.attributes:
            return Model(denoiser, name, denoiser.shape, combinations(sizes), (-1.0, 1.0), source=source)
        digits = load_digits()
        return Model(denoiser, name, denoiser.shape, _cycle(denoiser.classes), (-1.0, 1.0), digits, source)
    if name.endswith(".safetensors"):
        return _of_file(Path(name), device)
    factory = import_factory(name, argument="denoiser", known=shipped_denoisers())
    try:
        found = factory()
    except Exception as error:
        found_text = f"{name!r}, which failed with {type(error).__name__}: {error}"
        raise InputError("denoiser", found=found_text, expected="a factory that returns a denoiser") from error
    if isinstance(found, Model):
        return found
    shape, classes = getattr(found, "shape", None), getattr(found, "classes", None)
    if not callable(found) or not shape or not classes:
        expected = "a Model, or a callable denoiser with attributes shape and classes"
        raise InputError(f"denoiser {name!r}", found=f"a {type(found).__name__}", expected=expected)
    return Model(found, name, tuple(shape), _cycle(int(classes)), getattr(found, "value_range", None), source=name)


def _of_file(path: Path, device: str | torch.device) -> Model:
    """A denoiser of ours in a file, with the digits beside it where their shape is its own."""
    denoiser, card = load_denoiser(path, device=device)
    source, digits = f"sha256 {card.get('weights_sha256', 'unknown')}", load_digits()
    if sizes := denoiser.config.attributes:
        return Model(denoiser, path.stem, denoiser.shape, combinations(sizes), (-1.0, 1.0), source=source)
    held = digits if digits.train.images.shape[1:] == denoiser.shape else None
    return Model(denoiser, path.stem, denoiser.shape, _cycle(denoiser.classes), (-1.0, 1.0), held, source)


def check_device(device: str | torch.device) -> None:
    """Raise `InputError` unless torch can put a tensor there."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        found = f"{device!r} ({str(error).splitlines()[0]})"
        raise InputError("device", found=found, expected="a device that this torch has, such as cpu") from None


def _cycle(classes: int) -> Callable[[int], Condition]:
    return lambda count: torch.arange(count) % classes


def combinations(sizes: tuple[int, ...]) -> Callable[[int], Condition]:
    """All combinations of attribute values, each once before any comes again, in a fixed mixed order."""
    every = torch.cartesian_prod(*(torch.arange(size) for size in sizes))
    every = every[torch.randperm(len(every), generator=torch.Generator().manual_seed(0))]
    return lambda count: every[torch.arange(count) % len(every)]


def import_factory(name: str, *, argument: str, known: list[str]) -> Callable[[], Any]:
    """The function that "package.module:factory" names; the current folder is searched too.

    Raises
    ------
    InputError
        Naming `argument`, what was found, and that the name could also be one of `known`.
    """
    module_name, _, attribute = name.partition(":")
    expected = f"one of {known}, or package.module:factory"
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


def check_value_range(value_range: tuple[float, float] | None) -> None:
    """Raise `InputError` unless the range is None or two finite numbers, low < high."""
    if value_range is not None and not float("-inf") < value_range[0] < value_range[1] < float("inf"):
        raise InputError("value_range", found=str(value_range), expected="(low, high) with low < high, or None")
