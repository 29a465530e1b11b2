"""Denoisers or conditions at the same noisy points, in chunks of images.

    kind = "bank"
    model = "digits"                    # what load_model takes, or a table of several by name, [model]
    images = "held-out/"                # a folder, or "package.module:function" of images or (images, condition rows);
                                        # by default the held-out digits with their labels
    log_snr = [-6, 6, 13]               # low, high, count of log_snr_grid, or `sigmas`
    draws = 2                           # and noise_seed
    size = 64                           # images a chunk
    device = "cuda"

    [arms]                              # by default cond, with the condition rows, and uncond, of each model
    uncond = {}
    true = { condition = "rows" }
    three = { condition = 3 }           # the same row for all; of several models also model = "name"

What is joined is `comparison.safetensors`: `Comparison.load` reads what `compare_arms` gives for all images, whose
noise depends on (seed, image, level, draw) alone. `pairs` and `map_weights` are those of `compare_arms`.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorescope.data.digits import load_digits
from scorescope.data.errors import InputError
from scorescope.probes.approximations.sources import ImageFolder
from scorescope.probes.bank.compare import Arm, check_map_weights, check_pairs, compare_arms
from scorescope.probes.bank.comparison import Comparison
from scorescope.probes.bank.points import Bank, log_snr_grid
from scorescope.probes.models.conditions import to_device
from scorescope.probes.models.denoiser import Condition
from scorescope.probes.models.factories import call_factory, import_factory
from scorescope.probes.models.fingerprint import fingerprint
from scorescope.probes.models.model import Model, load_model
from scorescope.probes.work.chunks import Chunk, complete, cut, forget
from scorescope.probes.work.executors import worker_device
from scorescope.probes.work.named_models import told_model, worker_models
from scorescope.probes.work.plans import Plan, known_entries, require_kinds, whole_number

NEEDED = ("model",)
POINTS = ("images", "log_snr", "sigmas", "draws", "noise_seed")
"""Entries that say which points a bank has."""
OTHERS = ("factory", *POINTS, "arms", "pairs", "map_weights", "size", "batch", "device")
KINDS: Mapping[str, Any] = {
    "model": str | Mapping[str, str], "factory": str | None, "arms": Mapping[str, Any] | None, "device": str,
    "pairs": Sequence[tuple[str, str]] | None, "map_weights": Sequence[float] | None,
}  # fmt: skip
"""What entries are, as far as no other function says it."""
RESULT = "comparison.safetensors"


def plan(spec: Mapping[str, Any]) -> Plan:
    """The chunks of a set of images, and their join.

    Parameters
    ----------
    spec : mapping
        See above.

    Raises
    ------
    InputError
        Naming the entry that is wrong.
    """
    known_entries(spec, "bank", NEEDED, OTHERS)
    require_kinds(spec, KINDS)
    named = spec["model"] if isinstance(spec["model"], dict) else {"": spec["model"]}
    models = {name: load_model(source, factory=spec.get("factory")) for name, source in named.items()}
    first = next(iter(models.values()))
    if other := [name for name, model in models.items() if model.shape != first.shape]:
        found = f"shape {models[other[0]].shape} of {other[0]!r}"
        raise InputError("model", found=found, expected=f"models of one shape, {first.shape}")
    points = plain_points(spec, first)
    bank, condition = bank_of(points, first, "cpu")
    told = {
        "models": {name: told_model(model, named[name], spec.get("factory")) for name, model in models.items()},
        "points": points,
        "arms": spec.get("arms") or _usual(list(models), condition),
        "pairs": spec.get("pairs"), "map_weights": spec.get("map_weights"), "batch": whole_number(spec, "batch", 256),
        "device": spec.get("device", "cpu"),
    }  # fmt: skip
    check_pairs([arm.name for arm in _arms(told["arms"], models, condition)], told["pairs"])
    check_map_weights(told["map_weights"], len(points["sigmas"]))
    chunks = cut(f"{__name__}:compare_chunk", told, range(len(bank)), size=whole_number(spec, "size", 64))
    return Plan(tuple(chunks), lambda folder: _join(folder, chunks), lambda folder: forget(chunks, folder, RESULT))


def compare_chunk(spec: Mapping[str, Any], seeds: range, folder: Path) -> None:
    """The comparison of some images, by their places."""
    device = worker_device(spec["device"])
    models = worker_models(spec["models"], device)
    bank, condition = bank_of(spec["points"], next(iter(models.values())), device)
    pairs = None if spec["pairs"] is None else [(first, second) for first, second in spec["pairs"]]
    found = compare_arms(
        bank, _arms(spec["arms"], models, condition), pairs=pairs, rows=torch.tensor(seeds),
        map_weights=spec["map_weights"], batch=spec["batch"],
    )  # fmt: skip
    found.save(folder / RESULT)


def plain_points(spec: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """Which points a bank has, as plain data, with a hash of its images."""
    images = spec.get("images", "")
    if not isinstance(images, str):
        raise InputError("images", found=repr(images), expected="a folder, or package.module:function")
    if ("log_snr" in spec) == ("sigmas" in spec):
        raise InputError("log_snr, sigmas", found="both, or neither", expected="one of them")
    if "log_snr" in spec:
        require_kinds(spec, {"log_snr": tuple[float, float, int]})
        sigmas = log_snr_grid(*spec["log_snr"])
    else:
        require_kinds(spec, {"sigmas": Sequence[float]})
        sigmas = [float(sigma) for sigma in spec["sigmas"]]
    seed = spec.get("noise_seed", 0)
    if type(seed) is not int or seed < 0:
        raise InputError("noise_seed", found=repr(seed), expected="a whole number from 0")
    where = str(Path(images).absolute()) if images and ":" not in images else images
    points = {"images": where, "sigmas": sigmas, "draws": whole_number(spec, "draws", 1), "seed": seed}
    return {**points, "data": _digest(*_images(where, model.shape, model.digits is not None))}


def bank_of(points: Mapping[str, Any], model: Model, device: str) -> tuple[Bank, Condition]:
    """The bank that plain data describe, and the condition rows of its images; a worker makes it once.

    Raises
    ------
    InputError
        For images of another shape than the model's, and others than were planned.
    """
    return _bank(json.dumps(points), model.shape, model.digits is not None, device)


@functools.lru_cache(maxsize=1)
def _bank(told: str, shape: tuple[int, ...], digits: bool, device: str) -> tuple[Bank, Condition]:
    points = json.loads(told)
    images, condition = _images(points["images"], shape, digits)
    if points["data"] != _digest(images, condition):
        raise InputError("images", found="others than the work was planned with", expected="the same images")
    bank = Bank(images.to(device), points["sigmas"], points["draws"], points["seed"])
    return bank, to_device(condition, torch.device(device))


def _images(where: str, shape: tuple[int, ...], digits: bool) -> tuple[Tensor, Condition]:
    """Those of a folder or a function, or the held-out digits where they are the model's data."""
    if where:
        images, condition = _read(where, shape[0])
    elif digits:
        images, condition = load_digits().held_out.images, load_digits().held_out.labels
    else:
        expected = "a folder, or package.module:function of images or (images, condition rows)"
        raise InputError("images", found="none for a model of other data than the digits", expected=expected)
    if tuple(images.shape[1:]) != shape:
        raise InputError("images", found=f"shape {tuple(images.shape[1:])}", expected=f"{shape}")
    return images, condition


