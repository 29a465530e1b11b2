"""A judge without training: CLIP tells images apart by texts.

    judge = zero_shot_judge("models/clip", {"colour": (["a red car"], ["a blue car"])})
    judge(images)["colour"]                       # (n,) log-odds of the second texts against the first

Radford et al. 2021 (arXiv 2103.00020), section 3.1: cosines with the texts, times the logit scale that was trained;
several texts of one class are averaged on the sphere.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.probes.features.public_extractors import CLIP, pretrained, scaled
from scorescope.probes.features.quantisation import quantise

Texts = Mapping[str, tuple[Sequence[str], Sequence[str]]]


@checked
@torch.no_grad()
def zero_shot_judge(
    folder: str | Path, texts: Texts, *, device: str | torch.device = "cpu"
) -> Callable[[Tensor], dict[str, Tensor]]:
    """A judge of attributes by texts that describe their two ends.

    Parameters
    ----------
    folder : path
        What `save_pretrained` wrote of a CLIP model of images and texts, with its tokenizer.
    texts : mapping of str to (sequence of str, sequence of str)
        By attribute, texts of its low and of its high end.
    device : str
        Where it runs.

    Returns
    -------
    callable
        Images (n, 3, y, x) in [-1, 1] to the log-odds (n,) of each attribute's high end, on the CPU.

    Raises
    ------
    InputError
        For a folder that holds no such model, and a text that is longer than it reads.
    """
    model = pretrained("CLIPModel", folder).to(device).eval().requires_grad_(False)
    tokenizer = pretrained("CLIPTokenizer", folder)
    prepare = scaled(int(model.config.vision_config.image_size), CLIP)
    low, high = (torch.stack([_of_texts(model, tokenizer, ends[place]) for ends in texts.values()]) for place in (0, 1))
    directions = model.logit_scale.exp() * (high - low)

    @torch.no_grad()
    def judge(images: Tensor) -> dict[str, Tensor]:
        pixels = prepare(quantise(images)).to(directions)
        found = (_unit(_embedded(model.get_image_features(pixel_values=pixels))) @ directions.T).float().cpu()
        return dict(zip(texts, found.unbind(1), strict=True))

    return judge


def _of_texts(model: Any, tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """The mean direction of some texts, (d,)."""
    most = int(model.config.text_config.max_position_embeddings)
    tokens = tokenizer(list(texts), padding=True, return_tensors="pt")
    if (longest := tokens["input_ids"].shape[1]) > most:
        raise InputError("texts", found=f"one of {longest} tokens", expected=f"at most {most}: what CLIP reads")
    embedded = _embedded(model.get_text_features(**tokens.to(model.device)))
    return _unit(_unit(embedded).mean(0))


def _embedded(found: Any) -> Tensor:
    """The embedding, which some versions of transformers hand over with what it was made of."""
    embedding: Tensor = found if isinstance(found, Tensor) else found.pooler_output
    return embedding


def _unit(vectors: Tensor) -> Tensor:
    unit: Tensor = vectors / vectors.norm(dim=-1, keepdim=True)
    return unit
