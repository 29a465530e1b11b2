"""What a folder of activations has to say of itself, and its shards to hold: a good hash does not say that it does."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch

from scorescope.probes.recording.fields import Kinds, wrong_field

INDEX = {
    "image": torch.int32, "seed": torch.int64, "draw": torch.int32, "step": torch.int32, "call": torch.int32,
    "branch": torch.int32, "sigma": torch.float64,
}  # fmt: skip
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
Array = tuple[torch.dtype, list[int]]

_MANIFEST: Kinds = {
    "sites": list, "dtype": str, "sigmas": list, "images": int, "draws": int, "shards": int, "branches": list,
    "outputs": dict, "contents": list,
}  # fmt: skip
_SITE: Kinds = {"site": str, "how": (str, int, dict), "positions": int, "channels": int, "shape": list, "tokens": bool}
_DRAWN: Kinds = {"count": int, "seed": int}
_OUTPUT: Kinds = {"place": int, "count": int, "name": str}
_LINE: Kinds = {"number": int, "items": int, "line": int, "shard": str, "shard_sha256": str, "shard_bytes": int}


def wrong_in_manifest(manifest: Mapping[str, Any]) -> str:
    """The name of a field that a manifest lacks, or that is of another type; empty for a sound one."""
    if wrong := wrong_field(manifest, _MANIFEST):
        return wrong
    numbers = {"sigmas": float, "contents": int}
    lists = [name for name, kind in numbers.items() if not all(type(one) in (int, kind) for one in manifest[name])]
    named = all(isinstance(one, str) for one in manifest["branches"]) and manifest["branches"]
    if lists or not named or manifest["dtype"] not in DTYPES:
        return (lists or ["branches" if not named else "dtype"])[0]
    images = manifest["images"]
    if min(images, manifest["draws"]) < 1 or len(manifest["contents"]) != images:
        return "images"
    if not all(0 <= one < images for one in manifest["contents"]):
        return "contents"
    sites = [wrong for about in manifest["sites"] if (wrong := _wrong_in_site(about))]
    outputs = [wrong for about in manifest["outputs"].values() if (wrong := wrong_field(about, _OUTPUT, "outputs "))]
    return next(iter([*sites, *outputs]), "" if manifest["sites"] else "sites")


def _wrong_in_site(about: Any) -> str:
    if wrong := wrong_field(about, _SITE, "sites "):
        return wrong
    how = about["how"]
    if isinstance(how, dict) and (wrong := wrong_field(how, _DRAWN, "sites how ")):
        return wrong
    sizes = min(about["positions"], about["channels"]) >= 1
    return "" if sizes and all(type(one) is int for one in about["shape"]) else "sites shape"


def wrong_in_line(line: Any) -> str:
    """The same for the line of a shard."""
    wrong = wrong_field(line, _LINE, "fields ")
    return wrong or ("" if 1 <= line["items"] <= line["shard_bytes"] else "items")


def arrays_of(manifest: Mapping[str, Any], items: int) -> dict[str, Array]:
    """Types and shapes of the arrays of a shard with so many evaluations."""
    arrays: dict[str, Array] = {f"index|{name}": (kind, [items]) for name, kind in INDEX.items()}
    for about in manifest["sites"]:
        shape = [items, about["positions"], about["channels"]]
        arrays[f"site|{about['site']}"] = DTYPES[manifest["dtype"]], shape
        if isinstance(about["how"], dict):
            arrays[f"position|{about['site']}"] = torch.int32, shape[:2]
    return arrays


def wrong_in_index(index: pd.DataFrame, manifest: Mapping[str, Any]) -> str:
    """The column of an index that names what there is not; `evaluation` for one that is there twice; else empty."""
    below = {"image": "images", "draw": "draws", "step": "sigmas", "branch": "branches"}
    for column, name in below.items():
        end = manifest[name] if isinstance(manifest[name], int) else len(manifest[name])
        if not index[column].between(0, end - 1).all():
            return column
    return "evaluation" if index.duplicated(["image", "draw", "step", "branch"]).any() else ""
