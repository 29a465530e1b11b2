"""A diffusers pipeline from a folder, a hub id or a single file, with the errors of loading in one sentence each.

pipe = load_pipeline("my-finetune/", device="cuda", dtype="float16", scheduler="DDIMScheduler")
pipe = load_pipeline("checkpoint.safetensors", config="stable-diffusion-v1-5/stable-diffusion-v1-5")
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import parse_json, read_text, reason
from scorescope.probes.models.model import check_device

DTYPES = ("float32", "float16", "bfloat16", "float64")
INDEX = "model_index.json"


@checked
def load_pipeline(
    source: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    scheduler: str | None = None,
    config: str | Path | None = None,
    pickles: bool = False,
) -> Any:
    """A diffusers pipeline, ready to be called.

    Parameters
    ----------
    source : str or Path
        A folder with a `model_index.json` (`save_pretrained`), the id of a repository of the Hugging Face hub, or one
        `.safetensors` file of a whole checkpoint. `HF_HUB_OFFLINE=1` is respected. A folder's own code is never run.
    device : str or device
        Where it goes.
    dtype : str
        float32, float16, bfloat16 or float64.
    scheduler : str, optional
        Class of diffusers that takes the place of the pipeline's scheduler, with its configuration.
    config : str or Path, optional
        For a single file: the folder or hub id of the pipeline that it is a checkpoint of. By default the one that
        diffusers finds by the names of the weights, which needs the hub or its cache.
    pickles : bool
        Take weights that are no safetensors too. Opening a pickle can run any code: only for files you trust.

    Returns
    -------
    DiffusionPipeline
        Its progress bar is off.

    Raises
    ------
    InputError
        Naming what was found: no pipeline, no such repository, one that is gated, weights that are pickles alone, a
        class that the installed diffusers has not, a device or dtype that is not there.
    """
    kind = _dtype(dtype, device)
    path = Path(source)
    if path.is_file():
        pipe = _from_file(path, config, kind)
    else:
        if config is not None:
            raise InputError("config", found=f"one beside {source}", expected="none: only a single file needs it")
        check_source(str(source), path)
        pipe = _from_pretrained(str(source), kind, pickles)
    if scheduler is not None:
        pipe.scheduler = _scheduler(scheduler, getattr(pipe, "scheduler", None))
    pipe.set_progress_bar_config(disable=True)
    try:
        return pipe.to(device)
    except torch.OutOfMemoryError as error:
        expected = "a device with more memory, or --dtype float16"
        raise InputError("device", found=f"{device}, {reason(error)}", expected=expected) from None
    except NotImplementedError as error:  # weights that no file holds are left empty
        found = f"{source}, of which weights are missing ({reason(error)})"
        raise InputError("pipeline", found=found, expected="a pipeline with all its weights") from None


def _dtype(name: str, device: str | torch.device) -> torch.dtype:
    """A type that the device can compute in."""
    check_device(device)
    if name not in DTYPES:
        raise InputError("dtype", found=repr(name), expected=f"one of {', '.join(DTYPES)}")
    kind: torch.dtype = getattr(torch, name)
    try:
        one = torch.ones(1, 1, 3, 3, dtype=kind, device=device)
        torch.nn.functional.conv2d(one, one)
    except (RuntimeError, TypeError) as error:
        found, expected = f"{name} on {device} ({reason(error)})", "a type that this device computes in, as float32"
        raise InputError("dtype", found=found, expected=expected) from None
    return kind


def check_source(source: str, path: Path) -> None:
    """Refuse what is neither a pipeline's folder nor can be the id of a repository."""
    expected = f"a folder with {INDEX}, an id owner/name of the hub, or a .safetensors file"
    if path.is_dir():
        if not (path / INDEX).is_file():
            held = sorted(entry.name for entry in path.iterdir())[:6]
            raise InputError(
                "pipeline", found=f"{source}, which holds {', '.join(held) or 'nothing'}", expected=expected
            )
        _check_class(path)
    elif path.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1 or path.suffix == ".safetensors":
        raise InputError("pipeline", found=f"{source}, which is not there", expected=expected)


def _check_class(folder: Path) -> None:
    """Refuse a pipeline of a class that the installed diffusers has not."""
    import diffusers

    index = parse_json(read_text(folder / INDEX, expected="a pipeline's index"), source=folder / INDEX, expected="JSON")
    name = index.get("_class_name") if isinstance(index, dict) else None
    if isinstance(name, list) or (isinstance(name, str) and hasattr(diffusers, name)):
        return  # a list names code in the folder, which diffusers itself refuses to run
    found = f"{folder}, of the class {name!r}, which diffusers {diffusers.__version__} has not"
    raise InputError("pipeline", found=found, expected="one of its classes, or a newer diffusers")


