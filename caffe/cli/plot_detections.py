"""`plot_detections`: draws the detections of a list on their images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from caffe.cli.flags import LABEL_MAP, FlagParser, run
from caffe.errors import DataError

if TYPE_CHECKING:
    from caffe.data.label_map import LabelMap
    from caffe.detection.box_drawing import Box

_EPILOG = """\
RESULTFILE is the output of ssd_detect, one detection per line: `image label score xmin ymin xmax ymax`. It may also be
a VOC result file, comp4_det_test_<class>.txt: `image score xmin ymin xmax ymax`, with image names without extension.

    plot_detections detections.txt JPEGImages/ --labelmap-file labelmap_voc.prototxt --visualize-threshold 0.6 \\
        --save-dir pictures
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("plot_detections", _main, argv)


def _main(argv: Sequence[str]) -> None:
    parser = FlagParser(prog="plot_detections", description="Draws detections that ssd_detect listed.", epilog=_EPILOG)
    parser.add_argument("resultfile", help="file of the detections")
    parser.add_argument("imgdir", help="directory that the images' names are relative to")
    parser.add_argument("--labelmap-file", default="", help="LabelMap prototxt, for the names of classes")
    parser.also("--labelmap-file", LABEL_MAP)
    parser.add_argument("--visualize-threshold", default=0.01, type=float, help="draw scores over this (default: 0.01)")
    parser.add_argument("--save-dir", default="detections", help="directory for the pictures (default: detections)")
    parser.add_argument("--display-classes", default="", help="draw only these classes: names separated by ','")
    parser.max_pixels()
    flags = parser.parse_args(argv)
    from tqdm import tqdm

    from caffe.cli.detection_files import write_picture
    from caffe.data.label_map import LabelMap
    from caffe.detection.box_drawing import draw_boxes
    from caffe.detection.image_folder import Images

    images = Images(flags.imgdir)
    label_map = LabelMap.read(flags.labelmap_file) if flags.labelmap_file else None
    wanted = {name.strip() for name in flags.display_classes.split(",") if name.strip()}
    by_image = _read(Path(flags.resultfile), label_map, flags.visualize_threshold)
    names = {box.text.rpartition(":")[0] for boxes in by_image.values() for box in boxes}
    if wanted - names and not wanted & names:
        raise DataError(f"no detections of {', '.join(sorted(wanted))}; found: {', '.join(sorted(names)) or 'none'}")
    folder = Path(flags.save_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for name, boxes in tqdm(by_image.items(), unit="image", disable=None, leave=False):
        image = images.read(name)
        chosen = [box for box in boxes if not wanted or box.text.rpartition(":")[0] in wanted]
        write_picture(folder / f"{Path(name).name}.png", draw_boxes(image, chosen))
    print(f"{len(by_image)} pictures in {folder}")


def _read(path: Path, label_map: LabelMap | None, threshold: float) -> dict[str, list[Box]]:
    """The boxes over the threshold by image, including images without any."""
    from caffe.data.image_list import read_lines
    from caffe.detection.box_drawing import Box

    result: dict[str, list[Box]] = {}
    of_class = path.stem.rpartition("_")[2]
    for number, line in read_lines(path):
        fields = line.split()
        try:
            if len(fields) not in (6, 7):
                raise ValueError
            numbers = [float(v) for v in fields[1:]]
        except ValueError:
            raise DataError(f"{path}:{number}: '{line[:80]}' is not a detection") from None
        if len(fields) == 7:
            label, score, corners = int(numbers[0]), numbers[1], numbers[2:]
            name = label_map.display_name_of(label) if label_map is not None else f"class {label}"
        else:
            score, corners, name = numbers[0], numbers[1:], of_class
            label = (label_map.label_of(of_class) if label_map is not None else None) or 1
        boxes = result.setdefault(fields[0], [])
        if score > threshold:
            xmin, ymin, xmax, ymax = corners
            boxes.append(Box(label, f"{name}: {score:.2f}", xmin, ymin, xmax, ymax))
    return result


if __name__ == "__main__":
    raise SystemExit(main())
