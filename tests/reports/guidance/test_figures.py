"""Figures of sweeps over any field of a rule: what is drawn where."""

import numpy as np
import pandas as pd
import pytest
from tests.artists import faults

from scorescope.data import InputError
from scorescope.probes import Recording, load_model, sample
from scorescope.probes.experiments import visits
from scorescope.probes.models import edm_sigmas
from scorescope.reports.guidance import figures, update_slider


def table(**columns):
    count = len(next(iter(columns.values())))
    rows = {"setting": [str(k) for k in range(count)], "rule": "APG", "weight": 4.0, "metric": "contrast", "n": 9}
    value = np.arange(count, dtype=float)
    return pd.DataFrame(rows | {"value": value, "low": value - 0.5, "high": value + 0.25} | columns)


def drawn(figure):
    (ax,) = figure.axes
    return ax, {one.get_label(): one.lines[0].get_xydata().tolist() for one in ax.containers}


def test_a_field_is_on_its_axis_and_the_others_name_the_lines():
    found = table(rule_eta=[0.0, 0.5, 0.0, 0.5], weight=[2.0, 2.0, 8.0, 8.0])
    ax, lines = drawn(figures.against_field(found, "contrast", x="rule_eta", label="contrast"))
    assert lines == {"APG, w = 2": [[0, 0], [0.5, 1]], "APG, w = 8": [[0, 2], [0.5, 3]]}
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale()) == ("eta", "contrast", "linear")
    ax, lines = drawn(figures.against_field(found, "contrast", x="weight", label="contrast"))
    assert set(lines) == {"APG, eta = 0", "APG, eta = 0.5"} and ax.get_xscale() == "log"
    (ends,) = [one.get_segments() for one in ax.containers[0].lines[2]]
    assert ends[0][:, 1].tolist() == [-0.5, 0.25]


@pytest.mark.parametrize(("values", "names"), [
    ([np.inf, 1.0, 5.0], ["1", "5", "inf"]), (["v", "denoised", "eps"], ["denoised", "eps", "v"])
])  # fmt: skip
def test_what_has_no_place_on_an_axis_stands_in_its_order(values, names):
    ax, lines = drawn(figures.against_field(table(rule_high=values), "contrast", x="rule_high", label="contrast"))
    assert [text.get_text() for text in ax.get_xticklabels()] == names
    order = sorted(range(3), key=lambda k: values[k])
    assert lines == {"APG": [[place, k] for place, k in enumerate(order)]}


def test_settings_without_the_field_are_left_out():
    found = table(rule_eta=[0.0, 0.5, np.nan], rule=["APG", "APG", "CFG"])
    _, lines = drawn(figures.against_field(found, "contrast", x="rule_eta", label="contrast"))
    assert set(lines) == {"APG"}
    with pytest.raises(InputError, match=r"^x: found 'rule_phi'; expected one of weight, rule_eta"):
        figures.against_field(found, "contrast", x="rule_phi", label="contrast")


@pytest.fixture(scope="module")
def run():
    model = load_model("digits")
    options = {"seeds": range(3), "condition": model.conditions(3), "sigmas": edm_sigmas(4), "progress": False}
    keep = Recording(value_range=(-1, 1), keep=True, all_branches=True)
    return sample(model.denoiser, record=keep, **options).trace


def test_a_slider_over_noise_levels_shows_the_parts_and_the_branches_at_its_place(run):
    slider = update_slider(run, value_range=(-1, 1))
    steps = [visit for visit in visits(run) if visit.call == 0]
    assert slider.places == [f"{visit.sigma:.3g}" for visit in steps] and slider.name == "σ"
    figure, at = slider.draw(1), steps[1]
    assert faults(figure) == []
    above, *rows = figure.axes
    assert any(list(line.get_xdata()) == [at.sigma] * 2 for line in above.get_lines())
    assert [ax.get_ylabel() for ax in rows] == ["cond", "uncond", "update"]
    first = ((at.cond[0, 0] + 1) / 2).clamp(0, 1)
    np.testing.assert_allclose(rows[0].images[0].get_array()[:, : first.shape[1]], first, atol=1e-6)
    norms = (at.cond - at.uncond).flatten(1).norm(dim=1)
    assert [tick.get_text() for tick in rows[0].get_xticklabels()] == [f"{norm:.2g}" for norm in norms]


def test_a_slider_needs_both_branches():
    model = load_model("digits")
    options = {"seeds": range(2), "condition": model.conditions(2), "sigmas": edm_sigmas(3), "progress": False}
    for keep, words in ((Recording(), "not kept"), (Recording(keep=True), "both branches kept")):
        trace = sample(model.denoiser, record=keep, **options).trace
        with pytest.raises(InputError, match=f"^trace: found .*{words}"):
            update_slider(trace, value_range=(-1, 1))
