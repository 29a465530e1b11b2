"""The audit finds what diffusers' guiders of the installed version do; each fact is a test, right or wrong."""

from dataclasses import replace

import diffusers
import pytest
import torch
from diffusers import guiders
from diffusers.guiders import frequency_decoupled_guidance as bands
from tests import pyramids
from tests.pipelines import ip2p, pag, sd3, sd15, slg

from scorescope.analysis import audit, paper_rule
from scorescope.analysis.guidance.guider_audit import GUIDER_AUDIT
from scorescope.data import InputError, load_denoiser
from scorescope.probes import APG, CFG, Recording, record, replay, sample
from scorescope.probes.experiments import as_guider
from scorescope.probes.experiments.replay import visits
from scorescope.probes.guidance import PAG, AdaptiveGuidance, APGMix, FrequencyDecoupled, Rescaled, StepInterval
from scorescope.probes.guidance.base import PERTURBED
from scorescope.probes.recording.trace import Visit

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

RAW = ["denoised", "eps", "flow", "v"]


def states(shape=(2, 4, 8, 8), sigmas=(12.0, 2.0, 0.3), first=0):
    """Random states and branches whose difference has a part along cond."""
    noise, found = torch.Generator().manual_seed(1), []
    for step, sigma in enumerate(sigmas, start=first):
        cond = torch.randn(shape, generator=noise, dtype=torch.float64)
        uncond = 1.1 * cond + 0.4 * torch.randn(shape, generator=noise, dtype=torch.float64)
        x = cond + sigma * torch.randn(shape, generator=noise, dtype=torch.float64)
        found.append(Visit(step, 0, sigma, sigma / 2, x, cond, uncond, cond))
    return found


def run(guider, visits=None, **options):
    return audit(guider, states() if visits is None else visits, progress=False, **options)


def fed(table, space):
    return table[table["fed"] == space]


@pytest.mark.parametrize(("original", "offset"), [(False, 0), (True, 1)])
def test_cfg_is_linear_and_its_convention_is_found(original, offset):
    table = run(diffusers.ClassifierFreeGuidance(3.0, use_original_formulation=original))
    assert set(table["acts_in"]) == {"any"} and not table["raw"].any() and not table["projection"].any()
    assert table["offset"].to_numpy() == pytest.approx(offset, abs=1e-10)
    assert table["difference"].max() < 1e-12 and (table["error"] == "").all()
    assert len(table) == 4 * 3 * 2 and list(table) == GUIDER_AUDIT.names


@pytest.mark.parametrize(
    ("function", "offset"),
    [(lambda c, u: u + 4.0 * (c - u), 0), (lambda c, u: c + 4.0 * (c - u), 1), (lambda c, u: u + 3.0 * (c - u), -1)],
)
def test_plain_functions_of_the_branches(function, offset):
    table = run(function, scale=4.0, paper=CFG(4.0))
    assert table["offset"].to_numpy() == pytest.approx(offset, abs=1e-10)
    assert (table["difference"].max() < 1e-12) == (offset == 0)
    assert run(function)["offset"].isna().all() and run(function)["difference"].isna().all()


def test_apg_projects_nothing_by_default():
    table = run(diffusers.AdaptiveProjectedGuidance(4.0, adaptive_projected_guidance_rescale=0.0))
    assert not table["projection"].any() and set(table["acts_in"]) == {"any"}
    assert table["difference"].max() < 1e-12  # equal to the paper's with eta 1, which is CFG


def test_apg_acts_on_whatever_it_is_fed_and_takes_the_parallel_part_of_the_unguided_difference_too():
    table = run(diffusers.AdaptiveProjectedGuidance(4.0, eta=0.0, adaptive_projected_guidance_rescale=0.0))
    assert table["raw"].all() and (table["acts_in"] == table["fed"]).all() and table["projection"].all()
    assert table["offset"].to_numpy() == pytest.approx(0.0, abs=1e-8)
    assert table["weight_parallel"].to_numpy() == pytest.approx(0.0, abs=1e-8)  # the paper's is 1
    assert table["difference"].min() > 0.01


