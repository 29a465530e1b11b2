import numpy as np
import pytest
import torch
from tests.mixtures import draw_labelled

from scorescope.data import InputError
from scorescope.data.unet import EDMDenoiser, UNetConfig
from scorescope.probes import Bank, log_snr_grid
from scorescope.probes.bank import Arm, compare_arms
from scorescope.probes.sites.modules import capture

SIZES = (4, 3)


def network(seed=0):
    torch.manual_seed(seed)
    made = EDMDenoiser(UNetConfig(shape=(2, 8, 8), channels=(8, 8), attributes=SIZES), 0.5)
    with torch.no_grad():  # fresh networks start with layers of zeros
        for weight in made.parameters():
            weight.add_(0.1 * torch.randn(weight.shape))
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def setting():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(10, 2, 8, 8, generator=generator)
    labels = torch.stack([torch.randint(size, (10,), generator=generator) for size in SIZES], 1)
    return network(), Bank(images, log_snr_grid(-4, 4, 4), draws=2, seed=3), labels


def arms_of(denoiser, labels):
    return [
        Arm("none", denoiser),
        Arm("labels", denoiser, labels),
        Arm("one row", denoiser, torch.tensor([[1, 2]])),
        Arm("tokens", denoiser, denoiser.embed(labels).detach()),
        Arm("other network", network(seed=5), labels),
    ]


def test_sums_equal_a_plain_loop(setting):
    denoiser, bank, labels = setting
    arms = arms_of(denoiser, labels)
    pairs = [("none", "labels"), ("labels", "other network")]
    weights = [0.5, 1.0, 2.0, 0.25]
    found = compare_arms(bank, arms, pairs=pairs, map_weights=weights, batch=7)
    losses, distances, maps = np.zeros((5, 10, 4)), np.zeros((2, 10, 4)), np.zeros((2, 2, 10, 8, 8))
    with torch.no_grad():
        for point in bank.points(batch=10):
            said = {}
            for k, arm in enumerate(arms):
                condition = arm.condition.expand(10, -1) if arm.name == "one row" else arm.condition
                said[arm.name] = arm.denoiser(point.x, point.sigma, condition).double()
                losses[k, :, point.level] += (said[arm.name] - point.x0).square().sum((1, 2, 3)).numpy() / 2
            for k, (a, b) in enumerate(pairs):
                distances[k, :, point.level] += (said[a] - said[b]).square().sum((1, 2, 3)).numpy() / 2
                scale = weights[point.level] / bank.sigmas[point.level] ** 2 / 2
                apart = (said[a] - point.x0).square() - (said[b] - point.x0).square()
                maps[0, k] += scale * apart.sum(1).numpy()
                maps[1, k] += scale * (said[a] - said[b]).square().sum(1).numpy()
    # float32 networks in batches of different sizes round differently
    np.testing.assert_allclose(found.losses, losses, rtol=1e-5)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-4)
    np.testing.assert_allclose(found.difference_maps, maps[0], atol=1e-4)
    np.testing.assert_allclose(found.distance_maps, maps[1], rtol=1e-4, atol=1e-6)
    for k, (a, b) in enumerate(pairs):
        np.testing.assert_allclose(found.difference_maps[k].sum((1, 2)), found.difference(a, b) @ weights, atol=1e-9)
        np.testing.assert_allclose(found.distance_maps[k].sum((1, 2)), found.distance(a, b) @ weights, rtol=1e-9)


def test_spaces_and_the_eps_identity(setting):
    denoiser, bank, labels = setting
    found = compare_arms(bank, [Arm("none", denoiser), Arm("labels", denoiser, labels)])
    by_hand = np.zeros((10, 4))
    with torch.no_grad():
        for point in bank.points():
            eps = (point.x - denoiser(point.x, point.sigma, labels)) / point.sigma[:, None, None, None]
            by_hand[:, point.level] += (eps - point.noise).square().sum((1, 2, 3)).numpy() / 2
    # eps from x is a float32 difference of large numbers at low noise
    np.testing.assert_allclose(found.loss("labels"), by_hand, rtol=1e-3)
    np.testing.assert_allclose(found.loss("labels") * found.sigmas**2, found.loss("labels", space="denoised"))


def test_standard_errors_over_draws(setting):
    denoiser, bank, labels = setting
    arms = [Arm("none", denoiser), Arm("labels", denoiser, labels)]
    both = compare_arms(bank, arms)
    single = []
    for draw in range(2):
        values = np.zeros((10, 4))
        with torch.no_grad():
            for level in range(4):
                point = bank.point(torch.arange(10), level, draw)
                loss = [
                    (denoiser(point.x, point.sigma, c) - point.x0).double().square().sum((1, 2, 3)).numpy()
                    for c in (None, labels)
                ]
                values[:, level] = (loss[0] - loss[1]) / bank.sigmas[level] ** 2
        single.append(values)
    expected = np.std(single, axis=0, ddof=1) / np.sqrt(2)
    np.testing.assert_allclose(both.difference_error("none", "labels"), expected, rtol=1e-2, atol=1e-3)
    alone = compare_arms(Bank(bank.x0, bank.sigmas), arms)
    assert np.isnan(alone.difference_error("none", "labels")).all()


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_batches_do_not_matter(setting, batch):
    denoiser, bank, labels = setting
    whole, parts = (compare_arms(bank, arms_of(denoiser, labels), batch=size) for size in (1000, batch))
    np.testing.assert_allclose(parts.losses, whole.losses, rtol=1e-5)
    np.testing.assert_allclose(parts.distances, whole.distances, rtol=1e-4)


