"""Sparse features inside a network: as directions, scaled, and in the place of the activations they stand for.

    feature_direction(autoencoder, 17, site="network.middle1", values=activations)      # a Direction as any other
    scale_features(autoencoder, "network.middle1", {17: 0.0})                           # an Intervention: ablated
    spliced(autoencoder, "network.middle1")                                             # the reconstruction instead

What a codec does not reconstruct stays in the activations: `scale_features` adds the change of the decoded codes, and
nothing else. Which codec acts follows from the noise level of the call, never from how often it was called.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.sites.direction import Direction
from scorescope.probes.sites.interventions import Intervention
from scorescope.probes.sparse.codecs import Bands, Codec, codec_at, dictionary

METHOD = "sparse feature"


@checked
@torch.no_grad()
def feature_direction(
    codec: Codec, feature: int, *, site: str, values: Tensor, sigma: float | None = None, attribute: str = "",
    output: int | None = None,
) -> Direction:  # fmt: skip
    """A feature as a direction: its column of the decoder.

    Parameters
    ----------
    codec : Codec
        The codec; of `Bands` the one of a noise level.
    feature : int
        Which.
    site : str
        Where it was trained.
    values : Tensor, shape (n, width)
        Activations of which the standard deviation along the feature is strength 1, whether or not it is active.
    sigma : float, optional
        Their noise level, where it is one.
    attribute : str
        What it is said to be a direction of; by default its number.
    output : int, optional
        Which of the tensors of the site's module.

    Raises
    ------
    InputError
        For a number that no feature has, and values without spread along it.
    """
    count = codec.encode(values[:1]).shape[1]
    vector = dictionary(codec, [feature], count=count)[0]
    scale = float((values.double() @ (vector / vector.norm()).to(values).double()).std())
    if not scale > 0:
        raise InputError("values", found=f"no spread along feature {feature}", expected="activations that differ")
    name = attribute or f"feature {feature}"
    return Direction(vector.detach().cpu(), site, name, METHOD, scale, sigma, output=output)


@checked
def scale_features(codec: Codec | Bands, site: str, factors: Mapping[int, float], **more: Any) -> Intervention:
    """Multiply the codes of features, and change the activations by what that changes: a + decode(c') - decode(c).

    Parameters
    ----------
    codec : Codec or Bands
        The codec, or one a band of noise levels.
    site : str
        Where.
    factors : mapping of int to float
        By feature: 0 ablates it, 2 doubles it, -1 turns it round.
    **more
        As in `Intervention`: noise levels, branch, strength, output.
    """
    chosen, by = torch.tensor(list(factors)), torch.tensor([float(factor) for factor in factors.values()])

    @torch.no_grad()
    def change(values: Tensor, sigma: float) -> Tensor:
        own = codec_at(codec, sigma)
        codes = own.encode(values.float())
        if int(chosen.max()) >= codes.shape[1] or int(chosen.min()) < 0:
            raise InputError("factors", found=str(list(factors)), expected=f"features from 0 to {codes.shape[1] - 1}")
        changed = codes.clone()
        changed[:, chosen] *= by.to(codes)
        return values + (own.decode(changed) - own.decode(codes)).to(values)

    if not len(factors):
        raise InputError("factors", found="none", expected="at least one feature")
    return Intervention("map", site, function=change, **more)


@checked
def spliced(codec: Codec | Bands, site: str, **more: Any) -> Intervention:
    """Put the reconstruction in the place of the activations; `more` as in `Intervention`."""

    @torch.no_grad()
    def change(values: Tensor, sigma: float) -> Tensor:
        own = codec_at(codec, sigma)
        return own.decode(own.encode(values.float())).to(values)

    return Intervention("map", site, function=change, **more)