def test_apg_in_its_other_convention_is_the_papers_only_on_denoised_predictions():
    peer = diffusers.AdaptiveProjectedGuidance(
        3.0, eta=0.0, use_original_formulation=True, adaptive_projected_guidance_rescale=2.0,
        adaptive_projected_guidance_momentum=-0.5,
    )  # fmt: skip
    table = run(peer)
    assert fed(table, "denoised")["difference"].max() < 1e-12
    for space in ("eps", "v", "flow"):
        assert fed(table, space)["difference"].max() > 0.01
    # a momentum brings in earlier updates: from the second step on the result is no combination of its branches
    assert set(table.loc[table["step"] == 0, "acts_in"]) == set(RAW)
    assert set(table.loc[table["step"] > 0, "acts_in"]) == {"none"}


def test_apgs_norm_clip_goes_below_the_conditional_prediction():
    table = fed(run(diffusers.AdaptiveProjectedGuidance(4.0, adaptive_projected_guidance_rescale=1.0)), "denoised")
    assert (table["weight_orthogonal"] < 1).all()  # w times a clipped update from uncond: less than no guidance
    paper = fed(run(as_guider(APG(4.0, eta=1.0, norm=1.0))), "denoised")
    assert (paper["weight_orthogonal"] > 1).all()


def test_apg_keeps_a_stale_momentum_where_a_run_does_not_begin_at_step_zero():
    peer = diffusers.AdaptiveProjectedGuidance(4.0, adaptive_projected_guidance_momentum=-0.5)
    cond, uncond = states()[0].cond, states()[0].uncond

    def one(step):
        peer.set_state(step, 10, torch.tensor(0))
        peer.prepare_inputs({})
        return peer.forward(cond, uncond).pred

    first, again, later = one(0), one(0), one(3)
    assert torch.equal(first, again) and not torch.allclose(first, later)


def test_zero_star_acts_on_whatever_it_is_fed_and_equals_ours_on_velocities():
    table = run(diffusers.ClassifierFreeZeroStarGuidance(4.0))
    assert table["raw"].all()
    assert fed(table, "flow")["difference"].max() < 1e-6  # s* in float32
    assert fed(table, "eps").query("step > 0")["difference"].min() > 0.01


def test_zero_star_with_rescale_is_not_finite_on_a_zeroed_step():
    table = run(diffusers.ClassifierFreeZeroStarGuidance(4.0, guidance_rescale=0.5), paper=CFG(4.0))
    wrong = table["error"] == "a prediction that is not finite"
    assert wrong[table["step"] == 0].all() and not wrong[table["step"] > 0].any()


def test_zero_star_reports_an_unconditional_prediction_that_was_scaled():
    peer, visit = diffusers.ClassifierFreeZeroStarGuidance(4.0, zero_init_steps=0), states()[0]
    peer.set_state(0, 3, torch.tensor(0))
    assert not torch.allclose(peer.forward(visit.cond, visit.uncond).pred_uncond, visit.uncond)


def test_tangential_acts_on_whatever_it_is_fed_and_equals_the_paper_on_noise_predictions():
    table = run(diffusers.TangentialClassifierFreeGuidance(4.0))
    assert table["raw"].all()
    assert fed(table, "eps")["difference"].max() < 1e-4  # float32 inside, far from D at a high noise level
    assert fed(table, "denoised")["difference"].min() > 0.01


def test_rescale_acts_on_whatever_it_is_fed_and_the_paper_means_v():
    table = run(diffusers.ClassifierFreeGuidance(4.0, guidance_rescale=0.7))
    assert table["raw"].all()
    assert fed(table, "v")["difference"].max() < 1e-12
    assert fed(table, "eps")["difference"].min() > 0.01
    # in eps space at a high noise level there is nothing to rescale: both have the standard deviation of the noise
    start = table[table["step"] == 0]
    assert fed(start, "eps")["offset"].abs().max() < 0.05 and fed(start, "denoised")["offset"].max() < -0.3


def test_magnitude_aware_fails_on_images_and_works_on_tokens():
    table = run(guiders.MagnitudeAwareGuidance(4.0))
    assert table["error"].str.contains("2-tuple").all() and table["weight_orthogonal"].isna().all()
    tokens = run(guiders.MagnitudeAwareGuidance(4.0), states(shape=(2, 16, 4)))
    assert (tokens["error"] == "").all() and set(tokens["acts_in"]) == {"any"}  # a weight, of another size in each
    assert fed(tokens, "flow")["difference"].max() < 1e-12
    assert fed(tokens, "eps")["difference"].max() > 0.01


