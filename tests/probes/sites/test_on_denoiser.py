"""Interventions on a denoiser: what they compute, when they act, that they leave nothing, and what they refuse."""

import math

import pytest
import torch
from torch import Tensor, nn

from scorescope.data.errors import InputError
from scorescope.data.unet import EDMDenoiser, UNetConfig
from scorescope.probes import CFG, Direction, Intervention, Recording, sample
from scorescope.probes.models import edm_sigmas
from scorescope.probes.sampling import Euler, EulerRenoised, Heun
from scorescope.probes.sites import ActivationCache, cached, intervened
from scorescope.probes.sites.row_edits import covered

SIGMAS = edm_sigmas(4)


@pytest.fixture(scope="module")
def network() -> EDMDenoiser:
    torch.manual_seed(0)
    network = EDMDenoiser(UNetConfig(channels=(8, 16), embedding=16, attributes=(3, 2)), 0.5).eval()
    for parameter in network.parameters():  # layers that start at zero would hide what is done before them
        nn.init.normal_(parameter, std=0.2)
    return network


@pytest.fixture(scope="module")
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 1, 8, 8, generator=generator)
    return x, torch.tensor([0.5, 0.5, 2.0, 2.0]), torch.tensor([[0, 1], [1, 0], [2, 1], [1, 1]])


def hooks(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def by_hand(network, site, change, inputs):
    handle = network.get_submodule(site).register_forward_hook(lambda module, args, output: change(output))
    try:
        return network(*inputs)
    finally:
        handle.remove()


SITE, WIDTH = "network.middle1", 16
VECTOR = torch.randn(WIDTH, generator=torch.Generator().manual_seed(2))
MAP = VECTOR[None, :, None, None]
UNIT = MAP / VECTOR.norm()
LEFT = (torch.arange(8) < 4).expand(8, 8)  # of the picture; the site's map is half as large
COLUMNS = (torch.arange(4) < 2).float()
KEPT = torch.ones(WIDTH).index_fill(0, torch.tensor([3, 5]), 0)[:, None, None]


@pytest.mark.parametrize(
    ("given", "change"),
    [
        (Intervention("add", SITE, VECTOR, 1.5), lambda a: a + 1.5 * MAP),
        (Intervention("replace", SITE, VECTOR), lambda a: MAP.expand_as(a)),
        (Intervention("mean", SITE, VECTOR, 0.25), lambda a: a + 0.25 * (MAP - a)),
        (Intervention("zero", SITE), torch.zeros_like),
        (Intervention("zero", SITE, strength=0.5), lambda a: 0.5 * a),
        (Intervention("project", SITE, VECTOR), lambda a: a - (a * UNIT).sum(1, keepdim=True) * UNIT),
        (Intervention("zero", SITE, channels=(3, 5)), lambda a: a * KEPT),
        (Intervention("patch", SITE, rows=torch.tensor([1, 0, 3, 2])), lambda a: a[[1, 0, 3, 2]]),
        (Intervention("zero", SITE, where=LEFT), lambda a: a * (1 - COLUMNS)),
        (Intervention("add", SITE, VECTOR, where=LEFT.float()), lambda a: a + COLUMNS * MAP),
        (Intervention("zero", SITE, channels=(3, 5), where=LEFT), lambda a: a * (KEPT + (1 - KEPT) * (1 - COLUMNS))),
    ],
)
def test_each_form_is_a_hook_written_by_hand(network, inputs, given, change):
    with torch.no_grad():
        torch.testing.assert_close(
            intervened(network, [given])(*inputs), by_hand(network, SITE, change, inputs), rtol=1e-5, atol=1e-6
        )
        assert not torch.equal(intervened(network, [given])(*inputs), network(*inputs))
    assert hooks(network) == 0


def test_strengths_and_vectors_by_row(network, inputs):
    values = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(3))
    strength = torch.tensor([0.0, 1.0, -2.0, 0.0])
    with torch.no_grad():
        found = intervened(network, [Intervention("add", SITE, values, strength)])(*inputs)
        bare = network(*inputs)
        expected = by_hand(network, SITE, lambda a: a + (strength[:, None] * values)[:, :, None, None], inputs)
    torch.testing.assert_close(found, expected)
    # rows are left to the bit where the strength is zero
    assert torch.equal(found[[0, 3]], bare[[0, 3]]) and not torch.isclose(found[1], bare[1]).all()


