"""Training and test images: as the data set divides them, at random, films and copies together."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from caffe.data.formats.dataset import AnnotatedImage
from caffe.data.formats.reading import read_dataset
from caffe.data.formats.splitting import Split, split
from caffe.errors import DataError
from tests.data.formats import made


def images(names: list[str], part: str = "") -> list[AnnotatedImage]:
    return [AnnotatedImage(Path("photos", f"{name}.jpg"), [], (60, 80), part) for name in names]


def stems(found: Split) -> list[str]:
    return [image.path.stem for image in found.test]


def test_a_share_drawn_at_random() -> None:
    photographs = images([f"raccoon-{number}" for number in range(1, 201)])
    found = split(photographs, 0.2, 0)
    assert (len(found.train), len(found.test)) == (160, 40)
    assert found.how == "20% drawn with seed 0"
    assert {id(image) for image in (*found.train, *found.test)} == {id(image) for image in photographs}
    assert stems(split(photographs, 0.2, 0)) == stems(found) != stems(split(photographs, 0.2, 1))
    # not a run of numbers, as the frames of one film would be
    numbers = [int(name.partition("-")[2]) for name in stems(found)]
    assert sum(b - a == 1 for a, b in pairwise(numbers)) < 20


def test_both_parts_have_an_image() -> None:
    assert len(split(images(["a", "b"]), 0.0, 0).test) == 1
    assert len(split(images(["a", "b"]), 1.0, 0).train) == 1
    with pytest.raises(DataError, match="1 image with annotations"):
        split(images(["a"]), 0.2, 0)


@pytest.mark.parametrize(
    "name", ["clip{}_frame_{:04d}", "clip{}-frame{:d}", "clip{}_mp4-{:d}_jpg.rf.ab12cd34ef", "v{}.avi_{:05d}"]
)
def test_frames_of_a_film_stay_together(name: str) -> None:
    films = images([name.format(film, frame) for film in range(20) for frame in range(30)])
    found = split(films, 0.2, 0)
    assert len(found.test) == 120
    kept = {index // 30 for index, image in enumerate(films) if image in found.train}
    assert not kept & {index // 30 for index, image in enumerate(films) if image in found.test}
    assert "(600 images in 20 groups)" in found.how


def test_copies_of_a_photograph_stay_together() -> None:
    copies = images([f"photo{number}_jpg.rf.{copy:016x}" for number in range(50) for copy in range(3)])
    found = split(copies, 0.2, 0)
    of = [Counter(image.path.stem.partition(".")[0] for image in part) for part in (found.train, found.test)]
    assert not of[0].keys() & of[1].keys()
    assert len(found.test) == 30


def test_one_film_is_cut() -> None:
    found = split(images([f"frame_{number}" for number in range(100)]), 0.2, 0)
    assert stems(found) == [f"frame_{number}" for number in range(80, 100)]
    assert found.how == "the last 20 frames of the longest film, which has 100 of 100 images"


def test_the_data_sets_own_parts() -> None:
    parts = [*images(["a", "b"], "train"), *images(["c"], "val"), *images(["d"], "test"), *images(["e"])]
    found = split(parts, 0.2, 0)
    assert stems(found) == ["d"]
    assert found.how == "as the data set divides them (test part); 1 that are in neither are for training"
    assert stems(split(parts[:3], 0.2, 0)) == ["c"]
    assert "drawn" in split(parts[:2], 0.2, 0).how
    assert "drawn" in split(parts, 0.2, 0, own=False).how


def test_lists_divide_before_folders(tmp_path: Path) -> None:
    """VOC's ImageSets, or lists of paths. What is tested on is not trained on."""
    made.voc(tmp_path)
    made.text(tmp_path / "ImageSets/Main/trainval.txt", "two\none\n")
    made.text(tmp_path / "ImageSets/Main/test.txt", "one\r\nmissing\n")
    dataset = read_dataset(tmp_path)
    assert {image.path.stem: image.part for image in dataset.images} == {"one": "test", "two": "train"}
    assert dataset.notes == {"lines of 'ImageSets/Main/test.txt' without an image, not used": 1}
    for name in ("trainval", "test"):
        (tmp_path / f"ImageSets/Main/{name}.txt").unlink()
    made.text(tmp_path / "train.txt", "data/photos/one.jpg\n")
    made.text(tmp_path / "valid.txt", "data/photos/two.jpg\n")
    assert [image.part for image in read_dataset(tmp_path).images] == ["train", "val"]
