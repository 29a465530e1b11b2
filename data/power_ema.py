"""Averages of weights whose memory grows with training: power-function EMAs, of any number of lengths at once.

    averages = PowerEMA(network, lengths=(0.05, 0.10))
    for batch in batches:
        ...                                        # an optimiser step on `network`
        averages.update(network)
    averages.networks[0.05]                        # a copy of the network with the averaged weights

Karras et al. 2024 (arXiv 2312.02696), section 3.1: at step t the weights of step tau <= t count in proportion to
tau^gamma. What the field calls the length of such an average, sigma_rel, is the standard deviation of that profile in
units of t. From snapshots of two lengths `probes.models.posthoc_ema` makes the average of another length.
"""

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from scorescope.data.doors import checked
from scorescope.data.errors import InputError

LONGEST = math.sqrt(1 / 12)  # sigma_rel of gamma = 0, which counts all steps alike


def sigma_rel_to_gamma(sigma_rel: float) -> float:
    """Exponent of the power function whose profile has this relative standard deviation (their appendix C).

    Raises
    ------
    InputError
        Unless 0 < sigma_rel <= sqrt(1 / 12) = 0.2887.
    """
    if not 0 < sigma_rel <= LONGEST:
        raise InputError("sigma_rel", found=f"{sigma_rel}", expected=f"a number above 0, at most {LONGEST:.4f}")
    inverse = sigma_rel**-2
    roots = np.roots([1.0, 7.0, 16 - inverse, 12 - inverse])
    return max(0.0, float(roots.real[np.abs(roots.imag) < 1e-6 * (1 + np.abs(roots.real))].max()))


def gamma_to_sigma_rel(gamma: float) -> float:
    """Relative standard deviation of the profile of this exponent, the inverse of `sigma_rel_to_gamma`."""
    return math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)))


@checked
class PowerEMA:
    """Power-function averages of a network's weights, updated after every optimiser step.

    The average of step t has the weights of steps 1 to t, in proportion to tau^(gamma+1) - (tau-1)^(gamma+1); those
    that the network began with are not in it.

    Parameters
    ----------
    network : Module
        What is trained. Averages of half-precision weights are kept in float32, where small updates are not lost.
    lengths : sequence of float
        sigma_rel of each; 0.05 and 0.10 are what the paper tracks.

    Attributes
    ----------
    networks : dict of float to Module
        By length, a copy of the network with the averaged weights; buffers are those of the last step.
    step : int
        Updates so far.

    Raises
    ------
    InputError
        For a length given twice, or outside (0, 0.2887].
    """

    def __init__(self, network: nn.Module, lengths: Sequence[float] = (0.05, 0.10)) -> None:
        if len(set(lengths)) < len(lengths):
            raise InputError("lengths", found=str(list(lengths)), expected="each length once")
        self.step = 0
        self._powers = {float(length): sigma_rel_to_gamma(length) + 1 for length in lengths}
        self.networks = {length: _copied(network) for length in self._powers}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights after one more optimiser step."""
        self.step += 1
        for length, average in self.networks.items():
            decay = (1 - 1 / self.step) ** self._powers[length]  # 0 at first: the beginning is forgotten
            ours: list[Tensor] = list(average.parameters())
            theirs = [new.to(old.dtype) for new, old in zip(network.parameters(), ours, strict=True)]
            torch._foreach_lerp_(ours, theirs, 1 - decay)
            for old, new in zip(average.buffers(), network.buffers(), strict=True):
                old.copy_(new)

    def state_dict(self) -> dict[str, Tensor]:
        """All that an interrupted run needs to go on, as tensors by name."""
        kept = {
            f"{length!r}/{name}": value
            for length, average in self.networks.items()
            for name, value in average.state_dict().items()
        }
        return {"step": torch.tensor(self.step), **kept}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` gave.

        Raises
        ------
        InputError
            Where other lengths were tracked.
        """
        tracked = {float(name.partition("/")[0]) for name in state if name != "step"}
        if tracked != set(self.networks):
            raise InputError("lengths", found=f"{sorted(self.networks)}", expected=f"those tracked: {sorted(tracked)}")
        self.step = int(state["step"])
        for length, average in self.networks.items():
            prefix = f"{length!r}/"
            own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            average.load_state_dict(own)


def _copied(network: nn.Module) -> nn.Module:
    """A copy that nothing trains, with parameters of at least single precision."""
    copy = deepcopy(network).eval().requires_grad_(False)
    for parameter in copy.parameters():
        parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
    return copy
