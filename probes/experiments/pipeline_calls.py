"""Many calls of one pipeline, each recorded as a run and its decoded image kept: what a report on a pipeline stands on.

    calls = plan_calls(pipe, read_prompts("prompts.csv"), seeds=range(4))
    made = record_calls(pipe, calls, folder="runs/a", arguments={"num_inference_steps": 30})
    made.trace, made.images

One call makes one image, so that each can be made again by itself, and a run that was cut off goes on with the first
image that is missing.
"""

import difflib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import only_input_errors, read_tensors, reason
from scorescope.data.written_files import read_json, replace_file, write_json
from scorescope.probes.experiments.encoded_once import encoded_once
from scorescope.probes.experiments.pipeline_identity import pipeline_identity
from scorescope.probes.experiments.pipeline_runs import samples_of, seeded
from scorescope.probes.models.fingerprint import fingerprint
from scorescope.probes.pipelines import find
from scorescope.probes.pipelines.level_reader import LevelFunction
from scorescope.probes.recording.plan import Keep
from scorescope.probes.recording.session import record
from scorescope.probes.recording.trace import Trace

OURS = ("generator", "output_type", "return_dict")
SEVERAL = ("num_images_per_prompt", "num_videos_per_prompt", "num_waveforms_per_prompt", "batch_size")
STEPS = "num_inference_steps"


@displayed
@checked
@dataclass(frozen=True, eq=False)
class RecordedCalls:
    """What was recorded of a pipeline's calls.

    Attributes
    ----------
    trace : Trace
        One run a call.
    images : Tensor or None
        What the decoder put out, before anything is clipped, (n, channel, y, x) with the data in [-1, 1] (float16 on
        disk); of a pipeline without a decoder its results. None where calls made images of several shapes.
    rows : tuple of int
        Which call each image is of.
    clipped : bool
        The images are results: a pipeline clips them.
    """

    trace: Trace
    images: Tensor | None
    rows: tuple[int, ...]
    clipped: bool


