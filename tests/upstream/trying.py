"""One pipeline class: built in each way that is known, until one can be run."""

import functools
import inspect
import itertools
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests import pipelines
from tests.upstream.fixtures import Fixtures, arguments_of
from tests.upstream.rows import UNBUILT, Row, examine, said
from tests.upstream.stand_ins import stand_ins, wrap_vocabularies

SECONDS = 40  # of the processor, that building and running one may take


class TooLong(BaseException):
    """Building and running took more than `SECONDS`."""


def try_class(name: str, kind: type, fixtures: Fixtures) -> Row:
    """The row of a class: of the first tiny pipeline that runs, else why none does."""
    row = Row(name, UNBUILT, "no test of diffusers builds it")
    for built_by, build in _ways(name, kind, fixtures):
        try:
            row = _within_time(lambda: _try(name, build, built_by))  # noqa: B023
        except TooLong:
            row = Row(name, UNBUILT, f"more than {SECONDS} s of the processor", built_by=built_by)
        if row.state != UNBUILT:
            break
    return row


def _ways(name: str, kind: type, fixtures: Fixtures) -> Iterator[tuple[str, Callable[[], Any]]]:
    for case, made in fixtures.of(name):
        yield f"diffusers: {case}", functools.partial(_of_test, made)
    for key in _ours().get(name, ()):
        yield f"tests/pipelines.py: {key}", functools.partial(_of_ours, key)
    if name not in fixtures.by_class:
        for case, made in itertools.islice(fixtures.beside(kind), 3):
            yield f"diffusers: parts of {case}", functools.partial(_of_sibling, kind, made)


def _of_test(case: Any) -> tuple[Any, Callable[[], Any]]:
    torch.manual_seed(0)
    pipe = case.pipeline_class(**case.get_dummy_components())
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe, lambda: arguments_of(case)


def _of_sibling(kind: type, case: Any) -> tuple[Any, Callable[[], Any]]:
    """A class that no test builds, from the parts and arguments of one beside it that has all of its parts."""
    torch.manual_seed(0)
    parts, wanted = case.get_dummy_components(), inspect.signature(kind.__init__).parameters
    pipe = kind(**{name: part for name, part in parts.items() if name in wanted})
    pipe.set_progress_bar_config(disable=True)
    return pipe, lambda: _arguments_for(kind, arguments_of(case))


def _arguments_for(kind: type, given: dict[str, Any]) -> dict[str, Any]:
    """Arguments of another class's call that this one takes, and images where it needs them."""
    takes = inspect.signature(kind.__call__).parameters
    sizes = given.get("width", 32), given.get("height", 32)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*sizes[::-1], 3), dtype=np.uint8))
    black = Image.new("L", sizes, 255)
    more = {"image": picture, "control_image": picture, "mask_image": black, "video": [picture] * 9}
    found = {name: value for name, value in given.items() if name in takes}
    return {name: value for name, value in more.items() if name in takes and name not in found} | found


def _of_ours(key: str) -> tuple[Any, Callable[[], Any]]:
    build = OWN[key]
    return build()[0], lambda: build()[1]


OWN: dict[str, Callable[[], Any]] = {**pipelines.PIPELINES, **pipelines.ODD, "animatediff": pipelines.animatediff}


@functools.cache
def _ours() -> dict[str, list[str]]:
    """Names of our own tiny pipelines by class."""
    found: dict[str, list[str]] = {}
    for key, build in OWN.items():
        found.setdefault(type(build()[0]).__name__, []).append(key)
    return found


def _try(name: str, build: Callable[[], Any], built_by: str) -> Row:
    with stand_ins():
        try:
            pipe, arguments = build()
            wrap_vocabularies(pipe)
            arguments()
        except Exception as error:
            return Row(name, UNBUILT, said(error), built_by=built_by)
        return examine(name, pipe, arguments, built_by)


def _within_time(work: Callable[[], Row]) -> Row:
    def too_long(*_: Any) -> None:
        raise TooLong

    before = signal.signal(signal.SIGVTALRM, too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        return work()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
