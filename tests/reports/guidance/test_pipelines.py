"""The guidance report of pipelines on disk, from the command line: what is on the page, and what it says is not."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from tests.saved_pipelines import saved

from scorescope.data import InputError
from scorescope.reports.cli.commands import describe
from scorescope.reports.cli.pipeline_inputs import PipelineOptions, numbers
from scorescope.reports.cli.pipeline_report import report_pipeline

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
PLAIN = {"quick": False, "count": 2, "seeds": "", "seed": 0, "rules": "", "weights": "", "keep": "branches", "batch": 2}
PROMPTS = "prompt,negative_prompt\na lighthouse,blurry\na cat,grey\n"


def settings(arguments):
    return [f"{name}={json.dumps(value)}" for name, value in arguments.items()]


def run(*command):
    """The command line in a process of its own."""
    program = "import sys; from scorescope.reports.cli import main; sys.argv[0] = 'scorescope'; main()"
    alone = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, command)], capture_output=True, text=True, env=alone, timeout=600
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("pipelines")
    (where / "prompts.csv").write_text(PROMPTS)
    return where


@pytest.fixture(scope="module")
def sd15(folder):
    return saved("sd15", folder)


@pytest.fixture(scope="module")
def report(folder, sd15):
    """A report of Stable Diffusion with sampled rules, from the command line."""
    path, arguments = sd15
    more = [option for one in settings(arguments) for option in ("--set", one)]
    done = run(
        "report", "guidance", "--out", folder / "report", "--pipeline", path, "--prompts", folder / "prompts.csv",
        "--seeds", "3-4", "--steps", 6, "--rules", "cfg,apg", "--weights", "1,5", *more,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "report", done


def table(report, name):
    return pd.read_parquet(report[0] / "tables" / f"{name}.parquet")


def test_the_page_and_its_tables(report):
    page = (report[0] / "index.html").read_text()
    assert "20 images of 6 steps, about 120 denoiser calls" in page and "20 images" in report[1].stderr
    rows = table(report, "decomposition")
    assert len(rows) == 4 * 6 and list(rows["seed"].unique()) == [3, 4]
    np.testing.assert_allclose(rows["weight"], 5, rtol=1e-5)  # fitted from float32 predictions
    assert set(table(report, "branches")["branches"]) == {"cond, uncond"}
    assert "unet.mid_block" in list(table(report, "sites")["site"])
    assert {path.stem for path in (report[0] / "figures").glob("*.png")} >= {
        "update_parts", "replayed", "values", "saturation", "contrast", "pictures", "information",
    }  # fmt: skip
    manifest = json.loads((report[0] / "manifest.json").read_text())
    assert manifest["status"] == "complete" and manifest["weights"] == [1.0, 5.0]
    assert "nan" not in page.split("<h2")[0].lower().replace("guidance", "")  # of what is said in short


def test_replayed_rules_are_those_of_the_formulas(report):
    steps = table(report, "replayed").query("quantity == 'applied_gain'").set_index(["setting", "step"])["mean"]
    np.testing.assert_allclose(steps["apg"], 1, atol=1e-9)  # nothing along D_c is applied
    rows = table(report, "decomposition").groupby("step")
    np.testing.assert_allclose(steps["pipeline"], rows["applied_gain"].mean(), rtol=1e-9)
    gain = (1 + 4 * rows["parallel_coefficient"].mean()).to_numpy()
    np.testing.assert_allclose(steps["pipeline"], gain, rtol=1e-5)


def test_sampled_rules_start_from_the_same_seeds(report):
    images = table(report, "images").query("quantity == 'contrast'").set_index(["rule", "weight"])["mean"]
    own = images.xs("pipeline")
    # cfg at the pipeline's own weight is the pipeline's own guidance; half precision on disk
    np.testing.assert_allclose(images["cfg", 5.0], own.iloc[0], rtol=1e-3)
    np.testing.assert_allclose(images["cfg", 1.0], images["apg", 1.0], rtol=1e-6)
    assert abs(images["cfg", 1.0] / own.iloc[0] - 1) > 5e-3


def build(folder, kind, **how):
    path, arguments = saved(kind, folder)
    classes = "1,2" if kind == "dit" else ""
    prompts = None if kind in ("dit", "ddpm") else folder / "prompts.csv"
    given = PipelineOptions(str(path), settings=settings(arguments), steps=4, prompts=prompts, classes=classes)
    outcome = report_pipeline(folder / f"{kind}-report", given, command="a test", **(PLAIN | how))
    return outcome, (folder / f"{kind}-report" / "index.html").read_text()


def test_a_distilled_pipeline_says_why_there_is_no_update(folder, unrendered):
    (folder / "plain.txt").write_text("a lighthouse\na cat\n")
    path, arguments = saved("flux_distilled", folder)
    given = PipelineOptions(str(path), settings=settings(arguments), steps=4, prompts=folder / "plain.txt")
    outcome = report_pipeline(folder / "flux", given, command="a test", **PLAIN)
    page = (folder / "flux" / "index.html").read_text()
    assert outcome.status == "complete"
    assert "gains and replayed rules are missing: guidance-distilled: the scale is an input of the network" in page
    assert not (folder / "flux" / "figures" / "replayed.png").exists()


def test_a_pipeline_of_classes(folder, unrendered):
    outcome, page = build(folder, "dit", rules="cfg", weights="2", keep="scalars")
    assert outcome.status == "complete" and "Rules are not sampled" not in page
    assert "Replayed rules are missing: no arrays were kept" in page


def test_an_unconditional_pipeline(folder, unrendered):
    outcome, page = build(folder, "ddpm")
    assert outcome.status == "complete" and "one prediction a step: no guidance was applied" in page
    assert "results, which the pipeline clips" in page


def test_options_that_do_not_fit(folder, sd15):
    path, arguments = sd15
    cases = [
        ({"prompts": None}, {}, "--prompts: found no prompts for a StableDiffusionPipeline"),
        ({"classes": "1"}, {}, "--prompts, --classes: found both"),
        ({"settings": ("height",)}, {}, "--set: found 'height'"),
        ({"settings": ("higth=3",)}, {}, "as height"),
        ({"settings": ("num_inference_steps=3",)}, {}, "--steps: found num_inference_steps in --set too"),
        ({}, {"rules": "cfg"}, "rules, weights: found 1 rules, 0 weights"),
        ({}, {"rules": "cgf", "weights": "2"}, "rules: found cgf"),
        ({}, {"rules": "cfg,cfg", "weights": "2"}, "rules, weights: found cfg, cfg, 2; expected each once"),
        ({}, {"weights": "two"}, "--weights: found 'two'"),
        ({}, {"seeds": "4-2"}, "--seeds: found '4-2'"),
        ({}, {"keep": "all"}, "--keep: found 'all'"),
    ]
    for options, how, said in cases:
        plain = {"settings": settings(arguments), "steps": 2, "prompts": folder / "prompts.csv"}
        given = PipelineOptions(str(path), **(plain | options))
        with pytest.raises(InputError, match=said):
            report_pipeline(folder / "none", given, command="a test", **(PLAIN | how))
    assert numbers("0, 3,8-10", "--seeds") == [0, 3, 8, 9, 10]


def test_one_scale_of_two_is_asked_for(folder):
    path, _ = saved("flux_true", folder)
    given = PipelineOptions(str(path), scale=4.0)
    with pytest.raises(InputError, match="--set guidance_scale=4 or --set true_cfg_scale=4"):
        given.arguments(given.load())


def test_describe_from_the_command_line(sd15, capsys):
    path, arguments = sd15
    describe(str(path), settings=settings(arguments))
    shown = capsys.readouterr().out
    for line in ("StableDiffusionPipeline", "unet.mid_block UNetMidBlock2DCrossAttn", "cond, uncond"):
        assert line in shown


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sdxl", "sd3", "flux_true", "pixart", "wan21", "stable_audio", "dit", "ddpm"])
def test_every_kind_from_the_command_line(folder, kind):
    path, arguments = saved(kind, folder)
    more = [option for one in settings(arguments) for option in ("--set", one)]
    given = {"dit": ["--classes", "1,2"], "ddpm": []}.get(kind, ["--prompts", folder / "prompts.csv"])
    given = [*given, *more]
    out = folder / f"{kind}-slow"
    done = run("report", "guidance", "--out", out, "--pipeline", path, "--steps", 4, "--count", 2, *given)
    assert done.returncode == 0, done.stderr
    rows = pd.read_parquet(folder / f"{kind}-slow" / "tables" / "decomposition.parquet")
    assert len(rows) == 2 * 4
    guided = kind != "ddpm"
    assert (rows["update_norm"] > 0).all() == guided and (rows["missing"] == "").all() == guided
    assert run("describe", path, *given).returncode == 0
