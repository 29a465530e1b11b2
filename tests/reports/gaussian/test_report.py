import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from tests.claims import check_page

from scorescope.data import InputError, load_digits
from scorescope.probes import Model, load_model
from scorescope.probes.approximations import fit_gaussian
from scorescope.probes.models.denoiser import seconds_a_call
from scorescope.reports import gaussian
from scorescope.reports.gaussian import from_folder, split
from scorescope.reports.gaussian.study import Study, bands, digits_of
from scorescope.reports.studies import bibtex


@pytest.mark.parametrize(("count", "said"), [(15, "Without bands: 15 images are fewer than"), (16, "Bands are 95 %")])
def test_a_caption_says_whether_there_are_bands(count, said):
    assert bands(count).startswith(said)


@pytest.mark.parametrize(
    ("span", "said"),
    [
        ((0.0, float("inf")), ""),
        ((0.01, 14.6), "between σ = 0.01 and 14.6; the model knows no others"),
        ((0.01, 157.0), "between σ = 0.01 and 80; the model knows 0.01 to 157"),
    ],
)
def test_levels_that_are_left_out_are_said(span, said):
    """A pipeline up to 157 was said to know no level above 80, where the report ends."""
    model = load_model("digits_weak")
    denoiser = torch.nn.Identity()
    denoiser.sigma_range = span
    assert said in Study(replace(model, denoiser=denoiser), digits_of(model), True, False).limits


@pytest.mark.parametrize("span", [(3.0, 20.0), (0.01, 0.5), (0.0, float("inf"))])
def test_the_timed_call_is_at_a_level_that_the_denoiser_knows(span):
    asked = []

    class Knows:
        sigma_range = span

        def __call__(self, x, sigma, condition):
            asked.extend(sigma.tolist())
            return x

    assert seconds_a_call(Knows(), torch.zeros(2, 1, 8, 8), None) >= 0
    assert len(asked) == 4 and all(span[0] <= sigma <= span[1] for sigma in asked)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    out, model, rows = tmp_path_factory.mktemp("report"), load_model("digits_weak"), []
    hook = model.denoiser.register_forward_hook(lambda _, args, output: rows.append(len(output)))
    outcome = gaussian.build(out, model, command="test", quick=True, progress=False)
    hook.remove()
    return out, outcome, sum(rows)


def test_what_it_is_said_to_cost_is_what_it_asks(report):
    model = load_model("digits_weak")
    study = Study(model, digits_of(model), quick=True, progress=False)
    assert study.evaluations == pytest.approx(report[2], rel=0.05)
    assert re.fullmatch(r"\d+ states through the network.*about [\d.]+ (seconds|minutes) .*", study.cost())


def test_the_methods_of_its_sections_are_cited(report):
    entries = bibtex(report[1])
    assert "{wang2024unreasonable," in entries and "{pierret2025diffusion," in entries


def test_sentences_hold_what_they_owe(report):
    out, outcome, _ = report
    assert check_page(out, outcome.readings) > 0


def test_report_is_complete(report):
    out, outcome, _ = report
    assert outcome.status == "complete" and not outcome.failures
    figures = {path.stem for path in (out / "figures").glob("*.svg")}
    expected = {"laws", "metrics", "queries", "path_errors", "emergence", "skips", "gains", "dynamics", "memorisation"}
    assert figures == expected
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["branch"] == "unconditional" and "sha256" in manifest["model_source"]


def test_the_report_holds_the_reference_numbers(report):
    """c on this split, Heun's 4.7 % on the data's spectrum, the turn over training."""
    out, outcome, _ = report
    text = " ".join(outcome.readings)
    assert float(re.search(r"c = ([\d.]+\d)", text).group(1)) == pytest.approx(1.614, abs=1e-3)
    errors = pd.read_parquet(out / "tables/linear_error.parquet")
    heun = errors[(errors["solver"] == "Heun") & (errors["levels"] == 18)]["error"].iloc[0]
    assert heun == pytest.approx(0.047, abs=0.003)
    nearest = pd.read_parquet(out / "tables/nearest_step.parquet").query("approximation == 'gaussian'")
    low, high = nearest[nearest["sigma"] <= 0.5], nearest[nearest["sigma"] >= 2]
    assert (low["training_step"] == 400).all() and low["rises"].all()
    assert (high["training_step"] == 2000).all()


def test_the_tables_show_the_known_shape(report):
    out, _, _ = report
    scores = pd.read_parquet(out / "tables/scores.parquet").query("metric == 'centred' and query == 'held_out'")
    table = scores.pivot(index="sigma", columns="approximation", values="ratio_of_sums")
    assert (table["gaussian"] < table["isotropic"]).all()
    assert (table.loc[0.04, "gaussian"] < 0.01) and (table.loc[0.04, "training set"] > 0.1)  # it has not memorised
    skips = pd.read_parquet(out / "tables/skips.parquet").query("steps == 18").set_index(["spent", "sigma_skip"])
    none = skips.loc[("same calls, finer steps", 80.0), "median"]
    assert skips.loc[("same calls, finer steps", 8.4), "median"] < none
    memory = pd.read_parquet(out / "tables/memorisation.parquet").query("quantity == 'error'")
    found = memory.set_index(["denoiser", "images", "sigma"])["mean"]
    assert found["memoriser", "train", 0.1] < 1e-6 < found["memoriser", "held out", 0.1]
    assert found["digits_weak", "held out", 0.2] / found["digits_weak", "train", 0.2] < 1.5


def test_a_gaussian_network_is_found_to_be_one(tmp_path, unrendered):
    """A model of one's own with data of one's own; no digits, no labels, no snapshots."""
    law = fit_gaussian(load_digits().train.images)
    images = law.sample(400, generator=torch.Generator().manual_seed(0)).float()
    model = Model(law, "a Gaussian", (1, 8, 8), lambda count: torch.zeros(count, dtype=torch.int64))
    outcome = gaussian.build(tmp_path, model, command="test", data=split(images), quick=True, progress=False)
    assert outcome.status == "complete", outcome.failures
    scores = pd.read_parquet(tmp_path / "tables/scores.parquet").query("metric == 'centred' and query == 'held_out'")
    fitted = scores[scores["approximation"] == "gaussian"]
    # the fit saw 320 samples: at high noise the error of its mean, tr C / 320, is all that one sees
    assert fitted[fitted["sigma"] < 1]["ratio_of_sums"].max() < 0.04
    regimes = pd.read_parquet(tmp_path / "tables/regimes.parquet")
    assert regimes["gaussian_is_best"].mean() > 0.7
    ends = pd.read_parquet(tmp_path / "tables/ends.parquet")
    assert ends["ratio_of_sums"][0] < 0.05
    with pytest.raises(InputError, match="data"):
        gaussian.build(tmp_path, model, command="test", quick=True, progress=False)


def test_a_folder_of_images_is_split(tmp_path):
    from PIL import Image

    for index in range(10):
        array = np.full((9, 9), 20 * index, dtype=np.uint8)
        Image.fromarray(array).save(tmp_path / f"{index}.png")
    model = load_model("digits_weak")
    data = from_folder(tmp_path, model, size=8)
    assert data.train.shape == (8, 1, 8, 8) and data.held_out.shape == (2, 1, 8, 8)
    with pytest.raises(InputError, match=r"\(1, 9, 9\)"):
        from_folder(tmp_path, model)
