"""Images of a tar, in its own order, also compressed: read in one pass, and damage between members is not its end.

    for name, decode in tar_items(path, passed_over): ...

`tarfile` takes a damaged header for the end of the archive. What is left then is given as one more image that cannot
be read, so that it is an error, or counted where bad images are left out.
"""

import bz2
import gzip
import lzma
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from scorescope.data.image_files import Pixels, check_any, decode_image, why_passed_over
from scorescope.data.untrusted import WHOLE, only_input_errors, reason

Decode = Callable[[], tuple[Pixels, tuple[str, ...]]]
OPENERS: dict[bytes, Callable[[Any], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
BLOCK = 512
PADDING = 64 * 2**20  # zeros after the end mark that are looked at


class _Bounded:
    """A stream of which no more than `WHOLE` bytes are read at once, whatever a header says."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.tell, self.seek = stream.tell, stream.seek

    def read(self, size: int) -> bytes:
        if not 0 <= size <= WHOLE:
            raise ValueError(f"{size} bytes at once; at most {WHOLE}")
        content: bytes = self._stream.read(size)
        return content


def is_tar(path: Path) -> bool:
    """Whether a file begins as a tar does, by itself or compressed."""
    try:
        with _open(path):
            return True
    except Exception:  # of the decompressors as well
        return False


def tar_items(path: Path, passed_over: Counter[str]) -> Iterator[tuple[str, Decode]]:
    """Name and decoder of every image, hard and soft links among them.

    Parameters
    ----------
    path : Path
        The archive.
    passed_over : Counter
        Counts the other files, by reason.

    Raises
    ------
    InputError
        If it holds no image.
    """
    count, last = 0, "the start"
    with only_input_errors(path, expected="a tar of images"), _open(path) as archive:
        members = iter(archive)
        while True:
            try:
                member = next(members, None)
                if member is None:
                    _check_end(archive)
                    break
            except Exception as error:
                yield f"what follows {last}", _raising(reason(error))
                return
            last = member.name
            why = "" if member.isdir() else why_passed_over(member.name)
            if member.isfile() or member.islnk() or member.issym():
                passed_over.update([why] if why else [])
                if not why:
                    count += 1
                    yield member.name, lambda member=member: decode_image(_content(archive, member))  # type: ignore[misc]
            elif not member.isdir():
                passed_over["no plain file"] += 1
    check_any(path, count)


@contextmanager
def _open(path: Path) -> Iterator[tarfile.TarFile]:
    with path.open("rb") as file:
        start = file.peek(6)
        opened = next((opener(file) for magic, opener in OPENERS.items() if start.startswith(magic)), nullcontext(file))
        with opened as stream, tarfile.TarFile(fileobj=_Bounded(stream), mode="r") as archive:  # type: ignore[arg-type]
            yield archive


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    try:
        stream = archive.extractfile(member)
    except KeyError:
        stream = None
    if stream is None:
        raise ValueError(f"a link to {member.linkname[:200]}, which is no file of the archive")
    return stream.read()


def _check_end(archive: tarfile.TarFile) -> None:
    """Raise unless the members end where the archive says that it ends: at a block of zeros, and zeros to the end."""
    stream: Any = archive.fileobj
    stream.seek(archive.offset)
    block = stream.read(BLOCK)
    if len(block) < BLOCK:
        raise ValueError("an archive that is cut off: it has no end mark")
    if any(block):
        raise ValueError("a damaged header")
    for _ in range(PADDING // 2**20):
        rest = stream.read(2**20)
        if rest.strip(b"\0"):
            raise ValueError("more data after the archive's end mark")
        if not rest:
            return


def _raising(text: str) -> Decode:
    def decode() -> tuple[Pixels, tuple[str, ...]]:
        raise ValueError(text)

    return decode