def test_exactly_equal_over_batches_where_the_denoiser_is():
    known = draw_labelled(12)
    bank = Bank(known.images, log_snr_grid(-3, 3, 3), draws=2)

    def rowwise(x, sigma, condition):
        shift = 0 if condition is None else condition[:, None]
        return x / (1 + sigma[:, None] ** 2) + shift

    arms = [Arm("a", rowwise), Arm("b", rowwise, known.labels.double())]
    whole, parts = (compare_arms(bank, arms, batch=size) for size in (64, 1))
    assert (whole.losses == parts.losses).all() and (whole.distances == parts.distances).all()


def test_rows_keep_their_noise_and_condition(setting):
    denoiser, bank, labels = setting
    rows = torch.tensor([7, 2])
    arms = arms_of(denoiser, labels)
    whole, some = compare_arms(bank, arms), compare_arms(bank, arms, rows=rows)
    np.testing.assert_allclose(some.losses, whole.losses[:, [7, 2]], rtol=1e-5)
    assert some.rows.tolist() == [7, 2]


def test_other_calls_and_recording_do_not_matter(setting):
    denoiser, bank, labels = setting
    arms = arms_of(denoiser, labels)
    before = compare_arms(bank, arms)
    torch.randn(100)
    compare_arms(Bank(bank.x0, [1.0], seed=9), arms[:1])
    with capture(denoiser, ["network.first"]):
        after = compare_arms(bank, arms)
    assert (before.losses == after.losses).all() and (before.distances == after.distances).all()


def test_calls_are_joined_and_bounded(setting):
    _, bank, labels = setting
    seen = []

    def counted(x, sigma, condition):
        seen.append(len(x))
        return x / 2

    arms = [Arm(str(k), counted, labels + 0 * k) for k in range(4)] + [Arm("none", counted), Arm("again", counted)]
    compare_arms(bank, arms, batch=12)
    points = 4 * 2 * 5  # levels, draws, chunks of two images
    assert len(seen) == 2 * points  # one call for all conditions, one for the unconditional branch
    assert sorted(set(seen)) == [2, 8]
    seen.clear()
    compare_arms(bank, arms, batch=2)  # fewer than there are arms
    assert max(seen) == 2


def test_conditions_of_other_kinds():
    images = torch.zeros(3, 2)

    def by_dict(x, sigma, condition):
        return condition["a"][:, None] + x * 0

    def by_list(x, sigma, condition):
        return torch.tensor([float(len(text)) for text in condition])[:, None] + x * 0

    values = torch.arange(3.0)
    arms = [Arm("dict", by_dict, {"a": values}), Arm("twice", by_dict, {"a": 2 * values})]
    arms += [Arm("list", by_list, ["", "x", "xx"]), Arm("text", by_list, ["x"])]
    found = compare_arms(Bank(images, [1.0]), arms)
    assert found.losses[:, :, 0].tolist() == [[0, 2, 8], [0, 8, 32], [0, 2, 8], [2, 2, 2]]


def test_bad_input(setting):
    denoiser, bank, labels = setting
    one = Arm("a", denoiser, labels)
    with pytest.raises(InputError, match="different names"):
        compare_arms(bank, [one, one])
    with pytest.raises(InputError, match="arms \\['z'\\]"):
        compare_arms(bank, [one], pairs=[("a", "z")])
    with pytest.raises(InputError, match="3 rows for 10 images"):
        compare_arms(bank, [Arm("a", denoiser, labels[:3])])
    with pytest.raises(InputError, match="map_weights"):
        compare_arms(bank, [one], map_weights=[1.0])
    for rows in (torch.tensor([0, 10]), torch.tensor([1, 1]), torch.tensor([])):
        with pytest.raises(InputError, match="rows"):
            compare_arms(bank, [one], rows=rows)
    with pytest.raises(InputError, match="shape"):
        compare_arms(bank, [Arm("a", lambda x, sigma, c: x[:, :1])])
    broken = Arm("broken", lambda x, sigma, c: torch.where(x > 2.5, torch.nan, x))
    with pytest.raises(InputError, match=r"denoiser \(broken\).*not finite"):
        compare_arms(bank, [one, broken])
    found = compare_arms(bank, [one])
    with pytest.raises(InputError, match="arm"):
        found.loss("b")
    with pytest.raises(InputError, match="pair"):
        found.distance("a", "b")
