import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from scorescope.data.errors import InputError
from scorescope.probes import APG, guide, record
from scorescope.reports.cli import main
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


def test_show_says_where_the_condition_changes_nothing(tmp_path: Path) -> None:
    pipe = SimpleNamespace(net=nn.Conv2d(4, 4, 3, padding=1), scheduler=Scheduler())
    x = torch.randn(1, 4, 6, 6)
    with torch.no_grad(), record(pipe, path=tmp_path / "a"):
        for t in pipe.scheduler.timesteps:
            uncond, cond = pipe.net(torch.cat([x, x])).chunk(2)
            x = pipe.scheduler.step(uncond + 5.0 * (cond - uncond), t, x)[0]
    output = CliRunner().invoke(trace_app, ["show", str(tmp_path / "a")]).output
    assert "both branches are the same in 2 of 2 steps" in output and "no weight can be told" in output


class Conditioned(nn.Conv2d):
    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return super().forward(x + condition)


def test_show_names_the_weight_of_each_run_and_the_rule_of_guide(tmp_path: Path) -> None:
    pipe = SimpleNamespace(net=Conditioned(4, 4, 3, padding=1), scheduler=Scheduler())
    pattern = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), record(pipe, path=tmp_path / "a") as trace:
        for spec in trace.runs([{"weight": 3.0}, {"weight": 9.0}, {"weight": 2.0}], progress=False):
            pipe.scheduler, x = Scheduler(), torch.randn(1, 4, 6, 6)
            with guide(pipe, APG(6.0)) if spec["weight"] == 2.0 else nullcontext():
                for t in pipe.scheduler.timesteps:
                    uncond, cond = pipe.net(torch.cat([x, x]), pattern).chunk(2)
                    x = pipe.scheduler.step(uncond + spec["weight"] * (cond - uncond), t, x)[0]
    output = CliRunner().invoke(trace_app, ["show", str(tmp_path / "a")]).output
    for words in ("guided by cfg, w = 3: run 0", "guided by cfg, w = 9: run 1", "guided by APG, w = 6: run 2"):
        assert words in output
    assert "prediction made by APG(weight=6.0" in output


def test_verify_of_a_sound_and_of_a_damaged_trace(folder: Path) -> None:
    result = CliRunner().invoke(trace_app, ["verify", str(folder)])
    assert (result.exit_code, "sound, complete" in result.output) == (0, True)
    shard = folder / "shards" / "00000001.safetensors"
    shutil.copytree(folder, folder.parent / "sound")
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    result = CliRunner().invoke(trace_app, ["verify", str(folder), str(folder.parent / "sound")])
    assert result.exit_code == 1
    assert "00000001.safetensors" in result.output and f"{folder.parent / 'sound'}: sound" in result.output


def test_a_folder_that_is_no_trace(tmp_path: Path) -> None:
    result = CliRunner().invoke(trace_app, ["show", str(tmp_path)])
    assert isinstance(result.exception, InputError)


def test_a_manifest_does_nothing_to_the_terminal(tmp_path: Path) -> None:
    foreign = "\x1b[31mred\x1b]0;title\x07\nsound, complete"
    pipe = type(foreign, (SimpleNamespace,), {})(net=nn.Conv2d(4, 4, 3, padding=1), scheduler=Scheduler())
    with pytest.raises(ValueError), torch.no_grad(), record(pipe, path=tmp_path / foreign):
        x, t = torch.randn(1, 4, 6, 6), pipe.scheduler.timesteps[0]
        pipe.scheduler.step(pipe.net(x), t, x)
        raise ValueError(foreign)
    for command in ("show", "verify"):
        result = CliRunner().invoke(trace_app, [command, str(tmp_path / foreign)], color=True)
        assert result.exit_code == 0 and "\x1b" not in result.output and "\x07" not in result.output
        assert "\nsound" not in result.output and "\\x1b[31mred" in result.output


def test_an_error_does_nothing_to_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["scorescope", "trace", "show", str(tmp_path / "\x1b[31m\n")])
    with pytest.raises(SystemExit):
        main()
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "\x1b" not in error and "\\x1b[31m\\n" in error