def test_it_acts_by_noise_level_row_by_row(network, inputs):
    with torch.no_grad():
        bare = network(*inputs)
        high = intervened(network, [Intervention("add", SITE, VECTOR, low=0.5)])(*inputs)  # 0.5 is outside
        low = intervened(network, [Intervention("add", SITE, VECTOR, high=0.5)])(*inputs)  # 0.5 is inside
        none = intervened(network, [Intervention("add", SITE, VECTOR, low=5.0)])(*inputs)
        both = intervened(network, [Intervention("add", SITE, VECTOR)])(*inputs)
    assert torch.equal(high[:2], bare[:2]) and torch.equal(low[2:], bare[2:]) and torch.equal(none, bare)
    assert torch.equal(high[2:], both[2:]) and torch.equal(low[:2], both[:2])


def test_it_acts_by_branch(network, inputs):
    x, sigma, labels = inputs
    for branch, changed in (("cond", (True, False)), ("uncond", (False, True)), ("both", (True, True))):
        pushed = intervened(network, [Intervention("add", SITE, VECTOR, branch=branch)])
        with torch.no_grad():
            found = [not torch.equal(pushed(x, sigma, c), network(x, sigma, c)) for c in (labels, None)]
        assert tuple(found) == changed


def test_regions_by_row(network, inputs):
    where = torch.stack([LEFT, ~LEFT, LEFT, torch.zeros_like(LEFT)])
    columns = torch.stack([COLUMNS, 1 - COLUMNS, COLUMNS, 0 * COLUMNS])[:, None, None]
    with torch.no_grad():
        found = intervened(network, [Intervention("add", SITE, VECTOR, low=0.2, where=where)])(*inputs)
        exact = by_hand(network, SITE, lambda a: a + columns * MAP, inputs)
        torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-6)
        assert torch.equal(found[3], network(*inputs)[3])


def test_a_region_of_tokens():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, x, sigma, condition):
            return self.inner(x)

    x = torch.ones(2, 6, 3)
    where = torch.tensor([[1.0, 0, 0], [0, 0, 1]])
    found = intervened(Tokens(), [Intervention("zero", "inner", where=where)])(x, torch.ones(2), None)
    assert not found[:, [0, 5]].any() and found[:, 1:5].eq(1).all()
    with pytest.raises(InputError, match="as many tokens"):
        intervened(Tokens(), [Intervention("zero", "inner", where=where[:1])])(x, torch.ones(2), None)


