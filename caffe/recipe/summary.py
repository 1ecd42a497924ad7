"""The score of a run beside that of a constant box."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from caffe.data.build import xml_tree
from caffe.data.formats import voc_xml
from caffe.data.label_map import LabelMap
from caffe.data.name_size import read_name_sizes
from caffe.detection import voc
from caffe.detection.average_precision import mean
from caffe.detection.constant_box import Shares, constant_box_score
from caffe.recipe.commands import Place


def compared(place: Place) -> str:
    """AP of each class, and what the best constant box would get. Written to score/constant_box.json as well."""
    measured = json.loads((place.out / "score/score.json").read_text(encoding="utf-8"))
    labels = [item.name for item in LabelMap.read(place.labels).items if item.label]
    truth = voc.read_ground_truth(place.data / "Annotations", place.data / "ImageSets/Main/test.txt")
    sizes = {each.name: (each.height, each.width) for each in read_name_sizes(place.data / "lists/test_name_size.txt")}
    constant = constant_box_score(_training_boxes(place, labels), truth, sizes, eleven_points=True)
    (place.out / "score/constant_box.json").write_text(json.dumps({"AP": constant}, indent=1) + "\n")
    tested = [name for name in labels if truth.count(name)]
    rows = [
        f"  {name}: AP {100 * measured['AP'][name]:.1f}, a constant box {100 * constant[name]:.1f}" for name in tested
    ]
    ours, theirs = mean([measured["AP"][name] for name in tested]), mean([constant[name] for name in tested])
    rows.append(
        f"mAP {100 * ours:.1f} (overlap 0.5, 11 points); the same box in every picture would get {100 * theirs:.1f}."
    )
    if ours < theirs + 0.1:
        rows.append(
            "That is no more than where objects usually are. Train longer (-max_iter), or annotate more images."
        )
    return "\n".join(rows)


def _training_boxes(place: Place, labels: list[str]) -> dict[str, list[Shares]]:
    boxes: dict[str, list[Shares]] = {name: [] for name in labels}
    for name in (place.data / "ImageSets/Main/trainval.txt").read_text(encoding="utf-8").split():
        path: Path = place.data / "Annotations" / f"{name}.xml"
        parsed = voc_xml.parse(xml_tree.parse(path.read_bytes(), voc_xml.TAGS))
        assert parsed.size is not None  # import_annotations wrote it
        height, width = parsed.size
        found = defaultdict(list)
        for each in parsed.objects:
            if not each.difficult:
                found[each.name].append((each.xmin / width, each.ymin / height, each.xmax / width, each.ymax / height))
        for label in labels:
            boxes[label].append(np.array(found[label], np.float64).reshape(-1, 4))
    return boxes
