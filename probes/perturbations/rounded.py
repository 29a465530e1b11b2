"""A network whose weights or activations are rounded to a few bits: what quantising it would do, simulated.

    coarse = Rounded(denoiser, bits=4)
    sample(coarse, seeds=range(64), condition=labels)                 # or in one step, by `Replaced(coarse)`

Numbers stay floating point: values are rounded as integers of so many bits would, nothing gets faster.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.models.denoiser import Condition, Denoiser

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)


@displayed
@checked
class Rounded:
    """A copy of a denoiser whose linear and convolution layers work with rounded numbers.

    Parameters
    ----------
    denoiser : Denoiser
        A `torch.nn.Module`; it is left as it is.
    bits : int
        Of symmetric signed integers: 2^(bits - 1) - 1 steps to either side of 0.
    weights : bool
        Round weights, with a scale of its own for each output channel of a layer.
    activations : bool
        Round what each layer is given, with a scale of its own for each sample, found anew in each call.

    Raises
    ------
    InputError
        For a denoiser that is no module, has no such layer or one under a weight or spectral norm, fewer than 2 or more
        than 16 bits, and nothing to round.
    """

    def __init__(self, denoiser: Denoiser, *, bits: int = 8, weights: bool = True, activations: bool = False) -> None:
        if not isinstance(denoiser, nn.Module):
            raise InputError("denoiser", found=f"a {type(denoiser).__name__}", expected="a torch.nn.Module")
        if not 2 <= bits <= 16 or not (weights or activations):
            found = f"{bits}, {weights}, {activations}"
            raise InputError("bits, weights, activations", found=found, expected="2 to 16 bits of one of the two")
        if made := [name for name, layer in denoiser.named_modules() if isinstance(layer, LAYERS) and _is_made(layer)]:
            found = f"weights of {made[0]!r} that are made anew in each call"
            raise InputError(
                "denoiser", found=found, expected="layers whose weights are parameters: remove the norm first"
            )
        self.denoiser, self.bits = copy.deepcopy(denoiser), int(bits)
        layers = [module for module in self.denoiser.modules() if isinstance(module, LAYERS)]
        if not layers:
            raise InputError("denoiser", found="no linear or convolution layer", expected="a network that has some")
        if weights:
            with torch.no_grad():
                for weight in _weights(self.denoiser):
                    weight.copy_(rounded(weight, self.bits))
        for layer in layers:
            if activations:
                layer.register_forward_pre_hook(self._round_input)

    def __getattr__(self, name: str) -> Any:
        """Everything but the call is that of the denoiser inside."""
        if name == "denoiser":  # not set yet: while being copied
            raise AttributeError(name)
        return getattr(self.denoiser, name)

    def __call__(self, x: Tensor, sigma: Tensor, condition: Condition, /) -> Tensor:
        """Estimate x0; see `Denoiser`."""
        found: Tensor = self.denoiser(x, sigma, condition)
        return found

    def _round_input(self, _layer: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return (rounded(given[0], self.bits), *given[1:])


def _is_made(layer: nn.Module) -> bool:
    """Whether its weight follows from others, as weight norm and spectral norm have it."""
    return "weight" not in dict(layer.named_parameters(recurse=False))


def _weights(network: nn.Module) -> Iterator[Tensor]:
    """What is multiplied with activations, each with output channels first."""
    for module in network.modules():
        if isinstance(module, TRANSPOSED):
            yield module.weight.transpose(0, 1)
        elif isinstance(module, LAYERS):
            yield module.weight
        elif isinstance(module, nn.MultiheadAttention):
            names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
            yield from (weight for name in names if (weight := getattr(module, name)) is not None)


def rounded(values: Tensor, bits: int) -> Tensor:
    """Values to the nearest of the integers of so many bits, scaled to the largest of each row of the first axis."""
    top = 2 ** (bits - 1) - 1
    largest = values.detach().abs().flatten(1).amax(1) if values.ndim > 1 else values.detach().abs()
    scale = (largest / top).clamp_min(torch.finfo(values.dtype).tiny).reshape(-1, *(1,) * (values.ndim - 1))
    found: Tensor = (values / scale).round() * scale
    return found
