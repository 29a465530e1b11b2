"""Feature networks, and how images reach them.

    extractor = classifier_extractor("digits")             # shipped; no download
    extractor = inception_extractor(Path("inception-2015.safetensors"), preprocessing="tf")
    extractor = module_extractor(my_network, layer="stage4", prepare=my_transform)

`scorescope.probes.features.extraction` runs them over sets of images; `public_extractors` has DINOv2, CLIP and timm.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from scorescope.data.checkpoints import sha256
from scorescope.data.classifiers import load_classifier
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.features.class_names import load_class_names
from scorescope.probes.features.inception_weights import STATE_DICT, load_inception
from scorescope.probes.features.preprocessing import prepare, resize_pillow


@displayed
@checked
@dataclass(frozen=True, eq=False)
class Extractor:
    """A feature network and how images reach it.

    Attributes
    ----------
    name : str
        What tables call the feature space.
    preprocessing : str
        What `prepare` does, for tables.
    prepare : callable
        uint8 images (batch, 3, y, x) to the network's input.
    features : callable
        Network input to features (batch, d).
    activations : callable or None
        Network input to last maps (batch, d, y, x) whose spatial mean are the features, where there are such.
    head : nn.Linear or None
        Logits from features, where the network is a classifier.
    classes : tuple of str
        Names of the logits; empty where unknown.
    module : nn.Module or None
        The network, for gradients.
    device : str
        Where it runs.
    weights_sha256 : str
        Hash of the weight file; empty where there is none, or another library found it.
    """

    name: str
    preprocessing: str
    prepare: Callable[[Tensor], Tensor]
    features: Callable[[Tensor], Tensor]
    activations: Callable[[Tensor], Tensor] | None = None
    head: nn.Linear | None = None
    classes: tuple[str, ...] = ()
    module: nn.Module | None = None
    device: str | torch.device = "cpu"
    weights_sha256: str = ""

    @property
    def weight(self) -> NDArray[np.float64] | None:
        """The head's weight, shape (classes, d), or None."""
        return None if self.head is None else self.head.weight.detach().cpu().double().numpy()


@checked
def classifier_extractor(name: str | Path, *, device: str | torch.device = "cpu") -> Extractor:
    """One of the shipped classifiers (`digits`, `accessory`, `subject`), or a file of the same kind.

    Parameters
    ----------
    name : str or Path
        One of `shipped_classifiers()`, or a file that `save_classifier` wrote.
    device : str
        Where it runs.
    """
    network, card = load_classifier(name, device=device)
    channels, *size = network.config.shape

    def to_input(images: Tensor) -> Tensor:
        if list(images.shape[2:]) != size:
            found, wanted = "x".join(map(str, images.shape[2:])), "x".join(map(str, size))
            raise InputError("images", found=f"size {found}", expected=f"{wanted}: this network does not resize")
        return prepare(images, "none")[:, :channels]  # channels of a gray image are copies

    return Extractor(
        f"{Path(name).stem} classifier", "none", to_input, lambda x: network.activations(x).mean(dim=(2, 3)),
        network.activations, network.head, network.config.classes, network, device, card.get("weights_sha256", ""),
    )  # fmt: skip


@checked
def pixel_extractor(size: int = 8) -> Extractor:
    """Gray pixels at a low resolution, size^2 features: a second feature space that needs no network.

    Parameters
    ----------
    size : int
        Height and width that images are resized to.
    """

    def to_gray(images: Tensor) -> Tensor:
        same = images.shape[2:] == (size, size)
        scaled = images.float() if same else resize_pillow(images, size)
        return scaled.mean(dim=1) / 127.5 - 1

    return Extractor(f"gray pixels {size} x {size}", f"pillow bicubic {size}", to_gray, lambda x: x.flatten(1))


@checked
def inception_extractor(
    weights: Path | str | None,
    *,
    preprocessing: str = "tf",
    class_names: tuple[str, ...] | None = None,
    device: str | torch.device = "cpu",
    expected_sha256: str | None = STATE_DICT.sha256,
) -> Extractor:
    """The Inception network of the FID.

    Parameters
    ----------
    weights : Path, str or None
        Weight file; None raises the error that says where to find one.
    preprocessing : str
        See `prepare`.
    class_names : tuple of str, optional
        Of the 1008 logits. By default those of the shipped table, and none for weights of your own.
    device : str
        Where it runs.
    expected_sha256 : str, optional
        As in `load_inception`; None accepts weights of your own.
    """
    network = load_inception(None if weights is None else Path(weights), expected_sha256=expected_sha256).to(device)
    if class_names is None:
        class_names = () if expected_sha256 is None else tuple(load_class_names())
    # channels last: the same numbers to rounding, at about 1.4 times the speed on a CPU
    nn.utils.convert_conv2d_weight_memory_format(network, torch.channels_last)

    def to_input(images: Tensor) -> Tensor:
        return prepare(images, preprocessing).contiguous(memory_format=torch.channels_last)

    return Extractor(
        "Inception 2015 pool3", preprocessing, to_input,
        lambda x: network.activations(x).mean(dim=(2, 3)), network.activations, network.head, class_names, network,
        device, "" if weights is None else sha256(Path(weights)),
    )  # fmt: skip


