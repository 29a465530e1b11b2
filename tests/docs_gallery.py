"""The gallery of the documentation: small pictures of reports that were made, and the functions that draw them.

`make gallery` writes `docs/gallery/` from `report/`. A picture is that of the page, no wider than `WIDTH` pixels
and of few colours, so that all are a megabyte or two.
"""

import ast
import io
import json
import sys
from importlib import import_module
from inspect import getdoc
from pathlib import Path

from PIL import Image

from tests.docs_texts import escape
from tests.house import INSTRUMENTS, ROOT, File, House

GALLERY = ROOT / "docs/gallery"
REPORTS = (*INSTRUMENTS, "changes")
WIDTH, COLOURS = 900, 64

# pictures of reports that another function than that of their name draws
DRAWN_BY = {
    "guidance/value_density": "value_densities",
    "guidance/overshoot": "against_weight",
    "guidance/contrast": "against_weight",
    "guidance/frechet": "against_weight",
    "guidance/diversity": "against_weight",
    "guidance/samples": "sample_grid",
    "guidance/bands": "band_norms",
    "guidance/calls_quality": "cost_and_quality",
    "guidance/thresholds": "threshold_curve",
    "fid/planted_maps": "outlined_maps",
    "fid/planted_shares": "region_shares",
    "fid/planted_audit": "audit",
    "fid/sfid": "distances",
    "fid/classes": "class_gaps",
    "fid/occlusion": "occlusions",
    "fid/choice": "extremes",
    "gaussian/laws": "law_fractions",
    "directions/samples": "picture_rows",
    "directions/probe_map": "probe_maps",
    "directions/probe_selectivity": "probe_maps",
    "directions/steer_map": "read_and_steer",
    "directions/strength_strip": "picture_rows",
    "directions/windows": "windows_figure",
    "directions/emergence": "emergence_curves",
    "directions/landmarks": "landmark_ranges",
    "directions/switch_strip": "picture_rows",
    "directions/readers": "readers_and_movers",
    "directions/step_cosines": "cosine_matrix",
    "directions/token_attribution": "token_matrix",
    "directions/linearity": "gap_curves",
    "directions/recovery": "recovery_map",
    "directions/attribute_loss": "attribute_losses",
    "directions/information": "information_curves",
    "directions/win_rates": "win_rate_curves",
    "changes/losses": "loss_differences",
}


def main(report: Path) -> None:
    """Take the pictures of each instrument's report below `report`; one that was not made keeps its old ones."""
    for instrument in REPORTS:
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


def gallery_part(house: House, instrument: str) -> str:
    """The pictures of one instrument's report with the functions that draw them, and functions without a picture."""
    figures = import_module(f"scorescope.reports.{instrument}.figures")
    lines: list[str] = []
    shown = set()
    for picture in sorted((GALLERY / instrument).glob("*.png")):
        name = picture.stem.partition("-")[2]
        function = DRAWN_BY.get(f"{instrument}/{name}", name)
        drawn = _first_line(getattr(figures, function, None))
        shown.add(function)
        said = [f"{escape(drawn)} {_function(house, instrument, function)}", ""] if drawn else []
        lines += [f"### `{name}`", "", *said, *picture_lines(picture, drawn or name), ""]
    others = [name for name in members(house.files[f"reports.{instrument}.figures"]) if name not in shown]
    more = [f"- {_function(house, instrument, name)} {escape(_first_line(getattr(figures, name)))}" for name in others]
    return "\n".join([*lines, *(["Without a picture here:", "", *more, ""] if more else [])])


def picture_lines(picture: Path, text: str) -> list[str]:
    """A picture at six tenths of its pixels, so that those of a column's width stay small."""
    with Image.open(picture) as image:
        width = round(0.6 * image.width)
    path = picture.relative_to(GALLERY.parent)
    return [f"```{{image}} {path}", f":alt: {text}", f":width: {width}px", "```"]


def _function(house: House, instrument: str, name: str) -> str:
    known = name in members(house.files[f"reports.{instrument}.figures"])
    full = f"scorescope.reports.{instrument}.figures.{name}"
    return f"{{py:func}}`figures.{name} <{full}>`" if known else f"`{name}`"


def _first_line(function: object) -> str:
    return (getdoc(function) or "").split("\n\n")[0].replace("\n", " ") if function else ""


def members(file: File) -> list[str]:
    """The public functions and classes that a file defines."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [name for name, node in file.defined.items() if isinstance(node, kinds) and not name.startswith("_")]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
