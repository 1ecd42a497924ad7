"""The files that DetectionOutput writes for scoring: the VOC kit's, COCO's and ILSVRC's."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from caffe import log
from caffe.data.label_map import LabelMap
from caffe.data.name_size import read_name_sizes
from caffe.detection.image_boxes import in_image
from caffe.errors import CaffeError, NetError, WriteError, shown
from caffe.files import replacing
from caffe.runtime import runtime

FORMATS = ("VOC", "COCO", "ILSVRC")


class ResultRow(NamedTuple):
    """One row of a result file."""

    image: str
    label: int
    score: float
    #: xmin, ymin, width, height in pixels, rounded to two decimals
    box: tuple[float, float, float, float]

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """xmin, ymin, xmax, ymax in whole pixels, as in the VOC and ILSVRC files: each value truncated."""
        x, y, width, height = map(int, self.box)
        return x, y, x + width, y + height


def wanted(param: Any) -> bool:
    """Whether a SaveOutputParameter asks for files: it names a directory, a label map and a name size file."""
    if not param.output_directory:
        return False
    for field, line in (("label_map_file", 59), ("name_size_file", 77)):
        if not getattr(param, field):
            log.warning(f"detection_output_layer.cpp:{line}", f"Provide {field} if output results to files.")
            return False
    return True


class _Progress:
    """The progress of a round; separate from ResultFiles, so that it can be read when the process ends."""

    def __init__(self, total: int) -> None:
        self.images, self.total, self.rounds = 0, total, 0

    def warn_if_unfinished(self, where: str) -> None:
        if self.images and not self.rounds:
            log.warning(
                log.here(),
                f"No results in {where}: only {self.images} of num_test_image = {self.total} images passed. "
                "Is test_iter times the batch size too small?",
            )


class ResultFiles:
    """Collects the detections of a test set, image by image, and writes its files when the last image has passed.

    Images are assumed to come in the order of the name size file, repeatedly. All files are written under other names
    and then renamed, so every file in the directory is complete, and those of an earlier round stay until then. While
    training (`runtime.results_are_secondary`), files that cannot be written cause a warning.
    """

    def __init__(self, param: Any, num_classes: int, background_label_id: int) -> None:
        """`param`: SaveOutputParameter. Raises NetError or DataError if the files that it names do not fit."""
        self.format = param.output_format or "VOC"
        if self.format not in FORMATS:
            raise NetError(f"output_format '{param.output_format}' is unknown; known: {', '.join(FORMATS)}")
        self.prefix = param.output_name_prefix
        self.resize = param.resize_param if param.HasField("resize_param") else None
        self.folder = Path(param.output_directory)
        label_map = LabelMap.read(param.label_map_file)
        self.labels = [c for c in range(num_classes) if c != background_label_id]
        missing = [c for c in self.labels if c not in label_map]
        if missing or label_map.num_classes > num_classes:
            raise NetError(
                f"num_classes is {num_classes}, but label map '{param.label_map_file}' has labels "
                f"{label_map.describe_labels()}: give num_classes: {label_map.num_classes} (and as many confidence "
                "predictions per prior), or the label map of this net"
            )
        self.names = {c: label_map.name_of(c) for c in self.labels}
        for path in self.paths():
            if path.parent != self.folder or "\0" in path.name or len(os.fsencode(path.name)) > 255:
                raise NetError(
                    f"the result file '{shown(str(path))}' would not be in output_directory: names in label map "
                    f"'{param.label_map_file}' and output_name_prefix must be plain file names, without '/'"
                )
        images = read_name_sizes(param.name_size_file)
        total = param.num_test_image if param.HasField("num_test_image") else len(images)
        if not 0 < total <= len(images):
            raise NetError(
                f"num_test_image is {total}, but name_size_file '{param.name_size_file}' lists {len(images)} images: "
                "leave num_test_image out, or make the list of this test set with get_image_size"
            )
        self.images = images[:total]
        self._list, self._whole_list = param.name_size_file, total == len(images)
        self._progress = _Progress(total)
        self._detections: list[ResultRow] = []
        self._failing = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CaffeError(f"cannot create output_directory '{self.folder}': {error.strerror}") from None
        weakref.finalize(self, self._progress.warn_if_unfinished, str(self.folder))

    def paths(self) -> list[Path]:
        """The paths of a round's files."""
        if self.format == "VOC":
            return [self._class_path(c) for c in self.labels]
        return [self.folder / f"{self.prefix}.{'json' if self.format == 'COCO' else 'txt'}"]

    def check_records(self, keys: Sequence[str], where: str) -> None:
        """Raises NetError if the list is of another data set than the records, or in another order.

        `keys`: of all records in order, as convert_annoset names them, `%08d_<image path>`. Names that come
        from elsewhere (COCO's ids, ILSVRC's numbers) cannot be compared, only counted. `where`: the layer that reads
        the records.
        """
        listed = f"name_size_file '{self._list}'"
        stems = [PurePosixPath(key.partition("_")[2]).stem for key in keys]
        if set(stems) & {image.name for image in self.images}:
            for place, (stem, image) in enumerate(zip(stems, self.images, strict=False)):
                if stem != image.name:
                    raise NetError(
                        f"image {place + 1} of {listed} is '{image.name}', but record {place + 1} of {where} is "
                        f"'{keys[place]}': results would go to the wrong images. Make both from the same image "
                        "list, without shuffling"
                    )
        if len(keys) != len(self.images) and self._whole_list:
            raise NetError(
                f"{listed} lists {len(self.images)} images, {where} has {len(keys)} records: make both from the same "
                "image list"
            )

    def add(self, rows: NDArray[np.float32], num: int) -> None:
        """Takes the detections of the next `num` images, K×7 as DetectionOutput returns them."""
        for image in range(num):
            self._add_image(rows[(rows[:, 0] == image) & (rows[:, 1] != -1)])
            self._progress.images += 1
            if self._progress.images == self._progress.total:
                self._progress.images = 0
                self._progress.rounds += 1
                try:
                    self._write()
                    self._failing = False
                except WriteError as error:
                    if not runtime.results_are_secondary:
                        raise
                    if not self._failing:
                        log.warning(log.here(), f"{error}. Training goes on without these results")
                    self._failing = True
                finally:
                    self._detections.clear()

    def _add_image(self, rows: NDArray[np.float32]) -> None:
        entry = self.images[self._progress.images]
        pixels, _ = in_image(rows[:, 3:7], entry.height, entry.width, self.resize)
        boxes = np.concatenate([pixels[:, :2], pixels[:, 2:] - pixels[:, :2]], axis=1)
        for row, box in zip(rows, _hundredths(boxes), strict=True):
            x, y, width, height = box.tolist()
            self._detections.append(ResultRow(entry.name, int(row[1]), float(row[2]), (x, y, width, height)))

    def _class_path(self, label: int) -> Path:
        return self.folder / f"{self.prefix}{self.names[label]}.txt"

    def _write(self) -> None:
        if self.format == "VOC":
            lines: dict[int, list[str]] = {c: [] for c in self.labels}
            for d in self._detections:
                lines[d.label].append(" ".join([d.image, f"{d.score:g}", *map(str, d.corners)]) + "\n")
            _write_texts({self._class_path(label): "".join(text) for label, text in lines.items()})
        elif self.format == "ILSVRC":
            rows = (" ".join([d.image, str(d.label), f"{d.score:g}", *map(str, d.corners)]) for d in self._detections)
            _write_texts({self.paths()[0]: "".join(row + "\n" for row in rows)})
        else:
            entries = [
                {
                    "image_id": _number_if_any(d.image),
                    "category_id": _number_if_any(self.names[d.label]),
                    "bbox": [round(v, 2) for v in d.box],
                    "score": float(str(np.float32(d.score))),
                }
                for d in self._detections
            ]
            _write_texts({self.paths()[0]: "[\n" + ",\n".join(map(json.dumps, entries)) + "\n]\n"})
        log.info(
            log.here(),
            f"Wrote {len(self._detections)} detections in {self._progress.total} images to "
            f"{self.folder / self.prefix}{'*.txt' if self.format == 'VOC' else self.paths()[0].suffix}",
        )


def _hundredths(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rounded to two decimals, halves away from zero, in the precisions that Caffe uses on the way."""
    scaled = (values * np.float32(100)).astype(np.float64)
    return (np.trunc(scaled + np.copysign(0.5, scaled)) / 100).astype(np.float32)


def _number_if_any(text: str) -> int | str:
    """COCO's ids are numbers; a list may write them with leading zeros."""
    return int(text) if text.isascii() and text.isdigit() else text


def _write_texts(texts: Mapping[Path, str]) -> None:
    """Writes all files, then renames them; if one cannot be written, all stay as they were."""
    with ExitStack() as files:
        for path, text in texts.items():
            files.enter_context(replacing(path)).write_text(text, encoding="utf-8")