def _read(where: str, channels: int) -> tuple[Tensor, Condition]:
    if ":" not in where:
        images = torch.cat(list(ImageFolder(where)))
        return images.mean(1, keepdim=True) if channels == 1 else images, None
    made = call_factory(import_factory(where, argument="images", known=[]), where, argument="images")
    images, condition = made if isinstance(made, tuple) else (made, None)
    if not isinstance(images, Tensor):
        raise InputError("images", found=f"a {type(images).__name__} from {where}", expected="a Tensor of images")
    return images, condition


def _digest(images: Tensor, condition: Condition) -> str:
    return fingerprint((images, condition), argument="images")


def _usual(models: list[str], condition: Condition) -> dict[str, dict[str, Any]]:
    """Arms where none are named: every model without a condition, and with that of each image."""
    kinds = {"uncond": {}, "cond": {"condition": "rows"}} if condition is not None else {"uncond": {}}
    return {
        f"{model}, {name}" if model else name: {**how, "model": model}
        for model in models
        for name, how in kinds.items()
    }


def _arms(plain: Mapping[str, Any], models: Mapping[str, Model], rows: Condition) -> list[Arm]:
    """The arms that plain data describe."""
    arms = []
    for name, how in plain.items():
        if not isinstance(how, dict):
            raise InputError(f"arms.{name}", found=repr(how), expected="a table of condition and model")
        known_entries(how, f"arms.{name}", (), ("model", "condition"))
        model = how.get("model", next(iter(models)))
        if model not in models:
            raise InputError(f"arms.{name}.model", found=repr(model), expected=f"one of {', '.join(models)}")
        condition = _condition(name, how.get("condition"), rows)
        if how.get("condition") != "rows":
            _check_in_range(name, condition, models[model])
        arms.append(Arm(name, models[model].denoiser, condition))
    return arms


def _condition(name: str, given: Any, rows: Condition) -> Condition:
    if given == "rows" and rows is not None:
        return rows
    if given is None or (not isinstance(given, str) and _is_whole(given)):
        return None if given is None else torch.tensor([given])
    have = '"rows", ' if rows is not None else ""
    expected = f"{have}a class, or a list of attribute values; none for the unconditional branch"
    raise InputError(f"arms.{name}.condition", found=repr(given), expected=expected)


def _check_in_range(name: str, condition: Condition, model: Model) -> None:
    """Refuse a class or attribute values that the model does not have, where it says what it has."""
    if not isinstance(condition, Tensor):
        return
    attributes = tuple(getattr(getattr(model.denoiser, "config", None), "attributes", ()))
    classes = getattr(model.denoiser, "classes", 0)
    last = list(attributes) if attributes else [classes - 1]  # an attribute is left open by its number of values
    given = condition.flatten().tolist()
    if last != [-1] and (len(given) != len(last) or any(map(int.__gt__, given, last))):
        expected = f"at most {last}" if attributes else f"a class from 0 to {classes - 1}"
        raise InputError(f"arms.{name}.condition", found=str(given), expected=expected)


def _is_whole(given: Any) -> bool:
    values = given if isinstance(given, list) else [given]
    return bool(values) and all(type(value) is int and value >= 0 for value in values)


def _join(folder: Path, chunks: list[Chunk]) -> list[Path]:
    """Put the images side by side, if all are there."""
    parts = [Comparison.load(place / RESULT) for place, _ in complete(chunks, folder)]
    return [Comparison.join(parts).save(folder / RESULT)] if parts else []