def test_mixed_guidance_is_cfg_until_its_start_step_and_then_another_weight():
    peer = diffusers.AdaptiveProjectedMixGuidance(
        adaptive_projected_guidance_start_step=1, adaptive_projected_guidance_momentum=None
    )
    table = run(peer, states(sigmas=(8.0, 4.0, 2.0, 1.0)), paper=CFG(3.5))
    early = table[table["step"] <= 1]
    assert set(early["acts_in"]) == {"any"} and early["offset"].to_numpy() == pytest.approx(0.0, abs=1e-9)
    assert table.loc[table["step"] > 1, "raw"].all()


MIX = {"adaptive_projected_guidance_start_step": 1, "adaptive_projected_guidance_rescale": 8.0}


def test_mixed_guidance_in_its_other_convention_is_its_formula_on_denoised_predictions():
    visits = states(sigmas=(8.0, 4.0, 2.0, 1.0, 0.5))
    peer = diffusers.AdaptiveProjectedMixGuidance(
        2.5, adaptive_projected_guidance_scale=9.0, use_original_formulation=True, **MIX
    )
    assert paper_rule(peer, 5) == APGMix(10.0, norm=8.0, momentum=-0.5, cfg_weight=3.5, start_step=1)
    table = run(peer, visits)  # with its momentum, which gathers while CFG acts
    assert fed(table, "denoised")["difference"].max() < 1e-12
    assert fed(table, "eps").query("step > 1")["difference"].min() > 0.01
    # a momentum that began with APG would be another
    late = run(peer, visits, paper=APGMix(10.0, norm=8.0, momentum=-0.1, cfg_weight=3.5, start_step=1))
    assert fed(late, "denoised").query("step > 1")["difference"].min() > 0.01


def test_mixed_guidance_as_it_comes_starts_from_uncond():
    table = run(diffusers.AdaptiveProjectedMixGuidance(**MIX), states(sigmas=(8.0, 4.0, 2.0, 1.0)))
    early = table["step"] <= 1
    assert table.loc[early, "difference"].max() < 1e-12 and table.loc[~early, "difference"].min() > 0.01


@pytest.mark.parametrize(("scales", "weight"), [((1.0, 10.0), 1.0), ((3.5, 1.0), 3.5)])
def test_mixed_guidance_falls_back_where_one_of_its_scales_is_none(scales, weight):
    # without CFG it never comes to APG; and where APG's scale is 1 it is CFG, not the conditional prediction
    peer = diffusers.AdaptiveProjectedMixGuidance(scales[0], adaptive_projected_guidance_scale=scales[1], **MIX)
    table = run(peer, states(sigmas=(8.0, 4.0, 2.0, 1.0)), paper=CFG(weight))
    assert table["difference"].max() < 1e-12


def test_start_and_stop_are_shares_of_the_steps():
    peer = diffusers.ClassifierFreeGuidance(4.0, start=0.25, stop=0.75)
    assert paper_rule(peer, 8) == StepInterval(CFG(4.0), first=2, last=5)
    table = run(peer, states(sigmas=(8.0, 4.0, 2.0, 1.0)))
    assert table["difference"].max() < 1e-12
    assert set(table.loc[table["weight_orthogonal"] < 1.5, "step"]) == {0, 3}


def test_papers_of_guiders():
    assert paper_rule(diffusers.AdaptiveProjectedGuidance(4.0), 5) == APG(4.0, eta=1.0, norm=15.0)
    assert paper_rule(diffusers.ClassifierFreeGuidance(4.0, guidance_rescale=0.5), 5) == Rescaled(CFG(4.0), phi=0.5)
    assert paper_rule(diffusers.AutoGuidance(2.0, 0, dropout=0.1), 5) == CFG(2.0)
    assert paper_rule(as_guider(CFG(2.0)), 5) == CFG(2.0) and paper_rule(lambda c, u: c, 5) is None


@pytest.fixture
def pyramid(monkeypatch):
    """diffusers takes its pyramid from kornia; the same written in scipy stands in for it."""
    monkeypatch.setattr(bands, "_CAN_USE_KORNIA", True)
    monkeypatch.setattr(bands, "build_laplacian_pyramid_func", pyramids.build_laplacian_pyramid)
    monkeypatch.setattr(bands, "upsample_and_blur_func", pyramids.upsample_and_blur)


