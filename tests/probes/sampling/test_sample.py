import itertools
import math

import pytest
import torch
from tests.oracles import diagonal_pair, random_pair

from scorescope.data import InputError, load_denoiser
from scorescope.probes import APG, CFG, Recording, sample
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import DPMSolverPP2M, Euler, Heun

PAIR = diagonal_pair([1.5, 0.4, 0.09], [1.0, 0.7, 0.3], mean=[0.2, -0.5, 1.0])
LABELS = torch.zeros(5, dtype=torch.long)


def draw(denoiser=PAIR, count=5, **options):
    options = {"condition": torch.zeros(count, dtype=torch.long), "dtype": torch.float64, "progress": False} | options
    return sample(denoiser, seeds=range(count), **options)


def guided_path_end(pair, x, weight, sigma_max, sigma_min=0.0):
    """Closed form of the CFG-guided path to sigma_min: each mode scales by (l_c + s^2)^(w/2) (l_u + s^2)^((1-w)/2)."""
    cond, uncond = pair.covariance_cond.diag(), pair.covariance_uncond.diag()

    def scale(sigma):
        return (cond + sigma**2) ** (weight / 2) * (uncond + sigma**2) ** ((1 - weight) / 2)

    return pair.mean_cond + (x - pair.mean_cond) * scale(sigma_min) / scale(sigma_max)


def start_states(count, sigma):
    noise = [torch.randn(3, generator=torch.Generator().manual_seed(seed)) for seed in range(count)]
    return sigma * torch.stack(noise).double()


@pytest.mark.parametrize("weight", [1.0, 2.5, 4.0])
@pytest.mark.parametrize(
    ("solver", "order", "tolerance"), [(Euler(), 1, 0.1), (Heun(), 2, 0.1), (DPMSolverPP2M(), 2, 0.2)]
)
def test_solvers_converge_to_the_closed_form_at_their_order(solver, order, tolerance, weight):
    # down to 0.02, not to 0: the last step to 0 is of first order and of fixed length, whatever the grid
    exact = guided_path_end(PAIR, start_states(5, 80.0), weight, 80.0, 0.02)
    errors = []
    for steps in (80, 160, 320):
        sigmas = edm_sigmas(steps, sigma_min=0.02)[:-1]
        found = draw(rule=CFG(weight), solver=solver, sigmas=sigmas).samples
        errors.append((found - exact).norm().item())
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert orders == pytest.approx([order, order], abs=tolerance)
    assert errors[-1] < (0.05 if order == 1 else 1e-3) * exact.norm().item()


def test_default_is_heun_on_the_edm_grid():
    grid = edm_sigmas(18)
    assert grid[0] == pytest.approx(80) and grid[-2] == pytest.approx(0.002) and grid[-1] == 0
    # Karras et al. 2022, eq. 5, written out at i = 7
    rho = 1 / 7
    assert grid[7] == pytest.approx((80**rho + 7 / 17 * (0.002**rho - 80**rho)) ** 7)
    run = draw(record=Recording())
    assert len(run.trace.scalars) == 5 * 35 and run.trace.manifest["solver"] == "Heun"
    assert torch.equal(run.samples, draw(solver=Heun(), sigmas=grid).samples)


def test_samples_do_not_depend_on_the_batch():
    whole = draw(count=7, rule=APG(3.0, momentum=-0.5), record=Recording())
    parts = draw(count=7, rule=APG(3.0, momentum=-0.5), record=Recording(), batch=3)
    assert torch.allclose(whole.samples, parts.samples, rtol=1e-13, atol=1e-13)
    keys = ["sample", "step", "call"]
    a, b = (run.trace.scalars.sort_values(keys, ignore_index=True) for run in (whole, parts))
    assert (a[keys] == b[keys]).all(axis=None)
    assert (a["update_sq"] - b["update_sq"]).abs().max() < 1e-10 * a["update_sq"].max()


def test_samples_of_the_shipped_model_do_not_depend_on_the_batch():
    # a convolution may sum in another order for another batch size: float32 rounding along 35 calls, no more
    denoiser, _ = load_denoiser("digits")
    labels = torch.arange(6)
    whole = sample(denoiser, seeds=range(6), condition=labels, progress=False).samples
    parts = sample(denoiser, seeds=range(6), condition=labels, batch=1, progress=False).samples
    assert (whole - parts).abs().max() < 1e-3


def test_a_sample_belongs_to_its_seed():
    a = sample(PAIR, seeds=[3, 1], condition=LABELS[:2], dtype=torch.float64, progress=False).samples
    b = sample(PAIR, seeds=[1, 9, 3], condition=LABELS[:3], dtype=torch.float64, progress=False).samples
    assert torch.allclose(a, b[[2, 0]], rtol=1e-13)


def test_recording_changes_no_bit():
    plain = draw(rule=CFG(3.0)).samples
    recorded = draw(rule=CFG(3.0), record=Recording(value_range=(-1, 1), centred=True, band_edges=(0.25,))).samples
    assert torch.equal(plain, recorded)


def test_churn_keeps_the_law_of_the_data():
    # 20000 samples: the variance estimate has a relative standard error of sqrt(2 / 20000) = 1 %
    generator = torch.Generator().manual_seed(0)

    def noise():
        return torch.randn(20_000, 3, generator=generator, dtype=torch.float64)

    def evaluate(x, *, sigma, **where):
        return PAIR(x, torch.tensor([sigma]), LABELS)

    solver = Heun(churn=30, churn_min=0.05, churn_max=50)
    found = solver.run(evaluate, 80 * noise(), edm_sigmas(300), noise)
    assert torch.allclose(found.var(0), PAIR.covariance_cond.diag(), rtol=0.04)
    # and it is not the deterministic path: the end is hardly correlated with the start
    generator.manual_seed(0)
    start = noise()
    assert torch.corrcoef(torch.stack([start[:, 0], found[:, 0]]))[0, 1].abs() < 0.9


