import gzip
import io
import math
import os
import shutil
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from scorescope.data.errors import InputError
from scorescope.probes.approximations import ImageFolder
from scorescope.probes.features.images import ReadLog, made_images, open_images, quantise, tensor_images


def picture(seed, size=(6, 5), mode="RGB"):
    rng = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, size, dtype=np.uint16))
    channels = {"RGB": 3, "RGBA": 4, "LA": 2}.get(mode, 0)
    pixels = rng.integers(0, 256, (*size, channels) if channels else size, dtype=np.uint8)
    return (
        Image.fromarray(pixels.squeeze(), mode if mode in ("LA",) else None)
        if mode != "P"
        else Image.fromarray(pixels).convert("P")
    )


def content(image):
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def read(source, **options):
    names, parts = [], []
    for labels, images in source.batches(3, **options):
        names += labels
        parts.append(images)
    return names, parts


@pytest.fixture
def folder(tmp_path):
    for name in ("b.PNG", "a.png", "deep/er/c.Jpg", "deep/d.bmp"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(len(name)).save(path)
    (tmp_path / "images" / "notes.txt").write_text("no image")
    (tmp_path / "images" / "._a.png").write_bytes(b"not one either")
    return tmp_path / "images"


def test_folder_is_recursive_sorted_and_ignores_case(folder):
    source = open_images(folder)
    names, parts = read(source)
    assert names == ["a.png", "b.PNG", "deep/d.bmp", "deep/er/c.Jpg"]
    assert source.count == 4
    assert [part.shape for part in parts] == [(3, 3, 6, 5), (1, 3, 6, 5)]
    assert torch.equal(parts[0][0], torch.from_numpy(np.array(Image.open(folder / "a.png"))).movedim(2, 0))
    assert read(source)[0] == names  # a second reading


def test_archives_hold_the_same(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(folder, arcname="x")
    expected = read(open_images(folder))[1]
    for got, want in zip(read(open_images(tmp_path / "a.zip"))[1], expected, strict=True):
        assert torch.equal(got, want)
    names, parts = read(open_images(tmp_path / "a.tar.gz"))
    assert sorted(names) == ["x/a.png", "x/b.PNG", "x/deep/d.bmp", "x/deep/er/c.Jpg"]
    assert sum(len(part) for part in parts) == 4


def test_npz_tensor_and_generator_agree(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), dtype=np.uint8)
    np.savez(tmp_path / "samples.npz", pixels)
    batch = torch.from_numpy(pixels).movedim(3, 1)
    floats = batch.double() / 127.5 - 1
    sources = [
        open_images(tmp_path / "samples.npz"),
        tensor_images(batch),
        tensor_images(floats.float()),
        made_images(lambda: (part for part in floats.split(2))),
    ]
    for source in sources:
        assert torch.equal(torch.cat(read(source)[1]), batch)


def test_quantisation_is_explicit():
    values = torch.tensor([0.0, 0.4, 0.6, 1.0, 255.0, 300.0, -5.0]).reshape(1, 1, 1, 7)
    assert quantise(values, value_range=(0, 255)).flatten().tolist() == [0, 0, 1, 1, 255, 255, 0]
    assert quantise(values, value_range=(0, 255), rounding="truncate").flatten().tolist() == [0, 0, 0, 1, 255, 255, 0]
    with pytest.raises(InputError, match="nearest"):
        quantise(values, rounding="up")
    with pytest.raises(InputError, match="NaN"):
        quantise(values * float("nan"))
    with pytest.raises(InputError, match="uint8, or floats"):
        quantise(values.int())


def test_odd_modes_are_converted_and_counted(tmp_path):
    for name, mode in (("g", "L"), ("h", "RGBA"), ("i", "I;16"), ("j", "P"), ("k", "LA"), ("l", "RGB")):
        picture(3, mode=mode).save(tmp_path / f"{name}.png")
    log = ReadLog()
    parts = torch.cat(read(open_images(tmp_path), log=log)[1])
    assert dict(log.converted) == {"grayscale": 1, "alpha": 2, "16-bit": 1, "palette": 1}
    assert log.read == 6
    deep = np.array(picture(3, mode="I;16")) / 257
    np.testing.assert_array_equal(parts[2, 1].numpy(), np.round(deep))  # scaled, not clipped
    np.testing.assert_array_equal(parts[1].numpy(), np.array(picture(3, mode="RGBA"))[:, :, :3].transpose(2, 0, 1))


def test_a_corrupt_image_is_named_or_counted(folder):
    (folder / "b.PNG").write_bytes(content(picture(0))[:60])
    with pytest.raises(InputError, match=r"b\.PNG.*--skip-bad"):
        read(open_images(folder))
    log = ReadLog()
    names, _ = read(open_images(folder), skip_bad=True, log=log)
    assert list(log.bad) == ["b.PNG"]
    assert log.read == len(names) == 3


def test_sizes_are_not_mixed_in_a_batch(tmp_path):
    for number, size in enumerate([(4, 4), (4, 4), (5, 4), (4, 4)]):
        picture(number, size).save(tmp_path / f"{number}.png")
    assert [tuple(part.shape) for part in read(open_images(tmp_path))[1]] == [(2, 3, 4, 4), (1, 3, 5, 4), (1, 3, 4, 4)]


def test_folders_are_read_as_clean_fid_reads_them_and_all_is_counted(folder, tmp_path):
    """Links are followed, also to folders, but not in circles; hidden files and other formats are counted."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    picture(1).save(elsewhere / "e.png")
    (folder / "linked").symlink_to(elsewhere)
    (elsewhere / "circle").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")  # no image by its name
    for name in (
        ".ipynb_checkpoints/a-checkpoint.png",
        "__MACOSX/a.png",
        ".git/x",
        "f.avif",
        "g.jfif",
        "h.jp2",
        "i.tga",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    log = ReadLog()
    names, _ = read(open_images(folder), log=log)
    assert names == ["a.png", "b.PNG", "deep/d.bmp", "deep/er/c.Jpg", "linked/e.png"]
    others = {".txt": 1, ".avif": 1, ".jfif": 1, ".jp2": 1, ".tga": 1, "no suffix": 1}
    assert dict(log.passed_over) == {"hidden": 4, "link in a circle": 1, **others}
    assert ImageFolder(folder, size=4).files == [folder / name for name in names]


def test_archives_count_what_they_pass_over(folder, tmp_path):
    (folder / "j.avif").write_bytes(b"")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "a.png").write_bytes(b"")
    shutil.make_archive(str(tmp_path / "a"), "zip", folder)
    shutil.make_archive(str(tmp_path / "a"), "gztar", folder)
    for name in ("a.zip", "a.tar.gz"):
        log = ReadLog()
        assert len(read(open_images(tmp_path / name), log=log)[0]) == 4
        assert dict(log.passed_over) == {"hidden": 2, ".txt": 1, ".avif": 1}


def test_a_link_that_leads_nowhere_and_an_empty_file_are_images_that_cannot_be_read(folder):
    (folder / "0.png").symlink_to(folder / "gone.png")
    with pytest.raises(InputError, match=r"0\.png: found a link that leads nowhere"):
        read(open_images(folder))
    (folder / "1.png").write_bytes(b"")
    (folder / "2.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")  # no program is started
    (folder / "3.png").symlink_to("3.png")
    log = ReadLog()
    assert len(read(open_images(folder), skip_bad=True, log=log)[0]) == 4
    assert log.bad["1.png"] == "a damaged file (it is empty)"
    assert log.bad["2.png"].startswith("not an image, or none of PNG, JPEG")
    assert sorted(log.bad) == ["0.png", "1.png", "2.png", "3.png"]


def test_what_is_not_read_of_an_image_is_counted(tmp_path):
    """First frames only, a camera's rotation not applied, the high byte of 16-bit colours: as Pillow, and counted."""
    frames = [picture(0), picture(1)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(2).save(tmp_path / "b.png", exif=exif)
    deep = np.random.default_rng(0).integers(0, 65536, (6, 5, 3), dtype=np.uint16)
    (tmp_path / "c.png").write_bytes(png_of_16_bits(deep))
    (tmp_path / "d.ppm").write_bytes(b"P6 5 6 65535\n" + deep.astype(">u2").tobytes())
    log = ReadLog()
    images = torch.cat(read(open_images(tmp_path), log=log)[1]).movedim(1, 3).numpy()
    assert dict(log.converted) == {"first frame": 1, "EXIF rotation": 1, "16-bit colour": 2}
    np.testing.assert_array_equal(images[0], np.array(frames[0]))
    np.testing.assert_array_equal(images[1], np.array(picture(2)))
    np.testing.assert_array_equal(images[2], deep >> 8)


def png_of_16_bits(pixels):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("low, high, said", [(0, 1, (-1, 1)), (0, 255, (-1, 1)), (-1, 1, (0, 1)), (0, 1, (0, 255))])
def test_values_of_another_range_are_refused_with_the_range_found(low, high, said):
    values = torch.linspace(low, high, 300).reshape(1, 3, 10, 10)
    with pytest.raises(InputError, match=rf"values from {low} to {high} for value_range \({said[0]}, {said[1]}\)"):
        tensor_images(values, value_range=said)
    assert len(read(tensor_images(values, value_range=(low, high)))[1]) == 1
    assert len(read(tensor_images(quantise(values, value_range=(low, high)), value_range=said))[1]) == 1  # uint8


def test_a_few_values_outside_the_range_are_cut_off():
    values = torch.linspace(-1.2, 1.1, 300).reshape(1, 3, 10, 10)
    values[0, 0, 0, :5] = 4.0
    assert read(tensor_images(values))[1][0].max() == 255


def tar_of(path, count=4):
    with tarfile.open(path, "w") as archive:
        for number in range(count):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(content(picture(number)))
            archive.addfile(member, io.BytesIO(content(picture(number))))
    return path


@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda data: data[:1024] + b"\xff" * 512 + data[1536:], "a damaged header"),  # of the second member
        (lambda data: data[:1024], "no end mark"),  # cut off between two members
        (lambda data: data[:1024] + b"\0" * 512 + data[1536:], "after the archive's end mark"),
        (lambda data: data[:1800], "unexpected end of data|cut off"),
        (lambda data: data + data, "after the archive's end mark"),  # two shards put together
    ],
)
def test_a_damaged_tar_is_not_read_in_part_without_a_word(tmp_path, damage, reason):
    path = tar_of(tmp_path / "a.tar")
    path.write_bytes(damage(path.read_bytes()))
    for source in (path, tmp_path / "a.tar.gz"):
        if source != path:
            source.write_bytes(gzip.compress(path.read_bytes()))
        with pytest.raises(InputError, match=reason):
            read(open_images(source))
        log = ReadLog()
        names, _ = read(open_images(source), skip_bad=True, log=log)
        assert names[:1] == ["0.png"] and len(log.bad) == 1


