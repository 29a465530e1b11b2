import pytest
import torch
from tests.token_denoisers import LinearDenoiser, small_unet, unet_points
from torch import nn

from scorescope.data.errors import InputError
from scorescope.probes.gradients.heads import attribute_score, guidance_energy, paired_loss, projection
from scorescope.probes.gradients.step import check_differentiable, make_step, same_noise


@pytest.fixture(scope="module")
def unet():
    return small_unet()


def guided(denoiser, x, labels, weight, sigma=1.0):
    level = torch.full((len(x),), sigma)
    null, cond = denoiser(x, level, None), denoiser(x, level, labels)
    return cond, null, null + weight * (cond - null)


def test_heads_are_what_they_say(unet):
    x, labels = unet_points()
    direction, noise = torch.randn(3, 8, 8), torch.randn(5, 3, 8, 8)
    cond, null, mixed = guided(unet, x, labels, 3.0)
    update = (mixed - null).flatten(1)
    along = torch.nn.functional.normalize(cond.flatten(1), dim=1)
    parallel = (update * along).sum(1, keepdim=True) * along
    expected = {
        projection(direction): (update * direction.flatten()).sum(1),
        guidance_energy("parallel"): parallel.square().sum(1),
        guidance_energy("orthogonal"): (update - parallel).square().sum(1),
        guidance_energy("total"): update.square().sum(1),
        attribute_score(lambda images: {"bright": images.mean((1, 2, 3))}, "bright"): mixed.mean((1, 2, 3)),
        paired_loss(noise): 0.5 * (noise - (x - mixed)).square().flatten(1).sum(1),
    }
    for head, value in expected.items():
        step = make_step(unet, x, 1.0, labels, head=head, weight=3.0)
        torch.testing.assert_close(step(), value.detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(step(x=x), step(), rtol=1e-4, atol=1e-5)  # D_u computed again at x


def test_rows_do_not_depend_on_the_batch_or_on_other_calls(unet):
    x, labels = unet_points()
    step = make_step(unet, x, 1.0, labels, head=projection(torch.ones(3, 8, 8)), weight=3.0)
    together = step()
    unet(torch.randn(2, 3, 8, 8), torch.full((2,), 7.0), labels[:2])
    for row in range(len(x)):
        alone = make_step(unet, x[row : row + 1], 1.0, labels[row : row + 1], head=step.head, weight=3.0)
        torch.testing.assert_close(alone(), together[row : row + 1], rtol=1e-5, atol=1e-5)
    assert all(parameter.grad is None for parameter in unet.parameters())


def test_detaching_the_axis_changes_the_gradient_and_not_the_value(unet):
    x, labels = unet_points()
    values, gradients = [], []
    for detach in (False, True):
        step = make_step(unet, x, 1.0, labels, head=guidance_energy(detach_axis=detach), weight=3.0)
        tokens = step.tokens.clone().requires_grad_()
        values.append(step(tokens))
        gradients.append(torch.autograd.grad(values[-1].sum(), tokens)[0])
    assert torch.equal(*values)
    assert not torch.allclose(*gradients, rtol=1e-2)


def test_a_site_can_be_replaced(unet):
    x, labels = unet_points()
    step = make_step(unet, x, 1.0, labels, head=projection(torch.ones(3, 8, 8)))
    from scorescope.probes.sites.modules import capture

    with capture(unet, ["network.middle1"]) as taken:
        unet(x, torch.ones(5), labels)
    same = step(site="network.middle1", activation=taken["network.middle1"])
    torch.testing.assert_close(same, step())
    with pytest.raises(InputError, match="activation"):
        step(site="network.middle1", activation=taken["network.middle1"][:, :3])
    with pytest.raises(InputError, match=r"network\.middle1"):
        step(site="network.midle1", activation=taken["network.middle1"])


def test_same_noise_keeps_the_noise():
    x0, other, noise = torch.randn(3, 2, 4)[:, :, :].unbind(0)
    torch.testing.assert_close(same_noise(x0 + 0.7 * noise, x0, other), other + 0.7 * noise)


def test_gradients_where_autograd_is_off(unet):
    x, labels = unet_points()
    step = make_step(unet, x, 1.0, labels, head=projection(torch.ones(3, 8, 8)))
    with torch.inference_mode(), pytest.raises(InputError, match="inference mode"):
        check_differentiable(step)
    with torch.no_grad(), pytest.raises(InputError, match="no_grad"):
        check_differentiable(step)
    for off in (torch.no_grad(), torch.inference_mode()):
        silent = make_step(off(unet), x, 1.0, unet.embed(labels), head=step.head, null=unet.embed(None, 5))
        with pytest.raises(InputError, match="no gradient"):
            check_differentiable(silent)


class Reused(nn.Module):
    """A module that is called twice in one pass."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x, sigma, condition):
        return self.layer(self.layer(x)) + condition.mean((1, 2))[:, None]


def test_bad_input(unet):
    x, labels = unet_points()
    head = projection(torch.ones(3, 8, 8))
    with pytest.raises(InputError, match="direction"):
        make_step(unet, x, 1.0, labels, head=projection(torch.ones(3, 8, 7)))
    with pytest.raises(InputError, match="sigma"):
        make_step(unet, x, 0.0, labels, head=head)
    with pytest.raises(InputError, match="condition"):
        make_step(unet, x, 1.0, unet.embed(labels[:2]), head=head)
    with pytest.raises(InputError, match="embed"):
        make_step(Reused(), torch.ones(2, 4), 1.0, labels, head=head)
    with pytest.raises(InputError, match="null"):
        make_step(Reused(), torch.ones(2, 4), 1.0, torch.ones(2, 1, 3), head=head)
    step = make_step(Reused(), torch.ones(2, 4), 1.0, torch.ones(2, 1, 3), head=projection(torch.ones(4)),
                     null=torch.zeros(1, 1, 3))  # fmt: skip
    with pytest.raises(InputError, match="twice"):
        step(site="layer", activation=torch.ones(2, 4))
    with pytest.raises(InputError, match="component"):
        guidance_energy("sideways")
    with pytest.raises(InputError, match="bright"):
        make_step(unet, x, 1.0, labels, head=attribute_score(lambda images: {"bright": images}, "dark"))()


def test_a_denoiser_that_draws_noise_is_refused():
    denoiser = LinearDenoiser()
    x = torch.randn(2, 7, dtype=torch.float64)
    noisy = lambda x, sigma, tokens: denoiser(x, sigma, tokens) + torch.randn_like(x)  # noqa: E731
    with pytest.raises(InputError, match="differ for the same arguments"):
        make_step(noisy, x, 1.0, torch.ones(2, 2, 3), head=projection(torch.ones(7)), null=torch.zeros(1, 2, 3))
