"""Frechet distances and their parts, kernels, neighbours, moments."""

import functools
from typing import Any

import numpy as np

from scorescope.analysis.fid import (
    companion_table,
    direction_spectrum,
    feature_contributions,
    frechet_distance,
    frechet_interval,
    influence,
    influence_table,
    kid,
    leave_one_out,
    neighbour_table,
    transport,
)
from scorescope.probes.features import Moments, RunningMoments
from tests.benchmarks.growth.case import Case
from tests.benchmarks.growth.made_up import rows


def pair(n: int, d: int) -> tuple[Any, Any]:
    return 1.1 * rows(n, d), rows(n, d, seed=1)


def moments(d: int) -> tuple[Moments, Moments]:
    first, second = pair(2 * d, d)
    return Moments.of(first), Moments.of(second)


def streamed(batches: list[Any]) -> None:
    running = RunningMoments()
    for batch in batches:
        running.add(batch)
    running.result()


def merged(parts: list[Moments]) -> None:
    functools.reduce(Moments.merge, parts)


def parts_of(made: Any) -> None:
    plan = transport(*made)
    feature_contributions(plan)
    direction_spectrum(plan)


def influences(n: int) -> tuple[Any, Any]:
    fake, real = pair(n, 128)
    return transport(fake, real), fake


FEATURES, SAMPLES = (128, 256, 512, 1024), (500, 1000, 2000, 4000)
CASES = (
    Case("fid: moments of a set", "samples", (4000, 8000, 16000, 32000), lambda n: rows(n, 256), Moments.of, "n d^2",
         1, 1),
    Case("fid: moments of a set", "features", (256, 512, 1024, 2048), lambda d: rows(2000, d), Moments.of, "n d^2",
         2, 2),
    Case("fid: moments of a stream", "samples", (4000, 8000, 16000, 32000), lambda n: np.split(rows(n, 256), n // 500),
         streamed, "n d^2", 1, 0),
    Case("fid: moments merged", "features", (512, 1024, 2048, 4096),
         lambda d: [Moments.of(part) for part in rows(64, d).reshape(4, 16, d)], merged, "d^2", 2, 2),
    Case("fid: frechet_distance of moments", "features", FEATURES, moments, lambda m: frechet_distance(*m), "d^3",
         3, 2),
    Case("fid: frechet_distance of few rows", "samples", (128, 256, 512, 1024), lambda n: pair(n, 2048),
         lambda m: frechet_distance(*m), "n^2 d + n^3", 3, 2),
    Case("fid: frechet_distance of few rows", "features", (1024, 2048, 4096, 8192), lambda d: pair(400, d),
         lambda m: frechet_distance(*m), "n^2 d", 1, 1),
    Case("fid: transport and parts by feature", "features", FEATURES, moments, parts_of, "d^3", 3, 2),
    Case("fid: influences", "samples", (8000, 16000, 32000, 64000), influences,
         lambda made: (influence(*made), influence_table(*made)), "n d^2", 1, 1),
    Case("fid: leave_one_out, count fixed", "features", (32, 64, 128, 256), lambda d: pair(2 * d + 8, d),
         lambda m: leave_one_out(*m, rows=range(16)), "d^3 an image", 3, 2),
    Case("fid: frechet_interval", "samples", SAMPLES, lambda n: pair(n, 64), lambda m: frechet_interval(*m), "n d^2",
         1, 1),
    Case("fid: kid", "samples", SAMPLES, lambda n: pair(n, 256), lambda m: kid(*m), "n^2 d", 2, 2),
    Case("fid: kid", "features", (128, 256, 512, 1024), lambda d: pair(1000, d), lambda m: kid(*m), "n^2 d", 1, 1),
    Case("fid: precision, recall, density, coverage", "samples", (250, 500, 1000, 2000), lambda n: pair(n, 64),
         lambda m: neighbour_table(*m), "n^2 d", 2, 2),
    Case("fid: all companions", "samples", (250, 500, 1000, 2000), lambda n: pair(n, 64),
         lambda m: companion_table(*m), "n^2 d", 2, 2),
)  # fmt: skip
