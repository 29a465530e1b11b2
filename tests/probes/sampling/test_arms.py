"""Arms: each is what it would be alone; they share start and noise; batches and groups do not show."""

import pytest
import torch

from scorescope.data.errors import InputError
from scorescope.data.unet import EDMDenoiser, UNetConfig
from scorescope.probes import CFG, Intervention, sample
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import Euler, EulerRenoised, Heun, RunArm, Sampling, run_arms, sample_arms
from scorescope.probes.sites import ActivationCache, cached, intervened

SITE = "network.middle1"
LABELS = torch.tensor([[0, 1], [1, 0], [2, 1]])
SEEDS = [7, 8, 9]


@pytest.fixture(scope="module")
def network() -> EDMDenoiser:
    torch.manual_seed(0)
    network = EDMDenoiser(UNetConfig(channels=(8, 16), embedding=16, attributes=(3, 2)), 0.5).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


def vector(seed: int) -> torch.Tensor:
    return torch.randn(16, generator=torch.Generator().manual_seed(seed))


WHERE = torch.stack([torch.eye(8), torch.ones(8, 8), torch.zeros(8, 8)])

ARMS = [
    RunArm("none"),
    RunArm("add", (Intervention("add", SITE, vector(0), 2.0, low=0.1),)),
    RunArm("other", (Intervention("add", SITE, vector(1), torch.tensor([1.0, 0.0, -1.0]), high=10.0),)),
    RunArm("two", (Intervention("add", SITE, vector(0)), Intervention("zero", "network.attention", strength=0.5))),
    RunArm("token", (Intervention("add", "condition.0", vector(2), branch="cond"),)),
    RunArm("twice", (Intervention("map", SITE, function=lambda values, sigma: 2 * values),)),
    RunArm("thrice", (Intervention("map", SITE, function=lambda values, sigma: 3 * values),)),
    RunArm("region", (Intervention("zero", SITE, where=WHERE),)),
    RunArm("swapped", condition=LABELS.flip(0)),
]


@pytest.mark.parametrize("solver", [Euler(), EulerRenoised(), Heun(churn=20.0)], ids=["euler", "renoised", "churned"])
@pytest.mark.parametrize("batch", [100, 4, 1])
def test_every_arm_is_what_it_would_be_alone(network, solver, batch):
    how = Sampling(rule=CFG(2.0), solver=solver, sigmas=edm_sigmas(3), batch=batch)
    found = sample_arms(network, ARMS, seeds=SEEDS, condition=LABELS, sampling=how, progress=False)
    assert list(found) == [arm.name for arm in ARMS]
    for arm in ARMS:
        alone = sample(
            intervened(network, arm.interventions), seeds=SEEDS, rule=how.rule, solver=solver, sigmas=how.sigmas,
            condition=LABELS if arm.condition is None else arm.condition, progress=False,
        ).samples  # fmt: skip
        torch.testing.assert_close(found[arm.name], alone, rtol=1e-4, atol=1e-4)
    assert not torch.isclose(found["add"], found["none"], atol=1e-3).all()
    torch.testing.assert_close(found["other"][1], found["none"][1], rtol=1e-4, atol=1e-4)


def test_arms_without_an_edit_are_the_bare_run_to_the_bit(network):
    how = Sampling(solver=Euler(), sigmas=edm_sigmas(3))
    zero = RunArm("zero", (Intervention("add", SITE, vector(0), 0.0),))
    far = RunArm("far", (Intervention("add", SITE, vector(0), 1.0, low=100.0),))
    found = sample_arms(
        network, [RunArm("none"), zero, far], seeds=SEEDS, condition=LABELS, sampling=how, progress=False
    )
    bare = sample(
        network, seeds=SEEDS * 3, condition=LABELS.repeat(3, 1), solver=how.solver, sigmas=how.sigmas, progress=False
    ).samples
    assert torch.equal(torch.cat([found["none"], found["zero"], found["far"]]), bare)


