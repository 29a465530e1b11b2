"""What a pipeline's images follow from, as short texts: its class, the weights of all its networks, its schedulers.

pipeline_identity(pipe)                            # {"class": ..., "unet": ..., "vae": ..., "scheduler": ...}
"""

import json
from collections.abc import Mapping
from typing import Any

from torch import nn

from scorescope.probes.models.fingerprint import config_of, fingerprint
from scorescope.probes.pipelines import find


def pipeline_identity(pipe: Any) -> dict[str, str]:
    """By part, what tells it from another one: of networks a hash of weights and settings; of schedulers settings."""
    parts = find.components(pipe)
    networks = {name: _weights(part) for name, part in parts.items() if isinstance(part, nn.Module)}
    schedulers = {name: _settings(part) for name, part in find.schedulers(pipe).items()}
    return {"class": type(pipe).__name__, **networks, **schedulers}


def _weights(network: nn.Module) -> str:
    """A hash of class, settings and all that the state holds; one tensor is held on the host at a time."""
    return fingerprint([type(network).__name__, config_of(network), dict(network.state_dict())], argument="pipe")


def _settings(scheduler: Any) -> str:
    config = getattr(scheduler, "config", None)
    plain = dict(config) if isinstance(config, Mapping) else {}
    plain = {name: value for name, value in plain.items() if not str(name).startswith("_")}
    return f"{type(scheduler).__name__} {json.dumps(plain, sort_keys=True, default=str)}"
