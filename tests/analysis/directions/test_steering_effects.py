"""A planted network: a unit that makes the attribute, and a decoy that only goes along with it."""

import math

import pytest
import torch
from torch import nn

from scorescope.analysis.directions.carrying import carry_direction, judge_transport
from scorescope.analysis.directions.comparison import compare_directions
from scorescope.analysis.directions.finding import as_direction, directions_by_level, find_direction
from scorescope.analysis.directions.steering_effects import steering_effect, transport_effect
from scorescope.data.errors import InputError
from scorescope.probes.activations.collect import collect
from scorescope.probes.bank.points import Bank
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.sampling.arms import Sampling

WIDTH = 6
SIGMAS = edm_sigmas(8, sigma_min=0.05, sigma_max=8.0)
SAMPLING = Sampling(sigmas=SIGMAS)
SEEDS = range(40)


class Planted(nn.Module):
    """Unit 0 of `inner` decides the sign of the image; unit 1 is a copy that is read by nobody.

    With `turning`, the units are rotated before the site and back after it, by an angle that grows with log sigma.
    """

    shape = (1, 4, 4)

    def __init__(self, turning=False):
        super().__init__()
        self.inner = nn.Identity()
        self.turning = turning

    def rotation(self, sigma):
        angle = 0.6 * math.log(float(sigma[0])) if self.turning else 0.0
        turn = torch.eye(WIDTH)
        turn[0, 0] = turn[2, 2] = math.cos(angle)
        turn[0, 2], turn[2, 0] = math.sin(angle), -math.sin(angle)
        return turn

    def forward(self, x, sigma, condition=None):
        evidence = x.mean((1, 2, 3)) / (0.05 + sigma**2 / 16).sqrt()
        others = torch.sin(40 * x.flatten(1)[:, : WIDTH - 2])
        units = torch.cat([evidence[:, None], evidence[:, None], others], dim=1)
        turn = self.rotation(sigma)
        hidden = self.inner((units @ turn)[:, :, None, None])[:, :, 0, 0] @ turn.T
        return torch.tanh(hidden[:, 0])[:, None, None, None] * torch.ones(1, 1, 4, 4)


def scores(images):
    return {"sign": images.mean((1, 2, 3)), "texture": images[:, 0, 0, 0] - images[:, 0, 1, 1]}


def bank(levels):
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (600,), generator=g)
    images = (2.0 * labels - 1)[:, None, None, None] + 0.1 * torch.randn(600, 1, 4, 4, generator=g)
    return Bank(images, levels), labels.numpy()


def test_both_units_are_read_and_only_the_planted_one_moves_the_image():
    points, labels = bank([2.0])
    values = collect(Planted(), points, ["inner"]).at("inner", 0)
    units = torch.eye(WIDTH)
    planted, decoy, idle = (
        as_direction(units[k], values, site="inner", attribute="sign", method=name)
        for k, name in enumerate(("planted", "decoy", "idle"))
    )
    # a small step: a large one saturates the image whatever its direction, in six dimensions
    effect = steering_effect(Planted(), scores, seeds=SEEDS, strength=0.1, sampling=SAMPLING)
    table = compare_directions([planted, decoy, idle], values, labels, effect=effect, random=32).set_index("method")
    assert table.loc["planted", "auc"] == table.loc["decoy", "auc"] > 0.95 and table["reads_best"].sum() == 2
    assert table.index[table["moves"]].tolist() == table.index[table["moves_best"]].tolist() == ["planted"]
    assert table.loc["planted", "effect_low"] > 0.2
    assert (table.loc[["decoy", "idle"], "effect"] == 0).all() and table.loc["decoy", "degrees_to_mover"] == 90
    found = find_direction(values, labels, site="inner", attribute="sign")
    assert abs(float(found.unit[0] - found.unit[1])) < 1e-4  # no reading tells the two apart


def test_a_direction_that_turns_with_the_noise_level_must_be_carried_along():
    points, labels = bank(SIGMAS[:-1])
    denoiser = Planted(turning=True)
    found = collect(denoiser, points, ["inner"])
    start = directions_by_level(found, labels, site="inner", attribute="sign")[0]
    carried = {how: carry_direction(start, found, how=how, labels=labels) for how in ("same", "refit", "procrustes")}
    effect = transport_effect(denoiser, scores, target="sign", seeds=SEEDS, strength=0.5, sampling=SAMPLING)
    table = judge_transport(carried, effect=effect).set_index("transport")
    assert table.loc["refit", "low"] > 0.1
    assert table.loc["procrustes", "share"] > 0.9
    assert table.loc["same", "share_high"] < 0.9 and table.loc["same", "cosine"] < 0.8


def test_effects_do_not_depend_on_batches_and_bad_input_is_refused():
    points, labels = bank([2.0])
    values = collect(Planted(), points, ["inner"]).at("inner", 0)
    direction = find_direction(values, labels, site="inner", attribute="sign", sigma=2.0)
    whole, parts = (
        steering_effect(Planted(), scores, seeds=SEEDS, sampling=Sampling(sigmas=SIGMAS, batch=batch))(direction)
        for batch in (256, 7)
    )
    torch.testing.assert_close(whole["sign"], parts["sign"])
    with pytest.raises(InputError, match="positive"):
        steering_effect(Planted(), scores, seeds=SEEDS, strength=0.0)
    for seeds, words in ((range(4), "at least 8"), ([1] * 16, "all different")):
        with pytest.raises(InputError, match=words):
            steering_effect(Planted(), scores, seeds=seeds)
    with pytest.raises(InputError, match="a noise level in it"):  # it would be an effect of 0
        steering_effect(Planted(), scores, seeds=SEEDS, interval=(90.0, 100.0), sampling=SAMPLING)
    with pytest.raises(InputError, match="sign"):
        transport_effect(Planted(), scores, target="size", seeds=SEEDS, sampling=SAMPLING)([direction])
