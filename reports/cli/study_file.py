"""What a study is: checkpoints, the reports made of each, and settings that each report is made for.

    out = "study"

    [subjects]
    before = "runs/step-02000.safetensors"          # what --denoiser takes
    after = { pipeline = "my-finetune/", prompts = "prompts.csv", steps = 30 }
    own = { denoiser = "my_model:make" }

    [reports]
    guidance = { quick = true }
    gaussian = { quick = true }

    [settings]                                      # if there are any
    weak = { scale = 2.0 }
    strong = { scale = 7.5 }

Keys are options of the reports' commands. Each report takes, of a subject and a setting, the options that it has; what
a setting says goes before what a report says, and that before what a subject says. Relative names are from the folder
of the file.
"""

import itertools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scorescope.data.display import displayed
from scorescope.data.doors import checked, require_some
from scorescope.data.errors import InputError
from scorescope.data.untrusted import only_input_errors, read_text
from scorescope.reports.cli.repeatable import COMMANDS, check_known, options_of, request_of
from scorescope.reports.page.requests import Request
from scorescope.reports.page.texts import check_name

OURS = ("index.html", "manifest.json", "tables", "figures")  # of the index page
Options = Mapping[str, Any]


@displayed
@checked
@dataclass(frozen=True)
class Study:
    """Subjects, reports and settings, by name, each with options of the commands.

    Attributes
    ----------
    out : Path
        Folder of the study.
    subjects : mapping of str to mapping or str
        Checkpoints; a text is what --denoiser takes, and --subject of the directions.
    reports : mapping of str to mapping
        guidance, gaussian, fid, directions.
    settings : mapping of str to mapping
        Each report is made for each setting of which it has an option; one that has none is made once.
    folder : Path
        Where relative names are from.
    source : str
        What errors name.
    """

    out: Path
    subjects: Mapping[str, Options | str]
    reports: Mapping[str, Options]
    settings: Mapping[str, Options] = field(default_factory=dict)
    folder: Path = field(default_factory=Path.cwd)
    source: str = "study"

    def __post_init__(self) -> None:
        require_some(f"{self.source}, subjects", self.subjects)
        require_some(f"{self.source}, reports", self.reports)
        for report in self.reports:
            check_known(f"{self.source}, reports", report, report_names(), "a report")
        for kind, named in (("subjects", self.subjects), ("settings", self.settings)):
            self._check_names(kind, list(named))

    def _check_names(self, kind: str, names: Sequence[str]) -> None:
        for name in names:
            check_name(f"{self.source}, {kind}", name)
        taken = [*OURS, *(name.casefold() for name in names)]
        if twice := next((name for name in taken if taken.count(name) > 1), ""):
            found = f"{twice!r}, the name of two folders"
            raise InputError(
                f"{self.source}, {kind}", found=found, expected=f"each once, and none of {', '.join(OURS)}"
            )

    @property
    def made(self) -> "list[Part]":
        """The reports to make.

        Raises
        ------
        InputError
            For an option that no report has, a value that a command refuses, a report without a subject, and a file
            that is not there.
        """
        for kind, named in (("subjects", self.subjects), ("settings", self.settings)):
            for name, options in named.items():
                self._check_options(f"{self.source}, {kind}.{name}", _options(options))
        pairs = itertools.product(self.subjects, self.reports)
        return [self._part(*pair, setting) for pair in pairs for setting in self._settings_of(pair[1])]

    def _settings_of(self, report: str) -> list[str]:
        """Settings that say something to a report; one without a name where none does."""
        known = options_of(f"report {report}")
        some = any(_key(key) in known for options in self.settings.values() for key in options)
        return list(self.settings) if some else [""]

    def _check_options(self, source: str, options: Options) -> None:
        every = dict.fromkeys(name for report in self.reports for name in options_of(f"report {report}"))
        if "subject" in every:
            every["denoiser"] = None  # which directions take as their subject
        for key in options:
            check_known(source, _key(key), [*every], f"an option of {', '.join(self.reports)}")

    def _part(self, subject: str, report: str, setting: str) -> "Part":
        command, source = f"report {report}", f"{self.source}, {subject} / {report}" + f" / {setting}" * bool(setting)
        known, chosen = options_of(command), _options(self.subjects[subject])
        if "denoiser" not in known and "subject" in known and "denoiser" in chosen:
            chosen = {"subject": chosen["denoiser"], **chosen}
        of_subject, of_setting = (
            {_key(key): value for key, value in options.items() if _key(key) in known}
            for options in (chosen, self.settings.get(setting, {}))
        )
        if not of_subject:
            expected = f"an option of {command}: {', '.join(known)}"
            raise InputError(source, found=f"none of {', '.join(chosen)} among its options", expected=expected)
        of_report = {_key(key): value for key, value in self.reports[report].items()}
        request = request_of(command, {**of_subject, **of_report, **of_setting}, self.folder, source=source)
        _check_files(request, source)
        return Part(subject, report, setting, request)


