"""What a word does, in chunks of seeds: the maps and the table of one call, bit for bit."""

import pandas as pd
import pytest
import torch
from tests.saved_pipelines import saved

from scorescope.analysis.attention import compare_word
from scorescope.analysis.work import plan_words, read_words
from scorescope.data import InputError
from scorescope.data.threads import threads
from scorescope.probes.attention import word_tokens
from scorescope.probes.models import load_pipeline
from scorescope.probes.work import process_pool, run_work

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

QUIET = {"progress": False}
SHARED = {"height": 16, "width": 16, "guidance_scale": 3.0, "num_inference_steps": 2}


def spec_of(folder):
    return {
        "pipeline": str(folder), "prompt": "a b", "without": "a", "word": "b", "seeds": [2, 5], "size": 2, "cells": 4,
        "arguments": SHARED,
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved("sd15", tmp_path_factory.mktemp("pipeline"))[0]


def in_one(folder):
    pipe = load_pipeline(folder)
    with threads(1):
        return compare_word(
            pipe, {"prompt": "a b"}, {"prompt": "a"}, word_tokens("a b", ["b"], pipe.tokenizer)["b"], seeds=range(2, 5),
            arguments=SHARED, size=4, progress=False,
        )  # fmt: skip


def assert_same(found, expected):
    pd.testing.assert_frame_equal(found.agreement, expected.agreement, check_exact=True)
    for name in ("attention", "influence", "image"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert (found.sigmas, found.dropped) == (expected.sigmas, expected.dropped)


def test_a_word_in_chunks_is_one_comparison(folder, tmp_path):
    plan = plan_words(spec_of(folder))
    assert [len(chunk.seeds) for chunk in plan.chunks] == [2, 1]
    for rank in (1, 0):
        done = run_work(plan_words(spec_of(folder)), tmp_path / "ranks", share=(rank, 2), **QUIET)
        assert done.failed == {}
    run_work(plan, tmp_path / "here", **QUIET)
    expected = in_one(folder)
    for name in ("here", "ranks"):
        assert_same(read_words(tmp_path / name), expected)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "here/agreement.parquet"), expected.agreement)
    run_work(plan_words(spec_of(folder) | {"seeds": [2, 6]}), tmp_path / "here", share=(0, 2), **QUIET)
    with pytest.raises(InputError, match=r"maps\.safetensors: found no such file"):
        read_words(tmp_path / "here")


@pytest.mark.slow
def test_the_same_in_two_processes(folder, tmp_path):
    with process_pool(2) as executor:
        run_work(plan_words(spec_of(folder)), tmp_path, executor, **QUIET)
    assert_same(read_words(tmp_path), in_one(folder))


def test_arguments_of_a_call_may_be_anything_and_a_pipeline_of_the_hub_is_not_looked_for(tmp_path):
    spec = spec_of("owner/name") | {"arguments": {"clean_caption": True}, "word": "B"}
    assert len(plan_words(spec).chunks) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": [1]}, "words, word: found both, or neither"),
        ({"without": 3}, "words, without: found 3"),
        ({"pipeline": 3}, "pipeline: found 3"),
        ({"promt": "a"}, "words, promt: found an entry of that name"),
        ({"seeds": 0}, "seeds: found"),
        ({"word": None, "tokens": []}, "words, tokens: found []"),
        ({"word": None, "tokens": [-1]}, "words, tokens: found [-1]"),
        ({"word": None, "tokens": "12"}, "tokens: found '12'"),
        ({"word": None, "tokens": [True]}, "tokens: found [True]"),
        ({"word": " b"}, "words, word: found ' b'"),
        ({"word": "blue"}, "words, word: found 'blue'; expected words of the prompt 'a b'"),
        ({"word": "", "prompt": "a, b"}, "words, word: found ''"),
        ({"grid": 5}, "grid: found 5"),
        ({"grid": [8]}, "grid: found [8]"),
        ({"grid": [8, 0]}, "words, grid: found [8, 0]"),
        ({"sites": "x"}, "sites: found 'x'"),
        ({"arguments": 3}, "arguments: found 3"),
        ({"dtype": 3}, "dtype: found 3"),
        ({"device": 0}, "device: found 0"),
        ({"pipeline": "/nowhere"}, "pipeline: found /nowhere, which is not there"),
        ({}, "which holds nothing; expected a folder with model_index.json"),
    ],
)
def test_what_is_no_work_on_a_word_is_refused(tmp_path, change, message):
    with pytest.raises(InputError) as error:
        plan_words({name: value for name, value in (spec_of(tmp_path) | change).items() if value is not None})
    assert message in str(error.value)
