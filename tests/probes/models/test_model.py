"""Models by name: networks of the user's, with weights in a file."""

import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from scorescope.data.errors import InputError
from scorescope.probes.models import load_model

CODE = """
    import torch


    class Precond(torch.nn.Module):  # as the codes of the EDM papers have it
        def __init__(self, label_dim=3):
            super().__init__()
            self.img_channels, self.img_resolution, self.label_dim, self.sigma_data = 2, 4, label_dim, 0.5
            self.scale = torch.nn.Parameter(torch.ones(2, 1, 1))
            self.classes_seen = torch.nn.Linear(max(label_dim, 1), 2, bias=False)

        def forward(self, x, sigma, class_labels=None, force_fp32=False):
            sigma = sigma.reshape(-1, 1, 1, 1)
            c_skip = self.sigma_data**2 / (sigma**2 + self.sigma_data**2)
            moved = 0 if class_labels is None else self.classes_seen(class_labels)[:, :, None, None]
            return c_skip * self.scale * x + moved


    class Plain(torch.nn.Linear):
        pass


    def make():
        return Precond()


    def unconditional():
        return Precond(0)


    def plain():
        return Plain(2, 2)


    def function():
        return len


    def broken():
        raise ValueError("no such layer")
"""


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the user's in the current folder, and the weights of its network."""
    (tmp_path / "my_edm.py").write_text(textwrap.dedent(CODE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_edm", raising=False)
    weights = {"scale": torch.full((2, 1, 1), 0.8), "classes_seen.weight": torch.tensor([[1.0, 2, 3], [4, 5, 6]])}
    save_file(weights, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_an_edm_network_from_a_file_is_a_denoiser_of_labels(saved: Path) -> None:
    model = load_model(str(saved), factory="my_edm:make")
    x, sigma = torch.randn(3, 2, 4, 4, dtype=torch.float64), torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    skip = 0.8 * (0.25 / (sigma**2 + 0.25)).reshape(-1, 1, 1, 1) * x
    moved = torch.tensor([[1.0, 4], [3, 6], [2, 5]], dtype=torch.float64)[:, :, None, None]  # columns 0, 2 and 1
    found = model.denoiser(x, sigma, torch.tensor([0, 2, 1]))
    torch.testing.assert_close(found, skip + moved, rtol=1e-6, atol=1e-6)  # the network computes in float32
    torch.testing.assert_close(model.denoiser(x, sigma, None), skip, rtol=1e-6, atol=1e-6)
    assert found.dtype == x.dtype and model.shape == (2, 4, 4) and model.conditions(4).tolist() == [0, 1, 2, 0]
    assert model.denoiser.prediction_space == "edm" and model.denoiser.sigma_data == 0.5 and not model.value_range
    assert "my_edm:make, sha256 " in model.source


def test_one_without_classes_has_no_conditions(saved: Path, tmp_path: Path) -> None:
    save_file({"scale": torch.ones(2, 1, 1), "classes_seen.weight": torch.ones(2, 1)}, tmp_path / "one.safetensors")
    model = load_model(str(tmp_path / "one.safetensors"), factory="my_edm:unconditional")
    assert model.conditions(5) is None
    assert model.denoiser(torch.ones(1, 2, 4, 4), torch.ones(1), None).shape == (1, 2, 4, 4)


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("my_edm:unconditional", "another shape of classes_seen.weight"),
        ("my_edm:plain", "no weight, bias; unknown classes_seen.weight, scale"),
        ("my_edm:function", "a builtin_function_or_method from 'my_edm:function'"),
        ("my_edm:broken", "ValueError: no such layer"),
        ("my_edm.py:make", "as my_edm:make"),
        ("my_edm", "package.module:factory"),
    ],
)
def test_a_network_and_a_file_that_do_not_fit_are_told_in_one_sentence(saved: Path, factory: str, words: str) -> None:
    with pytest.raises(InputError) as told:
        load_model(str(saved), factory=factory)
    assert words in str(told.value) and "\n" not in str(told.value)


def test_a_network_that_says_no_size_is_refused(saved: Path, tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2, 2), "bias": torch.ones(2)}, tmp_path / "plain.safetensors")
    with pytest.raises(InputError, match="attributes shape and classes"):
        load_model(str(tmp_path / "plain.safetensors"), factory="my_edm:plain")
    with pytest.raises(InputError, match="in safetensors"):
        load_model("nothing.safetensors", factory="my_edm:make")
