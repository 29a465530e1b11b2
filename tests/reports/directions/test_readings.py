"""Sentences say what the tables say: less with wider intervals, and nothing of what is missing."""

import math
import re

import pandas as pd
import pytest
from tests.reports.directions.test_figures import (
    SITES,
    cosines,
    gaps,
    information,
    landmarks,
    probes,
    readers,
    recovery,
    steer_map,
    tokens,
    windows,
)  # fmt: skip

from scorescope.analysis.directions import SteerCurve
from scorescope.reports.directions import readings
from scorescope.reports.directions.phrases import alike, number, span, with_ends
from scorescope.reports.directions.workbench import finding_of


def dose(verdict: str, bar: str, margin: float) -> SteerCurve:
    verdicts = pd.DataFrame([{
        "effect": 1.5, "effect_low": 1.2, "effect_high": 1.8, "strength_low": -4.0, "strength_high": 4.0, "bar": bar,
        "margin": margin, "low": margin - 0.3, "high": margin + 0.3, "p": 0.003, "verdict": verdict,
    }])  # fmt: skip
    arms = pd.DataFrame({
        "arm": "direction", "quantity": ["disentanglement", "spearman"], "value": [0.8, 0.9], "low": 0.7, "high": 0.95,
    })  # fmt: skip
    return SteerCurve(arms, arms, verdicts, arms, 1.0, {})


def confirmed(verdict: str = "not steerable") -> pd.DataFrame:
    row = {
        "attribute": "hue", "site": "network.up.0", "images": 200, "accuracy": 0.98, "accuracy_low": 0.95,
        "accuracy_high": 0.99, "n": 24, "within_budget": True, "effect": 0.04, "effect_low": -0.02,
        "effect_high": 0.1, "bar": "relevant size", "margin": -0.16, "margin_low": -0.22, "margin_high": -0.1,
        "verdict": verdict,
    }  # fmt: skip
    return pd.DataFrame([row | {"finding": finding_of(row)}])


