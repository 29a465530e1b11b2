"""Products with a denoiser's Jacobian: between its state, its tokens, a site, and the denoised prediction.

    push_forward(denoiser, x, 1.0, labels, vector, of="network.middle1", to="x")      # J v
    pull_back(denoiser, x, 1.0, labels, vector, of="network.middle1", to="x")         # J^T u

By forward- and reverse-mode differentiation (torch.func) through hooks on the site. Attention runs in its plain form,
because fused kernels may lack forward-mode derivatives.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.gradients.differentiable_sites import edit_site, watch_site
from scorescope.probes.gradients.step import condition_tokens, require_gradients
from scorescope.probes.models.denoiser import Condition, Denoiser, evaluate
from scorescope.probes.pipelines.call import is_compiled
from scorescope.probes.sites.modules import at_channels, channel_axis, mean_over_positions

Function = Callable[[Tensor], Tensor]


@checked
def push_forward(
    denoiser: Denoiser, x: Tensor, sigma: float, condition: Condition, vector: Tensor, *, of: str = "denoised",
    to: str = "x", mean: bool = False,
) -> Tensor:  # fmt: skip
    """J v: what a change of `to` along a vector does to `of`, to first order.

    Parameters
    ----------
    vector : Tensor, shape (batch, *input) or (*input)
        The change. Other parameters are those of `jacobian_directions`.

    Returns
    -------
    Tensor, shape (batch, *output)
    """
    function, start = _prepare(denoiser, x, sigma, condition, of, to, mean)
    return _forward(function, start, like(vector, start, "vector"))


@checked
def pull_back(
    denoiser: Denoiser, x: Tensor, sigma: float, condition: Condition, vector: Tensor, *, of: str = "denoised",
    to: str = "x", mean: bool = False,
) -> Tensor:  # fmt: skip
    """J^T u: the change of `to` that a vector at `of` reacts to most, to first order.

    Parameters
    ----------
    vector : Tensor, shape (batch, *output) or (*output)
        A vector at the output. Other parameters are those of `jacobian_directions`.

    Returns
    -------
    Tensor, shape (batch, *input)
    """
    function, start = _prepare(denoiser, x, sigma, condition, of, to, mean)
    return _backward(function, start, lambda output: like(vector, output, "vector"))


def like(vector: Tensor, reference: Tensor, argument: str) -> Tensor:
    """A vector, or one for all rows, in the shape, dtype and device of the reference; else `InputError`."""
    if tuple(vector.shape) not in (tuple(reference.shape), tuple(reference.shape[1:])):
        found = f"shape {tuple(vector.shape)}"
        raise InputError(argument, found=found, expected=f"{tuple(reference.shape)} or {tuple(reference.shape[1:])}")
    return vector.to(reference).expand_as(reference).contiguous()


def _forward(function: Function, point: Tensor, vectors: Tensor) -> Tensor:
    # no_grad: what torch.func differentiates is not affected, and no graph to the weights piles up
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        return cast(Tensor, torch.func.jvp(function, (point,), (vectors.contiguous(),))[1]).detach()


def _backward(function: Function, point: Tensor, vectors: Callable[[Tensor], Tensor]) -> Tensor:
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        output, back, *_ = cast(Any, torch.func.vjp(function, point))
        return cast(Tensor, back(vectors(output))[0]).detach()


def _prepare(denoiser: Denoiser, x: Tensor, sigma: float, condition: Condition, of: str, to: str, mean: bool
             ) -> tuple[Function, Tensor]:  # fmt: skip
    check_call(denoiser, x, sigma)
    tokens = condition_tokens(denoiser, condition, len(x), "condition").to(x)
    start = _start(denoiser, x, sigma, tokens, to)
    return _function(denoiser, x.detach(), sigma, tokens, of, to, mean, None), start


def _function(denoiser: Denoiser, x: Tensor, sigma: float, tokens: Tensor, of: str, to: str, mean: bool,
              mask: Tensor | None) -> Function:  # fmt: skip
    """Input to output, for any whole multiple of the rows of x: copies of a sample lie side by side."""

    def call(given: Tensor) -> Tensor:
        copies = len(given) // len(x)
        state, condition = (part.repeat_interleave(copies, 0) for part in (x, tokens))
        level = torch.full((len(given),), sigma, dtype=x.dtype, device=x.device)
        if to == "x":
            return evaluate(denoiser, given, level, condition, branch="cond")
        if to == "tokens":
            return evaluate(denoiser, state, level, given, branch="cond")
        with edit_site(denoiser, to, lambda activation: activation + at_channels(given, activation)):
            return evaluate(denoiser, state, level, condition, branch="cond")

    def output(given: Tensor) -> Tensor:
        if of == "denoised":
            found = call(given)
        else:
            with watch_site(denoiser, of) as seen:
                call(given)
            found = mean_over_positions(seen[0]) if mean else seen[0]
        return found if mask is None else found * mask.to(found)

    return output


def _start(denoiser: Denoiser, x: Tensor, sigma: float, tokens: Tensor, to: str) -> Tensor:
    """Where the Jacobian is taken: the state, the tokens, or no shift of the site."""
    if to in ("x", "tokens"):
        return (x if to == "x" else tokens).detach()
    with torch.no_grad(), watch_site(denoiser, to) as seen:
        denoiser(x[:1], torch.full((1,), float(sigma)).to(x), tokens[:1])
    channels = seen[0].shape[channel_axis(seen[0])]
    return torch.zeros(len(x), channels, dtype=seen[0].dtype, device=seen[0].device)


def differential(denoiser: Denoiser, x: Tensor, sigma: float, tokens: Tensor, of: str, to: str, mean: bool,
                  mask: Tensor | None) -> tuple[Function, Function, Tensor]:  # fmt: skip
    """(J, J^T, start): products for blocks (batch, k, *) of vectors, at all samples together."""
    function, start = _function(denoiser, x, sigma, tokens, of, to, mean, mask), _start(denoiser, x, sigma, tokens, to)

    def forward(block: Tensor) -> Tensor:
        point = start.repeat_interleave(block.shape[1], 0)
        moved = _forward(function, point, block.flatten(0, 1))
        return moved.reshape(*block.shape[:2], *moved.shape[1:])

    def backward(block: Tensor) -> Tensor:
        point = start.repeat_interleave(block.shape[1], 0)
        moved = _backward(function, point, lambda output: block.flatten(0, 1).to(output))
        return moved.reshape(*block.shape[:2], *moved.shape[1:])

    return forward, backward, start


def check_call(denoiser: Denoiser, x: Tensor, sigma: float) -> None:
    """Raise `InputError` where Jacobian products cannot be had: no gradients, a compiled module, no samples."""
    require_gradients()
    if is_compiled(cast(Any, denoiser)):
        expected = "a module that is not compiled: forward-mode derivatives do not pass through it"
        raise InputError("denoiser", found="a compiled module", expected=expected)
    if not 0 < sigma < float("inf") or len(x) == 0:
        raise InputError("x, sigma", found=f"{len(x)} samples, {sigma}", expected="samples and a positive noise level")
