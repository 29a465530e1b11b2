"""Numbers of figures on disk: of the same entry, model, sizes and version they are read, not measured again."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from scorescope.data.checkpoints import sha256
from scorescope.data.errors import InputError
from scorescope.data.untrusted import only_input_errors, read_parquet, read_tensors
from scorescope.data.written_files import read_json, replace_file, write_json
from scorescope.probes.models.fingerprint import fingerprint
from scorescope.probes.models.model import Model
from scorescope.reports.entries import Entry, Material, Numbers

OURS = "as the atlas wrote it"
HOW_MUCH = ("count", "seed", "steps", "weights", "weight", "repeats", "band", "space")


class Kept:
    """Numbers of one entry on disk; the JSON file is written last and has the others' hashes."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key

    def read(self) -> Numbers | None:
        """Those that were made of the same, and are whole; else None."""
        path = self.folder / "numbers.json"
        if not path.is_file():
            return None
        try:
            with only_input_errors(path, expected=OURS):
                return self._whole(read_json(path))
        except InputError:
            return None

    def _whole(self, said: Mapping[str, Any]) -> Numbers | None:
        """What a file says is there, where it is of the same and no file is another one."""
        whole = _files(said["tables"], said["pictures"]) == list(said["files"])
        whole &= all(sha256(self.folder / file) == found for file, found in said["files"].items())
        if said["key"] != self.key or not whole:
            return None
        if not (isinstance(said["facts"], dict) and isinstance(said["why"], str)):
            raise TypeError("facts or words of another type")
        tables = {name: read_parquet(self.folder / f"{name}.parquet", expected=OURS) for name in said["tables"]}
        pictures: dict[str, Tensor] = {}
        if said["pictures"]:
            _, found = read_tensors(self.folder / "pictures.safetensors", expected=OURS)
            pictures = {name: found[name] for name in said["pictures"]}
        return Numbers(tables, pictures, said["facts"], said["why"])

    def write(self, numbers: Numbers) -> None:
        """All of it, so that a run that is cut off leaves none that is taken for whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "numbers.json").unlink(missing_ok=True)
        for name, table in numbers.tables.items():
            replace_file(self.folder / f"{name}.parquet", table.to_parquet)
        pictures = {name: images.detach().cpu().contiguous() for name, images in numbers.pictures.items()}
        if pictures:
            replace_file(self.folder / "pictures.safetensors", lambda to: save_file(pictures, to))
        files = _files(numbers.tables, pictures)
        said = {
            "key": self.key, "files": {name: sha256(self.folder / name) for name in files},
            "tables": list(numbers.tables), "pictures": list(pictures), "facts": dict(numbers.facts),
            "why": numbers.why,
        }  # fmt: skip
        write_json(self.folder / "numbers.json", said)


def _files(tables: Iterable[str], pictures: Collection[str]) -> list[str]:
    return [f"{name}.parquet" for name in tables] + ["pictures.safetensors"] * bool(pictures)


def _told(model: Model | None, count: int) -> list[Any]:
    if model is None:
        return []
    return [model.denoiser, model.name, model.shape, model.value_range, model.conditions(count)]


def key_of(entry: Entry, material: Material) -> str:
    """What tells numbers from others: of another entry, version, model, or sizes."""
    models = [material.model, material.weak, *material.checkpoints.values()]
    brought = [
        [_told(model, material.count) for model in models], list(material.checkpoints), material.data,
        material.features, [[trace.scalars, trace.manifest] for trace in material.traces],
        material.images if "images" in entry.needs else None,
        material.once("subject", material.subject) if "subject" in entry.needs and material.subject else None,
    ]  # fmt: skip
    said = [entry.name, metadata.version("scorescope"), *(str(getattr(material, name)) for name in HOW_MUCH)]
    return hashlib.sha256(json.dumps([said, fingerprint(brought, argument="material")]).encode()).hexdigest()
