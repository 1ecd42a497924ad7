"""The command: from a folder to what create_data and score_voc read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import cv2
import pytest

from caffe.cli import convert_annoset, import_annotations
from caffe.data.augment.boxes import Boxes
from caffe.data.label_map import LabelMap
from caffe.data.lmdb_source import LmdbSource
from caffe.data.name_size import read_name_sizes
from caffe.detection import voc
from caffe.proto import caffe_pb2
from tests.data.conftest import photograph, voc_object, voc_xml
from tests.data.formats import made
from tests.pictures import read_picture


def run(folder: Path, out: Path, *flags: str) -> int:
    return import_annotations.main([*flags, str(folder), str(out)])


def records(out: Path, part: str) -> dict[str, Boxes]:
    """The boxes in an LMDB that convert_annoset makes of a list, by image."""
    database = out / f"{part}_lmdb"
    flags = [f"-label_map_file={out}/labelmap.prototxt", "-check_label", "-encoded", "-encode_type=jpg"]
    files = [f"{out}/", str(out / "lists" / f"{part}.txt"), str(database)]
    assert convert_annoset.main(["-anno_type=detection", *flags, *files]) == 0
    source = LmdbSource(database)
    return {
        source.key(i).partition("_")[2]: Boxes.of(caffe_pb2.AnnotatedDatum.FromString(source.value(i)))
        for i in range(len(source))
    }


@pytest.mark.parametrize("make", [made.yolo_roboflow, made.coco_roboflow, made.csv, made.labelme_json, made.cvat_video])
def test_from_a_folder_to_records(make: Callable[[Path], None], tmp_path: Path) -> None:
    folder, out = tmp_path / "folder", tmp_path / "out"
    make(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert run(folder, out, "-test_share=0.5") == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    labels = LabelMap.read(out / "labelmap.prototxt")
    assert labels.names == ["none_of_the_above", "cat", "dog"]
    found = {**records(out, "trainval"), **records(out, "test")}
    assert len(found) == 2
    wanted = sorted(
        (labels.label_of(name), xmin / 80, ymin / 60, xmax / 80, ymax / 60)
        for boxes in made.BOXES.values() for name, xmin, ymin, xmax, ymax in boxes
    )  # fmt: skip
    read = sorted(
        (int(label), *map(float, corners))
        for boxes in found.values() for (label, _), corners in zip(boxes.labels, boxes.corners, strict=True)
    )  # fmt: skip
    assert len(read) == len(wanted)
    for one, other in zip(read, wanted, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_names_are_unique_and_listable(tmp_path: Path) -> None:
    """Blanks, the same name twice, the same in another case, another alphabet, endings in capitals."""
    names = ["my 1.JPG", "cam/1.jpg", "1.png", "1.jpg", "IMG.jpg", "img.png", "снимок.jpeg", "-x.bmp"]
    for seed, name in enumerate(names):
        made.picture(tmp_path / "in" / name, seed)
        made.text(
            (tmp_path / "in" / name).with_name(f"{Path(name).name}.xml"),
            voc_xml(voc_object("cat", seed + 1, 2, 60, 50)),
        )
    out = tmp_path / "out"
    assert run(tmp_path / "in", out) == 0
    assert {path.name for path in (out / "JPEGImages").iterdir()} == {
        "my_1.jpg", "cam_1.jpg", "1.jpg", "1_2.png", "IMG.jpg", "img_2.png", "снимок.jpeg", "x.bmp"
    }  # fmt: skip
    found = {**records(out, "trainval"), **records(out, "test")}
    assert len(found) == len(names)
    behind = dict(line.split("\t") for line in (out / "images.tsv").read_text(encoding="utf-8").splitlines())
    for key, boxes in found.items():
        original = Path(behind[Path(key).stem])
        seed = names.index(str(original.relative_to(tmp_path / "in")))
        assert boxes.corners[0, 0] == pytest.approx((seed + 1) / 80)
        decoded = read_picture(out / key)
        assert abs(decoded.astype(int) - photograph(seed).astype(int)).mean() < 8


def test_file_names_of_any_bytes(tmp_path: Path) -> None:
    for name in (b"lac\xe9.jpg", b"two.jpg"):
        path = Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(cv2.imencode(".jpg", photograph(0))[1].tobytes())
        path.with_suffix(".xml").write_text(voc_xml(voc_object("cat", 1, 2, 60, 50)))
    assert run(tmp_path / "in", tmp_path / "out") == 0
    assert {path.name for path in (tmp_path / "out/JPEGImages").iterdir()} == {"lac_.jpg", "two.jpg"}


def test_what_is_scored(tmp_path: Path) -> None:
    """Names and sizes of the test images are those of the XML that score_voc reads."""
    made.yolo_parallel(tmp_path / "in")
    out = tmp_path / "out"
    assert run(tmp_path / "in", out) == 0
    (entry,) = read_name_sizes(out / "lists/test_name_size.txt")
    assert (entry.name, entry.height, entry.width) == ("two", 60, 80)
    assert (out / "ImageSets/Main/test.txt").read_text() == "two\n"
    assert ElementTree.parse(out / "Annotations/two.xml").findtext("filename") == "two.jpg"
    truth = voc.read_ground_truth(out / "Annotations", out / "ImageSets/Main/test.txt")
    assert [*truth.objects["cat"]] == ["two"]


def test_class_names_that_are_no_file_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index, name in enumerate(("cat/dog", "cat\\dog", ".hidden", "none_of_the_above", "Cat", "cat")):
        made.picture(tmp_path / f"in/{index}.jpg")
        made.text(tmp_path / f"in/{index}.xml", voc_xml(voc_object(name, 1, 2, 60, 50)))
    assert run(tmp_path / "in", tmp_path / "out") == 0
    items = LabelMap.read(tmp_path / "out/labelmap.prototxt").items
    assert [item.name for item in items] == [
        "none_of_the_above", "_hidden", "Cat", "cat_2", "cat_dog", "cat_dog_2", "none_of_the_above_2"
    ]  # fmt: skip
    assert [item.display_name for item in items] == [
        "background", ".hidden", "Cat", "cat", "cat/dog", "cat\\dog", "none_of_the_above"
    ]  # fmt: skip
    assert "class 'cat/dog' is called 'cat_dog' in files" in capsys.readouterr().err
    assert len(records(tmp_path / "out", "trainval")) == 5


def test_faults_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made.voc(tmp_path / "in")
    made.picture(tmp_path / "in/photos/three.jpg")
    made.text(tmp_path / "in/labels/three.xml", voc_xml(voc_object("cat", 1, "x", 3, 4)))
    assert run(tmp_path / "in", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "1 fault in" in said
    assert "labels/three.xml: object 1 ('cat') has ymin 'x'" in said
    assert not (tmp_path / "out").exists()
    assert run(tmp_path / "in", tmp_path / "out", "-skip_faulty") == 0
    assert "left out: labels/three.xml" in capsys.readouterr().err
    assert not (tmp_path / "out/JPEGImages/three.jpg").exists()


def test_only_its_own_output_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made.voc(tmp_path / "in")
    out = tmp_path / "in/ready"  # inside the folder, and not read the second time
    assert run(tmp_path / "in", out) == 0
    (out / "Annotations/stale.xml").touch()
    assert run(tmp_path / "in", out, "-copy") == 0
    assert not (out / "Annotations/stale.xml").exists()
    assert not (out / "JPEGImages/one.jpg").is_symlink()
    (tmp_path / "mine/Annotations").mkdir(parents=True)
    assert run(tmp_path / "in", tmp_path / "mine") == 1
    assert "not written by this command" in capsys.readouterr().err
    assert run(tmp_path / "in/photos", tmp_path / "in/photos") == 1


def test_folders_that_cannot_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        made.picture(tmp_path / f"in/{name}.jpg")
        made.text(tmp_path / f"in/{name}.xml", voc_xml())
    assert run(tmp_path / "in", tmp_path / "out") == 1
    assert "2 annotated images without any object" in capsys.readouterr().err
    assert run(tmp_path / "in", tmp_path / "out", "-format=yolo") == 1
    assert "Looked for: YOLO text." in capsys.readouterr().err


def test_names_for_yolo(tmp_path: Path) -> None:
    made.yolo_beside(tmp_path / "in")
    (tmp_path / "in/classes.txt").rename(tmp_path / "names.txt")
    assert run(tmp_path / "in", tmp_path / "out") == 0
    assert LabelMap.read(tmp_path / "out/labelmap.prototxt").names[1:] == ["class_0", "class_1"]
    assert run(tmp_path / "in", tmp_path / "out", f"-names={tmp_path / 'names.txt'}") == 0
    assert LabelMap.read(tmp_path / "out/labelmap.prototxt").names[1:] == ["cat", "dog"]
