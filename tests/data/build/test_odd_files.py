"""Photographs and annotations as cameras, broken downloads and other people's tools leave them."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from caffe.cli import convert_annoset, get_image_size
from caffe.data.build import xml_tree
from caffe.data.build.annotated_frame import Frame, frame_of, turns_undecided
from caffe.data.images import ImageFormat, decode_datum, read_image
from caffe.data.jpeg import ends_early
from caffe.data.lmdb_source import LmdbSource
from caffe.data.orientation import orientation_of, turned
from caffe.errors import DataError
from caffe.image_detector import load
from tests.data.conftest import Folder, photograph, voc_object, voc_xml
from tests.pictures import decoded

CAT = voc_object("cat", 6, 8, 30, 40)
TURNED_SIZE = "<size><width>60</width><height>80</height><depth>3</depth></size>"


def jpeg(image: np.ndarray, orientation: int | None = None) -> bytes:
    ok, data = cv2.imencode(".jpg", image)
    assert ok
    if orientation is None:
        return data.tobytes()
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([orientation]) + bytes(7)
    return data.tobytes()[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data.tobytes()[2:]


# ---- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_is_that_of_opencv(orientation: int) -> None:
    data = jpeg(photograph(3), orientation)
    assert orientation_of(data) == orientation
    stored = decoded(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    np.testing.assert_array_equal(turned(stored, orientation), decoded(data))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_orientation_in_other_formats(kind: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photograph()).save(tmp_path / "a", kind, exif=exif)
    assert orientation_of((tmp_path / "a").read_bytes()) == 6


def test_damaged_tags_are_none() -> None:
    whole = jpeg(photograph(), 6)
    assert orientation_of(whole.replace(b"II*\0", b"XX*\0")) == 1
    assert orientation_of(jpeg(photograph(), 9)) == 1
    for length in range(0, 60, 3):
        assert orientation_of(whole[:length]) in (1, 6)
    assert orientation_of(b"Exif") == 1


@pytest.mark.parametrize(
    ("orientation", "annotated", "frame"),
    [
        (1, (80, 60), Frame.ONLY), (6, (80, 60), Frame.TURNED), (6, (60, 80), Frame.STORED), (8, (800, 600), Frame.TURNED),
        (6, None, Frame.UNKNOWN), (6, (50, 50), Frame.UNKNOWN), (3, (60, 80), Frame.UNKNOWN),
    ],
)  # fmt: skip
def test_frame(orientation: int, annotated: tuple[int, int] | None, frame: Frame) -> None:
    assert frame_of(orientation, (60, 80), annotated) is frame


def test_undecided_images_follow_the_others() -> None:
    assert turns_undecided([])
    assert turns_undecided([Frame.ONLY, Frame.UNKNOWN, Frame.TURNED])
    assert not turns_undecided([Frame.STORED, Frame.STORED, Frame.TURNED])


def turned_folder(folder: Folder) -> None:
    folder.add("turned", voc_xml(CAT, size=TURNED_SIZE))
    folder.add("stored", voc_xml(CAT))
    folder.add("plain", voc_xml(CAT))
    for name in ("turned", "stored"):
        (folder.root / f"{name}.jpg").write_bytes(jpeg(photograph(1), 6))


def sizes(root: Path) -> list[tuple[int, int]]:
    source = LmdbSource(root / "db")
    return [(d.height, d.width) for d in (source.annotated_datum(i).datum for i in range(len(source)))]


def test_photographs_are_turned_where_boxes_were_drawn_on_the_turned_image(
    folder: Folder, capfd: pytest.CaptureFixture[str]
) -> None:
    turned_folder(folder)
    assert convert_annoset.main(folder.arguments()) == 0
    said = capfd.readouterr().err
    assert "1 of 3 images turned as their orientation tag says, as in their annotation: turned.jpg" in said
    assert "1 of 3 images not turned despite their orientation tag" in said
    assert sizes(folder.root) == [(80, 60), (60, 80), (60, 80)]
    source = LmdbSource(folder.root / "db")
    record = source.annotated_datum(0)
    pixels = decode_datum(record.datum, "record")
    expected = turned(read_image(folder.root / "turned.jpg", ImageFormat())[1], 6)
    assert pixels.shape == expected.shape == (80, 60, 3)
    assert np.abs(pixels.astype(int) - expected).mean() < 3
    box = record.annotation_group[0].annotation[0].bbox
    assert (box.xmin, box.ymin, box.xmax, box.ymax) == pytest.approx((0.1, 0.1, 0.5, 0.5))
    # a record that is not turned keeps the file's bytes
    assert source.annotated_datum(1).datum.data == (folder.root / "stored.jpg").read_bytes()


def test_noturn_keeps_the_stored_pixels(folder: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    turned_folder(folder)
    assert convert_annoset.main(folder.arguments("-noturn")) == 0
    said = capfd.readouterr().err
    assert "1 of 3 annotations with another size than the image's" in said
    assert "orientation" not in said
    assert sizes(folder.root) == [(60, 80)] * 3


@pytest.mark.parametrize(("others", "turns"), [([], True), (["stored"], False), (["stored", "turned"], True)])
def test_images_whose_annotation_does_not_tell(
    folder: Folder, capfd: pytest.CaptureFixture[str], others: list[str], turns: bool
) -> None:
    folder.add("unknown", voc_xml(CAT, size=""))
    for name in others:
        folder.add(name, voc_xml(CAT, size=TURNED_SIZE) if name == "turned" else voc_xml(CAT))
    for line in folder.lines:
        (folder.root / line.split()[0]).write_bytes(jpeg(photograph(1), 8))
    assert convert_annoset.main(folder.arguments()) == 0
    said = capfd.readouterr().err
    assert f"They were {'turned; -noturn' if turns else 'not turned: unknown.jpg'}" in said
    assert sizes(folder.root)[0] == ((80, 60) if turns else (60, 80))
    # the list of sizes agrees with the records
    assert get_image_size.main([f"{folder.root}/", folder.write_list(), str(folder.root / "sizes.txt")]) == 0
    listed = [tuple(map(int, line.split()[1:])) for line in (folder.root / "sizes.txt").read_text().splitlines()]
    assert listed == sizes(folder.root)
    assert get_image_size.main(["-noturn", f"{folder.root}/", folder.write_list(), str(folder.root / "sizes.txt")]) == 0
    assert {line.split(maxsplit=1)[1] for line in (folder.root / "sizes.txt").read_text().splitlines()} == {"60 80"}


def test_turned_and_resized(folder: Folder) -> None:
    folder.add("a", voc_xml(CAT, size=TURNED_SIZE))
    (folder.root / "a.jpg").write_bytes(jpeg(photograph(1), 6))
    assert convert_annoset.main(folder.arguments("-min_dim=120")) == 0
    assert sizes(folder.root) == [(160, 120)]


def test_the_detector_turns_files(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(photograph(1), 6))
    assert load(tmp_path / "a.jpg")[1].shape == (80, 60, 3)
    assert load(tmp_path / "a.jpg", turn=False)[1].shape == (60, 80, 3)


# ---- files that end early


def test_where_a_jpeg_ends() -> None:
    whole = jpeg(photograph())
    assert not ends_early(whole)
    assert not ends_early(whole + b"\0" * 10_000)  # bytes behind the end, as phones write them
    assert not ends_early(whole + whole[:-2])
    assert not ends_early(b"\x89PNG" + whole[:-2])
    thumbnail = b"\xff\xe1" + (len(whole) + 2).to_bytes(2, "big") + whole
    assert ends_early(whole[:2] + thumbnail + whole[2:-40])  # the end marker of a thumbnail is not the image's
    assert all(ends_early(whole[:length]) for length in range(2, len(whole)))


def test_progressive_and_restart_markers(tmp_path: Path) -> None:
    for name, options in {
        "a": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], "b": [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]
    }.items():  # fmt: skip
        data = cv2.imencode(".jpg", photograph(2), options)[1].tobytes()
        assert not ends_early(data + b"more"), name
        assert ends_early(data[:-2]), name


def test_a_jpeg_that_ends_early_is_decoded_as_far_as_it_goes(folder: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    folder.add("a", voc_xml(CAT))
    folder.add("b", voc_xml(CAT))
    whole = (folder.root / "a.jpg").read_bytes()
    (folder.root / "a.jpg").write_bytes(whole[: -len(whole) // 4])
    (folder.root / "b.jpg").write_bytes(whole + bytes(5000))
    assert convert_annoset.main(folder.arguments()) == 0
    assert "1 of 2 images end early (truncated JPEG); the missing part is gray: a.jpg\n" in capfd.readouterr().err
    source = LmdbSource(folder.root / "db")
    cut, complete = (decode_datum(source.annotated_datum(i).datum, "record") for i in range(2))
    assert cut.shape == complete.shape
    np.testing.assert_array_equal(cut[:16], complete[:16])
    assert not (cut == complete).all()


# ---- XML with bytes that nobody reads

USED = {"annotation", "object", "name"}


@pytest.mark.parametrize(
    "data",
    [
        b"<annotation><filename>black & white</filename><object><name>cat</name></object></annotation>",
        b'<?xml version="1.0" encoding="GB2312"?><annotation><object><name>cat</name></object></annotation>',
        b"<annotation><path>\xb5\xc4.jpg</path><object><name>cat</name></object></annotation>",
        b'<?xml version="1.0" encoding="made-up"?><annotation><object><name>cat</name></object></annotation>',
        b"<annotation><!-- \xb5 <object> & --><object><name>cat</name><pose>\xff</pose></object></annotation>",
        b"<annotation><source><name>\xe4</name><source/><source>&</source></source><object><name>cat</name></object>"
        b"</annotation>",
    ],
)
def test_what_is_not_read_need_not_be_well_formed(data: bytes) -> None:
    assert [each.findtext("name") for each in xml_tree.parse(data, USED).findall("object")] == ["cat"]


def test_names_in_a_declared_encoding() -> None:
    text = '<?xml version="1.0" encoding="gbk"?><annotation><object><name>猫</name></object></annotation>'
    assert xml_tree.parse(text.encode("gbk"), USED).findtext("object/name") == "猫"


@pytest.mark.parametrize(
    "data",
    [
        b"<annotation><object><name>black & white</name></object></annotation>",
        b"<annotation><object><name>\xb5\xc4</name></object></annotation>",
        b"<annotation><object><name>cat</name></annotation>",
        b"<annotation><path>&",
        b'<?xml version="1.0" encoding="made-up"?><annotation><object><name>\xb5</name></object></annotation>',
        b"",
    ],
)
def test_what_is_read_must_be_well_formed(data: bytes) -> None:
    with pytest.raises(DataError, match="XML"):
        xml_tree.parse(data, USED)


def test_document_types_are_refused_in_the_second_reading_too() -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY b "bbbb">]><annotation><path>&</path><object><name>&b;</name></object></annotation>'
    with pytest.raises(DataError, match="document types"):
        xml_tree.parse(bomb, USED)


@pytest.mark.parametrize("piece", [b"<a>", b"<", b"<a", b"<!--", b"</a>", b"<a/>", b"a"])
def test_hostile_xml_takes_linear_time(piece: bytes) -> None:
    began = time.process_time()
    with pytest.raises(DataError):
        xml_tree.parse(b"<annotation>&<" + piece * (1_000_000 // len(piece)), USED)
    assert time.process_time() - began < 5
