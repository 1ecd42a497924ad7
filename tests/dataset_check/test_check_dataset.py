"""check_dataset: every kind of finding on a small set that has it, and what is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from caffe.cli import check_dataset, convert_annoset
from caffe.data.augment.boxes import Boxes
from caffe.data.label_map import LabelMap
from caffe.dataset_check import samples
from caffe.dataset_check.examine import Examined, examine
from caffe.dataset_check.findings import KINDS, Findings, best_overlaps, collect
from caffe.dataset_check.sets import open_set
from caffe.dataset_check.statistics import statistics
from caffe.default_boxes.layout import Layout, Shapes, Source
from caffe.default_boxes.reach import box_overlaps
from tests.conftest import ROOT
from tests.data.build.test_odd_files import TURNED_SIZE, jpeg
from tests.data.conftest import LABEL_MAP, Folder, photograph, voc_object, voc_xml
from tests.data.formats import made
from tests.data.formats.test_reading import MAKERS

CAT, DOG = voc_object("cat", 8, 6, 40, 30), voc_object("dog", 20, 10, 60, 50)
#: one map of 4 × 4 cells with square boxes of 20 pixels, at an input of 80 × 80
LAYOUT = Layout("made", 80, 80, (Source("map", 4, 4, 20, 20, Shapes((20.0,))),))
TRAIN_NET = """
name: "tiny"
layer {
  name: "data" type: "AnnotatedData" top: "data" top: "label" include { phase: TRAIN }
  transform_param {
    mirror: true mean_value: 104 mean_value: 117 mean_value: 123
    resize_param { prob: 1 resize_mode: WARP height: 80 width: 80 interp_mode: LINEAR }
    expand_param { prob: 1 max_expand_ratio: 2 }
  }
  data_param { source: "nowhere" batch_size: 1 backend: LMDB }
  annotated_data_param { batch_sampler { max_sample: 1 max_trials: 1 } }
}
layer {
  name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 2 kernel_size: 3 stride: 20 pad: 1 }
}
layer {
  name: "prior" type: "PriorBox" bottom: "conv" bottom: "data" top: "prior"
  prior_box_param { min_size: 20 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 }
}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "own").mkdir()
    return Folder(tmp_path / "own")


def checked(folder: Folder, layout: Layout | None = None) -> Findings:
    items = open_set(str(folder.root)).items
    return collect({"own": [examine(item) for item in items]}, LabelMap.parse(LABEL_MAP, "map"), layout)


def images(findings: Findings, kind: str) -> list[str]:
    return [entry.image for entry in findings.of(kind)]


def test_nothing_to_say(folder: Folder) -> None:
    for number in range(20):
        folder.add(f"i{number}", voc_xml(CAT, DOG))
    findings = checked(folder)
    assert findings.entries == {}
    assert findings.class_names == ["Cat", "Dog"]


def test_images(folder: Folder) -> None:
    folder.add("whole", voc_xml(CAT))
    folder.add("again", voc_xml(DOG), image=photograph(0))
    folder.add("damaged", voc_xml(CAT))
    (folder.root / "damaged.jpg").write_bytes(b"not a picture")
    folder.add("early", voc_xml(CAT))
    (folder.root / "early.jpg").write_bytes((folder.root / "early.jpg").read_bytes()[:-30])
    folder.add("blank", voc_xml(CAT), image=np.full((60, 80, 3), 90, np.uint8))
    folder.add("turned", voc_xml(CAT, size=TURNED_SIZE))
    (folder.root / "turned.jpg").write_bytes(jpeg(photograph(107), 6))
    folder.add("stored", voc_xml(CAT))
    (folder.root / "stored.jpg").write_bytes(jpeg(photograph(108), 6))
    folder.add("resized", voc_xml(CAT, size="<size><width>800</width><height>600</height></size>"))
    folder.add("empty", voc_xml())
    folder.add("broken", "<annotation><object>")
    folder.add("alone", voc_xml())
    (folder.root / "alone.xml").unlink()
    findings = checked(folder)
    expected = {
        "unreadable": ["damaged.jpg"], "annotation": ["alone.jpg", "broken.jpg"], "duplicate": ["whole.jpg"],
        "blank": ["blank.jpg"], "early": ["early.jpg"], "turned": ["turned.jpg"], "stored": ["stored.jpg"],
        "size": ["resized.jpg"], "empty": ["empty.jpg"],
    }  # fmt: skip
    assert {kind: images(findings, kind) for kind in findings.entries if kind != "rare"} == expected
    assert "the same pixels as own: again.jpg" in str(findings.of("duplicate")[0])