def test_frequency_decoupled_is_space_free_and_lists_high_frequencies_first(pyramid):
    peer = diffusers.FrequencyDecoupledGuidance([4.0, 2.0])
    assert paper_rule(peer, 3) == FrequencyDecoupled((2.0, 4.0))
    table = run(peer)
    assert table["difference"].max() < 1e-10 and set(table["acts_in"]) == {"none"}


def test_frequency_decoupled_with_parallel_weights_is_the_papers_in_one_convention_and_space(pyramid):
    weights = {"parallel_weights": [0.0, 0.5]}
    table = run(diffusers.FrequencyDecoupledGuidance([4.0, 2.0], **weights))
    assert table["difference"].min() > 0.01  # the parallel part of the unguided difference is lost too
    peer = diffusers.FrequencyDecoupledGuidance([3.0, 1.0], use_original_formulation=True, **weights)
    assert paper_rule(peer, 3) == FrequencyDecoupled((2.0, 4.0), (0.5, 0.0))
    table = run(peer)
    assert fed(table, "denoised")["difference"].max() < 1e-10
    assert fed(table, "eps")["difference"].min() > 1e-3


@pytest.mark.parametrize("scales", [[3.0, 1.0], [1.0, 3.0]])
def test_frequency_decoupled_fails_where_a_band_has_weight_one(pyramid, scales):
    table = run(diffusers.FrequencyDecoupledGuidance(scales))
    # the band that is skipped is unbound, or the band above is put in its place, at another resolution
    expected = "UnboundLocalError" if scales[0] == 1.0 else "RuntimeError"
    assert table["error"].str.contains(expected).all()
    assert run(as_guider(FrequencyDecoupled(tuple(reversed(scales)))))["difference"].max() < 1e-12


def three(kind, **more):
    config = guiders.SmoothedEnergyGuidance if kind == "seg" else guiders.SkipLayerGuidance
    name = "seg_guidance_layers" if kind == "seg" else "skip_layer_guidance_layers"
    return config(**{name: [0]}, **more)


PERTURBERS = {
    "PAG": lambda w, s, **more: guiders.PerturbedAttentionGuidance(
        w, s, perturbed_guidance_start=0.0, perturbed_guidance_stop=1.0, perturbed_guidance_layers=[0], **more
    ),
    "SLG": lambda w, s, **more: guiders.SkipLayerGuidance(
        w, s, skip_layer_guidance_start=0.0, skip_layer_guidance_stop=1.0, skip_layer_guidance_layers=[0], **more
    ),
    "SEG": lambda w, s, **more: guiders.SmoothedEnergyGuidance(w, s, seg_guidance_layers=[0], **more),
}


def with_perturbed(**options):
    noise, found = torch.Generator().manual_seed(2), states(**options)
    draws = [torch.randn(visit.x.shape, generator=noise, dtype=torch.float64) for visit in found]
    return [
        replace(visit, others={PERTURBED: 0.9 * visit.cond + 0.3 * draw})
        for visit, draw in zip(found, draws, strict=True)
    ]


@pytest.mark.parametrize("original", [False, True])
@pytest.mark.parametrize("kind", PERTURBERS)
def test_guiders_of_three_branches_are_their_formula_except_in_the_first_step(kind, original):
    peer = PERTURBERS[kind](4.0, 2.5, use_original_formulation=original)
    assert paper_rule(peer, 3) == PAG(2.5, weight=4.0 + original, last=2)
    table = run(peer, with_perturbed())
    later = table["step"] > 0
    assert set(table["acts_in"]) == {"any"} and not table["projection"].any() and (table["error"] == "").all()
    assert table["offset"].to_numpy() == pytest.approx(float(original), abs=1e-8)
    assert table.loc[later, "scale_perturbed"].to_numpy() == pytest.approx(2.5, abs=1e-8)
    assert table.loc[later, "difference"].max() < 1e-10
    # the first step lies in the window from 0, but is left out
    assert table.loc[~later, "scale_perturbed"].to_numpy() == pytest.approx(0.0, abs=1e-8)
    assert table.loc[~later, "difference"].min() > 0.01


