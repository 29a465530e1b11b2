"""Directions of pairs of prompts against the encoders themselves, of CLIP, two CLIPs side by side, and T5."""

import pytest
import torch
from diffusers import DiffusionPipeline
from tests.saved_pipelines import saved

from scorescope.analysis.attention import prompt_direction
from scorescope.data.errors import InputError
from scorescope.probes.experiments import text_states

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

# tokenizers of single characters, 16 tokens; CLIP has one before the prompt, T5 one before each word
PAIRS = [("old man", "ill man"), ("an old cat", "an ill cat")]
LAST = {"sd15": [6, 6, 8, 8], "sdxl": [6, 6, 8, 8], "pixart": [7, 7, 10, 10]}


def opened(kind, folder):
    path, shared = saved(kind, folder)
    pipe = DiffusionPipeline.from_pretrained(path)
    pipe.set_progress_bar_config(disable=True)
    return pipe, shared


@pytest.mark.parametrize("kind", LAST)
def test_it_is_the_mean_difference_of_the_encoders_states_at_the_subject(kind, tmp_path):
    pipe, shared = opened(kind, tmp_path)
    prompts = [prompt for pair in PAIRS for prompt in pair]
    states = text_states(pipe, [{"prompt": prompt} for prompt in prompts], arguments=shared)
    how = {"do_classifier_free_guidance": False, "device": "cpu"}
    how |= {"max_sequence_length": 16} if kind == "pixart" else {"num_images_per_prompt": 1}
    with torch.no_grad():
        by_hand = torch.cat([pipe.encode_prompt(prompt, **how)[0] for prompt in prompts])
    count = min(by_hand.shape[1], states.shape[1])
    torch.testing.assert_close(states[:, :count], by_hand[:, :count])
    found = prompt_direction(pipe, PAIRS, ["man", "cat"], pipe.tokenizer, arguments=shared, attribute="age")
    rows = by_hand[torch.arange(4), torch.tensor(LAST[kind])].double()
    expected = (rows[0] - rows[1] + rows[2] - rows[3]) / 2
    torch.testing.assert_close(found.vector.double(), expected, rtol=1e-5, atol=1e-6)
    assert found.scale == pytest.approx(float((rows @ expected / expected.norm()).std(correction=0)), rel=1e-4)
    assert (found.site, found.attribute) == ("condition", "age")


def test_pairs_that_make_no_direction_are_one_clear_error(tmp_path):
    pipe, shared = opened("sd15", tmp_path)
    for pairs, subjects, message in (
        ([("a man", "a man")], "man", "equal states"),
        ([("a man", "a cat")], "man", "subject: found 'man'"),
        (PAIRS, ["man"], "subjects: found 1 for 2 pairs"),
        ([("a very long text man", "a very long line man")], "man", "pairs: found a subject at token 16"),
    ):
        with pytest.raises(InputError, match=message):
            prompt_direction(pipe, pairs, subjects, pipe.tokenizer, arguments=shared)
