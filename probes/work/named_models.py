"""What specs of several kinds say alike: a model by its name, how it is sampled, and the device of a worker.

told = told_model(model, spec)              # for chunks: with a hash of what the plan saw
model = worker_model(told, "cuda")          # a worker's, loaded once
sampled_how(spec)                           # arguments of `sample`: rule, solver, sigmas
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scorescope.data.errors import InputError
from scorescope.probes.models.fingerprint import fingerprint
from scorescope.probes.models.model import Model, load_model
from scorescope.probes.models.noise import check_sigmas, edm_sigmas
from scorescope.probes.sampling.solvers import Heun
from scorescope.probes.work.made_of import RULES, SOLVERS, made_of, plain_of
from scorescope.probes.work.plans import whole_number

HOW = ("steps", "sigmas", "solver", "rule")
"""Entries that say how samples are drawn."""


def told_model(model: Model, name: str, factory: str | None) -> dict[str, Any]:
    """What chunks are told of a model: another one of the same name makes other chunks."""
    where = str(Path(name).absolute()) if name.endswith(".safetensors") else name  # workers may be in other folders
    return {"name": where, "factory": factory, "source": model.source, "fingerprint": _fingerprint(model)}


def worker_model(told: Mapping[str, Any], device: str) -> Model:
    """A worker's model, loaded once; it is the one that the plan saw."""
    return worker_models({"": told}, device)[""]


def worker_models(told: Mapping[str, Mapping[str, Any]], device: str) -> dict[str, Model]:
    """The same of several by name."""
    return _loaded(json.dumps(told), device)


@functools.lru_cache(maxsize=1)
def _loaded(told: str, device: str) -> dict[str, Model]:
    models = {}
    for name, spec in json.loads(told).items():
        models[name] = model = load_model(spec["name"], device=device, factory=spec["factory"])
        if model.source != spec["source"]:
            found = f"{spec['name']} with {model.source}"
            raise InputError("model", found=found, expected=f"the one of {spec['source']}")
        if _fingerprint(model) != spec["fingerprint"]:  # what a factory makes can change under its name
            found = f"{spec['name']} that gives another model than the work was planned with"
            raise InputError("model", found=found, expected="the same model in every process")
    return models


def _fingerprint(model: Model) -> str:
    return fingerprint((model.denoiser, model.conditions), argument="model")


def levels_of(spec: Mapping[str, Any]) -> list[float]:
    """The noise levels `sigmas`, or `edm_sigmas` of so many `steps`."""
    if "sigmas" not in spec:
        return list(edm_sigmas(whole_number(spec, "steps", 18)))
    given = spec["sigmas"]
    if not isinstance(given, list) or not all(type(sigma) in (int, float) for sigma in given):
        raise InputError("sigmas", found=repr(given), expected="a list of noise levels")
    check_sigmas(given)
    return [float(sigma) for sigma in given]


def plain_how(spec: Mapping[str, Any]) -> dict[str, Any]:
    """How samples are drawn, as plain data, with what is not said filled in."""
    solver = made_of(spec["solver"], SOLVERS, "solver") if "solver" in spec else Heun()
    rule = plain_of(made_of(spec["rule"], RULES, "rule"), "rule") if "rule" in spec else None
    return {"sigmas": levels_of(spec), "solver": plain_of(solver, "solver"), "rule": rule}


def sampled_how(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `sample` that `plain_how` described."""
    rule = None if plain["rule"] is None else made_of(plain["rule"], RULES, "rule")
    return {"sigmas": plain["sigmas"], "solver": made_of(plain["solver"], SOLVERS, "solver"), "rule": rule}
