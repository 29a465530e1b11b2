"""The house keeps its rules: directions of import, faces and public names, its map, requirement files, the wheel."""

import ast
import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
import venv
import zipfile
from graphlib import TopologicalSorter

import pytest

from tests.house import MAY_IMPORT, ROOMS, ROOT, imports, read_house
from tests.house_map import DRAWING, PAGE, drawing, page

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HOUSE = read_house()
FILES = list(HOUSE.files.values())
WINGS = [wing for wing in HOUSE.in_order() if wing.name not in ROOMS]
ROOM_FACES = [HOUSE.files[room] for room in ROOMS]
MOST_NAMES = {"room": 40, "wing": 30}
LATE = {"TYPE_CHECKING", "late_face"}  # what the face of a room needs to load its names late


def each(things):
    return pytest.mark.parametrize("one", things, ids=lambda one: one.name if hasattr(one, "name") else str(one))


# directions of import


@each(FILES)
def test_rooms_import_only_rooms_to_their_left(one):
    room = one.name.split(".")[0]
    for found in one.imports:
        first, *rest = found.module.split(".")
        assert first, "relative import"
        assert first not in ROOMS, f"bare import of {found.module}"
        if first == "scorescope":
            assert ROOMS.index(rest[0]) <= ROOMS.index(room), f"{room} imports {found.module}"


@each([one for one in FILES if "." in one.name])
def test_inside_a_room_nothing_imports_the_rooms_own_face(one):
    room = one.name.split(".")[0]
    assert room == "data" or room not in {HOUSE.target(found) for found in one.imports}


@each(FILES)
def test_a_file_lies_in_a_wing_says_what_it_is_for_and_reads_no_pickle(one):
    room, *rest = one.name.split(".")
    assert room == "data" or len(rest) == 2 or one.is_face or rest == ["__main__"]
    assert re.search(r"[.?!]$", one.doc), "the first line of a module's docstring is a whole sentence"
    assert not {"pickle", "joblib", "dill", "cloudpickle"} & {found.module for found in one.imports}


@each(WINGS)
def test_a_wing_imports_only_the_wings_it_may(one):
    room, wing = one.name.split(".")
    used = {name.split(".")[1] for name in one.uses if name.startswith(f"{room}.")}
    assert used <= set(MAY_IMPORT[room][wing])


@each(ROOMS)
def test_wings_are_in_no_circle(one):
    list(TopologicalSorter(MAY_IMPORT[one]).static_order())  # a circle is an error


def test_no_file_imports_itself_by_way_of_others():
    graph = {one.name: {HOUSE.target(found) for found in one.imports} - {"", one.name} for one in FILES}
    list(TopologicalSorter(graph).static_order())


# faces


@each([one for one in FILES if one.is_face])
def test_public_names_exist_once_and_no_module_hides_one(one):
    package = importlib.import_module(f"scorescope.{one.name}")
    for file in FILES:  # importing a module binds its name in its package, over a function of that name
        if file.name.rpartition(".")[0] == one.name and not file.is_face and not file.name.endswith("__main__"):
            importlib.import_module(f"scorescope.{file.name}")
    assert len(set(one.public)) == len(one.public) and all(hasattr(package, name) for name in one.public)
    hidden = {name for name in one.public if inspect.ismodule(getattr(package, name))}
    modules = {(found.name, f"{found.module.removeprefix('scorescope.')}.{found.name}") for found in one.imports}
    listed = {(found.name, HOUSE.target(found)) for found in one.imports}
    assert hidden <= {name for name, _ in modules & listed}


@each(HOUSE.in_order())
def test_a_face_lists_documented_names_that_its_own_files_define(one):
    kind = "wing" if one in WINGS else "room"
    assert len(one.face.public) <= MOST_NAMES[kind]
    own = [found for found in one.face.imports if found.name not in LATE]
    assert {found.name for found in own} == set(one.face.public)
    for found in own:
        file = HOUSE.files[HOUSE.target(found)]
        assert file.wing == one.name, f"{found.name} comes from {file.name}"
        if found.name in one.face.taken:
            assert found.name in file.defined, f"{file.name} takes {found.name} from elsewhere"
            assert file.is_documented(found.name), f"{found.name} is not documented"


@each([face for face in ROOM_FACES if face.name != "data"])
def test_a_rooms_face_lists_its_wings_and_names_from_their_faces(one):
    wings = set(MAY_IMPORT[one.name])
    assert wings <= set(one.public)
    imports = [found for found in one.imports if found.module.startswith(f"scorescope.{one.name}")]
    for found in imports:
        if found.name not in wings:
            wing = HOUSE.wings[HOUSE.files[HOUSE.target(found)].wing]
            assert wing.name.startswith(f"{one.name}.") and found.name in wing.face.public
    names = set(one.public) - wings
    assert names == {found.name for found in imports} - wings and len(names) <= MOST_NAMES["room"]


@each(WINGS)
def test_a_wings_docstring_shows_how_it_is_used(one):
    recipe = code_of(one.face.docstring)
    assert recipe, "no indented lines of usage"
    if one.name == "reports.cli":
        assert all(line.startswith("scorescope ") for line in recipe.splitlines())
    else:
        used = {node.id for node in ast.walk(ast.parse(recipe)) if isinstance(node, ast.Name)}
        used |= {node.attr for node in ast.walk(ast.parse(recipe)) if isinstance(node, ast.Attribute)}
        assert used & set(one.face.public), "the usage uses none of the wing's names"


