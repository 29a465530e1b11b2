"""Whatever happens to chunks and workers: nothing is lost, nothing counted twice, nothing half taken for whole."""

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from scorescope.data import InputError
from scorescope.probes.work import Chunk, cut, execute, finished, process_pool, read_status
from scorescope.probes.work import chunks as chunks_module
from scorescope.probes.work.chunks import CHUNKS, MADE, make
from scorescope.probes.work.executors import worker_device
from tests.house import ROOT
from tests.probes.work.jobs import NUMBERS

QUIET = {"progress": False}


def work(what="", at=5, tmp_path=None, **spec):
    about = {"what": what, "at": at, "marker": str(tmp_path / "marker")} if what else {}
    return cut(NUMBERS, {"stream": 1, **about, **spec}, range(20), size=4)


def table(chunks, folder):
    """All numbers in the order of the chunks."""
    return np.concatenate([np.load(place / "numbers.npy") for _, place, _ in finished(chunks, folder)])


EXPECTED = np.stack([np.random.default_rng([1, seed]).normal(size=64) for seed in range(20)])


@pytest.fixture(scope="module")
def pool():
    with process_pool(2) as executor:
        yield executor


# chunks


def test_chunks_have_names_of_their_own_that_are_the_same_everywhere():
    chunks = work()
    assert [chunk.seeds for chunk in chunks] == [range(k, k + 4) for k in range(0, 20, 4)]
    assert chunks[1].name == "00000004-00000008-" + chunks[1].name[-16:] == work()[1].name
    others = [
        Chunk(NUMBERS, {"stream": 2}, range(4, 8)),
        Chunk(NUMBERS + "s", {"stream": 1}, range(4, 8)),
        Chunk(NUMBERS, {"stream": 1}, range(4, 9)),
    ]
    assert len({chunk.name for chunk in [chunks[1], *others]}) == 4
    assert Chunk("m:f", {"a": 1, "b": (2,)}, range(1)).name == Chunk("m:f", {"b": [2], "a": 1}, range(1)).name


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("nocolon", {}, range(3)), "function"),
        (("m:f", {}, range(0)), "seeds"),
        (("m:f", {}, range(0, 6, 2)), "seeds"),
        (("m:f", {"a": object()}, range(3)), "spec"),
    ],
)
def test_what_is_no_chunk_is_refused(arguments, named):
    with pytest.raises(InputError) as error:
        Chunk(*arguments)
    assert error.value.argument == named


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ({"chunks": []}, "chunks"),
        ({"chunks": [*work(), work()[0]]}, "chunks"),
        ({"share": (2, 2)}, "share, attempts"),
        ({"attempts": 0}, "share, attempts"),
    ],
)
def test_bad_input(how, named, tmp_path):
    with pytest.raises(InputError) as error:
        execute(**{"chunks": work(), "folder": tmp_path, **QUIET, **how})
    assert error.value.argument == named


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="a folder to write to"):
        execute(work(), tmp_path / "file/inside", **QUIET)


# who makes them


def test_the_same_bits_in_process_in_two_processes_and_by_two_ranks(tmp_path, pool):
    for name, how in {"here": {}, "pool": {"executor": pool}}.items():
        done = execute(work(), tmp_path / name, **how, **QUIET)
        assert done.is_complete and (done.made, done.kept, done.count) == (5, 0, 5)
        assert np.array_equal(table(work(), tmp_path / name), EXPECTED)
    first = execute(work(), tmp_path / "ranks", share=(1, 2), **QUIET)
    assert (first.made, len(first.missing), first.failed) == (2, 3, {})
    second = execute(work(), tmp_path / "ranks", share=(0, 2), **QUIET)
    assert (second.made, second.kept, second.is_complete) == (3, 0, True)
    assert np.array_equal(table(work(), tmp_path / "ranks"), EXPECTED)
    processes = {said["process"] for _, _, said in finished(work(), tmp_path / "pool")}
    assert len(processes) == 2 and os.getpid() not in processes


def test_what_is_complete_is_not_made_again_and_results_come_in_the_order_of_the_chunks(tmp_path):
    execute(work()[::-1], tmp_path, **QUIET)
    done = execute(work(), tmp_path, **QUIET)
    assert (done.made, done.kept) == (0, 5)
    assert [chunk.seeds.start for chunk, _, _ in finished(work(), tmp_path)] == [0, 4, 8, 12, 16]


def test_any_executor_will_do(tmp_path):
    with ThreadPoolExecutor(3) as threads:
        assert execute(work(), tmp_path, threads, **QUIET).is_complete
    assert np.array_equal(table(work(), tmp_path), EXPECTED)


# what happens to them


