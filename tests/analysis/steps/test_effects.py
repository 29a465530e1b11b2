"""Which steps matter: damages of a mixture and of planted faults, proxies, sets."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from scorescope.analysis.steps import change_steps, cheapest_steps, proxy_ranks, step_damage
from scorescope.data import InputError
from scorescope.probes import CFG
from scorescope.probes.approximations import Gaussian, Mixture
from scorescope.probes.models import edm_sigmas
from scorescope.probes.perturbations import ChangedSteps, LeftOut, Repeated, Replaced, Unguided
from scorescope.probes.sampling import Euler, Heun, Sampling, sample

SEEDS = range(64)
GRID = edm_sigmas(20, sigma_max=20.0, sigma_min=0.02)
EULER = Sampling(solver=Euler(), sigmas=GRID, shape=(16,), dtype=torch.float64)


def mixture():
    generator = torch.Generator().manual_seed(1)
    parts = []
    for _ in range(3):
        turn = torch.linalg.qr(torch.randn(16, 16, generator=generator, dtype=torch.float64))[0]
        values = torch.logspace(np.log10(0.3), np.log10(0.02), 16, dtype=torch.float64)
        parts.append(Gaussian(torch.randn(16, generator=generator, dtype=torch.float64), turn, values))
    return Mixture(tuple(parts), torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64))


def bad_at(level, law):
    """A denoiser that is wrong at one noise level only."""
    return lambda x, sigma, condition: law(x, sigma) + 0.3 * (sigma == level)[:, None]


@pytest.fixture(scope="module")
def effects():
    law = mixture()
    changes = {"repeated": Repeated(), "left out": LeftOut(), "same": Replaced(law)}
    return change_steps(law, changes, seeds=SEEDS, sampling=EULER, progress=False)


class TestDamage:
    def test_repeating_d_is_leaving_the_step_out_in_ddim(self, effects):
        """Two steps with one D are one step: the two changes are one, but for where the last D is taken."""
        a, b = effects.damage["repeated"][1:], effects.damage["left out"][1:]
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-12)

    def test_the_same_denoiser_does_nothing_and_the_first_step_has_none_before_it(self, effects):
        assert (effects.damage["same"] < 1e-12).all()
        table = step_damage(effects)
        first = table[(table["step"] == 0) & table["name"].isin(["repeated", "left out", "eps"])]
        assert first["mean"].isna().all() and set(first["missing"]) == {"there is no step before the first"}
        assert (table[table["mean"].notna()]["missing"] == "").all() and effects.runs == 1 + 19 + 19 + 20 + 20

    def test_the_damage_is_that_of_the_run_with_the_change(self, effects):
        how = {"seeds": SEEDS, "shape": (16,), "dtype": torch.float64, "sigmas": GRID, "progress": False}
        ends = [sample(mixture(), solver=solver, **how).samples
                for solver in (Euler(), ChangedSteps(Euler(), {7: Repeated()}))]  # fmt: skip
        expected = (ends[0] - ends[1]).square().mean(1).sqrt().numpy()
        np.testing.assert_allclose(effects.damage["repeated"][7], expected, rtol=1e-9)

    def test_samples_that_end_in_another_mode_are_counted_apart(self):
        """A jump to another mode in the last step, of the samples that have a positive first coordinate."""
        law = Gaussian(torch.zeros(2).double(), torch.eye(2).double(), torch.full((2,), 1.0).double())
        how = Sampling(solver=Euler(), sigmas=edm_sigmas(6), shape=(2,), dtype=torch.float64)

        def jumps(x, sigma, condition):
            return law(x, sigma) + 5.0 * ((x[:, :1] > 0) & (sigma < 0.01)[:, None])

        found = change_steps(
            law, {"jump": Replaced(jumps)}, seeds=range(20), sampling=how, amplified=False, progress=False
        )
        table = step_damage(found).query("kind == 'damage'").set_index("step")
        assert table.loc[5, "far"] == pytest.approx(float((found.samples[:, 0] > 0).double().mean()))
        assert (table.loc[:4, "far"] == 0).all()

    def test_a_network_that_is_bad_at_one_level_is_seen_there(self):
        law = mixture()
        bad = Replaced(bad_at(GRID[12], law))
        table = step_damage(change_steps(law, {"bad": bad}, seeds=range(16), sampling=EULER, amplified=False,
                                         progress=False))  # fmt: skip
        damage = table[table["kind"] == "damage"].set_index("step")["mean"]
        assert damage.idxmax() == 12 and damage[12] > 0.01 and (damage.drop(12) < 1e-12).all()

    def test_of_a_gaussian_a_wrong_prediction_grows_as_the_closed_form_says(self):
        """A change of D at step s -> t enters with 1 - t / s and each later DDIM step keeps (l + st) / (l + s^2)."""
        variance = torch.tensor([1.0, 0.3, 0.05], dtype=torch.float64)
        law = Gaussian(torch.zeros(3).double(), torch.eye(3).double(), variance)
        grid = edm_sigmas(10, sigma_max=20.0, sigma_min=0.02)
        how = Sampling(solver=Euler(), sigmas=grid, shape=(3,), dtype=torch.float64)
        shifted = Replaced(lambda x, sigma, condition: law(x, sigma) + 0.1)
        found = change_steps(law, {"shifted": shifted}, seeds=range(8), sampling=how, amplified=False, progress=False)
        for step in range(10):
            gain = torch.full((3,), 0.1 * (1 - grid[step + 1] / grid[step]), dtype=torch.float64)
            for s, t in pairwise(grid[step + 1 :]):
                gain = gain * (variance + s * t) / (variance + s**2)
            np.testing.assert_allclose(found.damage["shifted"][step], float(gain.square().mean().sqrt()), rtol=1e-6)

    def test_guidance_that_is_off_in_a_step(self):
        law = mixture()

        def guided(x, sigma, condition):
            return law(x, sigma) if condition is None else law.components[0](x, sigma)

        how = Sampling(rule=CFG(2.0), solver=Heun(), sigmas=edm_sigmas(8), shape=(16,), dtype=torch.float64)
        found = change_steps(guided, {"off": Unguided()}, seeds=range(8), condition=torch.zeros(8), sampling=how,
                             amplified=False, progress=False)  # fmt: skip
        assert (found.damage["off"].mean(1) > 0).all()


class TestProxies:
    def test_the_amplified_difference_orders_steps_and_the_plain_one_does_not(self, effects):
        """On such a mixture: D 0.3, noise 0.5, input 0.9, amplified 0.98 (measured before, on another one)."""
        rank = proxy_ranks(effects).query("change == 'repeated'").set_index("proxy")
        assert rank.loc["amplified", "rank"] > 0.95 > rank.loc["denoised", "rank"]
        assert rank.loc["amplified", "low"] > rank.loc["denoised", "high"]
        assert ((rank["low"] <= rank["rank"]) & (rank["rank"] <= rank["high"])).all() and set(rank["steps"]) == {19}

    def test_ranks_are_spearmans(self, effects):
        rank = proxy_ranks(effects).query("change == 'repeated'").set_index("proxy")["rank"]
        table = step_damage(effects).pivot_table(index="step", columns="name", values="median")
        for proxy in ("denoised", "eps", "input", "difference"):
            assert rank[proxy] == pytest.approx(table["repeated"].corr(table[proxy], method="spearman"))

    def test_relative_changes_are_those_of_teacache(self):
        law = Gaussian(torch.zeros(3).double(), torch.eye(3).double(), torch.ones(3).double())
        how = Sampling(solver=Euler(), sigmas=[4.0, 2.0, 1.0, 0.0], shape=(3,), dtype=torch.float64)
        found = change_steps(law, {"out": LeftOut()}, seeds=range(3), sampling=how, amplified=False, progress=False)
        # x' = (1 + st) / (1 + s^2) x; D = x / (1 + s^2); input x / sqrt(1 + s^2); eps = s x / (1 + s^2)
        x = np.array([1.0, 9 / 17])
        d, inputs, eps = x / [17, 5], x / np.sqrt([17, 5]), x * [4 / 17, 2 / 5]
        for name, values in (("denoised", d), ("input", inputs), ("eps", eps)):
            np.testing.assert_allclose(found.proxies[name][1], abs(values[1] - values[0]) / values[0])


class TestCheapestSteps:
    def test_every_set_was_run_and_the_last_one_is_within(self):
        law = mixture()
        how = {"seeds": SEEDS, "sampling": EULER, "progress": False}
        table = cheapest_steps(law, Repeated(), within=0.02, **how)
        taken = table[table["taken"]]
        assert 1 < len(taken) < 19 and taken["high"].max() <= 0.02
        assert table["alone"].is_monotonic_increasing and (table["median"] > 0).all() and (table["far"] < 0.1).all()
        plain, changed = (
            sample(
                law, seeds=SEEDS, shape=(16,), dtype=torch.float64, sigmas=GRID, progress=False, solver=solver
            ).samples
            for solver in (Euler(), ChangedSteps(Euler(), dict.fromkeys(taken["step"].tolist(), Repeated())))
        )
        assert float((plain - changed).square().mean(1).sqrt().mean()) == pytest.approx(taken["mean"].iloc[-1])

    def test_what_is_not_asked_for_is_refused(self):
        with pytest.raises(InputError, match="within"):
            cheapest_steps(mixture(), Repeated(), within=0.0, seeds=SEEDS, sampling=EULER)
        with pytest.raises(InputError, match="3 steps"):
            change_steps(mixture(), {"out": LeftOut()}, seeds=SEEDS, sampling=Sampling(sigmas=[2.0, 1.0], shape=(16,)))
