"""Cross-attention modules of a pipeline: attention whose keys and values are projections of the text alone."""

from typing import Any

from torch import nn

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.attention.kernel import is_attention
from scorescope.probes.pipelines import find


@checked
def cross_attention_sites(pipe: Any, *, modules: find.Modules = None) -> list[str]:
    """Names of the cross-attention modules of a pipeline's denoisers, in the order of the network's blocks.

    Parameters
    ----------
    pipe : object
        A diffusers pipeline, or any object with a denoiser module and a scheduler.
    modules : str, sequence or mapping, optional
        Denoisers; see `record`.

    Returns
    -------
    list of str
        Down blocks, the middle, up blocks, in U-Nets. Joint attention, of text and image in one sequence, is none.

    Raises
    ------
    InputError
        For a pipeline without any.
    """
    denoisers = find.denoisers(pipe, modules)
    inner = [(f"{name}.{path}", one) for name, part in denoisers.items() for path, one in part.named_modules() if path]
    found = [site for site, module in inner if is_attention(module) and getattr(module, "is_cross_attention", False)]
    if not found:
        expected = "a pipeline with cross-attention to text, as of Stable Diffusion 1.5 or XL"
        raise InputError("pipe", found=f"a {type(pipe).__name__} without cross-attention", expected=expected)
    return sorted(found, key=_place)


def _place(site: str) -> int:
    """Where a block of a U-Net stands; modules are registered with the middle behind the up blocks."""
    order = ("down_blocks", "mid_block", "up_blocks")
    return next((place for place, part in enumerate(order) if f".{part}." in site), 0)


def linear_of(site: str, module: nn.Module, name: str) -> nn.Linear:
    """A projection of an attention module; `InputError` for one that is not plain, as with an adapter around it."""
    inner = getattr(module, name, None)
    if not isinstance(inner, nn.Linear) or type(inner).forward is not nn.Linear.forward:
        found = f"{site}.{name}, a {type(inner).__name__}"
        raise InputError("sites", found=found, expected="plain linear projections to_k and to_v, without adapters")
    return inner
