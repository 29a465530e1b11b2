"""Guidance: decomposition, summaries, comparisons, sweeps, information, and what changed between two runs."""

from typing import Any

import numpy as np
import pandas as pd

from scorescope.analysis.changes import denoiser_changes, run_changes
from scorescope.analysis.guidance import (
    changes,
    compare,
    decompose,
    guidance_information,
    measure_sweep,
    pareto,
    parting,
    sample_metrics,
    separation,
    suggest_interval,
    summarise,
)
from scorescope.probes import CFG, Bank, log_snr_grid
from scorescope.probes.experiments import Setting, replay_all
from scorescope.probes.sampling import Run
from tests.benchmarks.growth.case import Case
from tests.benchmarks.growth.made_up import halved, normal, run, trace


def settings(samples: int, count: int = 2) -> list[Setting]:
    one = trace(samples, 3)
    return [Setting(f"w{k}", CFG(1.0 + k), Run(normal(samples, 16, seed=k), one)) for k in range(count)]


def swept(made: list[Setting]) -> None:
    measured = {"value_range": (-1.0, 1.0)}
    rows = sample_metrics(made, **measured)
    changes(rows, against="w0")
    measure_sweep(made, rows=rows, **measured)


def kept(samples: int, steps: int, dim: int) -> tuple[Any, Any]:
    return run(samples, steps, dim, keep=True), run(samples, steps, dim, keep=True)


def front(count: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    parts = [
        pd.DataFrame({"setting": [f"w{k}" for k in range(count)], "rule": "CFG", "weight": np.arange(count) + 1.0,
                      "metric": metric, "value": rng.normal(size=count)})
        for metric in ("calls", "frechet")
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def denoisers(images: int) -> tuple[Bank, dict[str, Any]]:
    laws = {"a": halved, "b": lambda x, sigma, condition: x * 0.4}
    return Bank(normal(images, 64), log_snr_grid(-4, 4, 6)), laws


SAMPLES, LEVELS = (500, 1000, 2000, 4000, 8000), (32, 64, 128, 256, 512)
CASES = (
    Case("guidance: decompose", "samples", SAMPLES, lambda n: trace(n, 18), decompose, "rows", 1, 1),
    Case("guidance: summarise", "samples", SAMPLES, lambda n: decompose(trace(n, 18)), summarise, "rows", 1, 1),
    Case("guidance: summarise", "steps", LEVELS, lambda n: decompose(trace(32, n)), summarise, "rows", 1, 1),
    Case("guidance: compare", "runs", (2, 4, 8, 16), lambda n: {f"r{k}": trace(100, 9, k) for k in range(n)}, compare,
         "rows", 1, 1),
    Case("guidance: information and interval", "samples", (125, 250, 500, 1000),
         lambda n: run(n, 18, 16, 1.0, all_branches=True),
         lambda one: (guidance_information(one), suggest_interval(one)), "rows", 1, 1),
    Case("guidance: two runs kept, separation", "samples", (100, 200, 400, 800, 1600), lambda n: kept(n, 9, 256),
         lambda pair: parting(separation(*pair)), "elements", 1, 1),
    Case("guidance: two runs kept, separation", "steps", (16, 32, 64, 128), lambda n: kept(64, n, 256),
         lambda pair: parting(separation(*pair)), "elements", 1, 1),
    Case("guidance: sweep measured", "samples", (2000, 4000, 8000, 16000), settings, swept, "samples", 1, 1),
    Case("guidance: sweep measured", "settings", (4, 8, 16, 32), lambda n: settings(200, n), swept, "settings", 1, 1),
    Case("guidance: pareto", "settings", (200, 400, 800, 1600), front,
         lambda table: pareto(table, better={"calls": "low", "frechet": "low"}), "pairs of settings", 2, 2),
    Case("guidance: replay of four rules", "samples", (500, 1000, 2000, 4000), lambda n: run(n, 9, 256, keep=True),
         lambda one: replay_all(one, [CFG(1.0 + k) for k in range(4)]), "elements", 1, 1),
    Case("changes: run_changes", "samples", (250, 500, 1000, 2000, 4000), lambda n: (trace(n, 9, 0), trace(n, 9, 1)),
         lambda pair: run_changes(*pair), "rows", 1, 1),
    Case("changes: run_changes", "steps", LEVELS, lambda n: (trace(16, n, 0), trace(16, n, 1)),
         lambda pair: run_changes(*pair), "rows", 1, 1),
    Case("changes: denoiser_changes", "images", (500, 1000, 2000, 4000), denoisers,
         lambda made: denoiser_changes(*made), "points", 1, 1),
)  # fmt: skip
