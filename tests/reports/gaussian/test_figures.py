import numpy as np
import pandas as pd
import pytest
import torch

from scorescope.analysis import solver_gains
from scorescope.analysis.gaussian import regimes, score_gaps, score_table
from scorescope.data import load_digits
from scorescope.probes.approximations import TrainingSet, fit_gaussian, fit_isotropic
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import Heun
from scorescope.reports.gaussian import figures, readings


@pytest.fixture(scope="module")
def gaps():
    digits = load_digits()
    exact, data = TrainingSet(digits.train.images.double()), digits.held_out.images[:60].double()
    laws = [fit_isotropic(exact.points), fit_gaussian(exact.points)]
    return score_gaps(exact, laws, data, [40.0, 10.0, 1.0, 0.1])


def test_law_fractions_draw_the_table(gaps):
    table, levels = score_table(gaps), regimes(gaps)
    (ax,) = figures.law_fractions(table, levels, constant=1.6, gaussian="gaussian").axes
    lines = {line.get_label(): line for line in ax.get_lines()}
    drawn = lines["gaussian"].get_xydata()
    rows = table.query("metric == 'centred' and approximation == 'gaussian'").sort_values("sigma")
    np.testing.assert_allclose(drawn, rows[["sigma", "ratio_of_sums"]].to_numpy())
    far = next(line for label, line in lines.items() if label.startswith("Gaussian against"))
    np.testing.assert_allclose(far.get_ydata() * far.get_xdata() ** 2, 1.6)
    assert ax.get_xscale() == ax.get_yscale() == "log" and "σ" in ax.get_xlabel()
    text = readings.read_laws(table, levels, 1.6, "gaussian")
    near = rows[rows["sigma"] == 1]["ratio_of_sums"].iloc[0]
    assert f"at σ = 1 the Gaussian leaves {near:.2g}" in text and "c = 1.600" in text


def test_metrics_are_told_apart(gaps):
    table = score_table(gaps)
    text = readings.read_metrics(table, "gaussian")
    assert "centred" in text and "at σ = 40" in text and "at σ = 0.1" in text
    (key,) = figures.metrics(table, gaussian="gaussian").legends
    assert [t.get_text() for t in key.get_texts()][:3] == [
        f"{metric}, ratio of sums" for metric in ("centred", "denoised", "score")
    ]


def test_gains_are_drawn_in_per_cent():
    table = solver_gains(Heun(), edm_sigmas(18)[:-1], torch.tensor([0.1, 1.0]))
    (ax,) = figures.gains(table).axes
    line = next(line for line in ax.get_lines() if line.get_label().startswith("Heun"))
    np.testing.assert_allclose(line.get_ydata(), [6.35, 4.48], atol=0.02)


@pytest.mark.parametrize("known", [0, 1, 2])
def test_emergence_is_drawn_where_the_place_of_no_mode_is_known(known, tmp_path):
    """A network that learned nothing: its predictions have no modes that appear."""
    levels = [0.7] * known + [np.nan] * (3 - known)
    table = pd.DataFrame({"mode": range(3), "sqrt_eigenvalue": [1.0, 0.5, 0.25], "sigma_network": levels})
    table = table.assign(low=0.9 * table["sigma_network"], high=1.1 * table["sigma_network"])
    sizes = {"sigma": [1.0, 2.0] * 3, "network": 0.4, "gaussian": 0.5}
    figure = figures.emergence(pd.DataFrame({"mode": np.repeat(range(3), 2), **sizes}), table)
    figure.savefig(tmp_path / "emergence.png")
    low, high = figure.axes[1].get_xlim()
    assert 0 < low <= 0.25 and high >= 1
