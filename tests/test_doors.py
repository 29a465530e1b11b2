"""Every public function and class, called with a wrong type for each parameter, answers with one sentence of ours.

What is given for the other parameters is made by the table below, by the name or by the type of a parameter: it is of
the right type and no more, because the check at the door comes first.
"""

import collections.abc
import inspect
import pickle
import types
import typing
from pathlib import Path
from typing import Any, Literal, Union

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor, nn

from scorescope.analysis.guidance import audit, decompose, measure_sweep
from scorescope.analysis.information import paired_classify
from scorescope.data import InputError
from scorescope.data.doors import checked
from scorescope.probes import CFG, Bank, NoiseLevel, Recording, collect, guide, load_model, record, sample, sweep
from scorescope.probes.approximations import fit_gaussian, fit_kmeans, isotropic
from scorescope.probes.features import clip_extractor, dinov2_extractor, extract, pixel_extractor
from scorescope.probes.models import vae_decoder
from scorescope.probes.pipelines import Engine, Listener
from scorescope.probes.sampling import Run, RunArm, pipeline_start, sample_arms
from scorescope.probes.sites import site_names
from tests.house import read_house

# what is called by nobody from outside, or takes anything
NOT_CALLED = {
    "Call": "made by the engine at every call of a denoiser",
    "Condition": "what a user's condition has to be, no class of ours",
    "GuidanceState": "made by the sampler at every step",
    "Listener": "a base class without parameters",
    "StepEvent": "made by the engine at every step",
    "main": "the command line",
}
WRONG = (None, "text", 3, object(), [object()])


def public():
    """Every public function and class by its full name, once."""
    found = {}
    for wing in read_house().in_order():
        module = __import__(f"scorescope.{wing.name}", fromlist=["_"])
        for name in module.__all__:
            made = getattr(module, name)
            is_type = inspect.isclass(made) and not getattr(made, "_is_protocol", False)
            if inspect.isfunction(made) or (is_type and not issubclass(made, Exception)):
                found.setdefault(made, f"{wing.name}.{name}")
    return {name: made for made, name in found.items() if name.rpartition(".")[2] not in NOT_CALLED}


PUBLIC = public()


def parameters(made):
    """Parameters of a callable, each with its annotation as an object."""
    whole = made.__init__ if inspect.isclass(made) else made
    annotations = inspect.get_annotations(inspect.unwrap(whole), eval_str=True)
    shown = inspect.signature(made).parameters.values()
    return {one.name: one.replace(annotation=annotations.get(one.name, Any)) for one in shown}


def parts(annotation):
    """The members of a union; `ArrayLike` stays whole."""
    members = (
        typing.get_args(annotation) if typing.get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    )
    arrays = set(typing.get_args(ArrayLike))
    if arrays <= set(members):
        members = (ArrayLike, *(member for member in members if member not in arrays))
    return members


def takes_anything(annotation):
    return any(part in (Any, object) or isinstance(part, typing.TypeVar) for part in parts(annotation))


def is_wrong(value, annotation):
    """Whether a value is of no type that an annotation names; in words of its own, not in those of the check."""
    members = [typing.get_origin(part) or part for part in parts(annotation)]
    if value is None:
        return None not in members and type(None) not in members
    if isinstance(value, str):
        return not {str, Path, Literal} & set(members)
    if isinstance(value, int):
        return not {int, float, bool, Literal} & set(members)
    if isinstance(value, list):
        untyped = {tuple, list, collections.abc.Sequence, collections.abc.Iterable} & set(parts(annotation))
        loose = [part for part in parts(annotation) if part is ArrayLike or typing.get_args(part)[:1] == (Any,)]
        return not untyped and not loose
    return True


class Weak(nn.Module):
    shape, branches, weight = (1, 8, 8), staticmethod(lambda state: ("cond",)), 1.0

    def forward(self, *args: Any) -> Any:
        return args[0]

    step = run = encode = decode = forward
    name, calls = "mine", 1


