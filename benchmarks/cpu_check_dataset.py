"""check_dataset on photographs of 640 × 480: processor time per image, and how many a core checks in a minute.

The images are made: smooth noise with fine grain, as JPEG files of about 100 KB with a VOC annotation of six boxes each.
One file after the other in this process, as each of the command's processes does it, then everything together.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from report import write_result

from caffe.data.images import decode
from caffe.data.label_map import LabelMap, LabelMapItem
from caffe.dataset_check.examine import examine
from caffe.dataset_check.findings import collect
from caffe.dataset_check.sets import open_set
from caffe.dataset_check.statistics import statistics
from caffe.default_boxes.net_layout import read_layout

NET = Path(__file__).resolve().parents[1] / "models/SSD300/VOC/deploy.prototxt"
#: images that a core has to check in a minute
GOAL = 20_000
BOXES = 6
CLASSES = ("cat", "dog", "horse")


def make(folder: Path, count: int) -> None:
    """Writes `count` images and their annotations."""
    rng = np.random.default_rng(0)
    for number in range(count):
        image = cv2.resize(rng.integers(0, 256, (24, 32, 3), np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
        grain = rng.normal(0, 5, image.shape)
        encoded = cv2.imencode(".jpg", np.clip(image + grain, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 88])[
            1
        ]
        (folder / f"{number:05d}.jpg").write_bytes(encoded.tobytes())
        objects = []
        for _ in range(BOXES):
            x, y = rng.integers(0, 540), rng.integers(0, 380)
            width, height = rng.integers(8, 100, 2)
            objects.append(
                f"<object><name>{CLASSES[rng.integers(3)]}</name><difficult>0</difficult><bndbox><xmin>{x}</xmin>"
                f"<ymin>{y}</ymin><xmax>{x + width}</xmax><ymax>{y + height}</ymax></bndbox></object>"
            )
        (folder / f"{number:05d}.xml").write_text(
            "<annotation><size><width>640</width><height>480</height><depth>3</depth></size>"
            f"{''.join(objects)}</annotation>"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="how many images to make and check")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, options.images)
        files = sorted(folder.glob("*.jpg"))
        label_map = LabelMap([LabelMapItem(each, label, each) for label, each in enumerate(CLASSES, 1)])
        layout = read_layout(NET)
        data_set = open_set(name)
        for item in data_set.items[:50]:  # imports, and the disk's cache
            examine(item)
        start = time.process_time()
        images = [examine(item) for item in data_set.items]
        each = time.process_time() - start
        findings = collect({"made": images}, label_map, layout)
        statistics(findings)
        together = time.process_time() - start - each
        start = time.process_time()
        for file in files:
            decode(file.read_bytes(), cv2.IMREAD_COLOR)
        decoding = time.process_time() - start
        kilobytes = sum(file.stat().st_size for file in files) / len(files) / 1000
    count = options.images
    a_minute = 60 * count / (each + together)
    write_result(
        "cpu_check_dataset",
        {
            "images": f"{count} made images of 640 x 480, {kilobytes:.0f} KB and {BOXES} boxes each",
            "milliseconds_an_image": {
                "one by one": round(1000 * each / count, 3),
                "all together": round(1000 * together / count, 3),
                "for comparison, decoding in color": round(1000 * decoding / count, 3),
            },
            "images_a_minute_and_core": round(a_minute),
            "share_of_the_goal": round(a_minute / GOAL, 2),
        },
    )


if __name__ == "__main__":
    main()