READINGS = {
    "the cell that is read and not steered": (
        lambda: readings.read_map(steer_map(), confirmed(), "all 2 contrasts and 2 of 6 sites"),
        "2 readable, not steerable|1 readable and steerable|1 undecided|Readable without being steerable, by test|hue "
        "at up.0 is read with accuracy 98% (95% to 99%, n = 200)|is 0.04 (-0.02 to 0.1) standard|-0.16 (-0.22 to -0.1) "
        "from the relevant size, n = 24: not steerable.",
    ),
    "a choice that does not hold": (
        lambda: readings.read_map(steer_map(), confirmed("undecided"), "all"), "Not confirmed, by|: undecided.",
    ),
    "no such cell": (
        lambda: readings.read_map(steer_map().iloc[:2], pd.DataFrame(), "1 of 3 contrasts and all sites (up.0)"),
        "from 1 of 3 contrasts and all sites (up.0):|None of these is shown to be readable without being",
    ),
    "dose": (
        lambda: readings.read_dose(dose("steerable", "random 2", 1.1), "size at up.0"),
        "effect 1.5 (1.2 to 1.8) standard|-4 to 4, +1.1 (+0.8 to +1.4) beyond the largest control (random 2)|p = 0.003|"
        ": steerable.",
    ),
    "dose below its control": (
        lambda: readings.read_dose(dose("undecided", "shuffled", -0.1), "size at up.0"),
        "-0.1 (-0.4 to +0.2) from the largest control (shuffled)|: undecided.",
    ),
    "windows": (
        lambda: readings.read_windows(windows(), probes()[probes()["site"] == SITES[1]]),
        "size at up.0 is shown to be read with at least 90% at σ = 0.1; one window at a time, it is steerable within "
        "σ = 80 to 10, 1 to 0; undecided within σ = 10 to 1|hue at up.0 is shown to be read with at least 90% at σ = "
        "0.1; one window at a time, it is reversed within σ = 80 to 10; not steerable within σ = 10 to 0",
    ),
    "reading that comes and goes": (
        lambda: readings.read_windows(windows()[:1], pd.DataFrame({
            "attribute": "size", "sigma": [80.0, 10.0, 3.0, 1.0, 0.1, 0.03], "low": [0.5, 0.95, 0.92, 0.6, 0.5, 0.91],
        })),
        "at least 90% at σ = 10 to 3, 0.03;",
    ),
    "reading nowhere": (
        lambda: readings.read_windows(windows()[:1], pd.DataFrame({
            "attribute": "size", "sigma": [80.0, 10.0], "low": [0.5, 0.9],
        })),
        "at least 90% at none of 2 noise levels;",
    ),
    "landmarks": (
        lambda: readings.read_landmarks(landmarks()),
        "hue until σ = 5 (3 to 8.2); size until σ = 1 (0.61 to 1.6)",
    ),
    "no landmark": (
        lambda: readings.read_landmarks(landmarks()[landmarks()["landmark"] == "readable_from"]),
        "No condition was switched",
    ),
    "gaps": (
        lambda: readings.read_gaps(pd.DataFrame({
            "attribute": ["size", "hue", "form"], "earlier": "readable_from", "later": "steerable_until",
            "gap": [2.0, 0.5, 4.0], "low": [1.0, -0.5, 3.0], "high": [3.0, 1.5, 5.0], "defined": [0.99, 1.0, 0.6],
        })),
        "size: readable 2 log-SNR (1 to 3) before it is no longer steerable. 3 intervals",
    ),
    "reader and mover": (
        lambda: readings.read_readers(readers()),
        "lda reads best (AUC 0.990, 0.980 to 1.000); difference moves with the least|purity 0.80, 0.70 to 0.90; the "
        "reader's 0.30)|61 degrees apart",
    ),
    "readers and movers alike": (
        lambda: readings.read_readers(readers().assign(reads_best=[False, True, True], moves_best=True)),
        "lda reads best (AUC 0.990, 0.980 to 1.000), not told apart from svm|, not told apart from svm, lda; they",
    ),
    "one that does both": (
        lambda: readings.read_readers(readers().assign(moves_best=[False, True, False])),
        "the same direction",
    ),
    "nothing moves": (
        lambda: readings.read_readers(readers().assign(moves_best=False)),
        "none of the directions by difference, lda, svm is shown to move the attribute more than random",
    ),
    "cosines": (
        lambda: readings.read_cosines(cosines()),
        "σ = 10 and 0.1: -0.45 (-0.50 to -0.40); halves at one of them have 0.90 or more; chance",
    ),
    "cosines of one direction": (
        lambda: readings.read_cosines(cosines().assign(crossed=0.9, low=0.85, high=0.95)),
        "0.90 (0.85 to 0.95); halves at one of them have 0.90 or more, not told apart from halves at one level",
    ),
    "unstable": (lambda: readings.read_cosines(cosines(half=0.2)), "At fewer than two of 3 noise levels are halves"),
    "tokens": (
        lambda: readings.read_tokens(tokens()),
        "from 30% (hue, σ = 1; 25% to 35%) to 90% (size, σ = 10; 85% to 95%) of|, by 24 images; comp|at most 0.1%",
    ),
    "linearity": (
        lambda: readings.read_gap(gaps()),
        "misses 0.04 (hue, σ = 1; -0.01 to 0.09) of|by 0.8 (hue, σ = 1; 0.75 to 0.85) where|: the network "
        "is not linear there.",
    ),
    "recovery": (
        lambda: readings.read_recovery(recovery()),
        "one of 2 sites at a time, up.0 recovers 90% (n = 24; 85% to 95%) of the effect, the most; the lowest value "
        "is first's 10% (n",
    ),
    "loss": (
        lambda: readings.read_loss(pd.DataFrame({
            "attribute": ["size", "hue"], "metric": "pixels", "sigma": [3.0, 1.0], "low": [2.0, 0.5],
            "high": [4.0, 1.9], "reached": 1.0,
        })),
        "for hue at σ = 1 (0.5 to 1.9), size at σ = 3 (2 to 4); hue is lost first.",
    ),
    "no loss": (
        lambda: readings.read_loss(pd.DataFrame({
            "attribute": ["size"], "metric": "pixels", "sigma": [math.nan], "low": [math.nan], "high": [math.nan],
        })),
        "No attribute's error is shown to reach 1/4: it does not cross|from the lowest on: size.",
    ),
    "information": (
        lambda: readings.read_information(information(), pd.DataFrame({
            "attribute": ["size"] * 3 + ["hue"] * 2, "estimator": ["log_ratio"] * 4 + ["influence"],
            "sigma": [10.0, 4.0, 1.0, 4.0, 4.0], "cumulative": [0.1, 0.7, 2.0, 1.2, 9.0],
        })),
        "entropy for size (2 nats, 1.5 to 2.5, against 0.69): no exact|(no intervals): size at σ = 4, hue nowhere "
        "(1.20 nats)",
    ),
    "information within the entropy": (
        lambda: readings.read_information(information().assign(low=0.1), pd.DataFrame({
            "attribute": ["size"], "estimator": ["log_ratio"], "sigma": [10.0], "cumulative": [0.1],
        })),
        "the information of none of size, hue is shown to exceed its entropy: the intervals of 95 % end at +1.8 nats",
    ),
    "classes": (
        lambda: readings.read_classes(pd.DataFrame({
            "attribute": ["size", "hue"], "accuracy": [0.7, 0.9], "low": [0.6, 0.8], "high": [0.8, 0.95],
            "share": [0.5, 0.3],
        })),
        "right in 90% (80% to 95%) for hue and 70% (60% to 80%) for size, the most and the least of 2; hue is not told "
        "apart from size; |took 40% of the evaluations",
    ),
    "probes": (
        lambda: readings.read_probes(probes().query("sigma == 0.1 and site == 'network.up.0'")),
        "size 100% (96% to 104%) at up.0, σ = 0.1; hue 100%",
    ),
    "control": (
        lambda: readings.read_control(probes()),
        "within 0.09 of chance|in all 12 cells|within 0.05 by its|reaches 0.80",
    ),
    "control below chance": (
        lambda: readings.read_control(
            probes().assign(control=lambda t: t["chance"] - 0.2, control_low=lambda t: t["chance"] - 0.3)
        ),
        "within 0.30 of chance, above or below|within 0.20 by its values",
    ),
    "agreement": (
        lambda: readings.read_agreement(pd.DataFrame({
            "what": ["samples", "samples", "samples", "real images"], "attribute": ["size", "hue", "all", "size"],
            "agreement": [0.95, 0.9, 0.8, 0.5], "low": [0.9, 0.85, 0.7, 0.4], "high": [0.99, 0.95, 0.9, 0.6],
            "n": 100,
        })),
        "hue as asked least often of 2 attributes: 90.0% (n = 100; 85.0% to 95.0%), not told apart from size.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READINGS)
def test_readings_name_the_right_attribute(name):
    read, expected = READINGS[name]
    found = read()
    assert all(part in found for part in expected.split("|")), found


def halves(*rows: tuple[str, float, float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["attribute", "sigma", "low", "high", "reached"]).assign(metric="pixels")


def shares() -> pd.DataFrame:
    return pd.DataFrame({
        "what": "samples", "attribute": ["size", "hue"], "agreement": [0.95, 0.8], "low": [0.92, 0.75],
        "high": [0.97, 0.85], "n": 400,
    })  # fmt: skip


def classes() -> pd.DataFrame:
    return pd.DataFrame({
        "attribute": ["size", "hue"], "accuracy": [0.7, 0.9], "low": [0.65, 0.85], "high": [0.75, 0.95], "share": 0.4,
    })  # fmt: skip


def overlaps(synergy: float = 0.3) -> pd.DataFrame:
    parts = {"redundancy": 0.2, "unique_first": 1.0, "unique_second": 0.5, "synergy": synergy}
    found = pd.DataFrame({"part": list(parts), "nats": list(parts.values())}).assign(aggregate="pixelwise", n=40)
    other = found.assign(aggregate="sums", nats=9.0)
    table = pd.concat([other, found]).assign(first="size", second="hue")
    return table.assign(low=table["nats"] - 0.1, high=table["nats"] + 0.1)


def bare_integrand() -> pd.DataFrame:
    return pd.DataFrame({"attribute": ["size"], "estimator": ["log_ratio"], "sigma": [4.0], "cumulative": [0.1]})


def widened(table: pd.DataFrame, column: str, factor: float, of: str = "") -> pd.DataFrame:
    """The same estimates with intervals so many times as wide: what fewer samples give."""
    low, high = (f"{of}_{end}" if of else end for end in ("low", "high"))
    ends = {end: table[column] + factor * (table[end] - table[column]) for end in (low, high)}
    return table.assign(**ends)


CLAIMS = {  # what is said with these intervals, and what with intervals of twenty times the width
    "agreement": (readings.read_agreement, shares(), "agreement", "85.0%).", "not told apart from size"),
    "tokens": (readings.read_tokens, tokens(), "share", "24 images; completeness", "the two are not told apart"),
    "linearity": (readings.read_gap, gaps(), "gap", "is not linear there", "neither shown to be linear within 5% nor"),
    "recovery": (readings.read_recovery, recovery(), "median", "effect, the most", "not told apart from first"),
    "loss": (
        readings.read_loss, halves(("size", 3.0, 2.7, 3.3, 1.0), ("hue", 1.0, 0.7, 1.2, 1.0)), "sigma",
        "hue is lost first.", "which of hue, size is lost first is not shown",
    ),
    "information": (
        lambda table: readings.read_information(table, bare_integrand()), information(), "nats",
        "exceeds the attribute's entropy for size", "the information of none of size, hue is shown to exceed",
    ),
    "overlap": (readings.read_overlap, overlaps(), "nats", "they are beyond the sum", "not shown to differ from"),
    "classes": (readings.read_classes, classes(), "accuracy", "least of 2; elim", "hue is not told apart from size"),
    "cosines": (readings.read_cosines, cosines(), "crossed", "0.90 or more; chance", "fewer than two of 3 noise"),
}  # fmt: skip


@pytest.mark.parametrize("name", CLAIMS)
def test_wider_intervals_claim_less(name: str) -> None:
    read, table, column, claim, less = CLAIMS[name]
    of = column if f"{column}_low" in table else ""
    narrow, wide = read(table), read(widened(table, column, 20, of))
    assert claim in narrow and less not in narrow, narrow
    assert less in wide and claim not in wide, wide


@pytest.mark.parametrize("factor", [1, 2, 8])
def test_the_control_task_is_as_near_to_chance_as_its_intervals_end(factor: int) -> None:
    table = widened(probes(), "control", factor, "control")
    far = max(abs(table[end] - table["chance"]).max() for end in ("control_low", "control_high"))
    assert f"within {far:.2f} of chance" in readings.read_control(table)


def test_intervals_as_wide_as_the_scale_show_no_chance():
    """'Within 0.50 of chance' was true of everything."""
    table = probes().assign(control_low=lambda t: t["chance"] - 0.5, control_high=lambda t: t["chance"] + 0.5)
    said = readings.read_control(table)
    assert "not shown to be near chance: of 12 cells, ends of intervals of 95 % are up to 0.50" in said


def test_a_shift_that_misses_as_a_whole_shows_no_bend() -> None:
    """A linear network misses as much of half a shift as of a whole one: 0.8 was called not linear."""
    whole = gaps().assign(gap=0.8, low=0.75, high=0.85)
    assert "neither shown to be linear" in readings.read_gap(whole)
    flat = gaps().assign(gap=0.01, low=0.0, high=0.04)
    assert "no interval reaches beyond 5% of what a linear" in readings.read_gap(flat)
    few = readings.read_gap(gaps().assign(low=math.nan, high=math.nan))
    assert "(hue, σ = 1; no interval)" in few and "neither shown" in few


def test_an_attribute_that_never_crosses_leaves_the_order_open() -> None:
    """Lost at the lowest level already, or at none: 'hue is lost first' was said over it."""
    text = readings.read_loss(halves(("size", math.nan, math.nan, math.nan, 0.2), ("hue", 1.0, 0.9, 1.1, 1.0)))
    assert "for hue at σ = 1 (0.9 to 1.1); it does not cross" in text and ": size." in text and "first" not in text
    rare = readings.read_loss(halves(("size", 3.0, 2.9, 3.1, 0.6), ("hue", 1.0, 0.9, 1.1, 1.0)))
    assert "3 (of the 60% of draws that cross; 2.9 to 3.1)" in rare and "is not shown" in rare
    alone = readings.read_loss(halves(("hue", 1.0, 0.9, 1.1, 1.0)))
    assert alone == "As noise grows, the error reaches 1/4 for hue at σ = 1 (0.9 to 1.1)."


def test_sites_without_an_effect_are_left_out() -> None:
    table = recovery()
    table.loc[table["site"] == SITES[1], ["median", "median_low", "median_high"]] = math.nan
    assert "one of 2 sites at a time, first recovers 10% (n = 24; 5% to 15%) of the effect." in readings.read_recovery(
        table
    )
    assert readings.read_recovery(table.assign(median=math.nan)).startswith("At none of 2 sites")


def test_landmarks_that_are_not_reached() -> None:
    table = landmarks()
    table.loc[1, ["sigma", "log_snr"]] = math.nan, -math.inf
    table.loc[3, "low"] = -math.inf
    text = readings.read_landmarks(table)
    assert "hue until σ = 5 (3 or above, or at no level). Fewer than half of the 16 seeds follow" in text
    assert text.endswith(": size.")


def test_what_was_looked_at_is_named() -> None:
    gap = pd.DataFrame({"attribute": ["size"], "earlier": "readable_from", "later": "visible_from", "gap": 1.0,
                        "low": -1.0, "high": 3.0, "defined": 1.0})  # fmt: skip
    assert "No attribute is shown to be readable before another landmark, of size. 1 intervals" in readings.read_gaps(
        gap
    )
    none = readings.read_map(steer_map().iloc[:2], pd.DataFrame(), "all")
    assert "below 0.2 standard deviations or a control; the intervals of that difference reach 0.1 to either" in none


def test_overlap_says_on_which_side_of_the_sum() -> None:
    assert "influence the same pixels by 0.2 (0.1 to 0.3) nats" in readings.read_overlap(overlaps())
    assert "short of the sum of their parts: -0.4 (-0.5 to -0.3) nats" in readings.read_overlap(overlaps(-0.4))
    one = readings.read_overlap(overlaps().assign(low=math.nan, high=math.nan))
    assert "0.2 (no interval) nats" in one and "not shown to differ" in one
    assert readings.read_overlap(pd.DataFrame()).startswith("Where the condition")


def test_one_attribute_alone_is_compared_with_none() -> None:
    assert readings.read_agreement(shares()[:1]) == "These samples show size as asked: 95.0% (n = 400; 92.0% to 97.0%)."
    assert "right in 70% (65% to 75%) for size; eliminating" in readings.read_classes(classes()[:1])
    alone = readings.read_tokens(tokens().query("score == 'size' and sigma == 10"))
    assert "carries 90% (size, σ = 10; 85% to 95%) of its score's change, by 24 images; comp" in alone


NUMBER = r"([-+]?\d+(?:\.\d+)?)%?"
WITH_ENDS = re.compile(rf"{NUMBER} (?:log-SNR |nats |standard )?\((?:[^();]*; )?{NUMBER} to {NUMBER}[,;)]")


@pytest.mark.parametrize("name", READINGS)
def test_values_lie_within_the_intervals_that_are_printed(name: str) -> None:
    found = READINGS[name][0]()
    for value, low, high in WITH_ENDS.findall(found):
        assert float(low) <= float(value) <= float(high), found
    assert not re.search(r"\b(nan|inf)\b", found), found


def test_phrases() -> None:
    rows = pd.DataFrame({"name": ["a", "b", "c", "d"], "low": [1, 1.9, 2.1, math.nan], "high": [2, 3, 3, math.nan]})
    assert alike(rows, "name") == ["b", "d"]
    assert span(3.51, 3.49) == "3.5" and span(80, 3.5) == "80 to 3.5"
    assert number(math.nan, ".2g") == "not known"
    assert with_ends(pd.Series({"value": 1.0, "low": 0.5, "high": math.inf}), "value", ".2g") == "1 (0.5 to inf)"
