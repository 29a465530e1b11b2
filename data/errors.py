"""The error that every room raises for input it cannot work with.

One sentence, three parts: which argument, what was found, what is expected.

    raise InputError("sigma", found="-1.0", expected="a positive noise level")
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class InputError(ValueError):
    """An argument, file or model that cannot be used as it is.

    Parameters
    ----------
    argument : str
        Name of the argument or file that is at fault.
    found : str
        What it was.
    expected : str
        What would have been accepted, or what to do instead.
    """

    def __init__(self, argument: str, *, found: str, expected: str) -> None:
        super().__init__(f"{argument}: found {found}; expected {expected}")
        self.argument = argument
        self.found = found
        self.expected = expected


@contextmanager
def renamed(names: Mapping[str, str]) -> Iterator[None]:
    """Errors inside name arguments as the caller knows them: {"where": "region"}."""
    try:
        yield
    except InputError as error:
        if error.argument not in names:
            raise
        raise InputError(names[error.argument], found=error.found, expected=error.expected) from error
