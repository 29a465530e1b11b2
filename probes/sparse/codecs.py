"""Sparse codes of any make: whatever encodes activations and decodes codes, one for all noise levels or one a band.

codec_of(somebody_elses)                            # encode may give (scores, codes)
bands = Bands([0.5, 5.0], [low, middle, high])      # sigma <= 0.5, <= 5, and above
codec_at(bands, sigma=2.0)
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from scorescope.data.doors import checked, require_members
from scorescope.data.errors import InputError


@runtime_checkable
class Codec(Protocol):
    """What turns activations into codes and back; decoding is linear but for a constant."""

    def encode(self, x: Tensor, /) -> Tensor:
        """Codes (n, features) of activations (n, width)."""

    def decode(self, codes: Tensor, /) -> Tensor:
        """Activations (n, width) of codes."""


@checked
@dataclass(frozen=True, eq=False)
class Bands:
    """One codec a band of noise levels.

    Attributes
    ----------
    edges : sequence of float
        Rising noise levels between the bands; an edge belongs to the band below it.
    codecs : sequence of Codec
        From the lowest noise levels up, one more than edges.

    Raises
    ------
    InputError
        For edges that do not rise, or do not fit the codecs.
    """

    edges: Sequence[float]
    codecs: Sequence[Codec]

    def __post_init__(self) -> None:
        rising = all(0 < a < b for a, b in zip(self.edges, [*self.edges[1:], float("inf")], strict=True))
        if not rising or len(self.codecs) != len(self.edges) + 1:
            found = f"{list(self.edges)} for {len(self.codecs)} codecs"
            raise InputError("edges", found=found, expected="rising noise levels, one less than codecs")

    def at(self, sigma: float) -> Codec:
        """The codec of a noise level."""
        # as single precision has them: the noise level of a call comes from a tensor
        return self.codecs[bisect.bisect_left([np.float32(edge) for edge in self.edges], np.float32(sigma))]


@checked
def codec_at(codec: Codec | Bands, sigma: float) -> Codec:
    """The codec of a noise level.

    Parameters
    ----------
    codec : Codec or Bands
        One for all noise levels, which is given back, or one a band.
    sigma : float
        Noise level.
    """
    return codec.at(sigma) if isinstance(codec, Bands) else codec


@checked
def codec_of(thing: Any) -> Codec:
    """A codec made of anything with `encode` and `decode`, as other libraries have them.

    Parameters
    ----------
    thing : object
        Its `encode` gives codes, or several tensors of which the last are the codes (overcomplete: scores, codes).

    Raises
    ------
    InputError
        For an object without both.
    """
    require_members("codec", thing, "encode", "decode", expected="an object with encode and decode")
    return _Adapted(thing)


@dataclass(frozen=True, eq=False)
class _Adapted:
    thing: Any

    def encode(self, x: Tensor, /) -> Tensor:
        with torch.no_grad():
            found = self.thing.encode(x)
        if isinstance(found, tuple | list) and found:
            found = found[-1]
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(x) or not found.is_floating_point():
            got = f"a {type(found).__name__} of shape {tuple(getattr(found, 'shape', ()))}"
            raise InputError("codec", found=f"{got} from encode", expected=f"codes ({len(x)}, features)")
        return found

    def decode(self, codes: Tensor, /) -> Tensor:
        with torch.no_grad():
            made: Tensor = self.thing.decode(codes)
        return made


@checked
def dictionary(codec: Codec, features: Sequence[int], *, count: int) -> Tensor:
    """Directions of features, (len(features), width): what decoding adds for a code of 1.

    Parameters
    ----------
    codec : Codec
        The codec.
    features : sequence of int
        Which.
    count : int
        Features that the codec has.

    Raises
    ------
    InputError
        For a number that no feature has.
    """
    if not all(0 <= feature < count for feature in features):
        raise InputError("features", found=str(list(features)[:8]), expected=f"numbers from 0 to {count - 1}")
    codes = torch.zeros(len(features) + 1, count)
    codes[torch.arange(len(features)), list(features)] = 1
    with torch.no_grad():
        made = codec.decode(codes)
    return made[:-1] - made[-1]
