"""Window files of MS-CNN and Cascade R-CNN: what they hold, and messages that name the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffe.data.feed.object_file import read_objects
from caffe.errors import DataError

GOOD = """# 0
images/a.png
3
96 120
2
1 0 10 20 30 40
2 1 5 6 7 8
1
0 0 50 60

# 1 images/b.png 3 50 60 0 0
"""


def write(folder: Path, text: str) -> str:
    (folder / "windows.txt").write_text(text)
    return str(folder / "windows.txt")


def test_images_with_objects_and_regions(tmp_path: Path) -> None:
    first, second = read_objects(write(tmp_path, GOOD), difficult=False)
    assert (first.path, first.height, first.width) == ("images/a.png", 96, 120)
    assert first.boxes.tolist() == [[10, 20, 30, 40], [5, 6, 7, 8]]
    assert (first.label.tolist(), first.ignore.tolist(), first.difficult.tolist()) == (
        [1, 2],
        [False, True],
        [False] * 2,
    )
    assert first.regions.tolist() == [[0, 0, 50, 60]]
    assert second.boxes.shape == second.regions.shape == (0, 4)
    assert second.label.shape == (0,)


def test_objects_that_may_be_difficult(tmp_path: Path) -> None:
    (image,) = read_objects(write(tmp_path, "# 7 a.png 3 9 8 1 4 0 1 1 2 3 4 0"), difficult=True)
    assert (image.label.tolist(), image.ignore.tolist(), image.difficult.tolist()) == ([4], [False], [True])
    assert image.boxes.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "1 0 10 20 30 40",
            "1 0 10 20 30 40 50",
            "line 11, image 'images/a.png': expected y1 of a region that is not of interest, an integer, found '#'. In this "
            "layer's files, an object has 6 numbers (label, ignored, x1, y1, x2, y2), a region 4",
        ),
        (
            "1 0 10 20",
            "1 0 10.5 20",
            "line 6, image 'images/a.png': expected x1 of an object, an integer, found '10.5'",
        ),
        ("1 0 10 20", "0 0 10 20", "line 6, image 'images/a.png': an object's label is 0; it must be at least 1"),
        ("96 120", "96 tall", "line 4, image 'images/a.png': expected the image's width, an integer, found 'tall'"),
        ("1 0 10 20", f"1 0 10 {10**30}", "line 6, image 'images/a.png': y1 of an object is 1000000000"),
        ("96 120", "0 120", "line 4, image 'images/a.png': the image's height is 0; it must be at least 1"),
        (
            "images/a.png",
            "my images/a.png",
            "line 2, image 'my': expected the number of channels, an integer, found 'images/a.png'",
        ),
        ("# 0", "#0", "line 1: expected '#', which begins an image, found '#0'"),
        ("60 0 0\n", "60 -1 0\n", "line 11, image 'images/b.png': the number of objects is -1; it must be at least 0"),
        (
            "60 0 0\n",
            "60 0 1 4 4",
            "line 11, image 'images/b.png': the file ends where x2 of a region that is not of interest should follow",
        ),
        ("60 0 0\n", "60", "line 11, image 'images/b.png': the file ends where the number of objects should follow"),
        (GOOD, " \n", "windows.txt' is empty"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(DataError) as caught:
        read_objects(path, difficult=False)
    assert message in str(caught.value)
    assert "windows.txt" in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read window file '.*nothing': No such file"):
        read_objects(str(tmp_path / "nothing"), difficult=False)
    (tmp_path / "windows.txt").write_bytes(b"\xff\xfe\x00# 0")
    with pytest.raises(DataError, match="windows.txt"):
        read_objects(str(tmp_path / "windows.txt"), difficult=False)
