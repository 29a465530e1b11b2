"""A direction keeps what it is given, through a file and back, and refuses what it cannot be."""

import os

import pytest
import torch
from safetensors.torch import save_file

from scorescope.data.errors import InputError
from scorescope.probes.sites.direction import Direction


def made(**changes):
    fields = {"vector": torch.randn(8), "site": "network.middle1", "attribute": "size", "method": "lda"}
    return Direction(**(fields | {"scale": 2.5, "sigma": 0.7} | changes))


@pytest.mark.parametrize("sigma", [None, 0.1 + 0.2])
def test_a_file_gives_back_exactly_what_was_saved(tmp_path, sigma):
    direction = made(sigma=sigma, scale=1 / 3, space="whitened")
    found = Direction.load(direction.save(tmp_path / "d.safetensors"), width=8)
    assert torch.equal(found.vector, direction.vector)
    for name in ("site", "attribute", "method", "scale", "sigma", "space"):
        assert getattr(found, name) == getattr(direction, name)


def test_a_bare_file_from_elsewhere_is_a_direction_whose_strength_1_is_its_vector(tmp_path):
    vector = torch.tensor([3.0, 4.0])
    save_file({"vector": vector}, tmp_path / "mine.safetensors", metadata={"site": "unet.mid_block"})
    found = Direction.load(tmp_path / "mine.safetensors")
    assert (found.site, found.method, found.sigma, found.scale) == ("unet.mid_block", "imported", None, 5.0)
    assert torch.allclose(found.step(1.0), vector)


def test_a_step_is_strength_times_scale_along_the_unit_vector():
    direction = made(vector=torch.tensor([0.0, 2.0]), scale=3.0)
    assert torch.equal(direction.unit, torch.tensor([0.0, 1.0]))
    assert torch.equal(direction.step(-0.5), torch.tensor([0.0, -1.5]))


@pytest.mark.parametrize(
    ("changes", "argument"),
    [
        ({"vector": torch.zeros(4)}, "vector"),
        ({"vector": torch.tensor([1.0, float("nan")])}, "vector"),
        ({"vector": torch.ones(2, 2)}, "vector"),
        ({"vector": torch.ones(2, dtype=torch.int64)}, "vector"),
        ({"vector": [1.0]}, "vector"),
        ({"site": ""}, "site"),
        ({"scale": 0.0}, "scale"),
        ({"scale": float("inf")}, "scale"),
        ({"sigma": -1.0}, "sigma"),
    ],
)
def test_what_cannot_be_a_direction_is_refused(changes, argument):
    with pytest.raises(InputError) as error:
        made(**changes)
    assert error.value.argument == argument


def test_files_that_are_no_direction_are_refused(tmp_path):
    (tmp_path / "text").write_text("not safetensors")
    save_file({"other": torch.ones(3)}, tmp_path / "other", metadata={"site": "a"})
    save_file({"vector": torch.ones(3)}, tmp_path / "no_site")
    save_file({"vector": torch.ones(3)}, tmp_path / "scale", metadata={"site": "a", "scale": "large"})
    for name in ("absent", "text", "other", "no_site", "scale"):
        with pytest.raises(InputError, match=name):
            Direction.load(tmp_path / name)


def test_another_size_is_refused(tmp_path):
    path = made().save(tmp_path / "d.safetensors")
    with pytest.raises(InputError, match=r"8 numbers.*expected 16"):
        Direction.load(path, width=16)


@pytest.mark.parametrize(
    ("vector", "more"),
    [
        (torch.tensor([1.0, float("nan")]), {}),
        (torch.ones(4).to(torch.float8_e4m3fn), {}),
        (torch.ones(4, dtype=torch.int64), {}),
        (torch.ones(4), {"sigma": "1" + "0" * 40}),
        (torch.ones(4), {"sigma": "1" + "0" * 400}),
        (torch.ones(4), {"scale": "1e-60"}),
        (torch.ones(4), {"scale": "[" * 100_000}),
        (torch.ones(4), {"sigma": "NaN"}),
    ],
)
def test_a_file_that_holds_no_direction_is_named(tmp_path, vector, more):
    save_file({"vector": vector}, tmp_path / "d.safetensors", metadata={"site": "x"} | more)
    with pytest.raises(InputError, match=r"d\.safetensors, (vector|sigma|scale): found"):
        Direction.load(tmp_path / "d.safetensors")


def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "d.safetensors")
    with pytest.raises(InputError, match="a named pipe"):
        Direction.load(tmp_path / "d.safetensors")
