"""Rules with branches of their own inside pipelines: the images of diffusers' own pipelines and of loops by hand."""

import diffusers
import pytest

from scorescope.probes import (
    PAG,
    guide,
)
from tests.pipelines import (
    GUIDANCE,
    generator,
    output_of,
    pixart,
    sd15,
    sdxl,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
MIDDLE = "mid_block.attentions.0.transformer_blocks.0.attn1"
UP = "up_blocks.0.attentions.1.transformer_blocks.0.attn1"
SEEDS = (11, 12, 13)


def ddim():
    return diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1)


def run(pipe, arguments, rule, **options):
    """What a pipeline makes under a rule, and the evaluations made in each step."""
    with guide(pipe, rule, **options) as session:
        found = output_of(pipe(**(arguments | {"generator": generator()})))
    return found, session.evaluations


def plain(pipe, arguments):
    return output_of(pipe(**(arguments | {"generator": generator()})))


def close(found, expected):
    # rounding of the network for another batch, and of the prediction, grown by the sampler over four or five steps:
    # measured below 1e-5 of the largest value
    return (found - expected).abs().max() <= 3e-5 * expected.abs().max()


def unguided(build):
    """A pipeline that computes cond alone."""
    pipe, arguments = build()
    return pipe, arguments | {"guidance_scale": 1.0}


def peer(pipe, kind, layers):
    """The same parts in diffusers' own pipeline with perturbed attention."""
    parts = dict(pipe.components)
    extra = {"requires_safety_checker": False} if "safety_checker" in parts else {}
    if kind is diffusers.StableDiffusionXLPAGPipeline:
        extra = {"add_watermarker": False}
    found = kind(**parts, **extra, pag_applied_layers=layers)
    found.set_progress_bar_config(disable=True)
    return found


@pytest.mark.parametrize(
    "build, kind, layers, sites",
    [
        (lambda: sd15(ddim(), batch=2), diffusers.StableDiffusionPAGPipeline, ["mid"], (MIDDLE,)),
        (lambda: sd15(ddim()), diffusers.StableDiffusionPAGPipeline, ["mid", "up_blocks.0.attentions.1"], (MIDDLE, UP)),
        (sdxl, diffusers.StableDiffusionXLPAGPipeline, ["mid"], (MIDDLE,)),
        (pixart, diffusers.PixArtSigmaPAGPipeline, ["blocks.1"], ("transformer_blocks.1.attn1",)),
    ],
    ids=["sd", "sd-two-sites", "sdxl", "pixart"],
)
@pytest.mark.parametrize("scale", [GUIDANCE, 1.0])
def test_pag_makes_the_images_of_diffusers_own_pipeline(build, kind, layers, sites, scale):
    pipe, arguments = build()
    arguments = arguments | {"guidance_scale": scale}
    found, evaluations = run(pipe, arguments, PAG(3.0, sites=sites, weight=scale))
    own = peer(pipe, kind, layers)
    expected = output_of(own(**(arguments | {"generator": generator(), "pag_scale": 3.0})))
    assert close(found, expected)
    needed = 2 if scale == 1 else 3
    assert [step.made for step in evaluations] == [needed + 1] + [needed] * 3  # the first step proves the repetition
    assert all(set(step.needed) == {needed} for step in evaluations)
    assert not close(found, plain(*build()))
