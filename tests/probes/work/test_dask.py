"""On real Dask workers, in processes of their own: the same bits, and nothing lost with a worker or the scheduler."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from scorescope.data import InputError
from scorescope.probes.bank import Comparison
from scorescope.probes.experiments import read_sweep
from scorescope.probes.work import dask_executor, execute, finished, plan_work, run_work
from tests.house import ROOT
from tests.probes.work.test_bank_kinds import (
    COMPARED,
    NOISED,
    SAMPLED,
    assert_same_comparison,
    compared_in_one,
    shards_of,
    stored_in_one,
)
from tests.probes.work.test_execute import EXPECTED, QUIET, table, work
from tests.probes.work.test_kinds import SWEEP, assert_same

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("default")  # of a package that is not ours


def environment():
    paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=":0") as found:
        yield found


def test_without_a_scheduler_there_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install 'scorescope.cluster.'"), dask_executor("tcp://127.0.0.1:1"):
        pass


def test_three_workers_make_the_same_bits(cluster, tmp_path):
    """The quick one: a cluster of three processes."""
    with dask_executor(cluster.scheduler_address) as executor:
        done = execute(work(), tmp_path, executor, **QUIET)
    assert done.is_complete and np.array_equal(table(work(), tmp_path), EXPECTED)
    assert os.getpid() not in {said["process"] for _, _, said in finished(work(), tmp_path)}
    with distributed.Client(cluster, set_as_default=False) as client:
        assert execute(work(), tmp_path / "plain", client.get_executor(), **QUIET).is_complete


@pytest.mark.slow
def test_a_sweep_on_one_two_and_three_workers(tmp_path):
    run_work(plan_work(SWEEP), tmp_path / "here", **QUIET)
    expected = read_sweep(tmp_path / "here")
    for count in (1, 2, 3):
        with (
            distributed.LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=":0") as cluster,
            dask_executor(cluster.scheduler_address) as executor,
        ):
            run_work(plan_work(SWEEP), tmp_path / str(count), executor, **QUIET)
        assert_same(read_sweep(tmp_path / str(count)), expected)


@pytest.mark.slow
def test_activations_and_a_bank_on_three_workers(cluster, tmp_path):
    with dask_executor(cluster.scheduler_address) as executor:
        for name, spec in {"sampled": SAMPLED, "noised": NOISED, "compared": COMPARED}.items():
            assert run_work(plan_work(spec), tmp_path / name, executor, **QUIET).is_complete
    for name, spec in {"sampled": SAMPLED, "noised": NOISED}.items():
        expected = shards_of(stored_in_one(spec, tmp_path / "one" / name).path)
        assert shards_of(tmp_path / name / "activations") == expected
    assert_same_comparison(Comparison.load(tmp_path / "compared/comparison.safetensors"), compared_in_one())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "failed"), [("killed_once", 0), ("killed", 1), ("fails", 1), ("disk_is_full_once", 0)]
)
def test_what_happens_to_workers_and_chunks(cluster, tmp_path, what, failed):
    chunks = work(what, tmp_path=tmp_path)
    with dask_executor(cluster.scheduler_address) as executor:
        done = execute(chunks, tmp_path, executor, **QUIET)
    assert len(done.failed) == len(done.missing) == failed
    assert len(table(chunks, tmp_path)) == 20 - 4 * failed


@contextlib.contextmanager
def by_hand(port, folder):
    """`dask scheduler` and two `dask worker`, as the documentation starts them."""
    dask = [sys.executable, "-m", "dask"]
    address = f"tcp://127.0.0.1:{port}"
    commands = [
        [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
        *[[*dask, "worker", address, "--nthreads", "1", "--no-dashboard"]] * 2,
    ]
    started = []
    try:
        for command in commands:
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            started.append(subprocess.Popen(command, env=environment(), cwd=folder, **quiet))
        yield address, started[0]
    finally:
        for process in started:
            process.send_signal(signal.SIGTERM)
        for process in started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.slow
def test_a_scheduler_started_by_hand_and_started_again(tmp_path):
    """The scheduler is killed while chunks are made; a new one goes on with what is missing."""
    chunks = [one for at in range(16) for one in work("sleeps", at=at, tmp_path=tmp_path, seconds=0.3)]
    with by_hand(port := free_port(), tmp_path) as (address, scheduler), dask_executor(address) as executor:

        def kill_when_some_are_there():
            while len(list((tmp_path / "work/chunks").glob("[0-9]*"))) < 5:
                time.sleep(0.05)
            scheduler.kill()

        killer = threading.Thread(target=kill_when_some_are_there)
        killer.start()
        first = execute(chunks, tmp_path / "work", executor, attempts=1, **QUIET)
        killer.join()
    assert first.failed and not first.is_complete
    with by_hand(port, tmp_path) as (address, _), dask_executor(address) as executor:
        second = execute(chunks, tmp_path / "work", executor, **QUIET)
    assert second.is_complete and second.kept >= 5 and second.made + second.kept == len(chunks)
