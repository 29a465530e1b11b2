import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scorescope.data.errors import InputError
from scorescope.probes.features.masks import open_masks


def folder_of(path, masks):
    for name, values in masks.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(file)
    return path


@pytest.fixture
def box():
    mask = np.zeros((6, 8), np.uint8)
    mask[1:3, 2:7] = 1
    return mask


@pytest.mark.parametrize("value", [1, 255, True])
def test_folder_by_name_whatever_the_suffix(tmp_path, box, value):
    """Masks of 0 and 1, 0 and 255, and one bit say the same, in a nested folder and for images of another suffix."""
    values = box.astype(bool) if value is True else box * np.uint8(value)
    masks = open_masks(folder_of(tmp_path / "face", {"a/x.png": values}))
    assert masks.region == "face"
    masks.check_names(["a/x.jpg"])
    np.testing.assert_array_equal(masks.mask("a/x.jpg", (6, 8)), box)
    assert masks.mask("a/x.jpg", (12, 16)).shape == (6, 8)  # the image is twice as large: same proportions


def test_missing_and_odd_masks_are_named(tmp_path, box):
    gray = np.arange(48, dtype=np.uint8).reshape(6, 8)
    color = np.stack([box * 255, box * 0, box * 0], axis=2)
    masks = open_masks(folder_of(tmp_path / "m", {"a.png": box, "gray.png": gray, "color.png": color}))
    with pytest.raises(InputError, match=r"no mask for b\.png and 1 more of 3 images.*all-black"):
        masks.check_names(["a.png", "b.png", "c.png"])
    with pytest.raises(InputError, match=r"a\.png.*6 x 8 for an image of 6 x 6.*proportions"):
        masks.mask("a.png", (6, 6))
    with pytest.raises(InputError, match=r"gray\.png.*48 different values: 0, 1, 2, 3 .*go into an npz"):
        masks.mask("gray.png", (6, 8))
    with pytest.raises(InputError, match=r"color\.png.*3 channels that differ"):
        masks.mask("color.png", (6, 8))
    (tmp_path / "m" / "a.png").write_bytes(b"\x89PNG damaged")
    with pytest.raises(InputError, match=r"a\.png"):
        masks.mask("a.png", (6, 8))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images"):
        open_masks(tmp_path / "empty")
    with pytest.raises(InputError, match="no such file or folder"):
        open_masks(tmp_path / "absent")
    (tmp_path / "x.pkl").write_bytes(b"")
    with pytest.raises(InputError, match=r"a \.pkl file.*\.csv of boxes"):
        open_masks(tmp_path / "x.pkl")


def test_boxes(tmp_path, box):
    path = tmp_path / "faces.csv"
    rows = [("a.png", 2, 1, 7, 3), ("b.png", 0, 0, 1, 1), ("b.png", 0.5, 0, 2, 1), ("c.png", *[np.nan] * 4)]
    pd.DataFrame(rows, columns=["name", "left", "top", "right", "bottom"]).to_csv(path, index=False)
    masks = open_masks(path)
    masks.check_names(["a.png", "b.png", "c.png"])
    np.testing.assert_array_equal(masks.mask("a.png", (6, 8)), box)
    both = masks.mask("b.png", (4, 4))
    assert both[0].tolist() == [1, 1, 0, 0] and not both[1:].any()
    assert not masks.mask("c.png", (4, 4)).any()  # a row without numbers: nothing there
    with pytest.raises(InputError, match=r"a: .*inside the image of 5 x 6"):
        masks.mask("a.png", (6, 5))
    path.write_text("name,left,top,right,bottom\na.png,3,1,2,3\n")
    with pytest.raises(InputError, match=r"a\.png with .*'left': 3\.0.*left < right"):
        open_masks(path)
    path.write_text("name,left,top,right,bottom\na.png,3,1,,3\n")
    with pytest.raises(InputError, match="no numbers at all"):
        open_masks(path)
    path.write_text("name,left,top,right,bottom\na.png,3,one,4,3\n")
    with pytest.raises(InputError, match="boxes in pixels"):
        open_masks(path)
    path.write_text("file,x,y,w,h\n")
    with pytest.raises(InputError, match="columns name, left, top, right, bottom"):
        open_masks(path)


def test_a_border_inside_a_pixel_counts_by_its_part(tmp_path):
    path = tmp_path / "b.csv"
    path.write_text("name,left,top,right,bottom\na.png,0.25,0,1.5,0.5\n")
    np.testing.assert_allclose(open_masks(path).mask("a.png", (1, 3)), [[0.375, 0.25, 0]])


def test_arrays(tmp_path, box):
    np.savez(tmp_path / "named.npz", **{"a.png": box.astype(bool), "b.png": box * 0.5})
    masks = open_masks(tmp_path / "named.npz", region="hair")
    assert masks.region == "hair"
    masks.check_names(["b.jpg", "a.png"])
    np.testing.assert_allclose(masks.mask("b.jpg", (6, 8)), box * 0.5)
    np.savez(tmp_path / "stack.npz", np.stack([box, 0 * box]).astype(bool))
    stack = open_masks(tmp_path / "stack.npz")
    assert stack.mask("anything", (6, 8), row=0).sum() == 10 and not stack.mask("x", (6, 8), row=1).any()
    with pytest.raises(InputError, match="2 masks without names for 3 images"):
        stack.check_names(["a", "b", "c"])
    np.savez(tmp_path / "levels.npz", np.stack([box * 255]))
    with pytest.raises(InputError, match=r"arr_0: uint8 of shape \(1, 6, 8\).*shares in \[0, 1\]"):
        open_masks(tmp_path / "levels.npz")
    np.savez(tmp_path / "objects.npz", np.array([{}], dtype=object))
    with pytest.raises(InputError, match="numpy refuses"):
        open_masks(tmp_path / "objects.npz")


@pytest.mark.parametrize(
    "text",
    [
        "", "\xff", "name,left,top,right,bottom\na.png,inf,inf,inf,inf\n", "name,left,top,right,bottom\n,0,0,1,1\n",
        "name,left,top,right,bottom\na.png,0,0,1,1,5,6\n", "name,left,top,right,bottom\na.png,0,0,1e400,1\n",
        "a" + "," * 100_000, 'name,left,top,right,bottom\n"a.png,0,0,1,1\n',
    ],
)  # fmt: skip
def test_a_csv_that_is_none_is_an_error_of_ours(tmp_path, text):
    (tmp_path / "m.csv").write_bytes(text.encode("latin1"))
    with pytest.raises(InputError, match=r"m\.csv"):
        open_masks(tmp_path / "m.csv").mask("a.png", (4, 4))
