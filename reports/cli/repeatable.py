"""Commands that can be asked for again, from what a manifest or a study says, as they are from the command line.

request = request_of("report guidance", {"denoiser": "digits", "quick": True}, folder, source="study.toml")
run(request, Path("out"))         # the command itself, from that folder; its options are read as typed ones are
"""

import contextlib
import difflib
import functools
import inspect
import io
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import typer
import typer.main

from scorescope.data.errors import InputError

if TYPE_CHECKING:
    from scorescope.reports.page.requests import Request

P = ParamSpec("P")
COMMANDS: dict[str, Callable[..., None]] = {}
"""By name, as "report guidance"; filled by `commands`."""
_NEEDS: dict[str, Mapping[str, str]] = {}
_SILENCES: dict[str, Mapping[str, Sequence[str]]] = {}


def repeatable(
    name: str, *, needs: Mapping[str, str] | None = None, silences: Mapping[str, Sequence[str]] | None = None
) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Let the manifest of what a command writes say what the command was asked for.

    `needs` are options that say something beside another one alone, `silences` those beside which others say nothing:
    what would say nothing is refused.
    """

    def decorate(command: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(command)
        def noted(*args: P.args, **kwargs: P.kwargs) -> None:
            from scorescope.reports.page.requests import asked

            given = inspect.signature(command).bind(*args, **kwargs)
            given.apply_defaults()
            request = _request(name, given.arguments, Path.cwd())
            _check_heard(request)
            with asked(request):
                command(*args, **kwargs)

        COMMANDS[name], _NEEDS[name], _SILENCES[name] = noted, needs or {}, silences or {}
        return noted

    return decorate


def options_of(command: str) -> list[str]:
    """Names of a command's options and arguments, with `_` for `-`."""
    return [_key(parameter) for parameter in _parser(command).params if _key(parameter) not in ("out", "help")]


def request_of(command: str, options: Mapping[str, Any], folder: Path, *, source: str) -> "Request":
    """The request that options by name come to.

    Parameters
    ----------
    command : str
        One of `COMMANDS`.
    options : mapping
        Values as TOML and JSON have them. What is not repeatable takes a list as text with commas, as "1,4,8"; what
        is key=value takes a mapping.
    folder : Path
        Where relative names are from.
    source : str
        What an error names.

    Raises
    ------
    InputError
        For a command or an option that there is not, and a value that the command line would refuse.
    """
    check_known(source, command, list(COMMANDS), "a command that writes a report")
    options = {name.replace("-", "_"): value for name, value in options.items()}
    for name in options:
        check_known(source, name, options_of(command), f"an option of {command}")
    try:
        request = _request(command, _parser(command).make_context(command, _words(command, options)).params, folder)
        _check_heard(request)
    except InputError as error:
        raise InputError(f"{source}, {error.argument}", found=error.found, expected=error.expected) from None
    except Exception as error:  # whatever the parser of the command line raises
        found = getattr(error, "format_message", error.__str__)().rstrip(".")
        raise InputError(source, found=f"options that {command} refuses ({found})", expected="others") from None
    return request


def run(request: "Request", out: Path) -> None:
    """Run a command as the command line does, from the folder of the request; relative names are from there.

    It says nothing on standard output. A report of which a part is missing says so in its manifest.

    Raises
    ------
    InputError
        For a folder that is not there, and what the command refuses.
    """
    out, parser = out.absolute(), _parser(request.command)
    if not request.folder.is_dir():
        raise InputError("folder", found=f"no folder {request.folder}", expected="the one that names are relative to")
    words = [f"--out={out}", *_words(request.command, request.plain)]
    quiet = contextlib.redirect_stdout(io.StringIO())
    parts_missing = contextlib.suppress(typer.Exit)
    with contextlib.chdir(request.folder), quiet, parts_missing, parser.make_context("", words) as context:
        parser.invoke(context)


def check_known(source: str, name: object, known: list[str], kind: str) -> None:
    """Raise `InputError` for a name that is not among those known, with the nearest of them."""
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        expected = f"{kind}: {', '.join(known)}" + (f" (did you mean {near[0]}?)" if near else "")
        raise InputError(source, found=repr(name), expected=expected)