def test_a_worker_that_is_killed_costs_its_chunk_which_is_made_again(tmp_path, pool):
    done = execute(work("killed_once", tmp_path=tmp_path), tmp_path, pool, **QUIET)
    assert done.is_complete and done.failed == {} and done.made == 5
    assert np.array_equal(table(work("killed_once", tmp_path=tmp_path), tmp_path), EXPECTED)
    assert not list((tmp_path / CHUNKS).glob(".*"))  # what the dead one left is gone


def test_a_chunk_that_kills_every_worker_is_named_and_the_others_are_made(tmp_path, pool):
    chunks = work("killed", tmp_path=tmp_path)
    done = execute(chunks, tmp_path, pool, attempts=2, **QUIET)
    assert list(done.failed) == [chunks[1].name] == list(done.missing)
    assert "its worker was lost" in done.failed[chunks[1].name]
    assert (tmp_path / "marker").read_text() == "xx"
    assert len(table(chunks, tmp_path)) == 16


@pytest.mark.parametrize(
    ("what", "times", "error"), [("fails", 3, "RuntimeError: this chunk"), ("is_refused", 1, "InputError")]
)
def test_a_chunk_that_always_fails_is_named_with_its_error_and_the_others_are_made(tmp_path, what, times, error):
    chunks = work(what, tmp_path=tmp_path)
    done = execute(chunks, tmp_path, **QUIET)
    assert list(done.failed) == [chunks[1].name] and error in done.failed[chunks[1].name]
    assert done.missing == (chunks[1].name,) and done.made == 4
    assert len((tmp_path / "marker").read_text()) == times
    said = json.loads((tmp_path / "failed" / f"{chunks[1].name}.json").read_text())
    assert said["seeds"] == [4, 8] and "in numbers" in said["trace"]
    assert read_status(tmp_path) == {"chunks": 5, "complete": 4, "failed": [chunks[1].name], "state": "ended"}


def test_a_failure_is_forgotten_when_the_chunk_is_made(tmp_path, monkeypatch):
    chunks = work("fails", tmp_path=tmp_path)
    assert execute(chunks, tmp_path, **QUIET).failed
    monkeypatch.setattr("tests.probes.work.jobs.HAPPENS", {"fails": lambda *_: None})
    done = execute(chunks, tmp_path, **QUIET)
    assert done.is_complete and (done.made, done.kept) == (1, 4) and not list((tmp_path / "failed").iterdir())
    assert read_status(tmp_path)["failed"] == []


def test_a_disk_that_is_full_costs_an_attempt_and_leaves_nothing_half(tmp_path, pool):
    chunks = work("disk_is_full_once", tmp_path=tmp_path)
    once = execute(chunks, tmp_path, pool, attempts=1, **QUIET)
    assert "OSError" in once.failed[chunks[1].name] and not list((tmp_path / CHUNKS).glob(".*"))
    assert execute(chunks, tmp_path, pool, **QUIET).is_complete
    assert np.array_equal(table(chunks, tmp_path), EXPECTED)


