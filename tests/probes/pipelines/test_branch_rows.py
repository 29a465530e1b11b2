"""The user's order of branches is held against every proof there is: of the step, of a later one, of a recording."""

from contextlib import ExitStack, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.pipelines import generator, output_of, sd3, sd15
from tests.probes.pipelines.test_branches import COND, UNCOND, Net, Scheduler, cfg
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes import Intervention, guide, intervene, record
from scorescope.probes.guidance import CFG
from scorescope.probes.pipelines.row_blocks import Blocks

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # raised by the libraries under the pipelines
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
SITES = {sd15: "unet.mid_block", sd3: "transformer.transformer_blocks.0"}
LISTENING = ["alone", "recording outside", "recording inside"]


def entered(stack: ExitStack, listening: str, pipe: Any, intervening: Any, **recording: Any) -> Any:
    """The trace, where there is one."""
    outer = stack.enter_context(record(pipe, **recording)) if listening == "recording outside" else None
    stack.enter_context(intervening)
    return stack.enter_context(record(pipe, **recording)) if listening == "recording inside" else outer


def undecided_at_first(build: Any) -> tuple[Any, Any]:
    """A weight that proves nothing in two of four steps, and one that does from the third on."""
    pipe, arguments = build()

    def raise_weight(pipe: Any, step: int, t: Any, kwargs: Any) -> Any:
        pipe._guidance_scale = 1.000001 if step < 1 else 7.5
        return kwargs

    return pipe, arguments | {"guidance_scale": 1.000001, "callback_on_step_end": raise_weight}


@pytest.mark.parametrize("listening", LISTENING)
@pytest.mark.parametrize("build", SITES, ids=["sd15", "sd3"])
def test_names_are_held_against_a_proof_that_comes_later(build: Any, listening: str) -> None:
    for names, words in ((("uncond", "cond"), ""), (("cond", "uncond"), "as a later step of the run proves")):
        pipe, arguments = undecided_at_first(build)
        with record(pipe) as bare:
            pipe(**arguments | {"generator": generator()})
        assert bare.proof["evidence"].tolist() == ["other steps"] * 2 + ["weights"] * 2
        given = Intervention("zero", SITES[build], branch="cond", low=float(bare.scalars["sigma"][1]) * 1.0001)
        refused = pytest.raises(InputError, match=r"\('cond', 'uncond'\) in call 0.*" + words)
        with refused if words else nullcontext(), ExitStack() as stack:
            entered(stack, listening, pipe, intervene(pipe, [given], branches=names))
            pipe(**arguments | {"generator": generator()})


def pushing(pipe: Any, names: tuple[str, ...], branch: Any = "cond", **more: Any) -> Any:
    given = Intervention("add", "net.site", torch.ones(4), branch=branch)
    return intervene(pipe, [given], branches=names, **more)


class Sited(Net):
    """A network with a site whose rows are those of the call."""

    def __init__(self) -> None:
        super().__init__()
        self.site = torch.nn.Identity()

    def forward(self, x: Tensor, condition: list[int]) -> Any:
        return self.site(super().forward(x, condition))


@pytest.mark.parametrize("listening", LISTENING)
def test_names_are_held_against_a_batch_in_slices(listening: str) -> None:
    """Two rows of one branch a call, which ('uncond', 'cond') takes for one of each."""
    pipe = SimpleNamespace(net=Sited(), scheduler=Scheduler())
    x = torch.randn(4, 4, 6, 6, generator=torch.Generator().manual_seed(0))

    def run(x: Tensor) -> None:
        for t in pipe.scheduler.timesteps:
            out = torch.cat([pipe.net(rows, [seed]) for seed in (UNCOND, COND) for rows in x.split(2)])
            x = pipe.scheduler.step(cfg(out), t, x)[0]

    refused = pytest.raises(InputError, match=r"\('uncond', 'cond'\) in call 0.*\('uncond', 'uncond'\), as the step")
    with refused, ExitStack() as stack:
        entered(stack, listening, pipe, pushing(pipe, ("uncond", "cond")))
        run(x)