def _from_pretrained(source: str, dtype: torch.dtype, pickles: bool) -> Any:
    from diffusers import DiffusionPipeline

    try:
        with _without_old_names():
            return DiffusionPipeline.from_pretrained(
                source, torch_dtype=dtype, use_safetensors=None if pickles else True
            )
    except Exception as error:  # of diffusers, transformers, the hub and the file system
        raise _told(source, error, pickles) from error


def _from_file(path: Path, config: str | Path | None, dtype: torch.dtype) -> Any:
    """A pipeline from one file, of the class that its configuration names."""
    import diffusers

    if path.suffix != ".safetensors":
        raise InputError("pipeline", found=str(path), expected=f"a .safetensors file, or a folder with {INDEX}")
    try:
        given = str(config) if config is not None else _default_config(path)
        name = diffusers.DiffusionPipeline.load_config(given)["_class_name"]
        with _without_old_names():
            return getattr(diffusers, name).from_single_file(str(path), config=given, torch_dtype=dtype)
    except InputError:
        raise
    except Exception as error:
        hint = "" if config is not None else "; --config names the pipeline's folder where the hub is out of reach"
        told = _told(str(path), error, pickles=False)
        raise InputError("pipeline", found=told.found, expected=told.expected + hint) from error


@contextmanager
def _without_old_names() -> Iterator[None]:
    """No warning that newer diffusers call torch_dtype dtype: older ones do not know that name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch_dtype", category=FutureWarning)
        yield


def _default_config(path: Path) -> str:
    """The repository that diffusers takes a single file's configuration from."""
    from diffusers.loaders.single_file_utils import DIFFUSERS_DEFAULT_PIPELINE_PATHS as KNOWN
    from diffusers.loaders.single_file_utils import infer_diffusers_model_type
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        names = {name: torch.empty(file.get_slice(name).get_shape(), device="meta") for name in file.keys()}  # noqa: SIM118
    return str(KNOWN[infer_diffusers_model_type(names)]["pretrained_model_name_or_path"])


def _told(source: str, error: Exception, pickles: bool) -> InputError:
    """What went wrong, as one sentence."""
    from huggingface_hub import constants, errors

    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and isinstance(cause, Exception):
        causes.append(cause)

    def any_of(*kinds: type[BaseException]) -> bool:
        return any(isinstance(one, kinds) for one in causes)

    unreached = any("connect to" in str(one) or "cached locally" in str(one) for one in causes)

    expected = f"a folder with {INDEX}, or the id of a repository that can be reached"
    if any_of(errors.GatedRepoError):
        found, expected = f"{source}, which is gated", "a login (`hf auth login`) whose owner accepted its terms"
    elif any_of(errors.RepositoryNotFoundError):
        found = f"{source}: no such repository, or a private one without a login"
    elif any_of(errors.OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE:
        found, expected = f"{source}, which is not in the cache, and HF_HUB_OFFLINE is set", "a cached one, or the hub"
    elif any_of(errors.LocalEntryNotFoundError, ConnectionError, TimeoutError) or unreached:
        found, expected = f"{source}, and the hub cannot be reached", f"a folder with {INDEX}, or a cached repository"
    elif not pickles and _names_safetensors(error) and _may_hold_pickles(Path(source)):
        found, expected = (
            f"{source}, whose weights are no safetensors",
            "safetensors; pickles=True (--pickles) if you trust it",
        )
    else:
        found, expected = f"{source} ({type(error).__name__}: {reason(error)})", "a pipeline that diffusers loads"
    return InputError("pipeline", found=found, expected=expected)


def _may_hold_pickles(folder: Path) -> bool:
    """Whether a folder has weights that are pickles; of a repository that is not here this cannot be told."""
    return not folder.is_dir() or any(next(folder.rglob(kind), None) for kind in ("*.bin", "*.pt", "*.pth", "*.ckpt"))


def _names_safetensors(error: Exception) -> bool:
    """Whether there is no such file; one that is damaged, or beside which there is no pickle, says something else."""
    return isinstance(error, OSError) and "no file named" in str(error) and "safetensors" in str(error)


def _scheduler(name: str, before: Any) -> Any:
    """Another scheduler with the configuration of the one before."""
    import diffusers

    made = getattr(diffusers, name, None)
    if not (isinstance(made, type) and name.endswith("Scheduler") and hasattr(made, "from_config")):
        known = [one for one in dir(diffusers) if one.endswith("Scheduler") and not one.startswith("Flax")]
        raise InputError("scheduler", found=repr(name), expected=f"one of {', '.join(known)}")
    if before is None:
        raise InputError(
            "scheduler", found=f"{name}, for a pipeline without one", expected="a pipeline with a scheduler"
        )
    return made.from_config(json.loads(before.to_json_string()))
