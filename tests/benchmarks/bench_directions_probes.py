"""Directions: taps against plain sampling, and fitting all probes against the forward passes that feed them."""

import torch

from scorescope.analysis.directions.probing import probe_scan
from scorescope.data.shapes import ATTRIBUTES, SIZES, column, render_shapes
from scorescope.data.train import RECIPES
from scorescope.data.unet import EDMDenoiser
from scorescope.probes.activations.along_sampling import sample_with_sites
from scorescope.probes.activations.collect import collect
from scorescope.probes.bank.points import Bank, log_snr_grid
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.sampling.sample import sample
from tests.benchmarks.timing import seconds, side_by_side

SITES = [f"network.{part}" for part in ("first", "middle1", "attention", "middle2", "last_norm")] + [
    f"network.{side}.{level}" for side in ("down", "up") for level in range(3)
]


def main() -> None:
    taps()
    probes()


def shapes_network() -> EDMDenoiser:
    """As large as the shipped one, with random weights: time does not depend on them."""
    torch.manual_seed(0)
    return EDMDenoiser(RECIPES["shapes"].network, 0.5121).eval()


def taps() -> None:
    denoiser = shapes_network()
    sites = SITES[:10]
    labels = torch.stack([torch.randint(0, size, (64,)) for size in SIZES], dim=1)
    options = {"seeds": range(64), "condition": labels, "sigmas": edm_sigmas(6), "progress": False}
    ours, peer, ratio = side_by_side(
        lambda: sample_with_sites(denoiser, sites, **options), lambda: sample(denoiser, **options), pairs=9
    )
    print(
        f"sampling 64 images, 6 Heun steps, with 10 sites averaged: {ours:.2f} s against {peer:.2f} s without, "
        f"ratio {ratio:.3f} (bound 1.1)"
    )


def probes() -> None:
    shapes = render_shapes(2000, seed=5)
    bank = Bank(shapes.images, log_snr_grid(-6, 6, 10))
    found = []
    forward = seconds(lambda: found.append(collect(shapes_network(), bank, SITES[:10])))
    labels = {name: shapes.labels[:, column(name)] for name in ATTRIBUTES}
    for method, chosen in (("ridge", labels), ("lda", labels), ("ridge", {"size": labels["size"]})):
        fit = seconds(lambda method=method, chosen=chosen: probe_scan(found[0], chosen, method=method))
        print(
            f"probe scan ({method}), 10 sites x 10 noise levels x 2000 images, {len(chosen)} attributes with their "
            f"control tasks and intervals: {fit:.1f} s against {forward:.1f} s of forward passes, "
            f"ratio {fit / forward:.2f} (bound 1)"
        )
