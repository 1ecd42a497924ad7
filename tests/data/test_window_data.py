"""WindowData: which windows, their place in the crop, and invalid window files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from caffe.data.feed.window_file import ImageWindow, place
from caffe.errors import DataError, NetError
from caffe.runtime import runtime
from tests.data.conftest import photograph
from tests.data.source_layers import batches, layer


@pytest.fixture(autouse=True)
def _process_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAFFE_DATA_WORKERS", "0")
    monkeypatch.setattr(runtime, "seed", 7)


def window_layer(folder: Path, transform: str = "crop_size: 20", more: str = "") -> Any:
    return layer(
        f'name: "w" type: "WindowData" top: "data" top: "label" transform_param {{ {transform} }} '
        f'window_data_param {{ source: "{folder}/windows.txt" root_folder: "{folder}/" batch_size: 8 {more} }}'
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "a.png"), photograph(0))
    (tmp_path / "windows.txt").write_text(
        "# 0\na.png\n3\n60\n80\n4\n3 0.9 10 10 29 29\n2 0.6 30 10 49 29\n2 0.4 0 0 19 19\n1 0.5 60 40 79 59\n"
    )
    return tmp_path


def test_share_of_foreground_and_pixels(folder: Path) -> None:
    made = window_layer(folder)
    assert made.shapes == [(8, 3, 20, 20), (8,)]
    image = photograph(0).transpose(2, 0, 1)
    crops = {3: image[:, 10:30, 10:30], 2: image[:, 10:30, 30:50], 1: image[:, 40:60, 60:80], 0: image[:, :20, :20]}
    seen = set()
    for data, label in batches(made, 6):
        assert (label[:6] == 0).all(), "a quarter is foreground and comes last"
        assert (label[6:] > 0).all()
        for pixels, each in zip(data, label, strict=True):
            np.testing.assert_array_equal(pixels, crops[int(each)])
            seen.add(int(each))
    assert seen == {0, 1, 2, 3}
    assert made.record_keys(2) == ["a.png"] * 16


def test_context_beyond_the_image_stays_empty() -> None:
    window = ImageWindow(0, 1, 0, 0, 9, 9)
    found = place(window, 60, 80, 20, 5, square=False, mirror=False)
    # twice its size around the center (5, 5): from -5 to 15, of which the image has 0 to 15
    assert (found.xmin, found.ymin, found.xmax, found.ymax) == (0, 0, 15, 15)
    assert (found.top, found.left, found.height, found.width) == (5, 5, 15, 15)
    assert place(window, 60, 80, 20, 5, square=False, mirror=True).left == 0


def test_square_grows_the_shorter_side() -> None:
    found = place(ImageWindow(0, 1, 20, 20, 39, 29), 60, 80, 20, 0, square=True, mirror=False)
    assert (found.xmin, found.ymin, found.xmax, found.ymax) == (20, 15, 40, 35)


@pytest.mark.parametrize(
    "content",
    ["", "x", "# 1\na.png", "# 0\na.png\n3\n60\n80\n1\n", "# 0\na.png\n3\n60\n80\n1\n0 0.9 1 1 2 2\n", "# 0\na.png\n3 60 80 0",
     "# 0\na.png\nthree\n", "# 0\na.png\n3\n60\n80\n1\n1 x 1 1 2 2\n", "\0"],
)  # fmt: skip
def test_window_files_that_are_none(folder: Path, content: str) -> None:
    (folder / "windows.txt").write_text(content)
    with pytest.raises(DataError, match=r"layer 'w' .*windows\.txt"):
        window_layer(folder)


@pytest.mark.parametrize(
    ("transform", "more", "says"),
    [
        ("", "", "crop_size over 0"),
        ("crop_size: 20", "fg_fraction: 2", "from 0 to 1"),
        ("crop_size: 20", "context_pad: 10", "leaves no pixel"),
        ("crop_size: 20", 'crop_mode: "round"', "warp or square"),
    ],
)
def test_settings_that_cannot_be(folder: Path, transform: str, more: str, says: str) -> None:
    with pytest.raises(NetError, match="layer 'w'") as error:
        window_layer(folder, transform, more)
    assert says in str(error.value)


def test_missing_image(folder: Path) -> None:
    (folder / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png': cannot read the image"):
        window_layer(folder)()
