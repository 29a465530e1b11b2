"""Damage to files, seeded: bits, lengths, cuts and splices of bytes; values of JSON, behind sums made right again."""

import copy
import hashlib
import io
import json
import math
import struct
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from scorescope.data.written_files import UNSEALED
from scorescope.probes.recording.store import check_of, text_of

SIGN = UNSEALED.rstrip("0").encode()

BLOWN_UP = (2**7 - 1, 2**8 - 1, 2**15 - 1, 2**31 - 1, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1)
TEXTS = (b"-1", b"0", b"1e400", b"NaN", b"null", b"99999999999999999999", b"[]", b"{}", b'"', b"[" * 3000, b"\xff\xfe")
TYPES = {"F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "BOOL": 1, "F16": 2, "BF16": 2, "U16": 2, "I32": 4, "F64": 8, "I64": 8}
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 3, 2**31, 2**63, 10**40, 1e300, float("inf"), float("nan"), "", "x", "9" * 50, [], {}, [[]],
    [1e9], {"a": {}}, "../../etc/passwd",
)  # fmt: skip


def damaged(data: bytes, rng: Random) -> bytes:
    """Bytes with one to three kinds of damage."""
    for _ in range(rng.randint(1, 3)):
        data = rng.choice((_flip, _flip, _cut, _splice, _drop, _blow_up, _blow_up, _retype))(data, rng)
    return data


def damage_json(value: Any, rng: Random) -> Any:
    """A JSON value of which one part is another, missing or doubled."""
    value = copy.deepcopy(value)
    here, depth = value, rng.randint(1, 6)
    for _ in range(depth):
        if not isinstance(here, dict | list) or not here:
            break
        key = rng.choice(list(here) if isinstance(here, dict) else range(len(here)))
        if isinstance(here[key], dict | list) and here[key] and rng.random() < 0.8:
            here = here[key]
            continue
        kind = rng.random()
        if kind < 0.15:
            del here[key]
        elif kind < 0.25:
            here[key] = _deep(rng.choice((20, 200, 900)))
        elif kind < 0.35 and isinstance(here[key], int | float):
            here[key] = here[key] * rng.choice((-1, 2, 1000, 10**9))
        elif kind < 0.45 and isinstance(here, list):
            here.append(here[key])
        else:
            here[key] = rng.choice(VALUES)
        break
    return value


def in_zip(path: Path, rng: Random) -> None:
    """Damage one member of a zip and write its sums anew."""
    with zipfile.ZipFile(path) as archive:
        members, comment = [(member, archive.read(member)) for member in archive.infolist()], archive.comment
    chosen = rng.randrange(len(members))
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = comment
        for number, (member, data) in enumerate(members):
            archive.writestr(member, damaged(data, rng) if number == chosen else data)
    reseal(path)


