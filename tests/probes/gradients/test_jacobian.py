import pytest
import torch
from tests.probes.gradients.test_step import Reused
from tests.token_denoisers import LinearDenoiser, small_unet, unet_points
from torch import nn

from scorescope.data.errors import InputError
from scorescope.probes.gradients.jacobian import jacobian_directions, transport_direction
from scorescope.probes.gradients.jacobian_products import pull_back, push_forward
from scorescope.probes.sites.modules import capture


def linear(count=3):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 7, generator=generator, dtype=torch.float64)
    return LinearDenoiser(), x, torch.randn(count, 2, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("of", "to"), [("denoised", "x"), ("denoised", "tokens"), ("b", "tokens"), ("denoised", "a")])
def test_a_linear_denoiser_has_the_singular_vectors_of_its_matrix(of, to):
    denoiser, x, tokens = linear()
    matrix = {"x": denoiser.a.weight, "tokens": denoiser.b.weight, "a": torch.eye(7, dtype=torch.float64)}[to].detach()
    found = jacobian_directions(denoiser, x, 0.5, tokens, of=of, to=to, count=3, tolerance=1e-9, iterations=500)
    left, values, right = torch.linalg.svd(matrix)
    assert found.converged.all()
    torch.testing.assert_close(found.values, values[:3].expand(3, 3), rtol=1e-8, atol=1e-9)
    if to != "a":  # all singular values of the identity are the same
        overlap = (found.right.flatten(2) * right[:3]).sum(2).abs()
        torch.testing.assert_close(overlap, torch.ones_like(overlap), rtol=1e-8, atol=1e-8)
        overlap = (found.left.flatten(2) * left.T[:3]).sum(2).abs()
        torch.testing.assert_close(overlap, torch.ones_like(overlap), rtol=1e-8, atol=1e-8)
    # signs of left and right belong together
    torch.testing.assert_close(found.right.flatten(2) @ matrix.T, found.values[..., None] * found.left.flatten(2))


def test_a_mask_counts_only_what_it_covers():
    denoiser, x, tokens = linear()
    mask = torch.tensor([1.0, 1, 0, 0, 0, 0, 0], dtype=torch.float64)
    found = jacobian_directions(denoiser, x, 0.5, tokens, count=2, mask=mask, tolerance=1e-9, iterations=500)
    values = torch.linalg.svdvals(mask[:, None] * denoiser.a.weight.detach())[:2]
    torch.testing.assert_close(found.values, values.expand(3, 2))


@pytest.mark.parametrize(
    ("of", "to"), [("network.attention", "x"), ("denoised", "tokens"), ("denoised", "network.middle1")]
)
def test_products_are_those_of_finite_differences_and_of_each_other(of, to):
    denoiser = small_unet().double()
    x, labels = unet_points(2)
    x, tokens = x.double(), denoiser.embed(labels).detach()
    sizes = {"x": (2, 3, 8, 8), "tokens": (2, 3, 12), "network.middle1": (2, 16)}
    vector = torch.randn(sizes[to], dtype=torch.float64)
    pushed = push_forward(denoiser, x, 1.0, tokens, vector, of=of, to=to)

    def value(step):
        site = of if of != "denoised" else "network.last"
        hook = None
        if to == "network.middle1":
            shift = step * vector[:, :, None, None]
            hook = denoiser.network.middle1.register_forward_hook(lambda module, inputs, output: output + shift)
        with capture(denoiser, [site]) as taken, torch.no_grad():
            moved_x = x + step * vector if to == "x" else x
            moved = denoiser(moved_x, torch.ones(2).double(), tokens + step * vector if to == "tokens" else tokens)
        if hook is not None:
            hook.remove()
        return moved if of == "denoised" else taken[site]

    numeric = (value(1e-5) - value(-1e-5)) / 2e-5
    torch.testing.assert_close(pushed, numeric, rtol=1e-5, atol=1e-7)
    other = torch.randn_like(pushed)
    pulled = pull_back(denoiser, x, 1.0, tokens, other, of=of, to=to)
    assert float((pulled * vector).sum()) == pytest.approx(float((pushed * other).sum()), rel=1e-9)


