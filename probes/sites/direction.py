"""A direction at a site: what a probe finds, what an intervention adds, and a file that anyone can write.

    direction = Direction(vector, site="network.middle1", attribute="size", method="difference", scale=2.3)
    direction.save("size.safetensors")
    Direction.load("size.safetensors")

The file is plain safetensors: one tensor `vector` of shape (d,), and text metadata of which only `site` is required.
So a direction found elsewhere is imported with

    safetensors.torch.save_file({"vector": vector}, "mine.safetensors", metadata={"site": "network.middle1"})
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from scorescope.data.doors import checked
from scorescope.data.errors import InputError

CONDITION = "condition"
"""Site of directions in condition space; `condition.<token>` is that of one token."""


@checked
@dataclass(frozen=True, eq=False)
class Direction:
    """A vector over the channels of a site.

    At a convolutional site (batch, channel, y, x) it is added at every position, at a token site (batch, token,
    channel) at every token.

    Attributes
    ----------
    vector : Tensor, shape (d,)
        In the units of the site's activations, or of the condition token's embedding.
    site : str
        Module path inside the denoiser, "x" or "denoised"; "condition" or "condition.<token index>".
    attribute : str
        What it is a direction of.
    method : str
        How it was found.
    scale : float
        Standard deviation of the projection of activations on the unit vector; strength 1 is one scale.
    sigma : float or None
        Noise level at which it was found.
    space : str
        "activation", or the name of another space that the vector lives in.

    Raises
    ------
    InputError
        For a vector that is not one finite, non-zero floating point row, and a scale or noise level that is not
        positive and finite.
    """

    vector: Tensor
    site: str
    attribute: str
    method: str
    scale: float
    sigma: float | None = None
    space: str = "activation"

    def __post_init__(self) -> None:
        vector = self.vector
        expected = "floating point numbers of shape (d,), finite and not all zero"
        if not isinstance(vector, Tensor):
            raise InputError("vector", found=f"a {type(vector).__name__}", expected=expected)
        if vector.ndim != 1 or not len(vector) or not vector.is_floating_point():
            found = f"{vector.dtype} of shape {tuple(vector.shape)}"
            raise InputError("vector", found=found, expected=expected)
        norm = float(vector.double().norm())
        if not math.isfinite(norm) or norm == 0:
            raise InputError("vector", found=f"norm {norm}", expected=expected)
        if not self.site:
            raise InputError("site", found="''", expected="a module path, or 'condition'")
        for name, value in (("scale", self.scale), ("sigma", 1.0 if self.sigma is None else self.sigma)):
            if not 0 < value < math.inf:
                raise InputError(name, found=str(value), expected="a positive finite number")

    def __len__(self) -> int:
        return len(self.vector)

    @property
    def unit(self) -> Tensor:
        """The vector at length 1."""
        length: Tensor = torch.linalg.vector_norm(self.vector)
        return self.vector / length

    def step(self, strength: float) -> Tensor:
        """What is added at a strength, in standard deviations of the projection: strength * scale * unit."""
        return strength * self.scale * self.unit

    def check_width(self, width: int) -> None:
        """Raise `InputError` unless the site has `width` channels."""
        if len(self) != width:
            found = f"{len(self)} numbers, for {self.site!r}"
            raise InputError("direction", found=found, expected=f"{width}, the channels of that site")

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file, with everything but the vector as text metadata; gives its path back."""
        path = Path(path)
        fields = {"attribute": self.attribute, "method": self.method, "site": self.site, "space": self.space}
        numbers = {"scale": json.dumps(float(self.scale)), "sigma": json.dumps(self.sigma)}
        save_file({"vector": self.vector.detach().cpu().contiguous()}, path, metadata=fields | numbers)
        return path

    @classmethod
    @checked
    def load(cls, path: str | Path, *, width: int | None = None) -> "Direction":
        """Read a file that `save` wrote, or one with a `vector` and a `site` from elsewhere.

        Parameters
        ----------
        path : str or Path
            The file.
        width : int, optional
            Channels of the site it is meant for.

        Returns
        -------
        Direction
            Where the file has no `scale`, that is the length of the vector: strength 1 adds the vector itself.

        Raises
        ------
        InputError
            For a file that is no safetensors, lacks the vector or the site, or has another size than `width`.
        """
        vector, metadata = _read(Path(path))
        found = cls(
            vector,
            site=metadata["site"],
            attribute=metadata.get("attribute", ""),
            method=metadata.get("method", "imported"),
            scale=_number(path, metadata, "scale", float(vector.double().norm())) or 0.0,
            sigma=_number(path, metadata, "sigma", None),
            space=metadata.get("space", "activation"),
        )
        if width is not None:
            found.check_width(width)
        return found


def _read(path: Path) -> tuple[Tensor, dict[str, str]]:
    expected = "a safetensors file with a tensor `vector` and the metadata `site`"
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = dict(file.metadata() or {})
            names = list(file.keys())
            vector: Any = file.get_tensor("vector") if "vector" in names else None
    except (OSError, SafetensorError) as error:
        raise InputError(str(path), found=str(error), expected=expected) from error
    if vector is None or "site" not in metadata:
        found = f"tensors {names[:5]}, metadata {sorted(metadata)[:9]}"
        raise InputError(str(path), found=found, expected=expected)
    return torch.as_tensor(vector), metadata


def _number(path: str | Path, metadata: dict[str, str], name: str, default: float | None) -> float | None:
    if name not in metadata:
        return default
    try:
        value = json.loads(metadata[name])
        return None if value is None else float(value)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}, {name}", found=repr(metadata[name]), expected="a number as text") from error
