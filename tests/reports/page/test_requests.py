"""What tells one request from another: every file that an option names, wherever it lies."""

import os

import pytest

from scorescope.reports.page.requests import Request, hash_of


def asked(folder, **options):
    return Request("report directions", options, folder)


def test_a_judge_is_part_of_what_was_asked(tmp_path):
    (tmp_path / "judge.py").write_text("SIGN = 1.0\n")
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip/model.safetensors").write_bytes(b"one")
    before = [asked(tmp_path, score=score).inputs() for score in ("judge:make", "clip:clip")]
    assert all(before)
    (tmp_path / "judge.py").write_text("SIGN = -9.0\n")
    (tmp_path / "clip/model.safetensors").write_bytes(b"two")
    after = [asked(tmp_path, score=score).inputs() for score in ("judge:make", "clip:clip")]
    assert all(one != other for one, other in zip(before, after, strict=True))


def test_files_that_arguments_of_a_pipeline_name_count(tmp_path):
    for name in ("a.png", "b.png", "512"):
        (tmp_path / name).write_bytes(b"one")
    (tmp_path / "folder").mkdir()
    given = ["image=a.png", 'images=["b.png", {"mask": "a.png"}]', "height=512", "prompt=folder", "at=0.5", "none=",
             "prompt_2=" + 400 * "long "]  # fmt: skip
    before = asked(tmp_path, set=given).inputs()
    assert set(before) == {"a.png", "b.png"}  # 512 is a number
    (tmp_path / "b.png").write_bytes(b"two")
    after = asked(tmp_path, set=given).inputs()
    assert after["a.png"] == before["a.png"] and after["b.png"] != before["b.png"]


def test_an_option_without_a_value_names_no_file(tmp_path):
    """An empty --score was the working folder: every file in it was hashed."""
    (tmp_path / "large.bin").write_bytes(b"not asked for")
    for option in ("score", "denoiser", "pipeline", "names"):
        assert asked(tmp_path, **{option: ""}).inputs() == {}


def test_files_behind_a_linked_folder_count(tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/a.safetensors").write_bytes(b"one")
    (tmp_path / "pipe").mkdir()
    try:
        os.symlink(tmp_path / "weights", tmp_path / "pipe/unet", target_is_directory=True)
        os.symlink(tmp_path / "pipe", tmp_path / "weights/back", target_is_directory=True)  # and no end of links
    except OSError:
        pytest.skip("no links on this file system")
    before = hash_of(tmp_path / "pipe")
    (tmp_path / "weights/a.safetensors").write_bytes(b"two")
    assert hash_of(tmp_path / "pipe") != before


def test_factories_are_named_for_what_they_read_is_not_hashed(tmp_path):
    request = asked(tmp_path, denoiser="mine:make", score="clip:clip", pipeline="a:b", factory=None, count=3)
    assert request.factories() == ["mine:make", "a:b"]
    assert asked(tmp_path, denoiser="digits").factories() == []
