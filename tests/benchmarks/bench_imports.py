"""What it costs to import Scorescope and to ask its command line, against `import torch`.

Processor time of whole processes, in turn; byte code is written before, as an installed package has it.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile

ROUNDS = 7
TORCH = "import torch"
MAIN = "import sys; from scorescope.reports.cli import main; sys.argv[1:] = ['{}']; main()"
PROGRAMS = {
    TORCH: TORCH,
    "import torch, pandas": "import torch, pandas",
    "scorescope --help": MAIN.format("--help"),
    "scorescope --version": MAIN.format("--version"),
    "import scorescope.probes": "import scorescope.probes",
    "import scorescope.analysis": "import scorescope.analysis",
    "from scorescope.probes import *": "from scorescope.probes import *",
    "from scorescope.analysis import *": "from scorescope.analysis import *",
}


def processor_seconds(code: str, environment: dict[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        measured = [
            {name: processor_seconds(code, environment) for name, code in PROGRAMS.items()} for _ in range(ROUNDS + 1)
        ][1:]  # the first writes byte code
    for name in PROGRAMS:
        seconds = statistics.median(one[name] for one in measured)
        ratio = statistics.median(one[name] / one[TORCH] for one in measured)
        print(f"{name}: {seconds:.2f} s, {ratio:.2f} of {TORCH}")


if __name__ == "__main__":
    main()
