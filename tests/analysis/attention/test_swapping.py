"""Prompt swap over windows of layers on a network of which one layer is the only one that says anything."""

from typing import Any

import pytest
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention
from tests.pipelines import sd15
from torch import Tensor, nn

from scorescope.analysis.attention import projection_changes, swap_trace
from scorescope.data.errors import InputError
from scorescope.probes.attention import edit_projections

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

SHARES = (0.0, 0.25, 0.75, 0.0)


class OneSpeaks(ModelMixin, ConfigMixin):
    """eps = x / 2 + sum over layers of share * (what the text says): shares `SHARES`, which add up to 1."""

    @register_to_config
    def __init__(self, in_channels: int = 4, sample_size: int = 8, time_cond_proj_dim: int | None = None) -> None:
        super().__init__()
        narrow = {"query_dim": 1, "cross_attention_dim": 16, "heads": 1, "dim_head": 1, "out_bias": False}
        self.layers = nn.ModuleList(Attention(**narrow) for _ in SHARES)
        for layer, share in zip(self.layers, SHARES, strict=True):
            layer.to_k.weight = nn.Parameter(torch.zeros(1, 16))
            layer.to_v.weight = nn.Parameter(torch.tensor([[1.0] + 15 * [0.0]]))
            layer.to_out[0].weight = nn.Parameter(torch.full((1, 1), share))

    def forward(self, sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, **more: Any) -> Any:
        query = torch.zeros(len(sample), 1, 1)
        said = sum(layer(query, encoder_hidden_states=encoder_hidden_states) for layer in self.layers)
        return (sample / 2 + 0.1 * said[..., None],)


def rows() -> tuple[Any, dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    pipe, _ = sd15()
    pipe.register_modules(unet=OneSpeaks())
    clean, corrupted = torch.ones(1, 5, 16), -torch.ones(1, 5, 16)
    none = {"negative_prompt_embeds": torch.zeros(1, 5, 16)}
    shared = {"guidance_scale": 2.0, "num_inference_steps": 3, "height": 16, "width": 16}
    return pipe, {"prompt_embeds": clean, **none}, {"prompt_embeds": corrupted, **none}, shared


def mean(latents: Tensor) -> Tensor:
    return latents.mean((1, 2, 3))


@pytest.mark.parametrize(("width", "expected"), [(1, [0, 0.25, 0.75, 0]), (2, [0.25, 1, 0.75])])
def test_a_window_recovers_the_share_of_its_layers(width, expected):
    pipe, clean, corrupted, shared = rows()
    traced = swap_trace(
        pipe, clean, corrupted, metric=mean, seeds=range(8), width=width, arguments=shared, progress=False
    )
    for form in ("sufficiency", "necessity"):
        found = traced.recovery[traced.recovery["form"] == form]
        # the path is linear in what is said; latents are float32
        assert found["mean"].tolist() == pytest.approx(expected, abs=1e-4)
        assert (
            found["n"].eq(8).all() and (found["low"] <= found["mean"]).all() and (found["mean"] <= found["high"]).all()
        )
    assert traced.recovery["site"].iloc[0] == ("unet.layers.0" if width == 1 else "unet.layers.0 to unet.layers.1")


def test_what_cannot_be_traced_is_one_clear_error():
    pipe, clean, corrupted, shared = rows()
    for wrong, message in (({"width": 5}, "width: found 5"), ({"seeds": range(3)}, "seeds: found 3"),
                           ({"metric": lambda latents: latents}, "metric: found")):  # fmt: skip
        with pytest.raises(InputError, match=message):
            swap_trace(pipe, clean, corrupted, arguments=shared, progress=False,
                       **({"metric": mean, "seeds": range(8)} | wrong))  # fmt: skip


def test_an_edit_changes_its_text_and_what_is_kept_or_at_right_angles_not():
    pipe, _ = sd15()
    axes = torch.eye(16)
    edit = edit_projections(pipe, axes[:1], axes[1:2], keep=axes[2:4], ridge=1e-3)
    table = projection_changes(
        edit, {"edited": axes[:1], "kept": axes[2:4], "others": axes[4:], "half": axes[0] + axes[4]}
    )
    change = table.groupby("text")["change"]
    # W' e0 = W e0 + (W e1 - W e0) / (1 + ridge), by hand
    for name, (before, after) in edit.weights().items():
        expected = (before[:, 1] - before[:, 0]).norm() / before[:, 0].norm() / 1.001
        row = table[(table["text"] == "edited") & (table["projection"] == name)].iloc[0]
        assert row["change"] == row["largest"] == pytest.approx(float(expected), rel=1e-4)
        assert row["n"] == 1 and after.dtype == before.dtype
    assert change.max()["kept"] < 1e-6 and change.max()["others"] < 1e-6 and change.min()["half"] > 0.1
    with pytest.raises(InputError, match=r"texts\['a'\]: found width 8"):
        projection_changes(edit, {"a": torch.ones(2, 8)})
