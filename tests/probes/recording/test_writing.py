"""On the way to the disk: copies, the ring, and the bytes of a shard."""

import errno
import hashlib
import json
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from scorescope.probes.decomposition.gram import gram
from scorescope.probes.pipelines.branches import Hypothesis, Layout
from scorescope.probes.pipelines.tensor_copies import Copies, same_bits
from scorescope.probes.recording import TraceError, shards
from scorescope.probes.recording.offload import Ring, _Job

TYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.complex64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
]  # fmt: skip


def arrays_of_all_types() -> dict[str, Tensor]:
    bits = torch.randint(0, 2, (3, 5, 7), generator=torch.Generator().manual_seed(0))
    return {str(kind): bits.to(kind) for kind in TYPES} | {"empty": torch.zeros(0, 3), "number": torch.tensor(2.0)}


def test_a_shard_is_what_the_library_would_write(tmp_path: Path) -> None:
    arrays = arrays_of_all_types()
    file = tmp_path / "a.safetensors"
    digest, size = shards.write(file, arrays)
    data, theirs = file.read_bytes(), save(arrays)
    assert (digest, size) == (hashlib.sha256(data).hexdigest(), len(data))
    headers = [json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")]) for whole in (data, theirs)]
    assert {name: entry["dtype"] for name, entry in headers[0].items()} == {
        name: entry["dtype"] for name, entry in headers[1].items()
    }
    loaded = load_file(file)
    assert loaded.keys() == arrays.keys()
    for name, tensor in arrays.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name].reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


def test_strides_make_no_difference(tmp_path: Path) -> None:
    x = torch.randn(4, 6, 8)
    shards.write(tmp_path / "a", {"t": x.mT, "half": x[:, ::2], "last": x.to(torch.bfloat16)[1:]})
    loaded = load_file(tmp_path / "a")
    assert torch.equal(loaded["t"], x.mT)
    assert torch.equal(loaded["half"], x[:, ::2])
    assert torch.equal(loaded["last"], x.to(torch.bfloat16)[1:])


