"""Inside: activations collected and shuffled, sparse features, attention maps."""

import tempfile
from pathlib import Path
from typing import Any

import torch

from scorescope.analysis.attention import map_agreement
from scorescope.analysis.inside import feature_density, sparse_sheet
from scorescope.probes import Bank, log_snr_grid
from scorescope.probes.activations import Positions, ShuffledRows, StoredActivations, collect
from scorescope.probes.attention import AttentionMaps, attention_maps
from scorescope.probes.sparse import SparseAutoencoder, train_sparse
from tests.benchmarks.growth.case import Case
from tests.benchmarks.growth.made_up import Sites, normal
from tests.pipelines import embeddings, sd15

SITE = "blocks.0"


def points(images: int) -> Bank:
    return Bank(normal(images, 4, 4, 4), log_snr_grid(-4, 4, 4))


def collected(made: Any) -> None:
    network, bank = made
    collect(network, bank, [f"blocks.{k}" for k in range(len(network.blocks))])


def stored(images: int, channels: int = 32) -> StoredActivations:
    folder = Path(tempfile.mkdtemp()) / "stored"
    return collect(Sites(1, channels), points(images), {SITE: Positions(8)}, path=folder)


def shuffled(made: StoredActivations) -> None:
    for batch in ShuffledRows(made, SITE, batch=1024).epoch(0):
        batch.sum()


def judged(made: Any) -> None:
    codec, kept = made
    sparse_sheet(codec, kept, SITE, resamples=200)
    feature_density(codec, kept, SITE)


def trained(made: Any) -> None:
    rows, features = made
    train_sparse(lambda epoch: iter([rows] * 8), features=features, k=8, steps=8)


def text(tokens: int) -> Any:
    pipe, arguments = sd15(steps=2)
    width = arguments["prompt_embeds"].shape[-1]
    given = {"prompt_embeds": embeddings(1, tokens, width, seed=0)}
    return pipe, arguments | given | {"negative_prompt_embeds": embeddings(1, tokens, width, seed=1)}


def watched(made: Any) -> None:
    pipe, arguments = made
    with attention_maps(pipe) as watching:
        pipe(**arguments)
    watching.read()


def maps(tokens: int, calls: int = 20, side: int = 16) -> AttentionMaps:
    values = torch.rand(calls, 4, 1, 1, tokens, side, side)
    names = tuple(f"word {k}" for k in range(tokens))
    return AttentionMaps(
        values, torch.linspace(10, 0.1, calls).double(), (0,) * calls, tuple(range(calls)), ("cond",) * calls,
        ("mean",), ("mean",), names, ("unet.attn2",),
    )  # fmt: skip


def two_maps(samples: int, side: int) -> Any:
    return torch.rand(4, samples, side, side), torch.rand(4, samples, side, side)


def agreed(made: Any) -> None:
    map_agreement(*made, sigmas=[4.0, 2.0, 1.0, 0.5])


IMAGES = (250, 500, 1000, 2000)
CASES = (
    Case("inside: collect", "images", (500, 1000, 2000, 4000), lambda n: (Sites(4, 64), points(n)), collected,
         "images x sites", 1, 1),
    Case("inside: collect", "sites", (8, 16, 32, 64, 128), lambda n: (Sites(n, 64), points(250)), collected,
         "images x sites", 1, 1),
    Case("inside: activations to disk", "images", (500, 1000, 2000, 4000), lambda n: n, stored,
         "images; shards of 64 MB", 1, 1),
    Case("inside: ShuffledRows", "images", (2000, 4000, 8000, 16000), stored, shuffled,
         "rows; a pool of 64 MB", 1, 1),
    Case("inside: ShuffledRows", "features", (64, 128, 256, 512), lambda d: stored(1000, d), shuffled,
         "rows x features", 1, 1),
    Case("inside: sparse_sheet, density", "images", IMAGES, lambda n: (SparseAutoencoder(32, 256, 8).eval(), stored(n)),
         judged, "rows x features", 1, 1),
    Case("inside: sparse_sheet, density", "features", (512, 1024, 2048, 4096),
         lambda n: (SparseAutoencoder(32, n, 8).eval(), stored(100)), judged, "rows x features", 1, 1),
    Case("inside: train_sparse, a step", "features", (512, 1024, 2048, 4096), lambda n: (normal(512, 64), n), trained,
         "rows x features x width", 1, 1),
    Case("attention: attention_maps of a pipeline", "tokens", (308, 616, 1232, 2464, 4928), text, watched,
         "tokens", 1, 1),
    Case("attention: table of maps", "tokens", (32, 64, 128, 256), maps, AttentionMaps.table, "tokens x cells", 1, 1),
    Case("attention: map_agreement", "samples", (50, 100, 200, 400, 800), lambda n: two_maps(n, 16), agreed,
         "samples^2 x cells: every sample against all", 2, 2),
    Case("attention: map_agreement", "side", (16, 32, 64, 128), lambda n: two_maps(32, n), agreed, "cells", 2, 2),
)  # fmt: skip