def test_a_whole_activation_is_a_direction_too(network, inputs):
    whole = torch.randn(WIDTH * 16, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        found = intervened(network, [Intervention("add", SITE, whole)])(*inputs)
        expected = by_hand(network, SITE, lambda a: a + whole.reshape(1, WIDTH, 4, 4), inputs)
    torch.testing.assert_close(found, expected)


def test_condition_tokens(network, inputs):
    x, sigma, labels = inputs
    shift = torch.randn(16, generator=torch.Generator().manual_seed(5))
    tokens = network.embed(labels)
    with torch.no_grad():
        one = intervened(network, [Intervention("add", "condition.1", shift, branch="cond")])
        expected = tokens.clone()
        expected[:, 1] += shift
        torch.testing.assert_close(one(x, sigma, labels), network(x, sigma, expected))
        torch.testing.assert_close(one(x, sigma, tokens), network(x, sigma, expected))
        assert torch.equal(one(x, sigma, None), network(x, sigma, None))
        every = intervened(network, [Intervention("add", "condition", shift)])
        torch.testing.assert_close(every(x, sigma, None), network(x, sigma, network.embed(None, batch=4) + shift))
        zero = intervened(network, [Intervention("add", "condition.0", shift, torch.zeros(4))])
        assert torch.equal(zero(x, sigma, labels), network(x, sigma, labels))


def test_input_and_prediction_are_sites(network, inputs):
    x, sigma, labels = inputs
    with torch.no_grad():
        assert torch.equal(intervened(network, [Intervention("zero", "x")])(*inputs), network(0 * x, sigma, labels))
        assert not intervened(network, [Intervention("zero", "denoised")])(*inputs).any()


def test_interventions_add_up_in_order(network, inputs):
    first, second = Intervention("add", SITE, VECTOR), Intervention("zero", SITE, strength=0.5)
    with torch.no_grad():
        once = intervened(network, [first, second])(*inputs)
        nested = intervened(intervened(network, [first]), [second])(*inputs)
        expected = by_hand(network, SITE, lambda a: 0.5 * (a + MAP), inputs)
    assert torch.equal(once, nested)
    torch.testing.assert_close(once, expected)


def test_strength_is_in_standard_deviations_of_the_projection(network, inputs):
    direction = Direction(VECTOR, SITE, "size", "test", scale=0.3)
    with torch.no_grad():
        found = intervened(network, [Intervention.along(direction, 2.0)])(*inputs)
        expected = by_hand(network, SITE, lambda a: a + 2.0 * 0.3 * UNIT, inputs)
        gone = intervened(network, [Intervention.without(direction)])(*inputs)
        projected = intervened(network, [Intervention("project", SITE, VECTOR)])(*inputs)
    torch.testing.assert_close(found, expected)
    assert torch.equal(gone, projected)


SOLVERS = [Euler(), Heun(), EulerRenoised(), Heun(churn=40.0)]


@pytest.mark.parametrize("solver", SOLVERS, ids=["euler", "heun", "renoised", "churned"])
def test_a_run_at_strength_zero_is_the_bare_run_to_the_bit(network, solver):
    labels = torch.tensor([[0, 1], [1, 0], [0, 1]])
    run = {"seeds": [5, 6, 5], "condition": labels, "rule": CFG(2.0), "solver": solver, "sigmas": SIGMAS}
    bare = sample(network, **run, progress=False).samples
    push = Intervention("add", SITE, VECTOR, torch.tensor([0.0, 0.0, 3.0]))
    found = sample(intervened(network, [push]), **run, progress=False).samples
    assert torch.equal(found[:2], bare[:2]) and not torch.isclose(found[2], bare[2]).all()
    # equal seeds have equal noise in different rows, drawn at the start and underway
    torch.testing.assert_close(bare[0], bare[2], rtol=1e-5, atol=1e-5)


def test_results_do_not_depend_on_batches_or_on_what_went_before(network, inputs):
    labels = torch.arange(6)[:, None].remainder(torch.tensor([3, 2]))
    run = {"seeds": range(6), "condition": labels, "rule": CFG(1.5), "sigmas": SIGMAS, "progress": False}
    pushed = intervened(network, [Intervention("add", SITE, VECTOR, 0.5, low=0.1, high=20.0)])
    whole = sample(pushed, **run).samples
    pushed(*inputs)  # an unrelated call
    again = sample(pushed, **run)
    recorded = sample(pushed, **run, record=Recording())
    single = sample(pushed, **run, batch=1).samples
    assert torch.equal(whole, again.samples) and torch.equal(whole, recorded.samples)
    torch.testing.assert_close(single, whole, rtol=1e-4, atol=1e-4)


def test_a_patched_run_is_the_source_run(network):
    clean, corrupt = torch.tensor([[0, 1], [2, 0]]), torch.tensor([[1, 1], [0, 0]])
    run = {"seeds": [1, 2], "rule": CFG(2.0), "solver": Euler(), "sigmas": SIGMAS, "progress": False}
    cache = ActivationCache()
    sites = ["denoised", SITE, "condition", "condition.1", "x"]
    source = sample(cached(network, sites, cache), condition=clean, **run).samples
    assert cache.sites == sites and cache.sigmas("uncond") == cache.sigmas() and len(cache.sigmas()) == 4
    assert len(cache) == len(sites) * 4 * 2 and cache.bytes > 0
    assert hooks(network) == 0
    for site in ("denoised", "condition"):
        patched = intervened(network, [Intervention("patch", site, source=cache)])
        assert torch.equal(sample(patched, condition=corrupt, **run).samples, source)
    half = intervened(network, [Intervention("patch", SITE, source=cache)])
    found = sample(half, condition=corrupt, **run).samples
    bare = sample(network, condition=corrupt, **run).samples
    assert not torch.isclose(found, bare).all() and not torch.isclose(found, source).all()
    with pytest.raises(InputError, match="nearest 80"):
        sample(half, condition=corrupt, **(run | {"sigmas": edm_sigmas(4, sigma_max=70.0)}))
    with pytest.raises(InputError, match="a row for each row"):
        sample(half, condition=corrupt[[0, 1, 0]], **(run | {"seeds": [1, 2, 3]}))
    with pytest.raises(InputError, match="second call at sigma"):
        sample(cached(network, [SITE], ActivationCache()), condition=clean, **(run | {"solver": Heun()}))
    with pytest.raises(InputError, match="one noise level a call"):
        cached(network, [SITE], ActivationCache())(torch.zeros(2, 1, 8, 8), torch.tensor([1.0, 2.0]), None)


def test_gradients_pass_through(network, inputs):
    vector = VECTOR.clone().requires_grad_()
    intervened(network, [Intervention("add", SITE, vector)])(*inputs).sum().backward()
    assert vector.grad is not None and vector.grad.abs().sum() > 0


class Tuple(nn.Module):
    """Puts out a tuple and a mapping, and calls one module twice."""

    shape = (2, 3)

    def __init__(self) -> None:
        super().__init__()
        self.pair, self.twice, self.never = Pair(), nn.Identity(), nn.ModuleList([nn.Identity()])

    def forward(self, x, sigma, condition):
        first, (second, named) = self.pair(x)
        return self.twice(self.twice(first)) + second + named["third"]


class Pair(nn.Module):
    def forward(self, x):
        return x, [x, {"third": x, "name": "kept"}]


@pytest.mark.parametrize("output", [0, 1, 2])
def test_modules_that_put_out_several_tensors(output):
    x, sigma = torch.ones(2, 2, 3), torch.ones(2)
    found = intervened(Tuple(), [Intervention("zero", "pair", output=output)])(x, sigma, None)
    assert torch.equal(found, 2 * x)


def test_folded_frames_follow_their_rows():
    class Frames(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Identity()

        def forward(self, x, sigma, condition):
            return self.inner(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    x = torch.ones(2, 3, 4, 5, 5)  # batch, frame, channel, y, x
    found = intervened(Frames(), [Intervention("zero", "inner", strength=torch.tensor([0.0, 1.0]))])(
        x, torch.ones(2), None
    )
    assert torch.equal(found[0], x[0]) and not found[1].any()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda: Intervention("push", SITE, VECTOR), "one of add"),
        (lambda: Intervention("add", SITE), "a vector for add"),
        (lambda: Intervention("zero", SITE, VECTOR), "none for zero"),
        (lambda: Intervention("add", SITE, VECTOR * math.nan), "16 not finite"),
        (lambda: Intervention("add", SITE, VECTOR, low=2.0, high=2.0), "low < sigma <= high"),
        (lambda: Intervention("add", SITE, VECTOR, math.inf), "finite numbers"),
        (lambda: Intervention("add", "", VECTOR), "a module path"),
        (lambda: Intervention("add", SITE, VECTOR, branch="guided"), "cond, uncond, both"),
        (lambda: Intervention("zero", SITE, source=ActivationCache()), "only patch"),
        (lambda: Intervention("zero", SITE, where=2 * torch.ones(8, 8)), "from 0 to 1"),
    ],
)
def test_bad_interventions(given, words):
    with pytest.raises(InputError, match=words):
        given()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Intervention("add", "network.midle1", VECTOR), "network.middle1"),
        (Intervention("add", "network", torch.ones(7)), "expected 1, its channels, or 64"),
        (Intervention("add", SITE, torch.ones(7)), "expected 16, its channels"),
        (Intervention("add", "condition.7", VECTOR), "of 2 tokens"),
        (Intervention("add", "condition.last", VECTOR), "number of a token"),
        (Intervention("zero", "network.down"), "never called"),
        (Intervention("add", SITE, VECTOR, torch.ones(3)), "3 rows"),
        (Intervention("patch", SITE), "a cache of another run"),
        (Intervention("zero", SITE, channels=(16,)), "channels of the site"),
        (Intervention("zero", SITE, output=1), "so many tensors"),
        (Intervention("zero", SITE, where=torch.ones(3, 8, 8)), "3 rows"),
        (Intervention("zero", SITE, where=0.4 * torch.ones(8, 8)), "half of no position"),
    ],
)
def test_bad_calls(network, inputs, given, words):
    with pytest.raises(InputError, match=words), torch.no_grad():
        intervened(network, [given])(*inputs)
    assert hooks(network) == 0


