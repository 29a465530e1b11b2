"""Dose and response of a direction in chunks of seeds.

    kind = "steering"
    model = "my_module:make"            # what load_model takes; with its `factory`
    direction = "size.safetensors"      # that `Direction.save` wrote, or an imported one
    scores = "my_module:scores"         # a function without arguments that returns the scores of `steer_curve`
    target = "size"
    seeds = 2000                        # and how samples are drawn: steps or sigmas, solver, rule
    size = 8                            # seeds a chunk
    batch = 256                         # rows (arm and seed) that are computed together
    device = "cuda"

and of the arguments of `steer_curve` strengths, intervals, branch, random, shuffled (a file, or several), seed; and
those that only say how the measures of all seeds are judged, so that the same chunks serve others of them: relevant,
chosen_from, natural, budget, resamples. Conditions are those of `Model.conditions`; distances between samples are root
mean squares.

What is joined are the tables of a `SteerCurve`, which `read_steering` reads. The numbers are those of `steer_curve` of
all seeds with one thread, where `size` is a multiple of the seeds that a batch holds, or no more than one batch.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from scorescope.analysis.directions.steered import Shuffled, SteerCurve, Steering, check_judged
from scorescope.analysis.directions.steering_arms import Measured, Scores, check_target, natural_units
from scorescope.analysis.directions.steering_tables import STEER_ARMS, STEER_CURVE, STEER_SAMPLES
from scorescope.analysis.directions.verdicts import STEER_VERDICTS
from scorescope.analysis.statistics.bootstrap import LEAST_SEEDS, check_seeds
from scorescope.data.checkpoints import sha256
from scorescope.data.doors import checked, require_returned
from scorescope.data.errors import InputError
from scorescope.data.untrusted import check_file, only_input_errors, read_parquet, read_tensors
from scorescope.data.written_files import read_json, replace_file, write_json
from scorescope.probes.models.conditions import select_rows
from scorescope.probes.models.factories import call_factory, import_factory
from scorescope.probes.models.fingerprint import fingerprint
from scorescope.probes.models.model import Model, load_model
from scorescope.probes.sampling.arms import Sampling
from scorescope.probes.sites.direction import Direction
from scorescope.probes.sites.interventions import Branch
from scorescope.probes.work.chunks import complete, cut, forget
from scorescope.probes.work.executors import worker_device
from scorescope.probes.work.named_models import HOW, plain_how, sampled_how, told_model, worker_model
from scorescope.probes.work.plans import Plan, known_entries, require_kinds, seed_range, whole_number

NEEDED = ("model", "direction", "scores", "target", "seeds")
ASKED = ("strengths", "intervals", "branch", "random", "seed")
JUDGED = ("relevant", "chosen_from")
AFTER = ("natural", "budget", "resamples")
KINDS: Mapping[str, Any] = {
    "model": str, "factory": str | None, "scores": str, "target": str, "device": str, "strengths": Sequence[float],
    "intervals": Sequence[tuple[float, float]], "branch": Branch, "random": int, "seed": int, "relevant": float,
    "chosen_from": int, "natural": Mapping[str, float] | None, "budget": float | None,
}  # fmt: skip
"""What entries are, as far as no other function says it."""
OTHERS = ("factory", *HOW, "size", "batch", "device", "shuffled", *ASKED, *JUDGED, *AFTER)
TABLES = {"curve": STEER_CURVE, "arms": STEER_ARMS, "verdicts": STEER_VERDICTS, "samples": STEER_SAMPLES}
SAID, MEASURED = "steering.json", "measured.safetensors"


@checked
def plan_steering(spec: Mapping[str, Any]) -> Plan:
    """The chunks of all seeds, and the curve that is made of them.

    Parameters
    ----------
    spec : mapping
        See `analysis.work.steering`: model, direction, scores, target, seeds, and what `steer_curve` takes.

    Raises
    ------
    InputError
        Naming the entry that is wrong, and as `steer_curve` does of what is known before anything is sampled. Names
        of scores are known where `device` is the CPU: two images of noise are scored.
    """
    known_entries(spec, "steering", NEEDED, OTHERS)
    require_kinds(spec, KINDS)
    after = {name: spec[name] for name in AFTER if name in spec} | {"resamples": whole_number(spec, "resamples", 1000)}
    check_judged(**{"natural": None, "budget": None, **after})
    model, seeds = load_model(spec["model"], factory=spec.get("factory")), seed_range(spec["seeds"])
    check_seeds(seeds, LEAST_SEEDS)
    if spec.get("device", "cpu") == "cpu":
        _check_names(_names(_made_scores(spec["scores"]), model.shape), spec["target"], spec.get("natural"))
    told = {
        "model": told_model(model, spec["model"], spec.get("factory")), "sampled": plain_how(spec),
        "direction": _told_file(spec["direction"]), "scores": _told_scores(spec["scores"]), "target": spec["target"],
        "shuffled": _told_shuffled(spec.get("shuffled")),
        "asked": {name: spec[name] for name in ASKED if name in spec}, "seeds": [seeds.start, seeds.stop],
        "batch": whole_number(spec, "batch", 256), "device": spec.get("device", "cpu"),
    }  # fmt: skip
    judged = {name: spec[name] for name in JUDGED if name in spec}
    steering = _steering(told, model, "cpu", **judged)
    chunks = cut(f"{__name__}:steer_chunk", told, seeds, size=whole_number(spec, "size", 8))

    def join(folder: Path) -> list[Path]:
        parts = [_read_measured(place / MEASURED) for place, _ in complete(chunks, folder)]
        return _write(steering.judge(Measured.join(parts), list(seeds), **after), folder) if parts else []

    return Plan(tuple(chunks), join, lambda folder: forget(chunks, folder, SAID))


def steer_chunk(spec: Mapping[str, Any], seeds: range, folder: Path) -> None:
    """What the arms of some seeds measure."""
    device, every = worker_device(spec["device"]), range(*spec["seeds"])
    model = worker_model(spec["model"], device)
    rows = slice(seeds.start - every.start, seeds.stop - every.start)
    found = _steering(spec, model, device).measure(
        model.denoiser, _scores(**spec["scores"]), spec["target"], seeds=list(seeds),
        condition=select_rows(model.conditions(len(every)), rows),
    )  # fmt: skip
    tensors = {"values": torch.from_numpy(found.values), "distances": torch.from_numpy(found.distances)}
    tensors["bare"] = found.bare.cpu().contiguous()
    save_file(tensors, folder / MEASURED, {"names": json.dumps(found.names)})


@checked
def read_steering(folder: str | Path) -> SteerCurve:
    """The curve that `run_work` put together in a folder.

    Raises
    ------
    InputError
        Where it is not complete, or damaged.
    """
    folder, expected = Path(folder), "the tables of a steering curve that is complete"
    check_file(folder / SAID, expected=expected)
    said = read_json(folder / SAID)
    with only_input_errors(folder, expected=expected):
        for name, digest in said["files"].items():
            if sha256(folder / name) != digest:
                raise InputError(str(folder / name), found="content that does not match its hash", expected=expected)
        tables = {name: read_parquet(folder / f"{name}.parquet", expected=expected) for name in TABLES}
        tables = {name: TABLES[name].check(table) for name, table in tables.items()}
        return SteerCurve(**tables, budget=float(said["budget"]), controls=dict(said["controls"]))


def _steering(told: Mapping[str, Any], model: Model, device: str, **judged: Any) -> Steering:
    sampling = Sampling(**sampled_how(told["sampled"]), shape=model.shape, batch=told["batch"], device=device)
    asked = dict(told["asked"])
    if "intervals" in asked:
        asked["intervals"] = [(float(low), float(high)) for low, high in asked["intervals"]]
    return Steering.of(_direction(told["direction"]), sampling, shuffled=_shuffled(told["shuffled"]), **asked, **judged)


def _told_file(path: Any) -> dict[str, str]:
    if not isinstance(path, str):
        raise InputError("direction, shuffled", found=repr(path), expected="the name of a file, or several")
    check_file(path, expected="a direction that was saved")
    return {"path": str(Path(path).absolute()), "sha256": sha256(Path(path))}


def _told_shuffled(given: Any) -> Any:
    if given is None:
        return None
    return [_told_file(one) for one in given] if isinstance(given, list) else _told_file(given)


def _direction(told: Mapping[str, str]) -> Direction:
    if sha256(Path(told["path"])) != told["sha256"]:
        found = f"{told['path']}, changed since the work was planned"
        raise InputError("direction", found=found, expected="the same file")
    return Direction.load(told["path"])


def _shuffled(told: Any) -> Shuffled:
    if told is None:
        return None
    return [_direction(one) for one in told] if isinstance(told, list) else _direction(told)


def _told_scores(name: str) -> dict[str, str]:
    """Another judge of the same name makes other chunks."""
    return {"name": name, "seen": fingerprint(_made_scores(name), argument="scores")}


@functools.lru_cache(maxsize=1)
def _scores(name: str, seen: str) -> Scores:
    """A worker's judge of images, made once; it is the one that the plan saw."""
    made = _made_scores(name)
    if fingerprint(made, argument="scores") != seen:
        found = f"{name} that gives others than the work was planned with"
        raise InputError("scores", found=found, expected="the same scores in every process")
    return made


