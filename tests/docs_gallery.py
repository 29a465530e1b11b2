"""The gallery's pictures, from reports that were made: `make gallery` writes `docs/gallery/` from `report/`.

A picture is that of the page, no wider than `WIDTH` pixels and of few colours, so that all are a megabyte or two.
"""

import io
import json
import sys
from pathlib import Path

from PIL import Image

from tests.docs_pages import GALLERY, INSTRUMENTS

WIDTH, COLOURS = 900, 64


def main(report: Path) -> None:
    """Take the pictures of each instrument's report below `report`; one that was not made keeps its old ones."""
    for instrument in INSTRUMENTS:
        manifest = report / instrument / "manifest.json"
        if manifest.is_file():
            files = json.loads(manifest.read_text())["files"]
            take(report / instrument, [name for name in files if name.endswith(".png")], GALLERY / instrument)


def take(report: Path, names: list[str], folder: Path) -> None:
    """Write small pictures in place of those of the folder, numbered in the order of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    for number, name in enumerate(names):
        (folder / f"{number:02d}-{Path(name).name}").write_bytes(small(report / name))


def small(path: Path) -> bytes:
    """A picture with its width and number of colours bounded."""
    image = Image.open(path).convert("RGB")
    image.thumbnail((WIDTH, 10 * WIDTH), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
