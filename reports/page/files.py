"""Folders and files of reports: a folder that can be written to, files that are there whole or not at all."""

from pathlib import Path

from scorescope.data.errors import InputError
from scorescope.data.written_files import replace_file


def make_folder(out: Path) -> None:
    """Make a folder, and raise `InputError` if it cannot be made or written to."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_file(out / ".writable", b"")
        (out / ".writable").unlink(missing_ok=True)  # by whoever else asks
    except OSError as error:
        raise InputError("out", found=f"{out} ({error.strerror})", expected="a folder that can be written to") from None


def write_file(path: Path, content: bytes) -> None:
    """Write a file, in a folder made if needed: it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda temporary: temporary.write_bytes(content))
