"""Pairs of prompts from files: contrasts and their contexts, and one sentence for what is none."""

import pytest

from scorescope.data import InputError, PromptPair, read_pairs
from scorescope.data.prompt_pairs import differing_words


def made(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    return read_pairs(tmp_path / name)


RED = PromptPair("red/blue", "a red car", "a blue car", "red", "blue")


@pytest.mark.parametrize(
    ("name", "text", "pairs"),
    [
        ("a.txt", "a red car | a blue car\n", [RED]),
        # two contexts of one contrast, by the words in which the prompts differ
        (
            "b.txt", "a red car|a blue car\na red house|a blue house\r\n\n",
            [RED, PromptPair("red/blue", "a red house", "a blue house", "red", "blue")],
        ),
        (
            "a.csv", "low,high,negative_prompt,clip_skip,open\na red car,a blue car,,2,a car\n",
            [PromptPair("red/blue", "a red car", "a blue car", "red", "blue", "a car",
                        {"negative_prompt": "", "clip_skip": 2})],
        ),
        # no common words for the ends: they are called low and high
        (
            "b.csv", "attribute,low,high\nage,a young man,an old man\nage,a girl,a grandmother\n",
            [PromptPair("age", "a young man", "an old man", "low", "high"),
             PromptPair("age", "a girl", "a grandmother", "low", "high")],
        ),
        (
            "a.jsonl", '{"low": "1984", "high": "2001", "low_name": "old", "high_name": "new", "attribute": "year"}\n',
            [PromptPair("year", "1984", "2001", "old", "new")],
        ),
        ("c.csv", "low,high\n1984,2001\n", [PromptPair("1984/2001", "1984", "2001", "1984", "2001")]),
    ],
)  # fmt: skip
def test_pairs(tmp_path, name, text, pairs):
    assert made(tmp_path, name, text) == pairs


@pytest.mark.parametrize(
    ("low", "high", "names"),
    [
        ("a red car", "a blue car", ("red", "blue")),
        ("a man", "a smiling man", ("without smiling", "smiling")),
        ("a a", "a", ("a", "without a")),
        ("day", "night", ("day", "night")),
        ("a small old cat", "a very large cat", ("small old", "very large")),
    ],
)
def test_words_in_which_two_prompts_differ(low, high, names):
    assert differing_words(low, high) == names


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"a | b\n\nc | d\n", "pairs: found .*line 2, which is empty"),
        ("a.txt", b"a b\n", "'a b'; expected low | high, with one bar"),
        ("a.txt", b"a | b | c\n", "with one bar"),
        ("a.txt", b"a | \n", "high ''; expected a text"),
        ("a.txt", b"a cat | a  cat\n", "two different prompts"),
        ("a.txt", b"a | b\na|b\n", "'a/b: a | b' more than once"),
        ("a.txt", "caf\u00e9 | th\u00e9".encode("latin-1"), "no UTF-8 text"),
        ("a.csv", b"low,prompt\na,b\n", "with low, prompt; expected a column high"),
        ("a.csv", b"low,high,seed\na,b,3\n", "with seed; expected none: it is set for each image"),
        ("a.csv", b"low,high,open\na,b,c\nc,d,\n", "open for some of them alone"),
        ("a.csv", b"attribute,low,high,low_name\nx,a,b,one\nx,c,d,two\n", "x from one to b and from two to d"),
        ("a.jsonl", b'{"low": "a", "high": 3}\n', "high 3; expected a text"),
        ("a.jsonl", b'{"low": "a", "high": "b", "sigmas": [NaN]}\n', "'sigmas' with nan"),
        ("a.jsonl", b'{"low": "a\\u0000", "high": "b"}\n', "'low' with '.x00'"),
        ("a.csv", b"low,high\n", "at least one"),
        ("a.tsv", b"a\tb\n", "a .txt, .csv or .jsonl file"),
    ],
)
def test_bad_files(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_pairs(tmp_path / name)
