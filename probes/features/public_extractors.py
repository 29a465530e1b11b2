"""Feature spaces of public networks: DINOv2, CLIP, and whatever timm has. They need the `features` extra.

    extractor = dinov2_extractor()              # FD-DINOv2: ViT-L/14, class token, 224 px
    extractor = clip_extractor()                # CMMD: ViT-L/14 at 336 px, image embedding
    extractor = timm_extractor("resnet50.a1_in1k")

Weights come through each library's own cache and hash checks; a local folder can be named instead.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from scorescope.data.doors import checked, require_members
from scorescope.data.errors import InputError
from scorescope.probes.features.extractors import Extractor, module_extractor
from scorescope.probes.features.preprocessing import resize_pillow

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
Statistics = tuple[tuple[float, ...], tuple[float, ...]]


@checked
def dinov2_extractor(
    model: str | Path | Any = "facebook/dinov2-large", *, size: int = 224, device: str | torch.device = "cpu"
) -> Extractor:
    """DINOv2 class tokens after the last norm, 1024 for the default ViT-L/14 (Stein et al. 2023, arXiv 2306.04675).

    Parameters
    ----------
    model : str, Path or Dinov2Model
        Name or folder for transformers, or a loaded model.
    size : int
        Images are resized to size x size by Pillow's bicubic.
    device : str
        Where it runs.
    """
    network = pretrained("AutoModel", model) if isinstance(model, str | Path) else model
    require_members("model", network, "to", "eval", expected="a name or folder for transformers, or a loaded model")
    network = network.to(device).eval().requires_grad_(False)
    return Extractor(
        "DINOv2", f"pillow bicubic {size}", scaled(size, IMAGENET),
        lambda x: network(pixel_values=x).last_hidden_state[:, 0], module=network, device=device,
    )  # fmt: skip


@checked
def clip_extractor(
    model: str | Path | Any = "openai/clip-vit-large-patch14-336",
    *,
    size: int | None = None,
    device: str | torch.device = "cpu",
) -> Extractor:
    """CLIP image embeddings, not normalised (`cmmd` does that); the default is that of CMMD (arXiv 2401.09603).

    Parameters
    ----------
    model : str, Path or CLIPVisionModelWithProjection
        Name or folder for transformers, or a loaded model.
    size : int, optional
        Images are resized to size x size by Pillow's bicubic; by default to what the model was trained on.
    device : str
        Where it runs.
    """
    if isinstance(model, str | Path):
        model = pretrained("CLIPVisionModelWithProjection", model)
    require_members("model", model, "to", "config", expected="a name or folder for transformers, or a loaded model")
    size = int(model.config.image_size) if size is None else size
    network = model.to(device).eval().requires_grad_(False)
    return Extractor(
        "CLIP", f"pillow bicubic {size}", scaled(size, CLIP), lambda x: network(pixel_values=x).image_embeds,
        module=network, device=device,
    )  # fmt: skip


@checked
def timm_extractor(name: str, *, layer: str | None = None, device: str | torch.device = "cpu") -> Extractor:
    """A pretrained timm model: its pooled features before the classifier, or the output of a named layer.

    Parameters
    ----------
    name : str
        timm's name of the model.
    layer : str, optional
        As in `module_extractor`.
    device : str
        Where it runs.
    """
    timm = _library("timm")
    network = timm.create_model(name, pretrained=True, num_classes=0)
    config = timm.data.resolve_model_data_config(network)
    size = int(config["input_size"][-1])
    transform = scaled(size, (tuple(config["mean"]), tuple(config["std"])))
    return module_extractor(
        network, layer=layer, prepare=transform, name=f"timm {name}", preprocessing=f"pillow bicubic {size}",
        device=device,
    )  # fmt: skip


def scaled(size: int, statistics: Statistics) -> Callable[[Tensor], Tensor]:
    """uint8 images to size x size by Pillow's antialiased bicubic, then (x / 255 - mean) / std by channel."""
    mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in statistics)

    def transform(images: Tensor) -> Tensor:
        return (resize_pillow(images, size) / 255 - mean.to(images.device)) / std.to(images.device)

    return transform


def pretrained(kind: str, name: str | Path) -> Any:
    """A model or a tokenizer of transformers by name or folder; `InputError` where weights of it are not there."""
    library = _library("transformers")
    is_model = not kind.endswith("Tokenizer")
    try:
        found = getattr(library, kind).from_pretrained(name, **({"output_loading_info": True} if is_model else {}))
    except (OSError, ValueError) as error:
        expected = "a folder that save_pretrained wrote, or a public name and a connection or a filled cache"
        raise InputError(str(name), found=str(error).splitlines()[0], expected=expected) from None
    if not is_model:
        return found
    model, loading = found
    if missing := sorted(loading["missing_keys"]):
        text = f"no weights for {len(missing)} of its parts, {missing[0]} among them"
        raise InputError(str(name), found=text, expected=f"all weights of a {kind}")
    return model


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        expected = "it installed: pip install 'scorescope[features]'"
        raise InputError(name, found=f"not importable ({error})", expected=expected) from None
