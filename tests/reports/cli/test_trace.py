from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from scorescope.data.errors import InputError
from scorescope.probes import record
from scorescope.reports.cli.trace import trace_app


class Scheduler:
    def __init__(self) -> None:
        self.sigmas = torch.tensor([0.9, 0.5, 0.0])
        self.timesteps, self.step_index = self.sigmas[:-1] * 1000, 0

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor) -> tuple[Tensor]:
        self.step_index += 1
        return (sample - 0.4 * model_output,)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pipe = SimpleNamespace(net=nn.Conv2d(4, 4, 3, padding=1), scheduler=Scheduler())
    x = torch.randn(1, 4, 6, 6)
    with torch.no_grad(), record(pipe, path=tmp_path / "a", keep="all"):
        for t in pipe.scheduler.timesteps:
            x = pipe.scheduler.step(pipe.net(x), t, x)[0]
    return tmp_path / "a"


def test_show(folder: Path) -> None:
    result = CliRunner().invoke(trace_app, ["show", str(folder), "--rows", "1"])
    assert result.exit_code == 0
    for words in ("complete", "1 runs, 1 samples, 2 steps", "guided", "no guidance was applied", "... 1 more"):
        assert words in result.output


def test_verify_of_a_sound_and_of_a_damaged_trace(folder: Path) -> None:
    result = CliRunner().invoke(trace_app, ["verify", str(folder)])
    assert (result.exit_code, "sound, complete" in result.output) == (0, True)
    shard = folder / "shards" / "00000001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    result = CliRunner().invoke(trace_app, ["verify", str(folder)])
    assert result.exit_code == 1
    assert "00000001.safetensors" in result.output


def test_a_folder_that_is_no_trace(tmp_path: Path) -> None:
    result = CliRunner().invoke(trace_app, ["show", str(tmp_path)])
    assert isinstance(result.exception, InputError)
