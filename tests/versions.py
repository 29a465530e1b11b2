"""Install the lowest or the newest versions that `pyproject.toml` allows in a fresh environment, and run tests there.

    python -m tests.versions lowest /tmp/lowest              # a quick part of the tests
    python -m tests.versions newest /tmp/newest tests        # all of them, or the paths that are named

The lowest versions are those of what the project asks for itself; what these ask for is the newest that fits. torch is
the version of `constraints.txt` in both, since other versions come with gigabytes of libraries: TORCH=2.6.0 names
another. The Python is the one that runs this.
"""

import argparse
import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
EXTRAS = ("diffusers", "cluster", "zarr")  # of which tests run on their own
TOOLS = ("pytest", "hypothesis", "pytest-xdist")
WITHOUT = (  # a browser, and what documentation and notebooks are made with
    "tests/reports/page/test_in_a_browser.py", "tests/test_docs.py", "tests/test_docs_examples.py",
    "tests/test_notebooks.py",
)  # fmt: skip
QUICK = (
    "tests/data", "tests/analysis", "tests/probes/decomposition", "tests/probes/pipelines", "tests/probes/recording",
    "tests/probes/guidance", "tests/probes/sampling", "tests/probes/features", "tests/reports/page",
    "tests/reports/cli",
)  # fmt: skip


def torch_version() -> str:
    """The version to install: that of the environment, else that of `constraints.txt`."""
    pinned = re.search(r"^torch==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    return os.environ.get("TORCH", pinned[1])


def asked_for() -> dict[str, Requirement]:
    """What the project, its extras with tests and its tests ask for, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    tools = [line for line in extras["dev"] if Requirement(line).name in TOOLS]
    lines = [*project["dependencies"], *(line for name in EXTRAS for line in extras[name]), *tools]
    return {(found := Requirement(line)).name: found for line in lines}


def lowest(requirement: Requirement) -> str:
    """The lowest version that a requirement allows, as pip takes it."""
    return next(one.version for one in requirement.specifier if one.operator in (">=", "=="))


def to_install(which: str) -> list[str]:
    """What pip is told to install."""
    asked = asked_for()
    if which == "newest":
        return [f"torch=={torch_version()}", *(str(one) for name, one in asked.items() if name != "torch")]
    return [f"torch=={torch_version()}", *(f"{name}=={lowest(one)}" for name, one in asked.items() if name != "torch")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("which", choices=("lowest", "newest"))
    parser.add_argument("folder", type=Path, help="for the environment; one that is there is used as it is")
    parser.add_argument("tests", nargs="*", default=QUICK)
    asked = parser.parse_args()
    python = asked.folder / "bin/python"
    if not python.exists():
        venv.create(asked.folder, with_pip=True)
        pip = [python, "-m", "pip", "install", "--quiet"]
        wanted = to_install(asked.which)
        subprocess.run([*pip, wanted[0]], check=True)  # first and alone: nothing may ask for another
        subprocess.run([*pip, *wanted], check=True)
        subprocess.run([*pip, "--no-deps", "-e", ROOT], check=True)
    print(subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout)
    options = ["-q", "--tb=line", "-p", "no:cacheprovider", "-m", "not slow"]
    options += [f"--ignore={file}" for file in WITHOUT]
    options += ["-W", "default"] * (asked.which == "lowest")  # old libraries warn about new ones beside them
    done = subprocess.run(
        [python, "-m", "pytest", *options, *asked.tests], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