def make(annotation):
    """Something of the type that an annotation names."""
    part = parts(annotation)[0]
    origin, args = typing.get_origin(part) or part, typing.get_args(part)
    known = {
        str: "text", int: 1, float: 1.0, bool: False, Path: Path("nowhere"), Tensor: torch.zeros(2, 1, 8, 8),
        np.ndarray: np.zeros(3), pd.DataFrame: pd.DataFrame(), Figure: None, ArrayLike: np.zeros((3, 2)),
        torch.dtype: torch.float32, torch.device: torch.device("cpu"), range: range(1),
    }  # fmt: skip
    if part in known or origin in known:
        return Figure() if origin is Figure else known.get(part, known.get(origin))
    if takes_anything(part) or part is type(None):
        return None
    if origin is Literal:
        return args[0]
    if origin is collections.abc.Callable or getattr(origin, "_is_protocol", False):
        return Weak()
    if origin is tuple:
        return tuple(make(arg) for arg in args if arg is not Ellipsis)
    if issubclass(origin, collections.abc.Mapping):
        return {make(args[0]): make(args[1])} if args else {}
    if issubclass(origin, collections.abc.Iterable) and args:
        return [make(args[0])]
    return str if origin is type else origin.__new__(origin)


CASES = [
    (name, parameter, value)
    for name, made in PUBLIC.items()
    for parameter, one in parameters(made).items()
    for value in WRONG
    if one.kind is not inspect.Parameter.VAR_KEYWORD
    and is_wrong(value, one.annotation)
    and not takes_anything(one.annotation)
]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_wrong_type_is_answered_by_the_name_of_its_parameter(name):
    made, given = PUBLIC[name], parameters(PUBLIC[name])
    needed = {one: make(about.annotation) for one, about in given.items() if about.default is about.empty}
    fixed = {one: value for one, value in needed.items() if given[one].kind not in (2, 4)}
    for parameter, value in [(parameter, value) for of, parameter, value in CASES if of == name]:
        by_place = given[parameter].kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)
        args = [*fixed.values(), value] if by_place else []
        with pytest.raises(InputError) as error:
            made(*args, **({} if by_place else fixed | {parameter: value}))
        assert error.value.argument == parameter and error.value.found and error.value.expected, str(error.value)


TYPED = {  # what people type, and the sentence that answers
    "weight: found '7.5' (str); expected a number": lambda: CFG("7.5"),
    "sample: found an object of type CFG by place; expected it by name, as rule=": lambda: sample(Weak(), CFG(4)),
    "seeds: found 4 (int); expected a sequence of whole numbers": lambda: sample(Weak(), seeds=4),
    "record: found True; expected a Recording or None": lambda: sample(Weak(), seeds=[0], record=True),
    "rule: found 'apg' (str); expected a Rule (a guidance rule)": lambda: sample(Weak(), seeds=[0], rule="apg"),
    "rule: found the class CFG; expected a Rule": lambda: sample(Weak(), seeds=[0], rule=CFG),
    "trace: found a run without one; expected sample(..., record=": lambda: decompose(Run(torch.zeros(1), None)),
    "x0: found a numpy array of shape (3, 8, 8, 1); expected a torch tensor": lambda: Bank(
        np.zeros((3, 8, 8, 1)), [1.0]
    ),
    "settings: found nothing in it; expected at least one": lambda: measure_sweep([]),
    "sigma: found from -1 to -1; expected 0 or more": lambda: NoiseLevel.ve(torch.tensor(-1.0)),
    "sigma: found -1 (int); expected a torch tensor": lambda: NoiseLevel.ve(-1),
    "time: found from 0.5 to 1.5; expected between 0 and 1": lambda: NoiseLevel.flow(torch.tensor([0.5, 1.5])),
    "source: found a torch tensor of shape (2, 3, 8, 8); expected an ImageSource": lambda: extract(
        torch.zeros(2, 3, 8, 8), pixel_extractor()
    ),
    "candidates: found a torch tensor of shape (10,); expected a mapping of str to": lambda: paired_classify(
        Weak(), Bank(torch.zeros(1, 1, 8, 8), [1.0]), torch.arange(10), [0]
    ),
    "denoisers: found [1] (list); expected a mapping of str to Module objects": lambda: Engine.join(
        None, Listener(), [1]
    ),
    "sites: found 'net' (str); expected a sequence of str": lambda: record(nn.Identity(), sites="net"),
}