def code_of(docstring):
    """What follows the first paragraph of a docstring if all of it is code, else its indented lines."""
    _, _, rest = docstring.partition("\n\n")
    try:
        ast.parse(rest)
    except SyntaxError:
        return textwrap.dedent("\n".join(line for line in rest.split("\n") if line.startswith("    ")))
    return rest


# what is shown to users uses public names only


HAND_WRITTEN = (
    "README.md",
    "CONTRIBUTING.md",
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md")) if "generated" not in path.parts),
)


def notebook_code(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    return ["".join(line for line in cell["source"] if not line.startswith("%")) for cell in cells]


def shown():
    """Code by where it is shown."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        yield path.name, notebook_code(path)
    for name in HAND_WRITTEN:
        yield name, re.findall(r"^```python\n(.*?)^```", (ROOT / name).read_text(), flags=re.DOTALL | re.MULTILINE)
    yield from ((wing.name, [code_of(wing.face.docstring)]) for wing in WINGS if wing.name != "reports.cli")


def is_public(module, name):
    """Whether a face has the name, or lists the module that defines it."""
    file = HOUSE.files.get(module)
    if file is None or name.startswith("_"):
        return False
    if file.is_face:
        return name in file.public
    face, _, stem = module.rpartition(".")
    return stem in HOUSE.files[face].public and name in {*file.defined, *file.public}


@pytest.mark.parametrize(("where", "blocks"), [pytest.param(*one, id=one[0]) for one in shown()])
def test_what_is_shown_uses_public_names_only(where, blocks):
    tree = ast.parse("\n".join(blocks))
    modules, private = {}, []
    for found in imports(tree):
        if found.module.startswith("scorescope."):
            module = found.module.removeprefix("scorescope.")
            if HOUSE.target(found) != module:
                modules[found.name] = HOUSE.target(found)
            if found.name and not is_public(module, found.name):
                private.append(f"{module}.{found.name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            module = modules[node.value.id]
            private += [] if is_public(module, node.attr) else [f"{module}.{node.attr}"]
    assert not private, f"not in a face: {', '.join(private)}"


# the map


def test_the_map_is_that_of_the_code():
    assert page(HOUSE, PAGE.read_text()) == PAGE.read_text(), "run `make map`"
    assert drawing(HOUSE) == DRAWING.read_text(), "run `make map`"


@each(HAND_WRITTEN)
def test_what_hand_written_text_names_exists(one):
    text = re.sub(r"<!-- (\w+) -->.*?<!-- end \1 -->", "", (ROOT / one).read_text(), flags=re.DOTALL)
    for path in re.findall(r"`((?:data|probes|analysis|reports|tests|docs|notebooks)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        if "generated/" in target:  # written when the documentation is built; tests/test_docs.py looks there
            continue
        assert (ROOT / one).parent.joinpath(target).exists(), target
    for name in re.findall(r"`((?:data|probes|analysis|reports)(?:\.\w+)+)`", text):
        module, _, last = name.rpartition(".")
        assert name in HOUSE.wings or is_public(module, last), name


# requirement files, packages, the wheel


def pins(text):
    return dict(re.findall(r"^\s*-?\s*([A-Za-z0-9_.-]+)==([^\s;]+)", text, flags=re.MULTILINE))


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_constraints_pin_what_pyproject_asks_for():
    from packaging.requirements import Requirement

    constraints = {normal(name): version for name, version in pins((ROOT / "constraints.txt").read_text()).items()}
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    installed = ("cluster", "dev", "diffusers", "docs", "imagenet", "notebooks")
    asked = project["dependencies"] + [line for name in installed for line in extras[name]]
    for line in asked:
        requirement = Requirement(line)
        version = constraints.get(normal(requirement.name))
        assert version is not None, f"constraints.txt does not pin {requirement.name}"
        assert requirement.specifier.contains(version, prereleases=True), f"{line}, but constraints.txt has {version}"


def test_every_folder_of_code_is_a_listed_package():
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    assert listed == {"scorescope." + ".".join(one.path.parent.relative_to(ROOT).parts) for one in FILES}


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
    assert "scorescope/reports/page/vendored/LICENSE-tabulator" in names
    assert "scorescope/__init__.py" not in names and not any(name.startswith("tests") for name in names)
    site = tmp_path / "env/lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    venv.create(tmp_path / "env", with_pip=False)
    zipfile.ZipFile(wheel).extractall(site)
    outer = [path for path in sys.path if path.endswith("site-packages")]
    (site / "outer.pth").write_text("\n".join(outer))
    code = (
        "import scorescope.data as d; from scorescope.analysis import decompose; from importlib import metadata; "
        "print(d.__file__); d.load_denoiser('digits'); print(decompose.__name__, metadata.version('scorescope'))"
    )
    python = [tmp_path / "env/bin/python", "-I"]  # whatever PYTHONPATH says
    run = subprocess.run([*python, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert str(tmp_path) in run.stdout and f"decompose {PROJECT['project']['version']}" in run.stdout


@pytest.mark.parametrize(
    ("room", "name", "wing"),
    [("probes", "Heun", "sampling"), ("analysis", "verdict", "fid"), ("probes", "nothing", "")],
)
def test_a_room_says_which_wing_has_a_name(room, name, wing):
    module = importlib.import_module(f"scorescope.{room}")
    with pytest.raises(ImportError if wing else AttributeError, match=f"scorescope.{room}.{wing}" if wing else name):
        getattr(module, name)
