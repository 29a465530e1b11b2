"""Directions in token embeddings as attribute control publishes them: read without running what a file may hold.

older = load_token_delta("person_age.pt")                       # of both encoders of Stable Diffusion XL
shifts = [Intervention.along(older, 1.0, site=f"condition.{token}", branch="cond") for token in tokens]
with intervene(pipe, shifts, branches=("uncond", "cond")):
    pipe("a photo of a man")
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import read_state_dict
from scorescope.probes.sites.direction import CONDITION, Direction

ENCODERS = ("oai_clip_vit_l", "openclip_g")
"""Names of the encoders in such files, in the order in which Stable Diffusion XL puts their states side by side."""

_PREFIX = "tokenwise_delta."
_EXPECTED = "a delta as attribute control saves it: torch.save of {'delta': {'tokenwise_delta.<encoder>': (width,)}}"


@checked
def load_token_delta(path: str | Path, *, encoders: Sequence[str] = ENCODERS, attribute: str = "") -> Direction:
    """A published delta of token embeddings (Baumann et al. 2024, arXiv 2403.17064; CompVis/attribute-control).

    Parameters
    ----------
    path : str or Path
        A file of `torch.save`. It is read with `weights_only`: tensors alone, no code.
    encoders : sequence of str
        Whose parts to take, side by side in this order: both for Stable Diffusion XL, the first for 1.5. Parts of
        encoders that are not named are left out.
    attribute : str
        What it is a direction of; by default the name of the file.

    Returns
    -------
    Direction
        At "condition", in float32. Its scale is its length, so that strength 1 adds the delta itself; the authors use
        -5 to 5. They add it to the tokens of the subject alone, leave the pooled embedding as it is, and begin below
        the highest noise levels.

    Raises
    ------
    InputError
        For another file, encoders that are not in it, and numbers that are not finite or all zero.
    """
    tensors = read_state_dict(path, expected=_EXPECTED, inside="delta")
    named = {name.removeprefix(_PREFIX): value for name, value in tensors.items() if name.startswith(_PREFIX)}
    missing = [name for name in encoders if name not in named or named[name].ndim != 1]
    if missing or not encoders:
        found = f"{missing or 'none'}, of a file with {sorted(named) or sorted(tensors)[:5]}"
        raise InputError("encoders", found=found, expected=_EXPECTED)
    vector = torch.cat([named[name].float() for name in encoders])
    length = float(vector.double().norm())
    return Direction(vector, CONDITION, attribute or Path(path).stem, "attribute control", length)
