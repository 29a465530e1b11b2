"""From a fresh process to the first figure on disk, and to the whole page: the three stories of the README.

A network as the EDM codes have it (3 x 32 x 32, 0.7 M parameters, in a file), a small Stable Diffusion folder with
random weights, and two folders of 60 images.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.torch import save_file

from tests.saved_pipelines import saved
from tests.test_readme import pictures

MAIN = "import sys; from scorescope.reports.cli import main; main()"
NETWORK = """
from scorescope.data import EDMDenoiser, UNetConfig


def make():
    return EDMDenoiser(UNetConfig(shape=(3, 32, 32), channels=(32, 64, 64)), 0.5)
"""
STORIES = {
    "EDM network": "report guidance --edm network.safetensors --factory my_network:make --count 16",
    "Stable Diffusion folder": "report guidance --pipeline saved/sd15 --prompts prompts.txt --steps 30",
    "two image folders": "report fid REAL FAKE --features efficientnet_lite0",
}


def prepared(folder: Path) -> None:
    """What the three commands name."""
    (folder / "my_network.py").write_text(NETWORK)
    sys.path.insert(0, str(folder))
    from my_network import make

    save_file(make().state_dict(), folder / "network.safetensors")
    (folder / "saved").mkdir()
    saved("sd15", folder / "saved")
    (folder / "prompts.txt").write_text("\n".join(f"a lighthouse {number}" for number in range(8)))
    for seed, name in enumerate(("REAL", "FAKE")):
        pictures(folder / name, seed)


def timed(command: str, folder: Path) -> tuple[float, float]:
    """Seconds to the first figure, and to the end."""
    out, started, first = Path(tempfile.mkdtemp(dir=folder)), time.perf_counter(), 0.0
    words = [sys.executable, "-c", MAIN, *command.split(), "--out", str(out)]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            first = first or (time.perf_counter() - started if any(out.glob("figures/*.png")) else 0.0)
            time.sleep(0.1)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return first, time.perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        prepared(Path(name))
        for story, command in STORIES.items():
            first, whole = timed(command, Path(name))
            print(f"{story}: first figure {first:.0f} s, page {whole:.0f} s (scorescope {command})", flush=True)


if __name__ == "__main__":
    main()
