"""Carried directions between levels that are known maps of each other."""

import numpy as np
import pytest
import torch

from scorescope.analysis.directions.carrying import carry_direction, jacobian_carry, judge_transport, level_intervals
from scorescope.analysis.directions.finding import find_direction
from scorescope.data.errors import InputError
from scorescope.probes.activations.activations import Activations
from scorescope.probes.sites.direction import Direction

WIDTH, N = 10, 4000


def paired(transform):
    """Level 0 with a class along its first axis; level 1 is a linear map of it, up to a little noise."""
    g = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, (N,), generator=g)
    h = torch.randn(N, WIDTH, generator=g) * torch.linspace(0.5, 1.5, WIDTH)
    h[:, 0] += 2.0 * y - 1
    other = h @ transform + 0.01 * torch.randn(N, WIDTH, generator=g) + 3
    levels = Activations({"h": torch.stack([h, other])}, (4.0, 1.0), torch.arange(N), {"h": "mean"})
    return levels, y.numpy(), find_direction(h, y, site="h", attribute="y", sigma=4.0)


def rotation(seed=0):
    return torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(seed)))[0]


def cosine(direction, vector):
    return float(torch.nn.functional.cosine_similarity(direction.vector, vector, dim=0))


def test_a_rotation_is_followed_by_procrustes_least_squares_and_a_refit_but_not_by_the_same_vector():
    turn = rotation()
    levels, y, direction = paired(turn)
    goal = direction.vector @ turn
    carried = {
        how: carry_direction(direction, levels, how=how, labels=y)
        for how in ("same", "refit", "procrustes", "least_squares")
    }
    for how in ("refit", "procrustes", "least_squares"):
        assert cosine(carried[how][1], goal) > 0.995, how
        assert cosine(carried[how][0], direction.vector) > 0.995
    assert abs(cosine(carried["same"][1], goal)) < 0.7
    assert [d.sigma for d in carried["same"]] == [4.0, 1.0]
    for how, directions in carried.items():
        own = levels.at("h", 1) @ directions[1].unit
        assert directions[1].scale == pytest.approx(float(own.std(correction=0)), rel=1e-4), how


def test_a_shear_is_followed_by_least_squares_only():
    shear = torch.eye(WIDTH)
    shear[0, 1] = 2.0
    levels, _, direction = paired(shear)
    goal = direction.vector @ shear
    assert cosine(carry_direction(direction, levels, how="least_squares", ridge=1e-6)[1], goal) > 0.999
    assert cosine(carry_direction(direction, levels, how="procrustes")[1], goal) < 0.996


def test_no_way_but_a_refit_looks_at_labels_so_that_all_can_be_compared():
    """The next level is the reverse: the vector itself ends on the wrong side, and maps of paired rows on the right."""
    levels, y, direction = paired(-torch.eye(WIDTH))
    goal = -direction.vector
    for how, side in (("same", -1), ("refit", 1), ("procrustes", 1), ("least_squares", 1)):
        found = carry_direction(direction, levels, how=how, labels=y)[1]
        assert side * cosine(found, goal) > 0.99, how


def test_a_given_map_is_used_as_it_is_also_where_it_reverses():
    turn = rotation()
    levels, y, direction = paired(turn)
    maps = {4.0: torch.eye(WIDTH), 1.0: -turn}
    found = carry_direction(direction, levels, how="given", labels=y, carry=lambda d, sigma: d.vector @ maps[sigma])
    assert cosine(found[1], -direction.vector @ turn) > 0.999 and found[1].method == "difference, given"


def test_the_judge_is_the_effect():
    levels, y, direction = paired(rotation())
    carried = {how: carry_direction(direction, levels, how=how, labels=y) for how in ("same", "refit", "procrustes")}
    goal = carried["refit"][1].unit

    def steer(directions):
        noise = torch.randn(200, generator=torch.Generator().manual_seed(0))
        return 2 * float(directions[1].unit @ goal) + 0.1 * noise

    table = judge_transport(carried, effect=steer).set_index("transport")
    assert table.loc["refit", "share"] == 1 and table.loc["procrustes", "share_low"] > 0.9
    assert table.loc["same", "share_high"] < 0.8
    assert table.loc["procrustes", "cosine"] > 0.99 > table.loc["same", "cosine"]
    weak = judge_transport(carried, effect=lambda d: torch.randn(50, generator=torch.Generator().manual_seed(1)))
    assert weak["share"].isna().all()


def test_intervals_cover_all_noise_levels_once():
    directions = [Direction(torch.ones(2), "h", "y", "m", 1.0, sigma=sigma) for sigma in (4.0, 1.0, 0.25)]
    found = level_intervals(directions)
    assert [(d.sigma, low, high) for d, low, high in found] == [
        (0.25, 0.0, 0.5),
        (1.0, 0.5, 2.0),
        (4.0, 2.0, np.inf),
    ]
    with pytest.raises(InputError, match="a different one"):
        level_intervals([directions[0], directions[0]])


def test_bad_input():
    levels, _, direction = paired(rotation())
    lost = Direction(direction.vector, "h", "y", "m", 1.0)
    wide = Direction(torch.ones(3), "h", "y", "m", 1.0, sigma=4.0)
    for given, options, text in (
        (direction, {"how": "jacobian"}, "same, refit"),
        (direction, {"how": "refit"}, "to refit"),
        (direction, {"how": "given"}, "a callable"),
        (lost, {"how": "same"}, "where to carry it from"),
        (wide, {"how": "same"}, "3 numbers"),
    ):
        with pytest.raises(InputError, match=text):
            carry_direction(given, levels, **options)
    carried = {"same": carry_direction(direction, levels, how="same")}
    with pytest.raises(InputError, match="one of same"):
        judge_transport(carried, effect=lambda d: torch.ones(5))
    with pytest.raises(InputError, match="one finite number"):
        judge_transport(carried, effect=lambda d: torch.ones(5, 2), reference="same")


class Mixing(torch.nn.Module):
    """A site that is a linear map of the channels of x, the same at every noise level."""

    def __init__(self, weight):
        super().__init__()
        self.site = torch.nn.Conv2d(3, 3, 1, bias=False)
        self.site.weight.data.copy_(weight[:, :, None, None])

    def embed(self, condition, batch=None):
        return torch.zeros(batch, 1, 2)

    def forward(self, x, sigma, condition):
        return x - 0.1 * self.site(x)


def test_carrying_by_jacobians_equals_the_linear_map_and_does_not_depend_on_batches():
    weight = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, 0.2], [0.3, 0.0, 1.0]])
    denoiser = Mixing(weight)
    images = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    direction = Direction(torch.tensor([1.0, -2.0, 0.5]), "site", "a", "difference", 1.0, sigma=0.7)
    found = jacobian_carry(denoiser, images)(direction, 3.0)
    expected = weight @ weight.T @ direction.vector  # J' J^T v, with J = J' = W at every position
    assert torch.nn.functional.cosine_similarity(found.float(), expected, dim=0) > 1 - 1e-5  # float32
    assert abs(float(found.norm()) - float(direction.vector.norm())) < 1e-5
    one_by_one = jacobian_carry(denoiser, images, batch=1)(direction, 3.0)
    assert torch.allclose(found, one_by_one, atol=1e-5)
