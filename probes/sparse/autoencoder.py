"""A sparse autoencoder: few of many features are active at a time, and each is a direction of the activations.

    codes = autoencoder.encode(activations)             # (n, features), nearly all 0
    autoencoder.decode(codes)                           # (n, channels), in the units of the activations

TopK: the k largest codes of each row that are positive (Gao et al. 2024, arXiv 2406.04093). BatchTopK: in training the
k n largest of n rows, afterwards those above one threshold, so that rows may have more or fewer (Bussmann et al. 2024,
arXiv 2412.06410).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import only_input_errors, parse_json, read_tensors
from scorescope.data.written_files import UNSEALED, check_seal, warn_unsealed, write_sealed

Kind = Literal["topk", "batchtopk"]
FORMAT = "scorescope-sparse"
WEIGHTS = ("encoder", "encoder_bias", "decoder", "centre", "scale", "threshold")


@checked
class SparseAutoencoder(nn.Module):
    """codes = S(W (x - c) / s + b); reconstruction = s V codes + c, with columns of V of unit length.

    Parameters
    ----------
    width : int
        Channels of the activations.
    features : int
        How many there are.
    k : int
        How many are active in a row; with "batchtopk" on average.
    kind : {"topk", "batchtopk"}
        The sparsity S.
    seed : int
        Of the first weights.

    Attributes
    ----------
    decoder : Parameter, shape (features, width)
        Columns of V as rows.
    centre : Parameter, shape (width,)
        c.
    scale, threshold : Tensor, shape ()
        s; and the smallest code that counts, of "batchtopk" after training.
    card : dict
        How it was trained; empty before.
    """

    def __init__(self, width: int, features: int, k: int, *, kind: Kind = "topk", seed: int = 0) -> None:
        if not 1 <= k <= features or width < 1:
            found = f"{width}, {features}, {k}"
            raise InputError("width, features, k", found=found, expected="width >= 1 and 1 <= k <= features")
        super().__init__()
        first = torch.randn(features, width, generator=torch.Generator().manual_seed(seed))
        first = first / first.norm(dim=1, keepdim=True)
        self.k, self.kind = k, kind
        self.encoder, self.decoder = nn.Parameter(first.clone()), nn.Parameter(first)
        self.encoder_bias, self.centre = nn.Parameter(torch.zeros(features)), nn.Parameter(torch.zeros(width))
        self.scale: Tensor
        self.threshold: Tensor
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("threshold", torch.zeros(()))
        self.card: dict[str, Any] = {}

    @property
    def width(self) -> int:
        """Channels of the activations."""
        return self.decoder.shape[1]

    @property
    def features(self) -> int:
        """How many features there are."""
        return self.decoder.shape[0]

    def normalised(self, x: Tensor) -> Tensor:
        """(x - c) / s."""
        return (x.to(self.centre) - self.centre) / self.scale

    def scores(self, normalised: Tensor) -> Tensor:
        """Codes before the sparsity, (..., features)."""
        return nn.functional.linear(normalised, self.encoder, self.encoder_bias)

    def sparse(self, scores: Tensor, *, together: bool = False) -> Tensor:
        """The sparsity; `together` chooses over all rows of a batch, as "batchtopk" is trained."""
        if self.kind == "topk" or together:
            return largest(scores, self.k, together=self.kind == "batchtopk")
        return torch.where(scores > self.threshold, scores, 0).relu()

    def encode(self, x: Tensor) -> Tensor:
        """Codes of activations (..., width), (..., features)."""
        if x.shape[-1] != self.width:
            raise InputError("x", found=f"shape {tuple(x.shape)}", expected=f"(..., {self.width})")
        return self.sparse(self.scores(self.normalised(x)))

    def decode(self, codes: Tensor) -> Tensor:
        """Activations of codes."""
        return self.scale * (codes @ self.decoder) + self.centre

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction."""
        return self.decode(self.encode(x))

    def save(self, path: str | Path, *, more: Mapping[str, Tensor] | None = None) -> Path:
        """Write one safetensors file with a hash of itself, which is whole or as it was; gives its path back.

        Parameters
        ----------
        path : str or Path
            The file.
        more : mapping of str to Tensor, optional
            What else goes into it, such as the state of training.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: getattr(self, name) for name in WEIGHTS} | dict(more or {})
        tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        about = {"k": self.k, "kind": self.kind, "card": self.card}
        metadata = {"format": FORMAT, "about": json.dumps(about, sort_keys=True), "seal": UNSEALED}
        write_sealed(path, lambda temporary: save_file(tensors, temporary, metadata))
        return path

    @classmethod
    def load(cls, path: str | Path) -> "SparseAutoencoder":
        """Read a file that `save` wrote.

        Raises
        ------
        InputError
            For a damaged file, or one of something else.
        """
        return cls.read(Path(path))[0]

    @classmethod
    def read(cls, path: Path) -> tuple["SparseAutoencoder", dict[str, Tensor]]:
        """The same, and what else is in the file."""
        expected = "a sparse autoencoder that Scorescope wrote"
        if not check_seal(path):
            warn_unsealed(path)
        metadata, tensors = read_tensors(path, expected=expected)
        about = parse_json(metadata.get("about", "null"), source=path, expected=expected)
        if not isinstance(about, dict) or metadata.get("format") != FORMAT or not set(WEIGHTS) <= set(tensors):
            raise InputError(str(path), found=f"tensors {sorted(tensors)[:6]}", expected=expected)
        with only_input_errors(path, expected=expected):
            found = made_of({name: tensors.pop(name) for name in WEIGHTS}, k=about["k"], kind=about["kind"])
            found.card = dict(about["card"])
        return found, tensors


def made_of(weights: Mapping[str, Tensor], *, k: int, kind: Kind) -> SparseAutoencoder:
    """An autoencoder with these weights; `scale` is 1 and `threshold` 0 where they are not named."""
    if type(k) is not int:
        raise InputError("k", found=repr(k), expected="a whole number")
    features, width = weights["decoder"].shape
    found = SparseAutoencoder(int(width), int(features), k, kind=kind)
    for name, value in weights.items():
        if value.shape != getattr(found, name).shape or not torch.isfinite(value).all():
            known = f"finite numbers of shape {tuple(getattr(found, name).shape)}"
            raise InputError(name, found=f"shape {tuple(value.shape)}, or not finite", expected=known)
    found.load_state_dict({name: value.float() for name, value in weights.items()}, strict=False)
    return found.eval()


def largest(scores: Tensor, k: int, *, together: bool = False) -> Tensor:
    """The k largest of each row that are positive, or with `together` the k n largest of n rows; 0 elsewhere."""
    flat = scores.reshape(1, -1) if together else scores
    kept = flat.topk(min(k * (scores.numel() // scores.shape[-1]) if together else k, flat.shape[-1]), dim=-1)
    return torch.zeros_like(flat).scatter(-1, kept.indices, kept.values.relu()).reshape(scores.shape)