def test_links_inside_a_tar_are_images(tmp_path):
    with tarfile.open(tar_of(tmp_path / "a.tar", 1), "a") as archive:
        for name, kind, target in (("b.png", tarfile.LNKTYPE, "0.png"), ("c.png", tarfile.SYMTYPE, "gone.png")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, target
            archive.addfile(link)
    log = ReadLog()
    assert read(open_images(tmp_path / "a.tar"), skip_bad=True, log=log)[0] == ["0.png", "b.png"]
    assert log.bad == {"c.png": "a link to gone.png, which is no file of the archive"}


def test_a_bad_member_of_a_zip_is_left_out(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("a.png", "b.png", "c.png"):
            archive.writestr(name, content(picture(0)))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[data.index(b"b.png") + 20] ^= 0xFF  # its sum is wrong then
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(InputError, match=r"b\.png: found Bad CRC-32"):
        read(open_images(tmp_path / "a.zip"))
    assert read(open_images(tmp_path / "a.zip"), skip_bad=True)[0] == ["a.png", "c.png"]


def test_what_grows_without_measure_is_refused_before_it_grows(tmp_path):
    (tmp_path / "a.png").write_bytes(bomb(20_000, 20_000))
    with pytest.raises(InputError, match=r"Image size \(400000000 pixels\) exceeds limit"):
        read(open_images(tmp_path))
    (tmp_path / "a.png").write_bytes(bomb(10_000, 10_000))
    with pytest.raises(InputError, match=r"10000 x 10000 pixels.*MAX_IMAGE_PIXELS"):
        read(open_images(tmp_path))
    path = npz_that_grows(tmp_path / "b.npz", "arr_0", (1100, 1024, 1024, 1), "|u1")
    with pytest.raises(InputError, match=r"\d{3} bytes that would grow to 11534\d+.*at most 1073741824 bytes"):
        open_images(path)


def npz_that_grows(path, name, shape, kind):
    """An npz whose directory says that it holds an array of so much; the array itself is not there."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"shape": shape, "fortran_order": False, "descr": kind})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.npy", head.getvalue())
    data, size = bytearray(path.read_bytes()), len(head.getvalue()) + np.dtype(kind).itemsize * math.prod(shape)
    place = data.index(b"PK\1\2") + 24
    data[place : place + 4] = struct.pack("<I", size)
    path.write_bytes(data)
    return path


def bomb(width, height):
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(head)) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.zip")
    with pytest.raises(InputError, match="a named pipe"):
        open_images(tmp_path / "a.zip")
    (tmp_path / "images").mkdir()
    picture(0).save(tmp_path / "images" / "a.png")
    os.mkfifo(tmp_path / "images" / "b.png")
    log = ReadLog()
    assert read(open_images(tmp_path / "images"), log=log)[0] == ["a.png"] and log.passed_over == {"no plain file": 1}


def test_bad_sources(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        open_images(tmp_path / "none")
    with pytest.raises(InputError, match="no images"):
        open_images(tmp_path)
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(InputError, match=r"\.txt file"):
        open_images(tmp_path / "text.txt")
    np.savez(tmp_path / "moments.npz", mu=np.zeros(2), sigma=np.eye(2))
    with pytest.raises(InputError, match="read_moments"):
        open_images(tmp_path / "moments.npz")
    np.savez(tmp_path / "object.npz", np.array([{}], dtype=object))
    with pytest.raises(InputError, match="numpy refuses"):
        open_images(tmp_path / "object.npz")
    np.savez(tmp_path / "floats.npz", np.zeros((2, 3, 3, 3)))
    with pytest.raises(InputError, match="float64"):
        open_images(tmp_path / "floats.npz")