def test_boxes(folder: Folder) -> None:
    folder.add(
        "a",
        voc_xml(
            CAT, voc_object("cow", 1, 2, 30, 40), voc_object("none_of_the_above", 5, 5, 20, 20),
            voc_object("cat", 9, 9, 9, 30), voc_object("cat", 40, 6, 8, 30), voc_object("cat", 8, 6, 100, 30),
            voc_object("cat", 90, 6, 100, 30), CAT, voc_object("dog", 8, 6, 40, 30), voc_object("dog", 0, 0, 81, 60),
        ),
    )  # fmt: skip
    findings = checked(folder)
    numbers = {
        kind: [entry.object for entry in entries] for kind, entries in findings.entries.items() if kind != "rare"
    }
    assert numbers == {
        "unknown": [2], "background": [3], "no area": [4], "inverted": [5], "beyond": [6], "outside": [7], "repeated": [8],
    }  # fmt: skip
    assert findings.of("repeated")[0].detail == "cat at 8, 6, 40, 30 of 80 × 60, as object 1"


def test_classes(folder: Folder) -> None:
    folder.add("a", voc_xml(CAT))
    findings = checked(folder)
    assert [(e.image, e.detail) for e in findings.of("rare")] == [("Cat", "1 object")]
    assert images(findings, "unused") == ["Dog"]


def test_at_the_input(folder: Folder) -> None:
    # the image is 80 × 60, the input 80 × 80; boxes of 20 are centered at 10, 30, 50, 70
    folder.add("a", voc_xml(
        voc_object("cat", 20, 15, 40, 30), voc_object("cat", 10, 9, 14, 12), voc_object("cat", 0, 0, 80, 60),
        voc_object("dog", 20, 15, 32, 24), voc_object("dog", 20, 15, 20, 24),
    ))  # fmt: skip
    findings = checked(folder, LAYOUT)
    of = {kind: [entry.object for entry in entries] for kind, entries in findings.entries.items()}
    assert {kind: of[kind] for kind in ("tiny 8", "tiny 16", "tiny 32", "unreached")} == {
        "tiny 8": [2], "tiny 16": [4], "tiny 32": [1], "unreached": [2, 3, 4],
    }  # fmt: skip
    assert "unmatched" not in of
    values = statistics(findings)["classes"]["Cat"]
    assert values["under"] == {"8": 1, "16": 1, "32": 2}
    assert values["size at the input"][2] == 20


def test_best_overlaps_are_those_with_every_box() -> None:
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 60, (200, 2))
    corners = np.concatenate([low, low + rng.uniform(1, 40, (200, 2))], axis=1)
    boxes = np.concatenate([boxes for _, boxes in LAYOUT.boxes()])
    np.testing.assert_allclose(best_overlaps(corners, LAYOUT), box_overlaps(corners, boxes).max(axis=1), atol=1e-9)
    assert best_overlaps(np.empty((0, 4)), LAYOUT).shape == (0,)


