"""One shard: a safetensors file written from the memory of its tensors, without a copy of them.

The library's own `save_file` keeps the interpreter while it writes, and the file has to be read again to be hashed.
Here header and tensors go to the file, and through the hash, from where they lie; both release the interpreter, so
that several threads can write shards while a sampler runs. The bytes are those of the library, but for the spaces
that end the header.
"""

import errno
import hashlib
import json
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scorescope.data.errors import InputError
from scorescope.probes.recording.files import open_new

_BLOCK = 4096  # the header ends at a multiple of this, which is where blocks of disks and pages of memory begin
_DIRECT = getattr(os, "O_DIRECT", 0)  # not every system has it
_SMALLEST_DIRECT = 2**20

_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.complex64: "C64",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def write(file: Path, arrays: Mapping[str, Tensor]) -> tuple[str, int]:
    """Write a shard under a temporary name, sync it, and rename it.

    Parameters
    ----------
    file : Path
        Its final name.
    arrays : mapping
        Tensors on the host, of any strides.

    Returns
    -------
    (str, int)
        SHA-256 of the file, and its size.

    Raises
    ------
    OSError
        Where the disk is full or cannot be written; the temporary file goes.
    """
    parts = list(_parts(arrays))
    partial = file.with_name(file.name + ".partial")
    try:
        if not (_can_be_direct(parts) and _put(partial, parts, _DIRECT)):
            _put(partial, parts, 0)
        os.replace(partial, file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return _hash(parts), sum(part.nbytes for part in parts)


def _can_be_direct(parts: Sequence[memoryview]) -> bool:
    """Whether the disk could take the bytes from where they lie, without a copy of them in the system's cache."""
    pages = all(np.frombuffer(part, np.uint8).ctypes.data % _BLOCK == part.nbytes % _BLOCK == 0 for part in parts)
    return bool(_DIRECT) and pages and sum(part.nbytes for part in parts) >= _SMALLEST_DIRECT


def _put(file: Path, parts: Sequence[memoryview], mode: int) -> bool:
    """Write and sync; False where the file system does not know this mode."""
    try:
        descriptor = open_new(file, mode)
        try:
            for part in parts:
                while part:
                    part = part[os.write(descriptor, part) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if mode and error.errno == errno.EINVAL:
            return False
        raise
    return True


def _hash(parts: Sequence[memoryview]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _parts(arrays: Mapping[str, Tensor]) -> Iterator[memoryview]:
    """The file's bytes in order: header, then each tensor where it lies."""
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].element_size(), item[0]))  # so that all are aligned
    entries, start = {}, 0
    for name, tensor in ordered:
        stop = start + tensor.nbytes
        entries[name] = {"dtype": _name(tensor.dtype), "shape": list(tensor.shape), "data_offsets": [start, stop]}
        start = stop
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-(len(header) + 8) % _BLOCK)
    page = mmap.mmap(-1, len(header) + 8)
    page.write(len(header).to_bytes(8, "little") + header)
    yield memoryview(page)
    for _, tensor in ordered:
        if tensor.numel():
            yield tensor.contiguous().flatten().view(torch.uint8).numpy().data


def _name(dtype: torch.dtype) -> str:
    if dtype not in _NAMES:
        raise InputError("keep", found=f"an array of {dtype}", expected=f"one of {', '.join(map(str, _NAMES))}")
    return _NAMES[dtype]
