"""Data of the Gaussian report on a pipeline: images as the pipeline's own latents, or latents from a file.

What was encoded is kept, a few images a file, so that a report that was cut off encodes none of them again.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from scorescope.data.errors import InputError
from scorescope.data.untrusted import array_headers, check_file, only_input_errors, read_array, read_tensors
from scorescope.data.written_files import replace_file
from scorescope.probes.approximations import ImageFolder
from scorescope.probes.experiments.pipeline_identity import pipeline_identity
from scorescope.probes.models.decoding import decode, vae_decoder, vae_encoder
from scorescope.probes.models.model import Model
from scorescope.probes.pipelines import find

CHUNK = 8  # images that are encoded together, and kept in one file
LATENTS = "latents"  # the name of the tensor in a file
_FILE = f"a .safetensors or .npz file with floats {LATENTS!r}, or an .npy file, of shape (n, *shape)"


def check_one_source(images: Path | str | None, latents: Path | str | None) -> None:
    """Raise `InputError` unless there is one of the two."""
    if (images is None) == (latents is None):
        found = "neither images nor latents" if images is None else "both"
        expected = "a folder of images (--images), or a file of latents (--latents): what the laws are fitted to"
        raise InputError("images, latents", found=found, expected=expected)


def folder_latents(
    pipe: Any, model: Model, images: Path, kept: Path, *, count: int | None, seed: int, progress: bool
) -> Tensor:
    """Images of a folder as the pipeline's scheduler steps them: brought to its size, encoded by its own VAE.

    Parameters
    ----------
    pipe, model
        A diffusers pipeline, and what `pipeline_model` makes of it.
    images : Path
        Folder of images.
    kept : Path
        Folder where latents are kept.
    count : int or None
        At most so many, drawn by the seed.
    seed : int
        Of the draw.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Tensor, shape (n, *shape)
        Float32, on the CPU. Of a pipeline without a VAE the images themselves, in [-1, 1].

    Raises
    ------
    InputError
        For a folder without images, and a pipeline whose states are no latents of single images.
    """
    vae = find.components(pipe).get("vae")
    source = ImageFolder(images, size=_size(vae, model), batch=CHUNK)
    order = torch.randperm(len(source.files), generator=torch.Generator().manual_seed(seed)).tolist()
    source.files = sorted(source.files[place] for place in order[:count])
    if vae is None:
        found = torch.cat(list(tqdm(source, desc="reading images", disable=not progress, leave=False)))
        return found.mean(1, keepdim=True) if model.shape[0] == 1 else found
    kept.mkdir(parents=True, exist_ok=True)
    made_by, encoder = f"{pipeline_identity(pipe)['vae']} {source.size}", vae_encoder(vae)
    starts = range(0, len(source.files), CHUNK)
    parts = [
        _kept(kept / f"{start // CHUNK:05d}.safetensors", source, start, made_by, encoder)
        for start in tqdm(starts, desc="encoding images", disable=not progress, leave=False)
    ]
    return torch.cat(parts)


def _size(vae: Any, model: Model) -> tuple[int, int]:
    """Height and width of the pipeline's images: of those that its VAE makes of latents."""
    shape = model.shape
    if vae is not None and len(shape) == 3 and shape[0] == getattr(vae.config, "latent_channels", None):
        shape = tuple(decode(vae_decoder(vae), torch.zeros(1, *shape)).shape[1:])
    elif vae is not None:
        found = f"images, for a pipeline whose scheduler steps states of shape {shape}"
        raise InputError("images", found=found, expected="latents of this shape in a file (--latents)")
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise InputError("images", found=f"a pipeline of samples {shape}", expected="one of images, or --latents")
    return shape[1], shape[2]


def _kept(path: Path, source: ImageFolder, start: int, made_by: str, encoder: Callable[[Tensor], Tensor]) -> Tensor:
    """The latents of a few images: those that were kept, where they are of the same images and VAE."""
    files = source.files[start : start + CHUNK]
    key = _key(files, made_by)
    if path.is_file():
        about, tensors = read_tensors(path, expected="latents that were kept here")
        if about.get("key") == key and LATENTS in tensors:
            return tensors[LATENTS]
    found = encoder(source.read(files)).float().cpu().contiguous()
    replace_file(path, lambda temporary: save_file({LATENTS: found}, temporary, {"key": key}))
    return found


def _key(files: Sequence[Path], made_by: str) -> str:
    """A hash of images, and of what encodes them."""
    found = hashlib.sha256(made_by.encode())
    for path in files:
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def read_latents(path: Path, shape: Sequence[int]) -> Tensor:
    """Latents of a file, as a pipeline's scheduler steps them: scaled and shifted.

    Parameters
    ----------
    path : Path
        `.safetensors` or `.npz` with one array "latents", or `.npy`; no pickles.
    shape : sequence of int
        Of one of them.

    Returns
    -------
    Tensor, shape (n, *shape)
        Float32.

    Raises
    ------
    InputError
        For another file, another shape, and numbers that are not finite.
    """
    found = _read(path)
    if tuple(found.shape[1:]) != tuple(shape) or not found.is_floating_point():
        expected = f"floats of shape (n, {', '.join(map(str, shape))}), the pipeline's latents"
        raise InputError(str(path), found=f"{found.dtype} of shape {tuple(found.shape)}", expected=expected)
    if not bool(found.isfinite().all()):
        raise InputError(str(path), found="latents that are not finite", expected="finite ones")
    return found.float()


def _read(path: Path) -> Tensor:
    if path.suffix == ".safetensors":
        tensors: dict[str, Any] = read_tensors(path, expected=_FILE)[1]
    elif path.suffix == ".npz":
        headers = array_headers(path, expected=_FILE, wanted=[LATENTS])
        tensors = {name: read_array(path, one, expected=_FILE) for name, one in headers.items() if one is not None}
    elif path.suffix == ".npy":
        check_file(path, expected=_FILE)
        with only_input_errors(path, expected=_FILE, found="a file that numpy refuses"):
            tensors = {LATENTS: np.load(path, allow_pickle=False)}
    else:
        raise InputError("latents", found=str(path), expected=_FILE)
    if LATENTS not in tensors:
        raise InputError(str(path), found=f"tensors {', '.join(tensors) or 'none'}", expected=_FILE)
    value = tensors[LATENTS]
    if isinstance(value, Tensor):
        return value
    with only_input_errors(path, expected=_FILE, found="numbers that torch has not"):
        return torch.from_numpy(np.ascontiguousarray(value, value.dtype.newbyteorder("=")))