@dataclass(frozen=True)
class Part:
    """One report of a study.

    Attributes
    ----------
    subject, report, setting : str
        Their names; the setting may be empty.
    request : Request
        What is asked for.
    """

    subject: str
    report: str
    setting: str
    request: Request

    @property
    def name(self) -> str:
        """Its folder, from that of the study."""
        return "/".join(part for part in (self.subject, self.report, self.setting) if part)


@checked
def read_study(path: Path | str) -> Study:
    """The study that a TOML file describes.

    Raises
    ------
    InputError
        Naming the file and the key, for what is no study.
    """
    path = Path(path)
    text = read_text(path, expected="a study: a TOML file with subjects and reports", limit=2**20)
    with only_input_errors(path, expected="a TOML file", found="no TOML"):
        content = tomllib.loads(text)
    for key in content:
        check_known(str(path), key, ["out", "subjects", "reports", "settings"], "one of its keys")
    folder, source = path.absolute().parent, str(path)
    out = content.get("out", path.stem)
    if not isinstance(out, str):
        raise InputError(f"{source}, out", found=repr(out), expected="the name of a folder")
    subjects = _tables(content, "subjects", source, or_text=True)
    reports, settings = (_tables(content, key, source) for key in ("reports", "settings"))
    return Study(folder / out, subjects, reports, settings, folder, source)


def report_names() -> list[str]:
    """Reports that a study can hold."""
    return [command.removeprefix("report ") for command in COMMANDS if command.startswith("report ")]


def _tables(content: Options, key: str, source: str, *, or_text: bool = False) -> dict[str, Any]:
    """Tables of options by name; of a list of names, empty ones."""
    found = content.get(key, {})
    if isinstance(found, list) and not or_text and all(isinstance(name, str) for name in found):
        found = {name: {} for name in found}
    if not isinstance(found, dict):
        raise InputError(f"{source}, {key}", found=repr(found), expected=f"a table, [{key}]")
    for name, options in found.items():
        if not isinstance(options, dict) and not (or_text and isinstance(options, str)):
            expected = "a table of options" + ", or what --denoiser takes" * or_text
            raise InputError(f"{source}, {key}.{name}", found=repr(options), expected=expected)
    return found


def _options(subject: Options | str) -> Options:
    return {"denoiser": subject} if isinstance(subject, str) else subject


def _key(name: str) -> str:
    return name.replace("-", "_")


def _check_files(request: Request, source: str) -> None:
    """Raise `InputError` for a file that is not there; of a pipeline, or a name of a model, the command says so."""
    for option, value in request.options.items():
        for one in value if isinstance(value, list) else [value]:
            is_file = isinstance(one, Path) or (option in ("denoiser", "subject") and str(one).endswith(".safetensors"))
            if is_file and not (request.folder / one).exists():
                raise InputError(
                    f"{source}, {option}", found=f"no {one} in {request.folder}", expected="a file or folder"
                )