def in_safetensors(path: Path, rng: Random) -> None:
    """Damage the header of a safetensors file and the JSON texts in it, and write its length anew."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    inner = {key: value for key, text in header.get("__metadata__", {}).items() if (value := _json(text))}
    if inner and rng.random() < 0.6:
        key = rng.choice(sorted(inner))
        header["__metadata__"][key] = json.dumps(damage_json(inner[key], rng))
    elif rng.random() < 0.3:
        _retype_tensor(header[rng.choice(sorted(set(header) - {"__metadata__"}))], rng)
    elif rng.random() < 0.2:
        rest = struct.pack("<f", rng.choice((float("nan"), float("inf"), 3e38))) + rest[4:]
    else:
        header = damage_json(header, rng)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + rest)
    reseal(path)


def _json(text: str) -> Any:
    """What a text of the header holds, where it is JSON."""
    try:
        return value if isinstance(value := json.loads(text), dict | list) else None
    except ValueError:
        return None


def _retype_tensor(entry: dict[str, Any], rng: Random) -> None:
    """Say that the bytes of a tensor are of another type."""
    kind, width = rng.choice(sorted(TYPES.items()))
    size = entry["data_offsets"][1] - entry["data_offsets"][0]
    same = width * math.prod(entry["shape"]) == size
    entry |= {"dtype": kind, "shape": entry["shape"] if same else [size // width]}


def in_json(path: Path, rng: Random) -> None:
    """Damage a value of a JSON file."""
    path.write_text(json.dumps(damage_json(json.loads(path.read_text()), rng)))
    reseal(path)


def in_folder(path: Path, rng: Random) -> None:
    """Damage one file of a folder, or one beside a file, and write its new hash wherever the old one stands in JSON."""
    folder = path if path.is_dir() else path.parent
    chosen = rng.choice(sorted(file for file in folder.rglob("*") if file.is_file()))
    before = hashlib.sha256(chosen.read_bytes()).hexdigest()
    inside = {".json": in_json, ".safetensors": in_safetensors, ".npz": in_zip}.get(chosen.suffix, _in_bytes)
    (inside if rng.random() < 0.8 else _in_bytes)(chosen, rng)
    after = hashlib.sha256(chosen.read_bytes()).hexdigest()
    for file in folder.rglob("*.json"):
        if file != chosen and before.encode() in (text := file.read_bytes()):
            file.write_bytes(text.replace(before.encode(), after.encode()))
            reseal(file)


def reseal(path: Path) -> None:
    """Make the seal of a damaged file right again, where it has one: what reads it then has to look for itself."""
    data = bytearray(path.read_bytes())
    start = data.find(SIGN) + len(SIGN)
    if start >= len(SIGN):
        data[start : start + 64] = b"0" * 64
        data[start : start + 64] = hashlib.sha256(data).hexdigest().encode()
        path.write_bytes(data)


def _in_bytes(path: Path, rng: Random) -> None:
    path.write_bytes(damaged(path.read_bytes(), rng))
    reseal(path)


def in_trace(path: Path, rng: Random) -> None:
    """Damage lines, manifest, a shard or the table of a trace or of activations, with all hashes made right again."""
    manifest = json.loads((path / "manifest.json").read_text())
    records = [json.loads(line)["record"] for line in (path / "steps.jsonl").read_bytes().splitlines()]
    kind = rng.random()
    if kind < 0.6:
        chosen = rng.randrange(len(records))
        records[chosen] = damage_json(records[chosen], rng)
    elif kind < 0.75:
        manifest = damage_json(manifest, rng)
    elif kind < 0.9:
        shard = rng.choice(sorted((path / "shards").iterdir()))
        in_safetensors(shard, rng)
        for record in records:
            if record.get("shard") == shard.name:
                data = shard.read_bytes()
                record |= {"shard_sha256": hashlib.sha256(data).hexdigest(), "shard_bytes": len(data)}
    else:
        table = path / "scalars.parquet"
        table.write_bytes(damaged(table.read_bytes(), rng))
        manifest["scalars_sha256"] = hashlib.sha256(table.read_bytes()).hexdigest()
    if kind < 0.9 and rng.random() < 0.7:
        (path / "scalars.parquet").unlink()
    identity, lines = str(manifest.get("id")), io.BytesIO()
    for record in records:
        body = text_of(record)
        lines.write(b'{"check":"' + check_of(identity, body).encode() + b'","record":' + body + b"}\n")
    (path / "steps.jsonl").write_bytes(lines.getvalue())
    manifest |= {"lines": len(records), "steps_sha256": hashlib.sha256(lines.getvalue()).hexdigest()}
    body = {key: value for key, value in manifest.items() if key != "check"}
    text = json.dumps({**body, "check": check_of(identity, text_of(body))})
    (path / "manifest.json").write_text(text)


def one_file(inside: Callable[[Path, Random], None], suffix: str) -> Callable[[Path, Random], None]:
    """The same for one file of a folder, chosen among those of a suffix."""

    def run(path: Path, rng: Random) -> None:
        inside(rng.choice(sorted(path.rglob(f"*{suffix}"))), rng)

    return run


def _flip(data: bytes, rng: Random) -> bytes:
    found = bytearray(data)
    for _ in range(rng.randint(1, 8) if found else 0):
        # headers are at the beginning of most files, and at the end of some
        place = min(
            int(len(found) * rng.choice((rng.random() ** 3, rng.random(), 1 - rng.random() ** 3))), len(found) - 1
        )
        found[place] ^= 1 << rng.randrange(8)
    return bytes(found)


def _cut(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _splice(data: bytes, rng: Random) -> bytes:
    start, place = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
    part = data[start : start + rng.randint(1, 200)]
    return data[:place] + part + data[place + rng.choice((0, len(part))) :]


def _drop(data: bytes, rng: Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + data[place + rng.randint(1, 64) :]


def _blow_up(data: bytes, rng: Random) -> bytes:
    size, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
    number = rng.choice([value for value in BLOWN_UP if value < 256**size])
    place = int(len(data) * rng.random() ** 2)
    return data[:place] + number.to_bytes(size, order) + data[place + size :]  # type: ignore[arg-type]


def _retype(data: bytes, rng: Random) -> bytes:
    """Put another number or word where there is a number of text."""
    digits = [place for place in range(min(len(data), 4096)) if 48 <= data[place] < 58]
    place = rng.choice(digits) if digits else rng.randrange(len(data) + 1)
    end = place
    while end < len(data) and 48 <= data[end] < 58:
        end += 1
    return data[:place] + rng.choice(TEXTS) + data[end:]


def _deep(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def in_toml(path: Path, rng: Random) -> None:
    """Damage a value of a TOML file."""
    found = damage_json(tomllib.loads(path.read_text()), rng)
    path.write_text("\n".join(f"{json.dumps(key)} = {_toml(value)}" for key, value in found.items()))


def _toml(value: Any) -> str:
    """A value in one line of TOML, which has no word for nothing."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items()) + "}"
    text = json.dumps(value)
    if isinstance(value, list) and "{" in text:
        return "[" + ", ".join(map(_toml, value)) + "]"
    for theirs, ours in {"Infinity": "inf", "NaN": "nan", "null": '"null"'}.items():
        text = text.replace(theirs, ours)
    return text
