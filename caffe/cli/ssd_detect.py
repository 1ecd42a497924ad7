"""`ssd_detect`: a trained net's detections in images and videos, as a list and as pictures."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from caffe.cli.flags import LABEL_MAP, PRECISIONS, WEIGHTS, FlagParser, boolean, number, run
from caffe.cli.net_flags import add_allow_python, add_tune, only_look
from caffe.errors import CaffeError, counted

if TYPE_CHECKING:
    from caffe.image_detector import Detection, Image

    #: name, image, detections
    Found = tuple[str, Image, list[Detection]]

_EPILOG = """\
IMAGE is an image, a folder of images, or a text file with one image path per line. Without -out_file the list is
printed: one detection per line, `image label score xmin ymin xmax ymax`, in pixels. With -file_type video it is a video
or a list of them, and each frame is an image, NAME_000000 and so on; with -file_type webcam it is a camera's number.

    ssd_detect deploy.prototxt SSD_300x300_iter_120000.caffemodel photo.jpg -draw pictures \\
        -labelmap_file labelmap_voc.prototxt
    ssd_detect deploy.prototxt weights.caffemodel list.txt -out_file detections.txt -confidence_threshold 0.1
    ssd_detect deploy.prototxt weights.caffemodel street.mp4 -file_type video -draw drawn

A net sees a large image only reduced to its input. With -slices it searches overlapping parts as well. A score on a
folder of photographs, found in slices:

    ssd_detect deploy.prototxt weights.caffemodel photos -slices 600x600 -result_dir results \\
        -labelmap_file labelmap.prototxt
    score_voc results --annotations annotations --list names.txt

