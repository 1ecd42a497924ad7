"""`ssd_detect`: a trained net's detections in images, as a list and as pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from caffe import log
from caffe.cli.devices import GPU_HELP, parse_gpus
from caffe.cli.flags import FlagParser, boolean, run
from caffe.cli.net_flags import add_allow_python, only_look
from caffe.data.label_map import LabelMap
from caffe.data.mean import read_mean_file
from caffe.detection.box_drawing import Box, draw_boxes
from caffe.detection.same_boxes import SameBoxes
from caffe.engine.acceleration import PRECISIONS
from caffe.engine.acceleration import use as use_acceleration
from caffe.engine.modes import set_device, set_mode_gpu
from caffe.errors import CaffeError
from caffe.files import replacing
from caffe.image_detector import Detection, Image, ImageDetector, channel_means, find_images

_EPILOG = """\
IMAGE is an image, a folder of images, or a text file with one image path per line. Without -out_file the list is
printed: one detection per line, `image label score xmin ymin xmax ymax`, in pixels.

    ssd_detect deploy.prototxt SSD_300x300_iter_120000.caffemodel photo.jpg -draw pictures \\
        -labelmap_file labelmap_voc.prototxt
    ssd_detect deploy.prototxt weights.caffemodel list.txt -out_file detections.txt -confidence_threshold 0.1
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("ssd_detect", _main, argv)


def _main(argv: Sequence[str]) -> None:
    parser = FlagParser(prog="ssd_detect", description="Detects objects in images with a trained net.", epilog=_EPILOG)
    parser.add_argument("files", metavar="MODEL WEIGHTS IMAGE", nargs="*", help="deploy prototxt, weights, images")
    parser.flag("model_def", help="deploy prototxt, instead of MODEL")
    parser.flag("model_weights", help="weights, instead of WEIGHTS")
    parser.flag("image_file", help="image, folder or list, instead of IMAGE")
    parser.flag("labelmap_file", help="LabelMap prototxt, for the names of classes")
    parser.flag("mean_file", help="image mean (binaryproto) to subtract, by channel, instead of mean_value")
    parser.flag("mean_value", help="mean to subtract: one value, or one per channel (BGR) (default: 104,117,123)")
    parser.flag("image_resize", type=int, default=0, help="height and width of the net's input (0: the model's)")
    parser.flag("file_type", default="image", choices=("image",), help="what the list contains; only image")
    parser.flag("confidence_threshold", type=float, default=0.01, help="list detections of at least this score")
    parser.flag("out_file", help="write the list to this file")
    parser.flag("json", help="write the detections, with names, to this JSON file")
    parser.flag("draw", help="directory for pictures with boxes")
    parser.flag("draw_threshold", type=float, default=0.6, help="draw boxes with a score over this")
    parser.flag("batch_size", type=int, default=1, help="images to pass through the net at once")
    parser.flag("gpu", default="", help=GPU_HELP.replace("these GPUs", "this GPU"))
    parser.flag("skip_broken", type=boolean, default=False, help="skip files that are not images, with a warning")
    parser.flag("turn", type=boolean, default=True, help="turn photographs as their orientation tag says")
    parser.flag("precision", default="fp32", choices=PRECISIONS, help="tf32 (GPU) or bf16 convolutions; fp32: exact")
    parser.max_pixels()
    add_allow_python(parser)
    flags = parser.parse_args(argv)
    only_look(flags)
    use_acceleration(flags.precision)
    os.environ.setdefault("GLOG_minloglevel", "1")  # hide the net's description, which is long
    files = [f for f in (flags.model_def, flags.model_weights) if f] + flags.files
    files += [flags.image_file] if flags.image_file else []
    if len(files) < 3:
        parser.error("give a deploy prototxt, weights and at least one image, folder or list")
    if bool(flags.model_def) != bool(flags.model_weights):
        parser.error("-model_def and -model_weights go together")
    if flags.mean_file and flags.mean_value:
        parser.error("Cannot specify mean_file and mean_value at the same time")
    if flags.batch_size < 1:
        parser.error(f"-batch_size is {flags.batch_size}; it must be at least 1")
    model, weights, images = files[0], files[1], find_images(files[2:])
    label_map = LabelMap.read(flags.labelmap_file) if flags.labelmap_file else None
    mean = channel_means(flags.mean_value or "104,117,123")
    if flags.mean_file:
        mean = [float(channel.mean()) for channel in read_mean_file(flags.mean_file)]
    gpus = parse_gpus(flags.gpu)
    if gpus:
        set_mode_gpu()
        set_device(gpus[0])
    pictures = _Pictures(flags.draw, flags.draw_threshold) if flags.draw else None
    size = (flags.image_resize, flags.image_resize) if flags.image_resize else None
    detector = ImageDetector(model, weights, mean=mean, label_map=label_map, size=size)

    lines: list[str] = []
    listed = []
    same = SameBoxes()
    to_screen = not (flags.out_file or flags.json or flags.draw)
    results = detector.detect_files(
        images, flags.batch_size, on_error="skip" if flags.skip_broken else "raise",
        threshold=min(flags.confidence_threshold, flags.draw_threshold), turn=flags.turn,
    )  # fmt: skip
    for path, image, detections in tqdm(results, total=len(images), unit="image", disable=None, leave=False):
        chosen = [d for d in detections if d.score >= flags.confidence_threshold]
        new = [_line(path, d) for d in chosen]
        if detections:
            best, (height, width) = detections[0], image.shape[:2]
            same.see(
                np.array([best.xmin / width, best.ymin / height, best.xmax / width, best.ymax / height], np.float32)
            )
        if warning := same.warning():
            log.warning(log.here(), warning)
        if to_screen:
            tqdm.write("\n".join(new), end="\n" if new else "")
        lines += new
        listed.append({"image": str(path), "detections": [d._asdict() for d in chosen]})
        if pictures is not None:
            pictures.write(path, image, detections)
    if flags.out_file:
        _write(flags.out_file, "".join(line + "\n" for line in lines))
    if flags.json:
        _write(flags.json, json.dumps(listed, indent=1) + "\n")
    if not to_screen:
        print(f"{len(images)} images, {len(lines)} detections of at least {flags.confidence_threshold:g}")
    if pictures is not None:
        print(f"{pictures.boxes} boxes over {flags.draw_threshold:g} drawn, pictures in {flags.draw}")


