"""What a program has to load: of heavy packages only those that it uses."""

import json
import subprocess
import sys

import pytest

HEAVY = {
    *("captum", "diffusers", "jinja2", "matplotlib", "numpy", "pandas", "PIL", "pyarrow", "safetensors", "seaborn"),
    *("scipy", "scipy.optimize", "scipy.special", "scipy.stats", "sklearn", "torch", "transformers", "xarray"),
}
TABLES = {"numpy", "pandas", "pyarrow", "torch"}
# pandas loads pyarrow where it is installed
MAY_LOAD = {
    "import scorescope.data, scorescope.probes, scorescope.analysis, scorescope.reports": set(),
    "from scorescope.data import InputError": set(),
    "from scorescope.probes import *": TABLES | {"PIL", "safetensors", "scipy"},
    "from scorescope.analysis import *": TABLES | {"PIL", "safetensors", "scipy"},
    "from scorescope.analysis import summarise_by": TABLES | {"safetensors", "scipy"},
    "import scorescope.reports.cli.all_reports": TABLES | {"PIL", "jinja2", "matplotlib", "safetensors", "scipy"},
}
COMMANDS = ("--help", "--version", "report --help", "report guidance --help", "report fid --help", "trace show --help")


def loaded(code: str) -> set[str]:
    """Heavy packages after a program in a process of its own."""
    code += (
        f"\nimport json, sys\nsys.stderr.write(json.dumps([name for name in {sorted(HEAVY)} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr))


@pytest.mark.parametrize("code", MAY_LOAD)
def test_importing_loads_only_what_is_used(code):
    assert loaded(code) <= MAY_LOAD[code]


@pytest.mark.parametrize("arguments", COMMANDS)
def test_asking_the_command_line_loads_nothing_heavy(arguments):
    code = f"import sys\nfrom scorescope.reports.cli import main\nsys.argv[1:] = {arguments.split()}\n"
    assert not loaded(f"{code}try:\n    main()\nexcept SystemExit as end:\n    assert not end.code")


def test_a_rooms_names_are_listed_before_they_are_loaded():
    assert not loaded("import scorescope.analysis as room\nassert set(room.__all__) <= set(dir(room))")
