"""Exponents are found where they are known, and every case of growth can be drawn and run at its least size."""

import tempfile

import numpy as np
import pytest

from tests.benchmarks.bench_growth import line
from tests.benchmarks.growth import CASES
from tests.benchmarks.growth import case as growth_case
from tests.benchmarks.growth.case import Case, Power, fit_power, measure

SIZES = (100, 200, 400, 800, 1600)


@pytest.mark.parametrize("exponent", [0.5, 1, 2, 3])
@pytest.mark.parametrize("constant", [0.0, 0.3, 2.0])
def test_the_exponent_is_that_of_what_grows(exponent, constant):
    grown = (np.array(SIZES) / SIZES[-1]) ** exponent
    found = fit_power(SIZES, constant + grown)
    assert found.exponent == pytest.approx(exponent, abs=1e-3)
    assert found.constant == pytest.approx(constant / (constant + 1), abs=1e-3)
    noisy = (constant + grown) * (1 + 0.02 * np.random.default_rng(1).normal(size=len(SIZES)))
    found = fit_power(SIZES, noisy)
    assert abs(found.exponent - exponent) < 4 * found.error  # a standard error of few points: four of them


def test_what_does_not_grow_has_no_exponent_that_could_be_told():
    found = fit_power(SIZES, [1.0, 1.01, 0.99, 1.0, 1.01])
    assert found.error > 1 or found.exponent < 0.1


def test_small_values_count_for_little_where_they_are_uncertain():
    peaks = [2.0, 9.0, 6.0, 16.0, 32.0]  # megabytes: linear, but for what an allocator did with the least
    assert fit_power(SIZES, peaks, off=4.0).error > fit_power(SIZES, [2, 4, 8, 16, 32], off=0.0).error


@pytest.mark.parametrize(
    ("power", "expected", "verdict"),
    [
        (Power(1.1, 0.1, 0), 1, ""),
        (Power(2.0, 0.1, 0), 1, "ABOVE"),
        (Power(1.3, 0.5, 0), 1, "undecided"),
        (Power(0.2, 0.1, 0), 1, ""),
    ],
)
def test_verdicts(power, expected, verdict):
    assert power.verdict(expected) == verdict


def test_a_child_gives_its_time_and_its_memory(monkeypatch):
    monkeypatch.setattr(growth_case, "REPEAT", 0.0)
    case = Case("toy: ones", "n", (1, 2, 4, 8), lambda n: n, lambda n: np.ones(n * 10**6), "n", 1, 1)
    times, peaks = zip(*measure(case, case.sizes), strict=True)
    assert min(times) > 0
    assert peaks[-1] == pytest.approx(64e6 / 2**20, abs=4)
    assert line(case, case.sizes).startswith("| toy: ones | n | 1 to 8 |")

    def failing(n):
        raise ValueError(n)

    with pytest.raises(RuntimeError, match="toy: failing, n 2"):
        measure(Case("toy: failing", "n", (1, 2, 4, 8), lambda n: n, lambda n: n == 1 or failing(n), "n", 1, 1), [1, 2])


def test_names_are_different():
    assert len({(case.name, case.axis) for case in CASES}) == len(CASES)
    assert all(case.cost and case.name.count(": ") == 1 for case in CASES)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}, {case.axis}")
def test_cases_run_at_their_least_size(case, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    case.run(case.make(case.sizes[0]))
