"""Before and after a training of the experiment on small objects: ground truth, start weights, scores, costs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from caffe.detection import voc
from caffe.engine.layer import TEST
from caffe.engine.net import Net
from caffe.errors import CaffeError
from experiments.small_objects import cost, preparation, scoring
from experiments.small_objects.plan import Plan
from experiments.small_objects.preparation import Folder
from prototxt_gen.ssd300 import SSD300
from tests.experiments.plans import PLAN
from tests.narrow import narrow_deploy
from tests.prototxt_gen.shape_calculation import calculate


@pytest.fixture
def truth() -> voc.GroundTruth:
    """Two images: a cat and a difficult cat in the first, a dog in the second."""
    cats = voc.Objects(np.array([[1.0, 1, 11, 21], [30, 30, 50, 50]]), np.array([False, True]))
    dogs = voc.Objects(np.array([[5.0, 5, 100, 105]]), np.array([False]))
    return voc.GroundTruth(("a", "b"), {"cat": {"a": cats}, "dog": {"b": dogs}})


def test_instances(truth: voc.GroundTruth) -> None:
    found = preparation.instances(truth)
    assert found["images"] == [{"id": 1, "file_name": "a"}, {"id": 2, "file_name": "b"}]
    assert [c["name"] for c in found["categories"]] == ["cat", "dog"]
    assert found["annotations"][0] == {
        "id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 10, 20], "area": 200, "iscrowd": 0,
    }  # fmt: skip
    assert [a["iscrowd"] for a in found["annotations"]] == [0, 1, 0]


def test_measures_of_perfect_and_of_no_detections(truth: voc.GroundTruth, tmp_path: Path) -> None:
    instances = tmp_path / "instances.json"
    instances.write_text(json.dumps(preparation.instances(truth)))
    results = tmp_path / "results"
    results.mkdir()
    (results / "comp4_det_test_cat.txt").write_text("a 0.9 1 1 11 21\n")
    (results / "comp4_det_test_dog.txt").write_text("b 0.9 5 5 100 105\n")
    found = scoring.score(results, truth, instances, ["cat", "dog"])["measures"]
    assert tuple(found) == scoring.MEASURES
    assert [found[m] for m in ("mAP", "COCO AP", "AP small", "AP large", "AR")] == pytest.approx([1] * 5)
    assert found["AP medium"] is None
    assert found["XS"] is None, "two objects are too few for groups"
    (results / "comp4_det_test_cat.txt").write_text("")
    (results / "comp4_det_test_dog.txt").write_text("")
    found = scoring.score(results, truth, instances, ["cat", "dog"])["measures"]
    assert (found["mAP"], found["COCO AP"], found["AP large"]) == (0, 0, 0)
    assert sorted(p.name for p in results.iterdir()) == ["comp4_det_test_cat.txt", "comp4_det_test_dog.txt"]


def test_the_trunk_has_no_heads(tmp_path: Path) -> None:
    from caffe.engine.weights import save
    from caffe.proto.weights import read_weights

    save(Net(narrow_deploy(SSD300), TEST), tmp_path / "ssd.caffemodel")
    folder = Folder(tmp_path / "out", Plan(**{**vars(PLAN), "weights": str(tmp_path / "ssd.caffemodel")}))
    preparation._trunk(folder)
    names = [layer.name for layer in read_weights(folder.trunk) if layer.blobs]
    assert {"conv1_1", "fc7", "conv9_2", "conv4_3_norm"} <= set(names)
    assert not [name for name in names if "mbox" in name]
    (tmp_path / "ssd.caffemodel").write_text("no weights")
    with pytest.raises(CaffeError, match=r"ssd\.caffemodel"):
        preparation._trunk(folder)


def test_costs_agree_with_arithmetic() -> None:
    for network in (SSD300, None):
        param = narrow_deploy(network) if network else narrow_deploy()
        net, sizes = Net(param, TEST), calculate(param, 1, 300)
        assert cost.multiply_adds(net) == sizes.multiply_adds
        assert cost.default_boxes(net) == (8732 if network else 31232)
        assert cost.parameters(net) == sum(math.prod(s) for shapes in sizes.parameters.values() for s in shapes)


def test_the_least_time_counts() -> None:
    calls: list[str] = []
    found = cost.least_seconds([lambda: calls.append("a"), lambda: calls.append("b")], turns=2, repeat=2)
    assert calls == list("aabbaabb")
    assert all(0 <= seconds < 1 for seconds in found)
