"""Activations are those of the network's own calls, whatever the batches, and are keyed by what they are of."""

import pytest
import torch
from tests.pipelines import sd15
from torch import nn

from scorescope.data.errors import InputError
from scorescope.data.unet import EDMDenoiser, UNetConfig
from scorescope.probes.activations.activations import Activations
from scorescope.probes.activations.along_sampling import sample_with_sites
from scorescope.probes.activations.collect import collect, trace_activations
from scorescope.probes.bank.points import Bank, log_snr_grid
from scorescope.probes.guidance import CFG, ICG, Autoguidance, Interval, RandomLabels
from scorescope.probes.models.noise import edm_sigmas
from scorescope.probes.recording.kept_sites import Site
from scorescope.probes.recording.session import record
from scorescope.probes.sampling.sample import sample
from scorescope.probes.sampling.solvers import DPMSolverPP2M, Heun

SITE = "network.middle1"


def unet(seed=0):
    torch.manual_seed(seed)
    denoiser = EDMDenoiser(UNetConfig(channels=(16, 32), embedding=32), 0.5).eval()
    for parameter in denoiser.parameters():  # zero-initialised layers would hide the condition
        nn.init.normal_(parameter, std=0.1)
    return denoiser


class Transformer(nn.Module):
    """Tokens (batch, token, channel), as a denoiser of (batch, 6, 4)."""

    shape = (6, 4)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.block = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, x, sigma, condition=None):
        return self.block(x / (1 + sigma[:, None, None])) + (0 if condition is None else condition[:, None, None])


def bank(n=7, draws=2, levels=3, shape=(1, 8, 8)):
    torch.manual_seed(1)
    return Bank(torch.randn(n, *shape), log_snr_grid(-4, 4, levels), draws=draws, seed=3)


def test_collected_rows_are_the_sites_own_output_pooled():
    denoiser, points, labels = unet(), bank(), torch.arange(7)
    found = collect(denoiser, points, {SITE: "mean", "network.up.1": 2, "x": "whole", "denoised": 8}, condition=labels)
    kept = {}
    handles = [m.register_forward_hook(lambda _, i, o, n=n: kept.update({n: o})) for n, m in denoiser.named_modules()]
    point = points.point(torch.tensor([4]), level=2, draw=1)
    with torch.no_grad():
        prediction = denoiser(point.x, point.sigma, labels[4:5])
    [handle.remove() for handle in handles]
    row = 7 + 4  # the second draw's fifth image
    assert found.images[row] == 4 and found.branch == "cond"
    torch.testing.assert_close(found.at(SITE, 2)[row], kept[SITE].mean((2, 3))[0], rtol=1e-5, atol=1e-6)
    quarters = kept["network.up.1"].unfold(2, 4, 4).unfold(3, 4, 4).mean((4, 5))
    torch.testing.assert_close(found.at("network.up.1", 2)[row], quarters.flatten(), rtol=1e-5, atol=1e-6)
    assert torch.equal(found.at("x", 2)[row], point.x.flatten())
    torch.testing.assert_close(found.at("denoised", 2)[row], prediction.flatten(), rtol=1e-5, atol=1e-6)


def test_draws_can_be_averaged():
    denoiser, points = unet(), bank()
    apart, mean = collect(denoiser, points, [SITE]), collect(denoiser, points, [SITE], draws="mean")
    assert apart.site(SITE).shape == (3, 14, 32) and mean.site(SITE).shape == (3, 7, 32)
    torch.testing.assert_close(apart.site(SITE).reshape(3, 2, 7, 32).mean(1), mean.site(SITE))
    assert apart.branch == "uncond" and apart.log_snr == pytest.approx([-4, 0, 4])
    assert [apart.nearest_level(s) for s in (1e3, 1.1, 1e-3)] == [0, 1, 2]


def test_batches_and_unrelated_calls_change_nothing():
    denoiser, points = unet(), bank()
    whole = collect(denoiser, points, [SITE, "denoised"])
    denoiser(torch.randn(2, 1, 8, 8), torch.ones(2)), torch.randn(5)
    alone = collect(denoiser, points, [SITE, "denoised"], batch=1)
    for site in whole.sites:
        torch.testing.assert_close(whole.site(site), alone.site(site), rtol=1e-4, atol=1e-5)
    assert not denoiser._forward_pre_hooks and not denoiser.network.middle1._forward_hooks


def test_tokens_of_a_transformer_are_averaged():
    denoiser, points = Transformer().eval(), bank(shape=(6, 4))
    found = collect(denoiser, points, ["block.linear2"])
    assert found.site("block.linear2").shape == (3, 14, 4)
    run, taps = sample_with_sites(denoiser, ["block"], seeds=range(3), sigmas=edm_sigmas(5), progress=False)
    assert taps.activations().site("block").shape == (5, 3, 4) and run.samples.shape == (3, 6, 4)


