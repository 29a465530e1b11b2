"""Self-attention with blurred queries: every position asks for what its neighbourhood asks for."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.guidance.perturbed import Perturbing, SiteHook


@displayed
@checked
@dataclass(frozen=True)
class SEG(Perturbing):
    """Smoothed-energy guidance (Hong 2024, arXiv 2408.00760), with or without CFG beside it.

    D = D_c + (w - 1) (D_c - D_u) + s (D_c - D_p), with D_p from the network whose self-attention at the named sites
    has its queries blurred by a Gaussian over the image; with an infinite blur each is the mean of all.

    Attributes
    ----------
    scale : float
        s; 3 in the paper.
    sites : tuple of str
        Names of self-attention modules in the denoiser (an `nn.Module`), or inside a pipeline in its network
        ("mid_block.attentions.0.transformer_blocks.0.attn1"). Each must have a method `with_queries` (see Notes), or a
        `to_q` as diffusers' attention has, over the tokens of the image alone.
    weight : float
        w of the CFG term; 1 is none, and then the unconditional branch is not computed.
    first, last : int
        Steps in which the term of s acts, inclusive, from 0; the CFG term acts in all.
    blur : float
        Standard deviation, in positions of the site's own map; 0 leaves the queries as they are.
    aspect : float
        Height over width of the image, by which tokens in a row become a map again.

    Notes
    -----
    The kernel is the published code's (SusungHong/SEG-SDXL): ceil(6 blur) positions made odd, but no more than the
    map has (one more where that is even), with reflection at the edges. So a large finite blur is not quite the mean.
    Queries are blurred as they are projected, before norms and rotary embeddings. `with_queries(*given, change)` takes
    what forward takes and a function of the queries as maps (batch, channel, y, x), and returns what forward would.
    The guider of diffusers (0.42) never attaches its blur, and its hook has the finite and the infinite one exchanged.
    """

    sites: tuple[str, ...] = ("network.attention",)
    blur: float = math.inf
    aspect: float = 1.0
    branch_parameters: ClassVar[tuple[str, ...]] = ("sites", "blur", "aspect")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.blur >= 0:
            raise InputError("blur", found=str(self.blur), expected="a standard deviation >= 0, which may be infinite")
        if not 0 < self.aspect < math.inf:
            raise InputError("aspect", found=str(self.aspect), expected="height over width, a finite number above 0")

    def hook(self, module: nn.Module) -> SiteHook:
        """Blurred queries in place of the module's own."""
        own = getattr(module, "with_queries", None)
        if own is not None:
            return SiteHook(module, lambda call: own(*call.args, **call.kwargs, change=self._blurred))
        return SiteHook(_query_projection(module), lambda call: self._blurred_tokens(call.output))

    def _blurred_tokens(self, queries: Tensor) -> Tensor:
        """The same for queries (batch, token, channel)."""
        count = queries.shape[1]
        height = round(math.sqrt(count * self.aspect))
        width = count // max(height, 1)
        if height * width != count or height != round(width * self.aspect):
            expected = f"a map of height / width {self.aspect:g}: say the image's as aspect="
            raise InputError("sites", found=f"an attention over {count} tokens", expected=expected)
        maps = queries.transpose(1, 2).unflatten(2, (height, width))
        return self._blurred(maps).flatten(2).transpose(1, 2)

    def _blurred(self, maps: Tensor) -> Tensor:
        """Queries as maps, (batch, channel, y, x), blurred."""
        if self.blur == 0:
            return maps
        if self.blur == math.inf:
            return maps.mean((2, 3), keepdim=True).expand_as(maps)
        kernel = _kernel(self.blur, min(maps.shape[2:])).to(maps)
        half, channels = len(kernel) // 2, maps.shape[1]
        padded = functional.pad(maps, (half,) * 4, mode="reflect")
        return functional.conv2d(padded, torch.outer(kernel, kernel).expand(channels, 1, -1, -1), groups=channels)


def _kernel(blur: float, length: int) -> Tensor:
    """Gaussian weights of the published code, for a map whose shorter side is `length`."""
    size = math.ceil(6 * blur)
    size = min(size + 1 - size % 2, length + 1 - length % 2)
    places = torch.linspace(-(size - 1) / 2, (size - 1) / 2, size)
    return torch.softmax(-0.5 * (places / blur) ** 2, 0)


def _query_projection(module: nn.Module) -> nn.Module:
    """The module that projects the queries of self-attention."""
    query = getattr(module, "to_q", None)
    if not isinstance(query, nn.Module) or not isinstance(getattr(module, "to_k", None), nn.Module):
        raise _refused(f"a {type(module).__name__}")
    if getattr(module, "is_cross_attention", False):
        raise _refused("an attention to other tokens than its own")
    if getattr(module, "pre_only", None):
        raise _refused("an attention over text and image in one sequence")
    return query


def _refused(found: str) -> InputError:
    expected = "self-attention: a module with a method with_queries, or with to_q, over the tokens of the image"
    return InputError("sites", found=found, expected=expected)