def test_batches_and_other_calls_do_not_change_directions():
    denoiser = small_unet()
    x, labels = unet_points()
    options = {"of": "network.middle1", "to": "tokens", "count": 2, "mean": True}
    whole = jacobian_directions(denoiser, x, 1.0, labels, **options)
    denoiser(x, torch.full((5,), 3.0), None)
    with capture(denoiser, ["network.middle2"]):
        parts = jacobian_directions(denoiser, x, 1.0, labels, batch=2, **options)
    assert torch.equal(whole.iterations, parts.iterations) and whole.converged.all()
    torch.testing.assert_close(whole.values, parts.values, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(whole.right, parts.right, rtol=1e-3, atol=1e-3)
    assert whole.left.shape == (5, 2, 16) and not whole.right.requires_grad
    assert all(parameter.grad is None for parameter in denoiser.parameters())


def test_transport_between_rotated_denoisers_is_the_rotation():
    # D = Q A R x: with another R, the same effect at the output is caused from rotated directions
    denoiser, x, tokens = linear(1)
    turned = LinearDenoiser()
    rotation = torch.linalg.qr(torch.randn(7, 7, generator=torch.Generator().manual_seed(4), dtype=torch.float64))[0]
    turned.a.weight.data = denoiser.a.weight.data @ rotation
    options = {"count": 7, "spare": 0, "tolerance": 1e-8, "iterations": 1000}
    source, goal = (jacobian_directions(d, x, 0.5, tokens, **options) for d in (denoiser, turned))
    vector = source.right[0, 1]
    moved = transport_direction(vector, source, goal)
    assert float((moved.vector[0] * (rotation.T @ vector)).sum()) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(moved.kept, torch.ones(1, dtype=torch.float64))
    back = transport_direction(moved.vector[0], goal, source)
    assert float((back.vector[0] * vector).sum()) == pytest.approx(1, abs=1e-6)
    # one goal for several samples
    many = jacobian_directions(denoiser, x.repeat(3, 1), 0.5, tokens.repeat(3, 1, 1), **options)
    both = transport_direction(vector, many, goal)
    torch.testing.assert_close(both.vector, moved.vector.expand(3, 7))
    torch.testing.assert_close(both.kept, torch.ones(3, dtype=torch.float64))
    # what the goal's few left vectors do not hold is reported as lost
    few = jacobian_directions(turned, x, 0.5, tokens, count=1, tolerance=1e-8, iterations=1000)
    assert float(transport_direction(vector, source, few).kept) < 1e-8


def test_bad_input():
    denoiser, x, tokens = linear()
    with pytest.raises(InputError, match="vector"):
        push_forward(denoiser, x, 0.5, tokens, torch.ones(6))
    with pytest.raises(InputError, match="such as a"):
        jacobian_directions(denoiser, x, 0.5, tokens, of="aa")
    with pytest.raises(InputError, match="smaller"):
        jacobian_directions(denoiser, x, 0.5, tokens, count=8)
    with pytest.raises(InputError, match="sigma"):
        jacobian_directions(denoiser, x, 0.0, tokens)
    with pytest.raises(InputError, match="zeros"):
        jacobian_directions(denoiser, x, 0.5, tokens, of="b", to="x")
    with torch.inference_mode(), pytest.raises(InputError, match="inference mode"):
        jacobian_directions(denoiser, x, 0.5, tokens)
    with torch.no_grad(), pytest.raises(InputError, match="no_grad"):
        jacobian_directions(denoiser, x, 0.5, tokens)
    with pytest.raises(InputError, match="twice"):
        jacobian_directions(Reused(), torch.ones(1, 4), 0.5, torch.ones(1, 1, 3), of="layer", count=1)
    with pytest.raises(InputError, match="compiled"):
        jacobian_directions(torch.compile(nn.Linear(2, 2), backend="eager"), x, 0.5, tokens)
    source = jacobian_directions(denoiser, x, 0.5, tokens, count=1)
    with pytest.raises(InputError, match="same output"):
        transport_direction(x[0], source, jacobian_directions(denoiser, x, 0.5, tokens, to="tokens", count=1))
