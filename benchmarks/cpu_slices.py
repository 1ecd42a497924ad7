"""Detection in slices of a large image: boxes and processor time beside SAHI's, and the recall of small objects.

The image is a mosaic of scenes of the demo (demo/scenes.py), 2400 × 2400 pixels by default, and the net one that the
demo has trained:

    python benchmarks/cpu_slices.py demo_run/model/deploy.prototxt demo_run/model/mdssd300_iter_1400.caffemodel

Needs the package sahi (pip install sahi). Both get the same slices, net, batch size and NMS. Boxes are compared to the
pixel, where SAHI differs in one way: it cuts a box that reaches beyond the upper or left edge of its slice.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))

from caffe.image_detector import Detection, ImageDetector
from demo.objects import PAINTERS
from demo.scenes import scene

SLICE, OVERLAP, THRESHOLD, BATCH, TILE = 300, 0.2, 0.3, 8, 300
CLASSES = list(PAINTERS)
#: an object's label, and its box in pixels of the image: xmin, ymin, xmax, ymax
Object = tuple[int, tuple[int, int, int, int]]


def mosaic(tiles: int) -> tuple[np.ndarray, list[Object]]:
    """tiles × tiles scenes as one image, and its objects: label, box in pixels. Difficult objects are left out."""
    image = np.zeros((tiles * TILE, tiles * TILE, 3), np.uint8)
    objects: list[Object] = []
    index = 0
    for row in range(tiles):
        for column in range(tiles):
            picture, things = scene(77, "test", index)
            while picture.shape[:2] != (TILE, TILE):
                index += 1
                picture, things = scene(77, "test", index)
            index += 1
            y, x = row * TILE, column * TILE
            image[y : y + TILE, x : x + TILE] = picture
            objects += [
                (label_of(t.name), (t.box[0] + x, t.box[1] + y, t.box[2] + x, t.box[3] + y))
                for t in things
                if not t.difficult
            ]
    return image, objects


def label_of(name: str) -> int:
    """The label in the demo's label map, in which the background is 0."""
    return CLASSES.index(name) + 1


def recall(found: list[Detection], objects: list[Object], small: bool) -> tuple[int, int]:
    """How many objects are found with an overlap of 0.5, and how many there are; `small`: both sides under 20 pixels."""
    hits = total = 0
    boxes = np.array([(d.label, d.xmin, d.ymin, d.xmax, d.ymax) for d in found]).reshape(-1, 5)
    for label, (x0, y0, x1, y1) in objects:
        if small and max(x1 - x0, y1 - y0) >= 20:
            continue
        total += 1
        low, high = np.maximum(boxes[:, 1:3], (x0, y0)), np.minimum(boxes[:, 3:], (x1, y1))
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        union = np.prod(boxes[:, 3:] - boxes[:, 1:3], axis=1) + (x1 - x0) * (y1 - y0) - shared
        hits += bool(((boxes[:, 0] == label) & (shared >= 0.5 * union)).any())
    return hits, total