def test_churn_noise_belongs_to_the_sample():
    solver = Heun(churn=30)
    assert torch.allclose(draw(count=4, solver=solver).samples[:2], draw(count=2, solver=solver).samples, rtol=1e-10)


def test_calls_are_counted():
    guided = draw(rule=CFG(2.0), record=Recording()).trace.scalars
    assert (guided["needed"] == 2).all() and (guided["observed"] == 0).all() and (guided["missing"] == "").all()
    plain = draw(rule=CFG(1.0), record=Recording()).trace.scalars
    assert (plain["needed"] == 1).all() and plain["update_sq"].isna().all()
    assert (plain["missing"] == "not needed by CFG").all()
    observed = draw(rule=CFG(1.0), record=Recording(all_branches=True)).trace.scalars
    assert (observed["needed"] == 1).all() and (observed["observed"] == 1).all() and observed["update_sq"].notna().all()


def test_unconditional_run():
    run = draw(condition=None, record=Recording())
    exact = guided_path_end(PAIR, start_states(5, 80.0), 0.0, 80.0)
    assert (run.samples - exact).norm() / exact.norm() < 0.1
    assert (run.trace.scalars["missing"] == "unconditional run").all()


def test_any_data_shape():
    for shape in [(4,), (2, 5), (3, 4, 4), (2, 3, 4, 4)]:
        run = sample(
            lambda x, sigma, condition: x / (1 + sigma.reshape(-1, *(1,) * (x.ndim - 1)) ** 2),
            seeds=range(2), shape=shape, record=Recording(), progress=False,
        )  # fmt: skip
        assert run.samples.shape == (2, *shape) and run.trace.manifest["shape"] == list(shape)


def test_conditions_may_be_dicts():
    class Scaled:
        shape = (3,)

        def __call__(self, x, sigma, condition):
            scale = 0.0 if condition is None else condition["scale"][:, None]
            return torch.zeros_like(x) + scale

    run = sample(Scaled(), seeds=range(4), condition={"scale": torch.arange(4.0)}, batch=3, progress=False)
    assert torch.allclose(run.samples, torch.arange(4.0)[:, None].expand(4, 3))


class Faulty:
    """Behaves until a noise level, then returns something else."""

    shape = (3,)

    def __init__(self, fault, branch="cond", below=1.0):
        self.fault, self.branch, self.below = fault, branch, below

    def __call__(self, x, sigma, condition):
        hit = sigma[0] < self.below and (condition is None) == (self.branch == "uncond")
        return self.fault(x) if hit else x / 2


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda x: x * math.nan, r"denoiser \(uncond, step \d+, sigma 0\.\d+\): found NaN or infinite values"),
        (lambda x: x / 0, "found NaN or infinite values"),
        (lambda x: x[:, :2], r"denoiser \(uncond\): found a prediction of shape \(5, 2\)"),
        (lambda x: x.half(), "torch.float16"),
        (lambda x: [x], "a list"),
    ],
)
def test_faulty_predictions_are_named(fault, message):
    with pytest.raises(InputError, match=message):
        draw(Faulty(fault, "uncond"), rule=CFG(2.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigmas": [1.0, -0.5]}, "sigmas: found"),
        ({"sigmas": [1.0, 0.0, 0.0]}, "sigmas: found"),
        ({"sigmas": [0.5, 1.0]}, "sigmas: found"),
        ({"sigmas": [float("nan"), 1.0]}, "sigmas: found"),
        ({"sigmas": [1.0]}, "sigmas: found"),
        ({"batch": 0}, "batch 0"),
        ({"condition": LABELS[:3]}, "condition: found 3 rows; expected 5"),
        ({"condition": None, "rule": CFG(2.0)}, "condition: found None"),
        ({"shape": ()}, "shape: found"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(InputError, match=message):
        draw(**options)


def test_no_seeds_and_labels_out_of_range():
    with pytest.raises(InputError, match="0 seeds"):
        sample(PAIR, seeds=[], progress=False)
    denoiser, _ = load_denoiser("digits")
    with pytest.raises(InputError, match="labels from 0 to 12"):
        sample(denoiser, seeds=range(2), condition=torch.tensor([0, 12]), progress=False)


def test_impossible_grids_and_churn():
    for options in ({"steps": 0}, {"sigma_min": 0.0}, {"sigma_min": 90.0}, {"sigma_max": math.inf}):
        with pytest.raises(InputError):
            edm_sigmas(**options)
    with pytest.raises(InputError, match="churn"):
        Heun(churn=-1.0)


def test_non_commuting_laws_give_the_oracles_update():
    pair = random_pair()
    run = draw(pair, rule=CFG(3.0), record=Recording())
    first = run.trace.scalars.query("step == 0 and call == 0")
    start = start_states_of(pair, 80.0)
    update = pair(start, torch.full((5,), 80.0).double(), LABELS) - pair(start, torch.full((5,), 80.0).double(), None)
    assert torch.allclose(torch.tensor(first["update_sq"].to_numpy()), update.square().sum(1), rtol=1e-10)


def start_states_of(pair, sigma):
    noise = [torch.randn(pair.shape, generator=torch.Generator().manual_seed(seed)) for seed in range(5)]
    return sigma * torch.stack(noise).double()