@pytest.mark.parametrize("name", ["cond", "uncond"])
def test_names_are_held_against_every_call_of_the_first_step(name: str) -> None:
    """One branch a call: a name for all of them is wrong of one, be it the first or the last."""
    pipe = SimpleNamespace(net=Sited(), scheduler=Scheduler())
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    refused = pytest.raises(
        InputError, match=rf"\('{name}',\) in call {('uncond', 'cond').index(name) ^ 1}.*as the step"
    )
    with refused, pushing(pipe, (name,), name):
        out = torch.cat([pipe.net(x, [seed]) for seed in (UNCOND, COND)])
        pipe.scheduler.step(cfg(out), pipe.scheduler.timesteps[0], x)


@pytest.mark.parametrize("names", [("cond",), ("uncond",), ("uncond", "cond")])
@pytest.mark.parametrize("listening", LISTENING)
def test_names_are_held_against_a_recording_of_more_denoisers(listening: str, names: tuple[str, ...]) -> None:
    """Whoever listens to one of two networks proves nothing; a recording of both does."""
    pipe = SimpleNamespace(net=Sited(), other=Sited(), scheduler=Scheduler())
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    wrong = names != ("cond",) and listening != "alone"
    refused = pytest.raises(InputError, match=r"in call 1.*\('cond',\), as the step that they fed proves")
    with refused if wrong else nullcontext(), ExitStack() as stack:
        both = {"net": pipe.net, "other": pipe.other}
        intervening = pushing(pipe, names, modules={"net": pipe.net})
        trace = entered(stack, listening, pipe, intervening, modules=both)
        for t in pipe.scheduler.timesteps:
            out = torch.cat([pipe.other(x, [UNCOND]), pipe.net(x, [COND])])
            x = pipe.scheduler.step(cfg(out), t, x)[0]
    assert wrong or trace is None or set(trace.proof["cond"]) == {1}


@pytest.mark.parametrize(
    ("proved", "told", "batch", "expected"),
    [
        (("uncond", "cond"), ("uncond", "cond"), 4, False),
        (("uncond", "cond"), ("cond", "uncond"), 4, True),
        (("cond",), ("uncond", "cond"), 2, True),
        (("cond", "cond"), ("cond",), 2, False),
        (("uncond", "cond", ""), ("uncond", "cond", "perturbed"), 3, False),
        (("uncond", "", "cond"), ("uncond", "cond", "perturbed"), 3, True),
        (("", "cond"), ("uncond", "cond"), 2, False),
        (("uncond", "cond"), ("cond",), 1, True),
    ],
)
def test_blocks_contradict_row_by_row(
    proved: tuple[str, ...], told: tuple[str, ...], batch: int, expected: bool
) -> None:
    assert Blocks(proved).contradicts(Blocks(told), batch) is expected
    assert not Blocks(proved, interleaved=True).contradicts(Blocks(proved, interleaved=True), 12)


def test_rows_of_blocks_that_take_turns() -> None:
    assert Blocks(("uncond", "cond"), interleaved=True).rows("cond", 4).tolist() == [0, 1, 0, 1]
    assert Blocks(("uncond", "cond")).rows("cond", 4).tolist() == [0, 0, 1, 1]
    assert Blocks(("uncond", "cond"), interleaved=True).contradicts(Blocks(("uncond", "cond")), 4)
    assert not Blocks(("uncond", "cond"), interleaved=True).contradicts(Blocks(("uncond", "cond")), 2)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("build", SITES, ids=["sd15", "sd3"])
def test_names_for_a_rule_are_held_against_the_proof(build: Any, late: bool) -> None:
    """`guide` would have pushed from cond beyond uncond."""
    pipe, arguments = undecided_at_first(build) if late else build()
    found = []
    for names in ((), ("uncond", "cond"), ("cond", "uncond")):
        refused = pytest.raises(
            InputError, match=r"branches: found \('cond', 'uncond'\).*\('uncond', 'cond'\), as a step"
        )
        with refused if names[:1] == ("cond",) else nullcontext():
            if late and not names:
                continue  # the first step has to be named
            with guide(pipe, CFG(3.0), branches=names):
                found.append(output_of(pipe(**arguments | {"generator": generator()})))
    assert len(found) == 1 if late else torch.equal(*found)
