"""Attention to text tokens as maps, reduced on the device where it was computed, in bounded memory."""

import torch
from torch import Tensor
from torch.nn import functional

from scorescope.probes.attention.kernel import SeenAttention
from scorescope.probes.attention.places import Grid, Places

AT_ONCE = 2**24
"""Most probabilities that are held at once."""


@torch.no_grad()
def text_maps(
    seen: SeenAttention, places: Places, grid: Grid, *, size: Grid, tokens: list[int] | None, heads: bool
) -> Tensor:
    """Maps of the attention of image queries to text keys.

    Parameters
    ----------
    seen : SeenAttention
        What the kernel was given.
    places : Places
        Which keys are text, which queries are image.
    grid : (int, int)
        The map that the image queries are.
    size : (int, int)
        The map to reduce to, by means over cells; coarser attention is repeated.
    tokens : list of int, optional
        Text tokens to keep; by default all.
    heads : bool
        Keep heads apart, else their mean.

    Returns
    -------
    Tensor, shape (row, head, token, y, x)
        One head for their mean.
    """
    count, wanted = seen.query.shape[1], slice(None) if tokens is None else tokens
    first, last, _ = places.image.indices(seen.queries)
    step = max(1, AT_ONCE // (len(seen.query) * seen.keys))
    found: list[Tensor] = []
    for head in range(count):
        parts = [slice(start, min(start + step, last)) for start in range(first, last, step)]
        each = [seen.probabilities(head=head, queries=part)[..., places.text][..., wanted] for part in parts]
        maps = torch.cat(each, 1).mT.unflatten(-1, grid)
        if heads or not found:
            found.append(functional.adaptive_avg_pool2d(maps, size))
        else:
            found[0] += functional.adaptive_avg_pool2d(maps, size)
    return torch.stack(found, 1) if heads else found[0][:, None] / count
