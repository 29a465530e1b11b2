"""Tensors of an accelerator, played by the host, in public functions that take tensors: nothing is made elsewhere.

The same call on the host gives the same numbers, up to the rounding of other kernels.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from scorescope.data.unet import EDMDenoiser, UNetConfig
from scorescope.probes import (
    Bank,
    Direction,
    Intervention,
    NoiseLevel,
    Recording,
    collect,
    log_snr_grid,
    replay,
    sample,
    to_denoised,
)
from scorescope.probes.approximations import TrainingSet, fit_gaussian, fit_isotropic, fit_per_class
from scorescope.probes.bank import Arm, compare_arms
from scorescope.probes.decomposition import (
    band_products,
    branch_products,
    centred_products,
    guided_products,
    image_statistics,
    projection_products,
)
from scorescope.probes.features import extract, pixel_extractor, tensor_images
from scorescope.probes.gradients import make_step, paired_loss
from scorescope.probes.guidance import CFG, ICG, AdaptiveGuidance, LinearAG, RandomLabels
from scorescope.probes.models import SPACES, from_denoised
from scorescope.probes.sampling import (
    DPMSolverPP2M,
    Euler,
    EulerRenoised,
    Heun,
    RunArm,
    Sampling,
    sample_arms,
    teleport,
)
from scorescope.probes.sites import intervened, noisy_condition, random_directions, shuffled_directions
from tests.probes.guidance.test_rule_bounds import RULES, drawn
from tests.stand_in_device import NAME, Away, StandIn

SIGMAS = [5.0, 1.0, 0.3, 0.0]


def moved(value, device):
    """Tensors, and those in containers and dataclasses, on a device."""
    if isinstance(value, torch.Tensor | torch.nn.Module):
        return value.to(device)
    if isinstance(value, dict):
        return {key: moved(part, device) for key, part in value.items()}
    if isinstance(value, list | tuple) and any(isinstance(part, torch.Tensor) for part in value):
        return type(value)(moved(part, device) for part in value)
    return value


def back(value):
    """What a call gave, with its tensors on the host."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: back(part) for key, part in value.items()}
    return [back(part) for part in value] if isinstance(value, list | tuple) else value


def network():
    torch.manual_seed(0)
    made = EDMDenoiser(UNetConfig(channels=(8, 16), embedding=16, classes=4), 0.5).eval()
    for parameter in made.parameters():  # layers that start at zero would hide what is done before them
        torch.nn.init.normal_(parameter, std=0.1)
    return made


