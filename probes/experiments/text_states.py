"""The text that a pipeline's denoiser is given for prompts, whatever encoders have read them.

states = text_states(pipe, [{"prompt": "an old man"}, {"prompt": "a young man"}])       # (row, token, width)
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from scorescope.data.doors import checked, require_some
from scorescope.data.errors import InputError
from scorescope.probes.experiments.encoded_once import encoded_once
from scorescope.probes.experiments.pipeline_steps import watch_calls
from scorescope.probes.pipelines.sample_calls import OneRow

TEXT = "encoder_hidden_states"


@checked
def text_states(pipe: Any, rows: Sequence[Mapping[str, Any]], *, arguments: Mapping[str, Any] | None = None) -> Tensor:
    """What the denoiser is given as text states, of the conditional branch, before its first call.

    Parameters
    ----------
    pipe : object
        A diffusers pipeline. It is as it was afterwards: each call ends with its first step.
    rows : sequence of mapping
        Arguments of its call, one row a prompt: {"prompt": ...}, or embeddings.
    arguments : mapping, optional
        Arguments that all calls share (height, width, guidance_scale).

    Returns
    -------
    Tensor, shape (row, token, width)
        `encoder_hidden_states`. Encoders whose states lie side by side (Stable Diffusion XL) or one after another (3)
        are as the denoiser has them, so that what is found here can be added or put there. Pooled embeddings are no
        part of it.

    Raises
    ------
    InputError
        For a denoiser without them, prompts whose states differ in shape, and calls of which nothing can be proved.
    """
    require_some("rows", rows)
    unlike = ("output_type", "num_inference_steps")
    shared = {name: value for name, value in dict(arguments or {}).items() if name not in unlike}
    with encoded_once(pipe):
        found = [_text(pipe, row, shared) for row in rows]
    if len(shapes := {tuple(text.shape) for text in found}) > 1:
        raise InputError("rows", found=f"text states of shapes {sorted(shapes)}", expected="states of one shape")
    return torch.cat(found)


def _text(pipe: Any, row: Mapping[str, Any], shared: Mapping[str, Any]) -> Tensor:
    [step] = watch_calls(pipe, row, shared, most=1)
    found = step.cond_call.arguments.get(TEXT)
    text = found.value if isinstance(found, OneRow) else found
    if not isinstance(text, Tensor) or text.ndim != 3:
        raise InputError("pipe", found=f"a denoiser without {TEXT}", expected="one that is given text states by name")
    return text.detach()
