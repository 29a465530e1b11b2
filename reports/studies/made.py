"""Reports that were made, as their folders say: read back, with every file held against its hash in the manifest.

made = read_made("report/guidance")
made.table("steps")
made.request                         # what it was asked for, as `scorescope.reports.page.requests` records it
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from scorescope.data.checkpoints import sha256
from scorescope.data.display import displayed
from scorescope.data.doors import checked
from scorescope.data.errors import InputError
from scorescope.data.untrusted import read_parquet
from scorescope.data.written_files import read_json
from scorescope.reports.page.requests import Request, same_question
from scorescope.reports.page.texts import check_name

MANIFEST = "manifest.json"
_TABLE = re.compile(r"tables/(.*)\.parquet")


@displayed
@checked
@dataclass(frozen=True)
class MadeReport:
    """A report's folder and its manifest.

    Attributes
    ----------
    folder : Path
        Where it lies.
    facts : dict
        The manifest.
    """

    folder: Path
    facts: dict[str, Any]

    @property
    def status(self) -> str:
        """As `Outcome` has it."""
        return str(self.facts.get("status"))

    @property
    def failures(self) -> dict[str, str]:
        """Part to why it is missing."""
        found = self.facts.get("failures")
        return found if isinstance(found, dict) else {}

    @property
    def files(self) -> dict[str, str]:
        """Hash by file."""
        found: dict[str, str] = self.facts["files"]
        return found

    @property
    def request(self) -> dict[str, Any]:
        """What it was asked for; empty in manifests of earlier versions."""
        found = self.facts.get("request")
        return found if isinstance(found, dict) else {}

    @property
    def inputs(self) -> dict[str, str]:
        """Hash by name of what it was asked for of."""
        found = self.request.get("inputs")
        return found if isinstance(found, dict) else {}

    @property
    def tables(self) -> dict[str, str]:
        """Hash by name of table."""
        found = ((_TABLE.fullmatch(file), digest) for file, digest in self.files.items())
        return {match[1]: digest for match, digest in found if match}

    def table(self, name: str) -> pd.DataFrame:
        """One of its tables.

        Raises
        ------
        InputError
            For a table that it has not, and one that is not there as it was written.
        """
        if name not in self.tables:
            raise InputError("table", found=repr(name), expected=f"one of {', '.join(self.tables) or 'none'}")
        check_name("table", name)
        path = self.folder / "tables" / f"{name}.parquet"
        table = read_parquet(path, expected="a table of a report")
        if sha256(path) != self.tables[name]:
            raise InputError(str(path), found="another hash than in the manifest", expected="the table as written")
        return table

    def answers(self, request: Request) -> bool:
        """Whether it is complete, every file is as it was written, and it was asked for the same of the same files."""
        same = self.status == "complete" and same_question(self.request, request.recorded())
        return same and all(map(self._is_whole, self.files))

    def _is_whole(self, file: str) -> bool:
        path = self.folder / file
        return path.is_file() and sha256(path) == self.files[file]


@checked
def read_made(path: Path | str) -> MadeReport:
    """The report in a folder, or of a manifest.

    Raises
    ------
    InputError
        For what is no manifest of a report, or a damaged one.
    """
    path = Path(path)
    path = path / MANIFEST if path.is_dir() else path
    facts = read_json(path)
    files = facts.get("files")
    texts = isinstance(files, dict) and all(isinstance(digest, str) for digest in files.values())
    if "report" not in facts or not texts:
        raise InputError(str(path), found="no files of a report in it", expected=f"the {MANIFEST} of a report")
    return MadeReport(path.parent, facts)