def _made_scores(name: str) -> Scores:
    made: Scores = call_factory(import_factory(name, argument="scores", known=[]), name, argument="scores")
    if not callable(made):
        raise InputError("scores", found=f"a {type(made).__name__} from {name}", expected="a function of images")
    return made


def _names(scores: Scores, shape: tuple[int, ...]) -> list[str]:
    """What a judge calls its scores, as two images of noise show."""
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    expected = "a function of images that returns scores by name"
    with torch.no_grad(), only_input_errors("scores", expected=expected, found="a function that failed"):
        found = scores(images)
        require_returned("scores", found, Mapping[Any, Tensor])
    return [str(name) for name in found]


def _check_names(names: list[str], target: str, natural: Mapping[str, float] | None) -> None:
    check_target(target, names)
    if natural is not None:
        natural_units(natural, names)


def _read_measured(path: Path) -> Measured:
    metadata, tensors = read_tensors(path, expected="the measures of some seeds")
    names: list[str] = json.loads(metadata["names"])
    return Measured(names, np.asarray(tensors["values"]), np.asarray(tensors["distances"]), tensors["bare"])


def _write(curve: SteerCurve, folder: Path) -> list[Path]:
    for name in TABLES:
        replace_file(folder / f"{name}.parquet", getattr(curve, name).to_parquet)
    files = {f"{name}.parquet": sha256(folder / f"{name}.parquet") for name in TABLES}
    write_json(folder / SAID, {"budget": curve.budget, "controls": curve.controls, "files": files})
    return [folder / SAID]
