"""convert_annoset -paste_small and -oversample_small: what is written, what is listed, and what is refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe.cli.convert_annoset import main
from caffe.cli.create_annoset import main as create_annoset
from caffe.data.augment.boxes import Boxes, areas, intersections
from caffe.data.build.small_objects import arrange, copyable, paste
from caffe.data.build.small_settings import SmallObjects
from caffe.data.images import decode_datum
from caffe.data.lmdb_source import LmdbSource
from caffe.proto import caffe_pb2
from tests.data.conftest import Folder, voc_object, voc_xml

SIZE = "<size><width>200</width><height>150</height><depth>3</depth></size>"
#: 12 × 10 pixels, far from the edges
CAT = voc_object("cat", 60, 50, 72, 60)


def ground(channels: int = 3) -> np.ndarray:
    """Black, with a white object at the box of CAT. PNG is lossless."""
    image = np.zeros((150, 200, channels), np.uint8)
    image[50:60, 60:72] = 255
    return image


class Set(Folder):
    """A directory of PNG images of 200 × 150 pixels."""

    def add_png(self, name: str, *objects: str, image: np.ndarray | None = None) -> None:
        cv2.imwrite(str(self.root / f"{name}.png"), ground() if image is None else image)
        (self.root / f"{name}.xml").write_text(voc_xml(*objects, size=SIZE))
        self.lines.append(f"{name}.png {name}.xml")

    def build(self, *flags: str, database: str = "db") -> LmdbSource:
        assert main(self.arguments("-encode_type=png", *flags, database=database)) == 0
        return LmdbSource(self.root / database)

    def listed(self, database: str = "db") -> list[list[str]]:
        lines = (self.root / f"{database}_pasted.txt").read_text().splitlines()
        assert lines[0].startswith("# record, class")
        return [line.split("\t") for line in lines[1:]]


@pytest.fixture
def images(tmp_path: Path) -> Set:
    return Set(tmp_path)


def boxes_of(source: LmdbSource, index: int) -> tuple[np.ndarray, Boxes]:
    record = source.annotated_datum(index)
    image = decode_datum(record.datum, "record")
    boxes = Boxes.of(record)
    height, width = image.shape[:2]
    return image, Boxes(
        boxes.corners * np.array([width, height, width, height], np.float32), boxes.labels, boxes.difficult
    )


def test_copies_are_where_the_boxes_say(images: Set, capfd: pytest.CaptureFixture[str]) -> None:
    images.add_png("a", CAT, voc_object("dog", 100, 40, 190, 140))
    image, boxes = boxes_of(images.build("-paste_small=5", "-paste_soft_edge=0"), 0)
    assert len(boxes) == 7
    assert (boxes.labels[:, 0] == 1).sum() == 6
    # CAT, its five copies in its group, then the dog
    assert boxes.labels[:6, 1].tolist() == [0, 1, 2, 3, 4, 5]
    for xmin, ymin, xmax, ymax in boxes.corners[:6]:
        inside = image[round(ymin) : round(ymax), round(xmin) : round(xmax)]
        assert inside.mean() > 180  # scaled, and rounded to pixels
        image[max(0, int(ymin) - 2) : int(ymax) + 3, max(0, int(xmin) - 2) : int(xmax) + 3] = 0
    assert not image.any()
    shared = intersections(boxes.corners[:, None], boxes.corners[None])
    np.fill_diagonal(shared, 0)
    assert not shared.any()
    sides = boxes.corners[1:6, 2:] - boxes.corners[1:6, :2]
    assert (sides >= np.array([12, 10]) * 0.7).all()
    assert (sides <= np.array([12, 10]) * 1.3).all()
    assert len(set(sides[:, 0].tolist())) > 1
    said = capfd.readouterr().err
    assert "1 of 1 images have small objects (under 32 pixels, square root of area, at 300 x 300)" in said
    assert "5 copies pasted into 1 images: see" in said


def test_the_list_says_what_the_records_hold(images: Set) -> None:
    for name in "abc":
        images.add_png(name, CAT, voc_object("dog", 20, 20, 30, 30))
    source = images.build("-paste_small=3", "-seed=4")
    listed = images.listed()
    assert len(listed) == 9
    for index in range(3):
        _, boxes = boxes_of(source, index)
        own = [words for words in listed if words[0] == source.key(index)]
        found = {
            ("cat" if label == 1 else "dog", *np.round(c, 2))
            for c, label in zip(boxes.corners, boxes.labels[:, 0], strict=True)
        }
        for words in own:
            box = np.array(words[2:6], float)
            assert any(words[1] == name and np.allclose(box, c, atol=0.02) for name, *c in found)
            assert words[6:] == (["60", "50", "72", "60"] if words[1] == "cat" else ["20", "20", "30", "30"])
        # objects take turns
        assert sorted(words[1] for words in own) in (["cat", "cat", "dog"], ["cat", "dog", "dog"])


def test_same_seed_same_bytes_however_many_processes(images: Set) -> None:
    images.add_png("a", CAT)
    images.lines *= 70  # enough for processes
    first, again, other = (
        images.build("-paste_small=2", f"-seed={seed}", database=f"db{i}") for i, seed in enumerate((1, 1, 2))
    )
    assert all(first.value(i) == again.value(i) for i in range(70))
    assert any(first.value(i) != other.value(i) for i in range(70))
    assert len({first.value(i) for i in range(70)}) > 60
    assert images.listed("db0") == images.listed("db1")
    few = images.lines[:3]
    images.lines = few
    alone = images.build("-paste_small=2", "-seed=1", database="few")
    assert [alone.value(i) for i in range(3)] == [first.value(i) for i in range(3)]


def test_off_by_default(images: Set) -> None:
    images.add_png("a", CAT)
    source = images.build()
    assert source.annotated_datum(0).datum.data == (images.root / "a.png").read_bytes()
    assert not (images.root / "db_pasted.txt").exists()


def test_the_list_of_a_database_that_was_replaced_goes(images: Set) -> None:
    images.add_png("a", CAT)
    images.build("-paste_small=1")
    assert images.listed()
    images.build("-redo")
    assert not (images.root / "db_pasted.txt").exists()
    (images.root / "db_pasted.txt").write_text("a file of the user's\n")
    images.build("-redo")
    assert (images.root / "db_pasted.txt").read_text() == "a file of the user's\n"


def test_repeats_keep_the_original_and_lie_far_apart(images: Set, capfd: pytest.CaptureFixture[str]) -> None:
    for index in range(8):
        images.add_png(f"i{index}", *([CAT] if index % 2 else [voc_object("dog", 20, 20, 180, 140)]))
    source = images.build("-oversample_small=3", "-paste_small=1")
    keys = [source.key(i)[9:] for i in range(len(source))]
    assert len(keys) == 4 + 4 * 3
    assert [source.key(i)[:8] for i in range(16)] == [f"{i:08d}" for i in range(16)]
    assert sorted(keys) == sorted([f"i{i}.png" for i in range(8)] + [f"i{i}.png" for i in (1, 3, 5, 7)] * 2)
    assert all(a != b for a, b in pairwise(keys))
    pasted = {words[0] for words in images.listed()}
    assert len(pasted) == 8
    for i, key in enumerate(keys):
        original = (images.root / key).read_bytes() == source.annotated_datum(i).datum.data
        assert original == (source.key(i) not in pasted)
    assert "each of these is written 3 times: 16 records" in capfd.readouterr().err


def test_repeats_without_pasting(images: Set) -> None:
    images.add_png("a", CAT)
    images.add_png("b")
    source = images.build("-oversample_small=2")
    assert [source.key(i) for i in range(3)] == ["00000000_a.png", "00000001_b.png", "00000002_a.png"]
    assert not (images.root / "db_pasted.txt").exists()


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_order(repeats: int) -> None:
    small = [True, False, True, True, False, False]
    order = arrange(small, repeats)
    assert sorted(order) == [(i, r) for i in range(6) for r in range(repeats if small[i] else 1)]
    assert [i for i, r in order if r == 0] == list(range(6))
    assert arrange([], repeats) == []


def test_what_is_not_copied(images: Set, capfd: pytest.CaptureFixture[str]) -> None:
    """None can be copied: difficult, cut by the edge, beyond it, without area, covered by another, and too large."""
    images.add_png(
        "a",
        voc_object("cat", 60, 50, 72, 60, difficult=1),
        voc_object("cat", 1, 20, 12, 30),
        voc_object("cat", 190, 20, 200, 30),
        voc_object("cat", 100, 145, 110, 160),
        voc_object("cat", 120, 20, 120, 30),
        voc_object("cat", 100, 60, 112, 72),
        voc_object("dog", 90, 50, 170, 130),
    )
    source = images.build("-paste_small=4")
    assert len(boxes_of(source, 0)[1]) == 7
    assert source.annotated_datum(0).datum.data == (images.root / "a.png").read_bytes()
    assert images.listed() == []
    assert (
        "no small object could be copied: all are difficult, cut by the image's edge or covered"
        in capfd.readouterr().err
    )


def test_difficult_objects_stay_difficult(images: Set) -> None:
    images.add_png("a", CAT, voc_object("cat", 20, 100, 30, 110, difficult=1))
    _, boxes = boxes_of(images.build("-paste_small=3"), 0)
    assert boxes.difficult.tolist() == [False, True, False, False, False]


def test_no_small_objects(images: Set, capfd: pytest.CaptureFixture[str]) -> None:
    images.add_png("a", voc_object("dog", 20, 20, 180, 140))
    images.add_png("b")
    source = images.build("-paste_small=3", "-oversample_small=2")
    assert len(source) == 2
    assert "no image has a small object (under 32 pixels, square root of area, at 300 x 300)" in capfd.readouterr().err


def test_no_room(images: Set, capfd: pytest.CaptureFixture[str]) -> None:
    images.add_png("a", CAT, voc_object("dog", 0, 0, 200, 51), voc_object("dog", 0, 59, 200, 150))
    images.build("-paste_small=3", "-paste_soft_edge=0")
    assert "0 copies pasted into 0 images; no free place for 3" in capfd.readouterr().err
    _, boxes = boxes_of(images.build("-paste_small=3", "-paste_overlap=1", "-redo"), 0)
    assert len(boxes) == 6


def test_small_is_measured_at_the_input_of_the_net(images: Set, capfd: pytest.CaptureFixture[str]) -> None:
    # 12 × 10 of 200 × 150 is 19 pixels at 300 and 32.4 at 512
    images.add_png("a", CAT)
    images.build("-paste_small=1", "-small_at=512")
    assert "no image has a small object (under 32 pixels, square root of area, at 512 x 512)" in capfd.readouterr().err
    images.build("-paste_small=1", "-small_at=512", "-small_side=33", "-redo")
    assert len(images.listed()) == 1


def test_gray_images_and_sizes(images: Set) -> None:
    images.add_png("a", CAT, image=ground(1)[:, :, 0])
    gray, boxes = boxes_of(images.build("-paste_small=2", "-gray"), 0)
    assert gray.shape == (150, 200, 1)
    assert len(boxes) == 3
    resized, boxes = boxes_of(images.build("-paste_small=2", "-resize_width=400", "-resize_height=150", "-redo"), 0)
    assert resized.shape == (150, 400, 3)
    for xmin, ymin, xmax, ymax in boxes.corners:
        assert resized[round(ymin) + 2 : round(ymax) - 2, round(xmin) + 2 : round(xmax) - 2].mean() > 200
    raw = LmdbSource(images.root / "db")
    assert raw.annotated_datum(0).datum.encoded


def test_raw_pixels_and_jpeg(images: Set) -> None:
    images.add_png("a", CAT)
    arguments = [
        "-anno_type=detection", f"-label_map_file={images.root / 'labelmap.prototxt'}", "-paste_small=1",
        f"{images.root}/", images.write_list(),
    ]  # fmt: skip
    assert main([*arguments, str(images.root / "raw")]) == 0
    datum = LmdbSource(images.root / "raw").annotated_datum(0).datum
    assert not datum.encoded
    assert len(datum.data) == 3 * 200 * 150
    assert main([*arguments, "-encoded", "-encode_type=jpg", str(images.root / "jpg")]) == 0
    jpeg = LmdbSource(images.root / "jpg").annotated_datum(0).datum
    assert jpeg.data[:2] == b"\xff\xd8"
    raw, decoded = decode_datum(datum, "raw"), decode_datum(jpeg, "jpg")
    assert np.abs(raw.astype(int) - decoded).mean() < 3


def test_soft_edges_fade_and_keep_the_object() -> None:
    image = np.full((100, 100, 3), 40, np.uint8)
    image[40:50, 40:50] = 200
    image[38:40] = image[50:52] = 120
    record = caffe_pb2.AnnotatedDatum(type=caffe_pb2.AnnotatedDatum.BBOX)
    box = record.annotation_group.add(group_label=1).annotation.add().bbox
    box.xmin, box.ymin, box.xmax, box.ymax = 0.4, 0.4, 0.5, 0.5
    results = {}
    for soft_edge in (0, 4):
        copied = caffe_pb2.AnnotatedDatum()
        copied.CopyFrom(record)
        small = SmallObjects(copies=1, soft_edge=soft_edge)
        pasted, pasting = paste(image, copied, small, np.random.default_rng(0))
        assert len(pasting.copies) == 1
        xmin, ymin, xmax, ymax = (round(v) for v in pasting.copies[0].box)
        assert pasted[ymin + 1 : ymax - 1, xmin + 1 : xmax - 1].min() > 190
        results[soft_edge] = pasted
        assert (image[40:50, 40:50] == 200).all()
    # the band above the object fades with distance
    changed = np.flatnonzero((results[4] != image).any((1, 2)))
    assert len(changed) > len(np.flatnonzero((results[0] != image).any((1, 2))))


def test_copyable_needs_area_and_nothing_over_it() -> None:
    corners = np.array([[0.2, 0.2, 0.25, 0.25], [0.24, 0.2, 0.29, 0.25], [0.6, 0.6, 0.65, 0.65], [0.6, 0.6, 0.7, 0.6]])
    boxes = Boxes(corners.astype(np.float32), np.ones((4, 2), np.float32), np.zeros(4, bool))
    assert copyable(boxes, 300, 300, SmallObjects()).tolist() == [0, 1, 2]
    corners[1, 0] = 0.23
    boxes = Boxes(corners.astype(np.float32), np.ones((4, 2), np.float32), np.zeros(4, bool))
    assert copyable(boxes, 300, 300, SmallObjects()).tolist() == [2]
    assert areas(corners[3]) == 0


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("-paste_small=-1", "argument -paste_small/--paste_small: '-1' is not a whole number of at least 0"),
        ("-paste_small=many", "'many' is not a whole number of at least 0"),
        ("-paste_small=1.5", "'1.5' is not a whole number of at least 0"),
        ("-oversample_small=0", "'0' is not a whole number of at least 1"),
        ("-small_side=0", "'0' is not a number over 0"),
        ("-small_side=nan", "'nan' is not a number over 0"),
        ("-small_side=inf", "'inf' is not a number over 0"),
        ("-small_at=0", "'0' is not a whole number of at least 1"),
        ("-paste_overlap=1.1", "'1.1' is not a number from 0 to 1"),
        ("-paste_soft_edge=-2", "'-2' is not a whole number of at least 0"),
        ("-seed=-3", "'-3' is not a whole number of at least 0"),
    ],
)
def test_flags_out_of_range(flag: str, message: str, images: Set, capsys: pytest.CaptureFixture[str]) -> None:
    images.add_png("a", CAT)
    with pytest.raises(SystemExit) as ended:
        main(images.arguments(flag))
    assert ended.value.code == 1
    assert message in capsys.readouterr().err
    assert not (images.root / "db").exists()


def test_classification_has_no_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.txt").write_text("a.png 1\n")
    assert main(["-paste_small=1", f"{tmp_path}/", str(tmp_path / "list.txt"), str(tmp_path / "db")]) == 1
    assert "-paste_small and -oversample_small need boxes: -anno_type=detection" in capsys.readouterr().err


def test_with_dashes(images: Set) -> None:
    images.add_png("a", CAT)
    flags = ["--anno-type=detection", f"--label-map-file={images.root / 'labelmap.prototxt'}", "--encode-type=png"]
    places = [str(images.root), images.write_list(), str(images.root / "out" / "db"), str(images.root / "examples")]
    assert create_annoset([*flags, "--encoded", "--paste-small=2", "--oversample-small", "2", "--seed=5", *places]) == 0
    assert len(LmdbSource(images.root / "examples" / "db")) == 2
    assert len((images.root / "out" / "db_pasted.txt").read_text().splitlines()) == 3