def test_copies_in_two_sets(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
    photographs = [cv2.resize(photograph(seed, 30, 40), (320, 240), interpolation=cv2.INTER_CUBIC) for seed in range(4)]
    for number, image in enumerate(photographs):
        cv2.imwrite(str(tmp_path / "train" / f"{number}.png"), image)
    cv2.imwrite(str(tmp_path / "test" / "same.bmp"), photographs[0])  # another file, the same pixels
    cv2.imwrite(str(tmp_path / "test" / "saved_again.jpg"), photographs[1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    cv2.imwrite(str(tmp_path / "test" / "darker.jpg"), photographs[2] // 2)
    cv2.imwrite(str(tmp_path / "test" / "another.jpg"), cv2.resize(photograph(9, 30, 40), (320, 240)))
    sets = {n: [examine(item) for item in open_set(str(tmp_path / n)).items] for n in ("train", "test")}
    findings = collect(sets)
    assert [str(entry) for entry in findings.of("leak")] == ["test: same.bmp: the same pixels as train: 0.png"]
    assert [str(entry) for entry in findings.of("near")] == ["test: saved_again.jpg: like train: 1.png"]
    assert findings.of("duplicate") == []


def test_list_folder_and_database_agree(folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.add("a", voc_xml(CAT, DOG))
    folder.add("b", voc_xml(voc_object("cat", 1, 1, 1, 5)))
    folder.add("c", voc_xml())
    assert convert_annoset.main(folder.arguments()) == 0
    database = str(folder.root / "db")
    label_map = f"-label_map_file={folder.root / 'labelmap.prototxt'}"
    outputs: list[dict[str, Any]] = []
    for words in ([str(folder.root)], [database], ["-root", str(folder.root), str(folder.root / "list.txt")]):
        out = tmp_path / f"out{len(outputs)}"
        assert check_dataset.main([*words, label_map, f"-out={out}"]) == 0
        outputs.append(json.loads((out / "check.json").read_text()))
    capsys.readouterr()
    found = [{kind: each["count"] for kind, each in output["findings"].items()} for output in outputs]
    assert found[0] == found[1] == found[2] == {"no area": 1, "empty": 1, "rare": 2}
    assert [next(iter(output["sets"].values()))["objects"] for output in outputs] == [3, 3, 3]
    classes = [{k: v["aspect ratio"] for k, v in output["classes"].items()} for output in outputs]
    assert classes[0] == classes[2]
    assert classes[0]["Cat"] == pytest.approx(classes[1]["Cat"], abs=0.02)


def test_raw_records_and_txt(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.add("a", "1 8 6 40 30\n7 1 2 30 40\n", suffix="txt")
    folder.add("b", "2 8 6 40 30\n", suffix="txt")
    label_map = f"-label_map_file={folder.root / 'labelmap.prototxt'}"
    assert check_dataset.main(["-root", str(folder.root), "-label_type=txt", label_map, folder.write_list()]) == 0
    assert "a.jpg, object 2: 7" in capsys.readouterr().out
    (folder.root / "a.txt").write_text("1 8 6 40 30\n")
    assert convert_annoset.main(folder.arguments("-label_type=txt", "-noencoded", "-encode_type=")) == 0
    assert check_dataset.main([label_map, str(folder.root / "db")]) == 0
    said = capsys.readouterr().out
    assert "FAULT" not in said
    assert "db: 2 images, 2 objects" in said


def test_everything_written(folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(20):
        folder.add(
            f"<b>{number}", voc_xml(CAT, voc_object("<script>alert(1)</script>".replace("<", "&lt;"), 1, 2, 30, 40))
        )
    (tmp_path / "train.prototxt").write_text(TRAIN_NET)
    words = [str(folder.root), "-net", str(tmp_path / "train.prototxt"), "-out", str(tmp_path / "out")]
    assert check_dataset.main(words) == 0
    text, page = (tmp_path / "out/check.txt").read_text(), (tmp_path / "out/check.html").read_text()
    assert capsys.readouterr().out.startswith(text)
    assert json.loads((tmp_path / "out/check.json").read_text())["input"] == {
        "network": "tiny",
        "height": 80,
        "width": 80,
    }
    assert page.count("data:image/jpeg;base64,") == 2 * samples.COUNT
    assert "<b>1" not in page  # names are text, not markup
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_short_form(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.add("a", voc_xml(CAT))
    assert check_dataset.main(["-short", str(folder.root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "own: 1 image, 1 object"
    assert len(lines) == 3


def test_augmented_images_are_as_training_sees_them(tmp_path: Path) -> None:
    (tmp_path / "train.prototxt").write_text(TRAIN_NET)
    transformer = samples.read_transformer(str(tmp_path / "train.prototxt"))
    assert transformer is not None
    image = np.full((60, 80, 3), (200, 10, 60), np.uint8)
    boxes = Boxes(np.array([[0, 0, 1, 1]], np.float32), np.ones((1, 2), np.float32), np.zeros(1, bool))
    for number in range(5):
        after, left = samples.augmented(transformer, image, boxes, number, "a")
        assert after.shape == (80, 80, 3)
        x0, y0, x1, y1 = (left.corners[0] * 80).round().astype(int)
        inside = after[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2]
        assert np.abs(inside.astype(int) - (200, 10, 60)).max() <= 1  # the object is where its box is
        outside = np.ones((80, 80), bool)
        outside[max(0, y0 - 2) : y1 + 2, max(0, x0 - 2) : x1 + 2] = False
        assert (
            np.abs(after[outside].astype(int) - (104, 117, 123)).max(initial=0) <= 1
        )  # the canvas has the mean's color


def test_chosen_images() -> None:
    box = np.array([[0, 0, 1, 1]], np.float32)
    many: list[Examined] = [Examined(str(n), corners=box if n % 2 else box[:0]) for n in range(100)]
    assert len(set(samples.chosen(many))) == samples.COUNT
    assert all(n % 2 for n in samples.chosen(many))
    assert samples.chosen(many[:1]) == [0]
    assert samples.chosen([Examined("a", image_fault="damaged")]) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], "cannot read list 'nowhere'"),
        (["empty"], "no images in 'empty'"),
        (["a", "a"], "'a' is given twice"),
        (["-label_map_file=nowhere", "empty"], "cannot read label map"),
        (["-net=nowhere", "empty"], "nowhere"),
    ],
)
def test_bad_words(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    try:
        status: str | int | None = check_dataset.main(words)
    except SystemExit as ended:
        status = ended.code
    assert status == 1
    assert says in capsys.readouterr().err


def test_kinds_say_what_to_do() -> None:
    assert all(kind.what and kind.remedy and name == kind.name for name, kind in KINDS.items())


def test_released_net(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.add("a", voc_xml(CAT))
    assert check_dataset.main([str(folder.root), "-net", str(ROOT / "models/SSD300/VOC/train.prototxt")]) == 0
    assert "size at the input" in capsys.readouterr().out


@pytest.mark.parametrize(("make", "form"), MAKERS, ids=lambda value: getattr(value, "__name__", value))
def test_folders_of_every_format(make: Callable[[Path], None], form: str, tmp_path: Path) -> None:
    """Every folder that import_annotations reads is checked as it is."""
    make(tmp_path)
    examined = [examine(item) for item in open_set(str(tmp_path)).items]
    assert [each.image_fault for each in examined] == ["", ""]
    assert [each.faults for each in examined] == [(), ()]
    examined.sort(key=lambda each: Path(each.name).name)
    for found, wanted in zip(examined, made.BOXES.values(), strict=True):
        assert sorted(found.classes) == [name for name, *_ in wanted]
        corners = found.corners[np.argsort(found.classes)] * [80, 60, 80, 60]
        np.testing.assert_allclose(corners, [corners for _, *corners in wanted], atol=0.01)


def test_shares_of_a_turned_photograph(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(jpeg(photograph(0), 6))
    made.text(tmp_path / "1.txt", "0 0.5 0.25 0.5 0.5\n")
    (found,) = (examine(item) for item in open_set(str(tmp_path)).items)
    assert found.size == (80, 60)
    assert not found.other_size
    np.testing.assert_allclose(found.corners, [[0.25, 0, 0.75, 0.5]])


def test_what_a_folders_annotations_lack(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made.labelme_json(tmp_path)
    made.picture(tmp_path / "three.jpg", 3)
    document = json.loads((tmp_path / "one.json").read_text())
    document["shapes"][0]["points"] = [["x", 1], [2, 3]]
    made.text(tmp_path / "one.json", document)
    found = {each.name: each for each in (examine(item) for item in open_set(str(tmp_path)).items)}
    assert found["one.jpg"].faults == ("one.json: shape 1 (rectangle 'cat') has no box of four numbers",)
    assert found["three.jpg"].faults == ("has no annotation",)
    assert "2 shapes without area (point), left out" in capfd.readouterr().err
