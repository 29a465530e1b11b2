import numpy as np
import pytest
import torch
from tests.token_denoisers import SIZES, LinearDenoiser, small_unet

from scorescope.analysis.directions.token_directions import label_pairs, linearity_gap, token_direction
from scorescope.data.errors import InputError
from scorescope.probes.bank.points import Bank
from scorescope.probes.sites.direction import Direction
from scorescope.probes.sites.modules import capture


def linear_case(count=6):
    """Pairs whose differences scatter, so that the mean difference, the best direction and each pair's all differ."""
    generator = torch.Generator().manual_seed(2)
    minus = torch.randn(count, 2, 3, generator=generator, dtype=torch.float64)
    plus = minus.clone()
    plus[:, 1] += torch.tensor([1.0, -2.0, 0.5]) + 0.3 * torch.randn(count, 3, generator=generator, dtype=torch.float64)
    plus[:, 0] += 0.2 * torch.randn(count, 3, generator=generator, dtype=torch.float64)
    bank = Bank(torch.randn(count, 7, generator=generator, dtype=torch.float64), sigmas=(4.0, 0.5), draws=2)
    return LinearDenoiser(), plus, minus, bank


@pytest.mark.parametrize("space", ["denoised", "eps", "v"])
@pytest.mark.parametrize("method", ["learned", "linearised"])
def test_a_linear_denoiser_has_the_least_squares_direction(method, space):
    denoiser, plus, minus, bank = linear_case()
    matrix = denoiser.b.weight.detach()
    delta = ((plus - minus).flatten(1) @ matrix.T).mean(0)
    closed = torch.linalg.lstsq(matrix[:, 3:], delta[:, None]).solution[:, 0]
    found = token_direction(denoiser, plus, minus, method=method, tokens=[1], bank=bank, space=space,
                            tolerance=1e-9, iterations=100)  # fmt: skip
    torch.testing.assert_close(found.direction.vector, closed, rtol=1e-6, atol=1e-7)
    assert found.direction.site == "condition.1" and found.error < 1e-8 and found.iterations > 0
    # the loss that is left, in closed form: the part of each pair's delta that the direction does not make
    left = (plus - minus).flatten(1) @ matrix.T - matrix[:, 3:] @ closed
    factor = {"denoised": [1, 1], "eps": [1 / 16, 4], "v": [17 / 16, 5]}[space]
    expected = np.array(factor) * float(left.square().sum(1).mean()) / 7 * np.mean([1, 0.25, 0.25, 1])
    assert found.losses["loss"].to_numpy() == pytest.approx(expected, rel=1e-6)
    assert (found.losses["low"] <= found.losses["loss"]).all() and (found.losses["loss"] <= found.losses["high"]).all()


def test_the_difference_is_the_mean_over_pairs_and_subject_tokens():
    denoiser, plus, minus, _ = linear_case()
    found = token_direction(denoiser, plus, minus, attribute="age")
    torch.testing.assert_close(found.direction.vector, (plus - minus).mean((0, 1)))
    assert found.losses is None and found.direction.site == "condition" and found.direction.attribute == "age"
    mask = torch.zeros(6, 2, dtype=torch.bool)
    mask[:3, 0], mask[3:, 1] = True, True
    rows = torch.cat([(plus - minus)[:3, 0], (plus - minus)[3:, 1]])
    torch.testing.assert_close(token_direction(denoiser, plus, minus, tokens=mask).direction.vector, rows.mean(0))


def test_the_gap_of_a_linear_denoiser_is_zero_and_that_of_half_a_direction_a_half():
    denoiser, _, minus, bank = linear_case()
    vector = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    plus = minus.clone()
    plus[:, 1] += vector
    exact = token_direction(denoiser, plus, minus, tokens=[1], bank=bank)
    torch.testing.assert_close(exact.direction.vector, vector)
    assert exact.losses["relative"].max() < 1e-20
    half = Direction(1.5 * vector, "condition.1", "", "made", scale=float(vector.norm()))
    table = linearity_gap(denoiser, {"exact": exact.direction, "made": half}, bank, plus, minus, tokens=[1])
    gap = table.set_index("direction")["gap"]
    assert gap["exact"].max() < 1e-12
    np.testing.assert_allclose(gap["made"], 0.5, rtol=1e-9)  # 1.5 of it for each multiple of the difference
    assert len(table) == 2 * 2 * 4 and (table["n"] == 6).all()
    np.testing.assert_allclose(table[table["direction"] == "made"]["multiple"], np.array([-2, -1, 1, 2] * 2) / 1.5)
    assert (table["log_snr"] == -2 * np.log(table["sigma"])).all()