def sahi_runner(detector: ImageDetector, image: np.ndarray) -> Callable[[], list[Detection]]:
    """SAHI's sliced prediction with our detector as its model."""
    from sahi.models.base import DetectionModel
    from sahi.predict import get_sliced_prediction
    from sahi.prediction import ObjectPrediction

    class Model(DetectionModel):  # type: ignore[misc]  # without its package, Any
        def set_model(self, model: Any, **_: Any) -> None:
            self.model, self.category_mapping = model, {str(i + 1): name for i, name in enumerate(CLASSES)}

        def perform_inference(self, image: np.ndarray) -> None:
            self._original_predictions = self.model.detect([image[:, :, ::-1]], THRESHOLD)

        def perform_batch_inference(self, images: list[np.ndarray]) -> None:
            self._batch_images = images
            self._original_shapes = [image.shape for image in images]
            self._original_predictions = self.model.detect([image[:, :, ::-1] for image in images], THRESHOLD)

        def convert_original_predictions(self, shift_amount: Any = None, full_shape: Any = None) -> None:
            self._create_object_prediction_list_from_original_predictions(shift_amount, full_shape)

        def _create_object_prediction_list_from_original_predictions(
            self, shift_amount_list: Any = None, full_shape_list: Any = None
        ) -> None:
            self._object_prediction_list_per_image = []
            for i, found in enumerate(self._original_predictions):
                single = shift_amount_list is None or np.ndim(shift_amount_list) == 1
                shift = (shift_amount_list or [0, 0]) if single else shift_amount_list[i]
                full = full_shape_list if single else full_shape_list[i]
                self._object_prediction_list_per_image.append([
                    ObjectPrediction(
                        bbox=[d.xmin, d.ymin, d.xmax, d.ymax], category_id=d.label, score=d.score,
                        category_name=CLASSES[d.label - 1], shift_amount=shift, full_shape=full,
                    )
                    for d in found
                ])  # fmt: skip

    model = Model(model=detector, device="cpu", confidence_threshold=THRESHOLD)
    rgb = np.ascontiguousarray(image[:, :, ::-1])

    def run() -> list[Detection]:
        result = get_sliced_prediction(
            rgb, model, slice_height=SLICE, slice_width=SLICE, overlap_height_ratio=OVERLAP,
            overlap_width_ratio=OVERLAP, postprocess_type="NMS", postprocess_match_metric="IOS",
            postprocess_match_threshold=0.5, verbose=0, batch_size=BATCH,
        )  # fmt: skip
        return [
            Detection(p.category.id, p.category.name, p.score.value, *map(float, p.bbox.to_xyxy()))
            for p in result.object_prediction_list
        ]

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="the demo's deploy prototxt")
    parser.add_argument("weights", help="its trained weights")
    parser.add_argument("--tiles", type=int, default=8, help="scenes in each row and column of the image (default: 8)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each, in turn (default: 3)")
    parser.add_argument("--json", help="write the results to this file")
    flags = parser.parse_args()

    from caffe.data.slices import Slices

    image, objects = mosaic(flags.tiles)
    detector = ImageDetector(flags.model, flags.weights)
    slices = Slices(SLICE, SLICE, OVERLAP)
    runs: dict[str, Callable[[], list[Detection]]] = {
        "slices": lambda: detector.detect([image], THRESHOLD, slices=slices, batch_size=BATCH)[0],
        "SAHI": sahi_runner(detector, image),
    }
    found = {name: run() for name, run in runs.items()}  # also warms up
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(flags.rounds):
        for name, run in runs.items():
            began = time.process_time()
            run()
            seconds[name].append(time.process_time() - began)
    whole = detector.detect([image], THRESHOLD)[0]
    pixels = {
        name: sorted((d.label, round(d.score, 4), *map(int, clipped(d, image.shape))) for d in each)
        for name, each in found.items()
    }
    matching = len(set(pixels["slices"]) & set(pixels["SAHI"]))
    result = {
        "image": list(image.shape[:2]),
        "slices": len(slices.windows(*image.shape[:2])),
        "processor seconds": {name: statistics.median(each) for name, each in seconds.items()},
        "boxes": {name: len(each) for name, each in found.items()},
        "same boxes": matching,
        "recall under 20 pixels": {
            "slices": recall(found["slices"], objects, True),
            "whole image": recall(whole, objects, True),
        },
        "recall of all": {
            "slices": recall(found["slices"], objects, False),
            "whole image": recall(whole, objects, False),
        },
    }
    print(json.dumps(result, indent=1))
    if flags.json:
        Path(flags.json).write_text(json.dumps(result, indent=1) + "\n")


def clipped(d: Detection, shape: tuple[int, ...]) -> tuple[float, ...]:
    """The corners inside the image, as SAHI gives them."""
    return max(d.xmin, 0), max(d.ymin, 0), min(d.xmax, shape[1]), min(d.ymax, shape[0])


if __name__ == "__main__":
    main()
