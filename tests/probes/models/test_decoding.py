"""Decoding latents: chunks change nothing, and an autoencoder decodes as its pipeline does."""

import pytest
import torch
from tests.pipelines import sd3, sd15

from scorescope.data import InputError
from scorescope.probes.models import decode, vae_decoder

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def test_chunks_change_nothing():
    latents, seen = torch.randn(7, 4, 3, 3), []

    def decoder(z):
        seen.append(len(z))
        return z[:, :3].sin()

    assert torch.equal(decode(decoder, latents, chunk=3), latents[:, :3].sin()) and seen == [3, 3, 1]


@pytest.mark.parametrize("build", [sd15, sd3])  # the second with a shift beside the scale
def test_an_autoencoder_decodes_as_its_pipeline_does(build):
    pipe, arguments = build()
    latents = pipe(**arguments).images
    arguments["generator"].manual_seed(0)
    pictures = pipe(**(arguments | {"output_type": "pt"})).images
    found = decode(vae_decoder(pipe.vae), latents)
    assert torch.allclose((found / 2 + 0.5).clamp(0, 1), pictures, atol=1e-6)
    assert found.dtype == torch.float32 and not found.requires_grad


@pytest.mark.parametrize("wrong", [lambda z: z[:-1], lambda z: list(z), lambda z: z / 0])
def test_what_is_no_image_is_refused(wrong):
    with pytest.raises(InputError, match="decoder"):
        decode(wrong, torch.randn(3, 4))


def test_autoencoders_of_another_scale_are_refused():
    pipe, _ = sd15()
    pipe.vae.register_to_config(latents_mean=[0.0] * 4)
    for vae in (pipe.vae, torch.nn.Identity()):
        with pytest.raises(InputError, match="scaling_factor"):
            vae_decoder(vae)
