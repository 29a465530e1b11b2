import pytest
import torch
from tests.token_denoisers import small_unet, unet_points

from scorescope.data.errors import InputError
from scorescope.probes.sampling.sample import sample
from scorescope.probes.sampling.solvers import Euler
from scorescope.probes.sites.direction import Direction
from scorescope.probes.sites.tokens import subject_tokens, token_mask, with_tokens


def direction(site="condition.1", width=12):
    return Direction(torch.arange(1.0, width + 1), site, "size", "difference", scale=2.0)


def test_the_shift_is_strength_scales_at_the_named_token_within_the_interval():
    unet = small_unet()
    x, labels = unet_points()
    shifted = with_tokens(unet, direction(), 1.5, sigma=(0.1, 2.0))
    sigma = torch.tensor([0.05, 0.1, 1.0, 2.0, 3.0])
    tokens = unet.embed(labels).detach()
    tokens[2:4, 1] += 1.5 * 2.0 * direction().unit
    torch.testing.assert_close(shifted(x, sigma, labels), unet(x, sigma, tokens))
    assert torch.equal(shifted(x, sigma, None), unet(x, sigma, None))
    everywhere = with_tokens(unet, direction("condition"), 1.0, tokens=torch.tensor([True, False, True]))
    tokens = unet.embed(labels).detach() + 2.0 * direction().unit * torch.tensor([1.0, 0, 1])[:, None]
    torch.testing.assert_close(everywhere(x, sigma, labels), unet(x, sigma, tokens))
    by_row = torch.tensor([[True, False, False]] * 2 + [[False, True, True]] * 3)
    some = with_tokens(unet, direction("condition"), 1.0, tokens=by_row)
    tokens = unet.embed(labels).detach() + 2.0 * direction().unit * by_row[:, :, None]
    torch.testing.assert_close(some(x, sigma, labels), unet(x, sigma, tokens))
    assert some.shape == unet.shape and torch.equal(some(x, sigma, None), unet(x, sigma, None))


def test_delayed_application_shares_the_path_above_the_level():
    unet = small_unet()
    _, labels = unet_points(2)
    sigmas = [8.0, 4.0, 1.0, 0.2, 0.0]
    runs = [
        sample(d, seeds=[0, 1], condition=labels, sigmas=sigmas, solver=Euler(), progress=False).samples
        for d in (unet, with_tokens(unet, direction(), 3.0, sigma=(0.0, 0.1)), with_tokens(unet, direction(), 3.0))
    ]
    assert torch.equal(runs[0], runs[1])  # no call at or below 0.1
    assert not torch.allclose(runs[0], runs[2], atol=1e-3)


def test_subject_tokens_by_characters():
    prompt = "a Man and a snowman, a man"
    offsets = [(0, 0), (0, 1), (2, 5), (6, 9), (10, 11), (12, 16), (16, 19), (19, 20), (21, 22), (23, 24), (24, 26)]
    assert subject_tokens(prompt, "man", offsets) == [2, 9, 10]
    assert subject_tokens(prompt, "man", offsets, last=True) == [2, 10]
    assert subject_tokens(prompt, "snowman", offsets) == [5, 6]
    with pytest.raises(InputError, match="woman"):
        subject_tokens(prompt, "woman", offsets)


def test_bad_input():
    unet = small_unet()
    x, labels = unet_points()
    with pytest.raises(InputError, match="site"):
        with_tokens(unet, direction("network.middle1"), 1.0)
    for sigma in ((2.0, 1.0), (1.0, 1.0), (-1.0, 1.0)):
        with pytest.raises(InputError, match="sigma"):
            with_tokens(unet, direction(), 1.0, sigma=sigma)
    for tokens in ([], [-1], torch.zeros(3, dtype=torch.bool), torch.zeros(5, 3, dtype=torch.bool), [[0, 1]]):
        with pytest.raises(InputError, match="tokens"):
            with_tokens(unet, direction("condition"), 1.0, tokens=tokens)
    for tokens in ([3], torch.ones(4, dtype=torch.bool), torch.ones(4, 3, dtype=torch.bool)):
        with pytest.raises(InputError, match=r"3 tokens|4 rows"):
            with_tokens(unet, direction("condition"), 1.0, tokens=tokens)(x, torch.ones(5), labels)
    with pytest.raises(InputError, match="12"):
        with_tokens(unet, direction(width=5), 1.0)(x, torch.ones(5), labels)
    for tokens in ([3], [], torch.zeros(3, dtype=torch.bool), torch.ones(4, dtype=torch.bool)):
        with pytest.raises(InputError, match="tokens"):
            token_mask(tokens, unet.embed(labels))
