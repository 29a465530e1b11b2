"""The directions report on a pipeline: pairs of prompts as labels, a planted attribute that is found, bad input."""

import functools
import math

import pandas as pd
import pytest
import scipy
import torch
from tests.claims import check_page
from tests.pipelines import PIPELINES
from tests.planted_pipeline import SITE, SPREAD, STRENGTH, judge, planted, show
from tests.saved_pipelines import saved

from scorescope.data import InputError, PromptPair
from scorescope.probes.models import load_pipeline
from scorescope.reports import directions
from scorescope.reports.atlas import find_entry, make
from scorescope.reports.directions import PromptSubject, pipeline_subject
from scorescope.reports.directions import report as directions_report
from scorescope.reports.directions.atlas import ENTRIES
from scorescope.reports.directions.cost import Cost
from scorescope.reports.directions.judges import judge_pairs
from scorescope.reports.directions.prompt_labels import PromptLabels
from scorescope.reports.directions.sections_probing import model_section
from scorescope.reports.directions.workbench import Workbench
from scorescope.reports.entries import Material

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

COLOUR = PromptPair("colour", "red", "blue", "red", "blue")
TIME = PromptPair("time", "day", "night", "day", "night")
CALL = {"num_inference_steps": 4, "guidance_scale": 1.5, "height": 16, "width": 16}


def pair(low, high, open_=None):
    return PromptPair("colour", low, high, "red", "blue", open_)


def test_labels_know_the_attribute_of_their_own_pair_alone():
    prompts = PromptLabels([pair("red car", "blue car"), TIME, pair("red hat", "blue hat")])
    assert prompts.attributes == {
        "colour": ("red", "blue"), "time": ("day", "night"),
        "pair": ("red car | blue car", "day | night", "red hat | blue hat"),
    }  # fmt: skip
    assert [row["prompt"] for row in prompts.rows()] == ["red car", "blue car", "day", "night", "red hat", "blue hat"]
    assert prompts.label(1, 1).tolist() == [-1, 1, 1] and prompts.plan(2) == [0, 1, 2, 1]
    drawn = prompts.drawn(12)
    assert prompts.conditions(drawn).tolist() == [0, 2, 4, 3, 1, 2, 5, 3, 0, 2, 4, 3]
    for place in (0, 1):
        own = drawn[drawn[:, place] >= 0, place]
        assert len(own) == 6
    colour = drawn[drawn[:, 0] >= 0]
    colour[:, 0] = 2  # left open: no prompt does, so that it is the unconditional branch
    assert prompts.conditions(colour) is None


