"""`scorescope work`: a spec's chunks by this process, by processes, and by ranks that a launcher counts."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.probes.work.test_kinds import assert_same

from scorescope.data import InputError, load_digits
from scorescope.data.threads import threads
from scorescope.probes.experiments import read_sweep
from scorescope.probes.work import read_status
from scorescope.reports.cli import commands as cli
from scorescope.reports.cli.work import share_of

SPEC = """
kind = "sweep"
model = "digits"
seeds = 6
size = 2
steps = 2
weights = [1.0, 3.0]

[rules]
CFG = { class = "CFG", weight = 1.0 }
"""


@pytest.fixture
def spec(tmp_path):
    (tmp_path / "sweep.toml").write_text(SPEC)
    return tmp_path / "sweep.toml"


def run(monkeypatch, *arguments, command="work"):
    monkeypatch.setattr(sys, "argv", ["scorescope", command, *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


@pytest.mark.slow
def test_in_processes(spec, tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, spec, "--out", tmp_path / "here") == 0
    assert run(monkeypatch, spec, "--out", tmp_path / "pool", "--workers", 2) == 0
    assert_same(read_sweep(tmp_path / "pool"), read_sweep(tmp_path / "here"))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of a package that is not ours
def test_on_a_cluster(spec, tmp_path, monkeypatch, capsys):
    distributed = pytest.importorskip("distributed")
    assert run(monkeypatch, spec, "--out", tmp_path / "here") == 0
    with distributed.LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=":0") as cluster:
        assert run(monkeypatch, spec, "--out", tmp_path / "there", "--dask", cluster.scheduler_address) == 0
    assert_same(read_sweep(tmp_path / "there"), read_sweep(tmp_path / "here"))
    assert run(monkeypatch, spec, "--out", tmp_path / "there", "--dask", "nonsense") == 2
    assert "dask: found 'nonsense', where no scheduler answers" in capsys.readouterr().err


def test_here_and_by_ranks(spec, tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, spec, "--out", tmp_path / "here") == 0
    assert capsys.readouterr().out.endswith("here: 6 of 6 chunks, 6 made now\n")
    assert run(monkeypatch, spec, "--out", tmp_path / "ranks", "--rank", 1, "--world-size", 2) == 0
    assert capsys.readouterr().out.endswith("ranks: 3 of 6 chunks, 3 made now\n")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(monkeypatch, spec, "--out", tmp_path / "ranks") == 0
    expected = read_sweep(tmp_path / "here")
    assert set(expected) == {"CFG, w = 1", "CFG, w = 3"}
    assert_same(read_sweep(tmp_path / "ranks"), expected)
    assert read_status(tmp_path / "ranks") == {"chunks": 6, "complete": 6, "failed": [], "state": "complete"}
    assert run(monkeypatch, tmp_path / "ranks", command="verify") == 0
    said = capsys.readouterr().out
    assert said.count("chunk of work, sound") == 6 and said.count("setting of a sweep, sound") == 2


def compared(folder):
    tables = sorted((folder / "tables").glob("*.csv"))
    assert len(tables) == 2
    return {path.name: path.read_text() for path in tables}


def test_denoisers_are_compared_in_chunks(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("scorescope.reports.cli.work.process_pool", lambda workers: ThreadPoolExecutor(1))
    few = load_digits().held_out.images[:40], load_digits().held_out.labels[:40]
    monkeypatch.setattr("scorescope.reports.cli.compare._images", lambda *_: few)
    monkeypatch.setattr("scorescope.reports.cli.compare.BATCH", 40)  # images of a chunk for two denoisers: 20
    with threads(1):
        assert run(monkeypatch, "digits", "digits_weak", "--out", tmp_path / "here", command="compare") == 0
    options = ("digits", "digits_weak", "--out", tmp_path / "pool", "--workers", 2)
    assert run(monkeypatch, *options, command="compare") == 0
    assert len(list((tmp_path / "pool/work/chunks").iterdir())) == 2
    assert compared(tmp_path / "pool") == compared(tmp_path / "here")
    requests = [json.loads((tmp_path / name / "manifest.json").read_text())["request"] for name in ("here", "pool")]
    assert requests[0] == requests[1] and "workers" not in str(requests[1])
    assert run(monkeypatch, tmp_path / "here", tmp_path / "pool", "--workers", 2, command="compare") == 2
    assert "--workers, --dask: found workers for reports" in capsys.readouterr().err


def test_verify_names_a_damaged_chunk(spec, tmp_path, monkeypatch, capsys):
    run(monkeypatch, spec, "--out", tmp_path / "out")
    file = next((tmp_path / "out/chunks").glob("*/run.safetensors"))
    file.write_bytes(file.read_bytes()[:-1])
    assert run(monkeypatch, tmp_path / "out", command="verify") == 1
    assert f"chunk of work, {file}" in capsys.readouterr().out


def test_chunks_that_fail_are_named_and_the_code_is_1(tmp_path, monkeypatch, capsys):
    (tmp_path / "net.py").write_text(
        "class Net:\n    shape, classes = (1, 2, 2), 2\n"
        "    def __call__(self, x, sigma, condition):\n        raise RuntimeError('out of luck')\n"
        "def make():\n    return Net()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    told = {"kind": "sweep", "model": "net:make", "seeds": 2, "rules": {"a": {"class": "CFG", "weight": 1}}}
    (tmp_path / "spec.json").write_text(json.dumps(told))
    assert run(monkeypatch, "spec.json", "--attempts", 1) == 1
    said = capsys.readouterr()
    assert "out of luck" in said.err and "work: 0 of 1 chunks" in said.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", 2, "--dask", "tcp://a:1"], "--workers, --dask: found both"),
        (["--rank", 0], "--rank, --world-size: found one without the other"),
        (["--rank", 2, "--world-size", 2], "a rank from 0, below the number of ranks"),
        (["--rank", 0, "--world-size", 2, "--workers", 2], "ranks share the work by themselves"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(spec, tmp_path, monkeypatch, capsys, arguments, message):
    assert run(monkeypatch, spec, "--out", tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_launchers_say_ranks():
    assert share_of(None, None, {}) == (0, 1)
    assert share_of(3, 8, {"RANK": "1", "WORLD_SIZE": "2"}) == (3, 8)
    assert share_of(None, None, {"RANK": "1", "WORLD_SIZE": "2"}) == (1, 2)
    array = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "5"}
    assert share_of(None, None, array) == (2, 4)
    with pytest.raises(InputError, match="an array in steps of 1"):
        share_of(None, None, array | {"SLURM_ARRAY_TASK_STEP": "2"})
    with pytest.raises(InputError, match="SLURM_ARRAY_TASK_ID"):
        share_of(None, None, array | {"SLURM_ARRAY_TASK_ID": "x"})
