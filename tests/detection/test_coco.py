"""COCO scoring: pycocotools' numbers on a set so small that they are known, with ids and names as in results files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from caffe.cli.score_coco import main
from caffe.detection import coco, coco_files
from caffe.detection.coco_files import read_results
from caffe.detection.coco_voc import evaluate_voc
from caffe.errors import CaffeError, DataError
from tests.detection.made import made


@pytest.fixture(name="annotations")
def annotations_file(tmp_path: Path) -> Path:
    """A small and a large object in two images, two classes."""
    boxes = [(1, 7, 3, [10, 10, 20, 20]), (2, 8, 9, [0, 0, 200, 200])]
    data = {
        "images": [{"id": 7, "file_name": "x_000000000007.jpg"}, {"id": 8, "file_name": "x_000000000008.jpg"}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [
            {"id": i, "image_id": image, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
            for i, image, c, b in boxes
        ],
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(data))
    return path


def results(folder: Path, *entries: Any) -> Path:
    path = folder / "results.json"
    path.write_text(json.dumps(entries))
    return path


def entry(image: Any, category: Any, box: list[float]) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box, "score": 0.9}


@pytest.mark.parametrize("image", [7, "7", "000007", "x_000000000007", "x_000000000007.jpg"])
@pytest.mark.parametrize("category", [3, "3", "cat"])
def test_small_object_found(annotations: Path, tmp_path: Path, image: Any, category: Any) -> None:
    score = coco.evaluate(results(tmp_path, entry(image, category, [10, 10, 20, 20])), annotations)
    assert score.measures["AP"] == pytest.approx(0.5)
    assert score.measures["AP small"] == pytest.approx(1)
    assert score.measures["AP large"] == 0
    assert score.measures["AP medium"] == -1
    assert score.classes["cat"] == pytest.approx((1, 1))
    assert score.classes["dog"] == (0, 0)


def test_command(annotations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = results(tmp_path, entry(7, 3, [10, 10, 20, 20]))
    (tmp_path / "ids").write_text("7\n")
    assert main([str(path), str(annotations), "--list", str(tmp_path / "ids"), "--out", str(tmp_path / "o.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 image, 1 detection"
    assert "AP small   100.0" in lines
    assert json.loads((tmp_path / "o.json").read_text())["measures"]["AP"] == pytest.approx(1)


def test_where_to_write_is_checked_first(annotations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.json").write_text("[]")
    arguments = [str(tmp_path / "r.json"), str(annotations), "--out"]
    assert main([*arguments, str(tmp_path)]) == 1
    found = capsys.readouterr()
    assert "it is a directory" in found.err
    assert found.out == ""
    assert main([*arguments, str(tmp_path / "new" / "o.json")]) == 0
    assert json.loads((tmp_path / "new" / "o.json").read_text())["detections"] == 0


def test_no_detections(annotations: Path, tmp_path: Path) -> None:
    assert coco.evaluate(results(tmp_path), annotations).measures["AP"] == 0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (entry(99, 3, [0, 0, 1, 1]), "detection 0: image_id 99 is not in the annotations"),
        (entry(7, "cow", [0, 0, 1, 1]), "category_id 'cow' is not in the annotations"),
        (entry(7, 3, [0, 0, 1]), "bbox is not"),
        ({"image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1]}, "has no score"),
        (5, "is not a JSON object"),
    ],
)
def test_bad_results(annotations: Path, tmp_path: Path, bad: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        coco.evaluate(results(tmp_path, bad), annotations)


def test_files_that_are_none(annotations: Path, tmp_path: Path) -> None:
    path = results(tmp_path)
    with pytest.raises(DataError, match="cannot read annotation file"):
        coco.evaluate(path, tmp_path / "none.json")
    with pytest.raises(DataError, match="not a COCO instances file: it has no 'images'"):
        coco.evaluate(path, path)
    path.write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        coco.evaluate(path, annotations)


# ---- sizes, limits, several models


def many(folder: Path, seed: int = 0) -> tuple[Path, Path]:
    """An instances file of two classes, all sizes and a crowd, and results with the usual errors."""
    rng = np.random.default_rng(seed)
    boxes, found = [], []
    for image in range(1, 9):
        for _ in range(int(rng.integers(1, 9))):
            side = float(rng.choice([5, 12, 25, 50, 120]))
            box = [*rng.integers(0, 200, 2).tolist(), side, side * float(rng.uniform(0.6, 1.5))]
            category = int(rng.integers(1, 3))
            boxes.append((image, category, box, int(rng.random() < 0.1)))
            for _ in range(int(rng.integers(0, 3))):
                moved = [v + float(rng.normal(0, side / 12)) for v in box]
                found.append({"image_id": image, "category_id": category, "bbox": moved, "score": float(rng.random())})
    data = {
        "images": [{"id": i, "file_name": f"{i}.jpg"} for i in range(1, 9)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": i, "image_id": image, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": crowd}
            for i, (image, c, b, crowd) in enumerate(boxes, 1)
        ],
    }
    (folder / "many.json").write_text(json.dumps(data))
    return results(folder, *found), folder / "many.json"


def test_pycocotools_own_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, annotations = many(tmp_path)
    truth = COCO(str(annotations))
    evaluation = COCOeval(truth, truth.loadRes(str(path)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    score = coco.evaluate(path, annotations)
    assert list(score.measures.values()) == pytest.approx(evaluation.stats.tolist(), abs=1e-12)
    assert list(score.measures) == [
        "AP", "AP 0.50", "AP 0.75", "AP small", "AP medium", "AP large", "AR 1", "AR 10", "AR 100", "AR small",
        "AR medium", "AR large",
    ]  # fmt: skip
    assert 0.05 < score.measures["AP"] < 0.95
    by_class = [values["AP"] for values in score.class_measures.values()]
    assert np.mean(by_class) == pytest.approx(score.measures["AP"])


def test_own_sizes(tmp_path: Path) -> None:
    path, annotations = many(tmp_path)
    areas = coco.parse_areas("little: 0-32, rest:32-")
    score = coco.evaluate(path, annotations, areas=areas, max_dets=(2, 100))
    usual = coco.evaluate(path, annotations)
    assert list(score.measures)[3:] == ["AP little", "AP rest", "AR 2", "AR 100", "AR little", "AR rest"]
    assert score.measures["AP little"] == usual.measures["AP small"]
    assert score.measures["AP"] == usual.measures["AP"]
    assert usual.measures["AR 1"] < score.measures["AR 2"] < usual.measures["AR 10"]


def test_ai_tods_sizes(tmp_path: Path) -> None:
    """Each object is found with an overlap of 1 at one size only."""
    sides = {"very tiny": 5, "tiny": 10, "small": 20, "medium": 50}
    for size, side in sides.items():
        data = {
            "images": [{"id": 1}], "categories": [{"id": 1, "name": "ship"}],
            "annotations": [
                {"id": i, "image_id": 1, "category_id": 1, "bbox": [100 * i, 0, s, s]} for i, s in enumerate(sides.values())
            ],
        }  # fmt: skip
        (tmp_path / "a.json").write_text(json.dumps(data))
        found = entry(1, 1, [100 * list(sides).index(size), 0, side, side])
        score = coco.evaluate(results(tmp_path, found), tmp_path / "a.json", areas=coco.AITOD_AREAS)
        assert {s: score.measures[f"AR {s}"] for s in sides} == {s: float(s == size) for s in sides}


@pytest.mark.parametrize(
    "text", ["", "small", "small:0", "small:5-2", "a:0-1,a:1-2", ":0-5", "a:-1-2", "a:0-nan", "a:x-5", "coco,aitod"]
)
def test_wrong_sizes(text: str) -> None:
    with pytest.raises(CaffeError, match="areas"):
        coco.parse_areas(text)


@pytest.mark.parametrize("text", ["", "0,1", "10,1", "1,1", "a", "1.5"])
def test_wrong_limits(text: str) -> None:
    with pytest.raises(CaffeError, match="max_dets"):
        coco.parse_max_dets(text)


def test_models_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, annotations = many(tmp_path)
    (tmp_path / "none.json").write_text("[]")
    out = tmp_path / "o.json"
    arguments = [str(path), str(tmp_path / "none.json"), str(annotations), "-areas", "aitod", "-out", str(out)]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["measure", "results.json", "none.json"]
    assert any(line.startswith("AP very tiny") and line.endswith(" 0.0") for line in lines)
    assert any(line.startswith("AR 1500") for line in lines)
    assert any("'none.json' has no detections" in line for line in lines)
    values = json.loads(out.read_text())
    assert values.keys() == {"results.json", "none.json"}
    assert values["results.json"]["class_measures"]["cat"]["AP"] > 0


def test_the_best_detections_of_each_image_and_class_suffice(tmp_path: Path) -> None:
    path, annotations = many(tmp_path)
    dataset = coco.read_instances(annotations)
    found = read_results(path, dataset)
    kept = found.best(1)
    keys = list(zip(kept.images.tolist(), kept.categories.tolist(), strict=True))
    assert len(set(keys)) == len(keys) < len(found.scores)
    for key, score in zip(keys, kept.scores.tolist(), strict=True):
        same = (found.images == key[0]) & (found.categories == key[1])
        assert score == found.scores[same].max()


# ---- files


@pytest.mark.parametrize("block", [1, 7, 50, 1 << 20])
@pytest.mark.parametrize("indent", [None, 1])
def test_entries_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, indent: int | None) -> None:
    values = [entry("ü" * i, "]", [i, 0.5, -1e-3, 4]) for i in range(20)]
    path = tmp_path / "r.json"
    path.write_text(json.dumps(values, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
    monkeypatch.setattr(coco_files, "_BLOCK", max(block, 2))
    monkeypatch.setattr(coco_files, "_LONGEST_ENTRY", 400)
    assert list(coco_files.entries(path)) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("{}", "is not a list of detections"),
        ("[{}", "does not end"),
        ("[{},", "detection 1"),
        ("[{} {}]", "no comma after detection 0"),
        ('[{"a": ]', "detection 0"),
        ("[{}] x", "text follows the list"),
        ("[1", "does not end"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_broken_lists(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        list(coco_files.entries(path))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "1" + "0" * 400])
def test_numbers_that_are_not_finite(annotations: Path, tmp_path: Path, number: str) -> None:
    path = tmp_path / "r.json"
    for bad in (f'[0, 0, 1, 1], "score": {number}', f'[0, 0, {number}, 1], "score": 1'):
        path.write_text(f'[{{"image_id": 7, "category_id": 3, "bbox": {bad}}}]')
        with pytest.raises(DataError, match="detection 0 has a number that is not finite"):
            coco.evaluate(path, annotations)


WHOLE = {"image_id": 7, "category_id": 3, "bbox": [0, 0, 1, 1]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": []}, "'images' is not a list"),
        ({"images": [{"name": 1}]}, "'images' is not a list"),
        ({"categories": [{"id": 3}, {"id": 9}]}, "a category has no name"),
        ({"annotations": [{"image_id": 5}]}, "annotation 0 has no image_id of"),
        ({"annotations": [{"image_id": 7, "category_id": 1}]}, "annotation 0 has no category_id of"),
        ({"annotations": [{"image_id": 7, "category_id": 3, "bbox": [0, 0, None, 1]}]}, "no bbox of four finite"),
        ({"annotations": [{"image_id": 7, "category_id": 3, "bbox": [0, 0, 10**400, 1]}]}, "no bbox of four finite"),
        ({"annotations": [{"image_id": [7], "category_id": 3}]}, "annotation 0 has no image_id of"),
        ({"annotations": [{"image_id": 7, "category_id": {}}]}, "annotation 0 has no category_id of"),
        ({"annotations": [{**WHOLE, "iscrowd": float("inf")}]}, "annotation 0 has an iscrowd that is not 0 or 1"),
        ({"annotations": [{**WHOLE, "iscrowd": [1]}]}, "annotation 0 has an iscrowd that is not 0 or 1"),
        ({"annotations": [{**WHOLE, "area": None}]}, "annotation 0 has an area that is not a finite number"),
        ({"annotations": [{**WHOLE, "area": 10**400}]}, "annotation 0 has an area that is not a finite number"),
        ({"annotations": None}, "'annotations' is not a list"),
        ({"categories": [{"id": 3, "name": None}]}, "a category has no name"),
        ({"images": [{"id": 10**30}]}, "'images' is not a list"),
    ],
)
def test_broken_instances(annotations: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    annotations.write_text(json.dumps({**json.loads(annotations.read_text()), **change}))
    with pytest.raises(DataError, match=message):
        coco.evaluate(results(tmp_path), annotations)


def test_a_list_of_other_images(annotations: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 image ids of the list .* e\.g\. 5"):
        coco.evaluate(results(tmp_path), annotations, [7, 5])


# ---- data sets in VOC's form


def test_voc_form_equals_cocos(tmp_path: Path) -> None:
    truth, found = made(2)
    names = list(found)
    data = {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(truth.images, 1)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, 1)],
        "annotations": [
            {"image_id": truth.images.index(image) + 1, "category_id": names.index(name) + 1, "iscrowd": int(d),
             "bbox": [b[0], b[1], b[2] - b[0] + 1, b[3] - b[1] + 1]}
            for name, by_image in truth.objects.items()
            for image, o in by_image.items()
            for b, d in zip(o.boxes.tolist(), o.difficult.tolist(), strict=True)
        ],
    }  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(data))
    rows = [
        {"image_id": image, "category_id": name, "bbox": [b[0], b[1], b[2] - b[0] + 1, b[3] - b[1] + 1], "score": s}
        for name, d in found.items()
        for image, s, b in zip(d.images, d.scores.tolist(), d.boxes.tolist(), strict=True)
    ]
    expected = coco.evaluate(results(tmp_path, *rows), tmp_path / "a.json")
    score = evaluate_voc(truth, found)
    assert score.measures == pytest.approx(expected.measures)
    assert score.class_measures["cat"] == pytest.approx(expected.class_measures["cat"])
    assert 0.05 < score.measures["AP"] < 0.9