@pytest.mark.parametrize("kind", PERTURBERS)
def test_guiders_of_three_branches_without_cfg_are_one_unit_weaker(kind):
    # they start from the perturbed prediction: the paper's c + s (c - p) has s - 1 there
    later = run(PERTURBERS[kind](1.0, 2.5), with_perturbed()).query("step > 0")
    assert later["scale_perturbed"].to_numpy() == pytest.approx(1.5, abs=1e-8)
    assert later["difference"].min() > 0.01
    other = run(PERTURBERS[kind](1.0, 2.5), with_perturbed(), paper=PAG(1.5)).query("step > 0")
    assert other["difference"].max() < 1e-10


def test_the_spatio_temporal_branch_of_ltx2_is_its_formula():
    peer = guiders.LTX2Guidance(3.0, stg_scale=1.5)
    assert paper_rule(peer, 3) == PAG(1.5, weight=3.0, last=2)
    table = run(peer, with_perturbed())
    assert table["difference"].max() < 1e-10 and table["offset"].to_numpy() == pytest.approx(0.0, abs=1e-8)
    assert table["scale_perturbed"].to_numpy() == pytest.approx(1.5, abs=1e-8)
    assert paper_rule(guiders.LTX2Guidance(3.0, stg_scale=1.5, modality_scale=2.0), 3) is None


def test_windows_of_three_branches():
    peer = three("slg")  # from 1 % to 20 %
    assert paper_rule(peer, 20) == PAG(2.8, weight=7.5, first=1, last=3)
    assert paper_rule(peer, 4) == CFG(7.5)  # no step lies there
    assert paper_rule(three("slg", start=0.5), 20) is None
    table = run(peer, with_perturbed(sigmas=(8.0, 6.0, 4.0, 3.0, 2.0, 1.0, 0.7, 0.5, 0.3, 0.2)))
    assert table["difference"].max() < 1e-10  # first 1, last 1: the guider and the formula agree
    acting = table["scale_perturbed"].abs() > 1e-6
    assert set(table.loc[acting, "step"]) == {1}


def test_a_perturbed_branch_that_is_cond_has_no_weight():
    table = run(PERTURBERS["SEG"](4.0, 2.5), [replace(v, others={PERTURBED: v.cond}) for v in states()])
    assert table["scale_perturbed"].isna().all() and table["difference"].max() < 1e-10
    assert table["offset"].to_numpy() == pytest.approx(0.0, abs=1e-8)


def test_guiders_of_three_branches_need_the_third():
    with pytest.raises(InputError, match="step 0 without the perturbed branch"):
        run(PERTURBERS["SLG"](4.0, 2.5))


def test_a_perturbed_branch_without_cfg_is_given_the_unconditional_inputs():
    peer = three("slg", guidance_scale=1.0)
    peer.set_state(1, 20, torch.tensor(0))
    cond, other = peer.prepare_inputs({"prompt_embeds": (torch.ones(1), torch.zeros(1))})
    assert other.__guidance_identifier__ == "pred_cond_skip"
    assert cond.prompt_embeds == 1 and other.prompt_embeds == 0  # PAG and SLG perturb the conditional pass


def test_windows_of_perturbed_branches_leave_out_the_first_step():
    peer = three("slg", skip_layer_guidance_start=0.0, skip_layer_guidance_stop=1.0)
    conditions = []
    for step in range(5):
        peer.set_state(step, 5, torch.tensor(0))
        conditions.append(peer.num_conditions)
    assert conditions == [2, 3, 3, 3, 3]


def test_smoothed_energy_never_attaches_its_blur():
    network = torch.nn.Module()
    network.transformer_blocks = torch.nn.ModuleList([torch.nn.Identity()])
    peer = three("seg")
    peer.set_state(1, 5, torch.tensor(0))
    for _ in range(3):
        peer.prepare_models(network)
        assert not hasattr(network, "_diffusers_hook") and peer.get_state()["count_prepared"] == 0


def test_tangential_has_no_say_on_which_branch_is_conditional():
    with pytest.raises(AttributeError, match="is_conditional"):
        _ = diffusers.TangentialClassifierFreeGuidance(4.0).is_conditional


def test_autoguidances_weak_pass_has_the_unconditional_inputs():
    peer = diffusers.AutoGuidance(2.0, 0, dropout=0.1)
    peer.set_state(0, 5, torch.tensor(0))
    _, weak = peer.prepare_inputs({"prompt_embeds": (torch.ones(1), torch.zeros(1))})
    assert weak.prompt_embeds == 0  # Karras et al. give the weak model the same condition


