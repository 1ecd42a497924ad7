"""`detect windows.csv scores.csv`: scores of windows of images, as in R-CNN (the original's python/detect.py).

For SSD and MDSSD use ssd_detect, which needs no windows.
"""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import caffe
from caffe.cli.classify import add_net_flags, load_array
from caffe.cli.flags import FlagParser, run
from caffe.cli.net_flags import only_look
from caffe.errors import CaffeError, DataError
from caffe.files import decoded, replacing

EDGES = ("ymin", "xmin", "ymax", "xmax")
EPILOG = """
example:
  detect windows.csv scores.csv --crop_mode list --model_def deploy.prototxt --pretrained_model net.caffemodel

windows.csv has the columns filename, ymin, xmin, ymax, xmax (pixels), in any order. scores.csv gets them and one
column per class: class0, class1, …; scores.h5 gets the datasets filename, window and prediction.
"""


def main(argv: Sequence[str] | None = None) -> int:
    return run("detect", _command, argv)


def _command(argv: Sequence[str]) -> None:
    parser = FlagParser(prog="detect", description="Classifies windows of images.", epilog=EPILOG)
    parser.add_argument("input_file", help=".csv of windows, or .txt of image names for selective search")
    parser.add_argument("output_file", help=".csv or .h5 to write")
    parser.flag(
        "crop_mode", default="selective_search", choices=("list", "selective_search"), help="where windows come from"
    )
    add_net_flags(parser)
    parser.flag("context_pad", type=int, default=16, help="pixels of the input that show a window's surroundings")
    flags = parser.parse_args(argv)
    only_look(flags)

    ending = Path(flags.output_file).suffix.lower()
    if ending not in (".csv", ".h5"):
        raise CaffeError(f"{flags.output_file}: the results file must be .csv or .h5")
    start = time.perf_counter()
    print("Loading input...")
    windows = read_windows(flags.input_file) if flags.crop_mode == "list" else []
    names = [] if flags.crop_mode == "list" else read_names(flags.input_file)
    mean = load_array(flags.mean_file) if flags.mean_file else None
    if mean is not None and mean.ndim == 3:
        # Windows are warped to the input's size, so a mean by position makes no sense.
        mean = mean.mean(axis=(1, 2))
    if flags.gpu:
        caffe.set_mode_gpu()
    else:
        caffe.set_mode_cpu()
    detector = caffe.Detector(
        flags.model_def,
        flags.pretrained_model,
        mean=mean,
        input_scale=flags.input_scale,
        raw_scale=flags.raw_scale,
        channel_swap=flags.channel_swap,
        context_pad=flags.context_pad,
    )
    found = detector.detect_windows(windows) if flags.crop_mode == "list" else detector.detect_selective_search(names)
    print(f"Processed {len(found)} windows in {time.perf_counter() - start:.3f} s.")
    (_write_csv if ending == ".csv" else _write_hdf5)(flags.output_file, found)
    print(f"Saved to {flags.output_file}")


def read_windows(path: str) -> list[tuple[str, list[list[int]]]]:
    """Pairs of an image file and its windows (ymin, xmin, ymax, xmax), images in order of first appearance."""
    windows: dict[str, list[list[int]]] = {}
    with io.StringIO(_text(path), newline="") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        missing = {"filename", *EDGES} - set(reader.fieldnames or ())
        if missing:
            raise DataError(f"{path}: the first line does not have the columns {', '.join(sorted(missing))}")
        for row in reader:
            try:
                window = [round(float(row[edge])) for edge in EDGES]
            except (TypeError, ValueError):
                raise DataError(f"{path}, line {reader.line_num}: a window needs four numbers") from None
            if window[2] <= window[0] or window[3] <= window[1]:
                raise DataError(f"{path}, line {reader.line_num}: window {window} (ymin, xmin, ymax, xmax) is empty")
            windows.setdefault(row["filename"], []).append(window)
    return list(windows.items())


def read_names(path: str) -> list[str]:
    """The lines of a text file of image names."""
    names = [line.strip() for line in _text(path).splitlines() if line.strip()]
    if not names:
        raise DataError(f"{path}: names no images")
    return names


def _text(path: str) -> str:
    try:
        return decoded(Path(path).read_bytes())
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file") from None


def _write_csv(path: str, found: list[dict[str, Any]]) -> None:
    classes = np.size(found[0]["prediction"]) if found else 0
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", *EDGES, *(f"class{k}" for k in range(classes))])
        for row in found:
            writer.writerow([row["filename"], *row["window"], *np.ravel(row["prediction"]).tolist()])


def _write_hdf5(path: str, found: list[dict[str, Any]]) -> None:
    import h5py

    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file["filename"] = [row["filename"] for row in found]
        file["window"] = np.array([row["window"] for row in found]).reshape(-1, 4)
        file["prediction"] = np.array([np.ravel(row["prediction"]) for row in found])


if __name__ == "__main__":
    sys.exit(main())
