"""Files of a trace folder: a name that is a link, put there by somebody else, is never written through."""

import contextlib
import os
import stat
from pathlib import Path

_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # nor wait for the reader of a named pipe


def open_new(file: Path, mode: int = 0) -> int:
    """A descriptor of a file that was not there before; what has its name, a link for instance, goes."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK | mode
    try:
        return os.open(file, flags, 0o644)
    except FileExistsError:
        file.unlink()
        return os.open(file, flags, 0o644)


def open_own(file: Path) -> int:
    """A descriptor to append to a file; `OSError` for what is not a plain file of the folder."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NO_LINK, 0o644)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{file.name} is not a plain file")
    return descriptor


def write_whole(file: Path, data: bytes) -> None:
    """Write a file under a temporary name, sync it, and rename it."""
    partial = file.with_name(file.name + ".partial")
    descriptor = open_new(partial)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
        os.replace(partial, file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def is_own_file(file: Path) -> bool:
    """Whether a plain file is one, and not a link to another."""
    return file.is_file() and not file.is_symlink()


def is_own_folder(folder: Path) -> bool:
    """Whether a folder is one, and not a link to another."""
    return folder.is_dir() and not folder.is_symlink()


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def holds_only(folder: Path, empty: str, *files: str) -> bool:
    """Whether there is nothing in a folder, or only an empty folder of one name and plain files of others."""
    with os.scandir(folder) as entries:
        return all(
            (entry.name == empty and entry.is_dir(follow_symlinks=False) and not os.listdir(entry))
            or (entry.name in files and entry.is_file(follow_symlinks=False))
            for entry in entries
        )
