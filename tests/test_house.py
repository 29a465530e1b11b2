"""The house keeps its rules: directions of import, public names, agreement of the requirement files, the wheel."""

import ast
import importlib
import inspect
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ["data", "probes", "analysis", "reports"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def sources():
    return [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_only_rooms_to_their_left(path):
    room = path.relative_to(ROOT).parts[0]
    for name in imports(path):
        first, *rest = name.split(".")
        assert first not in ROOMS, f"bare import of {name}"
        if first == "scorescope":
            assert ROOMS.index(rest[0]) <= ROOMS.index(room), f"{room} imports {name}"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_pickle_and_a_docstring(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "a module says what it is for"
    assert not {"pickle", "joblib", "dill", "cloudpickle"} & set(imports(path))


def packages():
    return sorted({"scorescope." + ".".join(path.parent.relative_to(ROOT).parts) for path in sources()})


@pytest.mark.parametrize("package", packages())
def test_public_names_exist(package):
    module = importlib.import_module(package)
    names = getattr(module, "__all__", [])
    assert len(set(names)) == len(names) and all(hasattr(module, name) for name in names)


@pytest.mark.parametrize("package", packages())
def test_no_module_hides_a_public_name(package):
    # importing a module binds its name in its package, over a function of that name
    for path in ROOT.joinpath(*package.split(".")[1:]).glob("*.py"):
        if path.stem not in ("__init__", "__main__"):
            importlib.import_module(f"{package}.{path.stem}")
    module = importlib.import_module(package)
    hidden = [name for name in getattr(module, "__all__", []) if inspect.ismodule(getattr(module, name))]
    assert package.count(".") == 1 or not hidden  # a room's face lists its wings


def pins(text):
    return dict(re.findall(r"^\s*-?\s*([A-Za-z0-9_.-]+)==([^\s;]+)", text, flags=re.MULTILINE))


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_constraints_pin_what_pyproject_asks_for():
    from packaging.requirements import Requirement

    constraints = {normal(name): version for name, version in pins((ROOT / "constraints.txt").read_text()).items()}
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    asked = project["dependencies"] + [line for name in ("dev", "diffusers", "notebooks") for line in extras[name]]
    for line in asked:
        requirement = Requirement(line)
        version = constraints.get(normal(requirement.name))
        assert version is not None, f"constraints.txt does not pin {requirement.name}"
        assert requirement.specifier.contains(version, prereleases=True), f"{line}, but constraints.txt has {version}"


def test_every_folder_of_code_is_a_listed_package():
    folders = {path.parent.relative_to(ROOT) for path in sources()}
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    assert listed == {"scorescope." + ".".join(folder.parts) for folder in folders}


def test_conda_users_get_the_same():
    text = (ROOT / "environment.yml").read_text()
    constraints = pins((ROOT / "constraints.txt").read_text())
    assert pins(text) == {"torch": constraints["torch"]}
    assert "-c constraints.txt" in text
    makefile = (ROOT / "Makefile").read_text()
    extras = re.search(r"-e \.\[([a-z,]+)\]", text).group(1)
    assert f"-e '.[{extras}]'" in makefile
    python = re.search(r"python=([\d.]+)", text).group(1)
    assert PROJECT["project"]["requires-python"] == f">={python}"


def test_ci_runs_the_readmes_test_command():
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci/run").read_text()
    assert "make report" in readme and "make test" in readme and "\nmake test\n" in ci


def test_wheel_installs_and_imports_outside_the_checkout(tmp_path):
    # dependencies come from this environment, by a path file: what is tested is the wheel's own contents
    source = tmp_path / "source"
    skipped = shutil.ignore_patterns(".*", "build", "runs", "report", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=skipped)  # a build folder in the checkout may hold files of earlier builds
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "pip", "wheel", str(source), *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for room in ROOMS:
        assert f"scorescope/{room}/py.typed" in names and f"scorescope/{room}/__init__.py" in names
    assert "scorescope/data/weights/digits.safetensors" in names
    assert "scorescope/reports/page/templates/report.html.j2" in names
    assert "scorescope/__init__.py" not in names and not any(name.startswith("tests") for name in names)
    site = tmp_path / "env/lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    venv.create(tmp_path / "env", with_pip=False)
    zipfile.ZipFile(wheel).extractall(site)
    outer = [path for path in sys.path if path.endswith("site-packages")]
    (site / "outer.pth").write_text("\n".join(outer))
    code = (
        "import scorescope.data as d; from scorescope.analysis import guidance; "
        "print(d.__file__); d.load_denoiser('digits'); print(guidance.decompose.__name__)"
    )
    run = subprocess.run([tmp_path / "env/bin/python", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert str(tmp_path) in run.stdout and "decompose" in run.stdout
