"""The closed-form edit against its normal equations and limits, and the parameters put back."""

from typing import Any

import pytest
import torch
from tests.pipelines import generator, output_of, sd3, sd15

from scorescope.data.errors import InputError
from scorescope.probes.attention import edit_projections

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def run(pipe: Any, arguments: Any) -> torch.Tensor:
    return output_of(pipe(**(arguments | {"generator": generator()})))


def states(count: int, seed: int) -> torch.Tensor:
    return torch.randn(1, count, 16, generator=generator(seed))


def test_the_edit_solves_its_least_squares():
    pipe, _ = sd15()
    source, target, keep = states(3, 1), states(3, 2), states(4, 3)
    edit = edit_projections(pipe, source, target, keep=keep, ridge=0.3)
    assert len(edit.weights()) == 8  # keys and values of four layers
    wanted = torch.cat([target[0], keep[0], 0.3**0.5 * torch.eye(16)]).double()
    given = torch.cat([source[0], keep[0], 0.3**0.5 * torch.eye(16)]).double()
    for before, after in edit.weights().values():
        solved = torch.linalg.lstsq(given, wanted @ before.double().mT).solution.mT  # row by row |W' k - W v|^2
        torch.testing.assert_close(after.double(), solved, rtol=0, atol=1e-5)  # the weights are float32


def test_in_the_limit_of_no_ridge_edited_states_are_read_as_their_targets_and_others_as_before():
    pipe, _ = sd15()
    source, target, keep = states(3, 1), states(3, 2), states(4, 3)
    edit = edit_projections(pipe, source, target, keep=keep, ridge=1e-7)  # of states of length 4
    torch.testing.assert_close(source.double() @ edit.matrix.mT, target.double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(keep.double() @ edit.matrix.mT, keep.double(), rtol=0, atol=1e-6)
    basis = torch.linalg.qr(torch.cat([source[0], keep[0]]).double().mT, mode="complete").Q[:, 7:]
    torch.testing.assert_close(edit.matrix @ basis, basis, rtol=0, atol=1e-6)  # at right angles to all of them
    same = edit_projections(pipe, source, source, ridge=0.5)
    torch.testing.assert_close(same.matrix, torch.eye(16, dtype=torch.float64))


def test_it_acts_inside_its_block_and_is_undone_exactly():
    pipe, arguments = sd15()
    before = dict(pipe.unet.named_parameters())
    own, other = arguments["prompt_embeds"], states(5, 8)
    bare = run(pipe, arguments)
    edit = edit_projections(pipe, own, other, keep=arguments["negative_prompt_embeds"], ridge=1e-9)
    for _ in range(2):
        with edit:
            torch.testing.assert_close(run(pipe, arguments), run(pipe, arguments | {"prompt_embeds": own}))
            edited = run(pipe, arguments)
        after = dict(pipe.unet.named_parameters())
        assert after.keys() == before.keys() and all(after[name] is before[name] for name in before)
        assert torch.equal(run(pipe, arguments), bare)
    # reading the prompt as another one is calling with it, to the rounding of the float32 weights
    torch.testing.assert_close(edited, run(pipe, arguments | {"prompt_embeds": other}), rtol=1e-3, atol=1e-3)
    assert (edited - bare).abs().max() > 0.02
    with pytest.raises(RuntimeError, match="inside"), edit:
        raise RuntimeError("inside")
    assert torch.equal(run(pipe, arguments), bare)


def test_edits_in_one_another_are_left_in_reverse():
    pipe, arguments = sd15()
    bare = run(pipe, arguments)
    first, second = (edit_projections(pipe, states(2, seed), states(2, seed + 1)) for seed in (1, 3))
    with first, second, pytest.raises(InputError, match="reverse of the order"):
        first.__exit__()
    with first, pytest.raises(InputError, match="in place"), first:
        pass
    assert torch.equal(run(pipe, arguments), bare)


def test_what_cannot_be_edited_is_one_clear_error():
    pipe, _ = sd15()
    for wrong in ({"source": states(2, 1)}, {"ridge": 0.0}, {"keep": torch.ones(1, 8)}, {"source": states(3, 1) / 0}):
        with pytest.raises(InputError, match="source, target, keep, ridge"):
            edit_projections(pipe, **({"source": states(3, 1), "target": states(3, 2)} | wrong))
    with pytest.raises(InputError, match="16, the width that unet"):
        edit_projections(pipe, torch.ones(2, 8), torch.ones(2, 8))
    with pytest.raises(InputError, match="without cross-attention"):
        edit_projections(sd3()[0], states(3, 1), states(3, 2))
