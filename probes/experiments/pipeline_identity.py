"""What a pipeline's images follow from, as short texts: its class, the weights of all its networks, its schedulers.

pipeline_identity(pipe)                            # {"class": ..., "unet": ..., "vae": ..., "scheduler": ...}
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from scorescope.probes.models.fingerprint import tensor_bytes
from scorescope.probes.pipelines import find


def pipeline_identity(pipe: Any) -> dict[str, str]:
    """By part, what tells it from another one: of networks the hash of their weights, of schedulers their settings."""
    parts = find.components(pipe)
    networks = {name: _weights(part) for name, part in parts.items() if isinstance(part, nn.Module)}
    schedulers = {name: _settings(part) for name, part in find.schedulers(pipe).items()}
    return {"class": type(pipe).__name__, **networks, **schedulers}


def _weights(network: nn.Module) -> str:
    """A hash of names, types and values; one tensor is held on the host at a time."""
    found = hashlib.sha256(type(network).__name__.encode())
    for name, weight in sorted(network.state_dict().items()):
        if isinstance(weight, torch.Tensor):
            found.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            found.update(tensor_bytes(weight))
    return found.hexdigest()


def _settings(scheduler: Any) -> str:
    config = getattr(scheduler, "config", None)
    plain = dict(config) if isinstance(config, Mapping) else {}
    plain = {name: value for name, value in plain.items() if not str(name).startswith("_")}
    return f"{type(scheduler).__name__} {json.dumps(plain, sort_keys=True, default=str)}"