@pytest.mark.parametrize("build", [sd15, sd3])
def test_recorded_pipelines_can_be_audited(build):
    pipe, arguments = build()
    with record(pipe, keep="branches") as trace:
        pipe(**arguments)
    table = run(diffusers.AdaptiveProjectedGuidance(4.0, eta=0.0, adaptive_projected_guidance_rescale=0.0), trace)
    starts = [visit.step for visit in visits(trace) if visit.sigma == 1e8]  # a flow's first state holds no data
    assert starts == ([0] if build is sd3 else []) and set(table["step"]) == {*range(4)} - {*starts}
    assert table["offset"].to_numpy() == pytest.approx(0.0, abs=1e-3)
    assert run(as_guider(APG(4.0)), trace)["difference"].max() < 1e-6


@pytest.mark.parametrize(("build", "scale", "steps"), [(pag, 3.0, range(4)), (slg, 2.8, range(1, 4))])
def test_perturbed_branches_of_recorded_pipelines_are_replayed_and_audited(build, scale, steps):
    pipe, arguments = build()
    with record(pipe, keep="branches") as trace:
        pipe(**arguments)
    found = [visit for visit in visits(trace) if PERTURBED in visit.others]
    assert [visit.step for visit in found] == list(steps)
    scalars = replay(trace, PAG(scale, weight=5.0, first=steps[0])).scalars
    assert ((scalars["difference_sq"] / scalars["guided_sq"]) ** 0.5).max() < 1e-5  # the pipeline's own rule
    table = run(PERTURBERS["PAG"](5.0, scale), found)
    later = table["step"] > 0
    assert table.loc[later, "difference"].max() < 1e-8
    assert table.loc[later, "scale_perturbed"].to_numpy() == pytest.approx(scale, abs=1e-3)


def test_a_second_condition_is_not_taken_for_a_perturbed_branch():
    pipe, arguments = ip2p()
    with record(pipe, keep="branches") as trace:
        pipe(**arguments)
    assert all(step.perturbed is None for step in trace.arrays.proved)
    with pytest.raises(InputError, match="perturbed, which this step has not"):
        trace.arrays.load("perturbed", 0)


def test_states_without_data_are_left_out():
    # the float32 arithmetic of a plain peer, fed eps at such a state, would show as a space that it does not act in
    def peer(c, u):
        return (u.float() + 3.0 * (c.float() - u.float())).to(c.dtype)

    without = states(sigmas=(1e8, 2.0, 0.3))
    table = run(peer, without, scale=3.0)
    assert set(table["step"]) == {1, 2} and set(table["acts_in"]) == {"any"}
    assert table["offset"].to_numpy() == pytest.approx(0.0, abs=1e-3)
    with pytest.raises(InputError, match="found none"):
        run(peer, without[:1])


def test_traces_of_samplers_can_be_audited():
    denoiser, _ = load_denoiser("digits")
    trace = sample(
        denoiser, seeds=range(2), condition=torch.tensor([1, 2]), rule=CFG(2.0), sigmas=(20.0, 3.0, 0.5, 0.0),
        record=Recording(keep=True), progress=False,
    ).trace  # fmt: skip
    table = run(diffusers.ClassifierFreeGuidance(2.0), trace)
    assert set(table["sample"]) == {0, 1} and table["difference"].max() < 1e-10


def test_states_that_cannot_be_audited_are_refused():
    visit = states()[0]
    lone = Visit(0, 0, 1.0, 0.5, visit.x, visit.cond, None, visit.cond)
    for wrong, match in (([], "found none"), ([lone], "without the unconditional branch")):
        with pytest.raises(InputError, match=match):
            run(diffusers.ClassifierFreeGuidance(2.0), wrong)
    with pytest.raises(InputError, match="sigma"):
        run(CFG, [Visit(0, 0, float("inf"), 1.0, visit.x, visit.cond, visit.uncond, visit.cond)])
    with pytest.raises(InputError, match="spaces"):
        run(CFG, spaces=("edm",))


def cfg(cond, uncond):
    return uncond + 3.0 * (cond - uncond)


def same_branches(visits):
    return [replace(visit, uncond=visit.cond) for visit in visits]


