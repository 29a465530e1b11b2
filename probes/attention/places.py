"""Where text and image lie: which keys of an attention are text, which queries are image, and what cells these are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.attention.kernel import SeenAttention, Watch

Grid = tuple[int, int]


@dataclass(frozen=True)
class Places:
    """Which keys are text, which queries are image."""

    text: slice
    image: slice


def places_of(
    site: str, seen: SeenAttention, watch: Watch, text: Tensor | None, joint: dict[int, Places]
) -> Places | None:
    """Text and image of one attention; None for one among image tokens alone.

    Parameters
    ----------
    site : str
        What errors call it.
    seen : SeenAttention
        What the kernel was given.
    watch : Watch
        What was joined to that.
    text : Tensor or None
        Text tokens that the module was given beside its own.
    joint : dict of int to Places
        By their number of keys, joint attentions of the same call, to which this one is added. Blocks that take text
        and image in one sequence (the single blocks of Flux) do not say which is which: they are read as the joint
        attention of the same length before them.

    Raises
    ------
    InputError
        Where nothing tells text from image.
    """
    if text is None:
        return joint.get(seen.keys) if seen.queries == seen.keys else None
    count, rest = text.shape[1], seen.keys - text.shape[1]
    if not rest:
        return Places(slice(0, count), slice(0, seen.queries))
    first, last = (count, rest) in watch.joined, (rest, count) in watch.joined
    if first == last or seen.queries not in (seen.keys, rest):
        found = f"{seen.queries} queries and {seen.keys} keys in {site!r}, {count} of them text"
        raise InputError("pipe", found=found, expected="text and image tokens joined in an order that can be seen")
    words, image = (slice(0, count), slice(count, None)) if first else (slice(rest, None), slice(0, rest))
    if seen.queries == rest:
        return Places(words, slice(0, rest))
    return joint.setdefault(seen.keys, Places(words, image))


def grid_of(count: int, named: Mapping[str, Any], state: Any) -> Grid:
    """Height and width of the map that `count` image tokens are, row after row.

    Parameters
    ----------
    count : int
        Image tokens of one attention.
    named : mapping
        Arguments of the denoiser, of which `img_ids` holds the places of packed tokens, (token, 3).
    state : Tensor
        The denoiser's: (batch, channel, y, x), of which a token is a cell of s x s; or packed.

    Raises
    ------
    InputError
        For other states: of video, or packed without places.
    """
    ids = named.get("img_ids")
    if isinstance(ids, Tensor) and ids.shape[-1] == 3:
        places = ids.reshape(-1, ids.shape[-2], 3)[0]
        height, width = (int(places[:, axis].max() - places[:, axis].min()) + 1 for axis in (1, 2))
        if height * width == count:
            return height, width
    if isinstance(state, Tensor) and state.ndim == 4:
        shape = state.shape[2:]
        for cell in range(1, max(shape) + 1):
            height, width = (-(-side // cell) for side in shape)
            if height * width == count:
                return height, width
    found = f"{count} image tokens, of a state of shape {tuple(getattr(state, 'shape', ()))}"
    raise InputError("pipe", found=found, expected="an image (batch, channel, y, x), or packed tokens with img_ids")


def size_of(state: Any, grid: Grid, longest: int) -> Grid:
    """Cells of the maps that are kept: so many along the longer side of the image, whose aspect they have."""
    shape = state.shape[2:] if isinstance(state, Tensor) and state.ndim == 4 else grid
    height, width = (max(1, round(longest * side / max(shape))) for side in shape)
    return height, width
