"""What ssd_detect writes: a list, JSON, VOC's result files, pictures and videos with boxes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from caffe.data.label_map import LabelMap
from caffe.detection.box_drawing import Box, draw_boxes
from caffe.errors import CaffeError, DataError
from caffe.files import replacing
from caffe.image_detector import Detection, Image


def line_of(name: str, d: Detection) -> str:
    """A detection as the original lists it: image, label, score, corners in whole pixels."""
    corners = " ".join(str(int(v)) for v in (d.xmin, d.ymin, d.xmax, d.ymax))
    return f"{name} {d.label} {d.score:g} {corners}"


def write_json(path: str, found: Sequence[tuple[str, Sequence[Detection]]]) -> None:
    """One entry for each image, with its name and its detections."""
    listed = [{"image": name, "detections": [d._asdict() for d in each]} for name, each in found]
    write_text(path, json.dumps(listed, indent=1) + "\n")


def write_text(path: str | Path, text: str) -> None:
    """Writes a file, complete or not at all."""
    with replacing(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_results(folder: str, label_map: LabelMap, found: Sequence[tuple[str, Sequence[Detection]]]) -> None:
    """Files comp4_det_test_<class>.txt for score_voc, one for each class; images are named without their extensions.

    Raises DataError if two images have the same name.
    """
    ids: dict[str, str] = {}
    for name, _ in found:
        stem = Path(name).stem
        if stem in ids:
            raise DataError(
                f"result files name images without folder and extension; '{ids[stem]}' and '{name}' are both '{stem}'"
            )
        ids[stem] = name
    lines: dict[int, list[str]] = {item.label: [] for item in label_map.items if item.label != 0}
    for name, each in found:
        for d in each:
            corners = " ".join(f"{value:.2f}" for value in (d.xmin, d.ymin, d.xmax, d.ymax))
            lines[d.label].append(f"{Path(name).stem} {d.score:.6g} {corners}\n")
    make_folder(folder)
    for label, rows in lines.items():
        write_text(Path(folder) / f"comp4_det_test_{label_map.name_of(label)}.txt", "".join(rows))


def make_folder(folder: str | Path) -> None:
    """Creates a folder for results, if there is none."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CaffeError(f"cannot create the directory '{folder}': {error.strerror}") from None


class Pictures:
    """Pictures with boxes, one per image, and videos, one per video, in one directory."""

    def __init__(self, folder: str, ending: str) -> None:
        self.folder, self.ending, self.boxes = Path(folder), ending, 0
        self._names: set[str] = set()
        self._video: cv2.VideoWriter | None = None
        self._source = ""
        make_folder(folder)

    def write(self, path: Path, image: Image, detections: Sequence[Detection]) -> None:
        """Draws the detections, and writes the picture under the image's name."""
        write_picture(self.folder / self._new_name(path, self.ending), self._drawn(image, detections))

    def write_frame(self, source: str, rate: float, image: Image, detections: Sequence[Detection]) -> None:
        """Draws the detections, and adds the picture to the video of `source` (`rate`: frames per second)."""
        drawn = self._drawn(image, detections)
        if source != self._source:
            self.end_video()
        if self._video is None:
            self._source = source
            path = self.folder / self._new_name(Path(source), "mp4")
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._video = cv2.VideoWriter(str(path), code, rate, (drawn.shape[1], drawn.shape[0]))
            if not self._video.isOpened():
                raise CaffeError(f"cannot write the video '{path}'")
        self._video.write(drawn)

    def end_video(self) -> None:
        """Completes the current video, if there is one."""
        if self._video is not None:
            self._video.release()
            self._video = None

    def _drawn(self, image: Image, detections: Sequence[Detection]) -> Image:
        self.boxes += len(detections)
        boxes = [Box(d.label, f"{d.name}: {d.score:.2f}", d.xmin, d.ymin, d.xmax, d.ymax) for d in detections]
        return draw_boxes(image, boxes)

    def _new_name(self, path: Path, ending: str) -> str:
        """The name of the picture; images with the same name from several directories are numbered."""
        name, number = f"{path.stem}.{ending}", 1
        while name in self._names:
            number += 1
            name = f"{path.stem}_{number}.{ending}"
        self._names.add(name)
        return name


def write_picture(path: Path, image: Any) -> None:
    """Writes a picture in the format of its extension, complete or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
