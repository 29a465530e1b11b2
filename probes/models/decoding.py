"""From latents to pictures, a few at a time.

images = decode(vae_decoder(pipe.vae), run.samples)          # (n, 3, y, x), in [-1, 1] where the decoder keeps to it
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError

Decoder = Callable[[Tensor], Tensor]
"""Latents (n, *shape) to images (n, channel, y, x) in [-1, 1], not clipped."""


@checked
@torch.no_grad()
def decode(decoder: Decoder, latents: Tensor, *, chunk: int = 8) -> Tensor:
    """Decode latents chunk by chunk; bounds the memory, which decoders need much of.

    Parameters
    ----------
    decoder : callable
        Latents to images in [-1, 1].
    latents : Tensor, shape (n, *shape)
        What a latent model works on.
    chunk : int
        Latents decoded together.

    Returns
    -------
    Tensor, shape (n, *image shape)
        On the CPU.

    Raises
    ------
    InputError
        Where the decoder returns something else than one finite image a latent.
    """
    if chunk < 1 or len(latents) == 0:
        raise InputError("latents, chunk", found=f"{len(latents)}, {chunk}", expected="at least one of each")
    parts = []
    for part in latents.split(chunk):
        images = decoder(part)
        if not isinstance(images, Tensor) or images.ndim < 2 or len(images) != len(part):
            found = f"shape {tuple(images.shape)}" if isinstance(images, Tensor) else f"a {type(images).__name__}"
            raise InputError("decoder", found=found, expected=f"a tensor of {len(part)} images, one a latent")
        if not torch.isfinite(images).all():
            raise InputError("decoder", found="images that are not finite", expected="finite images")
        parts.append(images.cpu())
    return torch.cat(parts)


@checked
def vae_decoder(vae: Any) -> Decoder:
    """The decoder of a diffusers autoencoder, with its scaling: what a pipeline does with its latents at the end.

    Parameters
    ----------
    vae : object
        For instance `pipe.vae`, an AutoencoderKL: its `config` has `scaling_factor`, and perhaps `shift_factor`.

    Raises
    ------
    InputError
        Where the autoencoder is scaled in another way (by channel means): write that decoder out.
    """
    scale, shift = _scaling(vae, "a function of latents of your own")

    def decoder(latents: Tensor) -> Tensor:
        found = vae.decode(latents.to(vae.device, vae.dtype) / scale + shift, return_dict=False)[0]
        images: Tensor = found.to(torch.promote_types(found.dtype, torch.float32))
        return images

    return decoder


@checked
def vae_encoder(vae: Any) -> Decoder:
    """What `vae_decoder` undoes: images to the latents that a pipeline's scheduler steps, the most likely ones.

    Parameters
    ----------
    vae : object
        As in `vae_decoder`.

    Returns
    -------
    callable
        Images (n, channel, y, x) in [-1, 1] to latents (n, *shape), scaled and shifted, without gradients.

    Raises
    ------
    InputError
        Where the autoencoder is scaled in another way, and in a call where it gives no distribution of latents.
    """
    scale, shift = _scaling(vae, "latents of your own")

    @torch.no_grad()
    def encoder(images: Tensor) -> Tensor:
        found = getattr(vae.encode(images.to(vae.device, vae.dtype)), "latent_dist", None)
        if found is None:
            raise InputError("vae", found=f"a {type(vae).__name__} that gives no latent_dist", expected=_KNOWN)
        latents: Tensor = (found.mode() - shift) * scale
        return latents.to(torch.promote_types(latents.dtype, torch.float32))

    return encoder


_KNOWN = "an AutoencoderKL"


def _scaling(vae: Any, other: str) -> tuple[float, float]:
    """scale and shift of latents = (what the encoder gives - shift) * scale."""
    config = getattr(vae, "config", None)
    scale, shift = getattr(config, "scaling_factor", None), getattr(config, "shift_factor", None) or 0.0
    if scale is None or getattr(config, "latents_mean", None) is not None:
        found = f"a {type(vae).__name__} without one scaling_factor for all channels"
        raise InputError("vae", found=found, expected=f"{_KNOWN}, or {other}")
    return float(scale), float(shift)