def test_branches_that_are_the_same_tell_nothing_of_a_guider():
    for guider in (cfg, diffusers.ClassifierFreeGuidance(3.0), diffusers.AdaptiveProjectedGuidance(3.0)):
        table = run(guider, same_branches(states()))
        assert set(table["acts_in"]) == {"unknown"} and set(table["missing"]) == {"both branches are the same"}
        assert not table["raw"].any() and not table["projection"].any() and (table["error"] == "").all()
        assert table[["weight_orthogonal", "weight_parallel", "offset"]].isna().all(axis=None)


def test_branches_that_differ_by_double_rounding_are_the_same():
    near = [replace(visit, uncond=visit.cond * (1 + 1e-15)) for visit in states()]
    table = run(cfg, near, scale=3.0)
    assert set(table["acts_in"]) == {"unknown"} and set(table["missing"]) == {"both branches are the same"}
    assert table["offset"].isna().all() and not table["projection"].any()


def test_what_lies_outside_the_branches_is_told_even_where_they_are_the_same():
    # it adds what is no combination of the two, in no space
    table = run(lambda cond, uncond: cond + torch.linspace(-1, 1, 8).double(), same_branches(states()))
    assert set(table["acts_in"]) == {"none"} and table["residual"].min() > 0.1


def test_one_state_that_tells_nothing_leaves_the_others_as_they_are():
    first, second, third = states()
    table = run(cfg, [first, *same_branches([second]), third], scale=3.0)
    assert table.groupby("step")["acts_in"].agg(set).to_dict() == {0: {"any"}, 1: {"unknown"}, 2: {"any"}}
    assert (table.loc[table["acts_in"] == "any", "missing"] == "").all()
    assert table.loc[table["acts_in"] == "any", "offset"].abs().max() < 1e-10


def test_branches_along_each_other_have_one_weight():
    along = [replace(visit, uncond=0.5 * visit.cond) for visit in states()]
    table = fed(run(cfg, along), "denoised")
    assert set(table["acts_in"]) == {"any"} and set(table["missing"]) == {"cond and uncond are parallel"}
    assert table["weight_parallel"].to_numpy() == pytest.approx(3.0, abs=1e-9) and not table["projection"].any()
    assert table["weight_orthogonal"].isna().all() and (table["residual"] < 1e-9).all()


def test_a_prediction_of_zero_has_no_part_along_it():
    empty = [replace(visit, cond=torch.zeros_like(visit.cond)) for visit in states()]
    table = fed(run(cfg, empty), "denoised")
    assert set(table["acts_in"]) == {"any"} and set(table["missing"]) == {"no part along cond"}
    assert table["weight_orthogonal"].to_numpy() == pytest.approx(3.0, abs=1e-9)


def test_a_guider_that_fails_acts_in_no_known_space():
    def failing(cond, uncond):
        raise ValueError("no")

    for guider in (failing, lambda cond, uncond: cond / 0.0):
        table = run(guider)
        assert set(table["acts_in"]) == {"unknown"} and set(table["missing"]) == {"no finite prediction"}
        assert (table["error"] != "").all()


def test_rounding_inside_a_guider_is_not_taken_for_another_direction():
    def single(cond, uncond):
        return cfg(cond.float(), uncond.float()).double()

    near = [replace(visit, uncond=visit.cond + 1e-5 * (visit.uncond - visit.cond)) for visit in states()]
    table = run(single, near)
    assert "none" not in set(table["acts_in"])
    assert set(table.loc[table["acts_in"] == "unknown", "missing"]) <= {"within rounding of cond"}
    # what is computed in double precision is told however close the branches are
    assert set(run(cfg, near)["acts_in"]) == {"any"}


def test_a_guider_that_does_nothing_is_a_combination_in_every_space():
    # converting to a space and back leaves rounding, which has no direction
    table = run(lambda cond, uncond: cond, scale=1.0)
    assert set(table["acts_in"]) == {"any"} and table["offset"].abs().max() < 1e-9


# coupling between samples


def by_mean_norm(c, u):
    """The update scaled to the mean norm of the batch."""
    d = c - u
    norms = d.flatten(1).norm(dim=1)
    return c + 2.0 * d * (norms.mean() / norms).reshape(-1, 1, 1, 1)


def standardised(c, u):
    """The update less its mean over the batch, over its deviation there."""
    d = c - u
    return c + 0.5 * (d - d.mean(0)) / d.std(0)