@pytest.mark.parametrize("solver", [Heun(), Heun(churn=10), DPMSolverPP2M()])
@pytest.mark.parametrize("rule", [CFG(1.0), CFG(3.0), Interval(CFG(2.0), 0.1, 5.0)])
def test_sampling_with_sites_gives_the_same_samples_and_each_calls_activations(solver, rule):
    denoiser, labels = unet(), torch.tensor([1, 2, 3])
    options = {"seeds": [5, 6, 7], "condition": labels, "rule": rule, "solver": solver, "sigmas": edm_sigmas(5)}
    options |= {"progress": False, "batch": 2}
    pools = {SITE: "mean", "x": "whole", "denoised": "whole"}
    run, taps = sample_with_sites(denoiser, pools, **options)
    assert torch.equal(run.samples, sample(denoiser, **options).samples)
    for (site, step, call, branch), value in taps.values.items():
        if site != SITE:
            continue
        x = taps.at("x", step=step, call=call, branch=branch).reshape(3, 1, 8, 8)
        sigma = torch.full((3,), taps.sigmas[step, call])
        with collect_one(denoiser) as kept, torch.no_grad():
            denoiser(x, sigma, None if branch == "uncond" else labels)
        torch.testing.assert_close(value, kept[0].mean((2, 3)), rtol=1e-4, atol=1e-5)
    branches = {branch for *_, branch in taps.values}
    assert branches == {"cond", "guided"} | (set() if rule == CFG(1.0) else {"uncond"})


class collect_one:
    def __init__(self, denoiser):
        self.module, self.kept = denoiser.network.middle1, []

    def __enter__(self):
        self.handle = self.module.register_forward_hook(lambda _, i, o: self.kept.append(o))
        return self.kept

    def __exit__(self, *_):
        self.handle.remove()


def test_heun_has_two_calls_a_step_at_the_right_noise_levels():
    sigmas = edm_sigmas(4)
    _, taps = sample_with_sites(unet(), [SITE], seeds=[0], sigmas=sigmas, progress=False)
    assert taps.sigmas == {(s, c): sigmas[s + c] for s in range(4) for c in range(2) if sigmas[s + c] > 0}
    assert taps.activations().sigmas == tuple(sigmas[:4])
    assert taps.activations(call=1).sigmas == tuple(sigmas[1:4])


def test_a_branch_of_another_network_or_of_other_labels_is_kept_as_what_it_is():
    options = {"seeds": [0, 1], "condition": torch.tensor([1, 2]), "sigmas": edm_sigmas(3), "progress": False}
    _, taps = sample_with_sites(unet(), [SITE], rule=Autoguidance(2.0, unet(1)), **options)
    assert {branch for *_, branch in taps.values} == {"cond"}
    _, taps = sample_with_sites(unet(), [SITE], rule=ICG(2.0, RandomLabels(10)), **options)
    assert {branch for *_, branch in taps.values} == {"cond", "uncond"}


def test_samples_whose_branch_was_skipped_are_missing_not_wrong():
    _, taps = sample_with_sites(
        unet(), [SITE], seeds=[0, 1], condition=torch.tensor([1, 2]), rule=Interval(CFG(2.0), 0.1, 5.0), progress=False
    )
    with pytest.raises(InputError, match="where computed"):
        taps.activations(branch="uncond")
    with pytest.raises(InputError, match=r"network\.middle1.*steps 0 to 17"):
        taps.at(SITE, step=40)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_recorded_pipeline_fills_the_same_container():
    pipe, arguments = sd15(steps=3)
    with record(pipe, sites=["unet.mid_block", Site("unet.up_blocks.0", reduce="space")]) as trace:
        pipe(**arguments)
    found = trace_activations(trace, ["unet.mid_block", "unet.up_blocks.0"], branch="uncond")
    assert len(found.sigmas) == 3 and found.sigmas[0] > found.sigmas[1] > found.sigmas[2] > 0
    own = trace.arrays.site("unet.mid_block", 1, "uncond")
    torch.testing.assert_close(found.at("unet.mid_block", 1), own.float().mean((2, 3)))
    assert found.at("unet.up_blocks.0", 2).shape == trace.arrays.site("unet.up_blocks.0", 2, "uncond").shape


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, x, sigma, condition=None):
        return self.inner(self.inner(x))


@pytest.mark.parametrize(
    ("sites", "options", "text"),
    [
        (["network.midle1"], {}, r"network\.middle1"),
        ([], {}, "at least one name"),
        ("x", {}, "a sequence of str"),
        (["network.first"], {"how": "max"}, "whole or mean or a whole number"),
        (["network.first"], {"how": 9}, "at least 9 x 9"),
        (["network.noise_embedding"], {"how": 2}, "a grid over shape"),
        (["x"], {"draws": "first"}, "'apart' or 'mean'"),
    ],
)
def test_bad_sites_and_options(sites, options, text):
    with pytest.raises(InputError, match=text):
        collect(unet(), bank(), sites, **options)


def test_a_site_called_twice_and_a_compiled_module_are_refused():
    with pytest.raises(InputError, match="called twice"):
        collect(Twice(), bank(), ["inner"])
    with pytest.raises(InputError, match="compiled"):
        collect(torch.compile(unet(), backend="eager"), bank(), [SITE])
    with pytest.raises(InputError, match=r"torch\.nn\.Module"):
        collect(lambda x, sigma, condition: x, bank(), ["inner"])


def test_nan_is_refused_with_its_place():
    with pytest.raises(InputError, match=r"'a'.*sigma 2"):
        Activations({"a": torch.tensor([[[1.0]], [[torch.nan]]])}, (1.0, 2.0), torch.tensor([0]), {"a": "mean"})
    with pytest.raises(InputError, match="such as network"):
        collect(unet(), bank(), [SITE]).site("middle1")
