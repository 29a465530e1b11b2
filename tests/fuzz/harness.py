"""Many damaged files of a kind, one after the other, and what reading them did beside reading or refusing them."""

import contextlib
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from scorescope.data.errors import InputError
from tests.fuzz.damage import damaged
from tests.fuzz.kind import Kind
from tests.fuzz.watch import TooLong, peak_memory, watching

# that reading small damaged files may add to the peak of this process: the largest image that Pillow opens has 4 bytes
# a pixel as it is stored, and 3 as RGB, which are 597 MiB
MEMORY = 650 * 2**20


@dataclass
class Result:
    """What came of a kind.

    Attributes
    ----------
    inputs, refused : int
        Damaged files that were read, and those among them that were refused by an error of ours.
    faults : Counter of str
        What was wrong, with the first seed that showed it, and how often.
    grown : int
        Bytes that the peak of memory rose by.
    seconds : float
        Processor time.
    slowest : float
        Seconds of the clock of the slowest reading.
    """

    inputs: int = 0
    refused: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    grown: int = 0
    seconds: float = 0.0
    slowest: float = 0.0


def damage_copy(kind: Kind, sound: Path, copy: Path, rng: Random) -> Path:
    """A damaged copy of a sound file with what lies beside it; the path to read."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(sound if sound.is_dir() else sound.parent, copy)
    path = copy if sound.is_dir() else copy / sound.name
    if kind.inside is not None and rng.random() < 0.5:
        kind.inside(path, rng)
    else:
        victim = rng.choice(sorted(file for file in copy.rglob("*") if file.is_file()))
        victim.write_bytes(damaged(victim.read_bytes(), rng))
    return path


def fault_of(kind: Kind, path: Path) -> tuple[str, bool]:
    """What was wrong with reading a file, empty for nothing; and whether it was refused."""
    try:
        kind.read(path)
    except InputError as error:
        return "names no file of ours: <_io" if "<_io" in str(error) else "", True
    except TooLong:
        return "too long", False
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:60]}", False
    return "", False


def run(kind: Kind, folder: Path, count: int, *, seconds: float = float("inf")) -> Result:
    """Read `count` damaged files of a kind, or as many as `seconds` of the clock allow."""
    (folder / "sound").mkdir()
    sound = kind.make(folder / "sound")
    with contextlib.nullcontext() if kind.sound else pytest.raises(InputError):
        kind.read(sound)
    found, first = Result(), dict[str, int]()
    before, began, ends = peak_memory(), time.process_time(), time.monotonic() + seconds
    for seed in range(count):
        path = damage_copy(kind, sound, folder / "damaged", Random(f"{kind.name} {seed}"))
        start = time.monotonic()
        with watching(folder / "damaged") as done:
            fault, refused = fault_of(kind, path)
        found.slowest = max(found.slowest, time.monotonic() - start)
        found.inputs, found.refused = found.inputs + 1, found.refused + refused
        for wrong in filter(None, [fault, *done]):
            found.faults[f"seed {first.setdefault(wrong, seed)}: {wrong}"] += 1
        if time.monotonic() > ends:
            break
    found.seconds, found.grown = time.process_time() - began, peak_memory() - before
    if found.grown > MEMORY:
        found.faults[f"{found.grown / 2**20:.0f} MiB of memory"] += 1
    return found
