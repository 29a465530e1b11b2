import numpy as np
import pandas as pd

from scorescope.reports.page.numbers import between, told


def row(mean, low, high):
    return pd.Series({"mean": mean, "low": low, "high": high, "saved_low": 1.0, "saved_high": 2.0, "calls_saved": 1.5})


def test_a_value_and_its_interval_have_one_format():
    assert told(row(0.12449, 0.12443, 0.1265)) == "0.124 (0.124 to 0.127)"
    assert told(row(0.9951, 0.9949, 1.0), form=".0%") == "100% (99% to 100%)"
    assert told(row(1.0, 0.0, 2.0), what="95 % interval ", brackets=False) == "1, 95 % interval 0 to 2"
    assert told(row(1.0, 0.0, 2.0), "calls_saved", of="saved") == "1.5 (1 to 2)"


def test_a_value_without_an_interval_stands_alone():
    assert told(row(0.5, np.nan, np.nan)) == "0.5"


def test_rounding_keeps_every_value_inside():
    rng = np.random.default_rng(0)
    for low, mean, high in np.sort(rng.lognormal(0, 3, (300, 3)), axis=1):
        for form in (".2g", ".3g", ".0%", ".1%"):
            text = told(row(mean, low, high), form=form).replace("%", "").rstrip(")")
            middle, ends = text.split(" (")
            first, last = map(float, ends.split(" to "))
            assert first <= float(middle) <= last


def test_ends_of_a_range_are_told_apart():
    assert between(3.4601, 3.46) == "3.4601 to 3.46" and between(3.46, 3.54) == "3.46 to 3.54"
    assert between(3.46, 3.46) == "3.5" and between(0.002, 80.0) == "0.002 to 80"
