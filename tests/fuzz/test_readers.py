"""Damaged files of every kind: only our errors, in bounded time and memory, no code run, nothing written elsewhere."""

import contextlib
import shutil
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from scorescope.data.errors import InputError
from tests.fuzz.damage import damaged
from tests.fuzz.kinds import KINDS, Kind
from tests.fuzz.watch import TooLong, peak_memory, watching

FEW, MANY = 15, 10_000
MEMORY = 600 * 2**20  # that reading small damaged files may add to the peak of this process

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries about damaged files


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


def faults(kind: Kind, folder: Path, count: int) -> Counter[str]:
    """What was wrong with reading `count` damaged files, and how often; the first seed of each is named."""
    (folder / "sound").mkdir()
    sound = kind.make(folder / "sound")
    with contextlib.nullcontext() if kind.sound else pytest.raises(InputError):
        kind.read(sound)
    before, found, first = peak_memory(), Counter[str](), dict[str, int]()
    for seed in range(count):
        path = damage_copy(kind, sound, folder / "damaged", Random(f"{kind.name} {seed}"))
        fault = ""
        with watching(folder / "damaged") as done:
            try:
                kind.read(path)
            except InputError as error:
                fault = "names no file of ours: <_io" if "<_io" in str(error) else ""
            except TooLong:
                fault = "too long"
            except Exception as error:
                fault = f"{type(error).__name__}: {str(error)[:60]}"
        for wrong in [fault, *done]:
            if wrong:
                found[wrong] += 1
                first.setdefault(wrong, seed)
    if (grown := peak_memory() - before) > MEMORY:
        found[f"{grown / 2**20:.0f} MiB of memory"] += 1
    return Counter({f"seed {first.get(name, '?')}: {name}": number for name, number in found.items()})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_damaged_file_is_an_error_of_ours_and_nothing_else(kind, tmp_path):
    assert not faults(kind, tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_many_damaged_files(kind, tmp_path):
    assert not faults(kind, tmp_path, MANY)