@pytest.mark.parametrize("sentence", TYPED)
def test_what_people_type_is_answered_in_one_sentence(sentence):
    with pytest.raises(InputError) as error:
        TYPED[sentence]()
    assert sentence in str(error.value)


def test_a_run_and_the_folder_of_a_trace_are_decomposed(tmp_path):
    model = load_model("digits")
    run = sample(model.denoiser, seeds=range(2), condition=model.conditions(2), rule=CFG(2.0), sigmas=[1.0, 0.1],
                 record=Recording(), progress=False)  # fmt: skip
    pd.testing.assert_frame_equal(decompose(run), decompose(run.trace))
    with pytest.raises(InputError, match="expected a trace folder"):
        decompose(str(tmp_path / "path"))


LAW = isotropic(torch.zeros(1, 8, 8), 1.0)

# what takes objects of somebody else's classes, looked at by what they have
OTHERS = {
    "vae": vae_decoder,
    "pipe of Engine": Engine,
    "pipe of record": lambda pipe: record(pipe).__enter__(),
    "pipe of guide": lambda pipe: guide(pipe, CFG(2.0)).__enter__(),
    "scheduler": lambda one: pipeline_start(LAW, one, torch.zeros(1, 1, 8, 8), sigma_skip=1.0),
    "source of fit_gaussian": fit_gaussian,
    "source of fit_kmeans": lambda source: fit_kmeans(source, clusters=2),
    "model of dinov2": dinov2_extractor,
    "model of clip": clip_extractor,
    "model of sweep": lambda model: sweep(model, {"a": CFG(1.0)}, seeds=[0], condition=None, progress=False),
    "guider of audit": lambda guider: audit(guider, [], progress=False),
    "denoiser of site_names": site_names,
}


@pytest.mark.parametrize("name", OTHERS)
def test_objects_of_others_are_refused_by_us(name):
    for value in (None, 3, object(), [object()]):
        with pytest.raises(InputError):
            OTHERS[name](value)


@pytest.mark.parametrize("condition", [3, object(), [object()], []])
def test_a_condition_that_has_no_rows_is_refused_by_us(condition):
    denoiser, bank = load_model("digits").denoiser, Bank(torch.zeros(2, 1, 8, 8), [1.0])
    for call in (
        lambda: sample_arms(denoiser, [RunArm("a")], seeds=range(2), condition=condition, progress=False),
        lambda: collect(denoiser, bank, ["network.middle1"], condition=condition),
        lambda: sample(denoiser, seeds=range(2), condition=condition, sigmas=[1.0], progress=False),
    ):
        with pytest.raises(InputError):
            call()


@checked
def example(first: float, /, second: str | Path = "a", *more: int, third: tuple[float, float] | None = None) -> str:
    """Says something."""
    return f"{first} {second} {more} {third}"


def test_the_check_leaves_a_function_what_it_was():
    assert str(inspect.signature(example)).startswith("(first: float, /, second: str | pathlib.Path = 'a', *more: int")
    assert example.__doc__ == "Says something." and inspect.getsource(example).startswith("@checked")
    assert pickle.loads(pickle.dumps(example)) is example  # noqa: S301
    rule = pickle.loads(pickle.dumps(CFG(4.0)))  # noqa: S301
    assert rule == CFG(4.0) and str(inspect.signature(CFG)) == "(weight: float) -> None"
    with pytest.raises(TypeError, match="missing 1 required"):
        example()


ACCEPTED = [(1,), (np.float32(1),), (torch.tensor(1.0),), (True,), (1, Path("a")), (1, "a", 2, np.int64(3))]


@pytest.mark.parametrize("args", ACCEPTED)
def test_numbers_are_numbers_whoever_made_them(args):
    assert example(*args)
    for pair in ((1, 2), [1.0, 2], np.ones(2), torch.ones(2), None):
        assert example(*args, third=pair)


@pytest.mark.parametrize("pair", [(1,), (1, 2, 3), ("a", 1), "ab", {1: 2, 3: 4}, 1.0])
def test_what_is_no_pair_of_numbers_is_refused(pair):
    with pytest.raises(InputError, match=r"expected a tuple .a number, a number. or None"):
        example(1, third=pair)
    with pytest.raises(InputError, match="more: found 'x'"):
        example(1, "a", 2, "x")
