"""Prompts from files: what is read, and one sentence for what is not one."""

import json

import pytest

from scorescope.data import InputError, read_prompts


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("a.txt", "a house\n  two cats\n\n", [{"prompt": "a house"}, {"prompt": "  two cats"}]),
        (
            "a.csv", 'prompt,negative_prompt,seed,height,clip\n"a, b",,3,512,true\nc,blurry,,,\n',
            [
                {"prompt": "a, b", "negative_prompt": "", "seed": 3, "height": 512, "clip": True},
                {"prompt": "c", "negative_prompt": "blurry"},
            ],
        ),
        ("a.jsonl", '{"prompt": "a", "seed": 1}\n{"prompt": "007"}\n', [{"prompt": "a", "seed": 1}, {"prompt": "007"}]),
        ("b.csv", "prompt\n007\n", [{"prompt": "007"}]),  # a prompt is a text
        ("odd.txt", "a\u2028b\x0bc\nd  \n", [{"prompt": "a\u2028b\x0bc"}, {"prompt": "d  "}]),
        ("odd.jsonl", '{"prompt": "a\u2028b"}\n', [{"prompt": "a\u2028b"}]),
        ("deep.csv", "prompt,more\na," + "[" * 5000 + "\n", [{"prompt": "a", "more": "[" * 5000}]),
        ("bom.txt", "\ufeffa\r\nb\r\n", [{"prompt": "a"}, {"prompt": "b"}]),
    ],
)  # fmt: skip
def test_rows(tmp_path, name, text, rows):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert read_prompts(tmp_path / name) == rows


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"a\n\nb\n", "line 2, which is empty"),
        ("a.txt", b"", "empty"),
        ("a.txt", "caf\u00e9".encode("latin-1"), "no UTF-8 text"),
        ("a.csv", b"text,seed\na,1\n", "a column prompt"),
        ("a.csv", b"prompt,seed\na\n", "line 2, with 1 cells"),
        ("a.csv", b"prompt,seed\na,1\n,\nb,2\n", "line 3, which is empty"),
        ("a.csv", b"prompt,prompt\na,b\n", "a name a column"),
        ("a.csv", b"prompt,seed\na,one\n", "whole number from 0"),
        ("a.csv", b'prompt\n"a\n', "a CSV file"),
        ("a.jsonl", b'{"prompt": "a"}\n["b"]\n', "a JSON object a line"),
        ("a.jsonl", b'{"prompt": "a"}\n\n{"prompt": "b"}\n', "line 2, which is empty"),
        ("a.jsonl", b'{"seed": 3}\n', "a column prompt"),
        ("a.jsonl", b'{"prompt": 3}\n', "a text"),
        ("a.jsonl", b'{"prompt": "a", "seed": -1}\n', "whole number from 0"),
        ("a.jsonl", b'{"prompt": "a", "scale": NaN}\n', "a finite number"),
        ("a.jsonl", b'{"prompt": "a", "sigmas": [1.0, NaN]}\n', "row 1, 'sigmas' with nan; expected a finite number"),
        ("a.jsonl", b'{"prompt": "a", "more": {"scale": [[1e999]]}}\n', "'more' with inf"),
        ("a.csv", b"prompt,scale\na,-Infinity\n", "'scale' with -inf"),
        ("a.jsonl", b'{"prompt": "a\\u0000b"}\n', r"'prompt' with '.x00'; expected text that UTF-8 holds"),
        ("a.jsonl", b'{"prompt": "a", "clip": ["b", "c\\u0000"]}\n', "'clip' with '.x00'"),
        ("a.jsonl", b'{"prompt": "a", "d\\u0000": 1}\n', "with '.x00'"),
        ("a.jsonl", b'{"prompt": "a \\ud800"}\n', "'prompt' with '.ud800'"),
        ("a.txt", b"a\0b\n", "'prompt' with '.x00'"),
        ("a.csv", b"prompt\na\0b\n", "'prompt' with '.x00'"),
        ("a.tsv", b"a\n", "a .txt, .csv or .jsonl file"),
        ("a.csv", b"prompt\n", "at least one prompt"),
    ],
)
def test_bad_files(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_prompts(tmp_path / name)


def test_ten_thousand(tmp_path):
    lines = [json.dumps({"prompt": f"picture {number}", "seed": number}) for number in range(10_000)]
    (tmp_path / "many.jsonl").write_text("\n".join(lines))
    rows = read_prompts(tmp_path / "many.jsonl")
    assert len(rows) == 10_000 and rows[-1] == {"prompt": "picture 9999", "seed": 9999}
