"""What `tests.versions` would install are versions that `pyproject.toml` allows, one for each thing asked for."""

import tomllib

import pytest
from packaging.requirements import Requirement

from tests.versions import ROOT, asked_for, lowest, to_install, torch_version


@pytest.mark.parametrize("name", sorted(asked_for()))
def test_the_lowest_version_is_allowed(name):
    requirement = asked_for()[name]
    assert requirement.specifier.contains(lowest(requirement))
    assert sum(line.startswith(f"{name}==") for line in to_install("lowest")) == 1


def test_the_newest_are_those_of_the_project_with_the_pinned_torch():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    newest = to_install("newest")
    assert newest[0] == f"torch=={torch_version()}"
    assert asked_for()["torch"].specifier.contains(torch_version())
    asked = {Requirement(line).name: line for line in project["dependencies"]}
    assert all(str(Requirement(line)) in newest for name, line in asked.items() if name != "torch")
