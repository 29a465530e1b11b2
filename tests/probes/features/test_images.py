import io
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from scorescope.data.errors import InputError
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