@checked
def plan_calls(
    pipe: Any,
    rows: Sequence[Mapping[str, Any]],
    *,
    seeds: Sequence[int] | None = None,
    count: int | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The calls to make: which arguments, and which seed.

    Parameters
    ----------
    pipe : object
        A diffusers pipeline.
    rows : sequence of mapping
        Arguments of its call, as from `read_prompts`; a `seed` among them is that of the noise.
    seeds : sequence of int, optional
        Every row with each of these seeds.
    count : int, optional
        Otherwise so many calls, the rows in their order and then again; by default each row once.
    seed : int
        Of the first call, where its row has none; the next has the next.

    Raises
    ------
    InputError
        For no rows, an argument that the pipeline does not take, and seeds beside those of the rows.
    """
    if not rows or (count is not None and count < 1) or (seeds is not None and not len(seeds)):
        found = f"{len(rows)} rows, count {count}, seeds {seeds}"
        raise InputError("rows, count, seeds", found=found, expected="at least one of each")
    for row in rows:
        check_arguments(pipe, row, argument="rows", more=("seed",))
    if seeds is not None:
        if any("seed" in row for row in rows) or count is not None:
            raise InputError("seeds", found="seeds beside those of the rows, or a count", expected="one of them")
        return [{**row, "seed": int(one)} for row in rows for one in seeds]
    chosen = [rows[place % len(rows)] for place in range(count or len(rows))]
    own = [row.get("seed") if place < len(rows) else None for place, row in enumerate(chosen)]
    return [{**row, "seed": seed + place if own[place] is None else own[place]} for place, row in enumerate(chosen)]


def check_arguments(pipe: Any, given: Mapping[str, Any], *, argument: str, more: Sequence[str] = ()) -> None:
    """Raise `InputError` for names that the pipeline's call does not take, and those that are ours."""
    known = inspect.signature(type(pipe).__call__).parameters
    for name in given:
        if name in OURS:
            raise InputError(argument, found=name, expected="other arguments: this one is set here")
        value = given[name]
        if (name in SEVERAL and value != 1) or (name == "class_labels" and isinstance(value, list) and len(value) != 1):
            expected = "one image a call: more seeds, or more rows"
            raise InputError(argument, found=f"{name} {value!r:.40}", expected=expected)
        if not takes(pipe, name) and name not in more:
            near = difflib.get_close_matches(name, known, n=3) or [one for one in known if one != "self"]
            expected = f"an argument of {type(pipe).__name__}, as {', '.join(near)}"
            raise InputError(argument, found=repr(name), expected=expected)


def example_row(pipe: Any) -> dict[str, Any]:
    """Arguments of one call, made up: what a pipeline can be tried with."""
    made_up = {"prompt": "a photograph"} if takes(pipe, "prompt") else {"class_labels": [0]}
    return {name: value for name, value in made_up.items() if takes(pipe, name)}


def takes(pipe: Any, name: str) -> bool:
    """Whether the pipeline's call has an argument of this name.

    Classic pipelines name what they take, and swallow what they do not know; modular ones name nothing.
    """
    known = inspect.signature(type(pipe).__call__).parameters
    names_all = STEPS in known or all(one.kind is not inspect.Parameter.VAR_KEYWORD for one in known.values())
    return name in known or not names_all


def default_steps(pipe: Any) -> int:
    """Steps of a call that names none."""
    parameter = inspect.signature(type(pipe).__call__).parameters.get(STEPS)
    return parameter.default if parameter is not None and isinstance(parameter.default, int) else 50


@checked
def record_calls(
    pipe: Any,
    calls: Sequence[Mapping[str, Any]],
    *,
    folder: str | Path,
    arguments: Mapping[str, Any] | None = None,
    keep: Keep = "branches",
    modules: find.Modules = None,
    level: LevelFunction | None = None,
    branches: Sequence[str] = (),
    progress: bool = True,
) -> RecordedCalls:
    """Call a pipeline, under its own guidance, and record each call as a run; what is there already is not made again.

    Parameters
    ----------
    pipe : object
        A diffusers pipeline.
    calls : sequence of mapping
        From `plan_calls`.
    folder : path
        Holds `trace/` and `decoded/`.
    arguments : mapping, optional
        Arguments that all calls share.
    keep, modules, level, branches
        See `record`.
    progress : bool
        Show a progress bar.

    Raises
    ------
    InputError
        For arguments that the pipeline does not take, a folder that holds something else, a device without memory
        for the call, and what `record` refuses.
    """
    shared = dict(arguments or {})
    check_arguments(pipe, shared, argument="arguments")
    folder = Path(folder)
    decoded = folder / "decoded"
    decoded.mkdir(parents=True, exist_ok=True)
    _check_pipeline(folder / "pipeline.json", pipe)
    specs = [{**call, "shared": plain(shared), "number": number} for number, call in enumerate(calls)]
    recording = record(
        pipe, keep=keep, modules=modules, level=level, branches=branches, path=folder / "trace", resume=True,
        progress=progress,
    )  # fmt: skip
    with encoded_once(pipe), recording as trace:
        for spec in trace.runs(specs, progress=progress):
            call = calls[spec["number"]]
            with seeded(int(call["seed"])):
                made = _decoded(pipe, call_arguments(pipe, call, shared))
            _save(decoded / f"{spec['number']:05d}.safetensors", *made)
    recorded = Trace.open(folder / "trace")
    if (held := recorded.samples["run"].nunique()) > len(calls):
        expected = "as many calls as it holds, or more; or another folder"
        raise InputError("calls", found=f"{len(calls)}, for a folder of {held}", expected=expected)
    images, rows, clipped = _load(decoded, len(calls))
    return RecordedCalls(recorded, images, rows, clipped)


def _check_pipeline(path: Path, pipe: Any) -> None:
    """Refuse a folder of another pipeline's recordings: of other weights, another scheduler, other settings of it."""
    now = pipeline_identity(pipe)
    if path.is_file():
        before = {name: value for name, value in read_json(path).items() if name in now}
        if others := [name for name, value in now.items() if before.get(name) != value]:
            found = f"{path.parent}, recorded from a pipeline with another {', '.join(others)}"
            raise InputError("folder", found=found, expected="another folder, or the pipeline that it is of")
    write_json(path, now)


def call_arguments(pipe: Any, call: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """What the pipeline is called with for one image."""
    given = {**shared, **{name: value for name, value in call.items() if name != "seed"}}
    if takes(pipe, "generator"):
        given["generator"] = torch.Generator().manual_seed(int(call["seed"]))
    if takes(pipe, "output_type"):
        given["output_type"] = "np"
    return given


def decoded_result(pipe: Any, arguments: Mapping[str, Any]) -> Tensor:
    """What a call makes: what its decoder puts out, before anything is clipped, or its result scaled to [-1, 1]."""
    return _decoded(pipe, arguments)[0]


@torch.no_grad()
def _decoded(pipe: Any, arguments: Mapping[str, Any]) -> tuple[Tensor, bool]:
    """The same, and whether it is the result."""
    with _heard(pipe) as heard, call_told(pipe):
        result = pipe(**arguments)
    if heard:
        return torch.cat(heard), False
    return samples_of(result) * 2 - 1, True


@contextmanager
def call_told(pipe: Any) -> Iterator[None]:
    """Say in one sentence what a pipeline's call raised, and what to lower where a device has no memory for it."""
    try:
        yield
    except InputError:
        raise
    except torch.OutOfMemoryError as error:
        expected = "a smaller image, dtype float16 or pipe.enable_model_cpu_offload(); then keep='scalars'"
        found = f"no memory for one call of {type(pipe).__name__} ({reason(error)})"
        raise InputError("device", found=found, expected=expected) from error
    except Exception as error:
        found = f"{type(error).__name__}: {reason(error)}"
        expected = f"arguments, and a scheduler, that {type(pipe).__name__} can be called with"
        raise InputError("call", found=found, expected=expected) from error


@contextmanager
def _heard(pipe: Any) -> Iterator[list[Tensor]]:
    """What the pipeline's decoder puts out, for the length of a with block."""
    found: list[Tensor] = []
    vae = find.components(pipe).get("vae")
    decode = getattr(vae, "decode", None)
    if vae is None or not callable(decode) or "decode" in vars(vae):
        yield found
        return

    def decode_and_tell(*args: Any, **kwargs: Any) -> Any:
        result = decode(*args, **kwargs)
        images = result[0] if isinstance(result, tuple) else getattr(result, "sample", None)
        if isinstance(images, Tensor):
            found.append(images.detach().cpu().float())
        return result

    vae.decode = decode_and_tell
    try:
        yield found
    finally:
        del vae.decode


def plain(shared: Mapping[str, Any]) -> dict[str, Any]:
    """Shared arguments as a spec holds them; of tensors and objects the fingerprint."""
    plain = (str, int, float, bool, type(None))
    return {
        name: value if isinstance(value, plain) else fingerprint(value, argument=name) for name, value in shared.items()
    }


def _save(path: Path, images: Tensor, clipped: bool) -> None:
    content = {"images": images.half().contiguous()}
    replace_file(path, lambda temporary: save_file(content, temporary, {"clipped": str(clipped)}))


def decoded_images(folder: Path) -> dict[int, Tensor]:
    """The first image of every call that was kept in a folder of `record_calls`, by its number; none without one."""
    return {int(path.stem): _read(path)[0][0] for path in sorted(folder.glob("[0-9]*.safetensors"))}


def _read(path: Path) -> tuple[Tensor, bool]:
    """The images of one call, and whether they are results."""
    expected = "an image that was kept here"
    with only_input_errors(path, expected=expected):
        about, tensors = read_tensors(path, expected=expected)
        return tensors["images"].float(), about.get("clipped") == "True"


def _load(folder: Path, count: int) -> tuple[Tensor | None, tuple[int, ...], bool]:
    """Every image that is there, with the number of its call."""
    parts, rows, clipped = [], list[int](), False
    for number in range(count):
        path = folder / f"{number:05d}.safetensors"
        if path.is_file():
            images, is_result = _read(path)
            parts.append(images)
            rows += [number] * len(images)
            clipped |= is_result
    if not parts or len({part.shape[1:] for part in parts}) > 1:
        return None, (), clipped
    return torch.cat(parts), tuple(rows), clipped
