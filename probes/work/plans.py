"""What some work is, from plain data or a file: its kind, its chunks, and how their results are put together.

    plan = plan_work({"kind": "moments", "images": "samples/", "features": "digits"})
    plan = plan_work(read_spec("sweep.toml"))
    done = run_work(plan, "runs/sweep", executor)          # execute, then join what is complete

Kinds: `sweep`, `moments`, `recording`, `activations`, `bank`; their modules say what each takes. Another kind is named
by its function, "package.module:function", which is given the other entries and returns a `Plan`.
"""

import tomllib
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scorescope.data.annotations import kind_of
from scorescope.data.display import displayed
from scorescope.data.doors import checked, describe_value
from scorescope.data.errors import InputError
from scorescope.data.untrusted import only_input_errors, parse_json, read_text
from scorescope.probes.models.factories import import_factory
from scorescope.probes.work.chunks import Chunk, finished
from scorescope.probes.work.execute import Done, execute, writable

KINDS = {
    "sweep": "scorescope.probes.work.sweeps:plan",
    "moments": "scorescope.probes.work.image_moments:plan",
    "recording": "scorescope.probes.work.recordings:plan",
    "activations": "scorescope.probes.work.stored_sites:plan",
    "bank": "scorescope.probes.work.comparisons:plan",
}
"""The function that plans each kind."""
MOST = 10_000_000  # seeds of a setting, or images of a chunk: a plan is held in memory


@displayed
@checked
@dataclass(frozen=True)
class Plan:
    """Work that is cut, and how its results are put together.

    Attributes
    ----------
    chunks : tuple of Chunk
        The whole work.
    join : callable
        Given the folder, puts together what is complete there, in the order of the chunks; returns the files and
        folders that hold the result. Doing it twice writes the same.
    begin : callable, optional
        Given the folder before any chunk is made: refuses one of other work, or takes away a result that is not of
        these chunks. By default nothing.
    """

    chunks: tuple[Chunk, ...]
    join: Callable[[Path], list[Path]]
    begin: Callable[[Path], None] = lambda _: None


@checked
def plan_work(spec: Mapping[str, Any]) -> Plan:
    """The chunks that a spec comes to: the same wherever it is asked.

    Parameters
    ----------
    spec : mapping
        With `kind`, and what that kind takes. Relative files are from the current folder.

    Raises
    ------
    InputError
        For a kind that there is not, and what the kind refuses.
    """
    kind = spec.get("kind")
    if not isinstance(kind, str) or (kind not in KINDS and ":" not in kind):
        expected = f"one of {', '.join(KINDS)}, or package.module:function"
        raise InputError("kind", found=repr(kind), expected=expected)
    plan: Callable[..., Any] = import_factory(KINDS.get(kind, kind), argument="kind", known=list(KINDS))
    found, expected = "an entry of another type", "entries of the types that it takes"
    with only_input_errors(f"spec, kind {kind}", expected=expected, found=found):
        made = plan({name: value for name, value in spec.items() if name != "kind"})
    if not isinstance(made, Plan):
        found = f"{kind!r}, which gives a {type(made).__name__}"
        raise InputError("kind", found=found, expected="one that gives a Plan")
    return made


@checked
def run_work(
    plan: Plan, folder: str | Path, executor: Executor | None = None, *, share: tuple[int, int] = (0, 1), **how: Any
) -> Done:
    """Make what is not there yet, and put together what is complete; a rank does so where all of the work is.

    Parameters
    ----------
    plan : Plan
        The work.
    folder, executor, share
        See `execute`.
    **how
        Its further arguments.

    Raises
    ------
    InputError
        As `execute` does, for a folder that holds the settings of another sweep, and where a chunk of another rank
        is damaged.
    """
    plan.begin(writable(Path(folder)))
    done = execute(plan.chunks, folder, executor, share=share, **how)
    if (done.is_complete or share[1] == 1) and not plan.join(done.folder) and done.is_complete:
        whole = {chunk.name for chunk, _, _ in finished(plan.chunks, done.folder)}
        if damaged := [chunk.name for chunk in plan.chunks if chunk.name not in whole]:
            found = f"{damaged[0]}, damaged, the first of {len(damaged)}"
            raise InputError("chunks", found=found, expected="undamaged ones; a run of their rank makes them again")
    return done


@checked
def read_spec(path: str | Path) -> dict[str, Any]:
    """The spec in a TOML or JSON file.

    Raises
    ------
    InputError
        For a file that is neither.
    """
    path, expected = Path(path), "a spec of some work: a TOML or JSON file"
    text = read_text(path, expected=expected, limit=2**24)
    if path.suffix == ".json":
        found = parse_json(text, source=path, expected=expected)
    else:
        with only_input_errors(path, expected=expected, found="no TOML"):
            found = tomllib.loads(text)
    if not isinstance(found, dict):
        raise InputError(str(path), found=f"a {type(found).__name__}", expected=expected)
    return found


def known_entries(spec: Mapping[str, Any], kind: str, needed: Collection[str], others: Collection[str]) -> None:
    """Raise `InputError` for entries that a kind of work does not take, and those that it needs and has not."""
    every = [*needed, *others]
    if unknown := [name for name in spec if name not in every]:
        raise InputError(f"{kind}, {unknown[0]}", found="an entry of that name", expected=f"some of {', '.join(every)}")
    if absent := [name for name in needed if name not in spec]:
        raise InputError(f"{kind}, {absent[0]}", found="no such entry", expected=f"at least {', '.join(needed)}")


def require_kinds(spec: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Raise `InputError` for entries of another type than an annotation names, or with numbers that are none.

    True and False are no numbers here, nor are whole ones of more than 64 bits. Values of a plain `dict` may be
    anything.
    """
    for name, annotation in kinds.items():
        kind = kind_of(annotation)
        if name not in spec or kind is None:
            continue
        if not kind.accepts(spec[name]) or (annotation is not dict and _holds_marks(spec[name])):
            raise InputError(name, found=describe_value(spec[name]), expected=kind.words)


def _holds_marks(value: Any) -> bool:
    """Whether True, False or a whole number that no tensor can hold is in it."""
    if isinstance(value, Mapping):
        return any(map(_holds_marks, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_holds_marks, value))
    return isinstance(value, bool) or (isinstance(value, int) and not -(2**63) <= value < 2**63)


def whole_number(spec: Mapping[str, Any], name: str, default: int) -> int:
    """An entry that is a whole number from 1 to `MOST`."""
    value = spec.get(name, default)
    if type(value) is not int or not 1 <= value <= MOST:
        raise InputError(name, found=f"{value!r:.40}", expected=f"a whole number from 1 to {MOST}")
    return value


def seed_range(value: Any) -> range:
    """Seeds: how many from 0, or [first, one past the last]."""
    ends = [0, value] if isinstance(value, int) else value
    whole = isinstance(ends, list) and len(ends) == 2 and all(type(end) is int for end in ends)
    if not whole or not 0 <= ends[0] < ends[1] <= ends[0] + MOST:
        expected = f"how many, or [first, one past the last]; at most {MOST}"
        raise InputError("seeds", found=f"{value!r:.40}", expected=expected)
    return range(*ends)