def draw(*shape, seed=0, kind=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(kind)


IMAGES, LABELS = draw(12, 1, 8, 8), torch.arange(12) % 4
X, SIGMA, Y = draw(4, 1, 8, 8, seed=1), torch.tensor([0.5, 0.5, 2.0, 2.0]), torch.tensor([0, 1, 2, 3])
A, B, G = draw(3, 2, 8, 8, seed=2), draw(3, 2, 8, 8, seed=3), draw(3, 2, 8, 8, seed=4)
SITE = "network.middle1"
VECTOR, ROWS = draw(16, seed=5), draw(12, 16, seed=6)


def fitted(law, to):
    """What a law says at states on a device."""
    return law.to(device=to(X).device)(to(X), to(SIGMA))


CASES = {
    "branch_products": lambda to: branch_products(to(A), to(B), to(G)),
    "branch_products, large": lambda to: branch_products(*(to(draw(1, 3, 300, 300, seed=n)) for n in range(3))),
    "centred_products": lambda to: centred_products(to(A), to(B)),
    "band_products": lambda to: band_products(to(A), to(B), (0.1, 0.25, 0.5)),
    "guided_products": lambda to: guided_products(to(G), to(A), (-1.0, 1.0)),
    "image_statistics": lambda to: image_statistics(to(G), (-1.0, 1.0)),
    "projection_products": lambda to: projection_products(to(G), to(A)),
    **{
        f"to_denoised {space}": lambda to, space=space: to_denoised(
            to(X), to(X), NoiseLevel.vp(to(SIGMA)), space=space, **({"sigma_data": 0.5} if space == "edm" else {})
        )
        for space in SPACES
    },
    **{
        f"from_denoised {space}": lambda to, space=space: from_denoised(
            to(X), to(X), NoiseLevel.flow(to(SIGMA / 4)), space=space, **({"sigma_data": 0.5} if space == "edm" else {})
        )
        for space in SPACES
    },
    "fit_gaussian": lambda to: fitted(fit_gaussian(to(IMAGES)), to),
    "fit_isotropic": lambda to: fitted(fit_isotropic(to(IMAGES)), to),
    "TrainingSet": lambda to: fitted(TrainingSet(to(IMAGES)), to),
    "fit_per_class": lambda to: fit_per_class(to(IMAGES), to(LABELS), rank=3).to(device=to(X).device)(
        to(X), to(SIGMA), to(Y)
    ),
    "teleport": lambda to: teleport(fit_gaussian(to(IMAGES)).to(device=to(X).device), to(X), 5.0, 1.0),
    "intervened": lambda to: intervened(to(network()), [Intervention("add", SITE, to(VECTOR))])(
        to(X), to(SIGMA), to(Y)
    ),
    "intervened by a direction": lambda to: intervened(
        to(network()), [Intervention("project", SITE, to(VECTOR))]
    )(to(X), to(SIGMA), to(Y)),
    "noisy_condition": lambda to: noisy_condition(to(network()), to(draw(4, 3, 16)), scale=0.5, seeds=range(4)),
    "random_directions": lambda to: [one.vector for one in random_directions(_direction(to), 2, seed=0)],
    "shuffled_directions": lambda to: [
        one.vector for one in shuffled_directions(_found(to), to(ROWS), to(LABELS % 2), count=2)
    ],
    "collect": lambda to: collect(
        to(network()), Bank(to(IMAGES), log_snr_grid(-2, 2, 2), draws=1, seed=0), {SITE: "mean"}, condition=to(LABELS)
    ).values[SITE],
    "compare_arms": lambda to: _compared(to),
    "make_step": lambda to: _stepped(to),
    "extract": lambda to: extract(
        tensor_images(to(IMAGES.tanh()), value_range=(-1, 1)), pixel_extractor(4), progress=False
    ).features,
    **{
        f"sample, {type(solver).__name__}": lambda to, solver=solver: _sampled(to, solver=solver)
        for solver in (Euler(), Heun(), DPMSolverPP2M(), EulerRenoised())
    },
    "sample, adaptive": lambda to: _sampled(to, rule=AdaptiveGuidance(CFG(3.0), 0.9)),
    "sample, ICG": lambda to: _sampled(to, rule=ICG(3.0, RandomLabels(4))),
    "sample, recorded": lambda to: _recorded(to).scalars[["sigma", "cond_sq", "update_sq"]].to_numpy(),
    "replay": lambda to: replay(_recorded(to), CFG(2.0)).scalars[["applied_sq"]].to_numpy(),
    "sample_arms": lambda to: sample_arms(
        to(network()), [RunArm("a"), RunArm("b", (Intervention("add", SITE, to(VECTOR)),))], seeds=range(2),
        condition=to(Y[:2]), progress=False,
        sampling=Sampling(device=to(X).device),
    ),
}  # fmt: skip


def _direction(to):
    return Direction(to(VECTOR), site=SITE, attribute="a", method="difference", scale=1.0)


def _found(to):
    """The difference of means of two classes, as `shuffled_directions` finds its own."""
    means = [to(ROWS)[to(LABELS % 2) == label].mean(0) for label in (0, 1)]
    return Direction(means[1] - means[0], site=SITE, attribute="a", method="difference", scale=1.0)


def _stepped(to):
    step = make_step(to(network()), to(X), 1.0, to(Y), head=paired_loss(to(X)), weight=2.0)
    return step()


def _compared(to):
    denoiser = to(network())
    found = compare_arms(
        Bank(to(IMAGES), log_snr_grid(-2, 2, 2), draws=1, seed=0), [Arm("n", denoiser), Arm("y", denoiser, to(LABELS))],
        pairs=[("n", "y")], map_weights=[1.0, 1.0], batch=5,
    )  # fmt: skip
    return found.losses, found.distances, found.difference_maps


def _sampled(to, **options):
    options = {"rule": CFG(3.0)} | options
    where = to(X).device
    return sample(
        to(network()), seeds=range(3), condition=to(Y[:3]), sigmas=SIGMAS, device=where, progress=False, **options
    ).samples


def _recorded(to):
    return sample(
        to(network()), seeds=range(3), condition=to(Y[:3]), sigmas=SIGMAS, device=to(X).device, rule=CFG(3.0),
        record=Recording(keep=True), progress=False,
    ).trace  # fmt: skip


def both(call):
    """A call with its tensors on the host and on the device."""
    here = back(call(lambda value: moved(value, torch.device("cpu"))))
    with StandIn():
        there = call(lambda value: moved(value, NAME))
        return here, back(there)


def compare(here, there):
    if isinstance(here, dict):
        assert here.keys() == there.keys()
        here, there = list(here.values()), list(there.values())
    if isinstance(here, list | tuple):
        assert len(here) == len(there)
        for one, other in zip(here, there, strict=True):
            compare(one, other)
        return
    # float32 networks whose kernels sum in another order
    np.testing.assert_allclose(np.asarray(there), np.asarray(here), rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("name", CASES)
def test_a_call_there_is_the_call_here(name):
    compare(*both(CASES[name]))


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_rule_there_is_the_rule_here(rule):
    def call(to):
        cond, uncond, state = drawn(2, 3, 8, 8)
        state = replace(state, x=to(state.x), others=to(state.others))
        if isinstance(rule, LinearAG):
            rule(to(cond), to(uncond), state)
            state.step = 1
        return rule(to(cond), to(uncond), state)

    compare(*both(call))


def test_the_stand_in_tells_tensors_of_two_devices_apart():
    with StandIn() as device:
        there = torch.ones(2, device=NAME)
        assert isinstance(there + 1, Away) and (there + torch.tensor(1.0)).device == NAME
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(2)
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        assert not device.waits and math.isclose(float(there.sum()), 2.0)
        assert sum(device.waits.values()) == 1