def unet_case(count=8):
    generator = torch.Generator().manual_seed(0)
    labels = torch.stack([torch.randint(0, size, (count,), generator=generator) for size in SIZES], 1)
    plus, minus = label_pairs(labels, 1, 3, 0)
    bank = Bank(torch.randn(count, 3, 8, 8, generator=generator) * 0.5, sigmas=(2.0, 0.5))
    return small_unet(), plus, minus, bank


def test_on_a_network_learning_beats_the_difference_and_embedding_pairs_are_their_labels():
    unet, plus, minus, bank = unet_case()
    assert torch.equal(plus[:, [0, 2]], minus[:, [0, 2]]) and (plus[:, 1] == 3).all() and (minus[:, 1] == 0).all()
    found = {
        method: token_direction(unet, plus, minus, method=method, tokens=[1], bank=bank, iterations=8)
        for method in ("difference", "learned", "linearised")
    }
    table = unet.network.attribute_embedding.table.weight.detach()
    torch.testing.assert_close(found["difference"].direction.vector, table[4 + 3] - table[4 + 0])
    loss = {method: each.losses["loss"].sum() for method, each in found.items()}
    assert loss["learned"] < loss["difference"]
    gaps = linearity_gap(unet, {name: each.direction for name, each in found.items()}, bank, plus, minus, tokens=[1],
                         strengths=(0.01,))  # fmt: skip
    # to first order nothing does better than the linearised direction, over both levels together
    gaps["weight"] = gaps["gap"] ** 2
    first = gaps.groupby("direction")["weight"].mean()
    assert first["linearised"] < first["difference"]
    assert (gaps["low"] <= gaps["gap"]).all() and (gaps["gap"] <= gaps["high"]).all()
    assert all(parameter.grad is None for parameter in unet.parameters())


def test_batches_and_other_calls_do_not_change_results():
    unet, plus, minus, bank = unet_case()
    options = {"method": "linearised", "tokens": [1], "bank": bank, "iterations": 4}
    whole = token_direction(unet, plus, minus, **options)
    unet(torch.zeros(2, 3, 8, 8), torch.full((2,), 5.0), None)
    with capture(unet, ["network.middle1"]):
        parts = token_direction(unet, plus, minus, batch=3, **options)
    torch.testing.assert_close(whole.direction.vector, parts.direction.vector, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(whole.losses["loss"], parts.losses["loss"], rtol=1e-3)


def test_bad_input():
    denoiser, plus, minus, bank = linear_case()
    good = Direction(torch.ones(3), "condition", "", "made", scale=1.0)
    with pytest.raises(InputError, match="equal conditions"):
        token_direction(denoiser, plus, plus)
    with pytest.raises(InputError, match="bank"):
        token_direction(denoiser, plus, minus, method="learned")
    with pytest.raises(InputError, match="method"):
        token_direction(denoiser, plus, minus, method="guessed")
    with pytest.raises(InputError, match="pairs"):
        token_direction(denoiser, plus[:3], minus[:3], bank=bank)
    with pytest.raises(InputError, match="space"):
        token_direction(denoiser, plus, minus, bank=bank, space="pixels")
    with pytest.raises(InputError, match="rows"):
        token_direction(denoiser, plus, minus[:2])
    with torch.inference_mode(), pytest.raises(InputError, match="inference mode"):
        token_direction(denoiser, plus, minus, method="learned", bank=bank)
    with torch.no_grad(), pytest.raises(InputError, match="no_grad"):
        token_direction(denoiser, plus, minus, method="linearised", bank=bank)
    with pytest.raises(InputError, match="strengths"):
        linearity_gap(denoiser, {"a": good}, bank, plus, minus, strengths=(0.0, 1.0))
    with pytest.raises(InputError, match="direction"):
        linearity_gap(denoiser, {"a": Direction(torch.ones(4), "condition", "", "", 1.0)}, bank, plus, minus)
    with pytest.raises(InputError, match="site"):
        linearity_gap(denoiser, {"a": Direction(torch.ones(3), "a", "", "", 1.0)}, bank, plus, minus)
    with pytest.raises(InputError, match="labels"):
        label_pairs(torch.zeros(4, dtype=torch.int64), 1, 0, 1)