@checked
def spatial_readings(base: Extractor) -> Mapping[str, str]:
    """Readings of the features for sFID that an extractor's network offers: name to meaning; empty without any.

    `Inception2015` has both published ones. The shipped classifiers have one of the same kind, so that the instrument
    can be tried without a download; its values mean nothing beside those of others.
    """
    return getattr(base.module, "spatial_readings", {})


@checked
def spatial_extractor(base: Extractor, *readings: str) -> Extractor:
    """The spatial features of sFID, (batch, d) for one reading, side by side for several; see `spatial_readings`.

    Parameters
    ----------
    base : Extractor
        Its network gives the readings.
    *readings : str
        Names of `spatial_readings`.
    """
    offered = spatial_readings(base)
    if not readings or not set(readings) <= set(offered):
        expected = f"some of {sorted(offered)}" if offered else "a network with spatial features: Inception"
        raise InputError("base, readings", found=f"{base.name}, {list(readings)}", expected=expected)
    spatial: Any = base.module

    def features(x: Tensor) -> Tensor:
        found = spatial.spatial_features(x)
        return torch.cat([found[reading] for reading in readings], dim=1)

    name = f"{base.name} sFID {', '.join(readings)}"
    return replace(base, name=name, features=features, activations=None, head=None)


@checked
def module_extractor(
    module: nn.Module,
    *,
    layer: str | None = None,
    prepare: Callable[[Tensor], Tensor],
    name: str = "",
    preprocessing: str = "own",
    head: nn.Linear | None = None,
    classes: tuple[str, ...] = (),
    device: str | torch.device = "cpu",
) -> Extractor:
    """Any network as a feature space.

    Parameters
    ----------
    module : nn.Module
        Called on what `prepare` returns; put into evaluation mode.
    layer : str, optional
        Name of the submodule whose output is used; by default the network's own output. Outputs (batch, d, y, x) are
        averaged over space and give maps; (batch, token, d) give the first token; (batch, d) stay.
    prepare : callable
        uint8 images (batch, 3, y, x) to the network's input.
    name, preprocessing : str
        What tables say.
    head : nn.Linear, optional
        Logits from the features.
    classes : tuple of str
        Names of the logits.
    device : str
        Where it runs.

    Raises
    ------
    InputError
        If there is no such layer, or its output has another shape.
    """
    module = module.to(device).eval()
    layers = dict(module.named_modules())
    if layer is not None and layer not in layers:
        shown = ", ".join([key for key in layers if key][-8:])
        raise InputError("layer", found=repr(layer), expected=f"a submodule, such as {shown}")

    def run(x: Tensor) -> Tensor:
        return _output_of(module, None if layer is None else layers[layer], x)

    def pooled(x: Tensor) -> Tensor:
        out = run(x)
        if out.ndim == 4:
            return out.mean(dim=(2, 3))
        if out.ndim == 3:
            return out[:, 0]
        if out.ndim != 2:
            found = f"output of shape {tuple(out.shape)}"
            raise InputError("layer", found=found, expected="(batch, d), (batch, token, d) or (batch, d, y, x)")
        return out

    def maps(x: Tensor) -> Tensor:
        out = run(x)
        if out.ndim != 4:
            found = f"output of shape {tuple(out.shape)}"
            raise InputError("layer", found=found, expected="(batch, d, y, x), for maps in closed form")
        return out

    label = name or f"{type(module).__name__}{'' if layer is None else '.' + layer}"
    return Extractor(label, preprocessing, prepare, pooled, maps, head, classes, module, device)


def _output_of(module: nn.Module, layer: nn.Module | None, x: Tensor) -> Tensor:
    """Output of a network or, by a hook that leaves at once, of one of its layers."""
    if layer is None:
        out = module(x)
    else:
        caught: list[Any] = []
        handle = layer.register_forward_hook(lambda _module, _inputs, output: caught.append(output))
        try:
            module(x)
        finally:
            handle.remove()
        if len(caught) != 1:
            raise InputError("layer", found=f"{len(caught)} calls in one forward pass", expected="exactly one")
        out = caught[0]
    if not isinstance(out, Tensor):
        raise InputError("layer", found=f"a {type(out).__name__} as output", expected="a layer that returns a tensor")
    return out
