"""Models whose branches are the same, everywhere or in part: nothing is lost, and no sentence says what is unknown."""

import pandas as pd
import pytest
import torch
from tests.claims import check_page
from tests.pipelines import sd15

from scorescope.probes import Model, record
from scorescope.reports import guidance


class Flat:
    """N(0.3, 0.5^2) at every pixel; above sigma = 1 the condition adds a pattern to the mean."""

    deaf = False

    def __call__(self, x, sigma, condition):
        level = sigma.reshape(-1, *[1] * (x.ndim - 1))
        mean = torch.full_like(x, 0.3)
        if condition is not None and not self.deaf:
            pattern = torch.linspace(-1, 1, x[0].numel()).reshape(x.shape[1:]).to(x)
            mean = mean + torch.where(level > 1, 0.2, 0.0) * (1 + condition.to(x).reshape(level.shape)) * pattern
        return mean + (x - mean) * 0.25 / (0.25 + level**2)


class Deaf(Flat):
    """The same without a condition that is heard."""

    deaf = True


def model(denoiser, *, shape=(1, 4, 4), classes=2, value_range=(-1.0, 1.0)):
    name = type(denoiser).__name__.lower()
    return Model(denoiser, name, shape, lambda count: torch.arange(count) % classes, value_range=value_range)


def report(out, subject):
    outcome = guidance.build(out, subject, command="test", quick=True, count=6, progress=False)
    assert outcome.status == "complete" and not outcome.failures
    check_page(out, outcome.readings)
    return (out / "index.html").read_text(), outcome.readings


def test_a_model_that_is_deaf_to_its_condition_has_every_section(svg_alone, tmp_path, capsys):
    page, readings = report(tmp_path, model(Deaf()))
    assert page.count("No update is known at any step: both branches are the same.") == 2
    assert "There is no update in any band" in page and "by no more than 0.01 σ at any step" in page
    # a rule that looks where the branches differ has nothing to wait for
    assert any("every sample stops at the first look" in text for text in readings)
    rows = pd.read_parquet(tmp_path / "tables/decomposition.parquet")
    assert rows["parallel_share"].isna().all() and (rows["update_norm"] == 0).all()
    assert (rows["missing"] == "both branches are the same").all()
    assert capsys.readouterr().err == ""


def test_levels_without_an_update_are_named_and_left_out(svg_alone, tmp_path):
    _, readings = report(tmp_path, model(Flat()))
    share = next(text for text in readings if "parallel share peaks" in text)
    steps = pd.read_parquet(tmp_path / "tables/steps.parquet").query("rule == 'CFG' and weight == 4 and call == 0")
    shares = steps[steps["quantity"] == "parallel_share"]
    none = shares["mean"].isna()
    assert (none == (shares["sigma"] <= 1)).all() and none.any()
    assert f"at {none.sum()} of {len(shares)} levels none is known (both branches are the same)" in share
    assert (shares["missing"] == none.map({True: "both branches are the same", False: ""})).all()
    assert f"peaks at {shares['mean'].max():.3g} " in share
    assert (steps.loc[steps["quantity"] == "contrast", "missing"] == "").all()


@pytest.mark.slow
@pytest.mark.parametrize("subject", [
    model(Flat(), classes=1), model(Deaf(), classes=1), model(Deaf(), shape=(6,), value_range=None),
    model(Flat(), shape=(6,), value_range=None),
])  # fmt: skip
def test_one_class_and_rows_have_every_section(svg_alone, tmp_path, subject):
    report(tmp_path, subject)


@pytest.mark.parametrize("until", [500, 1000])
def test_a_recorded_pipeline_that_hears_no_prompt_is_reported(until, tmp_path):
    """The network is given the same text for every row, at every step or at those of little noise."""

    def mute(_unet, args, more):
        if float(args[1]) < until:
            more = more | {"encoder_hidden_states": torch.zeros_like(more["encoder_hidden_states"])}
        return args, more

    pipe, arguments = sd15(batch=2)
    handle = pipe.unet.register_forward_pre_hook(mute, with_kwargs=True)
    with record(pipe, path=tmp_path / "run"):
        pipe(**arguments)
    handle.remove()
    outcome = guidance.build_from_traces(tmp_path / "out", [tmp_path / "run"], command="test")
    assert outcome.status == "complete"
    check_page(tmp_path / "out", outcome.readings)
    rows = pd.read_parquet(tmp_path / "out/tables/decomposition0.parquet")
    same = rows["missing"] == "both branches are the same"
    assert same.any() and same.all() == (until == 1000) and rows.loc[~same, "parallel_share"].notna().all()
    page = (tmp_path / "out/index.html").read_text()
    assert ("No update is known at any step: both branches are the same" in page) == (until == 1000)
    assert len(outcome.readings) == (0 if until == 1000 else 4)