Files that cannot be read are left out and counted; the exit status is then 2 (0 with -skip_broken).
"""
#: exit status where files had to be left out
LEFT_OUT = 2


def main(argv: Sequence[str] | None = None) -> int:
    return run("ssd_detect", _main, argv)


def _parser() -> FlagParser:
    parser = FlagParser(prog="ssd_detect", description="Detects objects in images with a trained net.", epilog=_EPILOG)
    parser.add_argument("files", metavar="MODEL WEIGHTS IMAGE", nargs="*", help="deploy prototxt, weights, images")
    parser.flag("model_def", aliases=("model",), help="deploy prototxt, instead of MODEL")
    parser.flag("model_weights", aliases=WEIGHTS, help="weights, instead of WEIGHTS")
    parser.flag("image_file", help="image, folder or list, instead of IMAGE")
    parser.flag("labelmap_file", aliases=LABEL_MAP, help="LabelMap prototxt, for the names of classes")
    parser.flag("mean_file", help="image mean (binaryproto) to subtract, by channel, instead of mean_value")
    parser.flag("mean_value", help="mean to subtract: one value, or one per channel (BGR) (default: 104,117,123)")
    parser.flag("scale", type=number(float, 0, over=True), default=1.0,
                help="factor after the mean is subtracted; MobileNet-SSD needs 0.007843 with -mean_value 127.5")  # fmt: skip
    parser.flag(
        "image_resize", type=number(int, 0), default=0, help="height and width of the net's input (0: the model's)"
    )
    parser.flag(
        "file_type", default="image", choices=("image", "video", "webcam"), help="what IMAGE is or its list contains"
    )
    parser.flag("max_frames", type=number(int, 0), default=0, help="frames to read of each video or camera (0: all)")
    parser.flag("confidence_threshold", type=float, default=0.01, help="list detections of at least this score")
    parser.flag(
        "class_thresholds", help="other thresholds for some classes, such as person=0.5,car=0.3; also for drawing"
    )
    parser.flag("slices", help="search overlapping slices too: HxW in pixels, or AUTO for the size of the net's input")
    parser.flag(
        "slice_overlap", type=number(float, 0, 0.95), default=0.2, help="share of a slice that the next one repeats"
    )
    parser.flag("slice_merge", default="ios", choices=("ios", "iou"),
                help="overlap by which detections of one class are merged: over the smaller box, or over the union")  # fmt: skip
    parser.flag(
        "slice_merge_threshold", type=number(float, 0, 1, over=True), default=0.5, help="merge from this overlap on"
    )
    parser.flag("slice_whole", type=boolean, default=True, help="search the whole image too, for large objects")
    parser.flag("out_file", help="write the list to this file")
    parser.flag("json", help="write the detections, with names, to this JSON file")
    parser.flag("result_dir", help="write VOC's result files, for score_voc, to this directory")
    parser.flag("draw", help="directory for pictures (of videos: videos) with boxes")
    parser.flag("draw_format", default="png", choices=("png", "jpg"), help="format of the pictures")
    parser.flag("draw_threshold", type=float, default=0.6, help="draw boxes with a score over this")
    parser.flag("print_list", type=boolean, default=False, help="print the list even if something else is written")
    parser.flag(
        "batch_size",
        type=number(int, 1),
        help="images or slices to pass through the net at once (default: 1; slices: 8)",
    )
    parser.flag("gpu", default="", help="run on this GPU: its id; default: the CPU")
    parser.flag("skip_broken", type=boolean, default=False, help="exit with status 0 although files were left out")
    parser.flag("precision", default="fp32", choices=PRECISIONS,
                help="tf32 (GPU) or bf16 convolutions; fp32: exact")  # fmt: skip
    add_tune(parser)
    parser.flag("turn", type=boolean, default=True, help="turn photographs as their orientation tag says")
    parser.max_pixels()
    add_allow_python(parser)
    return parser


def _main(argv: Sequence[str]) -> int:
    parser = _parser()
    flags = parser.parse_args(argv)
    files = [f for f in (flags.model_def, flags.model_weights) if f] + flags.files
    files += [flags.image_file] if flags.image_file else []
    if len(files) == 2 and flags.file_type == "webcam":
        files.append("0")
    if len(files) < 3:
        parser.error("give a deploy prototxt, weights and at least one image, folder or list")
    if bool(flags.model_def) != bool(flags.model_weights):
        parser.error("-model_def and -model_weights go together")
    if flags.mean_file and flags.mean_value:
        parser.error("Cannot specify mean_file and mean_value at the same time")
    if flags.result_dir and not flags.labelmap_file:
        parser.error("-result_dir needs -labelmap_file: its files are named after the classes")
    os.environ.setdefault("GLOG_minloglevel", "1")  # hide the net's description, which is long
    return _detect(flags, files)


def _detect(flags: argparse.Namespace, files: list[str]) -> int:
    # Imported here, because PyTorch takes seconds: not for --help, nor for a mistake in the flags.
    import numpy as np
    from tqdm import tqdm

    from caffe import log
    from caffe.cli import detection_files as output
    from caffe.cli.devices import parse_gpus
    from caffe.data.feed.memory import keep_freed_memory
    from caffe.data.image_finder import VIDEO_ENDINGS, camera_number, channel_means, class_thresholds, find_images
    from caffe.data.label_map import LabelMap
    from caffe.data.mean import read_mean_file
    from caffe.data.slices import Slices
    from caffe.data.video_frames import Videos
    from caffe.detection.same_boxes import SameBoxes
    from caffe.engine.acceleration import use as use_acceleration
    from caffe.image_detector import ImageDetector

    only_look(flags)
    use_acceleration(flags.precision, tune=flags.tune)
    keep_freed_memory()
    videos = None
    if flags.file_type == "webcam":
        videos = Videos([camera_number(word) for word in files[2:]], flags.max_frames)
    elif flags.file_type == "video":
        videos = Videos(list(map(str, find_images(files[2:], VIDEO_ENDINGS))), flags.max_frames)
    elif film := next((word for word in files[2:] if Path(word).suffix.lower() in VIDEO_ENDINGS), ""):
        raise CaffeError(f"'{film}' is a video; -file_type video reads its frames")
    images = find_images(files[2:]) if videos is None else []
    label_map = LabelMap.read(flags.labelmap_file) if flags.labelmap_file else None
    own_thresholds = class_thresholds(flags.class_thresholds, label_map) if flags.class_thresholds else {}
    mean = channel_means(flags.mean_value or "104,117,123")
    if flags.mean_file:
        mean = [float(channel.mean()) for channel in read_mean_file(flags.mean_file)]
    slices = None
    if flags.slices:
        slices = Slices.parse(flags.slices, flags.slice_overlap, whole=flags.slice_whole, merge=flags.slice_merge,
                              merge_threshold=flags.slice_merge_threshold)  # fmt: skip
    gpus = parse_gpus(flags.gpu)
    size = (flags.image_resize, flags.image_resize) if flags.image_resize else None
    detector = ImageDetector(files[0], files[1], mean=mean, scale=flags.scale, label_map=label_map, size=size,
                             device=f"cuda:{gpus[0]}" if gpus else None)  # fmt: skip
    pictures = output.Pictures(flags.draw, flags.draw_format) if flags.draw else None

    threshold = min(flags.confidence_threshold, flags.draw_threshold, *own_thresholds.values())
    batch = flags.batch_size or (8 if slices is not None else 1)
    broken: list[CaffeError] = []
    if videos is None:
        results: Iterator[Found] = (
            (str(path), image, found)
            for path, image, found in detector.detect_files(
                images,
                batch,
                threshold=threshold,
                turn=flags.turn,
                on_error="skip" if len(images) > 1 else "raise",
                slices=slices,
                on_skip=broken.append,
            )
        )
    else:
        results = (
            (name, image, found)
            for frames in videos.batches(batch if slices is None else 1)
            for (name, image), found in zip(
                frames,
                detector.detect([image for _, image in frames], threshold, slices=slices, batch_size=batch),
                strict=True,
            )
        )
    to_screen = flags.print_list or not (flags.out_file or flags.json or flags.draw or flags.result_dir)
    listed: list[tuple[str, list[Detection]]] = []
    lines: list[str] = []
    same = SameBoxes()
    try:
        for name, image, detections in tqdm(
            results, total=len(images) or None, unit="image", disable=None, leave=False
        ):
            chosen = [d for d in detections if d.score >= own_thresholds.get(d.label, flags.confidence_threshold)]
            new = [output.line_of(name, d) for d in chosen]
            if detections and videos is None:
                best, (height, width) = detections[0], image.shape[:2]
                corners = best.xmin / width, best.ymin / height, best.xmax / width, best.ymax / height
                same.see(np.array(corners, np.float32))
            if warning := same.warning():
                log.warning(log.here(), warning)
            if to_screen and new:
                tqdm.write("\n".join(new))
            lines += new
            listed.append((name, chosen))
            drawn = [d for d in detections if d.score > own_thresholds.get(d.label, flags.draw_threshold)]
            if pictures is None:
                continue
            if videos is None:
                pictures.write(Path(name), image, drawn)
            else:
                pictures.write_frame(*videos.current, image, drawn)
    except KeyboardInterrupt:
        if flags.file_type != "webcam" or not listed:
            raise  # for a camera it is how one ends
    if not listed:
        raise broken[0] if broken else CaffeError(f"'{files[2]}' has no frames")
    if pictures is not None:
        pictures.end_video()
    if flags.out_file:
        output.write_text(flags.out_file, "".join(line + "\n" for line in lines))
    if flags.json:
        output.write_json(flags.json, listed)
    if flags.result_dir and label_map is not None:
        output.write_results(flags.result_dir, label_map, listed)
    if not to_screen:
        found = counted(len(listed), "frame" if videos is not None else "image")
        print(f"{found}, {counted(len(lines), 'detection')} of at least {flags.confidence_threshold:g}")
    if pictures is not None and not to_screen:
        print(
            f"{counted(pictures.boxes, 'box', 'boxes')} over {flags.draw_threshold:g} drawn, pictures in {flags.draw}"
        )
    if broken:
        print(f"ssd_detect: {len(broken)} of {len(images)} files could not be read and were left out", file=sys.stderr)
    return LEFT_OUT if broken and not flags.skip_broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
