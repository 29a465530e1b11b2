"""Features of images from any network, streaming.

    extractor = classifier_extractor("digits")             # shipped; no download
    extractor = inception_extractor(Path("inception-2015.safetensors"), preprocessing="tf")
    extractor = module_extractor(my_network, layer="stage4", prepare=my_transform)
    found = extract(open_images("samples/"), extractor)
    found.features, found.logits, found.names
    moments = stream_moments(open_images("samples/"), extractor)   # constant memory

This module knows nothing of distances.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from scorescope.data.classifiers import load_classifier
from scorescope.data.errors import InputError
from scorescope.probes.images import ImageSource, ReadLog
from scorescope.probes.inception_weights import STATE_DICT, load_inception
from scorescope.probes.moments import Moments, RunningMoments
from scorescope.probes.preprocessing import prepare, resize_pillow

Singles = NDArray[np.float32]


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
    """

    name: str
    preprocessing: str
    prepare: Callable[[Tensor], Tensor]
    features: Callable[[Tensor], Tensor]
    activations: Callable[[Tensor], Tensor] | None = None
    head: nn.Linear | None = None
    classes: tuple[str, ...] = ()
    module: nn.Module | None = None
    device: str = "cpu"

    @property
    def weight(self) -> NDArray[np.float64] | None:
        """The head's weight, shape (classes, d), or None."""
        return None if self.head is None else self.head.weight.detach().cpu().double().numpy()


@dataclass(frozen=True, eq=False)
class Features:
    """Features of a set of images.

    Attributes
    ----------
    features : ndarray, shape (n, d), float32
        One row an image.
    logits : ndarray, shape (n, classes), float32, or None
        With bias; None without a classifier's head.
    names : list of str
        Of the images.
    log : ReadLog
        What was read, left out and converted.
    extractor : str
        Name of the feature space.
    """

    features: Singles
    logits: Singles | None
    names: list[str]
    log: ReadLog = field(default_factory=ReadLog)
    extractor: str = ""

    @property
    def top1(self) -> NDArray[np.int64] | None:
        """Index of each image's largest logit."""
        return None if self.logits is None else self.logits.argmax(axis=1)

    def take(self, rows: NDArray[np.integer[Any]]) -> "Features":
        """The same for some of the images."""
        logits = None if self.logits is None else self.logits[rows]
        return replace(self, features=self.features[rows], logits=logits, names=[self.names[row] for row in rows])


def extract(
    source: ImageSource, extractor: Extractor, *, batch: int = 64, skip_bad: bool = False, progress: bool = True
) -> Features:
    """Features, and logits where there is a head, of every image of a source.

    Parameters
    ----------
    source : ImageSource
        The images.
    extractor : Extractor
        The network.
    batch : int
        Images at a time; bounds the memory.
    skip_bad : bool
        Leave out and note images that cannot be read.
    progress : bool
        Show a progress bar.

    Raises
    ------
    InputError
        For an image that cannot be read or does not fit the network, features that are not finite (naming the
        images), or fewer than two images.
    """
    log = ReadLog()
    names: list[str] = []
    parts: list[Singles] = []
    for labels, part in _stream(source, extractor, batch, skip_bad, log, progress):
        names += labels
        parts.append(part)
    if len(names) < 2:
        raise InputError(source.name, found=f"{len(names)} images", expected="at least two")
    features = np.concatenate(parts)
    return Features(features, _logits(extractor, features), names, log, extractor.name)


def stream_moments(
    source: ImageSource, extractor: Extractor, *, batch: int = 64, skip_bad: bool = False, progress: bool = True
) -> Moments:
    """Moments of the features of a source, keeping one batch and one d x d matrix; see `extract`."""
    moments = RunningMoments()
    for _, part in _stream(source, extractor, batch, skip_bad, ReadLog(), progress):
        moments.add(part)
    return moments.result()


@torch.inference_mode()
def extract_maps(
    source: ImageSource, extractor: Extractor, *, rows: NDArray[np.integer[Any]] | None = None, batch: int = 64
) -> Singles:
    """Last maps of some images, shape (m, d, y, x), in the order of `rows`.

    Raises
    ------
    InputError
        If the extractor has no maps whose mean are its features.
    """
    if extractor.activations is None:
        expected = "one whose features are the spatial mean of maps; see scorescope.probes.attribution for others"
        raise InputError("extractor", found=extractor.name, expected=expected)
    wanted = None if rows is None else {int(row) for row in rows}
    kept: dict[int, Singles] = {}
    first = 0
    for _, images in source.batches(batch, skip_bad=True):
        chosen = [i for i in range(len(images)) if wanted is None or first + i in wanted]
        if chosen:
            maps = extractor.activations(_input(source, extractor, images[chosen])).float().cpu().numpy()
            kept |= {first + i: maps[k] for k, i in enumerate(chosen)}
        first += len(images)
    order = range(first) if rows is None else [int(row) for row in rows]
    if absent := [row for row in order if row not in kept]:
        raise InputError("rows", found=f"{absent[:5]}", expected=f"rows from 0 to {first - 1}")
    return np.stack([kept[row] for row in order])


