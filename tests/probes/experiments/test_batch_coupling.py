"""Couplings planted in networks, rules and pipelines are found, and what does not couple is not."""

import numpy as np
import pytest
import torch
from tests.pipelines import embeddings, sd15
from torch import nn

from scorescope.data import InputError, load_denoiser
from scorescope.probes import CFG, AdaptiveGuidance, sample
from scorescope.probes.experiments import batch_coupling
from scorescope.probes.sampling.solvers import Euler

LABELS = torch.arange(8)
SIGMAS = (20.0, 3.0, 0.5, 0.0)


def drawing(denoiser, rule=None, **how):
    how = {"sigmas": SIGMAS, "solver": Euler()} | how

    def draw(seeds, rows):
        return sample(denoiser, seeds=seeds, condition=LABELS[rows], rule=rule or CFG(2.0), batch=len(seeds),
                      progress=False, **how).samples  # fmt: skip

    return draw


@pytest.fixture(scope="module")
def digits():
    return load_denoiser("digits")[0]


class Normed(nn.Module):
    """Digits behind a norm over the batch."""

    def __init__(self, digits):
        super().__init__()
        self.inner, self.norm, self.shape = digits, nn.BatchNorm2d(1, affine=False), (1, 8, 8)
        self.norm.train()

    def forward(self, x, sigma, condition):
        found = self.inner(x, sigma, condition)
        return found + 0.1 * self.norm(found)


class MeanNorm(CFG):
    """CFG with the update at the mean norm of the batch."""

    def __call__(self, cond, uncond, state):
        update = cond - uncond
        norms = update.flatten(1).norm(dim=1)
        return cond + update * (norms.mean() / norms).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("kind", ["network", "rule", "one neighbour"])
def test_coupling_is_found_and_where(digits, kind):
    def neighbour(x, sigma, condition):
        found = digits(x, sigma, condition)
        found[2] = found[2] + 0.2 * found[0]
        return found

    neighbour.shape = (1, 8, 8)
    draws = {"network": drawing(Normed(digits)), "rule": drawing(digits, MeanNorm(2.0)),
             "one neighbour": drawing(neighbour)}  # fmt: skip
    found = batch_coupling(draws[kind], seeds=range(6))
    assert list(np.flatnonzero(found.couples)) == ([2] if kind == "one neighbour" else list(range(6)))
    assert (found.change[found.couples] > 1e-3).all() and (found.floor < 1e-4).all()


@pytest.mark.parametrize("rule", [CFG(2.0), AdaptiveGuidance(CFG(3.0), threshold=0.9995)], ids=repr)
def test_what_does_not_couple_is_not_found(digits, rule):
    # 48 samples of six batches, whose seeds are others: none
    couples = [batch_coupling(drawing(digits, rule), seeds=range(8 * k, 8 * k + 8)).couples for k in range(6)]
    assert np.mean(couples) <= 0.05


def test_whole_pipelines():
    pipe, arguments = sd15()
    text = embeddings(4, 5, 16, seed=8)
    fixed = arguments | {"num_inference_steps": 3}

    def draw(seeds, rows):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        given = {"prompt_embeds": text[rows], "negative_prompt_embeds": torch.zeros_like(text[rows])}
        return pipe(**(fixed | given | {"generator": generators})).images

    assert not batch_coupling(draw, seeds=range(4)).couples.any()
    step = pipe.scheduler.step
    pipe.scheduler.step = lambda prediction, *args, **kwargs: step(prediction / prediction.std(), *args, **kwargs)
    assert batch_coupling(draw, seeds=range(4)).couples.all()


def test_what_changes_from_call_to_call_is_in_the_floor():
    found = batch_coupling(lambda seeds, rows: torch.randn(len(seeds), 3), seeds=range(6))
    assert (found.floor > 0.1).all() and not (found.change > 30 * found.floor).any()


def test_bad_input():
    with pytest.raises(InputError, match=r"^seeds: found 1; expected two or more"):
        batch_coupling(lambda seeds, rows: torch.zeros(1, 1), seeds=[0])
    with pytest.raises(InputError, match=r"^draw: found 1 samples; expected 2, one a seed"):
        batch_coupling(lambda seeds, rows: torch.zeros(1, 1), seeds=[0, 1])