def test_a_site_called_twice_or_compiled_or_no_module():
    x, sigma = torch.ones(2, 2, 3), torch.ones(2)
    with pytest.raises(InputError, match="called twice"):
        intervened(Tuple(), [Intervention("zero", "twice")])(x, sigma, None)
    with pytest.raises(InputError, match=r"a torch\.nn\.Module"):
        intervened(lambda x, sigma, condition: x, [Intervention("zero", "inner")])
    with pytest.raises(InputError, match="embed"):
        intervened(lambda x, sigma, condition: x, [Intervention("zero", "condition")])(x, sigma, torch.zeros(2))
    compiled = Tuple()
    compiled._compiled_call_impl = compiled.forward  # what compile() sets, without the compiler
    with pytest.raises(InputError, match="compiled"):
        intervened(compiled, [Intervention("zero", "pair")])


def test_nothing_stays_after_an_error(network, inputs):
    def fail(*_):
        raise RuntimeError("injected")

    handle = network.network.middle2.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="injected"):
        intervened(network, [Intervention("zero", SITE)])(*inputs)
    handle.remove()
    assert hooks(network) == 0


@pytest.mark.parametrize(
    ("given", "argument"),
    [
        ({"how": "patch", "value": torch.zeros(5)}, "value"),  # it was NaN in every pixel
        ({"how": "project", "value": torch.zeros(5)}, "value"),
        ({"how": "patch", "rows": torch.tensor([-1, 0])}, "rows"),
    ],
)
def test_what_would_do_nothing_or_anything_is_refused(given, argument):
    with pytest.raises(InputError, match=argument):
        Intervention(given.pop("how"), "network.middle1", **given)


def test_cells_are_covered_by_pixels_that_are_cut():
    """Of three pixels two cells have one and a half each; of five, three cells have one and two thirds."""
    first = covered(torch.tensor([[[0.0, 1.0, 0.0]]]), (1, 2))
    torch.testing.assert_close(first, torch.full((1, 1, 2), 1 / 3), atol=1e-5, rtol=0)
    second = covered(torch.tensor([[[0.0, 1.0, 1.0, 0.0, 0.0]]]), (1, 3))
    torch.testing.assert_close(second, torch.tensor([[[0.4, 0.8, 0.0]]]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("pixels", "cells"), [(8, 4), (3, 3), (6, 5), (10, 3), (7, 49)])
def test_cells_outside_are_not_covered_at_all(pixels, cells):
    """Of the first pixel alone, a mean with these weights has nothing of the cells that begin behind it."""
    region = torch.zeros(1, 1, pixels)
    region[..., 0] = 1
    share = covered(region, (1, cells))[0, 0]
    assert (share[-(-cells // pixels) :] == 0).all()
    assert float(share.sum()) == pytest.approx(cells / pixels, rel=1e-6)
