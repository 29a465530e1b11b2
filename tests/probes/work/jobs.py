"""Work for tests, in a module of its own so that other processes find it."""

import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
import torch

from scorescope.data import InputError, load_digits
from scorescope.probes.work import Plan, cut
from scorescope.probes.work.chunks import Chunk, make

NUMBERS = "tests.probes.work.jobs:numbers"


def first_time(path: str) -> bool:
    """Whether nobody asked before, in any process."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def numbers(spec, seeds, folder):
    """A few normal numbers a seed, after whatever the spec says happens to the chunk that has seed `at`."""
    array = np.stack([np.random.default_rng([spec["stream"], seed]).normal(size=64) for seed in seeds])
    np.save(folder / "numbers.npy", array)
    if spec.get("at") in seeds:
        HAPPENS[spec["what"]](spec, seeds, folder)
    return {"sum": float(array.sum()), "process": os.getpid()}


def few_digits(*_):
    """Ten held-out digits and their labels."""
    held = load_digits().held_out
    return held.images[:10], held.labels[:10]


def few_pictures():
    """Two images of the size of the shapes."""
    return torch.zeros(2, 3, 32, 32)


def plan_numbers(spec):
    """A kind of work of one's own."""
    return Plan(tuple(cut(NUMBERS, spec, range(8), size=4)), lambda _: [])


def killed_once(spec, seeds, folder):
    if first_time(spec["marker"]):
        os.kill(os.getpid(), signal.SIGKILL)


def killed(spec, seeds, folder):
    with Path(spec["marker"]).open("a") as file:
        file.write("x")
    os.kill(os.getpid(), signal.SIGKILL)


def fails(spec, seeds, folder):
    with Path(spec["marker"]).open("a") as file:
        file.write("x")
    raise RuntimeError("this chunk is cursed")


def is_refused(spec, seeds, folder):
    with Path(spec["marker"]).open("a") as file:
        file.write("x")
    raise InputError("model", found="none", expected="one")


def disk_is_full_once(spec, seeds, folder):
    """A write that the system refuses in its middle, as on a full disk."""
    if not first_time(spec["marker"]):
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        np.save(folder / "numbers.npy", np.zeros((8, 64)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def made_by_another_meanwhile(spec, seeds, folder):
    if first_time(spec["marker"]):
        told = make(Chunk(NUMBERS, spec, seeds), str(folder.parents[1]))
        assert told.made


def interrupted_once(spec, seeds, folder):
    if first_time(spec["marker"]):
        raise KeyboardInterrupt


def sleeps(spec, seeds, folder):
    time.sleep(spec["seconds"])


HAPPENS = {
    one.__name__: one
    for one in (
        killed_once,
        killed,
        fails,
        is_refused,
        disk_is_full_once,
        made_by_another_meanwhile,
        interrupted_once,
        sleeps,
    )
}
