"""What there is to record in a pipeline, or in any object with a denoiser and a scheduler."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from scorescope.data.errors import InputError

Modules = str | Sequence[str] | Mapping[str, nn.Module] | None

_DENOISERS = ("unet", "transformer", "prior", "decoder", "denoiser", "dit", "model", "net")
_OTHERS = (
    "vae", "encoder", "text", "vision", "controlnet", "adapter", "safety", "feature", "tokenizer", "vocoder",
    "upsampler", "guider", "projection", "connector", "language", "embedder", "vq", "movq", "image_proj", "lora",
)  # fmt: skip


def components(pipe: Any) -> dict[str, Any]:
    """Named parts of a pipeline, those of pipelines inside it included."""
    found = getattr(pipe, "components", None)
    if not isinstance(found, Mapping):
        found = {name: value for name, value in getattr(pipe, "__dict__", {}).items() if not name.startswith("_")}
        found |= dict(pipe.named_children()) if isinstance(pipe, nn.Module) else {}
    return dict(found)


def denoisers(pipe: Any, chosen: Modules) -> dict[str, nn.Module]:
    """The denoiser modules by name.

    Parameters
    ----------
    pipe : object
        A pipeline.
    chosen : str, sequence of str, mapping or None
        Names of components, or modules by name; None takes those whose names are customary, else every module
        that is not customarily something else. The proof ignores modules whose outputs are not branches.

    Raises
    ------
    InputError
        Where a name is not there, or there is nothing.
    """
    parts = {name: part for name, part in components(pipe).items() if isinstance(part, nn.Module)}
    if isinstance(chosen, Mapping):
        return dict(chosen)
    if chosen is not None:
        names = [chosen] if isinstance(chosen, str) else list(chosen)
        for name in names:
            if name not in parts:
                raise InputError(
                    "modules", found=repr(name), expected=f"one of {', '.join(parts) or 'no module at all'}"
                )
        return {name: parts[name] for name in names}
    rest = {name: part for name, part in parts.items() if not any(other in name.lower() for other in _OTHERS)}
    customary = {name: part for name, part in rest.items() if any(word in name.lower() for word in _DENOISERS)}
    found = customary or rest
    if not found:
        raise InputError(
            "pipe",
            found=f"{type(pipe).__name__} without a denoiser module",
            expected="a unet, transformer or the like among its components, or modules=",
        )
    return found


def schedulers(pipe: Any) -> dict[str, Any]:
    """Everything with a `step` that is not a module or an optimiser, by name.

    Raises
    ------
    InputError
        Where there is none: such a pipeline cannot be recorded.
    """
    found = {
        name: part
        for name, part in components(pipe).items()
        if callable(getattr(part, "step", None)) and not isinstance(part, nn.Module) and hasattr(part, "__dict__")
    }
    if not found:
        raise InputError(
            "pipe",
            found=f"{type(pipe).__name__} without a scheduler that has a step method",
            expected="a pipeline that calls scheduler.step; others cannot be recorded",
        )
    return found


def guiders(pipe: Any) -> list[Any]:
    """Guiders of a modular pipeline."""
    return [part for name, part in components(pipe).items() if "guider" in name and hasattr(part, "prepare_inputs")]