def _check_heard(request: "Request") -> None:
    """Raise `InputError` for an option that says nothing without another, or beside another."""
    parameters = _parser(request.command).params
    defaults, words = ({_key(one): get(one) for one in parameters} for get in (lambda one: one.default, _word))
    given = {name for name, value in request.options.items() if value not in (None, [], defaults[name])}
    for name, needed in _NEEDS[request.command].items():
        if name in given and needed not in given:
            expected = f"{words[needed]} beside it: without that it says nothing"
            raise InputError(words[name], found=f"no {words[needed]}", expected=expected)
    for name, silent in _SILENCES[request.command].items():
        if name in given and (unheard := [other for other in silent if other in given]):
            found, expected = f"{words[name]} beside it", "one of them: beside that it says nothing"
            raise InputError(words[unheard[0]], found=found, expected=expected)


def _word(parameter: Any) -> str:
    """How a parameter is written in a message: --dtype, FAKE."""
    name = _key(parameter)
    return name.upper() if parameter.param_type_name == "argument" else f"--{name.replace('_', '-')}"


def _request(command: str, given: Mapping[str, Any], folder: Path) -> "Request":
    """A request of parameters as a command has them."""
    from scorescope.reports.page.requests import Request

    parser, kinds = _parser(command), _kinds(command)
    keys = {parameter.name: _key(parameter) for parameter in parser.params}
    left_out = ("out", "workers", "dask")  # where it goes, and by whom it is made: what is asked for is the same
    options = {keys[name]: _typed(value, kinds[name]) for name, value in given.items() if keys[name] not in left_out}
    return Request(command, {name: value for name, value in options.items() if value is not None}, folder)


@functools.cache
def _parser(command: str) -> Any:
    """The command as typer has it, alone."""
    alone = typer.Typer(add_completion=False)
    alone.command()(COMMANDS[command])
    return typer.main.get_command(alone)


@functools.cache
def _kinds(command: str) -> dict[str, set[type]]:
    """By parameter, the types in its annotation: `list[Path] | None` has three."""
    hints = typing.get_type_hints(inspect.unwrap(COMMANDS[command]))
    return {name: set(_leaves(hint)) for name, hint in hints.items()}


def _leaves(hint: Any) -> list[Any]:
    inside = [leaf for part in typing.get_args(hint) for leaf in _leaves(part)]
    return [typing.get_origin(hint) or hint, *inside]


def _typed(value: Any, kinds: set[type]) -> Any:
    """A value with its files as paths, whatever the version of typer leaves them as."""
    if isinstance(value, list | tuple):
        return [_typed(one, kinds) for one in value]
    return Path(value) if Path in kinds and isinstance(value, str) else value


def _key(parameter: Any) -> str:
    """The name that the command line has for a parameter: --set for `settings`."""
    long = next((option for option in parameter.opts if option.startswith("--")), parameter.name)
    return str(long).lstrip("-").replace("-", "_")


def _words(command: str, options: Mapping[str, Any]) -> list[str]:
    """The words of a command line."""
    words, places = list[str](), list[str]()
    for parameter in _parser(command).params:
        name, kinds = _key(parameter), _kinds(command).get(parameter.name, set())
        if name not in options:
            continue
        values = _texts(name, options[name], kinds)
        if parameter.param_type_name == "argument":
            places += values
        elif bool in kinds:
            words += parameter.opts[:1] if options[name] else parameter.secondary_opts[:1]
        else:
            words += [f"{parameter.opts[0]}={value}" for value in values]
    return [*words, "--", *places]


def _texts(name: str, value: Any, kinds: set[type]) -> list[str]:
    """A value as the command line has it; several of what is repeatable."""
    several = list in kinds
    if isinstance(value, dict) and several and str in kinds:
        value = [f"{key}={_text(name, one)}" for key, one in value.items()]
    if (bool in kinds) != isinstance(value, bool):
        raise InputError(name, found=repr(value), expected="true or false" if bool in kinds else "a value, no switch")
    texts = [_text(name, one) for one in (value if isinstance(value, list) else [value])]
    return texts if several or not isinstance(value, list) else [",".join(texts)]


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str | int | float | bool):
        raise InputError(name, found=f"a {type(value).__name__}", expected="text, a number, or a list of them")
    return str(value).lower() if isinstance(value, bool) else str(value)
