import torch

from scorescope.data import UNetConfig, load_denoiser, load_digits, load_snapshots
from scorescope.data.train import RECIPES, Recipe, train
from scorescope.data.training_images import training_images


def test_snapshots_are_the_averaged_weights_on_the_way(tmp_path):
    recipe = Recipe(network=UNetConfig(channels=(8, 8), embedding=16), steps=4, batch=8, check_every=2, warm_up=2)
    end, _ = train(recipe, training_images("digits"), tmp_path, snapshots=[2, 4])
    x, sigma = load_digits().held_out.images[:4], torch.ones(4)
    early, card = load_denoiser(tmp_path / "step-00002.safetensors")
    late, _ = load_denoiser(tmp_path / "step-00004.safetensors")
    assert card["training_step"] == 2
    assert not torch.equal(early(x, sigma, None), late(x, sigma, None))
    kept = [snapshot.network.last.bias for snapshot in (early, late)]
    assert any(torch.equal(end.network.last.bias.half().float(), bias) for bias in kept)  # stored in half precision


def test_shipped_snapshots_are_of_one_run():
    snapshots = load_snapshots()
    assert list(snapshots) == [100, 400, 2000]
    assert {s.config for s in snapshots.values()} == {RECIPES["digits_small"].network}
