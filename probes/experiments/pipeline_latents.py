"""Latents that a pipeline makes, one call each, kept on disk: what was made before is not made again.

    calls = plan_calls(pipe, rows, seeds=range(8))
    latents = pipeline_latents(pipe, calls, folder="runs/latents", arguments={"num_inference_steps": 30})

They are what its decoder would be given, in the units in which its scheduler steps them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.data.errors import InputError
from scorescope.data.untrusted import only_input_errors, read_tensors
from scorescope.data.written_files import read_json, replace_file, write_json
from scorescope.probes.experiments.encoded_once import encoded_once
from scorescope.probes.experiments.pipeline_calls import call_arguments, call_told, check_arguments, plain, takes
from scorescope.probes.experiments.pipeline_identity import pipeline_identity
from scorescope.probes.experiments.pipeline_runs import samples_of, seeded
from scorescope.probes.pipelines import find

EXPECTED = "a latent that was kept here"


@torch.no_grad()
def pipeline_latents(
    pipe: Any,
    calls: Sequence[Mapping[str, Any]],
    *,
    folder: str | Path,
    arguments: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Tensor:
    """Call a pipeline under its own guidance and keep the latent of each call.

    Parameters
    ----------
    pipe : object
        A diffusers pipeline with a VAE.
    calls : sequence of mapping
        From `plan_calls`: one latent each.
    folder : path
        Where they are kept.
    arguments : mapping, optional
        Arguments that all calls share.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Tensor, shape (len(calls), *shape)
        float32, on the CPU.

    Raises
    ------
    InputError
        For a pipeline without a VAE or whose call puts out no latents, arguments that it does not take, a folder of
        other latents (another pipeline, other arguments), latents of several shapes or that are not finite.
    """
    shared = dict(arguments or {})
    check_arguments(pipe, shared, argument="arguments")
    if "vae" not in find.components(pipe) or not takes(pipe, "output_type"):
        found = f"a {type(pipe).__name__} without a VAE, or whose call has no output_type"
        raise InputError("pipe", found=found, expected="one that makes latents")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _check_folder(folder / "latents.json", {"pipeline": pipeline_identity(pipe), "arguments": plain(shared)})
    paths = [folder / f"{number:05d}.safetensors" for number in range(len(calls))]
    with encoded_once(pipe):
        for path, call in tqdm(list(zip(paths, calls, strict=True)), desc="images", disable=not progress, leave=False):
            if not path.is_file():
                _keep(path, call, _made(pipe, call, shared))
    latents = [_read(path, call) for path, call in zip(paths, calls, strict=True)]
    if len(shapes := {tuple(one.shape) for one in latents}) > 1:
        raise InputError("calls", found=f"latents of the shapes {sorted(shapes)}", expected="one shape")
    return torch.stack(latents)


def _made(pipe: Any, call: Mapping[str, Any], shared: Mapping[str, Any]) -> Tensor:
    with seeded(int(call["seed"])), call_told(pipe):
        result = pipe(**{**call_arguments(pipe, call, shared), "output_type": "latent"})
    latent = samples_of(result, 1)[0].float().cpu()
    if not torch.isfinite(latent).all():
        found = f"a latent that is not finite, of {dict(call)!r:.80}"
        raise InputError("pipe", found=found, expected="finite latents; float16 may be too narrow")
    return latent


def _check_folder(path: Path, now: dict[str, Any]) -> None:
    """Refuse a folder of another pipeline's latents, or of other arguments."""
    before = read_json(path) if path.is_file() else now
    if others := [name for name in now if before.get(name) != now[name]]:
        found = f"{path.parent}, made with another {' and other '.join(others)}"
        raise InputError("folder", found=found, expected="another folder, or what it was made with")
    write_json(path, now)


def _keep(path: Path, call: Mapping[str, Any], latent: Tensor) -> None:
    content = {"latent": latent.contiguous()}
    replace_file(path, lambda temporary: save_file(content, temporary, {"call": repr(dict(call))}))


def _read(path: Path, call: Mapping[str, Any]) -> Tensor:
    with only_input_errors(path, expected=EXPECTED):
        about, tensors = read_tensors(path, expected=EXPECTED)
        latent = tensors["latent"]
    if about.get("call") != repr(dict(call)):
        found = f"{path}, of the call {about.get('call', 'unknown'):.80}"
        raise InputError("folder", found=found, expected=f"that of {dict(call)!r:.80}, or another folder")
    return latent
