"""Steering with its three controls against one bare run, and what interventions cost, on the shapes-sized U-Net."""

import statistics
import time
from collections.abc import Callable

import torch

from scorescope.data.train import RECIPES
from scorescope.data.unet import EDMDenoiser
from scorescope.probes import Direction, Intervention, sample
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import Heun, RunArm, Sampling, sample_arms
from scorescope.probes.sites import intervened, random_directions
from tests.benchmarks.timing import side_by_side

SEEDS, SIGMAS, SITE = range(16), edm_sigmas(5), "network.middle1"


def processor(ours: Callable[[], object], peer: Callable[[], object], pairs: int = 5) -> float:
    """Median ratio of processor time over pairs run in turn: what neighbours on the machine disturb least."""

    def cost(work: Callable[[], object]) -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    return statistics.median(cost(ours) / cost(peer) for _ in range(pairs))


def main() -> None:
    torch.manual_seed(0)
    network = RECIPES["shapes"].network
    denoiser = EDMDenoiser(network, 0.5).eval()
    labels = torch.stack([torch.arange(len(SEEDS)) % size for size in network.attributes], dim=1)
    direction = Direction(torch.randn(network.channels[-1]), SITE, "any", "random", scale=1.0)
    shuffled, other = random_directions(direction, 2)
    ways = {"direction": direction, "shuffled": shuffled, "random": other}
    arms = [RunArm("none"), *(RunArm(name, (Intervention.along(way, 2.0),)) for name, way in ways.items())]

    def bare(denoiser: object = denoiser) -> object:
        return sample(
            denoiser, seeds=SEEDS, condition=labels, solver=Heun(), sigmas=SIGMAS, progress=False  # type: ignore[arg-type]
        )  # fmt: skip

    def steered() -> object:
        how = Sampling(solver=Heun(), sigmas=SIGMAS)
        return sample_arms(denoiser, arms, seeds=SEEDS, condition=labels, sampling=how, progress=False)

    _, one, ratio = side_by_side(steered, bare, pairs=5)
    print(
        f"steering and three controls against one run of {one:.2f} s: {ratio:.2f} times "
        f"(processor time {processor(steered, bare):.2f}; bound 4.2)"
    )
    sites = ["first", "down.0", "down.1", "down.2", "middle1", "attention", "middle2", "up.0", "up.1", "up.2"]
    cases = {
        "adding at one site": [Intervention.along(direction, 2.0)],
        "adding at one site outside of its noise levels": [Intervention.along(direction, 2.0, low=1e3)],
        "zeroing a half of ten sites": [Intervention("zero", f"network.{site}", strength=0.5) for site in sites],
        "the same in half of the rows": [
            Intervention("zero", f"network.{site}", strength=0.5 * (torch.arange(len(SEEDS)) % 2)) for site in sites
        ],
    }
    for name, given in cases.items():
        changed = intervened(denoiser, given)
        _, _, ratio = side_by_side(lambda changed=changed: bare(changed), bare, pairs=5)
        spent = processor(lambda changed=changed: bare(changed), bare)
        print(f"{name}: {ratio:.3f} times the bare run (processor time {spent:.3f})")
