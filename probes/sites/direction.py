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

import torch
from safetensors.torch import save_file
from torch import Tensor

from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import only_input_errors, read_tensors
from scorescope.data.written_files import UNSEALED, check_seal, warn_unsealed, write_sealed
from scorescope.probes.sites.outputs import checked_output

CONDITION = "condition"
"""Site of directions in condition space; `condition.<token>` is that of one token."""
POOLED = "pooled"
"""Site of directions in the pooled text embedding that a pipeline's denoiser is given beside the tokens."""
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # those that can be computed with
SMALLEST, LARGEST = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max


@displayed
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
        Module path inside the denoiser, "x" or "denoised"; "condition" or "condition.<token index>"; "pooled".
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
    output : int or None
        Which of the tensors that the site's module puts out; None where that was not said, and then an intervention
        goes to that of the image.

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
    output: int | None = None

    def __post_init__(self) -> None:
        vector = self.vector
        expected = "floating point numbers of shape (d,), finite and not all zero"
        if not isinstance(vector, Tensor):
            raise InputError("vector", found=f"a {type(vector).__name__}", expected=expected)
        if vector.ndim != 1 or not len(vector) or vector.dtype not in DTYPES:
            found = f"{vector.dtype} of shape {tuple(vector.shape)}"
            raise InputError("vector", found=found, expected=expected)
        norm = float(vector.double().norm())
        if not math.isfinite(norm) or norm == 0:
            raise InputError("vector", found=f"norm {norm}", expected=expected)
        checked_output(self.output)
        if not self.site:
            raise InputError("site", found="''", expected="a module path, or 'condition'")
        for name, value in (("scale", self.scale), ("sigma", 1.0 if self.sigma is None else self.sigma)):
            if not SMALLEST <= value <= LARGEST:
                expected = (
                    f"a positive finite number, from {SMALLEST:.2g} to {LARGEST:.2g} as single precision has them"
                )
                raise InputError(name, found=f"{value:g}", expected=expected)

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

    def describe(self) -> str:
        """What it is a direction of, where it is meant, and how it was found, in one line."""
        output = "" if self.output is None else f", output {self.output}"
        level = "" if self.sigma is None else f" at sigma {self.sigma:.4g}"
        return f"{self.attribute or 'a direction'} at {self.site}{output}: {self.method}{level}, scale {self.scale:.4g}"

    def same_output(self, output: int | None = None) -> int | None:
        """The output that it is meant for; `InputError` if another one is asked for."""
        if None not in (output, self.output) and output != self.output:
            expected = f"{self.output}, the output of {self.site!r} that the direction was found at"
            raise InputError("output", found=str(output), expected=expected)
        return self.output if output is None else output

    def check_width(self, width: int) -> None:
        """Raise `InputError` unless the site has `width` channels."""
        if len(self) != width:
            found = f"{len(self)} numbers, for {self.site!r}"
            raise InputError("direction", found=found, expected=f"{width}, the channels of that site")

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file, with everything but the vector as text metadata, and a hash of the file; gives
        its path back."""
        path = Path(path)
        fields = {"attribute": self.attribute, "method": self.method, "site": self.site, "space": self.space}
        numbers = {"scale": json.dumps(float(self.scale)), "sigma": json.dumps(self.sigma)}
        numbers["output"] = json.dumps(self.output)
        metadata = fields | numbers | {"seal": UNSEALED}
        tensors = {"vector": self.vector.detach().cpu().contiguous()}
        write_sealed(path, lambda temporary: save_file(tensors, temporary, metadata))
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
            For a file that is damaged or no safetensors, lacks the vector or the site, or has another size than
            `width`.
        """
        vector, metadata = _read(Path(path))
        with only_input_errors(path, expected="a direction"):
            found = cls(
                vector,
                site=metadata["site"],
                attribute=metadata.get("attribute", ""),
                method=metadata.get("method", "imported"),
                scale=_number(path, metadata, "scale", float(vector.double().norm())) or 0.0,
                sigma=_number(path, metadata, "sigma", None),
                space=metadata.get("space", "activation"),
                output=_output(path, metadata),
            )
        if width is not None:
            found.check_width(width)
        return found


def _read(path: Path) -> tuple[Tensor, dict[str, str]]:
    expected = "a safetensors file with a tensor `vector` and the metadata `site`"
    sealed = check_seal(path)
    metadata, tensors = read_tensors(path, expected=expected)
    vector = tensors.get("vector")
    if vector is None or "site" not in metadata:
        found = f"tensors {list(tensors)[:5]}, metadata {sorted(metadata)[:9]}"
        raise InputError(str(path), found=found, expected=expected)
    if not sealed and {"attribute", "method", "scale", "sigma", "space"} <= set(metadata):
        warn_unsealed(path)
    return vector, metadata


def _output(path: str | Path, metadata: dict[str, str]) -> int | None:
    """The output that a file names; of a file of ours that names none the first, which was the only one read then."""
    number = _number(path, metadata, "output", 0 if "space" in metadata else None)
    if number is not None and (number < 0 or number % 1):
        raise InputError(f"{path}, output", found=metadata["output"], expected="a whole number from 0, or null")
    return None if number is None else int(number)


def _number(path: str | Path, metadata: dict[str, str], name: str, default: float | None) -> float | None:
    if name not in metadata:
        return default
    try:
        value = json.loads(metadata[name])
        return None if value is None else float(value)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path}, {name}", found=repr(metadata[name][:80]), expected="a number as text") from error
