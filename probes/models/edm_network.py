"""Networks as the EDM papers' codes have them, net(x, sigma, class_labels) -> D, with weights in a safetensors file.

model = load_model("network.safetensors", factory="my_package.my_module:make_network")

Karras et al. 2022 (arXiv 2206.00364) and 2024 (2312.02696): class labels are rows of one-hot numbers, all zeros is no
class, and the network says its size in `img_channels`, `img_resolution` and `label_dim`.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from scorescope.data.errors import InputError
from scorescope.data.untrusted import read_tensors
from scorescope.probes.models.factories import call_factory, import_factory

SIZES = ("img_channels", "img_resolution", "label_dim")


class EDMNetwork(nn.Module):
    """An EDM network as a denoiser: labels become rows of one-hot numbers, None becomes zeros.

    Parameters
    ----------
    network : Module
        net(x, sigma, class_labels) -> D, with `img_channels`, `img_resolution` and `label_dim`; what it says of
        `sigma_data`, `use_fp16` and `value_range` is taken over.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        channels, side, self.classes = (int(getattr(network, name)) for name in SIZES)
        self.shape = (channels, side, side)
        self.value_range = getattr(network, "value_range", None)
        self.sigma_data = getattr(network, "sigma_data", None)
        self.prediction_space = "denoised" if self.sigma_data is None else "edm"

    @property
    def compute_dtype(self) -> str | None:
        """Coarsest type inside: these networks use half precision on graphics processors alone."""
        on_gpu = any(one.is_cuda for one in self.network.parameters())
        return "float16" if on_gpu and getattr(self.network, "use_fp16", False) else None

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        """D of (batch, channel, y, x), in the type of x, with labels (batch,) or None."""
        labels = None
        if self.classes:
            labels = x.new_zeros(len(x), self.classes, dtype=torch.float32)
            if condition is not None:
                labels[torch.arange(len(x)), condition.to(x.device)] = 1
        denoised: Tensor = self.network(x.float(), sigma.float(), labels)
        return denoised.to(x.dtype)


def denoiser_of_file(path: Path, factory: str) -> nn.Module:
    """A user's network with weights from a safetensors file, in evaluation mode, as a denoiser.

    Raises
    ------
    InputError
        For weights that are no safetensors or of another network, and a factory that returns something else.
    """
    network = call_factory(import_factory(factory, argument="factory", known=[]), factory, argument="factory")
    if not isinstance(network, nn.Module):
        raise InputError("factory", found=f"a {type(network).__name__} from {factory!r}", expected="a torch.nn.Module")
    _, tensors = read_tensors(path, expected="a network's state dict in safetensors")
    _check_fits(path, tensors, network)
    network.load_state_dict(tensors)
    is_edm = all(isinstance(getattr(network, name, None), int) for name in SIZES)
    return (EDMNetwork(network) if is_edm else network).eval().requires_grad_(False)


def _check_fits(path: Path, tensors: dict[str, Tensor], network: nn.Module) -> None:
    """Say in one sentence which tensors a file and a network do not share."""
    wanted = {name: value.shape for name, value in network.state_dict().items()}
    missing, foreign = [n for n in wanted if n not in tensors], [n for n in tensors if n not in wanted]
    other = [name for name, shape in wanted.items() if name in tensors and tensors[name].shape != shape]
    told = {"no ": missing, "unknown ": foreign, "another shape of ": other}
    found = "; ".join(f"{kind}{', '.join(names[:2])}{_more(names)}" for kind, names in told.items() if names)
    if found:
        raise InputError(str(path), found=found, expected=f"the weights of the factory's {type(network).__name__}")


def _more(names: list[str]) -> str:
    return f" and {len(names) - 2} more" if len(names) > 2 else ""