@pytest.mark.parametrize("batch", [100, 2])
def test_patching_from_another_arm_is_patching_from_its_run(network, batch):
    how = Sampling(rule=CFG(2.0), solver=Euler(), sigmas=edm_sigmas(3), batch=batch)
    run = {"seeds": SEEDS, "rule": how.rule, "solver": how.solver, "sigmas": how.sigmas, "progress": False}
    cache = ActivationCache()
    sample(cached(network, [SITE], cache), condition=LABELS, **run)
    stored = intervened(network, [Intervention("patch", SITE, source=cache, low=0.5)])
    expected = sample(stored, condition=LABELS.flip(0), **run).samples
    patch = (Intervention("patch", SITE, low=0.5),)
    arms = [RunArm("source"), RunArm("patched", patch, LABELS.flip(0), source="source")]
    found = sample_arms(network, arms, seeds=SEEDS, condition=LABELS, sampling=how, progress=False)
    torch.testing.assert_close(found["patched"], expected, rtol=1e-4, atol=1e-4)
    more = [*arms, *(RunArm(f"copy {k}", patch, LABELS.flip(0), source="source") for k in range(4))]
    spread = sample_arms(network, more, seeds=SEEDS, condition=LABELS, sampling=how, progress=False)
    for name in ("patched", "copy 0", "copy 3"):
        torch.testing.assert_close(spread[name], expected, rtol=1e-4, atol=1e-4)
    kept = RunArm("kept", (Intervention("patch", SITE, source=cache, low=0.5),), LABELS.flip(0))
    from_cache = sample_arms(
        network, [RunArm("source"), kept], seeds=SEEDS, condition=LABELS, sampling=how, progress=False
    )
    torch.testing.assert_close(from_cache["kept"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", [3, 2, 1])
def test_a_chain_of_sources_is_the_same_in_any_number_of_batches(network, batch):
    arms = [
        RunArm("first"),
        RunArm("second", (Intervention("patch", SITE, strength=0.5),), LABELS.flip(0), source="first"),
        RunArm("third", (Intervention("patch", "network.middle2", strength=0.5),), LABELS.roll(1, 0), source="second"),
        *(RunArm(f"other {k}") for k in range(2)),
    ]
    whole, spread = (
        sample_arms(
            network, arms, seeds=SEEDS, condition=LABELS, progress=False,
            sampling=Sampling(solver=Euler(), sigmas=edm_sigmas(3), batch=size),
        )
        for size in (100, batch)
    )  # fmt: skip
    for name, expected in whole.items():
        torch.testing.assert_close(spread[name], expected, rtol=1e-4, atol=1e-4)


def test_start_states_and_order(network):
    start = 80 * torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    how = Sampling(solver=Euler(), sigmas=edm_sigmas(3), batch=2)
    found = sample_arms(
        network, [RunArm("none")], seeds=SEEDS, condition=LABELS, start=start, sampling=how, progress=False
    )
    bare = sample(
        network, seeds=SEEDS, condition=LABELS, start=start, solver=how.solver, sigmas=how.sigmas, progress=False
    ).samples
    torch.testing.assert_close(found["none"], bare, rtol=1e-4, atol=1e-4)
    parts = list(run_arms(network, ARMS, seeds=SEEDS, condition=LABELS, sampling=how, progress=False))
    assert [part.seeds for part in parts[:: -(-len(ARMS) // 2)]] == [[0], [1], [2]] and parts[0].names == [
        "none",
        "add",
    ]


def test_bad_arms(network):
    def run(arms):
        how = Sampling(solver=Euler(), sigmas=edm_sigmas(3))
        sample_arms(network, arms, seeds=SEEDS, condition=LABELS, sampling=how, progress=False)

    with pytest.raises(InputError, match="different names"):
        run([RunArm("a"), RunArm("a")])
    with pytest.raises(InputError, match="another of"):
        run([RunArm("a", source="b")])
    with pytest.raises(InputError, match="the name of an arm"):
        run([RunArm("a", (Intervention("patch", SITE),))])
    with pytest.raises(InputError, match="rows= in arm 'b'"):
        run([RunArm("a"), RunArm("b", (Intervention("patch", SITE, rows=torch.tensor([1, 2, 0])),), source="a")])
    with pytest.raises(InputError, match="one kind"):
        run([RunArm("a"), RunArm("b", condition=network.embed(LABELS))])