def test_prompts_that_leave_an_attribute_open():
    prompts = PromptLabels([pair("red car", "blue car", "car"), pair("red hat", "blue hat", "hat")])
    labels = torch.tensor([[2, 0], [2, 1], [1, 1], [0, 0]])
    rows = prompts.rows()
    assert [rows[row]["prompt"] for row in prompts.conditions(labels)] == ["car", "hat", "blue hat", "red car"]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The subject of the planted pipeline."""
    folder = tmp_path_factory.mktemp("planted")
    return pipeline_subject(
        planted(folder), [COLOUR, TIME], judge, folder=folder, decoder=show, arguments=CALL, images=80, batch=64,
        progress=False,
    )  # fmt: skip


def test_images_are_of_what_was_asked(found):
    assert found.sites == [SITE] and found.images.shape == (160, 4, 8, 8)
    means = found.images[:, :2].mean((2, 3)) * 8
    for place in (0, 1):
        asked = found.labels[:, place]
        assert (means[asked == 0, place] < -3).all() and (means[asked == 1, place] > 3).all()
        assert (asked == -1).sum() == 80
    both = found.images[::2, 2:], found.images[1::2, 2:]  # channels that no prompt moves: the same noise
    torch.testing.assert_close(*both, atol=0.02, rtol=0.02)
    assert found.groups.tolist() == [number // 2 for number in range(160)]
    assert found.judged["share"].tolist() == [1.0, 1.0] and not found.doubts


def test_a_planted_attribute_is_read_and_moved(found):
    bench = Workbench(found, quick=True, progress=False)
    table = bench.scan.table
    for place, contrast in enumerate(found.contrasts):
        direction = bench.direction(contrast, SITE, sigma=1.0)
        assert direction.unit[place] > 0.99  # the channel that the prompt sets
        rows = table[table["attribute"] == contrast.attribute]
        # what the best reader reads of two means STRENGTH to either side
        best = [scipy.stats.norm.cdf(STRENGTH / math.hypot(SPREAD, sigma)) for sigma in rows["sigma"]]
        assert ((rows["low"] < best) & (rows["high"] > [share - 0.05 for share in best])).sum() >= 8
        split = bench.scan.split
        assert not set(found.groups[split.train].tolist()) & set(found.groups[split.test].tolist())
    assert table.groupby("attribute")["n"].first().sum() == 32  # of the attributes' own pairs alone, a fifth of both
    steered = bench.steered.set_index("attribute")
    assert (steered["verdict"] == "steerable").all()
    # from -1 - 3 to 1 + 3 standard deviations of the channel, 15 a unit in 8 of log-odds
    for name, effect in steered["effect"].items():
        assert effect * bench.natural[name] == pytest.approx(15, rel=0.05)


def test_samples_are_compared_with_what_their_own_label_asks(found):
    tables = {part.name: part.table for part in model_section(Workbench(found, quick=True, progress=False)).tables}
    table = tables["agreement"].set_index(["what", "attribute"])
    assert table["n"].to_dict() == {
        ("samples", "colour"): 32, ("images of the pipeline", "colour"): 80,
        ("samples", "time"): 32, ("images of the pipeline", "time"): 80,
    }  # fmt: skip
    assert (table["agreement"] == 1).all()


def test_figures_of_the_atlas_for_a_pipeline(found, tmp_path):
    """Numbers are kept and read again; what prompts cannot have is said before anything runs."""
    material = Material(subject=lambda: found, count=24)
    first, again = (make(find_entry("causal-trace"), material, folder=tmp_path) for _ in range(2))
    assert again.table.equals(first.table) and again.table is not first.table
    assert "20 samples, seeds 0 to 19" in first.caption and "StableDiffusion" in first.caption
    assert find_entry("token-linearity").why_not(material).startswith("The condition is a prompt")
    assert find_entry("diti-attribute-loss").why_not(material).startswith("Images of two prompts differ in more")
    possible = [entry.name for entry in ENTRIES if "subject" in entry.needs and not entry.why_not(material)]
    assert len(possible) == len([entry for entry in ENTRIES if "subject" in entry.needs]) - 2
    table = find_entry("direction-through-time").numbers(material).tables["step_cosines"]
    assert table["n"].eq(40).all()  # pairs of images that began with the same noise


def test_levels_are_those_of_the_scheduler(found, monkeypatch):
    monkeypatch.setattr(found.denoiser, "sigma_range", (0.1, 12.0))
    bench = Workbench(found, quick=True, progress=False)
    steps = bench.steps(18)[:-1], bench.sampling.sigmas[:-1]
    for levels in (bench.sigmas, bench.levels(5, low=0.01, high=30.0), *steps):
        assert max(levels) == pytest.approx(12) and min(levels) == pytest.approx(0.1)
    assert bench.levels(2, low=1.0, high=3.0) == pytest.approx([3, 1])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda odds: odds * 0, "does not tell the two ends of colour apart: it scores the high end above the low one"),
        (lambda odds: odds * 0, "in 0% (0% to 9%) of 40 pairs"),
        (lambda odds: -odds, "has the two ends of colour the other way round"),
    ],
)  # fmt: skip
def test_a_judge_that_cannot_judge_is_named_with_a_number(found, change, said):
    judged = judge_pairs(
        lambda latents: {"colour": torch.stack([-(z := change(found.scorer(latents)["colour"][:, 1])), z], 1)},
        found.images, found.labels, ["colour"],
    )  # fmt: skip
    doubtful = PromptSubject(**{**vars(found), "judged": judged})
    assert len(doubtful.doubts) == 1 and said in doubtful.doubts[0]


def test_a_zero_that_was_moved_is_said(found):
    judged = judge_pairs(
        lambda latents: {"colour": torch.stack([-(z := found.scorer(latents)["colour"][:, 1] + 50), z], 1)},
        found.images, found.labels, ["colour"],
    )  # fmt: skip
    (said,) = PromptSubject(**{**vars(found), "judged": judged}).doubts
    assert "both ends of colour are on one side of the judge's zero" in said and "halfway between" in said


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    """A tiny Stable Diffusion in a folder, and the pipeline."""
    folder, call = saved("sd15", tmp_path_factory.mktemp("sd15"))
    return folder, load_pipeline(str(folder)), {**call, "num_inference_steps": 2}


def brightness(images):
    return (images.mean((1, 2, 3)) + 0.02) * 50


CARS = [pair("a red car", "a blue car"), pair("a red hat", "a blue hat")]
FEW = ("probes", "tokens", "loss", "information")


def test_a_report_says_what_its_images_are_and_what_is_left_out(sd15, tmp_path, unrendered, monkeypatch, capsys):
    _, pipe, call = sd15
    made = []
    monkeypatch.setattr(directions_report, "SECTIONS", [one for one in directions_report.SECTIONS if one[0] in FEW])
    real = type(pipe).__call__

    @functools.wraps(real)
    def heard(*args, **given):
        made.append(given)
        return real(*args, **given)

    monkeypatch.setattr(type(pipe), "__call__", heard)
    given = {"command": "test", "arguments": call, "images": 20, "quick": True, "batch": 64, "progress": False}
    outcome = directions.build_from_pipeline(tmp_path, pipe, CARS, brightness, **given)
    assert outcome.status == "complete", outcome.failures
    latents = [one for one in made if one.get("output_type") == "latent"]
    assert len(latents) == 20 and all(one["num_inference_steps"] == 2 for one in latents)
    seeds = [one["generator"].initial_seed() for one in latents]
    assert seeds[::2] == seeds[1::2] == list(range(10))
    said = capsys.readouterr().err
    assert "20 images of 2 steps by the pipeline itself" in said and "latents through the network" in said
    page = (tmp_path / "index.html").read_text()
    for text in (
        "labelled with what was asked", "guidance_scale 5", "the unconditional one",
        "attribute is left open, unconditional", "Noise levels are within",
        "its tokens are no attributes", "no counterfactual pairs", "no information about the attribute in nats",
        "The judge scores the high end above the low end of colour in",
    ):  # fmt: skip
        assert text in page, text
    assert outcome.tables["judge"]["pairs"].tolist() == [10]
    made.clear()
    again = directions.build_from_pipeline(tmp_path, pipe, CARS, brightness, **given)
    assert not [one for one in made if one.get("output_type") == "latent"]  # all were kept
    for name, table in outcome.tables.items():
        pd.testing.assert_frame_equal(table, again.tables[name])


@pytest.mark.slow
def test_a_whole_report_and_what_it_was_said_to_cost(tmp_path):
    pipe, rows, judged = planted(tmp_path), [], []
    hook = pipe.unet.register_forward_hook(lambda _, args, output: rows.append(len(output[0])))

    def counted(images):
        judged.append(len(images))
        return judge(images)

    given = {"command": "test", "arguments": CALL, "images": 40, "quick": True, "batch": 64, "progress": False}
    try:
        outcome = directions.build_from_pipeline(tmp_path, pipe, [COLOUR, TIME], counted, decoder=show, **given)
    finally:
        hook.remove()
    assert outcome.status == "complete", outcome.failures
    assert check_page(tmp_path, outcome.readings) > 0
    cost, own = Cost(2, 1, 40, quick=True), 80 * CALL["num_inference_steps"] * 2
    assert cost.evaluations == pytest.approx(sum(rows) - own, rel=0.25)
    assert cost.judged == pytest.approx(sum(judged), rel=0.25)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sites": ["mid_blok"]}, r"site: found 'network.mid_blok'; expected .*network.mid_block"),
        ({"score": "my.py:make"}, "score: found 'my.py:make'; expected package.module:factory, as my:make"),
        ({"score": lambda images: images}, r"score: found shape \(\d+, 3, 16, 16\) of 'colour' for \d+ images"),
        ({"score": lambda images: images.mean((1, 2, 3)) / 0}, "score: found values of 'colour' that are not finite"),
        ({"arguments": {"guidance_scale": 1.0}}, "pipe: found a pipeline that makes no unconditional prediction"),
        ({"arguments": {"gidance_scale": 2.0}}, "guidance_scale"),
        ({"images": 10}, "images: found 10; expected an even number from 20, of each contrast"),
        ({"pairs": []}, "pairs: found none"),
        ({"pairs": [PromptPair("colour", "a", "b", "a", "b", None, {"sed": 3})]}, "pairs: found 'sed'"),
        (
            {"pairs": [pair("a", "b"), PromptPair("time", "a", "b", "a", "b", None, {"negative_prompt": "c"})]},
            "several unconditional branches, as their negative prompts differ",
        ),
    ],
)  # fmt: skip
def test_bad_input(sd15, tmp_path, change, said):
    _, pipe, call = sd15
    given = {"pairs": CARS, "score": brightness, "images": 20, "progress": False, **change}
    given["arguments"] = {**call, **change.get("arguments", {})}
    with pytest.raises(InputError, match=said):
        pipeline_subject(pipe, folder=tmp_path, **given)


@pytest.mark.parametrize("kind", ["dit", "ddpm"])
def test_pipelines_without_prompts(tmp_path, kind):
    pipe, _ = PIPELINES[kind]()
    said = rf"pairs: found prompts for a {type(pipe).__name__}, which takes none; expected a pipeline .* on text"
    with pytest.raises(InputError, match=said):
        pipeline_subject(pipe, CARS, brightness, folder=tmp_path)


def test_a_distilled_pipeline_has_no_branch_that_leaves_an_attribute_open(tmp_path):
    folder, call = saved("flux_distilled", tmp_path)
    decoder = lambda latents: latents[:, :3, None]  # noqa: E731
    with pytest.raises(InputError, match=r"no unconditional prediction .*distilled\); expected guidance that is on"):
        pipeline_subject(
            load_pipeline(str(folder)), CARS, brightness, folder=tmp_path, decoder=decoder, arguments=call, images=20
        )
