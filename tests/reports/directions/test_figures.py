"""Figures draw the declared tables that they are given."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from tests.artists import faults

from scorescope.data import InputError
from scorescope.reports import directions
from scorescope.reports.directions import figures
from scorescope.reports.directions.workbench import finding_of

SIGMAS = (10.0, 1.0, 0.1)
SITES = ("network.first", "network.up.0")


def texts(figure: Figure) -> str:
    return " | ".join(text.get_text() for text in figure.findobj(Text) if text.get_text())


def legend(figure: Figure) -> set[str]:
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    return {text.get_text() for found in legends for text in found.get_texts()}


def line(figure: Figure, label: str) -> np.ndarray:
    lines = [drawn for ax in figure.axes for drawn in ax.get_lines() if drawn.get_label() == label]
    return np.asarray(lines[0].get_xydata())


def probes() -> pd.DataFrame:
    rows = []
    for attribute, chance in (("size", 0.5), ("hue", 0.25)):
        for place, site in enumerate(SITES):
            for level, sigma in enumerate(SIGMAS):
                value = chance + (1 - chance) * (level + place) / 3
                control = chance + 0.05 * place
                rows.append({
                    "attribute": attribute, "site": site, "level": level, "sigma": sigma,
                    "log_snr": -2 * math.log(sigma), "metric": "balanced_accuracy", "n": 100, "value": value,
                    "low": value - 0.04, "high": value + 0.04, "control": control, "control_low": control - 0.04,
                    "control_high": control + 0.04, "selectivity": value - control, "chance": chance, "train": 1.0,
                    "control_train": 0.7 + 0.1 * place, "strength": 0.1,
                })  # fmt: skip
    return pd.DataFrame(rows)


def steer_map() -> pd.DataFrame:
    rows = [
        ("size", "network.first", 0.55, 0.5, 0.1, 0.05, "undecided", True),
        ("size", "network.up.0", 0.97, 0.94, 1.5, 1.0, "steerable", True),
        ("hue", "network.first", 0.95, 0.92, 0.2, -0.05, "not steerable", True),
        ("hue", "network.up.0", 0.99, 0.96, 0.05, -0.15, "not steerable", True),
    ]
    names = ["attribute", "site", "accuracy", "accuracy_low", "effect", "margin", "verdict", "within_budget"]
    table = pd.DataFrame(rows, columns=names)
    table = table.assign(finding=[finding_of(row) for row in table.to_dict("records")])
    return table.assign(
        accuracy_high=table["accuracy"] + 0.01, margin_low=table["margin"] - 0.1, margin_high=table["margin"] + 0.1
    )


def curve() -> pd.DataFrame:
    rows = [
        {"arm": arm, "strength": strength, "score": score, "target": score == "size", "value": slope * strength,
         "low": slope * strength - 0.1, "high": slope * strength + 0.1}
        for arm, slopes in {"direction": (0.5, 0.1), "shuffled": (0.05, 0.0), "random 1": (0.01, 0.0),
                            "random 2": (-0.02, 0.0), "none": (0.0, 0.0)}.items()
        for score, slope in zip(("size", "frame"), slopes, strict=True)
        for strength in (-2.0, 2.0)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def windows() -> pd.DataFrame:
    rows = [
        ("size", 10.0, 80.0, 1.2, 0.9, 1.5, "steerable"), ("size", 1.0, 10.0, 0.0, -0.1, 0.1, "undecided"),
        ("size", 0.0, 1.0, 0.5, 0.4, 0.6, "steerable"),
        ("hue", 10.0, 80.0, 0.4, 0.3, 0.5, "reversed"), ("hue", 0.0, 10.0, -0.1, -0.2, -0.05, "not steerable"),
    ]  # fmt: skip
    columns = ["attribute", "sigma_low", "sigma_high", "margin", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=columns).assign(site=SITES[1])


def emergence() -> pd.DataFrame:
    return pd.DataFrame([
        {"attribute": "size", "curve": name, "sigma": sigma, "value": value, "low": value - 0.1, "high": value + 0.1}
        for name, values in {"probe": (0.5, 0.8, 0.9), "estimate": (0.6, 0.9, 1.0), "agreement": (0.5, 0.9, 1.0),
                             "switch": (1.0, 0.6, 0.0)}.items()
        for sigma, value in zip(SIGMAS, values, strict=True)
    ])  # fmt: skip


def landmarks() -> pd.DataFrame:
    rows = [("size", "readable_from", 3.0), ("size", "steerable_until", 1.0), ("hue", "readable_from", math.nan),
            ("hue", "steerable_until", 5.0)]  # fmt: skip
    found = pd.DataFrame(rows, columns=["attribute", "landmark", "sigma"])
    place = -2 * np.log(found["sigma"].fillna(1.0))
    return found.assign(log_snr=place, low=place - 1, high=place + 1, n=16)


def readers() -> pd.DataFrame:
    return pd.DataFrame({
        "method": ["difference", "lda", "svm"], "auc": [0.9, 0.99, 0.95], "purity": [0.8, 0.3, 0.5],
        "auc_low": [0.85, 0.98, 0.9], "auc_high": [0.95, 1.0, 1.0],
        "purity_low": [0.7, 0.2, 0.4], "purity_high": [0.9, 0.4, 0.6],
        "reads_best": [False, True, False], "moves_best": [True, False, False], "degrees_to_mover": [0.0, 61.0, 30.0],
    })  # fmt: skip


def cosines(half: float = 0.9) -> pd.DataFrame:
    """Directions that turn by 60 degrees a level."""
    rows = [(a, b, half * math.cos(math.pi / 3 * (i - j))) for i, a in enumerate(SIGMAS) for j, b in enumerate(SIGMAS)]
    found = pd.DataFrame(rows, columns=["sigma_a", "sigma_b", "crossed"])
    return found.assign(low=found["crossed"] - 0.05, high=found["crossed"] + 0.05, null=0.3)


def tokens() -> pd.DataFrame:
    rows = [(score, sigma, token, 24, (0.9 if score == token else 0.1) - 0.1 * (sigma < 5) * (score == token), 0.001)
            for score in ("size", "hue") for sigma in (10.0, 1.0) for token in ("size", "hue")]  # fmt: skip
    found = pd.DataFrame(rows, columns=["score", "sigma", "token", "n", "share", "residual"])
    found.loc[(found["score"] == "hue") & (found["token"] == "hue"), "share"] -= 0.5
    return found.assign(low=found["share"] - 0.05, high=found["share"] + 0.05)


def gaps() -> pd.DataFrame:
    rows = [(attribute, multiple, sigma, gap, gap - 0.05, gap + 0.05)
            for attribute, size in (("size", 1.0), ("hue", 2.0)) for multiple, base in ((0.5, 0.2), (1.0, 0.01))
            for sigma, gap in zip(SIGMAS, base * size * np.array([1.0, 2.0, 0.5]), strict=True)]  # fmt: skip
    return pd.DataFrame(rows, columns=["attribute", "multiple", "sigma", "gap", "low", "high"])


def recovery() -> pd.DataFrame:
    rows = [(site, form, low, math.inf, value) for site, values in zip(SITES, ((0.1, 0.05), (0.9, 0.6)), strict=True)
            for form in ("sufficiency", "necessity")
            for low, value in zip((0.0, 2.0), values, strict=True)]  # fmt: skip
    found = pd.DataFrame(rows, columns=["site", "form", "sigma_low", "sigma_high", "median"]).assign(n=24)
    return found.assign(median_low=found["median"] - 0.05, median_high=found["median"] + 0.05)


def losses() -> pd.DataFrame:
    rows = [(attribute, metric, sigma, value, value - 0.02, value + 0.02, value / 2)
            for attribute in ("size", "hue") for metric in ("pixels", "attribute score")
            for sigma, value in zip(SIGMAS, (0.5, 0.2, 0.0), strict=True)]  # fmt: skip
    return pd.DataFrame(rows, columns=["attribute", "metric", "sigma", "error", "low", "high", "floor"])


def rates() -> pd.DataFrame:
    rows = [(attribute, sigma, rate, rate - 0.1, rate + 0.1) for attribute in ("size", "hue")
            for sigma, rate in zip(SIGMAS, (0.5, 0.9, 0.7), strict=True)]  # fmt: skip
    return pd.DataFrame(rows, columns=["attribute", "sigma", "rate", "low", "high"])


def integrand() -> pd.DataFrame:
    rows = [(attribute, estimator, sigma, value) for attribute in ("size", "hue")
            for estimator in ("log_ratio", "influence")
            for sigma, value in zip(SIGMAS, (0.1, 0.5, 0.7), strict=True)]  # fmt: skip
    return pd.DataFrame(rows, columns=["attribute", "estimator", "sigma", "cumulative"])


def information() -> pd.DataFrame:
    return pd.DataFrame({
        "attribute": ["size", "hue", "hue"], "estimator": ["log_ratio", "log_ratio", "influence"],
        "nats": [2.0, 1.5, 9.0], "low": [1.5, 1.2, 8.0], "high": [2.5, 1.8, 10.0], "entropy_nats": [0.69, 1.39, 1.39],
    })  # fmt: skip


def norms() -> pd.DataFrame:
    return pd.DataFrame({"sigma": SIGMAS, "mean": [1.0, 0.7, 0.4], "noise_low": 0.95, "noise_high": 1.05}).assign(
        low=lambda rows: rows["mean"] - 0.02, high=lambda rows: rows["mean"] + 0.02,
        spread_low=lambda rows: rows["mean"] - 0.2, spread_high=lambda rows: rows["mean"] + 0.2,
    )  # fmt: skip


def balance() -> pd.DataFrame:
    slopes = {"direction": 0.1, "shuffled 1": 0.01, "random 1": 0.0, "random 2": -0.02, "none": 0.0}
    rows = [
        (arm, strength, value, 0.5 + sign * slope * strength, 2**0.5 * abs(slope * strength))
        for arm, slope in slopes.items()
        for strength in ((0.0,) if arm == "none" else (-4.0, -2.0, 2.0, 4.0))
        for value, sign in (("small", -1), ("large", 1))
    ]
    found = pd.DataFrame(rows, columns=["arm", "strength", "value", "share", "imbalance"])
    return found.assign(
        low=found["share"] - 0.05, high=found["share"] + 0.05, imbalance_low=0.9 * found["imbalance"],
        imbalance_high=found["imbalance"] + 0.05,
    )  # fmt: skip


def accuracies() -> pd.DataFrame:
    rows = [(rule, 40 * levels, 0.9, 0.85, 0.95) for rule in ("uniform", "likelihood", "likelihood, elimination")
            for levels in (2, 4, 8)]  # fmt: skip
    return pd.DataFrame(rows, columns=["rule", "evaluations_an_image", "accuracy", "low", "high"])


def overlaps() -> pd.DataFrame:
    rows = [(pair, aggregate, part, nats, nats - 0.5, nats + 0.5)
            for pair in ("size, hue", "size, background") for aggregate in ("pixelwise", "sums")
            for part, nats in zip(("redundancy", "unique_first", "unique_second", "synergy"), (3.0, 2.0, 1.0, -0.4),
                                  strict=True)]  # fmt: skip
    return pd.DataFrame(rows, columns=["pair", "aggregate", "part", "nats", "low", "high"])


def pictures(count: int, channels: int = 3) -> torch.Tensor:
    return torch.linspace(-1, 1, count * channels * 16).reshape(count, channels, 4, 4)


DRAWN = {
    "probe_maps": (lambda: figures.probe_maps(probes()), set(), "balanced accuracy|noise level σ|size (chance 0.5)"),
    "selectivity": (lambda: figures.probe_maps(probes(), quantity="selectivity"), set(), "selectivity|noise level σ"),
    "read_and_steer": (
        lambda: figures.read_and_steer(steer_map()), set(figures.MARKS),
        "probe accuracy|effect (natural SD)|readable|up.0",
    ),
    "dose_response": (
        lambda: figures.dose_response(curve()), {"direction", "shuffled", "random, same norm", "size", "frame"},
        "strength (standard deviations|change of score (natural SD)",
    ),
    "windows": (
        lambda: figures.windows_figure(windows(), probes()[probes()["site"] == SITES[1]]),
        {"steerable", "undecided", "reversed", "not steerable"},
        "probe accuracy|beyond controls|noise level σ|size at up.0",
    ),
    "emergence": (
        lambda: figures.emergence_curves(emergence()), {"probe", "estimate", "agreement with the end", "switch"},
        "balanced accuracy|noise level σ",
    ),
    "landmarks": (
        lambda: figures.landmark_ranges(landmarks()), {"readable from", "steerable until"}, "noise level σ|size|hue",
    ),
    "readers": (
        lambda: figures.readers_and_movers(readers()), {"difference", "lda", "svm"}, "reads: AUC|moves: share",
    ),
    "cosines": (lambda: figures.cosine_matrix(cosines()), set(), "cosine between directions|noise level σ"),
    "tokens": (lambda: figures.token_matrix(tokens()), set(), "condition token|score|share of the change|σ = 10"),
    "gaps": (lambda: figures.gap_curves(gaps()), {"size", "hue"}, "linearity gap|noise level σ|half of it"),
    "recovery": (
        lambda: figures.recovery_map(recovery()), set(), "median recovery|patched at noise levels|sufficiency|0.90",
    ),
    "losses": (
        lambda: figures.attribute_losses(losses(), metric="attribute score"),
        {"size", "hue", "floor: ideal two-point denoiser"}, "Err: share|noise level σ|by attribute score",
    ),
    "win_rates": (lambda: figures.win_rate_curves(rates()), {"size", "hue"}, "win rate|noise level σ"),
    "information": (
        lambda: figures.information_curves(integrand(), {"size": 0.6931, "hue": 2.3026}),
        {"size", "hue", "entropy: 0.69, 2.30"},
        "nats|noise level σ|log ratio",
    ),
    "maps": (
        lambda: figures.influence_maps(pictures(3), {"size": pictures(3)[:, 0].abs()}), set(),
        "influence (nats a pixel)|image|size",
    ),
    "pictures": (
        lambda: figures.picture_rows({"seed 0": pictures(2, 1)}, ["-1", "+1"], xlabel="strength"), set(),
        "seed 0|-1|+1|strength",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_axes_are_labelled_and_lines_named(name):
    make, labels, expected = DRAWN[name]
    figure = make()
    assert legend(figure) == labels
    found = texts(figure)
    assert all(part in found for part in expected.split("|")), found
    figure.savefig("/dev/null", format="png")  # the layout holds


def test_lines_are_the_tables():
    table = curve()
    drawn = line(figures.dose_response(table), "direction")
    np.testing.assert_allclose(drawn, [[-2, -1], [0, 0], [2, 1]])  # through the arm without edit
    np.testing.assert_allclose(line(figures.dose_response(table), "frame"), [[-2, -0.2], [0, 0], [2, 0.2]])
    drawn = line(figures.emergence_curves(emergence()), "switch")
    np.testing.assert_allclose(drawn[drawn[:, 0].argsort()], [[0.1, 0], [1, 0.6], [10, 1]])
    drawn = line(figures.win_rate_curves(rates()), "hue")
    np.testing.assert_allclose(drawn[drawn[:, 0].argsort()], [[0.1, 0.7], [1, 0.9], [10, 0.5]])


def test_maps_are_the_tables():
    figure = figures.read_and_steer(steer_map())
    accuracy, effect = (ax.get_images()[0].get_array() for ax in figure.axes[:2])
    np.testing.assert_allclose(accuracy, [[0.55, 0.95], [0.97, 0.99]])  # sites down, attributes across
    np.testing.assert_allclose(effect, [[0.1, 0.2], [1.5, 0.05]])
    lines = [drawn for drawn in figure.axes[1].get_lines() if len(drawn.get_xdata())]  # the others are the legend's
    marks = {tuple(drawn.get_xydata()[0]): drawn.get_marker() for drawn in lines}
    assert marks == {(0, 0): "$?$", (0, 1): "o", (1, 0): "$\\circ$", (1, 1): "$\\circ$"}
    broken = figures.read_and_steer(steer_map().assign(within_budget=[True, False, False, True]))
    assert [drawn.get_marker() for drawn in broken.axes[1].get_lines()][:4] == ["$?$", "x", "$?$", "$\\circ$"]
    scaled = figures.read_and_steer(steer_map().assign(within_budget=[True, False, True, True]))
    assert scaled.axes[1].get_images()[0].get_clim() == (-0.2, 0.2)  # of the images that are not broken
    chance = figures.read_and_steer(steer_map().assign(effect=[9.0, 1.5, -0.2, 0.05])).axes[1].get_images()[0]
    assert chance.get_clim() == (-1.5, 1.5)  # of what is shown to move the attribute
    np.testing.assert_array_equal(chance.get_alpha(), [[figures.PALE, 1], [1, 1]])
    np.testing.assert_allclose(chance.get_array(), [[9, -0.2], [1.5, 0.05]])
    cells = figures.probe_maps(probes()).axes[0].get_images()[0].get_array()
    np.testing.assert_allclose(cells, 0.5 + np.array([[2, 1, 0], [3, 2, 1]]) / 6)  # low noise on the left


FINDINGS = {
    ("steerable", True, True): "readable and steerable",
    ("steerable", True, False): "steerable, not shown readable",
    ("steerable", False, True): "moves by breaking the image",
    ("steerable", False, False): "moves by breaking the image",
    ("reversed", True, True): "readable and moves backwards",
    ("reversed", True, False): "moves backwards, not shown readable",
    ("reversed", False, True): "moves by breaking the image",
    ("reversed", False, False): "moves by breaking the image",
    ("not steerable", True, True): "readable, not steerable",
    ("not steerable", True, False): "not steerable, not shown readable",
    ("not steerable", False, True): "readable, undecided",
    ("not steerable", False, False): "undecided",
    ("undecided", True, True): "readable, undecided",
    ("undecided", True, False): "undecided",
    ("undecided", False, True): "readable, undecided",
    ("undecided", False, False): "undecided",
}


@pytest.mark.parametrize("case", FINDINGS, ids=str)
def test_findings_say_what_both_show(case):
    verdict, within_budget, readable = case
    row = {"verdict": verdict, "within_budget": within_budget, "accuracy_low": 0.91 if readable else 0.9}
    assert finding_of(row) == FINDINGS[case]
    assert (
        figures._mark(pd.Series(row))
        == figures.MARKS[
            "breaks the image"
            if "breaking" in FINDINGS[case]
            else "undecided"
            if "undecided" in FINDINGS[case]
            else verdict
        ]
    )


def test_a_slider_over_doses_shows_the_samples_and_the_scores_at_its_place():
    samples = {2.0: pictures(2), -2.0: pictures(2).flip(0), 0.0: pictures(2)}
    slider = directions.dose_slider(samples, curve())
    assert slider.places == ["-2", "+0", "+2"] and slider.start == 2
    figure = slider.draw(0)
    assert faults(figure) == [] and legend(figure) == {"size", "frame"}
    above, strip = figure.axes
    assert line(figure, "size")[:, 1].tolist() == [-1, 0, 1]
    assert any(list(drawn.get_xdata()) == [-2, -2] for drawn in above.get_lines())
    np.testing.assert_allclose(strip.images[0].get_array()[:, :4], (pictures(2)[1].movedim(0, -1) + 1) / 2, atol=1e-6)
    with pytest.raises(InputError, match=r"^samples: found"):
        directions.dose_slider({}, curve())
