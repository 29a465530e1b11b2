"""Chunks of a sweep with the columns of real ones and numbers that are none's: for the growth of what joins them."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from scorescope.probes.experiments.sweep_store import write_parts
from scorescope.probes.recording import Trace
from scorescope.probes.sampling import Run

RULES = {"CFG": {"class": "CFG", "weight": 1.0}}
STEPS, CHUNK = 8, 1000  # rows a sample, samples a chunk


def spec_of(samples: int, *, settings: int) -> dict[str, Any]:
    each = samples // settings
    return {
        "kind": "sweep", "model": "digits", "rules": RULES, "weights": [1.0 + k for k in range(settings)],
        "seeds": each, "size": min(CHUNK, each // 2), "steps": STEPS, "solver": {"class": "Euler"},
    }  # fmt: skip


@functools.cache
def template() -> tuple[pd.DataFrame, dict[str, Any]]:
    """One sample of the digits' network: its scalars and its manifest."""
    from scorescope.probes import CFG, Recording, load_model, sample
    from scorescope.probes.models import edm_sigmas
    from scorescope.probes.sampling import Euler

    model = load_model("digits")
    one = sample(
        model.denoiser, seeds=[0], condition=model.conditions(1), rule=CFG(3.0), solver=Euler(), record=Recording(),
        sigmas=edm_sigmas(STEPS), progress=False,
    ).trace  # fmt: skip
    return one.scalars, json.loads(json.dumps(dict(one.manifest), default=str))


def made_up(spec: dict[str, Any], seeds: range, folder: Path) -> dict[str, Any]:
    """Stands in for the making of a sweep's chunk."""
    scalars, manifest = template()
    count, rows = len(seeds), len(scalars)
    scalars = pd.concat([scalars] * count, ignore_index=True)
    scalars["sample"] = np.repeat(np.arange(count), rows)
    noise = np.random.default_rng(seeds.start).uniform(0.5, 2.0, len(scalars))
    for name in scalars.select_dtypes("float64"):
        if name.endswith("_sq"):
            scalars[name] *= noise
    table = pd.DataFrame({"sample": range(count), "seed": list(seeds), "condition": [0] * count})
    write_parts(folder / "run.x", Run(torch.zeros(count, 1, 8, 8), Trace(scalars, table, manifest)))
    return {"first": seeds.start - spec["seeds"][0], "manifest": manifest}
