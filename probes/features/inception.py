"""The Inception network of the FID, of 2015, in plain torch.

    network = Inception2015()                        # random weights; see inception_weights for the real ones
    maps = network.activations(prepare(images, "tf"))     # (batch, 2048, 8, 8)
    features = maps.mean(dim=(2, 3))                 # pool3
    logits = network.head(features)                  # (batch, 1008)

It differs from torchvision's Inception v3: average pools leave the padding out, the last block pools by maximum,
there are 1008 logits, and no auxiliary head. Parameter names are those of the widely used port (pytorch-fid,
torch-fidelity), 566 entries. This module knows nothing of weight files and of resizing.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

Sizes = int | tuple[int, int]
SFID_CHANNELS = 7


class BasicConv2d(nn.Module):
    """Convolution without bias, batch norm (eps 1e-3), ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Sizes, *, stride: int = 1, padding: Sizes = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, y, x) to (batch, outputs, y', x')."""
        return functional.relu(self.bn(self.conv(x)), inplace=True)


def average_pool(x: Tensor) -> Tensor:
    """3 x 3 average with stride 1 over the image only: padding is not counted, as in TensorFlow."""
    return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class InceptionA(nn.Module):
    """Mixed_5b to 5d, 35 x 35."""

    def __init__(self, inputs: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(inputs, 64, 1)
        self.branch5x5_1 = BasicConv2d(inputs, 48, 1)
        self.branch5x5_2 = BasicConv2d(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = BasicConv2d(inputs, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3, padding=1)
        self.branch_pool = BasicConv2d(inputs, pool, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, y, x) to (batch, 224 + pool, y, x)."""
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(average_pool(x))], dim=1)


class InceptionB(nn.Module):
    """Mixed_6a, 35 x 35 to 17 x 17."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = BasicConv2d(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1 = BasicConv2d(inputs, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, y, x) to (batch, 480 + inputs, y / 2, x / 2)."""
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), three, functional.max_pool2d(x, 3, stride=2)], dim=1)


class InceptionC(nn.Module):
    """Mixed_6b to 6e, 17 x 17, with 1 x 7 and 7 x 1 convolutions."""

    def __init__(self, inputs: int, inner: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(inputs, 192, 1)
        self.branch7x7_1 = BasicConv2d(inputs, inner, 1)
        self.branch7x7_2 = BasicConv2d(inner, inner, (1, 7), padding=(0, 3))
        self.branch7x7_3 = BasicConv2d(inner, 192, (7, 1), padding=(3, 0))
        self.branch7x7dbl_1 = BasicConv2d(inputs, inner, 1)
        self.branch7x7dbl_2 = BasicConv2d(inner, inner, (7, 1), padding=(3, 0))
        self.branch7x7dbl_3 = BasicConv2d(inner, inner, (1, 7), padding=(0, 3))
        self.branch7x7dbl_4 = BasicConv2d(inner, inner, (7, 1), padding=(3, 0))
        self.branch7x7dbl_5 = BasicConv2d(inner, 192, (1, 7), padding=(0, 3))
        self.branch_pool = BasicConv2d(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, y, x) to (batch, 768, y, x)."""
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(average_pool(x))], dim=1)


class InceptionD(nn.Module):
    """Mixed_7a, 17 x 17 to 8 x 8."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3_1 = BasicConv2d(inputs, 192, 1)
        self.branch3x3_2 = BasicConv2d(192, 320, 3, stride=2)
        self.branch7x7x3_1 = BasicConv2d(inputs, 192, 1)
        self.branch7x7x3_2 = BasicConv2d(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = BasicConv2d(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = BasicConv2d(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, y, x) to (batch, 512 + inputs, y / 2, x / 2)."""
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, functional.max_pool2d(x, 3, stride=2)], dim=1)


class InceptionE(nn.Module):
    """Mixed_7b and 7c, 8 x 8; `pool_by_maximum` in the last one only, a quirk of the 2015 graph."""

    def __init__(self, inputs: int, *, pool_by_maximum: bool) -> None:
        super().__init__()
        self.pool_by_maximum = pool_by_maximum
        self.branch1x1 = BasicConv2d(inputs, 320, 1)
        self.branch3x3_1 = BasicConv2d(inputs, 384, 1)
        self.branch3x3_2a = BasicConv2d(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = BasicConv2d(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = BasicConv2d(inputs, 448, 1)
        self.branch3x3dbl_2 = BasicConv2d(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = BasicConv2d(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = BasicConv2d(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = BasicConv2d(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, y, x) to (batch, 2048, y, x)."""
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = functional.max_pool2d(x, 3, stride=1, padding=1) if self.pool_by_maximum else average_pool(x)
        parts = [
            self.branch1x1(x), self.branch3x3_2a(three), self.branch3x3_2b(three),
            self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(pooled),
        ]  # fmt: skip
        return torch.cat(parts, dim=1)


class Inception2015(nn.Module):
    """The whole network; see the module's text.

    Attributes
    ----------
    spatial_readings : mapping of str to str
        Both published readings of the features for sFID, with what each is.
    """

    spatial_readings: ClassVar[Mapping[str, str]] = {
        "mixed_6_conv": "guided-diffusion: first 7 channels of the 1 x 1 branch of Mixed_6d",
        "mixed_6e": "dgm-eval: first 7 channels of the output of Mixed_6e",
    }

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = BasicConv2d(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, 3)
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, 1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, 3)
        self.Mixed_5b = InceptionA(192, 32)
        self.Mixed_5c = InceptionA(256, 64)
        self.Mixed_5d = InceptionA(288, 64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b = InceptionC(768, 128)
        self.Mixed_6c = InceptionC(768, 160)
        self.Mixed_6d = InceptionC(768, 160)
        self.Mixed_6e = InceptionC(768, 192)
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b = InceptionE(1280, pool_by_maximum=False)
        self.Mixed_7c = InceptionE(2048, pool_by_maximum=True)
        self.fc = nn.Linear(2048, 1008)

    @property
    def head(self) -> nn.Linear:
        """The last layer: logits of 1008 classes from pool3 features."""
        return self.fc

    def activations(self, images: Tensor) -> Tensor:
        """Maps of Mixed_7c, shape (batch, 2048, 8, 8); their spatial mean is pool3.

        Parameters
        ----------
        images : Tensor, shape (batch, 3, 299, 299)
            From `prepare`, in about [-1, 1].
        """
        maps: Tensor = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(self.Mixed_6e(self._to_mixed_6d(images)))))
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Logits with bias, shape (batch, 1008). The Inception Score is taken without the bias: see `head`."""
        logits: Tensor = self.fc(self.activations(images).mean(dim=(2, 3)))
        return logits

    def spatial_features(self, images: Tensor) -> dict[str, Tensor]:
        """Both published readings of the features for sFID, each of shape (batch, 2023).

        See `spatial_readings`. Their distances cannot be compared with each other.
        """
        before = self.Mixed_6c(self.Mixed_6b(self._to_mixed_6a(images)))
        branch = self.Mixed_6d.branch1x1(before)[:, :SFID_CHANNELS]
        after = self.Mixed_6e(self.Mixed_6d(before))[:, :SFID_CHANNELS]
        return {"mixed_6_conv": branch.flatten(1), "mixed_6e": after.flatten(1)}

    def _to_mixed_6a(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(functional.max_pool2d(x, 3, stride=2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(functional.max_pool2d(x, 3, stride=2))))
        out: Tensor = self.Mixed_6a(x)
        return out

    def _to_mixed_6d(self, x: Tensor) -> Tensor:
        out: Tensor = self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self._to_mixed_6a(x))))
        return out