def classifier_extractor(name: str | Path, *, device: str = "cpu") -> Extractor:
    """One of the shipped classifiers (`digits`, `accessory`, `subject`), or a file of the same kind."""
    network, _ = load_classifier(name, device=device)
    channels, *size = network.config.shape

    def to_input(images: Tensor) -> Tensor:
        if list(images.shape[2:]) != size:
            found, wanted = "x".join(map(str, images.shape[2:])), "x".join(map(str, size))
            raise InputError("images", found=f"size {found}", expected=f"{wanted}: this network does not resize")
        return prepare(images, "none")[:, :channels]  # channels of a gray image are copies

    return Extractor(
        f"{Path(name).stem} classifier", "none", to_input, lambda x: network.activations(x).mean(dim=(2, 3)),
        network.activations, network.head, network.config.classes, network, device,
    )  # fmt: skip


def pixel_extractor(size: int = 8) -> Extractor:
    """Gray pixels at a low resolution, size^2 features: a second feature space that needs no network."""

    def to_gray(images: Tensor) -> Tensor:
        same = images.shape[2:] == (size, size)
        scaled = images.float() if same else resize_pillow(images, size)
        return scaled.mean(dim=1) / 127.5 - 1

    return Extractor(f"gray pixels {size} x {size}", f"pillow bicubic {size}", to_gray, lambda x: x.flatten(1))


def inception_extractor(
    weights: Path | None,
    *,
    preprocessing: str = "tf",
    class_names: tuple[str, ...] = (),
    device: str = "cpu",
    expected_sha256: str | None = STATE_DICT.sha256,
) -> Extractor:
    """The Inception network of the FID.

    Parameters
    ----------
    weights : Path or None
        Weight file; None raises the error that says where to find one.
    preprocessing : str
        See `prepare`.
    class_names : tuple of str
        From `load_class_names`.
    device : str
        Where it runs.
    expected_sha256 : str, optional
        As in `load_inception`; None accepts weights of your own.
    """
    network = load_inception(weights, expected_sha256=expected_sha256).to(device)
    # channels last: the same numbers to rounding, at about 1.4 times the speed on a CPU
    nn.utils.convert_conv2d_weight_memory_format(network, torch.channels_last)

    def to_input(images: Tensor) -> Tensor:
        return prepare(images, preprocessing).contiguous(memory_format=torch.channels_last)

    return Extractor(
        "Inception 2015 pool3", preprocessing, to_input,
        lambda x: network.activations(x).mean(dim=(2, 3)), network.activations, network.head, class_names, network,
        device,
    )  # fmt: skip


def spatial_extractor(base: Extractor, reading: str) -> Extractor:
    """The 2023 features of sFID from an Inception extractor, by one of its two readings; see `Inception2015`."""
    spatial = getattr(base.module, "spatial_features", None)
    if spatial is None or reading not in ("mixed_6_conv", "mixed_6e"):
        expected = "an Inception extractor, and 'mixed_6_conv' or 'mixed_6e'"
        raise InputError("base, reading", found=f"{base.name}, {reading!r}", expected=expected)
    name = f"{base.name} sFID {reading}"
    return replace(base, name=name, features=lambda x: spatial(x)[reading], activations=None, head=None)


def module_extractor(
    module: nn.Module,
    *,
    layer: str | None = None,
    prepare: Callable[[Tensor], Tensor],
    name: str = "",
    preprocessing: str = "own",
    head: nn.Linear | None = None,
    classes: tuple[str, ...] = (),
    device: str = "cpu",
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


def _stream(
    source: ImageSource, extractor: Extractor, batch: int, skip_bad: bool, log: ReadLog, progress: bool
) -> Iterator[tuple[list[str], Singles]]:
    bar = tqdm(total=source.count, desc=f"features of {source.name}", disable=not progress, leave=False, unit="image")
    with bar, torch.inference_mode():
        for names, images in source.batches(batch, skip_bad=skip_bad, log=log):
            features = extractor.features(_input(source, extractor, images)).float().cpu().numpy()
            bad = [name for name, fine in zip(names, np.isfinite(features).all(axis=1), strict=True) if not fine]
            if bad:
                found = f"features with NaN or infinite values for {len(bad)} images: {', '.join(bad[:8])}"
                raise InputError(source.name, found=found, expected="finite features")
            bar.update(len(names))
            yield names, features


def _input(source: ImageSource, extractor: Extractor, images: Tensor) -> Tensor:
    try:
        return extractor.prepare(images.to(extractor.device))
    except InputError as error:
        found, expected = f"{error.argument}: {error.found}", error.expected
        raise InputError(f"{source.name} for {extractor.name}", found=found, expected=expected) from None


@torch.inference_mode()
def _logits(extractor: Extractor, features: Singles) -> Singles | None:
    if extractor.head is None:
        return None
    rows = torch.from_numpy(features).to(extractor.device)
    logits: Singles = extractor.head(rows).float().cpu().numpy()
    return logits
