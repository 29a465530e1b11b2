"""A network that uses a word where it looks at it, and one that looks where it does not use it."""

from typing import Any

import pytest
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention
from tests.pipelines import flux_true, sd15
from torch import Tensor, nn

from scorescope.analysis.attention import compare_word
from scorescope.data.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

SIDE, WORD = 8, 2


def rise() -> Tensor:
    """How much each place asks for the word, (y, x): 64 different numbers from -2 to 2."""
    return torch.linspace(-2, 2, SIDE**2).reshape(SIDE, SIDE)


class Looking(ModelMixin, ConfigMixin):
    """eps = x / 2 + (what is read) in channel 0: by attention, or, as a decoy, where nobody looks.

    The first number of a token is its key, the second what it says. Attention to the word is
    exp(rise) / (exp(rise) + tokens - 1).
    """

    @register_to_config
    def __init__(
        self, decoy: bool = False, in_channels: int = 4, sample_size: int = SIDE, time_cond_proj_dim: int | None = None
    ) -> None:
        super().__init__()
        self.attention = Attention(query_dim=1, cross_attention_dim=16, heads=1, dim_head=1, out_bias=False)
        weights = {"to_q": [[1.0]], "to_k": [[1.0] + 15 * [0.0]], "to_v": [[0.0, 1.0] + 14 * [0.0]]}
        for name, weight in weights.items():
            getattr(self.attention, name).weight = nn.Parameter(torch.tensor(weight))
        self.attention.to_out[0].weight = nn.Parameter(torch.ones(1, 1))

    def forward(self, sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, **more: Any) -> Any:
        query = rise().to(sample).flatten()[None, :, None].expand(len(sample), -1, -1)
        read = self.attention(query, encoder_hidden_states=encoder_hidden_states).mT.unflatten(-1, (SIDE, SIDE))
        if self.config.decoy:
            said = encoder_hidden_states[:, :, 1].sum(1)[:, None, None, None]
            read = said * (-rise()).exp().to(sample)
        return (torch.cat([sample[:, :1] / 2 + 0.1 * read, sample[:, 1:] / 2], 1),)


def looking(**config: bool) -> Any:
    pipe, _ = sd15()
    pipe.register_modules(unet=Looking(**config))
    return pipe


def rows() -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """With the word, without it, and what calls share: only the word says anything."""
    text = torch.zeros(1, 5, 16)
    word = text.clone()
    word[:, WORD, :2] = 1
    none = {"negative_prompt_embeds": text}
    shared = {"guidance_scale": 2.0, "num_inference_steps": 4, "height": 16, "width": 16}
    return {"prompt_embeds": word, **none}, {"prompt_embeds": text, **none}, shared


@pytest.mark.parametrize(("decoy", "expected"), [(False, 1.0), (True, -1.0)])
def test_attention_is_influence_where_the_network_reads_by_it_and_not_in_a_decoy(decoy, expected):
    row, without, shared = rows()
    found = compare_word(looking(decoy=decoy), row, without, [WORD], seeds=range(8), arguments=shared, size=SIDE,
                         progress=False)  # fmt: skip
    looked = rise().exp() / (rise().exp() + 4)
    torch.testing.assert_close(found.attention, looked.expand_as(found.attention), rtol=0, atol=1e-6)
    read = (-rise()).exp() if decoy else looked  # of D = x - sigma eps
    squares = torch.tensor(found.sigmas).square()[:, None, None, None] * (0.1 * read.double()) ** 2
    # eps of the pipeline are float32: a difference of 0.01 or more is known to 1e-4 of itself
    torch.testing.assert_close(found.influence, squares.expand_as(found.influence), rtol=1e-3, atol=0)
    assert found.agreement["compared"].tolist() == ["influence"] * 4 + ["image"] * 4
    assert found.agreement["mean"].tolist() == pytest.approx([expected] * 8, abs=1e-3)
    assert found.agreement["excess"].tolist() == pytest.approx([0] * 8, abs=1e-3)  # the maps of all seeds are the same
    assert list(found.sigmas) == sorted(found.sigmas, reverse=True) and not found.dropped


def test_packed_latents_and_levels_without_data_are_read_too():
    pipe, given = flux_true()
    names = ("prompt_embeds", "pooled_prompt_embeds", "negative_prompt_embeds", "negative_pooled_prompt_embeds")
    row = {name: given[name] for name in names}
    without = row | {"prompt_embeds": row["prompt_embeds"].clone().index_fill_(1, torch.tensor(WORD), 0)}
    shared = {name: given[name] for name in ("height", "width", "true_cfg_scale", "num_inference_steps")}
    found = compare_word(
        pipe, row, without, [WORD], seeds=[0, 1], arguments=shared, size=4, grid=(4, 4), progress=False
    )
    assert len(found.dropped) == 1 and len(found.sigmas) == 3  # a flow begins where there is no data
    assert found.attention.shape == found.influence.shape == (3, 2, 4, 4) and found.image.shape == (2, 4, 4)
    assert (found.influence > 0).all() and found.agreement["reason"].str.contains("fewer").all()


def test_what_cannot_be_compared_is_one_clear_error():
    row, without, shared = rows()
    with pytest.raises(InputError, match="tokens: found none"):
        compare_word(looking(), row, without, [], seeds=range(2))
    with pytest.raises(InputError, match="seeds"):
        compare_word(looking(), row, without, [1], seeds=[1, 1], arguments=shared)
    with pytest.raises(InputError, match="arguments: found a result of type"):
        compare_word(looking(), row, without, [1], seeds=[1], arguments=shared | {"output_type": "np"}, progress=False)
