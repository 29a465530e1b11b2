"""The tiny pipelines of diffusers' own tests, from a checkout of its sources: a new pipeline comes with its own."""

import importlib
import importlib.util
import inspect
import itertools
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import diffusers

_ONLY_OF_TESTS = ("parameterized", "requests_mock")  # what their tests import and building a pipeline does not need


def pipeline_classes() -> dict[str, type]:
    """Every pipeline class of the installed diffusers that it exports and can import, by name."""
    base = diffusers.DiffusionPipeline
    names = [name for name in dir(diffusers) if "Pipeline" in name and not name.startswith(("Auto", "Modular", "Onnx"))]
    found = {name: getattr(diffusers, name) for name in names}
    return {
        name: kind
        for name, kind in sorted(found.items())
        if inspect.isclass(kind) and issubclass(kind, base) and kind is not base
    }


class Fixtures:
    """How the tests of diffusers build each pipeline.

    Attributes
    ----------
    by_class : dict
        Test classes that build a pipeline, by the name of its class.
    broken : dict
        Files of tests that could not be imported, and why.
    """

    def __init__(self, checkouts: Sequence[Path]) -> None:
        self.by_class: dict[str, list[type]] = {}
        self.broken: dict[str, str] = {}
        for name in _ONLY_OF_TESTS:
            if name not in sys.modules and importlib.util.find_spec(name) is None:
                sys.modules[name] = mock.MagicMock(name=name)
        for place, checkout in enumerate(checkouts):
            self._read(checkout / "tests", f"diffusers_tests_{place}")

    def _read(self, root: Path, package: str) -> None:
        """Import the tests of a checkout as a package of another name, since `tests` is our own."""
        sys.modules[package] = ModuleType(package)
        sys.modules[package].__path__ = [str(root)]
        common = "pipelines.test_pipelines_common"  # by its full name in a few tests
        sys.modules[f"tests.{common}"] = importlib.import_module(f"{package}.{common}")
        for file in sorted((root / "pipelines").rglob("test_*.py")):
            name = ".".join((package, *file.relative_to(root).with_suffix("").parts))
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    module = importlib.import_module(name)
            except BaseException as error:  # pytest's Skipped is none of Exception
                self.broken[str(file.relative_to(root))] = f"{type(error).__name__}: {error}"
                continue
            for pipeline, kind in self._of(module):
                self.by_class.setdefault(pipeline, []).append(kind)

    @staticmethod
    def _of(module: ModuleType) -> Iterator[tuple[str, type]]:
        for kind in vars(module).values():
            if not inspect.isclass(kind) or kind.__module__ != module.__name__:
                continue
            pipeline = inspect.getattr_static(kind, "pipeline_class", None)
            if inspect.isclass(pipeline) and all(
                hasattr(kind, f"get_dummy_{part}") for part in ("components", "inputs")
            ):
                shipped = next(one for one in pipeline.__mro__ if one.__module__.startswith("diffusers."))
                yield shipped.__name__, kind

    def of(self, name: str) -> Iterator[tuple[str, Any]]:
        """Name and test case of each way in which a class is built."""
        seen = set()
        for kind in self.by_class.get(name, []):
            key = (kind.get_dummy_components, kind.get_dummy_inputs)
            if key not in seen:
                seen.add(key)
                yield kind.__name__, kind()

    def beside(self, kind: type) -> Iterator[tuple[str, Any]]:
        """The same for a class of the same folder that has all parts of one that none builds."""
        folder, wanted = kind.__module__.rpartition(".")[0], set(inspect.signature(kind.__init__).parameters)
        for name in self.by_class:
            other = getattr(diffusers, name, kind)
            if other is kind or other.__module__.rpartition(".")[0] != folder:
                continue
            if wanted <= set(inspect.signature(other.__init__).parameters):
                yield from itertools.islice(self.of(name), 1)


def arguments_of(case: Any) -> dict[str, Any]:
    """The arguments of a test's call, drawn anew."""
    takes = inspect.signature(case.get_dummy_inputs).parameters
    return case.get_dummy_inputs(**({"device": "cpu"} if "device" in takes else {}))
