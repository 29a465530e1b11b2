"""Units: overlap with regions, and what editing them changes."""

from functools import partial
from tempfile import TemporaryDirectory

import numpy as np
import torch

from scorescope.analysis.units import unit_overlap
from scorescope.analysis.units.ablation import _arms, _verdicts
from scorescope.probes.activations import collect
from scorescope.probes.bank import Bank
from tests.benchmarks.coverage.case import Case, pick
from tests.planted import PlantedMaps, squares

WHERE = [{"site": "s", "units": "0", "edit": "zero", "sigma_low": 0.0, "sigma_high": 1.0, "log_snr": 0.0}]
SETS = {"units": [0], **{f"random {k}": [k] for k in range(1, 20)}}


def _overlap(images, rng):
    """The gate fires in a square of 3 columns; the region is that square, moved by 0, 1 or 2 columns."""
    seed = int(rng.integers(2**31))
    fires = squares(images, seed=seed)
    moved = torch.from_numpy(rng.integers(0, 3, images))
    masks = torch.stack([mask.roll(int(by), 1) for mask, by in zip(fires, moved, strict=True)])
    with TemporaryDirectory() as folder:
        bank = Bank(fires[:, None], [1.0], seed=seed)
        stored = collect(PlantedMaps(), bank, ["units"], condition=fires, how="whole", path=folder)
        table = unit_overlap(stored, "units", {"square": masks}, units=[0], permutations=19, seed=seed)
    return {"IoU": pick(table.iloc[0], "")[""]}


def _effects(seeds, rng):
    """Changes with a skewed law over seeds, another mean for each set."""
    changes = rng.exponential(size=(seeds, 1, 20, 1)) * np.linspace(0.5, 2, 20)[None, None, :, None]
    changes = changes + 0.2 * rng.normal(size=changes.shape)
    verdict = _verdicts(changes, WHERE, ["a"], 0.0).iloc[0]
    arm = _arms(changes, WHERE, ["a"], SETS).iloc[7]
    return {"chosen": pick(verdict, "")[""], "random set": pick(arm, "")[""]}


CASES = (
    *(
        Case(
            f"units: overlap, {images}", "Hall's corrected t of a ratio of sums", f"{images // 2} judged images",
            "a square that fires, its region 0 to 2 columns away", lambda: {"IoU": 0.5}, partial(_overlap, images),
            ("unit_overlap",),
        )
        for images in (32, 80)
    ),
    *(
        Case(
            f"units: effects of units, {seeds}", "Hall's corrected t", f"{seeds} seeds", "exponential changes",
            lambda: {"chosen": 0.5, "random set": float(np.linspace(0.5, 2, 20)[7])}, partial(_effects, seeds),
            ("unit_effects", "unit_arms"),
        )
        for seeds in (8, 24)
    ),
)  # fmt: skip