class SharedMomentum:
    """CFG with a momentum of the mean update of all samples, which shows from the second step on."""

    def __init__(self):
        self.before = 0.0

    def __call__(self, c, u):
        self.before = 0.5 * self.before
        result = c + 2.0 * (c - u) + self.before
        self.before = self.before + (c - u).mean(0, keepdim=True)
        return result


def by_the_first(c, u):
    """The weight is the norm of the first sample's update."""
    d = c - u
    return c + d * d[0].norm() / 10


PLANTED = {
    "mean norm": (by_mean_norm, 0.05),
    "standardised": (standardised, 0.02),
    "shared momentum": (SharedMomentum(), 0.01),
    "the first sample's": (by_the_first, 0.02),
    "faint": (lambda c, u: u + 3.0 * (c - u) + 1e-6 * c.mean(0, keepdim=True), 1e-8),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_coupling_between_samples_is_named(kind):
    guider, least = PLANTED[kind]
    table = run(guider, states((4, 4, 8, 8)))
    coupled = table[table["step"] > 0] if kind == "shared momentum" else table
    if kind == "the first sample's":
        coupled = table[table["sample"] > 0]
        assert not table.loc[table["sample"] == 0, "couples_samples"].any()
    assert coupled["couples_samples"].all() and coupled["coupling"].min() > least
    if kind == "shared momentum":
        assert not table.loc[table["step"] == 0, "couples_samples"].any()


def test_coupling_is_as_strong_as_it_is():
    visits = states((2, 4, 8, 8), sigmas=(1.0,))
    table = run(lambda c, u: u + 3.0 * (c - u) + 0.1 * c.mean(0, keepdim=True), visits, spaces=("denoised",))
    (visit,) = visits
    plain = visit.uncond + 3.0 * (visit.cond - visit.uncond) + 0.1 * visit.cond.mean(0, keepdim=True)
    # the other one's cond becomes -2 of what it was: the mean moves by 1.5 of it
    expected = 0.15 * visit.cond.flip(0).flatten(1).norm(dim=1) / plain.flatten(1).norm(dim=1)
    assert table["coupling"].to_numpy() == pytest.approx(expected.numpy(), rel=1e-9)
    assert table["coupling_floor"].max() < 1e-14


CLEAN = {
    "CFG": lambda: diffusers.ClassifierFreeGuidance(4.0, guidance_rescale=0.7),
    "APG": lambda: diffusers.AdaptiveProjectedGuidance(4.0, eta=0.0, adaptive_projected_guidance_momentum=-0.5),
    "mix": lambda: diffusers.AdaptiveProjectedMixGuidance(**MIX),
    "zero star": lambda: diffusers.ClassifierFreeZeroStarGuidance(4.0),
    "tangential": lambda: diffusers.TangentialClassifierFreeGuidance(4.0),
    "auto": lambda: diffusers.AutoGuidance(2.0, 0, dropout=0.1),
    **{kind: lambda kind=kind: PERTURBERS[kind](4.0, 2.5) for kind in PERTURBERS},
    "ours": lambda: as_guider(Rescaled(APG(4.0, norm=3.0, momentum=-0.5), phi=0.7)),
    "ours by band": lambda: as_guider(FrequencyDecoupled((2.0, 4.0))),
    "ours, adaptive": lambda: as_guider(AdaptiveGuidance(CFG(3.0), threshold=0.9)),
    "in float32": lambda: lambda c, u: (u.float() + 3.0 * (c.float() - u.float())).to(c.dtype),
    "a draw for each": lambda: lambda c, u: u + 3.0 * (c - u) + 0.1 * torch.randn_like(c),
}


@pytest.mark.parametrize("kind", CLEAN)
def test_official_rules_do_not_couple_samples(kind):
    table = run(CLEAN[kind](), with_perturbed(shape=(5, 4, 8, 8)))
    told = table[table["error"] == ""]
    assert len(told) and not told["couples_samples"].any() and told["coupling"].notna().all()
    assert told["coupling"].max() <= 3 * told["coupling_floor"].min()


def test_a_sample_alone_has_no_others():
    table = run(by_mean_norm, states((1, 4, 8, 8)))
    assert table["coupling"].isna().all() and not table["couples_samples"].any()


def test_an_error_couples_nothing():
    def fails(c, u):
        raise ValueError("never")

    assert not run(fails)["couples_samples"].any() and run(fails)["coupling"].isna().all()