def test_a_disk_that_is_full_for_everything_is_said_of_every_chunk(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(chunks_module, "write_json", full)
    monkeypatch.setattr(sys.modules["scorescope.probes.work.execute"], "replace_file", full)
    done = execute(work(), tmp_path, **QUIET)
    assert len(done.failed) == 5 and all("No space left" in error for error in done.failed.values())
    monkeypatch.undo()
    assert execute(work(), tmp_path, **QUIET).made == 5


def test_a_chunk_that_another_made_meanwhile_is_counted_once(tmp_path):
    chunks = work("made_by_another_meanwhile", tmp_path=tmp_path)
    done = execute(chunks, tmp_path, **QUIET)
    assert (done.made, done.kept, done.failed) == (4, 1, {})
    assert np.array_equal(table(chunks, tmp_path), EXPECTED)


def test_a_chunk_that_failed_here_and_another_made_since_is_not_missing(tmp_path, monkeypatch):
    chunks = work("fails", tmp_path=tmp_path)

    class Another(ThreadPoolExecutor):
        """Makes what failed, when it is too late for this call."""

        def submit(self, function, chunk, *more):
            told = super().submit(function, chunk, *more)
            if told.result().error:
                monkeypatch.setattr("tests.probes.work.jobs.HAPPENS", {"fails": lambda *_: None})
                assert make(chunk, str(tmp_path)).made
            return told

    with Another(1) as another:
        done = execute(chunks, tmp_path, another, attempts=1, **QUIET)
    assert list(done.failed) == [chunks[1].name] and done.missing == () and done.is_complete
    assert read_status(tmp_path)["failed"] == []


def test_a_chunk_that_two_make_at_once_is_one(tmp_path):
    chunks, told, start = work("sleeps", tmp_path=tmp_path, seconds=0.2), [], threading.Barrier(4)

    def one():
        start.wait()
        told.append(make(chunks[1], str(tmp_path)))

    makers = [threading.Thread(target=one) for _ in range(4)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert not any(one.error for one in told) and sum(one.made for one in told) == 1
    assert len(list((tmp_path / CHUNKS).iterdir())) == 1
    assert np.array_equal(table(chunks, tmp_path), EXPECTED[4:8])


@pytest.mark.parametrize("damage", ["no description", "cut off", "flipped", "gone", "of another", "under way"])
def test_a_half_written_or_damaged_chunk_is_not_taken_for_whole(tmp_path, damage):
    execute(work(), tmp_path, **QUIET)
    place = tmp_path / CHUNKS / work()[2].name
    file = place / "numbers.npy"
    content = bytearray(file.read_bytes())
    if damage == "no description":
        (place / MADE).unlink()
    elif damage == "cut off":
        file.write_bytes(content[:-9])
    elif damage == "flipped":
        content[-3] ^= 1
        file.write_bytes(content)
    elif damage == "gone":
        file.unlink()
    elif damage == "of another":
        (place / MADE).write_bytes((tmp_path / CHUNKS / work()[0].name / MADE).read_bytes())
    else:
        place.rename(place.with_name(f".{place.name}.0123456789ab"))
    assert len(table(work(), tmp_path)) == 16
    done = execute(work(), tmp_path, **QUIET)
    assert (done.made, done.kept) == (1, 4) and np.array_equal(table(work(), tmp_path), EXPECTED)
    assert len(list((tmp_path / CHUNKS).iterdir())) == 5


def test_an_interrupt_loses_nothing_that_is_done(tmp_path):
    chunks = work("interrupted_once", at=13, tmp_path=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        execute(chunks, tmp_path, **QUIET)
    assert read_status(tmp_path) == {"chunks": 5, "complete": 3, "failed": [], "state": "cut off"}
    done = execute(chunks, tmp_path, **QUIET)
    assert (done.made, done.kept) == (2, 3) and np.array_equal(table(chunks, tmp_path), EXPECTED)


@pytest.mark.slow
def test_a_kill_loses_nothing_that_is_done_and_leaves_no_process_behind(tmp_path):
    chunks = work("sleeps", at=9, tmp_path=tmp_path, seconds=60)
    code = (
        "from pathlib import Path; from tests.probes.work.test_execute import *\n"
        f"if __name__ == '__main__':\n    folder = Path({str(tmp_path)!r})\n    with process_pool(2) as pool:\n"
        "        execute(work('sleeps', at=9, tmp_path=folder, seconds=60), folder, pool, **QUIET)\n"
    )
    (tmp_path / "program.py").write_text(code)
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    program = subprocess.Popen([sys.executable, tmp_path / "program.py"], env={**os.environ, "PYTHONPATH": paths})
    try:
        wait_until(lambda: len(list((tmp_path / CHUNKS).glob("[0-9]*"))) == 4)
    finally:
        program.kill()
        program.wait()
    processes = {said["process"] for _, _, said in finished(chunks, tmp_path)}
    wait_until(lambda: processes and not any(Path(f"/proc/{process}").exists() for process in processes))
    assert len(table(chunks, tmp_path)) == 16


def wait_until(true, seconds=90):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_an_executor_that_breaks_for_good_ends_with_the_names_of_what_is_left(tmp_path):
    chunks = work("killed_once", at=1, tmp_path=tmp_path)
    with ProcessPoolExecutor(1) as plain:
        done = execute(chunks, tmp_path, plain, **QUIET)
    assert set(done.failed) == set(done.missing) == {chunk.name for chunk in chunks}
    assert all("worker was lost" in error for error in done.failed.values())
    assert execute(chunks, tmp_path, **QUIET).is_complete


def test_a_description_without_a_hash_is_none(tmp_path):
    execute(work(), tmp_path, **QUIET)
    path = tmp_path / CHUNKS / work()[0].name / MADE
    path.write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != "seal"}))
    assert execute(work(), tmp_path, **QUIET).made == 1


def test_processes_of_a_machine_take_its_devices_in_turn(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert worker_device("cuda") == "cuda" and worker_device("cpu") == "cpu"
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert [worker_device(name) for name in ("cuda", "cuda:0", "cpu")] == ["cuda:1", "cuda:0", "cpu"]


def test_the_status_of_nothing_is_an_error(tmp_path):
    with pytest.raises(InputError, match="the status of some work"):
        read_status(tmp_path)
