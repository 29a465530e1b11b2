"""Attribution of a direction in feature space by captum: a check on the closed-form maps, and maps for other networks.

    direction = torch.from_numpy(image_gradients(plan, features)).float()
    gradcam_maps(extractor, layer, inputs, direction)
    occlusion_maps(extractor, inputs, direction, window=4)

The attributed number is <g_i, f(x_i)>: with g_i = dFD/dx_i it is image i's linear effect on the distance.
"""

from typing import Any

import torch
from torch import Tensor, nn

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.features.extractors import Extractor


@checked
def gradcam_maps(extractor: Extractor, layer: nn.Module, inputs: Tensor, directions: Tensor) -> Tensor:
    """Captum's LayerGradCam without ReLU: gradients averaged over space, times activations, summed over channels.

    Parameters
    ----------
    extractor : Extractor
        The feature space; its module must hold `layer`.
    layer : nn.Module
        Layer with output (batch, channel, y, x).
    inputs : Tensor
        What the extractor's `prepare` returns.
    directions : Tensor, shape (batch, d)
        One direction in feature space for each image.

    Returns
    -------
    Tensor, shape (batch, y, x)
        Where the features are the mean of the layer's maps, the signed closed-form map divided by y * x.
    """
    from captum.attr import LayerGradCam

    _check(inputs, directions)
    probe = _Probe(extractor, directions)
    maps: Tensor = LayerGradCam(probe, layer).attribute(inputs, relu_attributions=False)
    return maps.detach().sum(dim=1)


@checked
def occlusion_maps(
    extractor: Extractor, inputs: Tensor, directions: Tensor, *, window: int, stride: int | None = None,
    fill: float | Tensor = 0.0,
) -> Tensor:  # fmt: skip
    """Captum's Occlusion: how <g_i, f(x_i)> falls when a window of the input is covered.

    Parameters
    ----------
    extractor : Extractor
        The feature space.
    inputs : Tensor, shape (batch, channel, y, x)
        What the extractor's `prepare` returns.
    directions : Tensor, shape (batch, d)
        One direction in feature space for each image.
    window, stride : int
        Side of the window and its step, in pixels of the input; the step is by default half the window.
    fill : float or Tensor shaped like inputs
        What the covered pixels become.

    Returns
    -------
    Tensor, shape (batch, y, x)
        Positive where the region raises the number.
    """
    from captum.attr import Occlusion

    _check(inputs, directions)
    channels = inputs.shape[1]
    step = max(1, window // 2) if stride is None else stride
    with torch.no_grad():
        found: Tensor = Occlusion(_Probe(extractor, directions)).attribute(
            inputs, sliding_window_shapes=(channels, window, window), strides=(channels, step, step), baselines=fill
        )
    return found[:, 0]


class _Probe(nn.Module):
    """<g_i, f(x_i)> for each image, as a network that captum can call."""

    def __init__(self, extractor: Extractor, directions: Tensor) -> None:
        super().__init__()
        self.extractor, self.directions = extractor, directions

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.extractor.features(inputs)
        value: Any = (features * self.directions.to(features)).sum(dim=1)
        return value  # type: ignore[no-any-return]


def _check(inputs: Tensor, directions: Tensor) -> None:
    if directions.ndim != 2 or len(directions) != len(inputs):
        found = f"shape {tuple(directions.shape)} for {len(inputs)} images"
        raise InputError("directions", found=found, expected="(batch, d), one an image")