def test_an_array_of_an_unknown_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="complex128"):
        shards.write(tmp_path / "a", {"x": torch.zeros(2, dtype=torch.complex128)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("refused", ["open", "write", None])
def test_written_directly_or_not_the_bytes_are_the_same(
    refused: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system may refuse direct writing when a file is opened or when it is written to."""
    arrays = {name: Copies().of(torch.randn(1024, 512)) for name in ("x", "guided")}
    modes: list[int] = []
    inner = getattr(os, refused or "open")

    def call(target: Any, *args: Any) -> Any:
        modes.append(args[0] if refused == "open" else 0)
        direct = args[0] & shards._DIRECT if refused == "open" else len(modes) == 1
        if refused is not None and direct:
            raise OSError(errno.EINVAL, "Invalid argument")
        return inner(target, *args)

    monkeypatch.setattr(os, refused or "open", call)
    digest, _ = shards.write(tmp_path / "a", arrays)
    monkeypatch.undo()
    monkeypatch.setattr(shards, "_SMALLEST_DIRECT", 2**40)
    assert shards.write(tmp_path / "b", arrays)[0] == digest
    assert hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest() == digest
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert torch.equal(load_file(tmp_path / "a")["x"], arrays["x"])


def test_large_copies_can_be_written_directly() -> None:
    parts = list(shards._parts({"x": Copies().of(torch.randn(1024, 512)), "y": Copies().of(torch.ones(512, 64))}))
    assert shards._can_be_direct(parts) == bool(shards._DIRECT)
    assert not shards._can_be_direct(list(shards._parts({"x": torch.randn(1024, 1023)})))


def test_copies_are_private_and_their_memory_is_used_again() -> None:
    copies, x = Copies(), torch.randn(4, 256, 256)
    first, second = copies.of(x), copies.of(x)
    view = first[1:]
    address = first.data_ptr()
    assert torch.equal(first, x)
    assert len({first.data_ptr(), second.data_ptr(), x.data_ptr()}) == 3
    del first
    assert copies.of(x + 1).data_ptr() != address  # the view is still there
    assert torch.equal(view, x[1:])
    del view
    assert copies.of(2 * x).data_ptr() == address


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.complex64])
def test_a_copy_has_the_values_whatever_the_layout(kind: torch.dtype) -> None:
    x = torch.randint(0, 2, (8, 128, 128)).to(kind)
    for given in (x, x.mT, x[:, ::2], x.clone().requires_grad_() if kind == torch.float32 else x, x.conj(), x[:0]):
        copy = Copies().of(given)
        assert torch.equal(copy, given)
        assert not copy.requires_grad


def test_the_same_bits() -> None:
    x = torch.tensor([[1.0, float("nan")], [0.0, 1.0], [3.0, 4.0]])
    other = torch.tensor([[1.0, float("nan")], [-0.0, 1.0], [3.0, 4.0]])
    assert same_bits(x, other) == [True, False, True]
    assert same_bits(x.bfloat16()[:, :1], other.bfloat16()[:, :1]) == [True, False, True]


def test_batches_are_committed_in_order_however_long_they_take() -> None:
    ring, order, delays = Ring(slots=6, threads=3), [], np.random.default_rng(0).uniform(0, 0.01, 40)
    ended: list[int] = []

    def consume(number: int, host: dict[str, Tensor]) -> Any:
        time.sleep(delays[number])
        ended.append(number)
        return lambda: order.append((number, host["x"].item() if host else None))

    for number in range(40):
        ring.put({"x": torch.tensor(number)}, lambda host, n=number: consume(n, dict(host)))
    ring.close()
    assert order == [(n, n) for n in range(40)]
    assert ended != sorted(ended)  # they were not consumed in order


@pytest.mark.parametrize("stage", ["consume", "commit"])
def test_what_came_before_a_failed_batch_is_finished_and_nothing_after(stage: str) -> None:
    ring, done = Ring(slots=8, threads=3), []

    def fail() -> None:
        raise TraceError("disk", found="no room", expected="room")

    def consume(number: int) -> Any:
        time.sleep(0.02 if number < 2 else 0)  # the one that fails is the first to be through
        if number == 2 and stage == "consume":
            fail()
        return fail if number == 2 else lambda: done.append(number)

    with pytest.raises(TraceError, match="no room"):
        for number in range(100):
            ring.put({"x": torch.zeros(1)}, lambda host, n=number: consume(n))
            time.sleep(0.002)
    ring.close(raise_errors=False)
    assert done == [0, 1]
    with pytest.raises(TraceError, match="no room"):
        ring.close()


def test_a_batch_that_is_still_being_copied_is_not_lost_to_a_later_one_that_fails() -> None:
    """The first waits for the device, in its thread, when the second fails."""
    ring, failed, done = Ring(slots=4, threads=3), threading.Event(), []

    def synchronize() -> None:
        failed.wait(10)
        time.sleep(0.05)

    def fail(host: dict[str, Tensor]) -> None:
        failed.set()
        raise TraceError("disk", found="no room", expected="room")

    copied = SimpleNamespace(synchronize=synchronize)
    ring._full.put(_Job(ring._free.get(), {}, [copied], lambda host: lambda: done.append(0)))
    ring.put({"x": torch.zeros(1)}, fail)
    failed.wait(10)
    ring._full.put(_Job(ring._free.get(), {}, [], lambda host: lambda: done.append(2)))
    with pytest.raises(TraceError, match="no room"):
        ring.close()
    assert done == [0]


def test_memory_does_not_grow_with_the_number_of_batches() -> None:
    """No more batches are held than there are slots, however slow the writer is."""
    ring, held, most = Ring(slots=4, threads=2), threading.Semaphore(0), []

    def consume(host: dict[str, Tensor]) -> None:
        held.release()
        time.sleep(0.002)

    for number in range(40):
        ring.put({"x": torch.zeros(1000)}, consume)
        most.append(number + 1 - held._value)
    ring.close()
    assert max(most) <= 4
    assert held._value == 40


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [1, 5000, 20_000])
def test_inner_products_are_those_of_the_differences(kind: torch.dtype, size: int) -> None:
    vectors = [torch.randn(2, size, generator=torch.Generator().manual_seed(n)).to(kind) for n in range(4)]
    a, b, g, x = (vector.double() for vector in vectors)
    basis = torch.stack([a, b - a, g - a, x, torch.ones_like(a)], 1)
    torch.testing.assert_close(gram(vectors), basis @ basis.mT, rtol=1e-12, atol=1e-9)
    layout = Layout("same", "calls", ("net", "net"), (1, 1))
    whole = Hypothesis(layout, ["", ""], vectors[:2], vectors[2], vectors[3]).gram()
    torch.testing.assert_close(whole, basis @ basis.mT, rtol=1e-12, atol=1e-9)
