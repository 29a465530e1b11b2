"""On a CUDA device: the table of a recording is that of the host, and a recorded step does not wait for the device."""

import functools

import numpy as np
import pytest
import torch

from scorescope.probes import record
from tests.pipelines import sd15

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def recorded(device, **options):
    pipe, arguments = sd15(steps=8)
    pipe.to(device)
    given = {name: one.to(device) if isinstance(one, torch.Tensor) else one for name, one in arguments.items()}
    with record(pipe, progress=False, **options) as trace:
        pipe(**given)
    return trace


@pytest.mark.parametrize("keep", ["scalars", "all"])
def test_a_recording_there_is_the_recording_here(keep):
    here, there = recorded("cpu", keep=keep), recorded("cuda", keep=keep)
    for name in ("sigma", "cond_sq", "update_sq", "weight"):  # other kernels round otherwise; updates are differences
        np.testing.assert_allclose(there.scalars[name], here.scalars[name], rtol=1e-2)
    for name in here.arrays.names():
        assert there.load(name, 0).device.type == "cpu"
        torch.testing.assert_close(there.load(name, 0), here.load(name, 0), rtol=1e-2, atol=1e-2)


def test_waits_do_not_grow_with_the_steps():
    """What the profiler counts as synchronising, beyond that of the bare pipeline, in runs of 4 and of 8 steps."""

    def waits(run):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            run()
        return sum(one.count for one in seen.key_averages() if one.key in ("aten::_local_scalar_dense", "aten::item"))

    def both(steps):
        pipe, arguments = sd15(steps=steps)
        pipe.to("cuda")
        given = {name: one.to("cuda") if isinstance(one, torch.Tensor) else one for name, one in arguments.items()}

        def ours():
            with record(pipe, progress=False):
                pipe(**given)

        return waits(ours) - waits(functools.partial(pipe, **given))

    assert both(8) == both(4)
