"""How a report was made: versions and settings, as its manifest holds them and as the foot of its page shows them."""

import json
import math
import platform
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import torch

from scorescope.reports.page.texts import writable

PACKAGES = ("scorescope", "torch", "numpy", "scipy", "pandas", "scikit-learn", "matplotlib", "seaborn")


def environment() -> dict[str, Any]:
    """Versions, platform and what the order of sums depends on, for manifests."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed as a package"
    return {
        "python": platform.python_version(), "platform": platform.platform(), "threads": torch.get_num_threads(),
        "versions": versions,
    }  # fmt: skip


def plain(value: Any) -> Any:
    """A value as strict JSON holds it: tuples as lists, infinite and missing numbers as text, text as UTF-8 has it."""
    if isinstance(value, dict):
        return {writable(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, int | float | bool | None) else writable(str(value))


def told_facts(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Facts for the foot of the page: one line each, without the files and what was asked for."""
    left_out = ("files", "request")
    texts = {key: value for key, value in plain(facts).items() if key not in left_out and value not in ({}, [])}
    return [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in texts.items()]


def now() -> str:
    """The time, to a second, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