def _line(path: Path, d: Detection) -> str:
    corners = " ".join(str(int(v)) for v in (d.xmin, d.ymin, d.xmax, d.ymax))
    return f"{path} {d.label} {d.score:g} {corners}"


def _write(path: str, text: str) -> None:
    with replacing(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")


class _Pictures:
    """Pictures with boxes, one per image, in one directory."""

    def __init__(self, folder: str, threshold: float) -> None:
        self.folder, self.threshold, self.boxes = Path(folder), threshold, 0
        self._names: set[str] = set()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CaffeError(f"cannot create the directory '{folder}': {error.strerror}") from None

    def write(self, path: Path, image: Image, detections: Sequence[Detection]) -> None:
        chosen = [d for d in detections if d.score > self.threshold]
        self.boxes += len(chosen)
        name, number = f"{path.stem}.png", 1
        while name in self._names:  # images with the same name from several directories
            number += 1
            name = f"{path.stem}_{number}.png"
        self._names.add(name)
        boxes = [Box(d.label, f"{d.name}: {d.score:.2f}", d.xmin, d.ymin, d.xmax, d.ymax) for d in chosen]
        write_picture(self.folder / name, draw_boxes(image, boxes))


def write_picture(path: Path, image: Image) -> None:
    """Writes a PNG, complete or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", image)[1].tobytes())


if __name__ == "__main__":
    raise SystemExit(main())
